/* conv_narrow.c: convolution with at most 8 filters a group, forward and weight gradient. Filters would leave most lanes of a
 * vector empty, so the lanes run along a row of pixels: images are copied plane by plane, weights are broadcast.
 *
 *     y[k][q .. q+LANES)  = b[k] + sum over r, c of w[k][c][r] * x[c][row(r)][q + r*dilation ..]
 *     dw[k][c][r]         = sum over rows and q of dy[k][q ..] * x[c][row(r)][q + r*dilation ..], lanes added at a part's end
 *
 * Parts of the gradient are those of conv_weight.c, at most 2,048 output pixels, added in order. Source: mathematics 2.3. */
#include "conv_narrow.h"

#include "../base/machine.h"
#include "box.h"

enum { MOST_FILTERS = 8, PART = 2048, CHANNELS = 256 };

#if CNN_VECTOR_BYTES == 64 || defined(__aarch64__)
#define TERMS_AT_ONCE(filters) ((filters) <= 3 ? 6 : (filters) <= 6 ? 4 : 3) /* 32 registers hold the sums */
#else
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

static void copy_planes(const struct plan *s, const struct box *box, long group, real *to)
{
    const long image = s->plane * box_extent(&s->in, 0, s->boxes.size[1]);
    for (long c = 0; c < s->channels; c++)
        FN(box_copy)(&s->in, box, s->x + group * s->channels * s->p->x[1], c, 1, (struct pitch){1, s->row, s->plane, image, 0}, to + c * s->channel);
}

/* `filters` and `vectors` are constants: the sums are registers. */
ALWAYS_INLINE void forward_body(const struct plan *s, const real *x, const real *bias, real *to, const long filters, const int vectors)
{
    vec sum[MOST_FILTERS][2];
    UNROLL for (long k = 0; k < filters; k++)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[k][v] = (vec){0};
    const real *w = s->packed;
    for (long t = 0; t < s->terms; t++, w += filters) {
        const real *at = x + s->offset[t];
        vec xv[2];
        UNROLL for (int v = 0; v < vectors; v++)
            xv[v] = vec_load(at + v * LANES);
        UNROLL for (long k = 0; k < filters; k++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[k][v] = vec_madd(vec_fill(w[k]), xv[v], sum[k][v]);
    }
    UNROLL for (long k = 0; k < filters; k++)
        UNROLL for (int v = 0; v < vectors; v++) {
            vec y = sum[k][v];
            if (bias)
                y = y + bias[k];
            if (s->p->activation == CNN_RELU)
                y = vec_select(y < 0, (vec){0}, y);
            vec_store(to + k * s->dy_row + v * LANES, y);
        }
}

/* The products of LANES cells: dy and x at the first of them. Lanes of x outside `inside` take no part, be they NaN. */
ALWAYS_INLINE void weight_vector(const real *dy, long dy_filter, const real *x, const long *offset, const mask inside, const int partial,
                                 const long filters, const int terms, vec (*sum)[6])
{
    vec d[MOST_FILTERS];
    UNROLL for (long k = 0; k < filters; k++)
        d[k] = vec_load(dy + k * dy_filter);
    UNROLL for (int t = 0; t < terms; t++) {
        vec xv = vec_load(x + offset[t]);
        if (partial)
            xv = vec_select(inside, xv, (vec){0});
        UNROLL for (long k = 0; k < filters; k++)
            sum[k][t] = vec_madd(d[k], xv, sum[k][t]);
    }
}

static real add_lanes(vec v)
{
    real sum = 0;
    for (int i = 0; i < LANES; i++)
        sum += v[i];
    return sum;
}

/* `terms` neighbouring terms of all filters over the whole part. */
ALWAYS_INLINE void weight_body(const struct plan *s, const struct box *box, const real *dy, const real *x, long first, real *to, const long filters,
                               const int terms)
{
    vec sum[MOST_FILTERS][6];
    UNROLL for (long k = 0; k < filters; k++)
        UNROLL for (int t = 0; t < terms; t++)
            sum[k][t] = (vec){0};
    const long dy_filter = s->dy_room / s->filters, image = s->plane * box_extent(&s->in, 0, s->boxes.size[1]);
    const long whole = box->size[2] / LANES * LANES;
    const long *offset = s->offset + first;
    mask inside;
    for (int v = 0; v < LANES; v++)
        inside[v] = v < box->size[2] - whole ? -1 : 0;
    for (long n = 0; n < box->images; n++)
        for (long d = 0; d < box->size[0]; d++)
            for (long h = 0; h < box->size[1]; h++, dy += s->dy_row) {
                const real *row = x + n * image + d * s->in.step[0] * s->plane + h * s->in.step[1] * s->row;
                for (long q = 0; q < whole; q += LANES)
                    weight_vector(dy + q, dy_filter, row + q, offset, inside, 0, filters, terms, sum);
                if (whole < box->size[2])
                    weight_vector(dy + whole, dy_filter, row + whole, offset, inside, 1, filters, terms, sum);
            }
    for (long k = 0; k < filters; k++)
        for (int t = 0; t < terms; t++)
            to[k * (s->terms + 1) + first + t] = add_lanes(sum[k][t]);
}

typedef void forward_function(const struct plan *s, const real *x, const real *bias, real *to);
typedef void weight_function(const struct plan *s, const struct box *box, const real *dy, const real *x, long first, real *to);

#define FILTERS(n)                                                                                                                            \
    static void forward_##n##x1(const struct plan *s, const real *x, const real *bias, real *to) { forward_body(s, x, bias, to, n, 1); }       \
    static void forward_##n##x2(const struct plan *s, const real *x, const real *bias, real *to) { forward_body(s, x, bias, to, n, 2); }       \
    static void weight_##n##x1(const struct plan *s, const struct box *box, const real *dy, const real *x, long first, real *to)              \
    {                                                                                                                                         \
        weight_body(s, box, dy, x, first, to, n, 1);                                                                                          \
    }                                                                                                                                         \
    static void weight_##n(const struct plan *s, const struct box *box, const real *dy, const real *x, long first, real *to)                  \
    {                                                                                                                                         \
        weight_body(s, box, dy, x, first, to, n, TERMS_AT_ONCE(n));                                                                           \
    }
FILTERS(1) FILTERS(2) FILTERS(3) FILTERS(4) FILTERS(5) FILTERS(6) FILTERS(7) FILTERS(8)

#define FORWARD_OF(n) {forward_##n##x1, forward_##n##x2}
static forward_function *const forward_table[MOST_FILTERS][2] = {FORWARD_OF(1), FORWARD_OF(2), FORWARD_OF(3), FORWARD_OF(4),
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
    s->worker_bytes = spaced(aligned((size_t)s->room * sizeof(real)) + (size_t)(s->filters * s->dy_row + LANES) * sizeof(real));
    return bytes + (size_t)workers * s->worker_bytes;
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
            for (long h = 0; h < box.size[1]; h++) {
                const real *x = planes + n * image + d * s.in.step[0] * s.plane + h * s.in.step[1] * s.row;
                for (long q = 0; q < box.size[2]; q += 2 * LANES)
                    forward_table[s.filters - 1][box.size[2] - q > LANES](&s, x + q, bias, rows + q);
                real *y = s.y + (box.image + n) * p->y[0] + group * s.filters * p->y[1] + (box.begin[0] + d) * p->y[2] + (box.begin[1] + h) * p->y[3] +
                          box.begin[2] * p->y[4];
                for (long q = 0; q < box.size[2]; q++)
                    for (long k = 0; k < s.filters; k++)
                        y[q * p->y[4] + k * p->y[1]] = rows[k * s.dy_row + q];
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

static void copy_dy(const struct plan *s, const struct box *box, long group, real *to)
{
    memset(to, 0, (size_t)s->dy_room * sizeof(real)); /* lanes beyond a row's end */
    for (long k = 0; k < s->filters; k++, to += s->dy_room / s->filters) {
        const struct pitch pitch = {1, s->dy_row, s->dy_row * box->size[1], s->dy_row * box->size[1] * box->size[0], 0};
        FN(box_copy)(&s->out, box, s->dy + group * s->filters * s->p->y[1], k, 1, pitch, to);
    }
}

static void weight_part(void *context, long block, int worker)
{
    const struct plan *s = context;
    const long group = block % s->p->groups, part = block / s->p->groups, at_once = TERMS_AT_ONCE(s->filters);
    const struct box box = FN(box_at)(&s->in, &s->boxes, part);
    real *planes = (real *)(s->worker + (size_t)worker * s->worker_bytes), *dy = (real *)((char *)planes + aligned((size_t)s->room * sizeof(real)));
    real *to = s->sums + (part * s->p->k + group * s->filters) * (s->terms + 1);
    memset(planes + s->room - 2 * LANES, 0, 2 * LANES * sizeof(real));
    copy_planes(s, &box, group, planes);
    copy_dy(s, &box, group, dy);
    long t = 0;
    for (; t + at_once <= s->terms; t += at_once)
        weight_table[s->filters - 1][1](s, &box, dy, planes, t, to);
    for (; t < s->terms; t++)
        weight_table[s->filters - 1][0](s, &box, dy, planes, t, to);
    for (long k = 0; k < s->filters; k++) {
        const real *row = dy + k * (s->dy_room / s->filters);
        vec sum = {0};
        for (long i = 0; i < s->dy_room / s->filters; i += LANES)
            sum = sum + vec_load(row + i);
        to[k * (s->terms + 1) + s->terms] = add_lanes(sum);
    }
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
    for (long i = 0; i < size; i++) {
        real sum = s.boxes.total ? s.sums[i] : 0;
        for (long part = 1; part < s.boxes.total; part++)
            sum += s.sums[part * size + i];
        const long k = i / (s.terms + 1), term = i % (s.terms + 1), tap = term / s.channels, c = term % s.channels;
        const long r = tap % p->window[2], h = tap / p->window[2] % p->window[1], d = tap / p->window[2] / p->window[1];
        if (term < s.terms)
            dw[k * p->w[0] + c * p->w[1] + d * p->w[2] + h * p->w[3] + r * p->w[4]] = sum;
        else if (db)
            db[k] = sum;
    }
}
