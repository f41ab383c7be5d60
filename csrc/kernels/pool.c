/* pool.c: maximum and average over windows of each channel alone; the average is in pool_average.c, a maximum's gradient
 * from taps in pool_taps.c.
 *
 *     W(p) = the cells p*stride - before + r*dilation of a window that lie inside the image
 *     max      y[p] = the first maximum of x over W(p) in scan order; the first NaN beats all;   dx[index[p]] += dy[p]
 *     average  y[p] = (sum of x over W(p)) / D(p);  dx[h] = sum over p with h in W(p) of dy[p] / D(p)
 *              D counts the window's cells in [-before, in + after) with count_include_pad, else those in [0, in)
 *
 * x[N][C][in], y[N][C][out] of any strides; index[N][C][out] is int64 in C order, flat in the input's spatial plane. What a
 * backward pass needs and no caller sees is a byte a window instead, its tap. The loops
 * below have channels as neighbours in memory; contiguous rows are pool_rows.h's, other orders come here plane by plane (planes.h). Forward and backward
 * overwrite. Source: mathematics 2.6. */
#include "ops.h"
#include "pool.h"

/* Cells from the one of tap 0 to that of a tap, in the flat plane. */
static long tap_cells(const struct cnn_pool *p, long tap)
{
    const long w = tap % p->window[2], h = tap / p->window[2] % p->window[1], d = tap / p->window[2] / p->window[1];
    return (d * p->dilation[0] * p->in[1] + h * p->dilation[1]) * p->in[2] + w * p->dilation[2];
}

/* The cells of a window that lie inside: where their channels begin, from the image's first cell, and their numbers as taps. */
enum { NEAR = 64 };
struct cells {
    long count, at[NEAR];
    bits tap[NEAR];
};

static long cell_at(const struct cnn_pool *p, const struct range r[3], long d, long h, long w)
{
    return (r[0].first + d * p->dilation[0]) * p->x[2] + (r[1].first + h * p->dilation[1]) * p->x[3] + (r[2].first + w * p->dilation[2]) * p->x[4];
}

static void find_cells(const struct cnn_pool *p, const struct range r[3], struct cells *cells)
{
    long count = 0;
    for (long d = r[0].begin; d < r[0].end; d++)
        for (long h = r[1].begin; h < r[1].end; h++)
            for (long w = r[2].begin; w < r[2].end; w++, count++) {
                cells->at[count] = cell_at(p, r, d, h, w);
                cells->tap[count] = (bits)((d * p->window[1] + h) * p->window[2] + w);
            }
    cells->count = count;
}

/* One vector of channels of one output cell: the maximum, and the number of the tap that won. `valid` lanes exist. */
ALWAYS_INLINE void max_near(const struct cells *cells, const real *image, long valid, real *y, bits *tap_of)
{
    vec best = vec_get(image + cells->at[0], valid);
    if (!tap_of) {
        mask nan = best != best;
        for (long i = 1; i < cells->count; i++) {
            const vec x = vec_get(image + cells->at[i], valid);
            nan |= x != x;
            best = vec_max(best, x);
        }
        vec_put(y, vec_select(nan, best + (vec)(nan | (mask)best), best), valid);
        return;
    }
    mask which = (mask){0} + cells->tap[0], numbers = best == best;
    for (long i = 1; i < cells->count; i++) {
        const vec x = vec_get(image + cells->at[i], valid);
        const mask better = beats(x, best, &numbers);
        best = vec_select(better, x, best);
        which = (better & cells->tap[i]) | (~better & which);
    }
    vec_put(y, best, valid);
    *(mask *)tap_of = which;
}

/* The same for a window of more cells than the list holds. */
static void max_far(const struct cnn_pool *p, const struct range r[3], const real *image, long valid, real *y, bits *tap_of)
{
    vec best = vec_get(image + cell_at(p, r, r[0].begin, r[1].begin, r[2].begin), valid);
    mask numbers = best == best, which = (mask){0} + (bits)((r[0].begin * p->window[1] + r[1].begin) * p->window[2] + r[2].begin);
    for (long d = r[0].begin; d < r[0].end; d++)
        for (long h = r[1].begin; h < r[1].end; h++)
            for (long w = r[2].begin; w < r[2].end; w++) {
                const vec x = vec_get(image + cell_at(p, r, d, h, w), valid);
                const mask better = beats(x, best, &numbers);
                best = vec_select(better, x, best);
                which = (better & (bits)((d * p->window[1] + h) * p->window[2] + w)) | (~better & which);
            }
    vec_put(y, best, valid);
    if (tap_of)
        *(mask *)tap_of = which;
}

enum { TABLE = 256 }; /* windows with more taps divide */

/* Winners of a row, [pixel][channel], to flat indices. */
static void store_indices(const struct pool *s, const bits *taps, long room, struct range rd, struct range rh, int64_t *index)
{
    const struct cnn_pool *p = s->p;
    const long plane = p->out[0] * p->out[1] * p->out[2], all = p->window[0] * p->window[1] * p->window[2];
    long table[TABLE];
    for (long t = 0; all <= TABLE && t < all; t++)
        table[t] = tap_cells(p, t);
    const long row = (rd.first * p->in[1] + rh.first) * p->in[2];
    for (long c = 0; c < p->c; c++)
        for (long w = 0; w < p->out[2]; w++) {
            const long tap = taps[w * room + c];
            index[c * plane + w] = row + s->columns[w].taps.first + (all <= TABLE ? table[tap] : tap_cells(p, tap));
        }
}

/* Reals of a pixel in the row of winners, which follows the columns in the scratch. */
static long taps_room(const struct cnn_pool *p) { return round_up(p->c, LANES); }
static size_t taps_bytes(const struct cnn_pool *p) { return spaced((size_t)(p->out[2] * taps_room(p)) * sizeof(bits)); }

static void max_row(void *context, long row, int worker)
{
    const struct pool *s = context;
    const struct cnn_pool *p = s->p;
    const long h = row % p->out[1], d = row / p->out[1] % p->out[0], n = row / p->out[1] / p->out[0], room = taps_room(p);
    struct range r[3] = {taps_inside(p, 0, d), taps_inside(p, 1, h)};
    const real *image = s->x + n * p->x[0];
    bits *taps = s->won.index || s->won.tap ? (bits *)((char *)s->scratch + (size_t)worker * taps_bytes(p)) : NULL;
    for (long w = 0; w < p->out[2]; w++) {
        r[2] = s->columns[w].taps;
        real *y = s->y + n * p->y[0] + d * p->y[2] + h * p->y[3] + w * p->y[4];
        bits *tap = taps ? taps + w * room : NULL;
        const long whole = p->c / LANES * LANES;
        if ((r[0].end - r[0].begin) * (r[1].end - r[1].begin) * (r[2].end - r[2].begin) > NEAR) {
            for (long c = 0; c < p->c; c += LANES)
                max_far(p, r, image + c, min_long(LANES, p->c - c), y + c, tap ? tap + c : NULL);
            continue;
        }
        struct cells cells;
        find_cells(p, r, &cells);
        for (long c = 0; c < whole; c += LANES)
            max_near(&cells, image + c, LANES, y + c, tap ? tap + c : NULL);
        if (whole < p->c)
            max_near(&cells, image + whole, p->c - whole, y + whole, tap ? tap + whole : NULL);
    }
    if (s->won.index)
        store_indices(s, taps, room, r[0], r[1], s->won.index + ((n * p->c * p->out[0] + d) * p->out[1] + h) * p->out[2]);
    for (long w = 0; s->won.tap && w < p->out[2]; w++) {
        uint8_t *to = s->won.tap + n * s->won.image + (row % (p->out[0] * p->out[1]) * p->out[2] + w) * s->won.apart;
        for (long c = 0; c < p->c; c++)
            to[c * s->won.channel] = (uint8_t)taps[w * room + c];
    }
}

static size_t max_scratch(const struct cnn_pool *p, int workers) { return columns_bytes(p) + (size_t)workers * taps_bytes(p); }

static void max_forward(const struct cnn_pool *p, const real *x, real *y, struct winners won, struct cnn_run *run)
{
    const struct pool s = start_pool(p, x, y, won, run->scratch);
    cnn_parallel_for(run, rows_of(p, p->out), work_of_pool(p), max_row, (void *)&s);
}

/* Gradients of one image's channels go back in scan order of the outputs. Cells of dx are zeroed shortly before they are needed. */
static void max_backward_channels(void *context, long block, int worker)
{
    (void)worker;
    const struct pool *s = context; /* x is dy, y is dx */
    const struct cnn_pool *p = s->p;
    const long groups = divide_up(p->c, SHARE), n = block / groups, begin = block % groups * SHARE, channels = min_long(SHARE, p->c - begin);
    const int dense = dense_plane(p);
    const long plane = p->out[0] * p->out[1] * p->out[2], cells = p->in[0] * p->in[1] * p->in[2];
    real *image = s->y + n * p->x[0] + begin;
    long zeroed = 0;
    for (long d = 0; d < p->out[0]; d++)
        for (long h = 0; h < p->out[1]; h++) {
            const real *dy = s->x + n * p->y[0] + d * p->y[2] + h * p->y[3] + begin;
            const int64_t *row = s->won.index + (n * p->c + begin) * plane + (d * p->out[1] + h) * p->out[2];
            const struct range r[3] = {taps_inside(p, 0, d), taps_inside(p, 1, h)};
            const long reach = reach_of(p, r);
            zero_cells(p, dense, zeroed, reach, channels, image);
            zeroed = max_long(zeroed, reach);
            for (long c0 = 0; c0 < channels; c0 += LINE) /* the cells of a line, before the next */
                for (long w = 0; w < p->out[2]; w++)
                    for (long c = c0; c < min_long(channels, c0 + LINE); c++) {
                        const long i = row[c * plane + w];
                        if (i >= zeroed) { /* the indices of another call may point anywhere in the plane */
                            zero_cells(p, dense, zeroed, i + 1, channels, image);
                            zeroed = i + 1;
                        }
                        image[place_of(p, dense, i) + c] += dy[w * p->y[4] + c];
                    }
        }
    zero_cells(p, dense, zeroed, cells, channels, image);
}

static void max_backward(const struct cnn_pool *p, const real *dy, real *dx, struct winners won, struct cnn_run *run)
{
    struct pool s = {.p = p, .x = dy, .y = dx, .won = won};
    const double work = (double)(p->n * p->c) * (double)(p->in[0] * p->in[1] * p->in[2]) * 0.5;
    cnn_parallel_for(run, p->n * divide_up(p->c, SHARE), work, max_backward_channels, &s);
}

static size_t no_scratch(const struct cnn_pool *p, int workers)
{
    (void)p, (void)workers;
    return 0;
}

static struct winners taps_at(const struct cnn_pool *p, uint8_t *tap)
{
    const long cells = p->out[0] * p->out[1] * p->out[2];
    return (struct winners){.tap = tap, .image = cells * p->c, .apart = p->planar ? 1 : p->c, .channel = p->planar ? cells : 1};
}

/* The entries: by rows where these are contiguous, the loops above where channels are neighbours, else the same plane by plane. */
#define POOL(name, rows, scratch, function, from_input, arrays_from, arrays_to, winners_of)                       \
    size_t FN(name##_scratch)(const void *problem, int workers)                                                   \
    {                                                                                                             \
        return FN(pool_scratch)(problem, (struct pool_ways){rows, scratch, function, from_input}, workers);       \
    }                                                                                                             \
    void FN(name)(const void *problem, void *const *array, struct cnn_run *run)                                   \
    {                                                                                                             \
        const struct pool_ways ways = {rows, scratch, function, from_input};                                      \
        FN(pool_run)(problem, ways, arrays_from, arrays_to, winners_of, run);                                     \
    }
#define INDEX(a) ((struct winners){.index = a})
#define TAPS(a) taps_at(problem, a)
POOL(max_pool_forward, &FN(max_of_rows), max_scratch, max_forward, 1, array[0], array[1], INDEX(array[2]))
POOL(max_pool_backward, &FN(max_of_rows_back), no_scratch, max_backward, 0, array[0], array[2], INDEX(array[1]))
POOL(max_pool_taps_forward, &FN(max_of_rows), max_scratch, max_forward, 1, array[0], array[1], TAPS(array[2]))
POOL(max_pool_taps_backward, &FN(max_of_rows_back), FN(taps_scratch), FN(taps_backward), 0, array[0], array[2], TAPS(array[1]))
POOL(avg_pool_backward, &FN(average_of_rows_back), FN(average_scratch), FN(average_backward), 0, array[0], array[1], INDEX(NULL))

static const struct pool_ways average = {&FN(average_of_rows), FN(average_scratch), FN(average_forward), 1};
size_t FN(avg_pool_forward_scratch)(const void *problem, int workers)
{
    return FN(whole_planes)(problem) ? 0 : FN(pool_scratch)(problem, average, workers);
}
void FN(avg_pool_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    if (FN(whole_planes)(problem))
        FN(average_whole)(problem, array[0], array[1], run);
    else
        FN(pool_run)(problem, average, array[0], array[1], INDEX(NULL), run);
}
