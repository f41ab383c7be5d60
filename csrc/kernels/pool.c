/* pool.c: maximum and average over windows of each channel alone.
 *
 *     W(p) = the cells p*stride - before + r*dilation of a window that lie inside the image
 *     max      y[p] = the first maximum of x over W(p) in scan order; the first NaN beats all;   dx[index[p]] += dy[p]
 *     average  y[p] = (sum of x over W(p)) / D(p);  dx[h] = sum over p with h in W(p) of dy[p] / D(p)
 *              D counts the window's cells in [-before, in + after) with count_include_pad, else those in [0, in)
 *
 * x[N][C][in], y[N][C][out] of any strides; index[N][C][out] is int64 in C order, flat in the input's spatial plane. What a
 * backward pass needs and no caller sees is a byte a window instead, its tap. The loops
 * below have channels as neighbours in memory; contiguous rows are pool_rows.c's, other orders come here plane by plane (planes.h). Forward and backward
 * overwrite. Source: mathematics 2.6. */
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
    struct winners won;
    const struct column *columns;
    real *scratch; /* of averages: two rows a worker */
};

static size_t columns_bytes(const struct cnn_pool *p) { return (size_t)round_up(p->out[2] * (long)sizeof(struct column), 64); }

static struct pool start(const struct cnn_pool *p, const real *x, real *y, struct winners won, char *scratch)
{
    struct column *columns = (struct column *)scratch;
    for (long w = 0; w < p->out[2]; w++)
        columns[w] = (struct column){taps_inside(p, 2, w), divisor(p, 2, w)};
    return (struct pool){p, x, y, won, columns, (real *)(scratch + columns_bytes(p))};
}

static long rows_of(const struct cnn_pool *p, const long cells[3]) { return p->n * cells[0] * cells[1]; }
static double work_of(const struct cnn_pool *p)
{
    return (double)(p->n * p->c) * (double)(p->out[0] * p->out[1] * p->out[2]) * (double)(p->window[0] * p->window[1] * p->window[2]) * 0.3;
}

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

/* A later value wins where it is larger, or the first NaN. */
ALWAYS_INLINE mask beats(vec x, vec best) { return (x > best) | ((x != x) & (best == best)); }

/* One vector of channels of one output cell: the maximum, and the number of the tap that won. `valid` lanes exist. */
ALWAYS_INLINE void max_near(const struct cells *cells, const real *image, long valid, real *y, bits *tap_of)
{
    vec best = vec_get(image + cells->at[0], valid);
    if (!tap_of) {
        mask nan = best != best;
        for (long i = 1; i < cells->count; i++) {
            const vec x = vec_get(image + cells->at[i], valid);
            nan |= x != x;
            best = vec_select(best > x, best, x);
        }
        vec_put(y, vec_select(nan, best + (vec)(nan | (mask)best), best), valid);
        return;
    }
    mask which = (mask){0} + cells->tap[0];
    for (long i = 1; i < cells->count; i++) {
        const vec x = vec_get(image + cells->at[i], valid);
        const mask better = beats(x, best);
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
    mask which = (mask){0} + (bits)((r[0].begin * p->window[1] + r[1].begin) * p->window[2] + r[2].begin);
    for (long d = r[0].begin; d < r[0].end; d++)
        for (long h = r[1].begin; h < r[1].end; h++)
            for (long w = r[2].begin; w < r[2].end; w++) {
                const vec x = vec_get(image + cell_at(p, r, d, h, w), valid);
                const mask better = beats(x, best);
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
static size_t taps_bytes(const struct cnn_pool *p) { return (size_t)round_up(p->out[2] * taps_room(p) * (long)sizeof(bits), 64); }

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
    const struct pool s = start(p, x, y, won, run->scratch);
    cnn_parallel_for(run, rows_of(p, p->out), work_of(p), max_row, (void *)&s);
}

enum { LINE = 64 / (int)sizeof(real) }; /* reals of a cache line */

/* Every cell lies in just one window. */
static int covers(const struct cnn_pool *p)
{
    for (int a = 0; a < 3; a++)
        if (p->adaptive || p->window[a] != p->stride[a] || p->dilation[a] != 1 || p->before[a] != 0 || p->out[a] * p->stride[a] < p->in[a])
            return 0;
    return 1;
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

/* Gradients of one image's channels by their windows' taps: every cell of a window adds dy where its tap won. A tap beyond the
 * window, which no forward writes, adds nothing. */
ALWAYS_INLINE void add_where(real *to, vec dy, mask tap, bits k, long valid, int covered)
{
    vec share = (vec)((tap == (mask){0} + k) & (mask)dy);
    if (!covered)
        share = vec_get(to, valid) + share;
    vec_put(to, share, valid);
}

ALWAYS_INLINE mask taps_of(const uint8_t *tap, long valid)
{
    mask m = {0};
    for (long v = 0; v < valid; v++)
        m[v] = tap[v];
    return m;
}

ALWAYS_INLINE mask taps_of_all(const uint8_t *tap)
{
    typedef uint8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));
    return __builtin_convertvector(*(const bytes *)tap, mask);
}

enum { COMPARED = 16 }; /* windows of more cells are not searched for the one that won */

/* dy of one window goes to the cells of its channels' taps. */
static void add_window(const struct cnn_pool *p, const struct range r[3], const real *dy, const uint8_t *tap, long channels, int covered, real *image)
{
    const long whole = channels / LANES * LANES;
    struct cells cells;
    if ((r[0].end - r[0].begin) * (r[1].end - r[1].begin) * (r[2].end - r[2].begin) <= COMPARED) {
        find_cells(p, r, &cells);
        for (long c = 0; c < whole; c += LANES) {
            const vec g = vec_load(dy + c);
            const mask t = taps_of_all(tap + c);
            for (long i = 0; i < cells.count; i++)
                add_where(image + cells.at[i] + c, g, t, cells.tap[i], LANES, covered);
        }
        for (long i = 0; whole < channels && i < cells.count; i++)
            add_where(image + cells.at[i] + whole, vec_get(dy + whole, channels - whole), taps_of(tap + whole, channels - whole), cells.tap[i], channels - whole, covered);
        return;
    }
    long at[TABLE];
    for (long t = 0; t < TABLE; t++)
        at[t] = -1; /* taps that the window lacks */
    for (long d = r[0].begin; d < r[0].end; d++)
        for (long h = r[1].begin; h < r[1].end; h++)
            for (long w = r[2].begin; w < r[2].end; w++)
                at[(d * p->window[1] + h) * p->window[2] + w] = cell_at(p, r, d, h, w);
    for (long c = 0; c < channels; c++)
        if (at[tap[c]] >= 0)
            image[at[tap[c]] + c] += dy[c];
}

static void taps_backward_channels(void *context, long block, int worker)
{
    (void)worker;
    const struct pool *s = context; /* x is dy, y is dx */
    const struct cnn_pool *p = s->p;
    const long groups = divide_up(p->c, SHARE), n = block / groups, begin = block % groups * SHARE, channels = min_long(SHARE, p->c - begin);
    const long cells = p->in[0] * p->in[1] * p->in[2];
    const int dense = dense_plane(p), covered = covers(p) && p->window[0] * p->window[1] * p->window[2] <= COMPARED;
    real *image = s->y + n * p->x[0] + begin;
    long zeroed = covered ? cells : 0;
    for (long d = 0; d < p->out[0]; d++)
        for (long h = 0; h < p->out[1]; h++) {
            const real *dy = s->x + n * p->y[0] + d * p->y[2] + h * p->y[3] + begin;
            const uint8_t *row = s->won.tap + n * s->won.image + (d * p->out[1] + h) * p->out[2] * s->won.apart + begin * s->won.channel;
            struct range r[3] = {taps_inside(p, 0, d), taps_inside(p, 1, h)};
            if (!covered) {
                const long reach = reach_of(p, r);
                zero_cells(p, dense, zeroed, reach, channels, image);
                zeroed = max_long(zeroed, reach);
            }
            for (long w = 0; w < p->out[2]; w++) {
                r[2] = taps_inside(p, 2, w);
                const uint8_t *tap = row + w * s->won.apart;
                uint8_t side_by_side[SHARE];
                if (s->won.channel != 1) {
                    for (long c = 0; c < channels; c++)
                        side_by_side[c] = tap[c * s->won.channel];
                    tap = side_by_side;
                }
                add_window(p, r, dy + w * p->y[4], tap, channels, covered, image);
            }
        }
    zero_cells(p, dense, zeroed, cells, channels, image);
}

static void taps_backward(const struct cnn_pool *p, const real *dy, real *dx, struct winners won, struct cnn_run *run)
{
    struct pool s = {.p = p, .x = dy, .y = dx, .won = won};
    const double work = (double)(p->n * p->c) * (double)(p->in[0] * p->in[1] * p->in[2]) * 0.5;
    cnn_parallel_for(run, p->n * divide_up(p->c, SHARE), work, taps_backward_channels, &s);
}

static size_t no_scratch(const struct cnn_pool *p, int workers)
{
    (void)p, (void)workers;
    return 0;
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

/* Windows that share no columns need no row of sums: a pixel's channels are summed as the row would be, down, then across. */
ALWAYS_INLINE void average_window(const struct cnn_pool *p, const real *x, const long deep, const long tall, const long wide, real by, real *y)
{
    const int halves = (by == 2) | (by == 4) | (by == 8) | (by == 16); /* whose quotients are products */
    const vec divisor = vec_fill(by), factor = vec_fill(1 / by);
    for (long c = 0; c < p->c; c += LANES) {
        vec sum = {0};
        for (long k = 0; k < wide; k++) {
            const real *from = x + k * p->x[4] + c;
            vec down = vec_load(from);
            for (long i = 0; i < deep; i++)
                for (long j = i ? 0 : 1; j < tall; j++)
                    down = down + vec_load(from + i * p->x[2] + j * p->x[3]);
            sum = sum + down;
        }
        vec_store(y + c, halves ? sum * factor : sum / divisor);
    }
}

static void average_windows(const struct pool *s, struct range r0, struct range r1, long cells, const real *x, real *y)
{
    const struct cnn_pool *p = s->p;
    const long deep = r0.end - r0.begin, tall = r1.end - r1.begin;
    x += (r0.first + r0.begin) * p->x[2] + (r1.first + r1.begin) * p->x[3];
    for (long w = 0; w < p->out[2]; w++) {
        const struct range r2 = s->columns[w].taps;
        const real *from = x + (r2.first + r2.begin) * p->x[4], by = (real)(cells * s->columns[w].cells);
        real *to = y + w * p->y[4];
        const long wide = r2.end - r2.begin;
        if (deep == 1 && tall == 2 && wide == 2)
            average_window(p, from, 1, 2, 2, by, to);
        else if (wide > 0)
            average_window(p, from, deep, tall, wide, by, to);
        else
            memset(to, 0, (size_t)p->c * sizeof(real));
    }
}

static void average_row(void *context, long row, int worker)
{
    const struct pool *s = context;
    const struct cnn_pool *p = s->p;
    const long h = row % p->out[1], d = row / p->out[1] % p->out[0], n = row / p->out[1] / p->out[0], channels = p->c;
    const struct range r0 = taps_inside(p, 0, d), r1 = taps_inside(p, 1, h);
    const long cells = divisor(p, 0, d) * divisor(p, 1, h);
    real *sums = s->scratch + 2 * worker * row_room(p), *means = sums + row_room(p);
    if (channels % LANES == 0 && !p->adaptive && p->window[2] <= p->stride[2] && r0.begin < r0.end && r1.begin < r1.end) {
        average_windows(s, r0, r1, cells, s->x + n * p->x[0], s->y + n * p->y[0] + d * p->y[2] + h * p->y[3]);
        return;
    }
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

static size_t row_scratch(const struct cnn_pool *p, int workers) { return columns_bytes(p) + (size_t)(2 * row_room(p) * workers) * sizeof(real); }

static void average_forward(const struct cnn_pool *p, const real *x, real *y, struct winners won, struct cnn_run *run)
{
    (void)won;
    const struct pool s = start(p, x, y, (struct winners){0}, run->scratch);
    cnn_parallel_for(run, rows_of(p, p->out), work_of(p), average_row, (void *)&s);
}

static void zero_pixels(const struct cnn_pool *p, long begin, long end, real *dx)
{
    for (long w = begin; w < end; w++)
        memset(dx + w * p->x[4], 0, (size_t)p->c * sizeof(real));
}

/* A row of dx that one row of windows reaches at most, none of which share a column: every share is written where it belongs. */
static void write_shares(const struct pool *s, long cells, const real *dy, real *dx)
{
    const struct cnn_pool *p = s->p;
    long done = 0;
    for (long w = 0; dy && w < p->out[2]; w++) {
        const struct range r = s->columns[w].taps;
        const long begin = r.first + r.begin, end = r.first + r.end;
        if (end <= begin)
            continue;
        const vec by = vec_fill((real)(cells * s->columns[w].cells));
        zero_pixels(p, done, begin, dx);
        for (long c = 0; c < p->c; c += LANES) {
            const vec share = vec_load(dy + w * p->y[4] + c) / by;
            for (long i = begin; i < end; i++)
                vec_store(dx + i * p->x[4] + c, share);
        }
        done = max_long(done, end);
    }
    zero_pixels(p, done, p->in[2], dx);
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
    if (apart && whole == channels) {
        const int any = low[0] <= high[0] && low[1] <= high[1];
        const long d = low[0], h = low[1];
        write_shares(s, any ? divisor(p, 0, d) * divisor(p, 1, h) : 1, any ? s->x + n * p->y[0] + d * p->y[2] + h * p->y[3] : NULL,
                     s->y + n * p->x[0] + cell[0] * p->x[2] + cell[1] * p->x[3]);
        return;
    }
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

static void average_backward(const struct cnn_pool *p, const real *dy, real *dx, struct winners won, struct cnn_run *run)
{
    (void)won;
    const struct pool s = start(p, dy, dx, (struct winners){0}, run->scratch);
    cnn_parallel_for(run, rows_of(p, p->in), work_of(p), average_backward_row, (void *)&s);
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
POOL(max_pool_taps_backward, &FN(max_of_rows_back), no_scratch, taps_backward, 0, array[0], array[2], TAPS(array[1]))
POOL(avg_pool_forward, &FN(average_of_rows), row_scratch, average_forward, 1, array[0], array[1], INDEX(NULL))
POOL(avg_pool_backward, &FN(average_of_rows_back), row_scratch, average_backward, 0, array[0], array[1], INDEX(NULL))
