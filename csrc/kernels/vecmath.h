/* vecmath.h: exp, log, tanh and the logistic function on `vec`, each within 4 ulp of the true value on every input.
 *
 * No branch, no table: every lane takes the same path, so an element has the same bits at every position of an array. NaN
 * comes back as NaN; overflow, underflow and subnormals are exact to the same bound.
 * Method: J.-M. Muller, Elementary Functions, 3rd ed., 2016, chapters 4 and 11 (argument reduction in two parts, then a
 * polynomial). The tanh polynomial is a Chebyshev fit of (tanh(x)/x - 1)/x^2 over |x| < 0.625, computed with 40 digits. */
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
#else
#define ROUNDER 12582912.0f /* 1.5 * 2^23 */
enum { FRACTION_BITS = 23, EXPONENT_BIAS = 127 };
#define LN2_HIGH 0.693145751953125f
#define LN2_LOW 1.4286068203094172e-6f
#define EXP_LOW -104.0f
#define EXP_HIGH 89.0f
#endif

ALWAYS_INLINE mask vec_sign(vec x) { return (mask)x & (mask)vec_fill(REAL(-0.0)); }
ALWAYS_INLINE vec vec_abs(vec x) { return (vec)((mask)x & ~(mask)vec_fill(REAL(-0.0))); }

/* p * 2^n, in two steps so that results below the normal range round once more instead of vanishing. */
ALWAYS_INLINE vec vec_scale(vec p, mask n)
{
    const mask half = n >> 1;
    return p * (vec)((half + EXPONENT_BIAS) << FRACTION_BITS) * (vec)((n - half + EXPONENT_BIAS) << FRACTION_BITS);
}

ALWAYS_INLINE vec vec_exp(vec x)
{
    x = vec_select(x > EXP_HIGH, vec_fill(EXP_HIGH), x);
    x = vec_select(x < EXP_LOW, vec_fill(EXP_LOW), x);
    const vec rounded = vec_madd(x, vec_fill(REAL(1.44269504088896340736)), vec_fill(ROUNDER));
    const mask n = (mask)rounded - (mask)vec_fill(ROUNDER);
    const vec k = rounded - ROUNDER;
    vec r = vec_madd(k, vec_fill(-LN2_HIGH), x);
    r = vec_madd(k, vec_fill(-LN2_LOW), r);
    /* e^r = 1 + r + r^2 (1/2! + r/3! + ...), |r| <= ln2/2 */
#if CNN_DOUBLE
    vec q = vec_fill(1.0 / 6227020800.0);
    q = vec_madd(q, r, vec_fill(1.0 / 479001600.0));
    q = vec_madd(q, r, vec_fill(1.0 / 39916800.0));
    q = vec_madd(q, r, vec_fill(1.0 / 3628800.0));
    q = vec_madd(q, r, vec_fill(1.0 / 362880.0));
    q = vec_madd(q, r, vec_fill(1.0 / 40320.0));
    q = vec_madd(q, r, vec_fill(1.0 / 5040.0));
#else
    vec q = vec_fill(1.0f / 5040.0f);
#endif
    q = vec_madd(q, r, vec_fill(REAL(1.0) / REAL(720.0)));
    q = vec_madd(q, r, vec_fill(REAL(1.0) / REAL(120.0)));
    q = vec_madd(q, r, vec_fill(REAL(1.0) / REAL(24.0)));
    q = vec_madd(q, r, vec_fill(REAL(1.0) / REAL(6.0)));
    q = vec_madd(q, r, vec_fill(REAL(0.5)));
    return vec_scale(vec_madd(q, r * r, r) + REAL(1.0), n);
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
    q = q * z;
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
    const vec e = vec_exp(-vec_abs(x));
    return vec_select(x < 0, e, vec_fill(REAL(1.0))) / (e + REAL(1.0));
}

ALWAYS_INLINE vec vec_tanh(vec x)
{
    const vec a = vec_abs(x), z = x * x;
#if CNN_DOUBLE
    vec q = vec_fill(-2.4388316314720878041e-6);
    q = vec_madd(q, z, vec_fill(0.000012209921790162781662));
    q = vec_madd(q, z, vec_fill(-0.000037081069215442333853));
    q = vec_madd(q, z, vec_fill(0.000096041091570262659879));
    q = vec_madd(q, z, vec_fill(-0.00023888944636751173895));
    q = vec_madd(q, z, vec_fill(0.0005899818158388232071));
    q = vec_madd(q, z, vec_fill(-0.0014558283998303245859));
    q = vec_madd(q, z, vec_fill(0.0035921275075992522291));
    q = vec_madd(q, z, vec_fill(-0.0088632354998019925691));
    q = vec_madd(q, z, vec_fill(0.021869488535133222007));
    q = vec_madd(q, z, vec_fill(-0.053968253968235901344));
    q = vec_madd(q, z, vec_fill(0.13333333333333320761));
    q = vec_madd(q, z, vec_fill(-0.33333333333333333319));
#else
    vec q = vec_fill(0.002292744816f);
    q = vec_madd(q, z, vec_fill(-0.008343945516f));
    q = vec_madd(q, z, vec_fill(0.02176891865f));
    q = vec_madd(q, z, vec_fill(-0.05395925958f));
    q = vec_madd(q, z, vec_fill(0.1333330356f));
    q = vec_madd(q, z, vec_fill(-0.3333333317f));
#endif
    const vec small = vec_madd(q * z, x, x);
    const vec large = REAL(1.0) - REAL(2.0) / (vec_exp(a + a) + REAL(1.0));
    return (vec)((mask)vec_select(a < REAL(0.625), small, large) | vec_sign(x)); /* -0 keeps its sign */
}

#endif
