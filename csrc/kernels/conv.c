/* conv.c: convolution, its input gradient and the transposed convolution that this is. The weight gradient: conv_weight.c.
 *
 *     y[n][k][p]  = b[k] + sum_{c, r} w[k][c][r] * xp[n][g*C/G + c][p*stride + r*dilation - before]
 *     dx[n][c][h] = sum over k, r, p with p*stride + r*dilation - before = h of  w[k][c][r] * dy[n][k][p]
 *
 * x[N][C][in], w[K][C/G][window], y[N][K][out]; outside the image xp follows the padding mode, dx only zeros. Both overwrite.
 * Backward needs the forward's inputs only. Source: mathematics 2.3. */
#include "conv_narrow.h"
#include "conv_scatter.h"
#include "depthwise.h"
#include "few_rows.h"
#include "ops.h"
#include "phase.h"
#include "pointwise.h"
#include "product.h"
#include "winograd.h"

/* Windows of one cell read every step-th cell: those alone are the image. */
static void leave_out_cells(struct windows *w)
{
    for (int a = 0; a < 3; a++)
        if (w->taps[a] == 1 && w->before[a] == 0 && (w->out[a] - 1) * w->step[a] < w->in[a]) {
            w->stride[2 + a] *= w->step[a];
            w->in[a] = w->out[a], w->step[a] = 1;
        }
}

static struct product forward_product(const struct cnn_conv *p)
{
    struct product q = {.groups = p->groups, .filters = p->k / p->groups, .activation = p->activation, .algorithm = p->algorithm};
    q.packed = p->packed, q.accumulate = p->accumulate;
    q.in = FN(conv_windows)(p);
    leave_out_cells(&q.in);
    for (int i = 0; i < 5; i++)
        q.y[i] = p->y[i], q.w[i] = p->w[i];
    q.x_group = q.in.channels * p->x[1];
    q.y_group = q.filters * p->y[1];
    q.w_group = q.filters * p->w[0];
    return q;
}

static int depthwise(const struct cnn_conv *p) { return FN(is_depthwise)(p->groups, p->c, p->k); }

static int is_depthwise(const struct product *q) { return FN(is_depthwise)(q->groups, q->groups * q->in.channels, q->groups * q->filters); }

/* Whether tiles compute it, without a transform. */
static int is_tiled(const struct product *q)
{
    return phases_of(q) > 1 || (!is_depthwise(q) && !FN(pointwise_planes)(q) && !FN(winograd_kind)(q));
}

static size_t scratch_of(const struct product *q, int workers)
{
    if (is_tiled(q))
        return FN(product_scratch)(q, workers);
    if (is_depthwise(q))
        return FN(depthwise_scratch)(q, workers);
    return FN(pointwise_planes)(q) ? FN(pointwise_scratch)(q, workers) : FN(winograd_scratch)(q, FN(winograd_kind)(q), workers);
}

static void run_product(const struct product *q, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run)
{
    if (is_tiled(q))
        FN(product_run)(q, x, w, bias, y, run);
    else if (is_depthwise(q))
        FN(depthwise_run)(q, x, w, bias, y, run);
    else if (FN(pointwise_planes)(q))
        FN(pointwise_run)(q, x, w, bias, y, run);
    else
        FN(winograd_run)(q, FN(winograd_kind)(q), x, w, bias, y, run);
}

size_t FN(conv_forward_scratch)(const void *problem, int workers)
{
    if (FN(few_rows)(problem))
        return FN(few_rows_scratch)(problem, workers);
    if (FN(few_filters)(problem) && !depthwise(problem))
        return FN(narrow_forward_scratch)(problem, workers);
    const struct product q = forward_product(problem);
    return scratch_of(&q, workers);
}

void FN(conv_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_conv *p = problem;
    const real *x = array[0], *w = array[1], *b = array[2];
    real *y = array[3];
    if (FN(few_rows)(p)) {
        FN(few_rows_forward)(p, x, w, b, y, run);
        return;
    }
    if (FN(few_filters)(p) && !depthwise(p)) {
        FN(narrow_forward)(p, x, w, b, y, run);
        return;
    }
    const struct product q = forward_product(p);
    run_product(&q, x, w, b, y, run);
}

static int by_product(const struct cnn_conv *p) { return !FN(few_rows)(p) && !depthwise(p) && !FN(few_filters)(p); }

/* Weights in the order in which conv_forward with `packed` set reads them, for calls of the same geometry: {packed_bytes} of them. */
size_t FN(conv_pack_scratch)(const void *problem, int workers)
{
    const struct product q = forward_product(problem);
    const int kind = FN(winograd_kind)(&q);
    return kind ? FN(winograd_scratch)(&q, kind, workers) : 0;
}

void FN(conv_pack)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct product q = forward_product(problem);
    const int kind = FN(winograd_kind)(&q);
    q.packed = 0;
    if (kind)
        FN(winograd_pack)(&q, kind, array[0], array[1], run);
    else
        FN(product_pack)(&q, array[0], array[1], run);
}

struct cnn_conv_traits FN(conv_traits)(const struct cnn_conv *p)
{
    struct cnn_conv_traits traits = {0};
    if (by_product(p)) {
        const struct product q = forward_product(p);
        const int kind = FN(winograd_kind)(&q);
        traits.packed_bytes = kind ? FN(winograd_packed)(&q, kind) : FN(product_packed)(&q);
        traits.forward_accumulates = p->y[1] == 1;
    }
    traits.weight_updates = FN(few_rows)(p) && p->w[1] == 1 && p->w[0] == p->c;
    traits.input_accumulates = !FN(few_rows)(p) && !depthwise(p) && !FN(few_channels)(p) && p->x[1] == 1;
    return traits;
}

static long phases(const struct cnn_conv *p, int a) { return min_long(p->stride[a], p->in[a]); }
static long all_phases(const struct cnn_conv *p) { return phases(p, 0) * phases(p, 1) * phases(p, 2); }

/* The product of the phase numbered `index`; returns the offsets of its first cell and tap. */
static struct product phase_product(const struct cnn_conv *p, long index, long *x_offset, long *w_offset)
{
    struct product q = {.groups = p->groups, .filters = p->c / p->groups, .activation = p->activation, .algorithm = p->algorithm};
    q.accumulate = p->accumulate;
    q.in = (struct windows){.images = p->n, .channels = p->k / p->groups, .mode = CNN_ZEROS};
    *x_offset = *w_offset = 0;
    for (int a = 2; a >= 0; a--) {
        const long first = index % phases(p, a);
        const struct phase f = find_phase(p, a, first);
        index /= phases(p, a);
        q.in.in[a] = p->out[a], q.in.out[a] = f.count, q.in.taps[a] = f.taps;
        q.in.spread[a] = f.spread, q.in.step[a] = 1, q.in.before[a] = f.before;
        q.y[2 + a] = p->x[2 + a] * p->stride[a];
        q.w[2 + a] = p->w[2 + a] * f.tap_step;
        *x_offset += first * p->x[2 + a];
        *w_offset += f.first_tap * p->w[2 + a];
    }
    for (int i = 0; i < 5; i++)
        q.in.stride[i] = p->y[i];
    q.y[0] = p->x[0], q.y[1] = p->x[1];
    q.w[0] = p->w[1], q.w[1] = p->w[0];
    q.x_group = q.in.channels * p->y[1];
    q.y_group = q.filters * p->x[1];
    q.w_group = q.in.channels * p->w[0];
    return q;
}

static long cells_of(const struct product *q) { return q->in.images * q->in.out[0] * q->in.out[1] * q->in.out[2]; }
static long taps_of(const struct product *q) { return q->in.taps[0] * q->in.taps[1] * q->in.taps[2]; }

/* Makes the product of phase 0 one of all phases, which read x once, if they have as many cells and not all of them go by Winograd's algorithm. Its windows
 * hold those of all. */
static int join_phases(const struct cnn_conv *p, struct product *q)
{
    struct product joined = *q;
    for (int a = 0; a < 3; a++) {
        const long count = phases(p, a);
        if (count > PHASES)
            return 0;
        struct phase f[PHASES];
        long before = 0, taps = 0;
        for (long i = 0; i < count; i++) {
            f[i] = find_phase(p, a, i);
            before = i ? max_long(before, f[i].before) : f[i].before;
        }
        for (long i = 0; i < count; i++) {
            const long later = before - f[i].before, first = later / f[i].spread;
            if (f[i].count != f[0].count || f[i].taps == 0 || later % f[i].spread != 0)
                return 0;
            joined.phases.axis[a][i].first = first, joined.phases.axis[a][i].taps = f[i].taps;
            joined.phases.axis[a][i].w = (f[i].first_tap - f[0].first_tap) * p->w[2 + a];
            taps = max_long(taps, first + f[i].taps);
        }
        joined.phases.count[a] = count, joined.phases.y[a] = p->x[2 + a];
        joined.in.before[a] = before, joined.in.taps[a] = taps;
    }
    int tiled = 0;
    for (long i = 0; i < all_phases(p); i++) {
        long ignored[2];
        const struct product one = phase_product(p, i, &ignored[0], &ignored[1]);
        if (is_tiled(&one))
            tiled = 1;
        else if (is_depthwise(&one) || FN(pointwise_planes)(&one))
            return 0;
    }
    if (!tiled)
        return 0;
    *q = joined;
    return 1;
}

/* The products of the input gradient one after the other: the one numbered `index`, or, as number 0, all of them at once. Returns how many there are. */
static long input_product(const struct cnn_conv *p, long index, struct product *q, long *x_offset, long *w_offset)
{
    const long count = all_phases(p);
    *q = phase_product(p, index, x_offset, w_offset);
    return count > 1 && index == 0 && join_phases(p, q) ? 1 : count;
}

static int few_channels_of(const struct cnn_conv *p) { return FN(few_channels)(p) && !depthwise(p); }

size_t FN(conv_backward_input_scratch)(const void *problem, int workers)
{
    const struct cnn_conv *p = problem;
    if (FN(few_rows)(p))
        return FN(few_rows_input_scratch)(p, workers);
    if (few_channels_of(p))
        return FN(narrow_input_takes)(p) ? FN(narrow_input_scratch)(p, workers) : FN(scatter_scratch)(p, workers);
    if (FN(depthwise_strided_take)(p))
        return FN(depthwise_strided_scratch)(p, workers);
    size_t most = 0;
    for (long i = 0, count = all_phases(p) > 0; i < count; i++) {
        struct product q;
        long ignored[2];
        count = input_product(p, i, &q, &ignored[0], &ignored[1]);
        if (!cells_of(&q) || !taps_of(&q))
            continue;
        const size_t bytes = scratch_of(&q, workers);
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* Cells that no window reaches: zero, or the bias of a transposed convolution. A block is a row of cells. */
struct unreached {
    const struct product *q;
    const real *bias;
    real *y;
};

static void fill_row(void *context, long block, int worker)
{
    (void)worker;
    const struct unreached *s = context;
    const struct product *q = s->q;
    const long *out = q->in.out, filters = q->groups * q->filters;
    real *y = s->y + block / (out[0] * out[1]) * q->y[0] + block / out[1] % out[0] * q->y[2] + block % out[1] * q->y[3];
    if (q->y[1] == 1)
        for (long i = 0; i < out[2]; i++)
            for (long f = 0; f < filters; f++)
                y[i * q->y[4] + f] = s->bias ? s->bias[f] : 0;
    else
        for (long f = 0; f < filters; f++)
            for (long i = 0; i < out[2]; i++)
                y[f * q->y[1] + i * q->y[4]] = s->bias ? s->bias[f] : 0;
}

static void fill_cells(const struct product *q, const real *bias, real *y, struct cnn_run *run)
{
    struct unreached s = {q, bias, y};
    cnn_parallel_for(run, q->in.images * q->in.out[0] * q->in.out[1], (double)(cells_of(q) * q->groups * q->filters) / 4, fill_row, &s);
}

void FN(conv_backward_input)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_conv *p = problem;
    const real *dy = array[0], *w = array[1], *b = array[2]; /* b: of a transposed convolution only */
    real *dx = array[3];
    if (FN(few_rows)(p)) {
        FN(few_rows_input)(p, dy, w, b, dx, run);
        return;
    }
    if (few_channels_of(p)) {
        (FN(narrow_input_takes)(p) ? FN(narrow_input) : FN(scatter_input))(p, dy, w, b, dx, run);
        return;
    }
    if (FN(depthwise_strided_take)(p)) {
        FN(depthwise_strided)(p, dy, w, b, dx, run);
        return;
    }
    for (long i = 0, count = all_phases(p) > 0; i < count; i++) {
        struct product q;
        long x_offset, w_offset;
        count = input_product(p, i, &q, &x_offset, &w_offset);
        if (!cells_of(&q))
            continue;
        if (taps_of(&q))
            run_product(&q, dy, w + w_offset, b, dx + x_offset, run);
        else if (!p->accumulate)
            fill_cells(&q, b, dx + x_offset, run);
    }
}
