/* pool.c: maximum and average over windows of each channel alone.
 *
 *     W(p) = the cells p*stride - before + r*dilation of a window that lie inside the image
 *     max      y[p] = the first maximum of x over W(p) in scan order; the first NaN beats all;   dx[index[p]] += dy[p]
 *     average  y[p] = (sum of x over W(p)) / D(p);  dx[h] = sum over p with h in W(p) of dy[p] / D(p)
 *              D counts the window's cells in [-before, in + after) with count_include_pad, else those in [0, in)
 *
 * x[N][C][in], y[N][C][out], channels neighbours in memory (stride 1) for x, y and their gradients; index[N][C][out] is
 * int64 in C order, flat in the input's spatial plane. Forward and backward overwrite. Source: mathematics 2.6. */
#include "ops.h"
#include "pool.h"

/* The same for every row: where the windows of an output row begin and end, and their divisors. */
struct column {
    struct range taps;
    long cells;
};

struct pool {
    const struct cnn_pool *p;
    const real *x;
    real *y;
    int64_t *index;
    const struct column *columns;
    real *scratch; /* of averages: two rows a worker */
};

static size_t columns_bytes(const struct cnn_pool *p) { return (size_t)round_up(p->out[2] * (long)sizeof(struct column), 64); }

static struct pool start(const struct cnn_pool *p, const real *x, real *y, int64_t *index, char *scratch)
{
    struct column *columns = (struct column *)scratch;
    for (long w = 0; w < p->out[2]; w++)
        columns[w] = (struct column){taps_inside(p, 2, w), divisor(p, 2, w)};
    return (struct pool){p, x, y, index, columns, (real *)(scratch + columns_bytes(p))};
}

static long rows_of(const struct cnn_pool *p, const long cells[3]) { return p->n * cells[0] * cells[1]; }
static double work_of(const struct cnn_pool *p)
{
    return (double)(p->n * p->c) * (double)(p->out[0] * p->out[1] * p->out[2]) * (double)(p->window[0] * p->window[1] * p->window[2]) * 0.3;
}

/* One vector of channels of one output cell. `valid` lanes exist. */
ALWAYS_INLINE void max_cell(const struct pool *s, const real *image, const struct range r[3], long c, long valid, real *y, int64_t *index)
{
    const struct cnn_pool *p = s->p;
    vec best = {0};
    mask which = {0};
    for (long d = r[0].begin, any = 0; d < r[0].end; d++)
        for (long h = r[1].begin; h < r[1].end; h++)
            for (long w = r[2].begin; w < r[2].end; w++, any = 1) {
                const real *at = image + (r[0].first + d * p->dilation[0]) * p->x[2] + (r[1].first + h * p->dilation[1]) * p->x[3] +
                                 (r[2].first + w * p->dilation[2]) * p->x[4] + c;
                const vec x = valid == LANES ? vec_load(at) : vec_load_part(at, valid);
                const bits tap = (bits)((d * p->window[1] + h) * p->window[2] + w);
                const mask better = (x > best) | ((x != x) & (best == best)) | ((mask){0} - (any == 0));
                best = vec_select(better, x, best);
                which = (better & tap) | (~better & which);
            }
    if (valid == LANES)
        vec_store(y, best);
    else
        vec_store_part(y, best, valid);
    const long plane = p->out[0] * p->out[1] * p->out[2];
    for (long i = 0; index && i < valid; i++) {
        const long tap = which[i], w = tap % p->window[2], h = tap / p->window[2] % p->window[1], d = tap / p->window[2] / p->window[1];
        index[(c + i) * plane] = ((r[0].first + d * p->dilation[0]) * p->in[1] + r[1].first + h * p->dilation[1]) * p->in[2] +
                                 r[2].first + w * p->dilation[2];
    }
}

static void max_row(void *context, long row, int worker)
{
    (void)worker;
    const struct pool *s = context;
    const struct cnn_pool *p = s->p;
    const long h = row % p->out[1], d = row / p->out[1] % p->out[0], n = row / p->out[1] / p->out[0];
    struct range r[3] = {taps_inside(p, 0, d), taps_inside(p, 1, h)};
    const real *image = s->x + n * p->x[0];
    for (long w = 0; w < p->out[2]; w++) {
        r[2] = s->columns[w].taps;
        real *y = s->y + n * p->y[0] + d * p->y[2] + h * p->y[3] + w * p->y[4];
        int64_t *index = s->index ? s->index + ((n * p->c * p->out[0] + d) * p->out[1] + h) * p->out[2] + w : NULL;
        long c = 0;
        for (; c + LANES <= p->c; c += LANES)
            max_cell(s, image, r, c, LANES, y + c, index);
        if (c < p->c)
            max_cell(s, image, r, c, p->c - c, y + c, index);
    }
}

size_t FN(max_pool_forward_scratch)(const void *problem, int workers)
{
    (void)workers;
    return columns_bytes(problem);
}

void FN(max_pool_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct pool s = start(problem, array[0], array[1], array[2], run->scratch);
    cnn_parallel_for(run, rows_of(s.p, s.p->out), work_of(s.p), max_row, (void *)&s);
}

/* Gradients of one image's channels go back in scan order of the outputs. */
static void max_backward_channels(void *context, long block, int worker)
{
    (void)worker;
    const struct pool *s = context; /* x is dy, y is dx */
    const struct cnn_pool *p = s->p;
    const long groups = divide_up(p->c, LANES), n = block / groups, begin = block % groups * LANES, end = min_long(p->c, begin + LANES);
    real *image = s->y + n * p->x[0];
    for (long d = 0; d < p->in[0]; d++)
        for (long h = 0; h < p->in[1]; h++)
            for (long w = 0; w < p->in[2]; w++)
                for (long c = begin; c < end; c++)
                    image[d * p->x[2] + h * p->x[3] + w * p->x[4] + c] = 0;
    const long plane = p->out[0] * p->out[1] * p->out[2];
    for (long d = 0; d < p->out[0]; d++)
        for (long h = 0; h < p->out[1]; h++)
            for (long w = 0; w < p->out[2]; w++) {
                const real *dy = s->x + n * p->y[0] + d * p->y[2] + h * p->y[3] + w * p->y[4];
                const int64_t *index = s->index + n * p->c * plane + (d * p->out[1] + h) * p->out[2] + w;
                for (long c = begin; c < end; c++) {
                    const long at = index[c * plane];
                    image[at / p->in[2] / p->in[1] * p->x[2] + at / p->in[2] % p->in[1] * p->x[3] + at % p->in[2] * p->x[4] + c] += dy[c];
                }
            }
}

size_t FN(max_pool_backward_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(max_pool_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct pool s = {.p = problem, .x = array[0], .y = array[2], .index = array[1]};
    const double work = (double)(s.p->n * s.p->c) * (double)(s.p->in[0] * s.p->in[1] * s.p->in[2]) * 2;
    cnn_parallel_for(run, s.p->n * divide_up(s.p->c, LANES), work, max_backward_channels, &s);
}

/* Averages work on whole rows of pixels, so that few channels fill the lanes too: a row of sums over the window's rows, then
 * sums of its neighbouring pixels. A vector that starts at a pixel's channels may reach into the next pixels; the reals
 * beyond are written again by those, or are the slack at the row's end. */
static long row_room(const struct cnn_pool *p) { return round_up(max_long(p->in[2], p->out[2]) * p->c, LANES) + LANES + p->c; }

static void load_row(const real *row, long pixels, long channels, long step, real *to, int add)
{
    if (step == channels) {
        const long n = pixels * channels;
        long i = 0;
        for (; i + LANES <= n; i += LANES) {
            vec v = vec_load(row + i);
            if (add)
                v = vec_load(to + i) + v;
            vec_store(to + i, v);
        }
        for (; i < n; i++)
            to[i] = add ? to[i] + row[i] : row[i];
        return;
    }
    for (long w = 0; w < pixels; w++)
        for (long c = 0; c < channels; c++)
            to[w * channels + c] = add ? to[w * channels + c] + row[w * step + c] : row[w * step + c];
}

static void store_row(const real *from, long pixels, long channels, long step, real *row)
{
    if (step == channels) {
        memcpy(row, from, (size_t)(pixels * channels) * sizeof(real));
        return;
    }
    for (long w = 0; w < pixels; w++)
        memcpy(row + w * step, from + w * channels, (size_t)channels * sizeof(real));
}

static void average_row(void *context, long row, int worker)
{
    const struct pool *s = context;
    const struct cnn_pool *p = s->p;
    const long h = row % p->out[1], d = row / p->out[1] % p->out[0], n = row / p->out[1] / p->out[0], channels = p->c;
    const struct range r0 = taps_inside(p, 0, d), r1 = taps_inside(p, 1, h);
    const long cells = divisor(p, 0, d) * divisor(p, 1, h);
    real *sums = s->scratch + 2 * worker * row_room(p), *means = sums + row_room(p);
    int add = 0;
    for (long i = r0.begin; i < r0.end; i++)
        for (long j = r1.begin; j < r1.end; j++, add = 1)
            load_row(s->x + n * p->x[0] + (r0.first + i) * p->x[2] + (r1.first + j) * p->x[3], p->in[2], channels, p->x[4], sums, add);
    if (!add)
        memset(sums, 0, (size_t)(p->in[2] * channels) * sizeof(real));
    for (long w = 0; w < p->out[2]; w++) {
        const struct range r2 = s->columns[w].taps;
        const vec by = vec_fill((real)(cells * s->columns[w].cells));
        for (long c = 0; c < channels; c += LANES) {
            vec sum = {0};
            for (long k = r2.begin; k < r2.end; k++)
                sum = sum + vec_load(sums + (r2.first + k) * channels + c);
            vec_store(means + w * channels + c, sum / by);
        }
    }
    store_row(means, p->out[2], channels, p->y[4], s->y + n * p->y[0] + d * p->y[2] + h * p->y[3]);
}

static size_t row_scratch(const void *problem, int workers) 
{
    return columns_bytes(problem) + (size_t)(2 * row_room(problem) * workers) * sizeof(real);
}

size_t FN(avg_pool_forward_scratch)(const void *problem, int workers) { return row_scratch(problem, workers); }

void FN(avg_pool_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct pool s = start(problem, array[0], array[1], NULL, run->scratch);
    cnn_parallel_for(run, rows_of(s.p, s.p->out), work_of(s.p), average_row, (void *)&s);
}

/* One row of dx gathers from the rows of dy whose windows reach it, in scan order. */
static void average_backward_row(void *context, long row, int worker)
{
    const struct pool *s = context; /* x is dy, y is dx */
    const struct cnn_pool *p = s->p;
    const long cell[2] = {row / p->in[1] % p->in[0], row % p->in[1]}, n = row / p->in[1] / p->in[0], channels = p->c;
    real *dy = s->scratch + 2 * worker * row_room(p), *dx = dy + row_room(p);
    long low[2], high[2];
    for (int a = 0; a < 2; a++)
        windows_over(p, a, cell[a], &low[a], &high[a]);
    const long whole = channels / LANES * LANES;
    mask rest;
    for (int v = 0; v < LANES; v++)
        rest[v] = v < channels - whole ? -1 : 0;
    /* Windows that do not overlap give every cell one share: nothing to add it to. */
    const int apart = !p->adaptive && p->window[0] <= p->stride[0] && p->window[1] <= p->stride[1] && p->window[2] <= p->stride[2];
    memset(dx, 0, (size_t)row_room(p) * sizeof(real));
    for (long d = low[0]; d <= high[0]; d++)
        for (long h = low[1]; h <= high[1]; h++) {
            const long cells = divisor(p, 0, d) * divisor(p, 1, h);
            load_row(s->x + n * p->y[0] + d * p->y[2] + h * p->y[3], p->out[2], channels, p->y[4], dy, 0);
            for (long w = 0; w < p->out[2]; w++) {
                const struct range r = s->columns[w].taps;
                const vec by = vec_fill((real)(cells * s->columns[w].cells));
                for (long k = r.begin; k < r.end; k++)
                    for (long c = 0; c < channels; c += LANES) {
                        real *to = dx + (r.first + k) * channels + c;
                        vec share = vec_load(dy + w * channels + c) / by;
                        if (c == whole) /* lanes of the next pixel get nothing; where it has a share, that is written later */
                            share = vec_select(rest, share, (vec){0});
                        if (!apart)
                            share = vec_load(to) + share;
                        vec_store(to, share);
                    }
            }
        }
    store_row(dx, p->in[2], channels, p->x[4], s->y + n * p->x[0] + cell[0] * p->x[2] + cell[1] * p->x[3]);
}

size_t FN(avg_pool_backward_scratch)(const void *problem, int workers) { return row_scratch(problem, workers); }

void FN(avg_pool_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct pool s = start(problem, array[0], array[1], NULL, run->scratch);
    cnn_parallel_for(run, rows_of(s.p, s.p->in), work_of(s.p), average_backward_row, (void *)&s);
}
