/* activation.c: element-wise functions of one flat array, forward and backward.
 *
 *     relu     y = x < 0 ? 0 : x            dx = dy where not x <= 0, else 0     (a NaN passes, forward and backward)
 *     sigmoid  y = 1/(1 + e^-x)             dx = dy y (1 - y)
 *     tanh     y = tanh x                   dx = dy (1 - y^2)
 *     exp, log y = e^x, ln x
 *
 * Backward reads dy and, for relu, x; for the others the forward's y. Everything overwrites. Source: mathematics 2.11. */
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

DEFINE_MAP(relu_forward, 1, 0.1, vec_select(a < 0, (vec){0}, a))
DEFINE_MAP(relu_backward, 2, 0.15, vec_select(b <= 0, (vec){0}, a))
DEFINE_MAP(sigmoid_forward, 1, 0.6, vec_sigmoid(a))
DEFINE_MAP(sigmoid_backward, 2, 0.15, a * (b * (ONE - b)))
DEFINE_MAP(tanh_forward, 1, 0.8, vec_tanh(a))
DEFINE_MAP(tanh_backward, 2, 0.15, a * (ONE - b * b))
DEFINE_MAP(exp_forward, 1, 0.5, vec_exp(a))
DEFINE_MAP(log_forward, 1, 0.6, vec_log(a))
