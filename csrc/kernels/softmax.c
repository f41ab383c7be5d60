/* softmax.c: softmax and log-softmax along one axis.
 *
 *     softmax      y = e^(x - max) / sum e^(x - max)             dx = y (dy - sum dy y)
 *     log_softmax  y = x - max - log sum e^(x - max)             dx = dy - e^y sum dy
 *
 * x[outer][axis][inner] in C order. Backward reads y. A row that holds NaN or +Inf gives NaN. Source: mathematics 2.11. */
#include "softmax.h"

struct rows {
    const struct cnn_reduce *p;
    const real *a, *b;
    real *y, *scratch;
    int log;
};
static long room(long n) { return spaced_reals(2 * n * LANES); } /* of one worker: two tiles */

static void softmax_tile(void *context, long tile, int worker)
{
    const struct rows *s = context;
    const long n = s->p->axis;
    long row;
    const struct tile_rows r = tile_rows_of(tile, s->p->outer, n, s->p->inner, &row);
    real *t = s->scratch + worker * room(n), *e = t + n * LANES;
    tile_load(s->a, r, n, t);
    const vec top = tile_largest(t, n), sum = tile_exponentials(t, n, top, e);
    if (s->log) {
        const vec log_sum = vec_log(sum);
        for (long c = 0; c < n; c++)
            vec_store(e + c * LANES, (vec_load(t + c * LANES) - top) - log_sum);
    } else
        for (long c = 0; c < n; c++)
            vec_store(e + c * LANES, vec_load(e + c * LANES) / sum);
    tile_store(e, r, n, s->y);
}

static void softmax_backward_tile(void *context, long tile, int worker)
{
    const struct rows *s = context;
    const long n = s->p->axis;
    long row;
    const struct tile_rows r = tile_rows_of(tile, s->p->outer, n, s->p->inner, &row);
    real *dy = s->scratch + worker * room(n), *y = dy + n * LANES;
    tile_load(s->a, r, n, dy);
    tile_load(s->b, r, n, y);
    vec sum = {0};
    if (s->log) {
        for (long c = 0; c < n; c++)
            sum = sum + vec_load(dy + c * LANES);
        tile_exponentials(y, n, (vec){0}, y);
        for (long c = 0; c < n; c++)
            vec_store(dy + c * LANES, vec_load(dy + c * LANES) - vec_load(y + c * LANES) * sum);
    } else {
        for (long c = 0; c < n; c++)
            sum = vec_madd(vec_load(dy + c * LANES), vec_load(y + c * LANES), sum);
        for (long c = 0; c < n; c++)
            vec_store(dy + c * LANES, vec_load(y + c * LANES) * (vec_load(dy + c * LANES) - sum));
    }
    tile_store(dy, r, n, s->y);
}

static void softmax_row(void *context, long row, int worker)
{
    (void)worker;
    const struct rows *s = context;
    const long n = s->p->axis;
    const real *x = s->a + row * n;
    real *y = s->y + row * n;
    const real top = row_largest(x, n);
    if (s->log) {
        real *e = s->scratch + worker * room(n);
        const real log_sum = logarithm(row_exponentials(x, n, top, e));
        for (long i = 0; i < n; i++)
            y[i] = (x[i] - top) - log_sum;
    } else {
        const real sum = row_exponentials(x, n, top, y);
        for (long i = 0; i < n; i++)
            y[i] = y[i] / sum;
    }
}

static void softmax_backward_row(void *context, long row, int worker)
{
    const struct rows *s = context;
    const long n = s->p->axis;
    const real *dy = s->a + row * n, *y = s->b + row * n;
    real *dx = s->y + row * n, *e = s->scratch + worker * room(n);
    vec lanes = {0};
    real rest = 0;
    long i = 0;
    for (; i + LANES <= n; i += LANES)
        lanes = vec_madd(vec_load(dy + i), s->log ? vec_fill(1) : vec_load(y + i), lanes);
    for (; i < n; i++)
        rest += s->log ? dy[i] : dy[i] * y[i];
    const real sum = lanes_sum(lanes) + rest;
    if (s->log) {
        row_exponentials(y, n, 0, e);
        for (long j = 0; j < n; j++)
            dx[j] = dy[j] - e[j] * sum;
    } else
        for (long j = 0; j < n; j++)
            dx[j] = y[j] * (dy[j] - sum);
}

#define DEFINE_SOFTMAX(name, inputs, is_log, kind)                                                            \
    size_t FN(name##_scratch)(const void *problem, int workers)                                               \
    {                                                                                                         \
        const struct cnn_reduce *p = problem;                                                                 \
        return (size_t)(workers * room(p->axis)) * sizeof(real);                                              \
    }                                                                                                         \
    void FN(name)(const void *problem, void *const *array, struct cnn_run *run)                               \
    {                                                                                                         \
        const struct cnn_reduce *p = problem;                                                                 \
        struct rows s = {p, array[0], inputs > 1 ? array[1] : NULL, array[inputs], (real *)run->scratch, is_log}; \
        const long rows = p->axis ? p->outer * p->inner : 0;                                                  \
        const double work = (double)(rows * p->axis) * ROW_WORK;                                              \
        if (rows && rows_in_lanes(p->axis, p->inner))                                                         \
            cnn_parallel_for(run, tile_count(p->outer, p->inner), work, kind##_tile, &s);                     \
        else                                                                                                  \
            cnn_parallel_for(run, rows, work, kind##_row, &s);                                                \
    }

DEFINE_SOFTMAX(softmax_forward, 1, 0, softmax)
DEFINE_SOFTMAX(softmax_backward, 2, 0, softmax_backward)
DEFINE_SOFTMAX(log_softmax_forward, 1, 1, softmax)
DEFINE_SOFTMAX(log_softmax_backward, 2, 1, softmax_backward)
