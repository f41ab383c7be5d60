/* vecmath.h: exp, expm1, log, log1p, tanh, the logistic function and the normal distribution on `vec`, within 4 ulp on every input
 * unless said.
 *
 * No branch, no table: every lane takes the same path, so an element has the same bits at every position of an array. NaN
 * comes back as NaN; overflow, underflow and subnormals are exact to the same bound.
 * Method: J.-M. Muller, Elementary Functions, 3rd ed., 2016, chapters 4 and 11 (argument reduction in two parts, then a
 * polynomial). */
#ifndef CNN_VECMATH_H
#define CNN_VECMATH_H

#include "../base/real.h"

#if CNN_DOUBLE
#define ROUNDER 6755399441055744.0 /* 1.5 * 2^52: adding it leaves the nearest integer in the low bits */
enum { FRACTION_BITS = 52, EXPONENT_BIAS = 1023 };
#define LN2_HIGH 0.693147180369123816490
#define LN2_LOW 1.9082149292705878161e-10
#define EXP_LOW -746.0
#define EXP_HIGH 710.0
#define TANH_ONE 19.07 /* from here on tanh rounds to 1 */
#else
#define ROUNDER 12582912.0f /* 1.5 * 2^23 */
enum { FRACTION_BITS = 23, EXPONENT_BIAS = 127 };
#define LN2_HIGH 0.693145751953125f
#define LN2_LOW 1.4286068203094172e-6f
#define EXP_LOW -104.0f
#define EXP_HIGH 89.0f
#define TANH_ONE 9.02f
#endif

ALWAYS_INLINE mask vec_sign(vec x) { return (mask)x & (mask)vec_fill(REAL(-0.0)); }
ALWAYS_INLINE vec vec_abs(vec x) { return (vec)((mask)x & ~(mask)vec_fill(REAL(-0.0))); }

/* x, but at most or at least `bound`; NaN stays NaN. */
ALWAYS_INLINE vec vec_at_most(vec x, real bound) { return vec_min(vec_fill(bound), x); }
ALWAYS_INLINE vec vec_at_least(vec x, real bound) { return vec_max(vec_fill(bound), x); }

/* p * 2^n for n + ROUNDER, rounded once. */
ALWAYS_INLINE vec vec_scale(vec p, vec rounded)
{
#if CNN_HAS_SCALING
    return vec_times_power(p, rounded - ROUNDER);
#else
    /* in two steps, so that results below the normal range round once more instead of vanishing */
    const mask n = (mask)rounded - (mask)vec_fill(ROUNDER), half = n >> 1;
    return p * (vec)((half + EXPONENT_BIAS) << FRACTION_BITS) * (vec)((n - half + EXPONENT_BIAS) << FRACTION_BITS);
#endif
}

/* x = n ln2 + r, |r| <= ln2/2; returns q of e^r = 1 + r + r^2 q, q = 1/2! + r/3! + ... */
ALWAYS_INLINE vec exp_parts(vec x, vec *rounded, vec *r)
{
    *rounded = vec_madd(x, vec_fill(REAL(1.44269504088896340736)), vec_fill(ROUNDER));
    const vec k = *rounded - ROUNDER;
    *r = vec_madd(k, vec_fill(-LN2_LOW), vec_madd(k, vec_fill(-LN2_HIGH), x));
#if CNN_DOUBLE
    vec q = vec_fill(1.0 / 6227020800.0);
    q = vec_madd(q, *r, vec_fill(1.0 / 479001600.0));
    q = vec_madd(q, *r, vec_fill(1.0 / 39916800.0));
    q = vec_madd(q, *r, vec_fill(1.0 / 3628800.0));
    q = vec_madd(q, *r, vec_fill(1.0 / 362880.0));
    q = vec_madd(q, *r, vec_fill(1.0 / 40320.0));
    q = vec_madd(q, *r, vec_fill(1.0 / 5040.0));
#else
    vec q = vec_fill(1.0f / 5040.0f);
#endif
    q = vec_madd(q, *r, vec_fill(REAL(1.0) / REAL(720.0)));
    q = vec_madd(q, *r, vec_fill(REAL(1.0) / REAL(120.0)));
    q = vec_madd(q, *r, vec_fill(REAL(1.0) / REAL(24.0)));
    q = vec_madd(q, *r, vec_fill(REAL(1.0) / REAL(6.0)));
    q = vec_madd(q, *r, vec_fill(REAL(0.5)));
    return q;
}

/* e^x for x that is in range, or NaN */
ALWAYS_INLINE vec exp_in_range(vec x)
{
    vec rounded, r;
    const vec q = exp_parts(x, &rounded, &r);
    return vec_scale(vec_madd(q, r * r, r) + REAL(1.0), rounded);
}
/* e^x for x <= 0, and for x >= 0. From EXP_LOW down it is 0 and not computed: a product that vanishes costs ten times one that does not. */
ALWAYS_INLINE vec vec_exp_negative(vec x)
{
    const mask low = x <= EXP_LOW;
    return vec_select(low, (vec){0}, exp_in_range(vec_select(low, (vec){0}, x)));
}
ALWAYS_INLINE vec vec_exp(vec x) { return vec_exp_negative(vec_at_most(x, EXP_HIGH)); }

/* 2/3 + 2z/5 + 2z^2/7 + ..., so that 2 atanh s = 2s + s z (that), z = s^2 */
ALWAYS_INLINE vec log_series(vec z)
{
#if CNN_DOUBLE
    vec q = vec_fill(2.0 / 23.0);
    q = vec_madd(q, z, vec_fill(2.0 / 21.0));
    q = vec_madd(q, z, vec_fill(2.0 / 19.0));
    q = vec_madd(q, z, vec_fill(2.0 / 17.0));
    q = vec_madd(q, z, vec_fill(2.0 / 15.0));
    q = vec_madd(q, z, vec_fill(2.0 / 13.0));
#else
    vec q = vec_fill(2.0f / 13.0f);
#endif
    q = vec_madd(q, z, vec_fill(REAL(2.0) / REAL(11.0)));
    q = vec_madd(q, z, vec_fill(REAL(2.0) / REAL(9.0)));
    q = vec_madd(q, z, vec_fill(REAL(2.0) / REAL(7.0)));
    q = vec_madd(q, z, vec_fill(REAL(2.0) / REAL(5.0)));
    q = vec_madd(q, z, vec_fill(REAL(2.0) / REAL(3.0)));
    return q;
}

ALWAYS_INLINE vec vec_log(vec x)
{
    const vec tiny = vec_fill(CNN_DOUBLE ? (real)2.2250738585072014e-308 : (real)1.17549435e-38);
    const mask subnormal = x < tiny;
    const vec lifted = vec_select(subnormal, x * (real)(1l << (FRACTION_BITS + 1)), x);
    /* x = m * 2^e with m in [sqrt(1/2), sqrt(2)) */
    const mask root = (mask)vec_fill(REAL(0.70710678118654752440));
    const mask shifted = ((mask)lifted - root) >> FRACTION_BITS;
    const vec m = (vec)((mask)lifted - (shifted << FRACTION_BITS));
    const mask e = shifted - (subnormal & (FRACTION_BITS + 1));
    const vec k = (vec)(e + (mask)vec_fill(ROUNDER)) - ROUNDER;
    /* log m = 2 atanh(s) = 2s + 2s^3 (1/3 + s^2/5 + ...), s = f/(2 + f), written so that f itself enters exactly */
    const vec f = m - REAL(1.0), s = f / (f + REAL(2.0)), z = s * s;
    const vec q = log_series(z) * z;
    const vec h = f * f * REAL(0.5); /* 2s = f - s f, and s f = h - s (h - ...): log m = f - (h - s (h + q)) */
    const vec low = vec_madd(k, vec_fill(LN2_LOW), s * (h + q));
    vec y = vec_madd(k, vec_fill(LN2_HIGH), f - (h - low));
    const vec infinity = vec_fill(REAL(1.0) / REAL(0.0));
    y = vec_select(x == 0, -infinity, y);
    y = vec_select(x < 0, infinity - infinity, y);
    y = vec_select(x == infinity, infinity, y);
    return vec_select(x == x, y, x);
}

/* 1/(1 + e^-x), from e^-|x| on both sides, so that small results keep their accuracy. */
ALWAYS_INLINE vec vec_sigmoid(vec x)
{
    const vec e = vec_exp_negative((vec)((mask)x | (mask)vec_fill(REAL(-0.0))));
    return vec_select(x < 0, e, vec_fill(REAL(1.0))) / (e + REAL(1.0));
}

/* e^x - 1 = 2^n - 1 + 2^n p, where x = n ln2 + r, p = e^r - 1 and 2^n is in the normal range. */
ALWAYS_INLINE vec expm1_in_range(vec x)
{
    vec rounded, r;
    const vec q = exp_parts(x, &rounded, &r), p = vec_madd(q * r, r, r);
    const vec power = (vec)(((mask)rounded << FRACTION_BITS) + (mask)vec_fill(1)); /* above n the bits of ROUNDER are shifted out */
    return vec_madd(power, p, power - REAL(1.0));
}

/* e^x - 1 for x <= 0. Positive x is not meant. */
ALWAYS_INLINE vec vec_expm1_negative(vec x) { return expm1_in_range(vec_at_least(x, EXP_LOW / 2)); }

/* (e^2a - 1) / (e^2a - 1 + 2) of a = |x|, which neither cancels near 0 nor exceeds 1; -0 keeps its sign. */
ALWAYS_INLINE vec vec_tanh(vec x)
{
    const vec a = vec_at_most(vec_abs(x), TANH_ONE), e = expm1_in_range(a + a);
    return (vec)((mask)(e / (e + REAL(2.0))) | vec_sign(x));
}

/* ln(1 + e) for 0 <= e <= 1, accurate for small e: 2 atanh(f/(2 + f)) of f = e, or of f = (e - 1)/2 and ln 2 more. */
ALWAYS_INLINE vec vec_log1p_unit(vec e)
{
    const mask far = e > REAL(0.41421356237309504880);
    const vec f = vec_select(far, (e - REAL(1.0)) * REAL(0.5), e), s = f / (f + REAL(2.0)), z = s * s;
    const vec h = f * f * REAL(0.5), near = f - (h - s * vec_madd(log_series(z), z, h));
    return near + vec_select(far, vec_fill(LN2_HIGH + LN2_LOW), (vec){0});
}

/* The distribution function of the standard normal, within 4 units of roundoff of 1: erfc(z)/2 at z = |x|/sqrt 2 is e^(-x^2/2) times
 * a polynomial in 2/(1 + z/2) - 1, a Chebyshev fit computed with 60 digits. */
ALWAYS_INLINE vec vec_normal(vec x)
{
#if CNN_DOUBLE
    static const double fit[] = {0.25539567631050574387, 0.42718584741395855352, 0.2416581942424662384, 0.078978581015713718995, 0.0037328924043591023388, -0.0069974617385949603342, -0.0008471432524993985624, 0.00098197701847930934454, 0.000043555644890433324829, -0.00017436112255333498923, 0.000027524778970279790507, 0.000027579799212011910617, -0.000013961003221840489705, -1.3912477965759301199e-6, 3.7477712242093269674e-6, -1.1991778376242520893e-6, -4.0753458552438765701e-7, 5.1258385937295029558e-7, -1.4900674097631323978e-7, -7.7890928458231655637e-8, 8.7897413264247851192e-8, -1.4248468725128239734e-8, -1.9960097174480590411e-8, 8.9298669884739852095e-9, 1.6160073573589935037e-9, -1.334910282372888407e-9, 9.1308288899421027122e-11};
#else
    static const float fit[] = {0.25539567901f, 0.42718584879f, 0.24165799873f, 0.07897848173f, 0.003735239379f, -0.0069963075994f, -0.00085775446811f, 0.00097709721471f, 6.6335470283e-5f, -0.00016517405322f, 2.5037173338e-6f, 2.0055270149e-5f};
#endif
    enum { TERMS = sizeof fit / sizeof *fit };
    const vec t = REAL(2.0) / (REAL(1.0) + vec_abs(x) * REAL(0.35355339059327376220)) - REAL(1.0);
    vec g = vec_fill(fit[TERMS - 1]);
    UNROLL for (int i = TERMS - 2; i >= 0; i--)
        g = vec_madd(g, t, vec_fill(fit[i]));
    const vec tail = g * vec_exp(x * x * REAL(-0.5)) * REAL(0.5);
    return vec_select(x < 0, tail, REAL(1.0) - tail);
}

#endif
