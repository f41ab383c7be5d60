/* optimizer.c: one update of a flat parameter w by its gradient g, a single pass.
 *
 *     both  g += lambda w; decoupled (AdamW): w -= lr lambda w instead
 *     SGD   v = g at the first step, else mu v + g;   w -= lr v, Nesterov: w -= lr (g + mu v)
 *     RMSprop   v = al v + (1 - al) g^2, z = al z + (1 - al) g (centered);  b = mu b + g/D, w -= lr b, D = sqrt(v - z^2) + eps
 *     Adagrad   v += g^2;  w -= lr g / (sqrt(v) + eps)            (lr: already divided by 1 + (t - 1) lr_decay)
 *     Adadelta  v = rho v + (1 - rho) g^2, D = sqrt(z + eps)/sqrt(v + eps) g, z = rho z + (1 - rho) D^2;  w -= lr D
 *     Adam  m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  w -= lr/(1 - b1^t) m / (sqrt(v)/sqrt(1 - b2^t) + eps)
 *
 * w and the state are updated in place, g is only read. Scalars are float64, rounded once. Source: mathematics 2.15. */
#include "ops.h"
#include "vecmath.h"

enum { BLOCK = 16384 };

struct update {
    const struct cnn_update *p;
    real *w, *m, *v, *z;
    const real *g;
};

ALWAYS_INLINE void sgd_lanes(const struct update *s, long i, long n)
{
    const struct cnn_update *p = s->p;
    const vec mu = vec_fill((real)p->momentum), rate = vec_fill((real)p->rate), decay = vec_fill((real)p->weight_decay);
    vec w = vec_get(s->w + i, n), g = vec_get(s->g + i, n);
    if (p->weight_decay != 0)
        g = vec_madd(decay, w, g);
    vec step = g;
    if (s->v) {
        vec v = g;
        if (!p->first)
            v = vec_madd(mu, vec_get(s->v + i, n), g);
        vec_put(s->v + i, v, n);
        step = v;
        if (p->nesterov)
            step = vec_madd(mu, v, g);
    }
    vec_put(s->w + i, vec_madd(-rate, step, w), n);
}

ALWAYS_INLINE void adam_lanes(const struct update *s, long i, long n)
{
    const struct cnn_update *p = s->p;
    vec w = vec_get(s->w + i, n), g = vec_get(s->g + i, n);
    if (p->decoupled)
        w = w - vec_fill((real)(p->rate * p->weight_decay)) * w;
    else if (p->weight_decay != 0)
        g = vec_madd(vec_fill((real)p->weight_decay), w, g);
    const vec m = vec_madd(vec_fill((real)p->beta1), vec_get(s->m + i, n), vec_fill((real)(1 - p->beta1)) * g);
    const vec v = vec_madd(vec_fill((real)p->beta2), vec_get(s->v + i, n), vec_fill((real)(1 - p->beta2)) * g * g);
    vec_put(s->m + i, m, n);
    vec_put(s->v + i, v, n);
    const vec below = vec_sqrt(v) / (real)p->correction2 + (real)p->epsilon;
    vec_put(s->w + i, w - vec_fill((real)(p->rate / p->correction1)) * (m / below), n);
}

/* g + lambda w */
ALWAYS_INLINE vec decayed(const struct update *s, vec w, long i, long n)
{
    const vec g = vec_get(s->g + i, n);
    return s->p->weight_decay != 0 ? vec_madd(vec_fill((real)s->p->weight_decay), w, g) : g;
}

/* share * before + (1 - share) * now */
ALWAYS_INLINE vec blend(double share, vec before, vec now) { return vec_madd(vec_fill((real)share), before, vec_fill((real)(1 - share)) * now); }

ALWAYS_INLINE void rmsprop_lanes(const struct update *s, long i, long n)
{
    const struct cnn_update *p = s->p;
    const vec w = vec_get(s->w + i, n), g = decayed(s, w, i, n), v = blend(p->beta2, vec_get(s->v + i, n), g * g);
    vec_put(s->v + i, v, n);
    vec spread = v;
    if (p->centered) {
        const vec z = blend(p->beta2, vec_get(s->z + i, n), g);
        vec_put(s->z + i, z, n);
        spread = v - z * z;
        spread = vec_select(spread < 0, (vec){0}, spread);
    }
    vec step = g / (vec_sqrt(spread) + (real)p->epsilon);
    if (s->m) {
        step = vec_madd(vec_fill((real)p->momentum), vec_get(s->m + i, n), step);
        vec_put(s->m + i, step, n);
    }
    vec_put(s->w + i, vec_madd(vec_fill((real)-p->rate), step, w), n);
}

ALWAYS_INLINE void adagrad_lanes(const struct update *s, long i, long n)
{
    const vec w = vec_get(s->w + i, n), g = decayed(s, w, i, n), v = vec_madd(g, g, vec_get(s->v + i, n));
    vec_put(s->v + i, v, n);
    vec_put(s->w + i, w - vec_fill((real)s->p->rate) * (g / (vec_sqrt(v) + (real)s->p->epsilon)), n);
}

ALWAYS_INLINE void adadelta_lanes(const struct update *s, long i, long n)
{
    const struct cnn_update *p = s->p;
    const vec w = vec_get(s->w + i, n), g = decayed(s, w, i, n), v = blend(p->beta2, vec_get(s->v + i, n), g * g), z = vec_get(s->z + i, n);
    const vec step = vec_sqrt(z + (real)p->epsilon) / vec_sqrt(v + (real)p->epsilon) * g;
    vec_put(s->v + i, v, n);
    vec_put(s->z + i, blend(p->beta2, z, step * step), n);
    vec_put(s->w + i, vec_madd(vec_fill((real)-p->rate), step, w), n);
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
DEFINE_UPDATE(rmsprop_update, rmsprop_lanes)
DEFINE_UPDATE(adagrad_update, adagrad_lanes)
DEFINE_UPDATE(adadelta_update, adadelta_lanes)

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

void FN(rmsprop_update)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct update s = {.p = problem, .g = array[0], .w = array[1], .v = array[2], .m = array[3], .z = array[4]};
    cnn_parallel_for(run, divide_up(s.p->size, BLOCK), (double)s.p->size, rmsprop_update_block, &s);
}

void FN(adagrad_update)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct update s = {.p = problem, .g = array[0], .w = array[1], .v = array[2]};
    cnn_parallel_for(run, divide_up(s.p->size, BLOCK), (double)s.p->size, adagrad_update_block, &s);
}

void FN(adadelta_update)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct update s = {.p = problem, .g = array[0], .w = array[1], .v = array[2], .z = array[3]};
    cnn_parallel_for(run, divide_up(s.p->size, BLOCK), (double)s.p->size, adadelta_update_block, &s);
}

/* y = a x; a finite x stays 0 where a is 0, for clipping by an infinite norm. */
static void scale_block(void *context, long block, int worker)
{
    (void)worker;
    const struct update *s = context;
    const long size = s->p->size, end = min_long(size, (block + 1) * BLOCK);
    const real by = (real)s->p->rate;
    for (long i = block * BLOCK; i < end; i++)
        s->w[i] = s->g[i] * by;
}

size_t FN(scale_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(scale)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_map *p = problem;
    const struct cnn_update update = {.size = p->size, .rate = p->a};
    struct update s = {.p = &update, .g = array[0], .w = array[1]};
    cnn_parallel_for(run, divide_up(p->size, BLOCK), (double)p->size * 0.2, scale_block, &s);
}

/* The sum of squares in float64: blocks in any order, added in block order. */
struct squares {
    const real *x;
    double *part;
    long size;
};

static void squares_block(void *context, long block, int worker)
{
    (void)worker;
    const struct squares *s = context;
    const long end = min_long(s->size, (block + 1) * BLOCK);
    double lanes[8] = {0}, sum = 0;
    long i = block * BLOCK;
    for (; i + 8 <= end; i += 8)
        for (int v = 0; v < 8; v++)
            lanes[v] += (double)s->x[i + v] * (double)s->x[i + v];
    for (; i < end; i++)
        sum += (double)s->x[i] * (double)s->x[i];
    for (int v = 0; v < 8; v++)
        sum += lanes[v];
    s->part[block] = sum;
}

size_t FN(sum_squares_scratch)(const void *problem, int workers)
{
    (void)workers;
    return (size_t)divide_up(((const struct cnn_map *)problem)->size, BLOCK) * sizeof(double);
}

void FN(sum_squares)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_map *p = problem;
    struct squares s = {array[0], (double *)run->scratch, p->size};
    cnn_parallel_for(run, divide_up(p->size, BLOCK), (double)p->size * 0.3, squares_block, &s);
    double sum = 0;
    for (long block = 0; block < divide_up(p->size, BLOCK); block++)
        sum += s.part[block];
    *(double *)array[1] = sum;
}
