/* conv_narrow.c: convolution with at most 8 filters a group, forward and weight gradient, and the input gradient of as few channels, which is
 * such a forward with the kernel turned round. Filters would leave most lanes of a vector empty, so the lanes run along a row of pixels: images
 * are copied plane by plane, weights are broadcast.
 *
 *     y[k][q .. q+LANES)  = b[k] + sum over r, c of w[k][c][r] * x[c][row(r)][q + r*dilation ..]
 *     dw[k][c][r]         = sum over rows and q of dy[k][q ..] * x[c][row(r)][q + r*dilation ..], lanes added at a part's end
 *
 * Parts of the gradient are those of conv_weight.c, at most 2,048 output pixels, added in order. Source: mathematics 2.3. */
#include "conv_narrow.h"

#include "../base/machine.h"
#include "box.h"
#include "planes.h"
#include "transpose.h"

enum { MOST_FILTERS = 8, PART = 2048, CHANNELS = 256 };

#if CNN_VECTOR_BYTES == 64 || defined(__aarch64__)
#define TERMS_AT_ONCE(filters) ((filters) <= 3 ? 6 : (filters) <= 6 ? 4 : 3) /* 32 registers hold the sums */
enum { PAIRED = 4 }; /* filters of which two rows of two vectors are summed at once */
#else
enum { PAIRED = 2 };
#define TERMS_AT_ONCE(filters) ((filters) <= 2 ? 4 : (filters) <= 4 ? 2 : 1)
#endif

int FN(few_filters)(const struct cnn_conv *p)
{
    return p->k / p->groups <= MOST_FILTERS && p->c / p->groups <= CHANNELS && p->stride[2] == 1 && p->out[2] >= 8 &&
           p->window[0] * p->window[1] * p->window[2] > 1 && p->window[2] * p->dilation[2] <= 4096;
}

struct plan {
    const struct cnn_conv *p;
    const real *x, *w, *bias, *dy;
    real *y, *dw, *db;
    struct windows in, out;
    long channels, filters, taps, terms; /* terms = taps * channels, in the order (tap, channel) */
    struct boxes boxes;
    long row, plane, channel, room;      /* of the planes of x: reals from row to row ..., of all of them */
    long dy_row, dy_room;                /* of the planes of dy, a row rounded up to whole vectors */
    real *packed, *sums;                 /* [term][filter]; [part][filter][term + 1], the last for the bias */
    long *offset;                        /* [term]: from an output cell's first pixel to the term's */
    char *worker;
    size_t worker_bytes;
};

static void describe(struct plan *s, const struct cnn_conv *p)
{
    *s = (struct plan){.p = p, .in = FN(conv_windows)(p)};
    s->channels = p->c / p->groups;
    s->filters = p->k / p->groups;
    s->taps = p->window[0] * p->window[1] * p->window[2];
    s->terms = s->taps * s->channels;
    s->out = (struct windows){.images = p->n, .channels = s->filters};
    for (int a = 0; a < 3; a++)
        s->out.in[a] = s->out.out[a] = p->out[a], s->out.taps[a] = s->out.spread[a] = s->out.step[a] = 1;
    for (int i = 0; i < 5; i++)
        s->out.stride[i] = p->y[i];
}

/* Distances between the planes' rows for the largest box. A vector may reach beyond a row's end: into the next row or the
 * slack behind the last one. */
static void measure(struct plan *s)
{
    const long *size = s->boxes.size + 1;
    s->row = box_extent(&s->in, 2, size[2]);
    s->plane = s->row * box_extent(&s->in, 1, size[1]);
    s->channel = s->plane * box_extent(&s->in, 0, size[0]) * s->boxes.size[0];
    s->room = s->channel * s->channels + 2 * LANES;
    s->dy_row = round_up(size[2], LANES);
    s->dy_room = s->dy_row * size[0] * size[1] * s->boxes.size[0] * s->filters;
}

static void find_offsets(const struct plan *s)
{
    const struct cnn_conv *p = s->p;
    long *to = s->offset;
    for (long d = 0; d < p->window[0]; d++)
        for (long h = 0; h < p->window[1]; h++)
            for (long r = 0; r < p->window[2]; r++)
                for (long c = 0; c < s->channels; c++)
                    *to++ = c * s->channel + d * p->dilation[0] * s->plane + h * p->dilation[1] * s->row + r * p->dilation[2];
}

/* What copy_planes does, for channels-last images: a row of all planes at once. */
static void copy_channels_last(const struct plan *s, const struct box *box, long image, real *to)
{
    const struct cnn_conv *p = s->p;
    long first[3], extent[3];
    for (int a = 0; a < 3; a++)
        first[a] = box->begin[a] * s->in.step[a] - s->in.before[a], extent[a] = box_extent(&s->in, a, box->size[a]);
    const long left = min_long(extent[2], max_long(0, -first[2])), inside = max_long(0, min_long(extent[2] - left, p->in[2] - (first[2] + left)));
    const long right = extent[2] - left - inside;
    for (long n = 0; n < box->images; n++)
        for (long d = 0; d < extent[0]; d++)
            for (long h = 0; h < extent[1]; h++) {
                const long from_d = first[0] + d, from_h = first[1] + h;
                const int out = from_d < 0 || from_d >= p->in[0] || from_h < 0 || from_h >= p->in[1];
                real *row = to + n * image + d * s->plane + h * s->row;
                for (long c = 0; c < s->channels && (out || left || right); c++) {
                    for (long i = 0; i < (out ? extent[2] : left); i++)
                        row[c * s->channel + i] = 0;
                    for (long i = left + inside; i < extent[2]; i++)
                        row[c * s->channel + i] = 0;
                }
                const real *from = s->x + (box->image + n) * p->x[0] + from_d * p->x[2] + from_h * p->x[3] + (first[2] + left) * p->x[4];
                if (!out && s->channels <= CNN_FEW_CHANNELS && s->channels < LANES)
                    FN(gather_few)(from, inside, s->channels, s->channel, row + left);
                else if (!out)
                    FN(scatter_cells)(from, s->channel, 1, inside, s->channels, row + left);
            }
}

static void copy_planes(const struct plan *s, const struct box *box, long group, real *to)
{
    const long image = s->plane * box_extent(&s->in, 0, s->boxes.size[1]);
    if (s->channels > 1 && s->p->groups == 1 && s->p->x[1] == 1 && s->p->x[4] == s->channels && s->in.mode == CNN_ZEROS) {
        copy_channels_last(s, box, image, to);
        return;
    }
    for (long c = 0; c < s->channels; c++)
        FN(box_copy)(&s->in, box, s->x + group * s->channels * s->p->x[1], c, 1, (struct pitch){1, s->row, s->plane, image, 0}, to + c * s->channel);
}

/* A vector, or two, of the results of a row, or of two rows, `below` from one to the next under x; rows lie one behind the other in `to`. The numbers are
 * constants: the sums are registers, as many as keep the multipliers busy. */
ALWAYS_INLINE void forward_body(const struct plan *s, const real *x, long below, const real *bias, real *to, const long filters, const int vectors, const int rows)
{
    vec sum[MOST_FILTERS][4];
    UNROLL for (long k = 0; k < filters; k++)
        UNROLL for (int v = 0; v < rows * vectors; v++)
            sum[k][v] = (vec){0};
    const real *w = s->packed;
    for (long t = 0; t < s->terms; t++, w += filters) {
        const real *at = x + s->offset[t];
        vec xv[4];
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int v = 0; v < vectors; v++)
                xv[r * vectors + v] = vec_load(at + r * below + v * LANES);
        UNROLL for (long k = 0; k < filters; k++)
            UNROLL for (int v = 0; v < rows * vectors; v++)
                sum[k][v] = vec_madd(vec_fill(w[k]), xv[v], sum[k][v]);
    }
    UNROLL for (long k = 0; k < filters; k++)
        UNROLL for (int v = 0; v < rows * vectors; v++) {
            vec y = sum[k][v];
            if (bias)
                y = y + bias[k];
            if (s->p->activation == CNN_RELU)
                y = vec_max((vec){0}, y);
            vec_store(to + (v / vectors * filters + k) * s->dy_row + v % vectors * LANES, y);
        }
}

/* A part's dy, in rows of neighbours: the caller's, where vectors may end early, or a copy whose rows are whole vectors, zeros at the end. */
struct errors {
    const real *first;
    long filter, image, plane, row;
};

ALWAYS_INLINE int read_in_place(const struct cnn_conv *p) { return CNN_HAS_MASKED_MOVES && p->y[4] == 1; }
ALWAYS_INLINE vec load_end(const real *dy, long n) { return CNN_HAS_MASKED_MOVES ? vec_load_part(dy, n) : vec_load(dy); }

/* The products of n cells: dy and x at the first of them. Lanes of x beyond them take no part, be they NaN. */
ALWAYS_INLINE void weight_vector(const real *dy, long dy_filter, const real *x, const long *offset, long n, const int partial, const long filters,
                                 const int terms, vec (*sum)[6])
{
    vec d[MOST_FILTERS];
    UNROLL for (long k = 0; k < filters; k++)
        d[k] = partial ? load_end(dy + k * dy_filter, n) : vec_load(dy + k * dy_filter);
    UNROLL for (int t = 0; t < terms; t++) {
        const vec xv = partial ? vec_load_part(x + offset[t], n) : vec_load(x + offset[t]);
        UNROLL for (long k = 0; k < filters; k++)
            sum[k][t] = vec_madd(d[k], xv, sum[k][t]);
    }
}

/* The lanes of each of `count` vectors are added from the first to the last. */
static void add_lanes(const vec *v, long count, real *to)
{
    for (long i = 0; i < count; i += LANES) {
        vec square[LANES], sum = {0};
        for (long j = 0; j < LANES; j++)
            square[j] = v[min_long(i + j, count - 1)];
        transpose(square);
        for (int j = 0; j < LANES; j++)
            sum = sum + square[j];
        vec_put(to + i, sum, min_long(LANES, count - i));
    }
}

/* `terms` neighbouring terms of all filters over the whole part. */
ALWAYS_INLINE void weight_body(const struct plan *s, const struct box *box, const struct errors *dy, const real *x, long first, real *to, const long filters,
                               const int terms)
{
    vec sum[MOST_FILTERS][6], packed[MOST_FILTERS * 6];
    real added[MOST_FILTERS * 6];
    UNROLL for (long k = 0; k < filters; k++)
        UNROLL for (int t = 0; t < terms; t++)
            sum[k][t] = (vec){0};
    const long image = s->plane * box_extent(&s->in, 0, s->boxes.size[1]);
    const long whole = box->size[2] / LANES * LANES;
    const long *offset = s->offset + first;
    for (long n = 0; n < box->images; n++)
        for (long d = 0; d < box->size[0]; d++)
            for (long h = 0; h < box->size[1]; h++) {
                const real *row = x + n * image + d * s->in.step[0] * s->plane + h * s->in.step[1] * s->row;
                const real *error = dy->first + n * dy->image + d * dy->plane + h * dy->row;
                for (long q = 0; q < whole; q += LANES)
                    weight_vector(error + q, dy->filter, row + q, offset, LANES, 0, filters, terms, sum);
                if (whole < box->size[2])
                    weight_vector(error + whole, dy->filter, row + whole, offset, box->size[2] - whole, 1, filters, terms, sum);
            }
    UNROLL for (long k = 0; k < filters; k++)
        UNROLL for (int t = 0; t < terms; t++)
            packed[k * terms + t] = sum[k][t];
    add_lanes(packed, filters * terms, added);
    for (long k = 0; k < filters; k++)
        for (int t = 0; t < terms; t++)
            to[k * (s->terms + 1) + first + t] = added[k * terms + t];
}

typedef void forward_function(const struct plan *s, const real *x, long below, const real *bias, real *to);
typedef void weight_function(const struct plan *s, const struct box *box, const struct errors *dy, const real *x, long first, real *to);

#define FORWARD(n, vectors, rows)                                                                                                                  \
    static void forward_##n##x##vectors##x##rows(const struct plan *s, const real *x, long below, const real *bias, real *to)                     \
    {                                                                                                                                             \
        forward_body(s, x, below, bias, to, n, vectors, rows);                                                                                    \
    }
#define FILTERS(n)                                                                                                                            \
    FORWARD(n, 1, 1) FORWARD(n, 2, 1) FORWARD(n, 1, 2) FORWARD(n, 2, 2)                                                                         \
    static void weight_##n##x1(const struct plan *s, const struct box *box, const struct errors *dy, const real *x, long first, real *to)              \
    {                                                                                                                                         \
        weight_body(s, box, dy, x, first, to, n, 1);                                                                                          \
    }                                                                                                                                         \
    static void weight_##n(const struct plan *s, const struct box *box, const struct errors *dy, const real *x, long first, real *to)                  \
    {                                                                                                                                         \
        weight_body(s, box, dy, x, first, to, n, TERMS_AT_ONCE(n));                                                                           \
    }
FILTERS(1) FILTERS(2) FILTERS(3) FILTERS(4) FILTERS(5) FILTERS(6) FILTERS(7) FILTERS(8)

#define FORWARD_OF(n) {{forward_##n##x1x1, forward_##n##x2x1}, {forward_##n##x1x2, forward_##n##x2x2}}
static forward_function *const forward_table[MOST_FILTERS][2][2] = {FORWARD_OF(1), FORWARD_OF(2), FORWARD_OF(3), FORWARD_OF(4),
                                                                 FORWARD_OF(5), FORWARD_OF(6), FORWARD_OF(7), FORWARD_OF(8)};
#define WEIGHT_OF(n) {weight_##n##x1, weight_##n}
static weight_function *const weight_table[MOST_FILTERS][2] = {WEIGHT_OF(1), WEIGHT_OF(2), WEIGHT_OF(3), WEIGHT_OF(4),
                                                               WEIGHT_OF(5), WEIGHT_OF(6), WEIGHT_OF(7), WEIGHT_OF(8)};

/* Forward: a block is a box of rows of one group. */
static size_t plan_forward(struct plan *s, const struct cnn_conv *p, int workers, char *scratch)
{
    describe(s, p);
    s->boxes = FN(cut_boxes)(&s->in, PART, s->channels, (double)cnn_machine()->l2 / 2 / sizeof(real));
    measure(s);
    s->packed = (real *)scratch;
    size_t bytes = aligned((size_t)(p->groups * s->terms * s->filters) * sizeof(real));
    s->offset = (long *)(scratch + bytes);
    bytes += aligned((size_t)s->terms * sizeof(long));
    s->worker = scratch + bytes;
    s->worker_bytes = spaced(aligned((size_t)s->room * sizeof(real)) + (size_t)(2 * s->filters * s->dy_row + LANES) * sizeof(real));
    return bytes + (size_t)workers * s->worker_bytes;
}

static void write_row(const struct plan *s, long group, const real *row, long cells, real *y)
{
    const struct cnn_conv *p = s->p;
    y += group * s->filters * p->y[1];
    if (p->y[4] == 1)
        for (long k = 0; k < s->filters; k++)
            memcpy(y + k * p->y[1], row + k * s->dy_row, (size_t)cells * sizeof(real));
    else if (few_channels(p->y, p->k) && p->groups == 1)
        FN(scatter_few)(row, cells, s->filters, s->dy_row, y);
    else
        for (long q = 0; q < cells; q++)
            for (long k = 0; k < s->filters; k++)
                y[q * p->y[4] + k * p->y[1]] = row[k * s->dy_row + q];
}

static void forward_box(void *context, long block, int worker)
{
    struct plan s = *(const struct plan *)context;
    const struct cnn_conv *p = s.p;
    const long group = block % p->groups;
    const struct box box = FN(box_at)(&s.in, &s.boxes, block / p->groups);
    real *planes = (real *)(s.worker + (size_t)worker * s.worker_bytes), *rows = (real *)((char *)planes + aligned((size_t)s.room * sizeof(real)));
    const real *bias = s.bias ? s.bias + group * s.filters : NULL;
    const long image = s.plane * box_extent(&s.in, 0, s.boxes.size[1]);
    s.packed += group * s.terms * s.filters;
    copy_planes(&s, &box, group, planes);
    for (long n = 0; n < box.images; n++)
        for (long d = 0; d < box.size[0]; d++)
            for (long h = 0, together; h < box.size[1]; h += together) {
                together = h + 1 < box.size[1] && (box.size[2] <= LANES || s.filters <= PAIRED) ? 2 : 1;
                const real *x = planes + n * image + d * s.in.step[0] * s.plane + h * s.in.step[1] * s.row;
                for (long q = 0; q < box.size[2]; q += 2 * LANES)
                    forward_table[s.filters - 1][together - 1][box.size[2] - q > LANES](&s, x + q, s.in.step[1] * s.row, bias, rows + q);
                for (long r = 0; r < together; r++)
                    write_row(&s, group, rows + r * s.filters * s.dy_row, box.size[2],
                              s.y + (box.image + n) * p->y[0] + (box.begin[0] + d) * p->y[2] + (box.begin[1] + h + r) * p->y[3] + box.begin[2] * p->y[4]);
            }
}

size_t FN(narrow_forward_scratch)(const struct cnn_conv *p, int workers)
{
    struct plan s;
    return plan_forward(&s, p, workers, cnn_no_scratch);
}

void FN(narrow_forward)(const struct cnn_conv *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run)
{
    struct plan s;
    plan_forward(&s, p, run->workers, run->scratch);
    s.x = x, s.w = w, s.bias = bias, s.y = y;
    find_offsets(&s);
    real *to = s.packed;
    for (long g = 0; g < p->groups; g++)
        for (long d = 0; d < p->window[0]; d++)
            for (long h = 0; h < p->window[1]; h++)
                for (long r = 0; r < p->window[2]; r++)
                    for (long c = 0; c < s.channels; c++)
                        for (long k = 0; k < s.filters; k++)
                            *to++ = w[(g * s.filters + k) * p->w[0] + c * p->w[1] + d * p->w[2] + h * p->w[3] + r * p->w[4]];
    const double cells = (double)(p->n * p->out[0] * p->out[1]) * (double)(p->out[2] * p->k);
    cnn_parallel_for(run, s.boxes.total * p->groups, cells * (1 + (double)s.terms / 40), forward_box, &s);
}

/* dy takes the place of x and dx that of y, filters and channels change theirs, taps are counted from the last one. */
static struct cnn_conv turned(const struct cnn_conv *p, long *w_offset)
{
    struct cnn_conv q = *p;
    q.c = p->k, q.k = p->c, q.padding_mode = CNN_ZEROS;
    q.w[0] = p->w[1], q.w[1] = p->w[0];
    *w_offset = 0;
    for (int a = 0; a < 3; a++) {
        q.in[a] = p->out[a], q.out[a] = p->in[a];
        q.before[a] = (p->window[a] - 1) * p->dilation[a] - p->before[a];
        *w_offset += (p->window[a] - 1) * p->w[2 + a];
        q.w[2 + a] = -p->w[2 + a];
    }
    for (int i = 0; i < 5; i++)
        q.x[i] = p->y[i], q.y[i] = p->x[i];
    return q;
}

int FN(narrow_input_takes)(const struct cnn_conv *p)
{
    long ignored;
    const struct cnn_conv q = turned(p, &ignored);
    if (p->groups != 1 || p->stride[0] != 1 || p->stride[1] != 1 || p->stride[2] != 1 || p->accumulate || !FN(few_filters)(&q))
        return 0;
    /* Vectors of products for a filter: here those of whole rows of dx, with zeros too; in conv_scatter.c rows of taps for every cell of dy, and to add them. */
    const double taps = (double)(p->window[0] * p->window[1]), run = (double)(p->window[2] * p->c);
    const double here = (double)(p->in[0] * p->in[1]) * (double)round_up(p->in[2], LANES) * taps * run;
    const double there = (double)(p->out[0] * p->out[1] * p->out[2]) * taps * (double)round_up(p->window[2] * p->c, LANES);
    return here * 1.2 <= there * (1 + 4 / (double)p->k);
}

size_t FN(narrow_input_scratch)(const struct cnn_conv *p, int workers)
{
    long ignored;
    const struct cnn_conv q = turned(p, &ignored);
    return FN(narrow_forward_scratch)(&q, workers);
}

void FN(narrow_input)(const struct cnn_conv *p, const real *dy, const real *w, const real *bias, real *dx, struct cnn_run *run)
{
    long w_offset;
    const struct cnn_conv q = turned(p, &w_offset);
    FN(narrow_forward)(&q, dy, w + w_offset, bias, dx, run);
}

/* Weight gradient: a block is a part of one group. */
static size_t plan_weight(struct plan *s, const struct cnn_conv *p, int workers, char *scratch)
{
    describe(s, p);
    s->boxes = FN(cut_boxes)(&s->in, PART, 1, 1e18);
    measure(s);
    s->sums = (real *)scratch;
    size_t bytes = aligned((size_t)(max_long(1, s->boxes.total) * p->k * (s->terms + 1)) * sizeof(real));
    s->offset = (long *)(scratch + bytes);
    bytes += aligned((size_t)s->terms * sizeof(long));
    s->worker = scratch + bytes;
    s->worker_bytes = spaced(aligned((size_t)s->room * sizeof(real)) + (size_t)s->dy_room * sizeof(real));
    return bytes + (size_t)workers * s->worker_bytes;
}

static struct errors copy_dy(const struct plan *s, const struct box *box, long group, real *to)
{
    const struct cnn_conv *p = s->p;
    const long filter = s->dy_room / s->filters, plane = s->dy_row * box->size[1], image = plane * box->size[0];
    const real *dy = s->dy + group * s->filters * p->y[1];
    if (read_in_place(p))
        return (struct errors){dy + box->image * p->y[0] + box->begin[0] * p->y[2] + box->begin[1] * p->y[3] + box->begin[2], p->y[1], p->y[0], p->y[2], p->y[3]};
    memset(to, 0, (size_t)s->dy_room * sizeof(real)); /* lanes beyond a row's end */
    if (few_channels(p->y, p->k) && p->groups == 1)
        for (long n = 0; n < box->images; n++)
            for (long d = 0; d < box->size[0]; d++)
                for (long h = 0; h < box->size[1]; h++)
                    FN(gather_few)(dy + (box->image + n) * p->y[0] + (box->begin[0] + d) * p->y[2] + (box->begin[1] + h) * p->y[3] + box->begin[2] * p->y[4],
                                   box->size[2], s->filters, filter, to + n * image + d * plane + h * s->dy_row);
    else
        for (long k = 0; k < s->filters; k++)
            FN(box_copy)(&s->out, box, dy, k, 1, (struct pitch){1, s->dy_row, plane, image, 0}, to + k * filter);
    return (struct errors){to, filter, image, plane, s->dy_row};
}

/* The sum of each filter's dy: vectors in order, then lanes. All filters go together: every sum waits for its last addition. */
static void add_errors(const struct plan *s, const struct box *box, const struct errors *dy, real *to)
{
    vec sum[MOST_FILTERS] = {{0}};
    for (long n = 0; n < box->images; n++)
        for (long d = 0; d < box->size[0]; d++)
            for (long h = 0; h < box->size[1]; h++) {
                const real *row = dy->first + n * dy->image + d * dy->plane + h * dy->row;
                for (long q = 0; q < box->size[2]; q += LANES)
                    for (long k = 0; k < s->filters; k++) {
                        const real *at = row + k * dy->filter + q;
                        sum[k] = sum[k] + (box->size[2] - q >= LANES ? vec_load(at) : load_end(at, box->size[2] - q));
                    }
            }
    add_lanes(sum, s->filters, to);
}

static void weight_part(void *context, long block, int worker)
{
    const struct plan *s = context;
    const long group = block % s->p->groups, part = block / s->p->groups, at_once = TERMS_AT_ONCE(s->filters);
    const struct box box = FN(box_at)(&s->in, &s->boxes, part);
    real *planes = (real *)(s->worker + (size_t)worker * s->worker_bytes), *copy = (real *)((char *)planes + aligned((size_t)s->room * sizeof(real)));
    real *to = s->sums + (part * s->p->k + group * s->filters) * (s->terms + 1);
    memset(planes + s->room - 2 * LANES, 0, 2 * LANES * sizeof(real));
    copy_planes(s, &box, group, planes);
    const struct errors dy = copy_dy(s, &box, group, copy);
    long t = 0;
    for (; t + at_once <= s->terms; t += at_once)
        weight_table[s->filters - 1][1](s, &box, &dy, planes, t, to);
    for (; t < s->terms; t++)
        weight_table[s->filters - 1][0](s, &box, &dy, planes, t, to);
    real errors[8 * LANES]; /* room for a vector */
    add_errors(s, &box, &dy, errors);
    for (long k = 0; k < s->filters; k++)
        to[k * (s->terms + 1) + s->terms] = errors[k];
}

size_t FN(narrow_weight_scratch)(const struct cnn_conv *p, int workers)
{
    struct plan s;
    return plan_weight(&s, p, workers, cnn_no_scratch);
}

void FN(narrow_weight)(const struct cnn_conv *p, const real *x, const real *dy, real *dw, real *db, struct cnn_run *run)
{
    struct plan s;
    plan_weight(&s, p, run->workers, run->scratch);
    s.x = x, s.dy = dy, s.dw = dw, s.db = db;
    find_offsets(&s);
    const double cells = (double)(p->n * p->out[0] * p->out[1]) * (double)(p->out[2] * p->k);
    cnn_parallel_for(run, s.boxes.total * p->groups, cells * (1 + (double)s.terms / 40), weight_part, &s);
    const long size = p->k * (s.terms + 1);
    if (run->stopped)
        return;
    for (long part = 1; part < s.boxes.total; part++)
        for (long i = 0; i < size; i++)
            s.sums[i] += s.sums[part * size + i];
    for (long i = 0; i < size; i++) {
        const real sum = s.boxes.total ? s.sums[i] : 0;
        const long k = i / (s.terms + 1), term = i % (s.terms + 1), tap = term / s.channels, c = term % s.channels;
        const long r = tap % p->window[2], h = tap / p->window[2] % p->window[1], d = tap / p->window[2] / p->window[1];
        if (term < s.terms)
            dw[k * p->w[0] + c * p->w[1] + d * p->w[2] + h * p->w[3] + r * p->w[4]] = sum;
        else if (db)
            db[k] = sum;
    }
}
