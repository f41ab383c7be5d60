/* pool_rows_max.c: maxima over windows of images whose rows are contiguous, and their gradients. */
#include "pool_rows.h"

#include <limits.h>

enum { NEAR = 64, FEWEST = LANES / 4 > 2 ? LANES / 4 : 2 }; /* cells of a window at most; columns of a row at least, where a vector of them is one load or two */

static int max_takes(const struct cnn_pool *p)
{
    if (p->x[4] != 1 || p->y[4] != 1 || !plain_possible(p))
        return 0;
    /* Rows of few windows that overlap: faster with channels in the lanes. Measured. */
    const long narrow = p->window[2] <= p->stride[2] || p->c < LANES ? p->n * p->c < LANES ? 0 : LANES / 2 + 1 : p->stride[2] == 1 || p->window[2] > 4 ? 2 * LANES : LANES;
    if (p->out[2] < narrow)
        return 0;
    const struct cnn_pool q = plain(p);
    long low, high;
    inside(&q, &low, &high);
    const double reach = (double)((q.window[0] - 1) * q.dilation[0]) * (double)(q.in[1] * q.in[2]) + (double)((q.window[1] - 1) * q.dilation[1]) * (double)q.in[2] +
                         (double)((q.window[2] - 1) * q.dilation[2]);
    return high - low >= (q.stride[2] <= 2 ? FEWEST : LANES) && q.window[0] * q.window[1] * q.window[2] <= NEAR && reach < 0x7fffffff;
}

struct near {
    long count, at[NEAR]; /* from the first cell of the window's rows that lie inside, in memory */
    bits name[NEAR];      /* the cell's distance in the plane from there, or its number in the window */
};

/* Where the winners of a row of windows go: indices, or taps. */
struct winner_row {
    int64_t *index;
    uint8_t *tap;
    long apart;
};

/* Columns w .. w + n; the lanes beyond n are read, too. */
ALWAYS_INLINE void max_columns(const struct near *t, const real *x, const long step, const int count, int64_t first, real *y, struct winner_row to, long w, const long n)
{
    const long cells = count ? count : t->count;
    vec best = vec_load_apart(x + t->at[0], step);
    if (!to.index && !to.tap) {
        mask nan = best != best;
        for (long i = 1; i < cells; i++) {
            const vec v = vec_load_apart(x + t->at[i], step);
            nan |= v != v;
            best = vec_max(best, v);
        }
        vec_put(y, vec_select(nan, best + (vec)(nan | (mask)best), best), n);
        return;
    }
    mask which = (mask){0} + t->name[0], numbers = best == best;
    for (long i = 1; i < cells; i++) {
        const vec v = vec_load_apart(x + t->at[i], step);
        const mask better = beats(v, best, &numbers);
        best = vec_select(better, v, best);
        which = (better & t->name[i]) | (~better & which);
    }
    vec_put(y, best, n);
    if (to.index) {
        for (int i = 0; i < n; i++)
            to.index[w + i] = first + i * step + which[i];
        return;
    }
    if (to.apart == 1 && n == LANES)
        taps_store(to.tap + w, which);
    else
        for (int i = 0; i < n; i++)
            to.tap[(w + i) * to.apart] = (uint8_t)which[i];
}

/* The columns inside; the last vector begins early where they are no multiple of its lanes, or ends late where they are few. */
ALWAYS_INLINE void max_inside(const struct near *t, const real *x, const long step, const int count, long low, long high, int64_t first, real *y, struct winner_row to)
{
    if (high <= low)
        return;
    if (high - low < LANES) {
        max_columns(t, x + low * step, step, count, first + low * step, y + low, to, low, high - low);
        return;
    }
    for (long w = low;; w = min_long(w + LANES, high - LANES)) {
        max_columns(t, x + w * step, step, count, first + w * step, y + w, to, w, LANES);
        if (w + LANES >= high)
            return;
    }
}

static void max_cell(const struct rows *s, const struct range r[3], const real *plane, real *y, struct winner_row to, long column)
{
    const struct cnn_pool *p = s->p;
    const int named = to.index || to.tap;
    real best = 0;
    long at = -1, tap = 0;
    for (long d = r[0].begin; d < r[0].end; d++)
        for (long h = r[1].begin; h < r[1].end; h++)
            for (long w = r[2].begin; w < r[2].end; w++) {
                const long i = r[0].first + d * p->dilation[0], j = r[1].first + h * p->dilation[1], k = r[2].first + w * p->dilation[2];
                const real v = plane[i * p->x[2] + j * p->x[3] + k];
                if (at < 0 || (named ? v > best || (v != v && best == best) : best == best && !(best > v)))
                    best = v, at = (i * p->in[1] + j) * p->in[2] + k, tap = (d * s->named[1] + h) * s->named[2] + w;
            }
    y[column] = best;
    if (to.index)
        to.index[column] = at;
    else if (to.tap)
        to.tap[column * to.apart] = (uint8_t)tap;
}

static void find_near(const struct rows *s, const struct range r[3], struct near *t)
{
    const struct cnn_pool *p = s->p;
    t->count = 0;
    for (long i = r[0].begin; i < r[0].end; i++)
        for (long j = r[1].begin; j < r[1].end; j++)
            for (long k = 0; k < p->window[2]; k++, t->count++) {
                const long d = (i - r[0].begin) * p->dilation[0], h = (j - r[1].begin) * p->dilation[1], w = k * p->dilation[2];
                t->at[t->count] = d * p->x[2] + h * p->x[3] + w;
                t->name[t->count] = (bits)(s->won.tap ? (i * s->named[1] + j) * s->named[2] + k : (d * p->in[1] + h) * p->in[2] + w);
            }
}

static int same_range(struct range a, struct range b) { return a.begin == b.begin && a.end == b.end; }

static struct winner_row winner_row(const struct rows *s, struct place at, long row)
{
    const struct cnn_pool *p = s->p;
    struct winner_row to = {0};
    if (s->won.index)
        to.index = s->won.index + row * p->out[2];
    if (s->won.tap)
        to.tap = s->won.tap + at.n * s->won.image + at.c * s->won.channel + (at.d * p->out[1] + at.h) * p->out[2] * s->won.apart, to.apart = s->won.apart;
    return to;
}

/* Whether a whole vector of the columns from `low` on can be read where there are fewer: not behind the last row of x. */
static int readable(const struct rows *s, const struct near *t, const real *x)
{
    const struct cnn_pool *p = s->p;
    if (s->high - s->low >= LANES)
        return 1;
    if (p->x[2] < 0 || p->x[3] < 0 || t->count == 0)
        return 0;
    const real *last = s->x + p->in[2] - 1;
    const long cells[4] = {p->n, p->c, p->in[0], p->in[1]};
    for (int i = 0; i < 4; i++)
        last += max_long(0, (cells[i] - 1) * p->x[i]);
    return last - x >= t->at[t->count - 1] + (s->low + LANES - 1) * p->stride[2];
}

static void max_rows(void *context, long block, int worker)
{
    (void)worker;
    const struct rows *s = context;
    const struct cnn_pool *p = s->p;
    const long first_row = block * s->many, end = min_long(first_row + s->many, row_count(p, p->out)), step = p->stride[2];
    struct place at = place_of_row(p, p->out, first_row);
    struct near t = {.count = 0};
    struct range listed[2] = {{0, 0, 0}, {0, 0, 0}}; /* whose cells t has */
    for (long row = first_row; row < end; row++, next_row(p, p->out, &at)) {
        struct range r[3] = {s->lines[0][at.d].taps, s->lines[1][at.h].taps};
        if (!same_range(r[0], listed[0]) || !same_range(r[1], listed[1])) {
            find_near(s, r, &t);
            listed[0] = r[0], listed[1] = r[1];
        }
        const real *plane = s->x + at.n * p->x[0] + at.c * p->x[1];
        real *y = s->y + at.n * p->y[0] + at.c * p->y[1] + at.d * p->y[2] + at.h * p->y[3];
        const struct winner_row to = winner_row(s, at, row);
        const long i = r[0].first + r[0].begin * p->dilation[0], j = r[1].first + r[1].begin * p->dilation[1];
        const real *x = plane + i * p->x[2] + j * p->x[3] - p->before[2];
        const int64_t first = (i * p->in[1] + j) * p->in[2] - p->before[2];
        const int any = readable(s, &t, x);
        const long low = any ? s->low : 0, high = any ? s->high : 0;
        if (step == 2 && t.count == 4)
            max_inside(&t, x, 2, 4, low, high, first, y, to);
        else if (step == 2 && t.count == 8)
            max_inside(&t, x, 2, 8, low, high, first, y, to);
        else if (step == 2 && t.count == 9)
            max_inside(&t, x, 2, 9, low, high, first, y, to);
        else if (step == 2)
            max_inside(&t, x, 2, 0, low, high, first, y, to);
        else if (step == 1)
            max_inside(&t, x, 1, 0, low, high, first, y, to);
        else
            max_inside(&t, x, step, 0, low, high, first, y, to);
        for (long w = 0; w < p->out[2]; w++) {
            if (w == low)
                w = high;
            if (w == p->out[2])
                break;
            r[2] = s->columns[w].taps;
            max_cell(s, r, plane, y, to, w);
        }
    }
}

static size_t max_rows_scratch(const struct cnn_pool *p, int workers)
{
    (void)workers;
    return lines_bytes(p->out);
}

static void max_rows_forward(const struct cnn_pool *problem, const real *x, real *y, struct winners won, struct cnn_run *run)
{
    const struct cnn_pool p = plain(problem);
    struct rows s = start_rows(&p, p.out, 0, x, y, run->scratch, 0);
    s.won = won, s.named = problem->window;
    run_rows(&s, p.out, max_rows, run);
}

/* Gradients of whole planes: zeroed, then every window adds to the cell that won, which is in the first cache by then. Few channels
 * side by side are taken one by one, too. */
static int max_return_takes(const struct cnn_pool *p) { return dense_plane(p); }

/* Adds the windows [w, end) of a row, whose first window begins `first` reals behind the plane's first cell, or in front of it; `last`: behind its last one.
 * bounds: along the other axes, where taps may lie outside the image, else NULL. */
ALWAYS_INLINE void return_taps(const struct rows *s, const struct tap_table *table, const struct tap_bounds *bounds, long first, long w, long end, const real *dy, const long across,
                               const uint8_t *tap, const long apart, unsigned long last, real *plane)
{
    const long cell = s->p->x[4], step = s->p->stride[2];
    for (; w < end; w++) {
        const long t = tap[w * apart];
        long column = w * step - s->p->before[2];
        if (bounds) {
            const struct range r = s->columns[w].taps;
            if (!tap_inside(table->tap[t].place, both_bounds(*bounds, bounds_along(r, 2))))
                continue;
            column = r.first;
        }
        const unsigned long i = (unsigned long)(first + table->tap[t].at + column * cell);
        if (i < last)
            plane[i] += dy[w * across];
    }
}

/* Adds a row of windows: those that lie inside without a look at their taps' places. */
ALWAYS_INLINE void return_row(const struct rows *s, const struct tap_table *table, struct range d, struct range h, const real *dy, const long across, const uint8_t *tap, const long apart,
                              real *plane)
{
    const struct cnn_pool *p = s->p;
    const unsigned long last = (unsigned long)(p->in[0] * p->in[1] * p->in[2] * p->x[4]);
    const long first = (d.first * p->in[1] + h.first) * p->in[2] * p->x[4];
    const int whole = d.end - d.begin == p->window[0] && h.end - h.begin == p->window[1];
    const long low = whole ? s->low : 0, high = whole ? s->high : 0;
    const struct tap_bounds bounds = both_bounds(bounds_along(d, 0), bounds_along(h, 1));
    return_taps(s, table, &bounds, first, 0, low, dy, across, tap, apart, last, plane);
    return_taps(s, table, NULL, first, low, high, dy, across, tap, apart, last, plane);
    return_taps(s, table, &bounds, first, high, p->out[2], dy, across, tap, apart, last, plane);
}

/* Channels of an image, all of them, lie between two pixels. */
static int side_by_side(const struct cnn_pool *p) { return p->x[1] == 1 && p->x[4] == p->c; }

static void zero_plane(const struct cnn_pool *p, long c, long cells, real *dx)
{
    if (p->x[4] == 1)
        memset(dx, 0, (size_t)cells * sizeof(real));
    else if (!side_by_side(p))
        for (long i = 0; i < cells; i++)
            dx[i * p->x[4]] = 0;
    else if (c == 0) /* the image's others follow in this block */
        memset(dx, 0, (size_t)(cells * p->c) * sizeof(real));
}

/* A plane with room around it for what windows hold outside: none where all lie inside, or are not alike. */
struct roomy {
    long before[3], cells[3];
};
enum { ROOMY = 16384 / sizeof(real) }; /* reals at most */

static struct roomy make_roomy(const struct cnn_pool *p)
{
    struct roomy r;
    for (int a = 0; a < 3; a++) {
        const long last = (p->out[a] - 1) * p->stride[a] - p->before[a] + (p->window[a] - 1) * p->dilation[a];
        r.before[a] = p->adaptive ? 0 : p->before[a];
        r.cells[a] = p->in[a] + r.before[a] + (p->adaptive ? 0 : max_long(0, last + 1 - p->in[a]));
    }
    return r;
}
static long roomy_cells(struct roomy r) { return r.cells[0] * r.cells[1] * r.cells[2]; }
static int fits(const struct cnn_pool *p, struct roomy r)
{
    const long cells = p->in[0] * p->in[1] * p->in[2];
    return roomy_cells(r) == cells || (p->x[4] == 1 && roomy_cells(r) <= ROOMY);
}

/* Adds the windows of a plane whose cells lie `cell` apart, all of which have room there. */
ALWAYS_INLINE void return_plane(const struct rows *s, const struct tap_table *table, struct roomy r, const long cell, const real *dy, const long across, const uint8_t *tap, const long apart,
                                real *plane)
{
    const struct cnn_pool *p = s->p;
    const unsigned long last = (unsigned long)(roomy_cells(r) * cell);
    for (long d = 0; d < p->out[0]; d++)
        for (long h = 0; h < p->out[1]; h++, tap += p->out[2] * apart) {
            const long first = ((s->lines[0][d].taps.first + r.before[0]) * r.cells[1] + s->lines[1][h].taps.first + r.before[1]) * r.cells[2] * cell;
            const real *from = dy + d * p->y[2] + h * p->y[3];
            for (long w = 0; w < p->out[2]; w++) {
                const long column = p->adaptive ? s->columns[w].taps.first : w * p->stride[2];
                const unsigned long i = (unsigned long)(first + table->tap[tap[w * apart]].at + column * cell);
                if (i < last)
                    plane[i] += from[w * across];
            }
        }
}

/* What lies inside the image, from the plane with room to dx. */
static void copy_inside(const struct cnn_pool *p, struct roomy r, const real *plane, real *dx)
{
    for (long d = 0; d < p->in[0]; d++)
        for (long h = 0; h < p->in[1]; h++, dx += p->in[2]) {
            const real *row = plane + ((d + r.before[0]) * r.cells[1] + h + r.before[1]) * r.cells[2] + r.before[2];
            for (long w = 0; w < p->in[2]; w += LANES)
                vec_put(dx + w, vec_get(row + w, min_long(LANES, p->in[2] - w)), min_long(LANES, p->in[2] - w));
        }
}

static void return_index(const struct cnn_pool *p, const int64_t *index, const real *dy, real *dx)
{
    for (long d = 0; d < p->out[0]; d++)
        for (long h = 0; h < p->out[1]; h++, index += p->out[2])
            for (long w = 0; w < p->out[2]; w++)
                dx[index[w] * p->x[4]] += dy[d * p->y[2] + h * p->y[3] + w * p->y[4]];
}

static void max_return(void *context, long block, int worker)
{
    const struct rows *s = context; /* x is dy, y is dx */
    const struct cnn_pool *p = s->p;
    const long cells = p->in[0] * p->in[1] * p->in[2], apart = s->won.apart, across = p->y[4];
    const struct roomy around = make_roomy(p);
    const int fit = fits(p, around), inside = roomy_cells(around) == cells;
    real *room = (real *)(s->scratch + (size_t)worker * s->worker_bytes);
    struct tap_table table;
    if (s->won.tap) {
        const long row = fit ? around.cells[2] : p->in[2], plane = row * (fit ? around.cells[1] : p->in[1]);
        fill_taps(p, s->named, (const long[3]){plane * p->x[4], row * p->x[4], p->x[4]}, &table);
    }
    for (long plane = block * s->many; plane < min_long((block + 1) * s->many, p->n * p->c); plane++) {
        const long n = plane / p->c, c = plane % p->c;
        const uint8_t *tap = s->won.tap ? s->won.tap + n * s->won.image + c * s->won.channel : NULL;
        const real *dy = s->x + n * p->y[0] + c * p->y[1];
        real *dx = s->y + n * p->x[0] + c * p->x[1];
        if (tap && fit && !inside) {
            memset(room, 0, (size_t)roomy_cells(around) * sizeof(real));
            if (apart == 1 && across == 1)
                return_plane(s, &table, around, 1, dy, 1, tap, 1, room);
            else
                return_plane(s, &table, around, 1, dy, across, tap, apart, room);
            copy_inside(p, around, room, dx);
            continue;
        }
        zero_plane(p, c, cells, dx);
        if (!tap)
            return_index(p, s->won.index + plane * p->out[0] * p->out[1] * p->out[2], dy, dx);
        else if (inside && apart == 1 && across == 1 && p->x[4] == 1)
            return_plane(s, &table, around, 1, dy, 1, tap, 1, dx);
        else if (inside)
            return_plane(s, &table, around, p->x[4], dy, across, tap, apart, dx);
        else
            for (long d = 0; d < p->out[0]; d++)
                for (long h = 0; h < p->out[1]; h++, tap += p->out[2] * apart) {
                    const real *from = dy + d * p->y[2] + h * p->y[3];
                    if (apart == 1 && across == 1)
                        return_row(s, &table, s->lines[0][d].taps, s->lines[1][h].taps, from, 1, tap, 1, dx);
                    else
                        return_row(s, &table, s->lines[0][d].taps, s->lines[1][h].taps, from, across, tap, apart, dx);
                }
    }
}

/* Every cell lies in one window of two columns: rows of many windows are compared with both taps, and dx is not zeroed. */
static int pairs(const struct cnn_pool *p, struct winners won)
{
    return won.tap && won.apart == 1 && p->x[4] == 1 && p->y[4] == 1 && !p->adaptive && apart(p) && p->window[2] == 2 && p->stride[2] == 2 && p->dilation[0] == 1 && p->dilation[1] == 1 &&
           p->dilation[2] == 1 && p->before[2] == 0 && p->in[2] == 2 * p->out[2] && p->out[2] >= 2 * LANES && CNN_HAS_TRANSPOSE;
}

static void put_pairs(const struct cnn_pool *p, const real *dy, const uint8_t *tap, bits name, real *dx)
{
#if CNN_HAS_TRANSPOSE
    for (long w = 0; w < p->out[2]; w += LANES) {
        w = min_long(w, p->out[2] - LANES);
        const vec a = share_of(dy + w, tap + w, name) + (vec){0}, b = share_of(dy + w, tap + w, name + 1) + (vec){0}; /* a sum as elsewhere: no -0 */
        vec_store(dx + 2 * w, __builtin_shufflevector(a, b, LOWER_INDICES));
        vec_store(dx + 2 * w + LANES, __builtin_shufflevector(a, b, UPPER_INDICES));
    }
#else
    (void)p, (void)dy, (void)tap, (void)name, (void)dx;
#endif
}

static void max_pairs(void *context, long block, int worker)
{
    (void)worker;
    const struct rows *s = context; /* x is dy, y is dx */
    const struct cnn_pool *p = s->p;
    const long first_row = block * s->many, end = min_long(first_row + s->many, row_count(p, p->in));
    struct place at = place_of_row(p, p->in, first_row);
    for (long row = first_row; row < end; row++, next_row(p, p->in, &at)) {
        const struct line *d = &s->lines[0][at.d], *h = &s->lines[1][at.h];
        real *dx = s->y + at.n * p->x[0] + at.c * p->x[1] + at.d * p->x[2] + at.h * p->x[3];
        if (d->low > d->high || h->low > h->high) {
            memset(dx, 0, (size_t)p->in[2] * sizeof(real));
            continue;
        }
        const long deep = at.d + p->before[0] - d->low * p->stride[0], tall = at.h + p->before[1] - h->low * p->stride[1];
        const real *dy = s->x + at.n * p->y[0] + at.c * p->y[1] + d->low * p->y[2] + h->low * p->y[3];
        const uint8_t *tap = s->won.tap + at.n * s->won.image + at.c * s->won.channel + (d->low * p->out[1] + h->low) * p->out[2];
        put_pairs(p, dy, tap, (bits)((deep * s->named[1] + tall) * s->named[2]), dx);
    }
}

static size_t room_bytes(const struct cnn_pool *p)
{
    const long reals = roomy_cells(make_roomy(p));
    return reals == p->in[0] * p->in[1] * p->in[2] || reals > ROOMY ? 0 : spaced((size_t)reals * sizeof(real));
}

static size_t max_return_scratch(const struct cnn_pool *problem, int workers)
{
    const struct cnn_pool p = plain(problem);
    return max_long((long)lines_bytes(p.out), (long)lines_bytes(p.in)) + (size_t)workers * room_bytes(&p);
}

static void max_rows_backward(const struct cnn_pool *problem, const real *dy, real *dx, struct winners won, struct cnn_run *run)
{
    const struct cnn_pool p = plain(problem);
    const int by_pairs = pairs(&p, won);
    struct rows s = start_rows(&p, by_pairs ? p.in : p.out, by_pairs, dy, dx, run->scratch, by_pairs ? 0 : room_bytes(&p));
    s.won = won, s.named = problem->window;
    if (by_pairs) {
        run_rows(&s, p.in, max_pairs, run);
        return;
    }
    const long cells = p.in[0] * p.in[1] * p.in[2];
    s.many = max_long(1, AT_ONCE / max_long(1, cells));
    if (side_by_side(&p))
        s.many = round_up(s.many, p.c);
    cnn_parallel_for(run, divide_up(p.n * p.c, s.many), (double)(p.n * p.c) * (double)cells * 0.5, max_return, &s);
}

const struct pool_way FN(max_of_rows) = {max_takes, max_rows_scratch, max_rows_forward, 0};
const struct pool_way FN(max_of_rows_back) = {max_return_takes, max_return_scratch, max_rows_backward, CNN_FEW_CHANNELS};
