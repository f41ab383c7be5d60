/* pool_rows_max.c: maxima over windows of images whose rows are contiguous, and their gradients. */
#include "pool_rows.h"

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
            best = vec_select(best > v, best, v);
        }
        vec_put(y, vec_select(nan, best + (vec)(nan | (mask)best), best), n);
        return;
    }
    mask which = (mask){0} + t->name[0];
    for (long i = 1; i < cells; i++) {
        const vec v = vec_load_apart(x + t->at[i], step);
        const mask better = (v > best) | ((v != v) & (best == best));
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

/* Gradients of whole planes: zeroed, then every window adds to the cell that won. */
static int max_return_takes(const struct cnn_pool *p)
{
    /* Rows of few windows, and of those that overlap some more: faster with channels in the lanes. Measured. */
    double cells = 1; /* of a window, about */
    for (int a = 0; a < 3; a++)
        cells *= p->adaptive ? (double)p->in[a] / (double)max_long(1, p->out[a]) : (double)p->window[a];
    const int many = p->n * p->c >= LANES, few = many && 2 * p->out[2] < LANES && cells <= COMPARED;
    const int overlapping = many && !p->adaptive && p->window[2] > p->stride[2] && p->out[2] >= LANES && p->out[2] < 2 * LANES;
    return p->x[4] == 1 && p->y[4] == 1 && dense_plane(p) && !few && !overlapping;
}

enum { ALL_TAPS = 256 };

/* Adds a row of windows. Taps outside the window or the image, which no forward writes, add nothing. */
static void return_taps(const struct rows *s, const struct range r[2], const long at[ALL_TAPS], const real *dy, const uint8_t *tap, real *dx)
{
    const struct cnn_pool *p = s->p;
    const int whole = r[0].begin == 0 && r[0].end == p->window[0] && r[1].begin == 0 && r[1].end == p->window[1];
    const long apart = s->won.apart, step = p->stride[2];
    real *first = dx + (r[0].first * p->in[1] + r[1].first) * p->in[2];
    for (long w = 0; w < p->out[2]; w++) {
        const long t = tap[w * apart];
        if (whole && w >= s->low && w < s->high) {
            if (at[t] >= 0)
                first[w * step - p->before[2] + at[t]] += dy[w];
            continue;
        }
        const struct range r2 = s->columns[w].taps;
        const long i = t / s->named[2] / s->named[1], j = t / s->named[2] % s->named[1], k = t % s->named[2];
        if (i >= r[0].begin && i < r[0].end && j >= r[1].begin && j < r[1].end && k >= r2.begin && k < r2.end)
            first[r2.first + at[t]] += dy[w];
    }
}

static void max_return(void *context, long block, int worker)
{
    (void)worker;
    const struct rows *s = context; /* x is dy, y is dx */
    const struct cnn_pool *p = s->p;
    const long cells = p->in[0] * p->in[1] * p->in[2];
    long at[ALL_TAPS];
    for (long t = 0; t < ALL_TAPS; t++)
        at[t] = -1;
    for (long i = 0; s->won.tap && i < p->window[0]; i++)
        for (long j = 0; j < p->window[1]; j++)
            for (long k = 0; k < p->window[2]; k++) {
                const long t = (i * s->named[1] + j) * s->named[2] + k;
                if (t < ALL_TAPS)
                    at[t] = (i * p->dilation[0] * p->in[1] + j * p->dilation[1]) * p->in[2] + k * p->dilation[2];
            }
    for (long plane = block * s->many; plane < min_long((block + 1) * s->many, p->n * p->c); plane++) {
        struct place here = {plane / p->c, plane % p->c, 0, 0};
        const real *dy = s->x + here.n * p->y[0] + here.c * p->y[1];
        real *dx = s->y + here.n * p->x[0] + here.c * p->x[1];
        memset(dx, 0, (size_t)cells * sizeof(real));
        for (here.d = 0; here.d < p->out[0]; here.d++)
            for (here.h = 0; here.h < p->out[1]; here.h++) {
                const real *from = dy + here.d * p->y[2] + here.h * p->y[3];
                const struct winner_row won = winner_row(s, here, (plane * p->out[0] + here.d) * p->out[1] + here.h);
                if (won.tap) {
                    const struct range r[2] = {s->lines[0][here.d].taps, s->lines[1][here.h].taps};
                    return_taps(s, r, at, from, won.tap, dx);
                    continue;
                }
                for (long w = 0; w < p->out[2]; w++)
                    dx[won.index[w]] += from[w];
            }
    }
}

/* The gradient of a maximum from taps, row by row as that of an average: a window's share of a cell is dy where the cell's tap won.
 * Only where windows are small is comparing with every tap better than adding where one won. */
static int compares(const struct rows *s)
{
    const struct cnn_pool *p = s->p;
    if (!s->won.tap || s->won.apart != 1 || p->out[2] < LANES || p->adaptive)
        return 0;
    double reach = 1;
    for (int a = 0; a < 3; a++) {
        reach *= (double)p->window[a] / (double)p->stride[a];
        if (p->dilation[a] != 1)
            return 0;
    }
    return p->stride[2] <= 2 && reach <= 4;
}

#ifdef __AVX2__
enum { GATHERS = 1 };
#else
enum { GATHERS = 0 }; /* taps are widened lane by lane: each once is enough */
#endif

static void add_winners(const struct cnn_pool *p, const struct steps *steps, const real *dy, const uint8_t *tap, bits name, real *phases)
{
    struct shift t = steps->last;
    for (long k = p->window[2] - 1; k >= 0; k--, shift_back(steps, &t)) {
        real *to = phases + t.phase * steps->room + t.ahead;
        long w = t.begin;
        for (; w + LANES <= t.end; w += LANES)
            vec_store(to + w, vec_load(to + w) + share_of(dy + w, tap + w, name + (bits)k));
        if (w < t.end && t.end - t.begin >= LANES) {
            const long done = w - (t.end - LANES);
            w = t.end - LANES;
            vec_store(to + w, vec_load(to + w) + (vec)((mask)share_of(dy + w, tap + w, name + (bits)k) & lanes_from(done)));
            w = t.end;
        }
        for (; w < t.end; w++)
            to[w] += tap[w] == name + k ? dy[w] : 0;
    }
}

/* Every cell of the row lies in one window of two columns. */
static void put_pairs(const struct cnn_pool *p, const real *dy, const uint8_t *tap, bits name, real *dx)
{
    long w = 0;
#if CNN_HAS_TRANSPOSE
    for (; w < p->out[2]; w += LANES) {
        w = min_long(w, p->out[2] - LANES);
        const vec a = share_of(dy + w, tap + w, name), b = share_of(dy + w, tap + w, name + 1);
        vec_store(dx + 2 * w, __builtin_shufflevector(a, b, LOWER_INDICES));
        vec_store(dx + 2 * w + LANES, __builtin_shufflevector(a, b, UPPER_INDICES));
    }
#endif
    for (; w < p->out[2]; w++)
        for (int k = 0; k < 2; k++)
            dx[2 * w + k] = tap[w] == name + k ? dy[w] : 0;
}

static size_t phases_bytes(const struct cnn_pool *p) { return aligned((size_t)(p->stride[2] <= 2 ? p->stride[2] * phase_room(p) : 0) * sizeof(real)); }

/* Copies of rows of windows with zeros on both sides. */
struct wide_rows {
    real *dy;
    uint8_t *tap;
    const uint8_t *found[GATHERED]; /* the next row of dx reads most of them again */
};
static size_t wide_bytes(const struct cnn_pool *p) { return narrow(p) ? GATHERED * (reals_bytes(wide_room(p)) + aligned((size_t)wide_room(p))) : 0; }

static size_t compare_bytes(const struct cnn_pool *p) { return spaced(phases_bytes(p) + wide_bytes(p)); }

static struct wide_rows start_wide(const struct cnn_pool *p, char *room)
{
    struct wide_rows wide = {.dy = (real *)room, .tap = (uint8_t *)room + GATHERED * reals_bytes(wide_room(p))};
    memset(room, 0, wide_bytes(p));
    return wide;
}

static struct window_row widen(const struct cnn_pool *p, struct wide_rows *wide, long slot, struct window_row row)
{
    real *dy = (real *)((char *)wide->dy + (size_t)slot * reals_bytes(wide_room(p))) + BESIDE;
    uint8_t *tap = wide->tap + (size_t)slot * aligned((size_t)wide_room(p)) + BESIDE;
    if (wide->found[slot] != row.tap) {
        for (long i = 0; i < p->out[2]; i += LANES)
            vec_put(dy + i, vec_get(row.dy + i, min_long(LANES, p->out[2] - i)), min_long(LANES, p->out[2] - i));
        memcpy(tap, row.tap, (size_t)p->out[2]);
        wide->found[slot] = row.tap;
    }
    return (struct window_row){dy, tap, row.name};
}

static void max_compare(void *context, long block, int worker)
{
    const struct rows *s = context; /* x is dy, y is dx */
    const struct cnn_pool *p = s->p;
    const long first_row = block * s->many, end = min_long(first_row + s->many, row_count(p, p->in)), step = p->stride[2];
    real *phases = (real *)(s->scratch + (size_t)worker * s->worker_bytes);
    struct wide_rows wide = start_wide(p, (char *)phases + phases_bytes(p));
    const struct steps steps = find_steps(p);
    struct gathering gathering;
    plan_gathering(p, &steps, &gathering);
    const int pairs = apart(p) && p->window[2] == 2 && step == 2 && p->before[2] == 0 && p->in[2] == 2 * p->out[2] && p->out[2] >= LANES;
    struct place at = place_of_row(p, p->in, first_row);
    for (long row = first_row; row < end; row++, next_row(p, p->in, &at)) {
        const struct line *d = &s->lines[0][at.d], *h = &s->lines[1][at.h];
        const real *dy = s->x + at.n * p->y[0] + at.c * p->y[1];
        const uint8_t *tap = s->won.tap + at.n * s->won.image + at.c * s->won.channel;
        real *dx = s->y + at.n * p->x[0] + at.c * p->x[1] + at.d * p->x[2] + at.h * p->x[3];
        struct window_row rows[GATHERED];
        const long reached = max_long(0, d->high - d->low + 1) * max_long(0, h->high - h->low + 1);
        const int gathers = GATHERS && !pairs && reached <= GATHERED && can_gather(p);
        int count = 0;
        if (!pairs && !gathers)
            memset(phases, 0, (size_t)(step * steps.room) * sizeof(real));
        else if (pairs && (d->low > d->high || h->low > h->high))
            memset(dx, 0, (size_t)p->in[2] * sizeof(real));
        for (long i = d->low; i <= d->high; i++)
            for (long j = h->low; j <= h->high; j++) {
                const long deep = at.d + p->before[0] - i * p->stride[0], tall = at.h + p->before[1] - j * p->stride[1];
                const bits name = (bits)((deep * s->named[1] + tall) * s->named[2]);
                const real *from = dy + i * p->y[2] + j * p->y[3];
                const uint8_t *won = tap + (i * p->out[1] + j) * p->out[2];
                if (pairs)
                    put_pairs(p, from, won, name, dx);
                else if (gathers) {
                    const struct window_row there = {from, won, name};
                    rows[count] = narrow(p) ? widen(p, &wide, d->low == d->high ? j % GATHERED : count, there) : there;
                    count++;
                }
                else
                    add_winners(p, &steps, from, won, name, phases);
            }
        if (gathers)
            gather_rows(&gathering, rows, count, 1, phases);
        if (!pairs)
            merge_phases(p, phases, steps.room, dx);
    }
}



static size_t max_return_scratch(const struct cnn_pool *problem, int workers)
{
    const struct cnn_pool p = plain(problem);
    return max_long((long)lines_bytes(p.out), (long)lines_bytes(p.in)) + (size_t)workers * compare_bytes(&p);
}

static void max_rows_backward(const struct cnn_pool *problem, const real *dy, real *dx, struct winners won, struct cnn_run *run)
{
    const struct cnn_pool p = plain(problem);
    const long cells = p.in[0] * p.in[1] * p.in[2];
    struct rows s = {.p = &p, .won = won};
    const int compare = compares(&s);
    s = start_rows(&p, compare ? p.in : p.out, compare, dy, dx, run->scratch, compare ? compare_bytes(&p) : 0);
    s.won = won, s.named = problem->window;
    if (compare) {
        run_rows(&s, p.in, max_compare, run);
        return;
    }
    s.many = max_long(1, AT_ONCE / max_long(1, cells));
    cnn_parallel_for(run, divide_up(p.n * p.c, s.many), (double)(p.n * p.c) * (double)cells * 0.5, max_return, &s);
}

const struct pool_way FN(max_of_rows) = {max_takes, max_rows_scratch, max_rows_forward};
const struct pool_way FN(max_of_rows_back) = {max_return_takes, max_return_scratch, max_rows_backward};
