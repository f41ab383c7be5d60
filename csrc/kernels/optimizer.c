/* optimizer.c: one update of a flat parameter w by its gradient g, a single pass.
 *
 *     both  g += lambda w; decoupled (AdamW): w -= lr lambda w instead
 *     SGD   v = g at the first step, else mu v + g;   w -= lr v, Nesterov: w -= lr (g + mu v)
 *     Adam  m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  w -= lr/(1 - b1^t) m / (sqrt(v)/sqrt(1 - b2^t) + eps)
 *
 * w and the state are updated in place, g is only read. Scalars are float64, rounded once. Source: mathematics 2.15. */
#include "ops.h"
#include "vecmath.h"

enum { BLOCK = 16384 };

struct update {
    const struct cnn_update *p;
    real *w, *m, *v;
    const real *g;
};

ALWAYS_INLINE vec vec_sqrt(vec x)
{
    vec y;
    for (int i = 0; i < LANES; i++)
        y[i] = CNN_DOUBLE ? (real)__builtin_sqrt((double)x[i]) : (real)__builtin_sqrtf((float)x[i]);
    return y;
}

/* n lanes from element i on: all, or the rest of the array. */
ALWAYS_INLINE vec get(const real *p, long n) { return n == LANES ? vec_load(p) : vec_load_part(p, n); }
ALWAYS_INLINE void put(real *p, vec v, long n)
{
    if (n == LANES)
        vec_store(p, v);
    else
        vec_store_part(p, v, n);
}

ALWAYS_INLINE void sgd_lanes(const struct update *s, long i, long n)
{
    const struct cnn_update *p = s->p;
    const vec mu = vec_fill((real)p->momentum), rate = vec_fill((real)p->rate), decay = vec_fill((real)p->weight_decay);
    vec w = get(s->w + i, n), g = get(s->g + i, n);
    if (p->weight_decay != 0)
        g = vec_madd(decay, w, g);
    vec step = g;
    if (s->v) {
        vec v = g;
        if (!p->first)
            v = vec_madd(mu, get(s->v + i, n), g);
        put(s->v + i, v, n);
        step = v;
        if (p->nesterov)
            step = vec_madd(mu, v, g);
    }
    put(s->w + i, vec_madd(-rate, step, w), n);
}

ALWAYS_INLINE void adam_lanes(const struct update *s, long i, long n)
{
    const struct cnn_update *p = s->p;
    vec w = get(s->w + i, n), g = get(s->g + i, n);
    if (p->decoupled)
        w = w - vec_fill((real)(p->rate * p->weight_decay)) * w;
    else if (p->weight_decay != 0)
        g = vec_madd(vec_fill((real)p->weight_decay), w, g);
    const vec m = vec_madd(vec_fill((real)p->beta1), get(s->m + i, n), vec_fill((real)(1 - p->beta1)) * g);
    const vec v = vec_madd(vec_fill((real)p->beta2), get(s->v + i, n), vec_fill((real)(1 - p->beta2)) * g * g);
    put(s->m + i, m, n);
    put(s->v + i, v, n);
    const vec below = vec_sqrt(v) / (real)p->correction2 + (real)p->epsilon;
    put(s->w + i, w - vec_fill((real)(p->rate / p->correction1)) * (m / below), n);
}

#define DEFINE_UPDATE(name, lanes)                                                         \
    static void name##_block(void *context, long block, int worker)                        \
    {                                                                                      \
        (void)worker;                                                                      \
        const struct update *s = context;                                                  \
        const long end = min_long(s->p->size, (block + 1) * BLOCK);                        \
        long i = block * BLOCK;                                                            \
        for (; i + LANES <= end; i += LANES)                                               \
            lanes(s, i, LANES);                                                            \
        if (i < end)                                                                       \
            lanes(s, i, end - i);                                                          \
    }                                                                                      \
    size_t FN(name##_scratch)(const void *problem, int workers)                            \
    {                                                                                      \
        (void)problem, (void)workers;                                                      \
        return 0;                                                                          \
    }

DEFINE_UPDATE(sgd_update, sgd_lanes)
DEFINE_UPDATE(adam_update, adam_lanes)

void FN(sgd_update)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct update s = {.p = problem, .g = array[0], .w = array[1], .v = array[2]};
    cnn_parallel_for(run, divide_up(s.p->size, BLOCK), (double)s.p->size * 0.3, sgd_update_block, &s);
}

void FN(adam_update)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct update s = {.p = problem, .g = array[0], .w = array[1], .m = array[2], .v = array[3]};
    cnn_parallel_for(run, divide_up(s.p->size, BLOCK), (double)s.p->size, adam_update_block, &s);
}
