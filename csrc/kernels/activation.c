/* activation.c: element-wise functions of one flat array, forward and backward.
 *
 *     relu     y = x < 0 ? 0 : x            dx = dy where not x <= 0, else 0     (a NaN passes, forward and backward)
 *     sigmoid  y = 1/(1 + e^-x)             dx = dy y (1 - y)
 *     tanh     y = tanh x                   dx = dy (1 - y^2)
 *     clip     y = min(max(x, a), b)        dx = dy where not x <= a or x >= b
 *     leaky    y = x > 0 ? x : a x          dx = x > 0 ? dy : a dy
 *     elu      y = x > 0 ? x : a (e^x - 1)  dx = x > 0 ? dy : a e^x dy
 *     silu     y = x s, s = sigmoid x       dx = dy s (1 + x (1 - s))
 *     gelu     y = x Phi(x)                 dx = dy (Phi(x) + x phi(x)), Phi the normal distribution
 *     gelu_tanh  y = x/2 (1 + T), T = tanh(k (x + 0.044715 x^3)), k = sqrt(2/pi)
 *     softplus y = max(x, 0) + ln(1 + e^-|x|)   dx = dy sigmoid(x)
 *     exp, log y = e^x, ln x
 *
 * Backward reads dy and x; of sigmoid and tanh the forward's y. Everything overwrites. Source: mathematics 2.11. */
#include "ops.h"
#include "vecmath.h"

enum { BLOCK = 16384 };

struct map {
    const struct cnn_map *p;
    const real *a, *b;
    real *y;
};

/* Runs `expression` of the vectors a and b over block `number` of the arrays; the last vector may be partial. */
#define DEFINE_MAP(name, inputs, nanoseconds, expression)                                            \
    static void name##_block(void *context, long number, int worker)                                 \
    {                                                                                                \
        (void)worker;                                                                                \
        const struct map *s = context;                                                               \
        const vec A = vec_fill((real)s->p->a), B = vec_fill((real)s->p->b);                          \
        (void)A, (void)B;                                                                            \
        const long end = min_long(s->p->size, (number + 1) * BLOCK);                                 \
        long i = number * BLOCK;                                                                     \
        for (; i + LANES <= end; i += LANES) {                                                       \
            const vec a = vec_load(s->a + i), b = inputs > 1 ? vec_load(s->b + i) : a;               \
            (void)b;                                                                                 \
            vec_store(s->y + i, expression);                                                         \
        }                                                                                            \
        if (i < end) {                                                                               \
            const vec a = vec_load_part(s->a + i, end - i);                                          \
            const vec b = inputs > 1 ? vec_load_part(s->b + i, end - i) : a;                         \
            (void)b;                                                                                 \
            vec_store_part(s->y + i, expression, end - i);                                           \
        }                                                                                            \
    }                                                                                                \
    size_t FN(name##_scratch)(const void *problem, int workers)                                      \
    {                                                                                                \
        (void)problem, (void)workers;                                                                \
        return 0;                                                                                    \
    }                                                                                                \
    void FN(name)(const void *problem, void *const *array, struct cnn_run *run)                      \
    {                                                                                                \
        const struct cnn_map *p = problem;                                                           \
        struct map s = {p, array[0], inputs > 1 ? array[1] : NULL, array[inputs]};                   \
        cnn_parallel_for(run, divide_up(p->size, BLOCK), (double)p->size * nanoseconds, name##_block, &s); \
    }

#define ONE vec_fill(1)

DEFINE_MAP(relu_forward, 1, 0.1, vec_max((vec){0}, a))
DEFINE_MAP(relu_backward, 2, 0.15, vec_select(b <= 0, (vec){0}, a))
DEFINE_MAP(sigmoid_forward, 1, 0.6, vec_sigmoid(a))
DEFINE_MAP(sigmoid_backward, 2, 0.15, a * (b * (ONE - b)))
DEFINE_MAP(tanh_forward, 1, 0.8, vec_tanh(a))
DEFINE_MAP(tanh_backward, 2, 0.15, a * (ONE - b * b))
DEFINE_MAP(exp_forward, 1, 0.5, vec_exp(a))
DEFINE_MAP(log_forward, 1, 0.6, vec_log(a))

DEFINE_MAP(clip_forward, 1, 0.1, vec_min(B, vec_max(A, a)))
DEFINE_MAP(clip_backward, 2, 0.15, vec_select((b <= A) | (b >= B), (vec){0}, a))
DEFINE_MAP(leaky_relu_forward, 1, 0.1, vec_select(a > 0, a, A *a))
DEFINE_MAP(leaky_relu_backward, 2, 0.15, vec_select(b > 0, a, A *a))

ALWAYS_INLINE vec elu(vec x, vec alpha) { return vec_select(x > 0, x, vec_select(x == x, alpha * vec_expm1_negative(vec_select(x > 0, (vec){0}, x)), x)); }
ALWAYS_INLINE vec elu_slope(vec x, vec alpha) { return vec_select(x > 0, ONE, alpha * vec_exp(x)); }
ALWAYS_INLINE vec silu_slope(vec x)
{
    const vec s = vec_sigmoid(x);
    return s * vec_madd(x, ONE - s, ONE);
}
/* x e^(-x^2/2) / sqrt(2 pi); 0 at both infinities */
ALWAYS_INLINE vec normal_bell(vec x)
{
    const vec e = vec_exp(x * x * REAL(-0.5));
    return vec_select(e == 0, (vec){0}, x * e * REAL(0.39894228040143267794));
}
ALWAYS_INLINE vec gelu_inner(vec x) { return vec_tanh(REAL(0.79788456080286535588) * vec_madd(x * x * x, vec_fill(REAL(0.044715)), x)); }
ALWAYS_INLINE vec gelu_tanh_slope(vec x)
{
    const vec t = gelu_inner(x), inner = REAL(0.79788456080286535588) * vec_madd(x * x, vec_fill(REAL(0.134145)), ONE);
    const vec bell = vec_select(t * t == ONE, (vec){0}, x * (ONE - t * t) * inner);
    return REAL(0.5) * (ONE + t + bell);
}
ALWAYS_INLINE vec softplus(vec x)
{
    const vec y = vec_select(x > 0, x, (vec){0}) + vec_log1p_unit(vec_exp_negative(-vec_abs(x)));
    return vec_select(x == x, y, x);
}
/* x f where f may be 0 and x infinite: 0 */
ALWAYS_INLINE vec gated(vec x, vec gate) { return vec_select(gate == 0, (vec){0}, x * gate); }

DEFINE_MAP(elu_forward, 1, 0.8, elu(a, A))
DEFINE_MAP(elu_backward, 2, 0.8, a *elu_slope(b, A))
DEFINE_MAP(silu_forward, 1, 0.8, gated(a, vec_sigmoid(a)))
DEFINE_MAP(silu_backward, 2, 1, a *silu_slope(vec_select(b < -1000, vec_fill(-1000), vec_select(b > 1000, vec_fill(1000), b))))
DEFINE_MAP(gelu_forward, 1, 1, gated(a, vec_normal(a)))
DEFINE_MAP(gelu_backward, 2, 1.5, a *(vec_normal(b) + normal_bell(b)))
DEFINE_MAP(gelu_tanh_forward, 1, 1, gated(a, REAL(0.5) * (ONE + gelu_inner(a))))
DEFINE_MAP(gelu_tanh_backward, 2, 1.2, a *gelu_tanh_slope(b))
DEFINE_MAP(softplus_forward, 1, 1, softplus(a))
DEFINE_MAP(softplus_backward, 2, 0.8, a *vec_sigmoid(b))
