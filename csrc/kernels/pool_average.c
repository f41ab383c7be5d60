/* pool_average.c: averages over windows where channels are neighbours, and their gradients, as pool.c defines them. */
#include "pool.h"

/* Averages work on whole rows of pixels, so that few channels fill the lanes too: a row of sums over the window's rows, then
 * sums of its neighbouring pixels. A vector that starts at a pixel's channels may reach into the next pixels; the reals
 * beyond are written again by those, or are the slack at the row's end. */
static long row_room(const struct cnn_pool *p) { return round_up(max_long(p->in[2], p->out[2]) * p->c, LANES) + LANES + p->c; }

/* Gradients of few channels and windows that overlap: the shares of rows of windows that reach one row, where they are not too many. */
enum { MOST_SHARES = (512 << 10) / (int)sizeof(real) };
static long share_room(const struct cnn_pool *p)
{
    double reals = (double)p->out[2] * LANES;
    for (int a = 0; a < 2; a++)
        reals *= (double)(!p->adaptive ? divide_up(p->window[a], p->stride[a]) : p->out[a] > p->in[a] ? divide_up(p->out[a], p->in[a]) + 1 : 2);
    return p->c < LANES && reals <= MOST_SHARES ? (long)reals : 0;
}
static long worker_room(const struct cnn_pool *p) { return spaced_reals(max_long(share_room(p), 2 * row_room(p))); }

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
    real *sums = s->scratch + worker * worker_room(p), *means = sums + row_room(p);
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

size_t FN(average_scratch)(const struct cnn_pool *p, int workers) { return columns_bytes(p) + (size_t)(worker_room(p) * workers) * sizeof(real); }

void FN(average_forward)(const struct cnn_pool *p, const real *x, real *y, struct winners won, struct cnn_run *run)
{
    (void)won;
    const struct pool s = start_pool(p, x, y, (struct winners){0}, run->scratch);
    cnn_parallel_for(run, rows_of(p, p->out), work_of_pool(p), average_row, (void *)&s);
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

/* A row of dx of few channels from the windows [low, high] that reach it, which overlap: their shares, a vector each, then every pixel's sum of
 * them in scan order. (Adding to what was just stored would wait for it.) */
static void gather_shares(const struct pool *s, const long low[2], const long high[2], const real *dy, real *shares, real *dx)
{
    const struct cnn_pool *p = s->p;
    long rows = 0;
    for (long d = low[0]; d <= high[0]; d++)
        for (long h = low[1]; h <= high[1]; h++, rows++) {
            const long cells = divisor(p, 0, d) * divisor(p, 1, h);
            for (long w = 0; w < p->out[2]; w++)
                vec_store(shares + (rows * p->out[2] + w) * LANES,
                          vec_load_part(dy + d * p->y[2] + h * p->y[3] + w * p->y[4], p->c) / vec_fill((real)(cells * s->columns[w].cells)));
        }
    const int dense = p->x[4] == p->c;
    const long many = dense ? LANES / p->c : 1; /* pixels of a vector */
    for (long i = 0, first = 0, last = -1; i < p->in[2];) {
        while (first < p->out[2] && s->columns[first].taps.first + s->columns[first].taps.end <= i)
            first++;
        while (last + 1 < p->out[2] && s->columns[last + 1].taps.first + s->columns[last + 1].taps.begin <= i)
            last++;
        long end = first < p->out[2] ? s->columns[first].taps.first + s->columns[first].taps.end : p->in[2]; /* of the pixels in these windows */
        if (last + 1 < p->out[2])
            end = min_long(end, s->columns[last + 1].taps.first + s->columns[last + 1].taps.begin);
        vec sum = {0};
        for (long r = 0; r < rows; r++)
            for (long w = first; w <= last; w++)
                sum = sum + vec_load(shares + (r * p->out[2] + w) * LANES);
        if (many > 1 && end > i + 1) {
            real alike[2 * LANES];
            for (long k = 0; k < many; k++)
                vec_store(alike + k * p->c, sum);
            RELOAD;
            sum = vec_load(alike);
        }
        for (; i < end; i += many) {
            const long reals = min_long(many, end - i) * p->c;
            if (dense && (p->in[2] - i) * p->c >= LANES)
                vec_store(dx + i * p->c, sum); /* what it writes behind its pixels is written again */
            else
                vec_put(dx + i * p->x[4], sum, reals);
        }
        i = end;
    }
}

/* One row of dx gathers from the rows of dy whose windows reach it, in scan order. */
static void average_backward_row(void *context, long row, int worker)
{
    const struct pool *s = context; /* x is dy, y is dx */
    const struct cnn_pool *p = s->p;
    const long cell[2] = {row / p->in[1] % p->in[0], row % p->in[1]}, n = row / p->in[1] / p->in[0], channels = p->c;
    real *dy = s->scratch + worker * worker_room(p), *dx = dy + row_room(p);
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
    if (!apart && share_room(p)) {
        gather_shares(s, low, high, s->x + n * p->y[0], dy, s->y + n * p->x[0] + cell[0] * p->x[2] + cell[1] * p->x[3]);
        return;
    }
    /* Rows of whole vectors are read and written where they lie. */
    real *const row_of_dx = s->y + n * p->x[0] + cell[0] * p->x[2] + cell[1] * p->x[3];
    const int dy_dense = whole == channels && p->y[4] == channels, dx_dense = whole == channels && p->x[4] == channels;
    if (dx_dense)
        dx = row_of_dx;
    memset(dx, 0, (size_t)(dx_dense ? p->in[2] * channels : row_room(p)) * sizeof(real));
    for (long d = low[0]; d <= high[0]; d++)
        for (long h = low[1]; h <= high[1]; h++) {
            const long cells = divisor(p, 0, d) * divisor(p, 1, h);
            const real *from = s->x + n * p->y[0] + d * p->y[2] + h * p->y[3];
            if (!dy_dense) {
                load_row(from, p->out[2], channels, p->y[4], dy, 0);
                from = dy;
            }
            for (long w = 0; w < p->out[2]; w++) {
                const struct range r = s->columns[w].taps;
                const vec by = vec_fill((real)(cells * s->columns[w].cells));
                real *first = dx + (r.first + r.begin) * channels;
                const long taps = r.end - r.begin;
                for (long c = 0; !apart && c < channels; c += LANES) {
                    vec share = vec_load(from + w * channels + c) / by;
                    if (c == whole) /* lanes of the next pixel get nothing */
                        share = vec_select(rest, share, (vec){0});
                    for (long k = 0; k < taps; k++)
                        vec_store(first + k * channels + c, vec_load(first + k * channels + c) + share);
                }
                for (long k = 0; apart && k < taps; k++)
                    for (long c = 0; c < channels; c += LANES) { /* what reaches into the next pixel is written over later */
                        const vec share = vec_load(from + w * channels + c) / by;
                        vec_store(first + k * channels + c, c == whole ? vec_select(rest, share, (vec){0}) : share);
                    }
            }
        }
    if (!dx_dense)
        store_row(dx, p->in[2], channels, p->x[4], row_of_dx);
}

void FN(average_backward)(const struct cnn_pool *p, const real *dy, real *dx, struct winners won, struct cnn_run *run)
{
    (void)won;
    const struct pool s = start_pool(p, dy, dx, (struct winners){0}, run->scratch);
    cnn_parallel_for(run, rows_of(p, p->in), work_of_pool(p), average_backward_row, (void *)&s);
}

