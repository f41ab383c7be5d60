/* pool_rows.h: what pools of images whose rows are contiguous share, C order above all; pool.c defines them. Lanes are neighbouring columns
 * of the output, so nothing is turned. Sums are added in pool.c's order. */
#ifndef CNN_POOL_ROWS_H
#define CNN_POOL_ROWS_H

#include "pool.h"
#include "transpose.h"

enum { AT_ONCE = 16384 }; /* cells of a block, of the image or its windows, of which there are more: about */

ALWAYS_INLINE int plain_possible(const struct cnn_pool *p)
{
    for (int a = 0; p->adaptive && a < 3; a++)
        if (p->out[a] < 1 || p->in[a] % p->out[a] != 0)
            return 0;
    return 1;
}

/* Adaptive pools whose windows are all alike are ordinary ones; others step from window to window by their tables. */
ALWAYS_INLINE struct cnn_pool plain(const struct cnn_pool *p)
{
    struct cnn_pool q = *p;
    if (!plain_possible(p))
        for (int a = 0; a < 3; a++)
            q.stride[a] = q.dilation[a] = 1;
    else if (p->adaptive) {
        q.adaptive = 0, q.count_include_pad = 1;
        for (int a = 0; a < 3; a++)
            q.window[a] = q.stride[a] = p->in[a] / p->out[a], q.dilation[a] = 1, q.before[a] = q.after[a] = 0;
    }
    return q;
}

/* Output columns [low, high) whose windows lie inside the row, a stride apart. */
ALWAYS_INLINE void inside(const struct cnn_pool *p, long *low, long *high)
{
    const long last = p->in[2] - 1 - (p->window[2] - 1) * p->dilation[2] + p->before[2]; /* of column * stride */
    *low = min_long(p->out[2], divide_up(p->before[2], p->stride[2]));
    *high = last < 0 ? 0 : min_long(p->out[2], last / p->stride[2] + 1);
    if (*high < *low || p->adaptive)
        *high = *low;
}

/* What is the same for every row at one place of planes, rows or columns: the taps inside, the divisor, and for gradients the windows. */
struct line {
    struct range taps;
    long cells, low, high;
};

struct rows {
    const struct cnn_pool *p;
    const real *x;
    real *y;
    struct winners won;
    const long *named; /* the window whose cells taps number: an adaptive pool's are numbered in its longest */
    long low, high, many; /* columns whose windows lie inside; rows of a block */
    const struct line *lines[2];
    const struct line *columns; /* of forward passes */
    char *scratch; /* of the workers */
    size_t worker_bytes;
};

ALWAYS_INLINE long row_count(const struct cnn_pool *p, const long cells[3]) { return p->n * p->c * cells[0] * cells[1]; }
ALWAYS_INLINE size_t reals_bytes(long reals) { return aligned((size_t)reals * sizeof(real)); }
ALWAYS_INLINE size_t lines_bytes(const long cells[3]) { return aligned((size_t)(cells[0] + cells[1] + cells[2]) * sizeof(struct line)); }

ALWAYS_INLINE struct rows start_rows(const struct cnn_pool *p, const long cells[3], int gradient, const real *x, real *y, char *scratch, size_t worker_bytes)
{
    struct rows s = {.p = p, .x = x, .y = y, .scratch = scratch + lines_bytes(cells), .worker_bytes = worker_bytes};
    struct line *line = (struct line *)scratch;
    for (int a = 0; a < (gradient ? 2 : 3); a++) {
        *(a < 2 ? &s.lines[a] : &s.columns) = line;
        for (long i = 0; i < cells[a]; i++, line++) {
            *line = (struct line){0};
            if (gradient)
                windows_over(p, a, i, &line->low, &line->high);
            else
                line->taps = taps_inside(p, a, i), line->cells = divisor(p, a, i);
        }
    }
    inside(p, &s.low, &s.high);
    const long read = p->in[0] * p->in[1] * p->in[2] / max_long(1, cells[0] * cells[1]);
    s.many = max_long(1, AT_ONCE / max_long(1, max_long(cells[2], read)));
    return s;
}

ALWAYS_INLINE void run_rows(struct rows *s, const long cells[3], cnn_block *fn, struct cnn_run *run)
{
    const struct cnn_pool *p = s->p;
    const double taps = (double)(p->window[0] * p->window[1] * p->window[2]), work = (double)row_count(p, p->out) * (double)p->out[2] * taps * 0.1;
    cnn_parallel_for(run, divide_up(row_count(p, cells), s->many), work + (double)row_count(p, p->in) * (double)p->in[2] * 0.1, fn, s);
}

/* Where a row is. */
struct place {
    long n, c, d, h;
};

ALWAYS_INLINE struct place place_of_row(const struct cnn_pool *p, const long cells[3], long row)
{
    return (struct place){row / cells[1] / cells[0] / p->c, row / cells[1] / cells[0] % p->c, row / cells[1] % cells[0], row % cells[1]};
}

ALWAYS_INLINE void next_row(const struct cnn_pool *p, const long cells[3], struct place *at)
{
    if (++at->h < cells[1])
        return;
    at->h = 0;
    if (++at->d < cells[0])
        return;
    at->d = 0;
    if (++at->c == p->c)
        at->c = 0, at->n++;
}

/* Gradients. Cells of one phase of the stride follow each other in the row of that phase, so that a tap's shares are added as they lie. */
ALWAYS_INLINE long phase_room(const struct cnn_pool *p) { return round_up(divide_up(p->in[2] + p->window[2], p->stride[2]) + 1, LANES) + LANES; }
ALWAYS_INLINE int apart(const struct cnn_pool *p) { return p->window[0] <= p->stride[0] && p->window[1] <= p->stride[1] && p->window[2] <= p->stride[2]; }

/* Where the shares of windows [begin, end) for a tap of a row go: `ahead` cells on in the row of a phase. From the last tap to the first,
 * so that a cell's windows come from left to right. */
struct shift {
    long phase, ahead, begin, end;
};
struct steps {
    long room, windows, step, whole, rest; /* reals of a phase; windows of a row; a phase has `whole` cells, the first `rest` phases one more */
    struct shift last;
};

ALWAYS_INLINE void bound_shift(const struct steps *s, struct shift *t)
{
    t->begin = max_long(0, -t->ahead), t->end = min_long(s->windows, s->whole + (t->phase < s->rest) - t->ahead);
}

ALWAYS_INLINE struct steps find_steps(const struct cnn_pool *p)
{
    const long step = p->stride[2], at = p->window[2] - 1 - p->before[2];
    struct steps s = {.room = phase_room(p), .windows = p->out[2], .step = step, .whole = p->in[2] / step, .rest = p->in[2] % step};
    s.last.ahead = at >= 0 ? at / step : -divide_up(-at, step);
    s.last.phase = at - s.last.ahead * step;
    bound_shift(&s, &s.last);
    return s;
}

ALWAYS_INLINE void shift_back(const struct steps *s, struct shift *t)
{
    if (t->phase-- == 0)
        t->phase = s->step - 1, t->ahead--;
    bound_shift(s, t);
}

/* All bits of the lanes from one on. */
ALWAYS_INLINE mask lanes_from(long first)
{
    mask number;
    for (int i = 0; i < LANES; i++)
        number[i] = i;
    return number >= (mask){0} + (bits)first;
}

/* Few rows of windows and few taps: each cell's shares are added in registers, row by row and from the last tap to the first. What was just stored, read
 * again from one cell on, would wait until it had left the processor. */
enum { GATHERED = 8, NARROW = 4 * LANES };

/* A row of few windows has a row of its own with zeros on both sides, so that all its cells are like those in the middle. */
ALWAYS_INLINE int narrow(const struct cnn_pool *p) { return p->out[2] < NARROW; }
enum { BESIDE = GATHERED + LANES }; /* where its windows begin */
ALWAYS_INLINE long wide_room(const struct cnn_pool *p) { return BESIDE + round_up(p->out[2], LANES) + 3 * GATHERED + LANES; }

/* Of every phase: the taps that meet it, and between which of its cells all of them meet windows. */
struct gathering {
    long phases, room, windows;
    struct {
        long cells, low, high, last, ahead[GATHERED];
        int taps;
    } phase[GATHERED];
};

ALWAYS_INLINE int can_gather(const struct cnn_pool *p) { return p->window[2] <= GATHERED && p->stride[2] <= GATHERED; }

ALWAYS_INLINE void plan_gathering(const struct cnn_pool *p, const struct steps *steps, struct gathering *g)
{
    g->phases = can_gather(p) ? steps->step : 0, g->room = steps->room, g->windows = steps->windows;
    for (long f = 0; f < g->phases; f++) {
        const long cells = g->phase[f].cells = steps->whole + (f < steps->rest);
        long low = 0, high = cells;
        int taps = 0;
        struct shift t = steps->last;
        for (long k = p->window[2] - 1; k >= 0; k--, shift_back(steps, &t))
            if (t.phase == f) {
                g->phase[f].ahead[taps++] = t.ahead;
                low = max_long(low, t.begin + t.ahead), high = min_long(high, t.end + t.ahead);
            }
        g->phase[f].taps = taps, g->phase[f].last = narrow(p) ? cells : high - LANES;
        if (narrow(p))
            low = 0, high = cells;
        if (high - low < (narrow(p) ? 1 : LANES))
            low = high = 0;
        g->phase[f].low = low, g->phase[f].high = high;
    }
}

/* `count` shares of each cell, rows of windows moved to where the cells are; a constant at every call. */
ALWAYS_INLINE void gather_vectors(const real *const *share, const int count, long low, long high, long last, real *to)
{
    for (long q = low;; q = min_long(q + LANES, last)) {
        vec sum = {0};
        UNROLL for (int i = 0; i < count; i++)
            sum = sum + vec_load(share[i] + q);
        vec_store(to + q, sum);
        if (q + LANES >= high)
            return;
    }
}

/* The same for any number of them. */
ALWAYS_INLINE void gather_many(const real *const *share, int count, long low, long high, long last, real *to)
{
    for (long q = low;; q = min_long(q + LANES, last)) {
        vec sum = {0};
        for (int i = 0; i < count; i++)
            sum = sum + vec_load(share[i] + q);
        vec_store(to + q, sum);
        if (q + LANES >= high)
            return;
    }
}

ALWAYS_INLINE void gather_rows(const struct gathering *g, const real *const *row, int rows, real *phases)
{
    for (long f = 0; f < g->phases; f++) {
        real *to = phases + f * g->room;
        const long cells = g->phase[f].cells, low = g->phase[f].low, high = g->phase[f].high, last = g->phase[f].last, *ahead = g->phase[f].ahead;
        const int taps = g->phase[f].taps, count = rows * taps;
        const real *share[GATHERED * GATHERED];
        for (int r = 0, i = 0; r < rows; r++)
            for (int t = 0; t < taps; t++, i++)
                share[i] = row[r] - ahead[t];
        if (low < high)
            switch (count) {
            case 0: gather_vectors(share, 0, low, high, last, to); break;
            case 1: gather_vectors(share, 1, low, high, last, to); break;
            case 2: gather_vectors(share, 2, low, high, last, to); break;
            case 3: gather_vectors(share, 3, low, high, last, to); break;
            case 4: gather_vectors(share, 4, low, high, last, to); break;
            case 6: gather_vectors(share, 6, low, high, last, to); break;
            case 9: gather_vectors(share, 9, low, high, last, to); break;
            default: gather_many(share, count, low, high, last, to);
            }
        for (long q = low ? 0 : high; q < cells; q = q + 1 == low ? high : q + 1) {
            real sum = 0;
            for (int r = 0; r < rows; r++)
                for (int t = 0; t < taps; t++) {
                    const long w = q - ahead[t];
                    if (w >= 0 && w < g->windows)
                        sum += row[r][w];
                }
            to[q] = sum;
        }
    }
}

/* The rows of the phases to a row of dx. */
ALWAYS_INLINE void merge_phases(const struct cnn_pool *p, const real *phases, long room, real *dx)
{
    const long step = p->stride[2];
    long q = 0;
    if (step == 1) {
        memcpy(dx, phases, (size_t)p->in[2] * sizeof(real));
        return;
    }
#if CNN_HAS_TRANSPOSE
    for (const long pairs = p->in[2] / 2; step == 2 && pairs >= LANES && q < pairs; q += LANES) {
        q = min_long(q, pairs - LANES);
        const vec a = vec_load(phases + q), b = vec_load(phases + room + q);
        vec_store(dx + 2 * q, __builtin_shufflevector(a, b, LOWER_INDICES));
        vec_store(dx + 2 * q + LANES, __builtin_shufflevector(a, b, UPPER_INDICES));
    }
#endif
    for (long f = 0; f < step; f++)
        for (long i = q; f + i * step < p->in[2]; i++)
            dx[f + i * step] = phases[f * room + i];
}

#endif
