/* depthwise_strided.c: the input gradient of a depthwise convolution with a stride, channels side by side; a transposed convolution alike.
 *
 *     dx[n][c][i] = sum over the taps r that reach cell i of w[c][r] dy[n][c][o],  o stride + r dilation - before = i;  + b[c]
 *
 * Cell by cell: few taps reach a cell, and neighbours are reached by others. Terms are those of the convolutions of phase.h, in their order, and
 * taps whose o lies outside meet zeros as they do there, so every memory order gives the same bits. Overwrites. */
#include "depthwise.h"
#include "phase.h"

enum { TOGETHER = 4 }; /* vectors of channels with sums of their own */

struct plan {
    const struct cnn_conv *p;
    const real *dy, *bias;
    real *dx, *packed, *zeros; /* packed[tap][room], the bias behind; zeros[room] */
    struct phase *phase[3];    /* of an axis [cell modulo its stride] */
    long taps, room, most;     /* taps of the window, that reach a cell at most */
    char *worker;
    size_t worker_bytes;
};

/* Taps that reach a cell, at most. */
static long most_taps(const struct cnn_conv *p)
{
    long most = 1;
    for (int a = 0; a < 3; a++)
        most *= divide_up(p->window[a], p->stride[a] / greatest_divisor(p->stride[a], p->dilation[a]));
    return most;
}

/* Where many taps reach a cell, neighbours share more than they differ: those are left to the convolutions of phase.h. */
int FN(depthwise_strided_take)(const struct cnn_conv *p)
{
    return FN(is_depthwise)(p->groups, p->c, p->k) && p->x[1] == 1 && p->y[1] == 1 && p->stride[0] * p->stride[1] * p->stride[2] > 1 && most_taps(p) <= 8;
}

static void *take(char *scratch, size_t *used, size_t bytes)
{
    char *at = scratch + *used;
    *used += aligned(bytes);
    return at;
}

static size_t make_plan(struct plan *s, const struct cnn_conv *p, int workers, char *scratch)
{
    size_t used = 0;
    *s = (struct plan){.p = p, .taps = p->window[0] * p->window[1] * p->window[2], .room = round_up(p->c, LANES), .most = most_taps(p)};
    s->packed = take(scratch, &used, (size_t)((s->taps + 1) * s->room) * sizeof(real));
    s->zeros = take(scratch, &used, (size_t)s->room * sizeof(real));
    for (int a = 0; a < 3; a++)
        s->phase[a] = take(scratch, &used, (size_t)min_long(p->stride[a], p->in[a]) * sizeof(struct phase));
    s->worker_bytes = spaced((size_t)s->most * 2 * sizeof(real *));
    s->worker = take(scratch, &used, (size_t)workers * s->worker_bytes);
    return used;
}

/* The output from which tap number t of a phase reaches the phase's cell number `place`, or -1. */
ALWAYS_INLINE long output_at(const struct phase *f, long outputs, long place, long t)
{
    const long o = place + t * f->spread - f->before;
    return o >= 0 && o < outputs ? o : -1;
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
            sum[v] = vec_max((vec){0}, sum[v]);
        vec_put(to + c + v * LANES, sum[v], v + 1 < vectors ? LANES : lanes);
    }
}

static void compute_row(void *context, long row, int worker)
{
    const struct plan *s = context;
    const struct cnn_conv *p = s->p;
    const long h = row % p->in[1], d = row / p->in[1] % p->in[0], n = row / p->in[1] / p->in[0];
    const long plane = d / p->stride[0], line = h / p->stride[1];
    const struct phase *deep = &s->phase[0][d % p->stride[0]], *tall = &s->phase[1][h % p->stride[1]];
    const real **from = (const real **)(s->worker + (size_t)worker * s->worker_bytes), **weight = from + s->most;
    real *dx = s->dx + n * p->x[0] + d * p->x[2] + h * p->x[3];
    for (long i = 0; i < p->in[2]; i++, dx += p->x[4]) {
        const long across = i / p->stride[2];
        const struct phase *wide = &s->phase[2][i - across * p->stride[2]];
        long count = 0;
        for (long a = 0; a < deep->taps; a++)
            for (long b = 0; b < tall->taps; b++) {
                const long od = output_at(deep, p->out[0], plane, a), oh = output_at(tall, p->out[1], line, b);
                const real *row = od < 0 || oh < 0 ? NULL : s->dy + n * p->y[0] + od * p->y[2] + oh * p->y[3];
                const long tap = ((deep->first_tap + a * deep->tap_step) * p->window[1] + tall->first_tap + b * tall->tap_step) * p->window[2];
                for (long r = 0; r < wide->taps; r++) {
                    const long o = output_at(wide, p->out[2], across, r);
                    from[count] = row && o >= 0 ? row + o * p->y[4] : s->zeros;
                    weight[count++] = s->packed + (tap + wide->first_tap + r * wide->tap_step) * s->room;
                }
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
    for (int a = 0; a < 3; a++)
        for (long first = 0; first < min_long(p->stride[a], p->in[a]); first++)
            s.phase[a][first] = find_phase(p, a, first);
    pack(&s, w);
    const long rows = p->n * p->in[0] * p->in[1];
    cnn_parallel_for(run, rows, (double)(rows * p->in[2]) * (double)p->c / 10, compute_row, &s);
}
