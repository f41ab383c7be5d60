/* depthwise.c: one channel and one filter a group. Lanes are channels, so nothing is reduced across them:
 *
 *     y[n][c][p] = b[c] + sum over r of w[c][r] * xp[n][c][p*step + r*spread - before]
 *
 * The input of a box of outputs is copied to [row][column][channels of a block], borders filled; four outputs of a row are computed at once and share
 * their weights, and for three neighbouring taps of stride 1 also their pixels. Rows of C order and windows of 3 x 3 have kernels of their own.
 * Source: mathematics 2.3, G = C. */
#include "depthwise.h"

#include "../base/machine.h"
#include "planes.h"
#include "transpose.h"

enum { BLOCK = 128, ACROSS = 4 }; /* channels of a block; outputs at once */

int FN(is_depthwise)(long groups, long channels, long filters) { return groups == channels && groups == filters && groups > 1; }

struct plan {
    const struct product *p;
    const real *x, *bias;
    real *y, *packed; /* packed[block of channels][tap][BLOCK], then the bias */
    struct windows in;
    long taps, blocks;
    struct boxes boxes;
    char *worker;
    size_t worker_bytes, box_bytes;
};

static long packed_reals(const struct plan *s) { return (s->taps + 1) * BLOCK; }

static size_t make_plan(struct plan *s, const struct product *p, int workers, char *scratch)
{
    *s = (struct plan){.p = p, .in = p->in};
    s->in.channels = p->groups;
    s->in.stride[1] = p->x_group;
    s->taps = p->in.taps[0] * p->in.taps[1] * p->in.taps[2];
    s->blocks = divide_up(p->groups, BLOCK);
    const long channels = round_up(min_long(BLOCK, p->groups), LANES);
    s->boxes = FN(cut_boxes)(&s->in, 4096, channels, (double)cnn_machine()->l2 / 4 / sizeof(real));
    s->packed = (real *)scratch;
    const size_t bytes = aligned((size_t)(s->blocks * packed_reals(s)) * sizeof(real));
    s->worker = scratch + bytes;
    s->box_bytes = aligned((size_t)FN(box_pitch)(&s->in, s->boxes.size[0], s->boxes.size + 1, channels).size * sizeof(real));
    s->worker_bytes = spaced(s->box_bytes + (size_t)(round_up(s->boxes.size[3], LANES) * LANES) * sizeof(real));
    return bytes + (size_t)workers * s->worker_bytes;
}

static void pack(const struct plan *s, const real *w)
{
    const struct product *p = s->p;
    for (long c = 0; c < s->blocks * BLOCK; c++) {
        real *to = s->packed + c / BLOCK * packed_reals(s) + c % BLOCK;
        const real *from = w + c * p->w_group;
        for (long d = 0; d < p->in.taps[0]; d++)
            for (long h = 0; h < p->in.taps[1]; h++)
                for (long r = 0; r < p->in.taps[2]; r++, to += BLOCK)
                    *to = c < p->groups ? from[d * p->w[2] + h * p->w[3] + r * p->w[4]] : 0;
        *to = s->bias && c < p->groups ? s->bias[c] : 0;
    }
}

/* `outputs` neighbours of a row, one vector of channels: sums over all taps. slide: three taps, next to each other, stride 1. */
ALWAYS_INLINE void compute_cells(const struct plan *s, const real *in, struct pitch pitch, const real *w, const int outputs, const int slide, vec *sum)
{
    const struct windows *v = &s->in;
    const long step = v->step[2] * pitch.pixel, spread = v->spread[2] * pitch.pixel;
    UNROLL for (int q = 0; q < outputs; q++)
        sum[q] = (vec){0};
    for (long d = 0; d < v->taps[0]; d++)
        for (long h = 0; h < v->taps[1]; h++) {
            const real *row = in + d * v->spread[0] * pitch.plane + h * v->spread[1] * pitch.row;
            if (slide) {
                vec x[ACROSS + 2];
                UNROLL for (int i = 0; i < outputs + 2; i++)
                    x[i] = vec_load(row + i * pitch.pixel);
                UNROLL for (int r = 0; r < 3; r++) {
                    const vec weight = vec_load(w + r * BLOCK);
                    UNROLL for (int q = 0; q < outputs; q++)
                        sum[q] = vec_madd(weight, x[q + r], sum[q]);
                }
                w += 3 * BLOCK;
                continue;
            }
            for (long r = 0; r < v->taps[2]; r++, w += BLOCK) {
                const vec weight = vec_load(w);
                UNROLL for (int q = 0; q < outputs; q++)
                    sum[q] = vec_madd(weight, vec_load(row + r * spread + q * step), sum[q]);
            }
        }
}

ALWAYS_INLINE void finish_cells(const struct plan *s, const vec bias, const int outputs, vec *sum, real *to, long apart, long valid)
{
    UNROLL for (int q = 0; q < outputs; q++) {
        vec v = sum[q];
        if (s->bias)
            v = v + bias;
        if (s->p->activation == CNN_RELU)
            v = vec_max((vec){0}, v);
        if (valid == LANES)
            vec_store(to + q * apart, v);
        else
            vec_store_part(to + q * apart, v, valid);
    }
}

ALWAYS_INLINE void compute_row(const struct plan *s, const real *in, struct pitch pitch, const real *w, long columns, const int slide, real *to,
                               long apart, long valid)
{
    const vec bias = vec_load(w + s->taps * BLOCK);
    const long step = s->in.step[2] * pitch.pixel;
    vec sum[ACROSS];
    long q = 0;
    for (; q + ACROSS <= columns; q += ACROSS) {
        compute_cells(s, in + q * step, pitch, w, ACROSS, slide, sum);
        finish_cells(s, bias, ACROSS, sum, to + q * apart, apart, valid);
    }
    for (; q < columns; q++) {
        compute_cells(s, in + q * step, pitch, w, 1, slide, sum);
        finish_cells(s, bias, 1, sum, to + q * apart, apart, valid);
    }
}

/* A row of results, [column][LANES], to y where channels are not neighbours. */
static void scatter_row(const real *from, long columns, long valid, long channel, long column, real *y)
{
    long q = 0;
    if (column == 1)
        for (; q + LANES <= columns; q += LANES) {
            vec v[LANES];
            for (int i = 0; i < LANES; i++)
                v[i] = vec_load(from + (q + i) * LANES);
            transpose(v);
            for (long c = 0; c < valid; c++)
                vec_store(y + c * channel + q, v[c]);
        }
    for (; q < columns; q++)
        for (long c = 0; c < valid; c++)
            y[c * channel + q * column] = from[q * LANES + c];
}

static void compute_block(void *context, long number, int worker)
{
    const struct plan *s = context;
    const struct product *p = s->p;
    const long block = number % s->blocks, first = block * BLOCK, channels = min_long(BLOCK, p->groups - first);
    const struct box box = FN(box_at)(&s->in, &s->boxes, number / s->blocks);
    const long pixel = round_up(channels, LANES);
    const struct pitch pitch = FN(box_pitch)(&s->in, box.images, box.size, pixel);
    real *copy = (real *)(s->worker + (size_t)worker * s->worker_bytes), *beside = (real *)((char *)copy + s->box_bytes);
    if (pixel != channels)
        memset(copy, 0, (size_t)pitch.size * sizeof(real));
    FN(box_copy)(&s->in, &box, s->x, first, channels, pitch, copy);
    const int slide = p->in.taps[2] == 3 && p->in.spread[2] == 1 && p->in.step[2] == 1, direct = p->y_group == 1;
    for (long n = 0; n < box.images; n++)
        for (long d = 0; d < box.size[0]; d++)
            for (long h = 0; h < box.size[1]; h++)
                for (long c = 0; c < channels; c += LANES) {
                    const real *in = copy + n * pitch.image + d * p->in.step[0] * pitch.plane + h * p->in.step[1] * pitch.row + c;
                    const real *w = s->packed + block * packed_reals(s) + c;
                    real *y = s->y + (box.image + n) * p->y[0] + (first + c) * p->y_group + (box.begin[0] + d) * p->y[2] +
                              (box.begin[1] + h) * p->y[3] + box.begin[2] * p->y[4];
                    const long valid = min_long(LANES, channels - c), apart = direct ? p->y[4] : LANES;
                    real *to = direct ? y : beside;
                    if (slide)
                        compute_row(s, in, pitch, w, box.size[2], 1, to, apart, direct ? valid : LANES);
                    else
                        compute_row(s, in, pitch, w, box.size[2], 0, to, apart, direct ? valid : LANES);
                    if (!direct)
                        scatter_row(beside, box.size[2], valid, p->y_group, p->y[4], y);
                }
}

/* One image of few channels that are neighbours, as rows. */
static struct product few_of(const struct product *p)
{
    struct product q = *p;
    long in[5], out[5];
    row_strides(p->in.in, p->groups, in);
    row_strides(p->in.out, p->groups, out);
    q.in.images = 1, q.x_group = in[1], q.y_group = out[1];
    for (int i = 0; i < 5; i++)
        q.in.stride[i] = in[i], q.y[i] = out[i];
    return q;
}

static int few(const struct product *p)
{
    const long x[5] = {0, p->x_group, 0, 0, p->in.stride[4]}, y[5] = {0, p->y_group, 0, 0, p->y[4]};
    return few_planes((struct plane_image){p->in.in, x}, (struct plane_image){p->in.out, y}, p->groups);
}

struct weights {
    const struct product *p;
    const real *w, *bias;
};

static void compute_few(const struct planes *s, long n, long c, long channels, const real *from, real *to, struct cnn_run *run)
{
    (void)n, (void)c, (void)channels;
    const struct weights *f = s->context;
    const struct product q = few_of(f->p);
    FN(depthwise_rows)(&q, from, f->w, f->bias, to, run);
}

static double work_of(const struct product *p)
{
    const double cells = (double)(p->in.images * p->in.out[0]) * (double)(p->in.out[1] * p->in.out[2]);
    return cells * (double)(p->groups * (p->in.taps[0] * p->in.taps[1] * p->in.taps[2] + 4)) / 50;
}

static struct planes planes_of(const struct product *p)
{
    const struct product q = few_of(p);
    const struct plane_image x = {p->in.in, p->in.stride}, y = {p->in.out, p->y};
    struct planes s = {.n = p->in.images, .c = p->groups, .few = 1, .together = p->groups, .in = x, .out = y, .compute = compute_few};
    s.scratch = FN(depthwise_rows_scratch)(&q, 1), s.work = 2 * work_of(p);
    return s;
}

size_t FN(depthwise_scratch)(const struct product *p, int workers)
{
    struct plan s;
    if (few(p)) {
        const struct planes planes = planes_of(p);
        return FN(planes_scratch)(&planes, workers);
    }
    if (FN(depthwise_rows_take)(p))
        return FN(depthwise_rows_scratch)(p, workers);
    if (FN(depthwise_three_take)(p))
        return FN(depthwise_three_scratch)(p);
    return make_plan(&s, p, workers, cnn_no_scratch);
}

void FN(depthwise_run)(const struct product *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run)
{
    struct plan s;
    if (few(p)) {
        const struct weights f = {p, w, bias};
        struct planes planes = planes_of(p);
        planes.context = &f, planes.x = x, planes.y = y;
        FN(planes_run)(&planes, run);
        return;
    }
    if (FN(depthwise_rows_take)(p)) {
        FN(depthwise_rows)(p, x, w, bias, y, run);
        return;
    }
    if (FN(depthwise_three_take)(p)) {
        FN(depthwise_three)(p, x, w, bias, y, run);
        return;
    }
    make_plan(&s, p, run->workers, run->scratch);
    s.x = x, s.bias = bias, s.y = y;
    pack(&s, w);
    cnn_parallel_for(run, s.boxes.total * s.blocks, work_of(p), compute_block, &s);
}
