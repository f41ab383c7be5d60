/* pool_lp.c: the power mean of windows, and the inverse of maximum pooling.
 *
 *     lp      y[p] = (A sum |x|^q)^(1/q) over W(p), A = cells of a whole window / cells of this one
 *             dx[h] += dy[p] A sign(x) |x|^(q-1) y^(1-q), 0 where y = 0
 *     unpool  x[index[p]] = y[p], 0 elsewhere; of equal indices the last in scan order stays, and alone gets its gradient
 *
 * Shapes as in pool.c; lp backward has channels as neighbours in memory. Forward and backward overwrite. Source: mathematics 2.6. */
#include "ops.h"
#include "pool.h"
#include "vecmath.h"

struct lp {
    const struct cnn_pool *p;
    const real *x, *dy, *y;
    real *to;
};

/* |x|^q for x >= 0; 0^q is 0, and 0^0 is 1. */
ALWAYS_INLINE vec power(vec x, real q)
{
    if (q == 0)
        return vec_fill(1);
    if (q == 1)
        return x;
    if (q == 2)
        return x * x;
    return vec_exp(vec_log(x) * q);
}

ALWAYS_INLINE vec root(vec x, real q)
{
    if (q == 1)
        return x;
    if (q == 2)
        return vec_sqrt(x);
    return vec_exp(vec_log(x) / q);
}

static real share(const struct cnn_pool *p, const struct range r[3])
{
    long cells = 1, whole = 1;
    for (int a = 0; a < 3; a++) {
        cells *= r[a].end - r[a].begin;
        whole *= p->window[a];
    }
    return (real)whole / (real)cells;
}

static void lp_row(void *context, long row, int worker)
{
    (void)worker;
    const struct lp *s = context;
    const struct cnn_pool *p = s->p;
    const long h = row % p->out[1], d = row / p->out[1] % p->out[0], n = row / p->out[1] / p->out[0];
    struct range r[3] = {taps_inside(p, 0, d), taps_inside(p, 1, h)};
    for (long w = 0; w < p->out[2]; w++) {
        r[2] = taps_inside(p, 2, w);
        const vec scale = vec_fill(share(p, r));
        real *y = s->to + n * p->y[0] + d * p->y[2] + h * p->y[3] + w * p->y[4];
        for (long c = 0; c < p->c; c += LANES) {
            const long valid = min_long(LANES, p->c - c);
            vec sum = {0};
            for (long i = r[0].begin; i < r[0].end; i++)
                for (long j = r[1].begin; j < r[1].end; j++)
                    for (long k = r[2].begin; k < r[2].end; k++) {
                        const real *x = s->x + n * p->x[0] + (r[0].first + i) * p->x[2] + (r[1].first + j) * p->x[3] + (r[2].first + k) * p->x[4] + c;
                        sum = sum + power(vec_abs(vec_get(x, valid)), (real)p->norm);
                    }
            vec_put(y + c, root(sum * scale, (real)p->norm), valid);
        }
    }
}

static double work_of(const struct cnn_pool *p)
{
    return (double)(p->n * p->c) * (double)(p->out[0] * p->out[1] * p->out[2]) * (double)(p->window[0] * p->window[1] * p->window[2]);
}

static void lp_forward(const struct cnn_pool *p, const real *x, real *y, struct winners won, struct cnn_run *run)
{
    (void)won;
    struct lp s = {.p = p, .x = x, .to = y};
    cnn_parallel_for(run, p->n * p->out[0] * p->out[1], work_of(p), lp_row, &s);
}

static size_t no_scratch(const struct cnn_pool *p, int workers)
{
    (void)p, (void)workers;
    return 0;
}

size_t FN(lp_pool_forward_scratch)(const void *problem, int workers) { return FN(pool_scratch)(problem, (struct pool_ways){NULL, no_scratch, lp_forward, 1}, workers); }

void FN(lp_pool_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    FN(pool_run)(problem, (struct pool_ways){NULL, no_scratch, lp_forward, 1}, array[0], array[1], (struct winners){0}, run);
}

/* One vector of channels of one window: every cell adds its share of dy. */
ALWAYS_INLINE void lp_add(const struct cnn_pool *p, const struct range r[3], const real *x_image, const real *y, const real *dy, long valid, real weight, real *dx_image)
{
    const real q = (real)p->norm;
    const vec result = vec_get(y, valid), factor = vec_get(dy, valid) * vec_fill(weight) / power(result, q - 1);
    for (long i = r[0].begin; i < r[0].end; i++)
        for (long j = r[1].begin; j < r[1].end; j++)
            for (long k = r[2].begin; k < r[2].end; k++) {
                const long cell = (r[0].first + i) * p->x[2] + (r[1].first + j) * p->x[3] + (r[2].first + k) * p->x[4];
                const vec x = vec_get(x_image + cell, valid), size = power(vec_abs(x), q - 1);
                const vec slope = vec_select(x == 0, (vec){0}, (vec)((mask)size ^ vec_sign(x)));
                const vec g = vec_select(result == 0, (vec){0}, factor * slope);
                vec_put(dx_image + cell, vec_get(dx_image + cell, valid) + g, valid);
            }
}

/* Some channels of one image; windows in scan order. Cells of dx are zeroed shortly before they are needed. */
static void lp_backward_channels(void *context, long block, int worker)
{
    (void)worker;
    const struct lp *s = context;
    const struct cnn_pool *p = s->p;
    const long groups = divide_up(p->c, SHARE), n = block / groups, begin = block % groups * SHARE, channels = min_long(SHARE, p->c - begin);
    const long whole = channels / LANES * LANES, cells = p->in[0] * p->in[1] * p->in[2];
    const int dense = dense_plane(p);
    const real *x = s->x + n * p->x[0] + begin;
    real *dx = s->to + n * p->x[0] + begin;
    long zeroed = 0;
    for (long d = 0; d < p->out[0]; d++)
        for (long h = 0; h < p->out[1]; h++) {
            struct range r[3] = {taps_inside(p, 0, d), taps_inside(p, 1, h)};
            zero_cells(p, dense, zeroed, reach_of(p, r), channels, dx);
            zeroed = max_long(zeroed, reach_of(p, r));
            for (long w = 0; w < p->out[2]; w++) {
                r[2] = taps_inside(p, 2, w);
                const long at = n * p->y[0] + d * p->y[2] + h * p->y[3] + w * p->y[4] + begin;
                const real weight = share(p, r);
                for (long c = 0; c < whole; c += LANES)
                    lp_add(p, r, x + c, s->y + at + c, s->dy + at + c, LANES, weight, dx + c);
                if (whole < channels)
                    lp_add(p, r, x + whole, s->y + at + whole, s->dy + at + whole, channels - whole, weight, dx + whole);
            }
        }
    zero_cells(p, dense, zeroed, cells, channels, dx);
}

size_t FN(lp_pool_backward_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(lp_pool_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct lp s = {.p = problem, .dy = array[0], .x = array[1], .y = array[2], .to = array[3]};
    cnn_parallel_for(run, s.p->n * divide_up(s.p->c, SHARE), 2 * work_of(s.p), lp_backward_channels, &s);
}

struct unpool {
    const struct cnn_pool *p;
    const real *from;
    const int64_t *index;
    real *to;
    int64_t *owner; /* a plane a worker: which value was written last */
};

static long plane_of(const struct cnn_pool *p) { return p->in[0] * p->in[1] * p->in[2]; }

static long cell_of(const struct cnn_pool *p, int64_t flat)
{
    return flat / p->in[2] / p->in[1] * p->x[2] + flat / p->in[2] % p->in[1] * p->x[3] + flat % p->in[2] * p->x[4];
}

static void unpool_plane(void *context, long block, int worker)
{
    (void)worker;
    const struct unpool *s = context;
    const struct cnn_pool *p = s->p;
    const long n = block / p->c, c = block % p->c;
    const int64_t *index = s->index + block * p->out[0] * p->out[1] * p->out[2];
    real *to = s->to + n * p->x[0] + c * p->x[1];
    for (long i = 0; i < plane_of(p); i++)
        to[cell_of(p, i)] = 0;
    for (long d = 0; d < p->out[0]; d++)
        for (long h = 0; h < p->out[1]; h++)
            for (long w = 0; w < p->out[2]; w++)
                to[cell_of(p, *index++)] = s->from[n * p->y[0] + c * p->y[1] + d * p->y[2] + h * p->y[3] + w * p->y[4]];
}

static void unpool_backward_plane(void *context, long block, int worker)
{
    const struct unpool *s = context;
    const struct cnn_pool *p = s->p;
    const long n = block / p->c, c = block % p->c, values = p->out[0] * p->out[1] * p->out[2];
    const int64_t *index = s->index + block * values;
    int64_t *owner = s->owner + worker * plane_of(p);
    for (long i = 0; i < values; i++)
        owner[index[i]] = i;
    const real *from = s->from + n * p->x[0] + c * p->x[1];
    long i = 0;
    for (long d = 0; d < p->out[0]; d++)
        for (long h = 0; h < p->out[1]; h++)
            for (long w = 0; w < p->out[2]; w++, i++)
                s->to[n * p->y[0] + c * p->y[1] + d * p->y[2] + h * p->y[3] + w * p->y[4]] = owner[index[i]] == i ? from[cell_of(p, index[i])] : 0;
}

size_t FN(max_unpool_forward_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(max_unpool_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct unpool s = {problem, array[0], array[1], array[2], NULL};
    cnn_parallel_for(run, s.p->n * s.p->c, (double)(s.p->n * s.p->c) * (double)plane_of(s.p), unpool_plane, &s);
}

size_t FN(max_unpool_backward_scratch)(const void *problem, int workers) { return (size_t)(plane_of(problem) * workers) * sizeof(int64_t); }

void FN(max_unpool_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct unpool s = {problem, array[0], array[1], array[2], (int64_t *)run->scratch};
    cnn_parallel_for(run, s.p->n * s.p->c, (double)(s.p->n * s.p->c) * (double)plane_of(s.p), unpool_backward_plane, &s);
}
