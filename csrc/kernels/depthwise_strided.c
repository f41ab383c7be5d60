/* depthwise_strided.c: the input gradient of a depthwise convolution with a stride, channels side by side; a transposed convolution alike.
 *
 *     dx[n][c][i] = sum over the taps r that reach cell i of w[c][r] dy[n][c][o],  o stride + r dilation - before = i;  + b[c]
 *
 * Cell by cell: few taps reach a cell, and neighbours are reached by others. Terms are those of the convolutions of phase.h, in their order, and
 * taps whose o lies outside meet zeros as they do there, so every memory order gives the same bits. Overwrites. */
#include "depthwise.h"
#include "phase.h"

enum { TOGETHER = 4 }; /* vectors of channels with sums of their own */

/* How cells of an axis are reached: by taps t[0 .. count) in order, from outputs o, -1 outside. */
struct reach {
    long count, *tap, *out;
};

struct plan {
    const struct cnn_conv *p;
    const real *dy, *bias;
    real *dx, *packed, *zeros; /* packed[tap][room], the bias behind; zeros[room] */
    struct reach *reach[3];    /* [cell] */
    long taps, room;
    char *worker;
    size_t worker_bytes;
};

/* Where many taps reach a cell, neighbours share more than they differ: those are left to the convolutions of phase.h. */
int FN(depthwise_strided_take)(const struct cnn_conv *p)
{
    const long taps = p->window[0] * p->window[1] * p->window[2], strides = p->stride[0] * p->stride[1] * p->stride[2];
    return FN(is_depthwise)(p->groups, p->c, p->k) && p->x[1] == 1 && p->y[1] == 1 && strides > 1 && taps <= 4 * strides;
}

static void *take(char *scratch, size_t *used, size_t bytes)
{
    char *at = scratch + *used;
    *used += (bytes + 63) & ~(size_t)63;
    return at;
}

static size_t make_plan(struct plan *s, const struct cnn_conv *p, int workers, char *scratch)
{
    size_t used = 0;
    *s = (struct plan){.p = p, .taps = p->window[0] * p->window[1] * p->window[2], .room = round_up(p->c, LANES)};
    s->packed = take(scratch, &used, (size_t)((s->taps + 1) * s->room) * sizeof(real));
    s->zeros = take(scratch, &used, (size_t)s->room * sizeof(real));
    for (int a = 0; a < 3; a++)
        s->reach[a] = take(scratch, &used, (size_t)p->in[a] * (sizeof(struct reach) + 2 * (size_t)p->window[a] * sizeof(long)));
    s->worker_bytes = ((size_t)s->taps * 2 * sizeof(real *) + 63) & ~(size_t)63;
    s->worker = take(scratch, &used, (size_t)workers * s->worker_bytes);
    return used;
}

static void find_reach(const struct plan *s)
{
    const struct cnn_conv *p = s->p;
    for (int a = 0; a < 3; a++) {
        long *numbers = (long *)(s->reach[a] + p->in[a]);
        for (long i = 0; i < p->in[a]; i++) {
            const struct phase f = find_phase(p, a, i % p->stride[a]);
            struct reach *r = &s->reach[a][i];
            *r = (struct reach){f.taps, numbers, numbers + p->window[a]};
            numbers += 2 * p->window[a];
            for (long t = 0; t < f.taps; t++) {
                const long o = i / p->stride[a] + t * f.spread - f.before;
                r->tap[t] = f.first_tap + t * f.tap_step;
                r->out[t] = o >= 0 && o < p->out[a] ? o : -1;
            }
        }
    }
}

static void pack(const struct plan *s, const real *w)
{
    const struct cnn_conv *p = s->p;
    for (long t = 0; t < s->taps; t++) {
        const long r = t % p->window[2], h = t / p->window[2] % p->window[1], d = t / p->window[2] / p->window[1];
        for (long c = 0; c < s->room; c++)
            s->packed[t * s->room + c] = c < p->c ? w[c * p->w[0] + d * p->w[2] + h * p->w[3] + r * p->w[4]] : 0;
    }
    for (long c = 0; c < s->room; c++) {
        s->packed[s->taps * s->room + c] = s->bias && c < p->c ? s->bias[c] : 0;
        s->zeros[c] = 0;
    }
}

/* `vectors` vectors of channels from c on of one cell; the last one may have fewer lanes. */
ALWAYS_INLINE void compute_vectors(const struct plan *s, const real *const *from, const real *const *weight, long count, long c, const int vectors,
                                   long lanes, real *to)
{
    vec sum[TOGETHER];
    UNROLL for (int v = 0; v < vectors; v++)
        sum[v] = (vec){0};
    for (long t = 0; t < count; t++)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] = vec_madd(vec_load(weight[t] + c + v * LANES), vec_get(from[t] + c + v * LANES, v + 1 < vectors ? LANES : lanes), sum[v]);
    UNROLL for (int v = 0; v < vectors; v++) {
        if (s->bias)
            sum[v] = sum[v] + vec_load(s->packed + s->taps * s->room + c + v * LANES);
        if (s->p->activation == CNN_RELU && count)
            sum[v] = vec_select(sum[v] < 0, (vec){0}, sum[v]);
        vec_put(to + c + v * LANES, sum[v], v + 1 < vectors ? LANES : lanes);
    }
}

static void compute_row(void *context, long row, int worker)
{
    const struct plan *s = context;
    const struct cnn_conv *p = s->p;
    const long h = row % p->in[1], d = row / p->in[1] % p->in[0], n = row / p->in[1] / p->in[0];
    const struct reach *deep = &s->reach[0][d], *tall = &s->reach[1][h];
    const real **from = (const real **)(s->worker + (size_t)worker * s->worker_bytes), **weight = from + s->taps;
    real *dx = s->dx + n * p->x[0] + d * p->x[2] + h * p->x[3];
    for (long i = 0; i < p->in[2]; i++, dx += p->x[4]) {
        const struct reach *wide = &s->reach[2][i];
        long count = 0;
        for (long a = 0; a < deep->count; a++)
            for (long b = 0; b < tall->count; b++)
                for (long c = 0; c < wide->count; c++) {
                    const int inside = deep->out[a] >= 0 && tall->out[b] >= 0 && wide->out[c] >= 0;
                    from[count] = inside ? s->dy + n * p->y[0] + deep->out[a] * p->y[2] + tall->out[b] * p->y[3] + wide->out[c] * p->y[4] : s->zeros;
                    weight[count++] = s->packed + ((deep->tap[a] * p->window[1] + tall->tap[b]) * p->window[2] + wide->tap[c]) * s->room;
                }
        long c = 0;
        for (; c + TOGETHER * LANES <= p->c; c += TOGETHER * LANES)
            compute_vectors(s, from, weight, count, c, TOGETHER, LANES, dx);
        for (; c < p->c; c += LANES)
            compute_vectors(s, from, weight, count, c, 1, min_long(LANES, p->c - c), dx);
    }
}

size_t FN(depthwise_strided_scratch)(const struct cnn_conv *p, int workers)
{
    struct plan s;
    return make_plan(&s, p, workers, cnn_no_scratch);
}

void FN(depthwise_strided)(const struct cnn_conv *p, const real *dy, const real *w, const real *bias, real *dx, struct cnn_run *run)
{
    struct plan s;
    make_plan(&s, p, run->workers, run->scratch);
    s.dy = dy, s.bias = bias, s.dx = dx;
    find_reach(&s);
    pack(&s, w);
    const long rows = p->n * p->in[0] * p->in[1];
    cnn_parallel_for(run, rows, (double)(rows * p->in[2]) * (double)p->c / 10, compute_row, &s);
}
