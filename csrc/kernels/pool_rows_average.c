/* pool_rows_average.c: averages over windows of images whose rows are contiguous, and their gradients. */
#include "pool_rows.h"

/* Rows of few windows leave lanes empty, where channels or images would fill them: those take at least `wide` windows. Measured. */
static int takes(const struct cnn_pool *p, long wide)
{
    const int together = p->x[0] == p->c * p->x[1] && p->y[0] == p->c * p->y[1];
    return p->x[4] == 1 && p->y[4] == 1 && (p->out[2] >= wide || (together ? p->n : 1) * p->c < LANES);
}
static int average_takes(const struct cnn_pool *p)
{
    if (!plain_possible(p))
        return 0;
    const struct cnn_pool q = plain(p);
    return takes(p, q.stride[2] == 2 && q.window[2] == 2 ? CNN_HAS_MASKED_MOVES ? LANES * 3 / 4 : LANES : q.stride[2] > 2 && q.in[2] >= 2 * LANES ? 0 : 2 * LANES);
}
static int average_return_takes(const struct cnn_pool *p)
{
    if (!plain_possible(p))
        return 0;
    const struct cnn_pool q = plain(p);
    const int far = apart(&q) && q.stride[2] > 2 && q.in[2] >= 2 * LANES;
    return takes(p, far ? 0 : q.window[2] > q.stride[2] ? 4 * LANES : 2 * LANES);
}

/* Of a worker: a row of sums, and of the gradient a row of shares and one row for each phase of the stride. */
static long sums_room(const struct cnn_pool *p) { return spaced_reals(round_up(p->in[2], LANES) + LANES); }

static size_t average_rows_scratch(const struct cnn_pool *p, int workers) { return lines_bytes(p->out) + (size_t)workers * reals_bytes(sums_room(p)); }

/* Sums over the rows of a window, column by column: four vectors at once, those at the end of the row begin early. */
static void sum_rows(const struct cnn_pool *p, const real *x, long deep, long tall, real *to)
{
    const long n = p->in[2];
    if (n < LANES) {
        for (long w = 0; w < n; w++) {
            real sum = 0;
            for (long i = 0; i < deep; i++)
                for (long j = 0; j < tall; j++)
                    sum = i + j ? sum + x[i * p->x[2] + j * p->x[3] + w] : x[w];
            to[w] = sum;
        }
        return;
    }
    for (long w = 0; w < n; w += 4 * LANES) {
        const long at[4] = {min_long(w, n - LANES), min_long(w + LANES, n - LANES), min_long(w + 2 * LANES, n - LANES), min_long(w + 3 * LANES, n - LANES)};
        vec sum[4];
        UNROLL for (int v = 0; v < 4; v++)
            sum[v] = vec_load(x + at[v]);
        for (long i = 0; i < deep; i++)
            for (long j = i ? 0 : 1; j < tall; j++) {
                const real *row = x + i * p->x[2] + j * p->x[3];
                UNROLL for (int v = 0; v < 4; v++) {
                    sum[v] = sum[v] + vec_load(row + at[v]);
                    __builtin_prefetch(row + at[v] + tall * p->x[3]); /* of the next window's rows */
                }
            }
        UNROLL for (int v = 0; v < 4; v++)
            vec_store(to + at[v], sum[v]);
    }
}

ALWAYS_INLINE void average_inside(const struct cnn_pool *p, const real *sums, const long step, long low, long high, real by, real *y)
{
    for (long w = low;; w = min_long(w + LANES, high - LANES)) {
        vec sum = {0};
        for (long k = 0; k < p->window[2]; k++)
            sum = sum + vec_load_apart(sums + w * step + k, step);
        vec_store(y + w, sum / vec_fill(by));
        if (w + LANES >= high)
            return;
    }
}

/* Windows of any step, as many at once as there are lanes: of each a vector of columns, turned, so that a tap is a vector of windows. */
static void average_turned(const struct cnn_pool *p, const real *sums, long low, long high, real by, real *y)
{
    const long step = p->stride[2], taps = p->window[2];
    for (long w = low; w < high; w += LANES) {
        const long count = min_long(LANES, high - w);
        vec sum = {0};
        for (long k = 0; k < taps; k += LANES) {
            vec column[LANES];
            for (long i = 0; i < LANES; i++)
                column[i] = vec_load(sums + (w + min_long(i, count - 1)) * step + k);
            const int half = taps - k <= LANES / 2;
            if (half)
                transpose_half(column);
            else
                transpose(column);
            UNROLL for (int i = 0; i < LANES / 2; i++)
                if (k + i < taps)
                    sum = sum + column[i];
            UNROLL for (int i = LANES / 2; !half && i < LANES; i++)
                if (k + i < taps)
                    sum = sum + column[i];
        }
        vec_put(y + w, sum / vec_fill(by), count);
    }
}

#if CNN_HAS_TRANSPOSE
/* n reals of a row from column `at` on, as far as it goes. */
ALWAYS_INLINE vec load_row(const real *row, long at, long n) { return at + LANES <= n ? vec_load(row + at) : at < n ? vec_load_part(row + at, n - at) : (vec){0}; }

/* Windows of two neighbouring columns, two apart, fewer than lanes. */
static void average_few_pairs(const struct cnn_pool *p, const real *x, long deep, long tall, real by, real *y)
{
    const long n = 2 * p->out[2];
    vec a = load_row(x, 0, n), b = load_row(x, LANES, n);
    for (long i = 0; i < deep; i++)
        for (long j = i ? 0 : 1; j < tall; j++) {
            const real *row = x + i * p->x[2] + j * p->x[3];
            a = a + load_row(row, 0, n), b = b + load_row(row, LANES, n);
        }
    vec_store_part(y, ((vec){0} + __builtin_shufflevector(a, b, EVEN_INDICES) + __builtin_shufflevector(a, b, ODD_INDICES)) / vec_fill(by), p->out[2]);
}

/* The same for a vector of them at least: their sums stay in registers. A division by a power of two is a product. */
static void average_pairs(const struct cnn_pool *p, const real *x, long deep, long tall, real by, real *y)
{
    const long divisor = (long)by, high = p->out[2];
    const vec share = vec_fill(1 / by), whole = vec_fill(by);
    for (long w = 0;; w = min_long(w + LANES, high - LANES)) {
        const real *from = x + 2 * w;
        vec a = vec_load(from), b = vec_load(from + LANES);
        for (long i = 0; i < deep; i++)
            for (long j = i ? 0 : 1; j < tall; j++) {
                const real *row = from + i * p->x[2] + j * p->x[3];
                a = a + vec_load(row), b = b + vec_load(row + LANES);
            }
        const vec sum = (vec){0} + __builtin_shufflevector(a, b, EVEN_INDICES) + __builtin_shufflevector(a, b, ODD_INDICES);
        vec_store(y + w, divisor & (divisor - 1) ? sum / whole : sum * share);
        if (w + LANES >= high)
            return;
    }
}
#endif

static void average_rows(void *context, long block, int worker)
{
    const struct rows *s = context;
    const struct cnn_pool *p = s->p;
    real *sums = (real *)(s->scratch + (size_t)worker * s->worker_bytes);
    const long first_row = block * s->many, end = min_long(first_row + s->many, row_count(p, p->out));
    struct place at = place_of_row(p, p->out, first_row);
    for (long row = first_row; row < end; row++, next_row(p, p->out, &at)) {
        const struct line *d = &s->lines[0][at.d], *h = &s->lines[1][at.h];
        const long cells = d->cells * h->cells, step = p->stride[2], deep = d->taps.end - d->taps.begin, tall = h->taps.end - h->taps.begin;
        const real *x = s->x + at.n * p->x[0] + at.c * p->x[1] + (d->taps.first + d->taps.begin) * p->x[2] + (h->taps.first + h->taps.begin) * p->x[3];
        real *y = s->y + at.n * p->y[0] + at.c * p->y[1] + at.d * p->y[2] + at.h * p->y[3];
#if CNN_HAS_TRANSPOSE
        const int pairs = step == 2 && p->window[2] == 2 && s->low == 0 && s->high == p->out[2] && deep > 0 && tall > 0;
        if (pairs && s->high >= LANES) {
            average_pairs(p, x, deep, tall, (real)(cells * 2), y);
            continue;
        }
        if (pairs && CNN_HAS_MASKED_MOVES) {
            average_few_pairs(p, x, deep, tall, (real)(cells * 2), y);
            continue;
        }
#endif
        if (deep > 0 && tall > 0)
            sum_rows(p, x, deep, tall, sums);
        else
            memset(sums, 0, (size_t)p->in[2] * sizeof(real));
        long low = s->low, high = s->high;
        const long inside = high - low;
        if (inside > 2) {
            const real by = (real)(cells * p->window[2]);
            if (inside < LANES || (step > 2 && p->window[2] > 4))
                average_turned(p, sums - p->before[2], low, high, by, y);
            else if (step == 1)
                average_inside(p, sums - p->before[2], 1, low, high, by, y);
            else if (step == 2)
                average_inside(p, sums - p->before[2], 2, low, high, by, y);
            else
                average_inside(p, sums - p->before[2], step, low, high, by, y);
        } else {
            low = high = 0;
        }
        for (long w = 0; w < p->out[2]; w++) {
            if (w == low)
                w = high;
            if (w == p->out[2])
                break;
            const struct line *column = &s->columns[w];
            real sum = 0;
            for (long k = column->taps.begin; k < column->taps.end; k++)
                sum += sums[column->taps.first + k];
            y[w] = sum / (real)(cells * column->cells);
        }
    }
}

static void average_rows_forward(const struct cnn_pool *problem, const real *x, real *y, struct winners won, struct cnn_run *run)
{
    (void)won;
    const struct cnn_pool p = plain(problem);
    struct rows s = start_rows(&p, p.out, 0, x, y, run->scratch, reals_bytes(sums_room(&p)));
    run_rows(&s, p.out, average_rows, run);
}

/* The gradient of a row: shares dy / D of the rows of windows that reach it, added to the cells of their windows. Cells of one
 * phase of the stride follow each other in the row of that phase, so that a tap's shares are added as they lie. Rows that the same
 * windows reach are alike. */
struct return_room {
    size_t shares, phase, worker; /* a row of shares, GATHERED of them at most */
};
static struct return_room return_room(const struct cnn_pool *p)
{
    struct return_room room = {.shares = reals_bytes(wide_room(p)), .phase = (size_t)phase_room(p) * sizeof(real)};
    room.worker = spaced(GATHERED * room.shares + (apart(p) && p->stride[2] > 2 ? 0 : (size_t)p->stride[2] * room.phase));
    return room;
}

static size_t average_return_scratch(const struct cnn_pool *problem, int workers)
{
    const struct cnn_pool p = plain(problem);
    return lines_bytes(p.in) + reals_bytes(p.out[2]) + (size_t)workers * return_room(&p).worker;
}

static void find_shares(const struct cnn_pool *p, const real *dy, real cells, const real *parts, real *shares)
{
    const long n = p->out[2];
    for (long w = 0; n >= LANES; w = min_long(w + LANES, n - LANES)) {
        vec_store(shares + w, vec_load(dy + w) / (vec_fill(cells) * vec_load(parts + w)));
        if (w + LANES >= n)
            return;
    }
    for (long w = 0; w < n; w++)
        shares[w] = dy[w] / (cells * parts[w]);
}

/* Windows far apart, one of whose rows at most reaches this one. */
static void put_shares(const struct cnn_pool *p, const real *shares, real *dx)
{
    memset(dx, 0, (size_t)p->in[2] * sizeof(real));
    for (long w = 0; shares && w < p->out[2]; w++) {
        const long first = w * p->stride[2] - p->before[2];
        for (long i = max_long(0, first); i < min_long(p->in[2], first + p->window[2]); i++)
            dx[i] = shares[w];
    }
}

static void add_shares(const struct cnn_pool *p, const struct steps *steps, const real *shares, real *phases)
{
    struct shift t = steps->last;
    for (long k = p->window[2] - 1; k >= 0; k--, shift_back(steps, &t)) {
        real *to = phases + t.phase * steps->room + t.ahead;
        long w = t.begin;
        for (; w + LANES <= t.end; w += LANES)
            vec_store(to + w, vec_load(to + w) + vec_load(shares + w));
        if (w < t.end && t.end - t.begin >= LANES) {
            const long done = w - (t.end - LANES);
            w = t.end - LANES;
            vec_store(to + w, vec_load(to + w) + (vec)((mask)vec_load(shares + w) & lanes_from(done)));
            w = t.end;
        }
        for (; w < t.end; w++)
            to[w] += shares[w];
    }
}

static void average_return(void *context, long block, int worker)
{
    const struct rows *s = context; /* x is dy, y is dx */
    const struct cnn_pool *p = s->p;
    const struct return_room room = return_room(p);
    const real *parts = (const real *)s->scratch; /* of the divisor, a column each */
    real *shares = (real *)(s->scratch + reals_bytes(p->out[2]) + (size_t)worker * room.worker), *phases = (real *)((char *)shares + GATHERED * room.shares);
    const long first_row = block * s->many, end = min_long(first_row + s->many, row_count(p, p->in)), step = p->stride[2];
    const int far = apart(p) && step > 2;
    const struct steps steps = find_steps(p);
    struct gathering gathering;
    plan_gathering(p, &steps, &gathering);
    if (narrow(p))
        memset(shares, 0, GATHERED * room.shares);
    const real *last = NULL; /* the row before, where the same windows reach it */
    const real *found[GATHERED] = {NULL}; /* the rows of dy whose shares are kept: the next row of dx reads most of them again */
    long found_cells[GATHERED] = {0}; /* their divisor: rows of a broadcast dy are one row in memory */
    struct place at = place_of_row(p, p->in, first_row);
    for (long row = first_row; row < end; row++, next_row(p, p->in, &at)) {
        const struct line *d = &s->lines[0][at.d], *h = &s->lines[1][at.h];
        const real *dy = s->x + at.n * p->y[0] + at.c * p->y[1];
        real *dx = s->y + at.n * p->x[0] + at.c * p->x[1] + at.d * p->x[2] + at.h * p->x[3];
        if (last && at.h && h[-1].low == h->low && h[-1].high == h->high) {
            memcpy(dx, last, (size_t)p->in[2] * sizeof(real));
            last = dx;
            continue;
        }
        last = dx;
        if (far) {
            const int any = d->low <= d->high && h->low <= h->high;
            if (any)
                find_shares(p, dy + d->low * p->y[2] + h->low * p->y[3], (real)(divisor(p, 0, d->low) * divisor(p, 1, h->low)), parts, shares);
            put_shares(p, any ? shares : NULL, dx);
            continue;
        }
        const real *rows[GATHERED];
        const int gathers = max_long(0, d->high - d->low + 1) * max_long(0, h->high - h->low + 1) <= GATHERED && can_gather(p);
        int count = 0;
        if (!gathers)
            memset(phases, 0, (size_t)(step * steps.room) * sizeof(real));
        for (long i = d->low; i <= d->high; i++)
            for (long j = h->low; j <= h->high; j++) {
                const real *from = dy + i * p->y[2] + j * p->y[3];
                const long slot = !gathers ? 0 : d->low == d->high ? j % GATHERED : count;
                real *to = (real *)((char *)shares + (size_t)slot * room.shares) + BESIDE;
                const long cells = divisor(p, 0, i) * divisor(p, 1, j);
                if (found[slot] != from || found_cells[slot] != cells || !gathers)
                    find_shares(p, from, (real)cells, parts, to);
                found[slot] = from, found_cells[slot] = cells;
                if (gathers)
                    rows[count++] = to;
                else
                    add_shares(p, &steps, to, phases);
            }
        if (gathers)
            gather_rows(&gathering, rows, count, phases);
        merge_phases(p, phases, steps.room, dx);
    }
}

static void average_rows_backward(const struct cnn_pool *problem, const real *dy, real *dx, struct winners won, struct cnn_run *run)
{
    (void)won;
    const struct cnn_pool p = plain(problem);
    struct rows s = start_rows(&p, p.in, 1, dy, dx, run->scratch, 0);
    for (long w = 0; w < p.out[2]; w++)
        ((real *)s.scratch)[w] = (real)divisor(&p, 2, w);
    run_rows(&s, p.in, average_return, run);
}

const struct pool_way FN(average_of_rows) = {average_takes, average_rows_scratch, average_rows_forward, 0};
const struct pool_way FN(average_of_rows_back) = {average_return_takes, average_return_scratch, average_rows_backward, 0};
