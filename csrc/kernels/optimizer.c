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

ALWAYS_INLINE void sgd_lanes(const struct update *s, long i)
{
    const struct cnn_update *p = s->p;
    const vec mu = vec_fill((real)p->momentum), rate = vec_fill((real)p->rate), decay = vec_fill((real)p->weight_decay);
    vec w = vec_load(s->w + i), g = vec_load(s->g + i);
    if (p->weight_decay != 0)
        g = vec_madd(decay, w, g);
    vec step = g;
    if (s->v) {
        vec v = g;
        if (!p->first)
            v = vec_madd(mu, vec_load(s->v + i), g);
        vec_store(s->v + i, v);
        step = v;
        if (p->nesterov)
            step = vec_madd(mu, v, g);
    }
    vec_store(s->w + i, vec_madd(-rate, step, w));
}

ALWAYS_INLINE void adam_lanes(const struct update *s, long i)
{
    const struct cnn_update *p = s->p;
    vec w = vec_load(s->w + i), g = vec_load(s->g + i);
    if (p->decoupled)
        w = w - vec_fill((real)(p->rate * p->weight_decay)) * w;
    else if (p->weight_decay != 0)
        g = vec_madd(vec_fill((real)p->weight_decay), w, g);
    const vec m = vec_madd(vec_fill((real)p->beta1), vec_load(s->m + i), vec_multiply(vec_fill((real)(1 - p->beta1)), g));
    const vec v = vec_madd(vec_fill((real)p->beta2), vec_load(s->v + i), vec_multiply(vec_fill((real)(1 - p->beta2)), g * g));
    vec_store(s->m + i, m);
    vec_store(s->v + i, v);
    const vec below = vec_sqrt(v) / (real)p->correction2 + (real)p->epsilon;
    vec_store(s->w + i, w - vec_fill((real)(p->rate / p->correction1)) * (m / below));
}

/* g + lambda w */
ALWAYS_INLINE vec decayed(const struct update *s, vec w, long i)
{
    const vec g = vec_load(s->g + i);
    return s->p->weight_decay != 0 ? vec_madd(vec_fill((real)s->p->weight_decay), w, g) : g;
}

/* share * before + (1 - share) * now */
ALWAYS_INLINE vec blend(double share, vec before, vec now) { return vec_madd(vec_fill((real)share), before, vec_multiply(vec_fill((real)(1 - share)), now)); }

ALWAYS_INLINE void rmsprop_lanes(const struct update *s, long i)
{
    const struct cnn_update *p = s->p;
    const vec w = vec_load(s->w + i), g = decayed(s, w, i), v = blend(p->beta2, vec_load(s->v + i), g * g);
    vec_store(s->v + i, v);
    vec spread = v;
    if (p->centered) {
        const vec z = blend(p->beta2, vec_load(s->z + i), g);
        vec_store(s->z + i, z);
        spread = v - z * z;
        spread = vec_max((vec){0}, spread);
    }
    vec step = g / (vec_sqrt(spread) + (real)p->epsilon);
    if (s->m) {
        step = vec_madd(vec_fill((real)p->momentum), vec_load(s->m + i), step);
        vec_store(s->m + i, step);
    }
    vec_store(s->w + i, vec_madd(vec_fill((real)-p->rate), step, w));
}

ALWAYS_INLINE void adagrad_lanes(const struct update *s, long i)
{
    const vec w = vec_load(s->w + i), g = decayed(s, w, i), v = vec_madd(g, g, vec_load(s->v + i));
    vec_store(s->v + i, v);
    vec_store(s->w + i, w - vec_fill((real)s->p->rate) * (g / (vec_sqrt(v) + (real)s->p->epsilon)));
}

ALWAYS_INLINE void adadelta_lanes(const struct update *s, long i)
{
    const struct cnn_update *p = s->p;
    const vec w = vec_load(s->w + i), g = decayed(s, w, i), v = blend(p->beta2, vec_load(s->v + i), g * g), z = vec_load(s->z + i);
    const vec step = vec_sqrt(z + (real)p->epsilon) / vec_sqrt(v + (real)p->epsilon) * g;
    vec_store(s->v + i, v);
    vec_store(s->z + i, blend(p->beta2, z, step * step));
    vec_store(s->w + i, vec_madd(vec_fill((real)-p->rate), step, w));
}

ALWAYS_INLINE struct update sgd_arrays(void *const *state) { return (struct update){.w = state[0], .v = state[1]}; }
ALWAYS_INLINE struct update adam_arrays(void *const *state) { return (struct update){.w = state[0], .m = state[1], .v = state[2]}; }
ALWAYS_INLINE struct update rmsprop_arrays(void *const *state) { return (struct update){.w = state[0], .v = state[1], .m = state[2], .z = state[3]}; }
ALWAYS_INLINE struct update adagrad_arrays(void *const *state) { return (struct update){.w = state[0], .v = state[1]}; }
ALWAYS_INLINE struct update adadelta_arrays(void *const *state) { return (struct update){.w = state[0], .v = state[1], .z = state[2]}; }

/* Cells [begin, end); those at the end that fill no vector go through one of their own: what compilers make of a part of a vector rounds otherwise. */
static void update_range(const struct update *s, void (*whole)(const struct update *s, long begin, long end), long begin, long end)
{
    const long middle = begin + (end - begin) / LANES * LANES, rest = end - middle;
    whole(s, begin, middle);
    if (!rest)
        return;
    real *const cells[] = {(real *)s->g, s->w, s->m, s->v, s->z};
    real copy[5][LANES];
    for (int a = 0; a < 5; a++)
        for (long i = 0; cells[a] && i < LANES; i++)
            copy[a][i] = i < rest ? cells[a][middle + i] : 1;
    const struct update last = {s->p, copy[1], s->m ? copy[2] : NULL, s->v ? copy[3] : NULL, s->z ? copy[4] : NULL, copy[0]};
    whole(&last, 0, LANES);
    for (int a = 1; a < 5; a++)
        if (cells[a])
            memcpy(cells[a] + middle, copy[a], (size_t)rest * sizeof(real));
}

#define DEFINE_UPDATE(rule, work)                                                                                \
    static __attribute__((noinline)) void rule##_whole(const struct update *s, long begin, long end)             \
    {                                                                                                            \
        for (long i = begin; i < end; i += LANES)                                                                \
            rule##_lanes(s, i);                                                                                  \
    }                                                                                                            \
    static void rule##_block(void *context, long block, int worker)                                              \
    {                                                                                                            \
        (void)worker;                                                                                            \
        const struct update *s = context;                                                                        \
        update_range(s, rule##_whole, block *BLOCK, min_long(s->p->size, (block + 1) * BLOCK));                  \
    }                                                                                                            \
    size_t FN(rule##_update_scratch)(const void *problem, int workers)                                           \
    {                                                                                                            \
        (void)problem, (void)workers;                                                                            \
        return 0;                                                                                                \
    }                                                                                                            \
    void FN(rule##_update)(const void *problem, void *const *array, struct cnn_run *run)                         \
    {                                                                                                            \
        struct update s = rule##_arrays(array + 1);                                                              \
        s.p = problem, s.g = array[0];                                                                           \
        cnn_parallel_for(run, divide_up(s.p->size, BLOCK), (double)s.p->size * (work), rule##_block, &s);        \
    }

DEFINE_UPDATE(sgd, 0.3)
DEFINE_UPDATE(adam, 1)
DEFINE_UPDATE(rmsprop, 1)
DEFINE_UPDATE(adagrad, 1)
DEFINE_UPDATE(adadelta, 1)

void FN(update_some)(int update, const struct cnn_update *p, void *const *state, const real *g, long first, long count)
{
#define SOME(rule)                                                                                               \
    case CNN_##rule##_update: {                                                                                  \
        struct update s = rule##_arrays(state);                                                                  \
        s.p = p, s.g = g, s.w += first;                                                                          \
        s.m = s.m ? s.m + first : NULL, s.v = s.v ? s.v + first : NULL, s.z = s.z ? s.z + first : NULL;          \
        update_range(&s, rule##_whole, 0, count);                                                                \
        break;                                                                                                   \
    }
    switch (update) {
        SOME(sgd)
        SOME(adam)
        SOME(rmsprop)
        SOME(adagrad)
        SOME(adadelta)
    }
#undef SOME
}

int FN(update_arrays)(int update)
{
    static const int arrays[] = {[CNN_sgd_update - CNN_sgd_update] = 2, [CNN_adam_update - CNN_sgd_update] = 3, [CNN_rmsprop_update - CNN_sgd_update] = 4,
                                 [CNN_adagrad_update - CNN_sgd_update] = 2, [CNN_adadelta_update - CNN_sgd_update] = 3};
    return arrays[update - CNN_sgd_update];
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
