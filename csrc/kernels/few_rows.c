/* few_rows.c: a dense layer and its gradients on at most eight rows.
 *
 *     y[m][k]  = b[k] + sum over c of w[k][c] x[m][c],  activated
 *     dx[m][c] = sum over k of dy[m][k] w[k][c]  (+ b[c], activated, as a transposed convolution)
 *     dw[k][c] = sum over m of dy[m][k] x[m][c],  db[k] = sum over m of dy[m][k]
 *
 * Weights are read, or written, once from front to back, in the caller's order, while all rows use them. The forward's sums run in LANES parts, c
 * modulo LANES, which are added in order at the end; dx's over k in four parts, dw's over m in order. All overwrite. Source: mathematics 2.3. */
#include "few_rows.h"

enum { MOST = 8, BLOCK = 1 << 15, COLUMNS = 4096, PARTS = 4 }; /* rows; weights of a block; columns whose sums stay in the second cache; sums over filters that
                                                                         are added in order */

int FN(few_rows)(const struct cnn_conv *p)
{
    for (int a = 0; a < 3; a++)
        if (p->window[a] != 1 || p->stride[a] != 1 || p->before[a] != 0 || (a < 2 && p->in[a] != 1))
            return 0;
    return p->n == 1 && p->groups == 1 && p->in[2] >= 1 && p->in[2] <= MOST && p->out[2] == p->in[2] && p->w[1] == 1 && p->x[1] == 1 && p->y[1] == 1 &&
           p->algorithm != CNN_WINOGRAD && p->c >= LANES;
}

struct dense {
    const struct cnn_conv *p;
    const real *x, *dy, *w, *bias;
    real *y, *dx, *dw, *db;
    long filters; /* of a block */
    real *sums;   /* [part][m][c] */
};

static long block_filters(const struct cnn_conv *p) { return max_long(1, BLOCK / max_long(1, p->c)); }

/* The results of filters [k, k + filters) for all `rows` rows. */
ALWAYS_INLINE void forward_filters(const struct dense *s, const long k, const int filters, const int rows)
{
    const struct cnn_conv *p = s->p;
    const long whole = p->c / LANES * LANES;
    vec sum[8][MOST];
    UNROLL for (int f = 0; f < filters; f++)
        UNROLL for (int m = 0; m < rows; m++)
            sum[f][m] = (vec){0};
    const real *w = s->w + k * p->w[0];
    for (long c = 0; c < whole; c += LANES) {
        vec a[8];
        UNROLL for (int f = 0; f < filters; f++)
            a[f] = vec_load(w + f * p->w[0] + c);
        UNROLL for (int m = 0; m < rows; m++) {
            const vec x = vec_load(s->x + m * p->x[4] + c);
            UNROLL for (int f = 0; f < filters; f++)
                sum[f][m] = vec_madd(a[f], x, sum[f][m]);
        }
    }
    for (int f = 0; f < filters; f++)
        for (int m = 0; m < rows; m++) {
            vec v = sum[f][m];
            if (whole < p->c)
                v = vec_madd(vec_load_part(w + f * p->w[0] + whole, p->c - whole), vec_load_part(s->x + m * p->x[4] + whole, p->c - whole), v);
            real total = 0;
            for (int i = 0; i < LANES; i++)
                total += v[i];
            total += s->bias ? s->bias[k + f] : 0;
            s->y[m * p->y[4] + k + f] = p->activation == CNN_RELU && total < 0 ? 0 : total;
        }
}

ALWAYS_INLINE void forward_rows(const struct dense *s, long begin, long end, const int together, const int rows)
{
    long k = begin;
    for (; k + together <= end; k += together)
        forward_filters(s, k, together, rows);
    for (; k < end; k++)
        forward_filters(s, k, 1, rows);
}

static void forward_block(void *context, long block, int worker)
{
    (void)worker;
    const struct dense s = *(const struct dense *)context;
    const long begin = block * s.filters, end = min_long(s.p->k, begin + s.filters);
    switch (s.p->in[2]) {
    case 1: forward_rows(&s, begin, end, 8, 1); break;
    case 2: forward_rows(&s, begin, end, 4, 2); break;
    case 3: forward_rows(&s, begin, end, 4, 3); break;
    case 4: forward_rows(&s, begin, end, 2, 4); break;
    case 5: forward_rows(&s, begin, end, 2, 5); break;
    case 6: forward_rows(&s, begin, end, 2, 6); break;
    case 7: forward_rows(&s, begin, end, 1, 7); break;
    default: forward_rows(&s, begin, end, 1, 8); break;
    }
}

static double work_of(const struct cnn_conv *p) { return (double)(p->c * p->k) * (0.1 + 0.02 * (double)p->in[2]); }

void FN(few_rows_forward)(const struct cnn_conv *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run)
{
    struct dense s = {.p = p, .x = x, .w = w, .bias = bias, .y = y, .filters = round_up(block_filters(p), 8)};
    cnn_parallel_for(run, divide_up(p->k, s.filters), work_of(p), forward_block, &s);
}

static long parts_of(const struct cnn_conv *p) { return p->k >= 64 * PARTS ? PARTS : 1; }

/* Some filters' share of dx of some columns: long pieces of rows of weights pass by, four rows at a time. */
static void input_block(void *context, long block, int worker)
{
    (void)worker;
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
    for (long k = part * share; k < last; k += 4) {
        const int some = (int)min_long(4, last - k);
        const real *w = s.w + k * p->w[0] + begin;
        for (long near = 0; near < count; near += 256) /* a piece of four rows is in the first cache for all but the first row of dy */
            for (long m = 0; m < rows; m++) {
                vec factor[4];
                for (int j = 0; j < 4; j++)
                    factor[j] = vec_fill(j < some ? s.dy[m * p->y[4] + k + j] : 0);
                real *to = sums + m * p->c;
                for (long c = near; c < min_long(count, near + 256); c += LANES) {
                    const long n = min_long(LANES, count - c);
                    vec v = vec_get(to + c, n);
                    if (some == 4 && n == LANES)
                        UNROLL for (int j = 0; j < 4; j++)
                            v = vec_madd(vec_load(w + j * p->w[0] + c), factor[j], v);
                    else
                        for (int j = 0; j < some; j++)
                            v = vec_madd(vec_get(w + j * p->w[0] + c, n), factor[j], v);
                    vec_put(to + c, v, n);
                }
            }
    }
}

size_t FN(few_rows_input_scratch)(const struct cnn_conv *p, int workers)
{
    (void)workers;
    return (size_t)(parts_of(p) * p->in[2] * p->c) * sizeof(real);
}

void FN(few_rows_input)(const struct cnn_conv *p, const real *dy, const real *w, const real *bias, real *dx, struct cnn_run *run)
{
    struct dense s = {.p = p, .dy = dy, .w = w, .bias = bias, .dx = dx, .sums = (real *)run->scratch};
    cnn_parallel_for(run, parts_of(p) * divide_up(p->c, COLUMNS), work_of(p), input_block, &s);
    for (long m = 0; m < p->in[2] && !run->stopped; m++)
        for (long c = 0; c < p->c; c++) {
            real total = s.sums[m * p->c + c];
            for (long part = 1; part < parts_of(p); part++)
                total += s.sums[(part * p->in[2] + m) * p->c + c];
            dx[m * p->x[4] + c] = p->activation == CNN_RELU && total < 0 ? 0 : total;
        }
}

ALWAYS_INLINE void weight_rows(const struct dense *s, long begin, long end, const int rows)
{
    const struct cnn_conv *p = s->p;
    for (long k = begin; k < end; k++) {
        vec factor[MOST];
        real total = 0;
        UNROLL for (int m = 0; m < rows; m++) {
            const real dy = s->dy[m * p->y[4] + k];
            factor[m] = vec_fill(dy);
            total += dy;
        }
        if (s->db)
            s->db[k] = total;
        real *to = s->dw + k * p->w[0];
        for (long c = 0; c < p->c; c += LANES) {
            const long n = min_long(LANES, p->c - c);
            vec v = vec_get(s->x + c, n) * factor[0];
            UNROLL for (int m = 1; m < rows; m++)
                v = vec_madd(vec_get(s->x + m * p->x[4] + c, n), factor[m], v);
            vec_put(to + c, v, n);
        }
    }
}

static void weight_block(void *context, long block, int worker)
{
    (void)worker;
    const struct dense s = *(const struct dense *)context;
    const long begin = block * s.filters, end = min_long(s.p->k, begin + s.filters);
    switch (s.p->in[2]) {
    case 1: weight_rows(&s, begin, end, 1); break;
    case 2: weight_rows(&s, begin, end, 2); break;
    case 3: weight_rows(&s, begin, end, 3); break;
    case 4: weight_rows(&s, begin, end, 4); break;
    case 5: weight_rows(&s, begin, end, 5); break;
    case 6: weight_rows(&s, begin, end, 6); break;
    case 7: weight_rows(&s, begin, end, 7); break;
    default: weight_rows(&s, begin, end, 8); break;
    }
}

void FN(few_rows_weight)(const struct cnn_conv *p, const real *x, const real *dy, real *dw, real *db, struct cnn_run *run)
{
    struct dense s = {.p = p, .x = x, .dy = dy, .dw = dw, .db = db, .filters = block_filters(p)};
    cnn_parallel_for(run, divide_up(p->k, s.filters), work_of(p), weight_block, &s);
}
