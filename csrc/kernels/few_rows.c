/* few_rows.c: a dense layer and its gradients on at most eight rows.
 *
 *     y[m][k]  = b[k] + sum over c of w[k][c] x[m][c],  activated
 *     dx[m][c] = sum over k of dy[m][k] w[k][c]  (+ b[c], activated, as a transposed convolution)
 *     dw[k][c] = sum over m of dy[m][k] x[m][c],  db[k] = sum over m of dy[m][k]
 *
 * Weights are read, or written, once from front to back, in the caller's order, while all rows use them; where inputs are not neighbours, some of
 * them at a time go through a worker's copy: the same sums in the same order. The forward's sums run in LANES parts, c
 * modulo LANES, which are added in order at the end; dx's over k in four parts, dw's over m in order. All overwrite. Source: mathematics 2.3. */
#include "few_rows.h"

#include "../base/machine.h"
#include "ops.h"

enum { MOST = 8, BLOCK = 1 << 15, COLUMNS = 4096, PARTS = 4 }; /* rows; weights of a block; columns whose sums stay in the second cache; sums over filters that
                                                                         are added in order */
enum { SUMS = TILE_ROWS > 8 ? 24 : 12, SOON = 16 * LINE }; /* vectors of sums at once; reals that weights are asked for ahead */
enum { FILTERS = 8, PIECE = 128 }; /* of an input gradient at once, and columns of them */
enum { FRESH = 256, AHEAD = 512 }; /* weights that are updated while their gradients are in the first cache, and how far ahead they are asked for */

int FN(few_rows)(const struct cnn_conv *p)
{
    for (int a = 0; a < 3; a++)
        if (p->window[a] != 1 || p->stride[a] != 1 || p->before[a] != 0 || (a < 2 && p->in[a] != 1))
            return 0;
    return p->n == 1 && p->groups == 1 && p->in[2] >= 1 && p->in[2] <= MOST && p->out[2] == p->in[2] && p->algorithm != CNN_WINOGRAD && p->c >= 16;
}

struct dense {
    const struct cnn_conv *p;
    const real *x, *dy, *w, *bias;
    real *y, *dx, *dw, *db;
    const struct few_rows_update *then; /* or NULL */
    long filters; /* of a block */
    long x_row;   /* reals from row to row of x, whose inputs are neighbours */
    real *copies; /* a worker's weights, where inputs are not neighbours in w; gradients on their way to an update */
    size_t copy;  /* reals of one worker */
    real *sums;   /* [part][m][c] */
};

static long block_filters(const struct cnn_conv *p) { return max_long(1, BLOCK / max_long(1, p->c)); }

/* Of the forward, which takes 8, 6, 4 or 3 filters at once. */
static long filters_forward(const struct cnn_conv *p) { return round_up(block_filters(p), p->w[1] == 1 ? 24 : 8); }

static long copy_reals(const struct cnn_conv *p)
{
    return spaced_reals(p->w[1] != 1 ? max_long(filters_forward(p) * p->c, FILTERS * COLUMNS) : FRESH);
}

/* The rows of x with their inputs as neighbours: x itself, or a copy at the start of the scratch; the workers' copies lie behind it. */
static void place_rows(struct dense *s, char *scratch)
{
    const struct cnn_conv *p = s->p;
    real *to = (real *)scratch;
    s->x_row = p->x[4];
    if (p->x[1] != 1 && s->x) {
        for (long m = 0; m < p->in[2]; m++)
            for (long c = 0; c < p->c; c++)
                to[m * p->c + c] = s->x[m * p->x[4] + c * p->x[1]];
        s->x = to, s->x_row = p->c;
    }
    s->copies = to + (p->x[1] != 1 ? p->in[2] * p->c : 0);
    s->copy = (size_t)copy_reals(p);
}

/* copies: whether workers need them whatever the order of w. */
static size_t rows_bytes(const struct cnn_conv *p, int copies, int workers)
{
    const size_t reals = (p->x[1] != 1 ? (size_t)(p->in[2] * p->c) : 0) + (copies || p->w[1] != 1 ? (size_t)(workers * copy_reals(p)) : 0);
    return aligned(reals * sizeof(real));
}

/* Weights [k, k + filters) x [c, c + count) with inputs as neighbours and their pitch: those of the caller, or a copy. */
static const real *neighbours(const struct dense *s, long k, long filters, long c, long count, int worker, long *pitch)
{
    const struct cnn_conv *p = s->p;
    const real *w = s->w + k * p->w[0] + c * p->w[1];
    *pitch = p->w[0];
    if (p->w[1] == 1)
        return w;
    real *to = s->copies + (size_t)worker * s->copy;
    *pitch = count;
    for (long b = 0; b < count; b += 32)
        for (long f = 0; f < filters; f++)
            for (long i = b; i < min_long(count, b + 32); i++)
                to[f * count + i] = w[f * p->w[0] + i * p->w[1]];
    return to;
}

/* The results of filters [k, k + filters) for all `rows` rows; w: their weights, `pitch` apart. */
ALWAYS_INLINE void forward_filters(const struct dense *s, const real *w, long pitch, const long k, const int filters, const int rows)
{
    const struct cnn_conv *p = s->p;
    const long whole = p->c / LANES * LANES;
    vec sum[SUMS]; /* filters * rows of them */
    UNROLL for (int f = 0; f < filters; f++)
        UNROLL for (int m = 0; m < rows; m++)
            sum[f * rows + m] = (vec){0};
    for (long c = 0; c < whole; c += LANES) {
        vec a[8];
        UNROLL for (int f = 0; f < filters; f++)
            a[f] = vec_load(w + f * pitch + c), __builtin_prefetch(w + f * pitch + c + SOON);
        UNROLL for (int m = 0; m < rows; m++) {
            const vec x = vec_load(s->x + m * s->x_row + c);
            UNROLL for (int f = 0; f < filters; f++)
                sum[f * rows + m] = vec_madd(a[f], x, sum[f * rows + m]);
        }
    }
    for (int f = 0; f < filters; f++)
        for (int m = 0; m < rows; m++) {
            vec v = sum[f * rows + m];
            if (whole < p->c)
                v = vec_madd(vec_load_part(w + f * pitch + whole, p->c - whole), vec_load_part(s->x + m * s->x_row + whole, p->c - whole), v);
            real total = 0;
            for (int i = 0; i < LANES; i++)
                total += v[i];
            total += s->bias ? s->bias[k + f] : 0;
            s->y[m * p->y[4] + (k + f) * p->y[1]] = p->activation == CNN_RELU && total < 0 ? 0 : total;
        }
}

ALWAYS_INLINE void forward_rows(const struct dense *s, long begin, long end, int worker, const int together, const int rows)
{
    long k = begin, pitch;
    const real *w = neighbours(s, begin, end - begin, 0, s->p->c, worker, &pitch);
    for (; k + together <= end; k += together)
        forward_filters(s, w + (k - begin) * pitch, pitch, k, together, rows);
    for (; k < end; k++)
        forward_filters(s, w + (k - begin) * pitch, pitch, k, 1, rows);
}

/* Each number of rows by itself: together their registers would not fit a frame. */
#define FORWARD(rows, together)                                                                                              \
    static __attribute__((noinline)) void forward_##rows(const struct dense *s, long begin, long end, int worker)            \
    {                                                                                                                        \
        forward_rows(s, begin, end, worker, together, rows);                                                                 \
    }
FORWARD(1, 8)
FORWARD(2, SUMS == 24 ? 8 : 4)
FORWARD(3, SUMS == 24 ? 8 : 4)
FORWARD(4, SUMS == 24 ? 6 : 2)
FORWARD(5, SUMS == 24 ? 4 : 2)
FORWARD(6, SUMS == 24 ? 4 : 2)
FORWARD(7, SUMS == 24 ? 3 : 1)
FORWARD(8, SUMS == 24 ? 3 : 1)

static void forward_block(void *context, long block, int worker)
{
    static void (*const forward[])(const struct dense *s, long begin, long end, int worker) = {NULL,      forward_1, forward_2, forward_3, forward_4,
                                                                                              forward_5, forward_6, forward_7, forward_8};
    const struct dense s = *(const struct dense *)context;
    const long begin = block * s.filters;
    forward[s.p->in[2]](&s, begin, min_long(s.p->k, begin + s.filters), worker);
}

static double work_of(const struct cnn_conv *p) { return (double)(p->c * p->k) * (0.1 + 0.02 * (double)p->in[2]); }

size_t FN(few_rows_scratch)(const struct cnn_conv *p, int workers) { return rows_bytes(p, 0, workers); }
size_t FN(few_rows_weight_scratch)(const struct cnn_conv *p, int workers) { return rows_bytes(p, 1, workers); }

void FN(few_rows_forward)(const struct cnn_conv *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run)
{
    struct dense s = {.p = p, .x = x, .w = w, .bias = bias, .y = y, .filters = filters_forward(p)};
    place_rows(&s, run->scratch);
    cnn_parallel_for(run, divide_up(p->k, s.filters), work_of(p), forward_block, &s);
}

static long parts_of(const struct cnn_conv *p) { return p->k >= 64 * PARTS ? PARTS : 1; }

/* What `filters` filters, whose weights are `pitch` apart, add to `count` columns of the sums of rows m to m + together - 1, which are p->c apart; the lines
 * of the next piece of some of them, from number `fetch` on, are asked for. */
ALWAYS_INLINE void add_filters(const struct dense *s, const real *w, long pitch, long k, const int filters, long m, const int together, long count, long fetch, long step, real *to)
{
    const struct cnn_conv *p = s->p;
    vec factor[2 * FILTERS];
    UNROLL for (int r = 0; r < together; r++)
        UNROLL for (int j = 0; j < filters; j++)
            factor[r * filters + j] = vec_fill(s->dy[(m + r) * p->y[4] + (k + j) * p->y[1]]);
    for (long c = 0; c < count; c += LANES) {
        const long n = min_long(LANES, count - c);
        vec v[2];
        UNROLL for (int r = 0; r < together; r++)
            v[r] = vec_get(to + r * p->c + c, n);
        if (filters == 1 || n < LANES)
            for (int j = 0; j < filters; j++)
                UNROLL for (int r = 0; r < together; r++)
                    v[r] = vec_madd(vec_get(w + j * pitch + c, n), factor[r * filters + j], v[r]);
        else
            UNROLL for (int j = 0; j < filters; j++) {
                const vec a = vec_load(w + j * pitch + c);
                UNROLL for (int r = 0; r < together; r++)
                    v[r] = vec_madd(a, factor[r * filters + j], v[r]);
            }
        for (long j = fetch; j < filters; j += step)
            __builtin_prefetch(w + j * pitch + c + PIECE);
        UNROLL for (int r = 0; r < together; r++)
            vec_put(to + r * p->c + c, v[r], n);
    }
}

ALWAYS_INLINE void add_piece(const struct dense *s, const real *w, long pitch, long k, const int filters, long count, real *sums)
{
    const long rows = s->p->in[2];
    for (long m = 0; m < rows / 2 * 2; m += 2)
        add_filters(s, w, pitch, k, filters, m, 2, count, m / 2, divide_up(rows, 2), sums + m * s->p->c);
    if (rows % 2)
        add_filters(s, w, pitch, k, filters, rows - 1, 1, count, rows / 2, divide_up(rows, 2), sums + (rows - 1) * s->p->c);
}

/* Some filters' share of dx of some columns: long pieces of rows of weights pass by, FILTERS rows at a time. */
static void input_block(void *context, long block, int worker)
{
    const struct dense s = *(const struct dense *)context;
    const struct cnn_conv *p = s.p;
    const long chunks = divide_up(p->c, COLUMNS), part = block / chunks, begin = block % chunks * COLUMNS, count = min_long(COLUMNS, p->c - begin), rows = p->in[2];
    const long share = round_up(divide_up(p->k, parts_of(p)), 4), last = min_long(p->k, (part + 1) * share);
    real *sums = s.sums + part * rows * p->c + begin;
    for (long m = 0; m < rows; m++)
        if (part == 0 && s.bias)
            memcpy(sums + m * p->c, s.bias + begin, (size_t)count * sizeof(real));
        else
            memset(sums + m * p->c, 0, (size_t)count * sizeof(real));
    for (long k = part * share, some; k < last; k += some) {
        some = last - k >= FILTERS ? FILTERS : 1;
        long pitch;
        const real *w = neighbours(&s, k, some, begin, count, worker, &pitch);
        for (long near = 0; near < count; near += PIECE) /* a piece of all filters is in the first cache for all but the first rows of dy */
            if (some == FILTERS)
                add_piece(&s, w + near, pitch, k, FILTERS, min_long(PIECE, count - near), sums + near);
            else
                add_piece(&s, w + near, pitch, k, 1, min_long(PIECE, count - near), sums + near);
    }
}

static size_t sum_bytes(const struct cnn_conv *p) { return aligned((size_t)(parts_of(p) * p->in[2] * p->c) * sizeof(real)); }

size_t FN(few_rows_input_scratch)(const struct cnn_conv *p, int workers) { return sum_bytes(p) + rows_bytes(p, 0, workers); }

void FN(few_rows_input)(const struct cnn_conv *p, const real *dy, const real *w, const real *bias, real *dx, struct cnn_run *run)
{
    struct dense s = {.p = p, .dy = dy, .w = w, .bias = bias, .dx = dx, .sums = (real *)run->scratch};
    place_rows(&s, run->scratch + sum_bytes(p));
    cnn_parallel_for(run, parts_of(p) * divide_up(p->c, COLUMNS), work_of(p), input_block, &s);
    for (long m = 0; m < p->in[2] && !run->stopped; m++)
        for (long c = 0; c < p->c; c++) {
            real total = s.sums[m * p->c + c];
            for (long part = 1; part < parts_of(p); part++)
                total += s.sums[(part * p->in[2] + m) * p->c + c];
            dx[m * p->x[4] + c * p->x[1]] = p->activation == CNN_RELU && total < 0 ? 0 : total;
        }
}

/* Whether dw goes past the caches: so large that none of it would be left there. */
static int passes_caches(const struct cnn_conv *p) { return p->w[1] == 1 && (double)p->c * (double)p->k * sizeof(real) > 2 * (double)cnn_machine()->l3; }

/* Columns [begin, end) of a filter's gradient go to `to`, past the caches from the first whole vector there on if `past`; to `fresh` too unless NULL, while
 * what the update will need AHEAD columns later is asked for. */
ALWAYS_INLINE void gradient_piece(const struct dense *s, const vec *factor, long begin, long end, real *to, int past, real *fresh, long cell, const int rows)
{
    const long ahead = past ? (long)(-((uintptr_t)(to + begin) / sizeof(real)) % LANES) : 0;
    for (long c = begin, n = min_long(ahead ? ahead : LANES, end - begin); c < end; c += n, n = min_long(LANES, end - c)) {
        vec v = vec_multiply(vec_get(s->x + c, n), factor[0]);
        UNROLL for (int m = 1; m < rows; m++)
            v = vec_madd(vec_get(s->x + m * s->x_row + c, n), factor[m], v);
        if (past && n == LANES)
            vec_stream(to + c, v);
        else
            vec_put(to + c, v, n);
        if (fresh) {
            vec_put(fresh + c - begin, v, n);
            for (int i = 0; i < s->then->arrays; i++)
                if (s->then->state[i])
                    __builtin_prefetch((const real *)s->then->state[i] + cell + c - begin + AHEAD, 1);
        }
    }
}

ALWAYS_INLINE void weight_rows(const struct dense *s, long begin, long end, int worker, const int rows)
{
    const struct cnn_conv *p = s->p;
    const int past = passes_caches(p);
    real *copy = s->copies + (size_t)worker * s->copy;
    for (long k = begin; k < end; k++) {
        vec factor[MOST];
        real total = 0;
        UNROLL for (int m = 0; m < rows; m++) {
            const real dy = s->dy[m * p->y[4] + k * p->y[1]];
            factor[m] = vec_fill(dy);
            total += dy;
        }
        if (s->db)
            s->db[k] = total;
        if (p->w[1] != 1) {
            gradient_piece(s, factor, 0, p->c, copy, 0, NULL, 0, rows);
            for (long c = 0; c < p->c; c++)
                s->dw[k * p->w[0] + c * p->w[1]] = copy[c];
        } else if (!s->then)
            gradient_piece(s, factor, 0, p->c, s->dw + k * p->w[0], past, NULL, 0, rows);
        else
            for (long c = 0; c < p->c; c += FRESH) {
                const long count = min_long(FRESH, p->c - c), cell = k * p->c + c;
                gradient_piece(s, factor, c, c + count, s->dw + k * p->w[0], past, copy, cell, rows);
                FN(update_some)(s->then->entry, s->then->rule, s->then->state, copy, cell, count);
            }
    }
    if (past)
        vec_stream_end();
}

static void weight_block(void *context, long block, int worker)
{
    const struct dense s = *(const struct dense *)context;
    const long begin = block * s.filters, end = min_long(s.p->k, begin + s.filters);
    switch (s.p->in[2]) {
    case 1: weight_rows(&s, begin, end, worker, 1); break;
    case 2: weight_rows(&s, begin, end, worker, 2); break;
    case 3: weight_rows(&s, begin, end, worker, 3); break;
    case 4: weight_rows(&s, begin, end, worker, 4); break;
    case 5: weight_rows(&s, begin, end, worker, 5); break;
    case 6: weight_rows(&s, begin, end, worker, 6); break;
    case 7: weight_rows(&s, begin, end, worker, 7); break;
    default: weight_rows(&s, begin, end, worker, 8); break;
    }
}

void FN(few_rows_weight)(const struct cnn_conv *p, const real *x, const real *dy, real *dw, real *db, const struct few_rows_update *then, struct cnn_run *run)
{
    struct dense s = {.p = p, .x = x, .dy = dy, .dw = dw, .db = db, .then = then, .filters = block_filters(p)};
    place_rows(&s, run->scratch);
    cnn_parallel_for(run, divide_up(p->k, s.filters), work_of(p), weight_block, &s);
}
