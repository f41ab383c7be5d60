/* depthwise_weight.c: the weight gradient of a depthwise convolution. Lanes are channels, so nothing is reduced across them:
 *
 *     dw[c][r]    = sum over n, p of dy[n][c][p] * xp[n][c][p*step + r*spread - before],     db[c] = sum over n, p of dy[n][c][p]
 *
 * The sums of a few neighbouring taps stay in registers while cells pass by, row after row. Parts, at most 2,048 output pixels cut by the shape alone, are
 * added in order. Where channels are neighbours, windows of 3 x 3 are read where they lie; of all others x and dy of a part are copied, a pixel's
 * channels beside each other and borders filled. Source: mathematics 2.3, G = C. */
#include "depthwise.h"

#include "../base/problem.h"

enum { PART = 2048, NINE = 9, FEW = 8 }; /* output pixels of a part; taps whose sums are kept at once, at most; fewer blocks are few */

struct plan {
    const struct cnn_conv *p;
    const real *x, *dy;
    struct windows in, out;
    struct boxes boxes;
    int in_place;
    long taps, slice, slices; /* slice: channels of a block */
    real *sums;               /* [part][slice][tap, the last for the bias][channel of the slice] */
    char *worker;
    size_t worker_bytes, x_bytes;
};

static long slice_reals(const struct plan *s) { return (s->taps + 1) * s->slice; }

static size_t make_plan(struct plan *s, const struct cnn_conv *p, int workers, char *scratch)
{
    *s = (struct plan){.p = p, .in = FN(conv_windows)(p)};
    s->in.channels = p->c;
    s->out = (struct windows){.images = p->n, .channels = p->c};
    for (int a = 0; a < 3; a++)
        s->out.in[a] = s->out.out[a] = p->out[a], s->out.taps[a] = s->out.spread[a] = s->out.step[a] = 1;
    for (int i = 0; i < 5; i++)
        s->out.stride[i] = p->y[i];
    s->taps = p->window[0] * p->window[1] * p->window[2];
    const int filled = p->c % LANES == 0 || p->c >= 4 * LANES; /* the last channels, if they fill no vector, are copied cell by cell */
    s->in_place = filled && p->x[1] == 1 && p->y[1] == 1 && s->taps == NINE && p->window[1] == 3 && p->window[2] == 3;
    s->slice = s->in_place ? round_up(4 * LINE, LANES) : min_long(2 * LANES, round_up(p->c, LANES));
    s->boxes = FN(cut_boxes)(&s->in, PART, 1, 1e18);
    if (s->boxes.total * divide_up(p->c, s->slice) < FEW)
        s->slice = LANES;
    s->slices = divide_up(p->c, s->slice);
    s->sums = (real *)scratch;
    const size_t bytes = aligned((size_t)(max_long(1, s->boxes.total) * s->slices * slice_reals(s)) * sizeof(real));
    if (!s->in_place) {
        s->x_bytes = aligned((size_t)FN(box_pitch)(&s->in, s->boxes.size[0], s->boxes.size + 1, s->slice).size * sizeof(real));
        s->worker_bytes = spaced(s->x_bytes + (size_t)FN(box_pitch)(&s->out, s->boxes.size[0], s->boxes.size + 1, s->slice).size * sizeof(real));
    }
    s->worker = scratch + bytes;
    return bytes + (size_t)workers * s->worker_bytes;
}

/* The sums of high x wide neighbouring taps over all cells of a part, one vector of channels. */
ALWAYS_INLINE void sum_taps(const struct plan *s, const struct box *b, struct pitch px, struct pitch py, const real *x, const real *dy,
                            const int high, const int wide, real *to)
{
    const long step = s->in.step[2] * px.pixel, spread = s->in.spread[2] * px.pixel, down = s->in.spread[1] * px.row;
    vec sum[NINE];
    UNROLL for (int t = 0; t < high * wide; t++)
        sum[t] = (vec){0};
    for (long n = 0; n < b->images; n++)
        for (long d = 0; d < b->size[0]; d++)
            for (long h = 0; h < b->size[1]; h++) {
                const real *row = x + n * px.image + d * s->in.step[0] * px.plane + h * s->in.step[1] * px.row;
                const real *g = dy + n * py.image + d * py.plane + h * py.row;
                for (long q = 0; q < b->size[2]; q++, row += step, g += py.pixel) {
                    const vec v = vec_load(g);
                    UNROLL for (int t = 0; t < high * wide; t++)
                        sum[t] = vec_madd(v, vec_load(row + t / wide * down + t % wide * spread), sum[t]);
                }
            }
    UNROLL for (int t = 0; t < high * wide; t++)
        vec_store(to + t * s->slice, sum[t]);
}

static void sum_cells(const struct box *b, struct pitch py, const real *dy, real *to)
{
    vec sum = {0};
    for (long n = 0; n < b->images; n++)
        for (long d = 0; d < b->size[0]; d++)
            for (long h = 0; h < b->size[1]; h++)
                for (long q = 0; q < b->size[2]; q++)
                    sum = sum + vec_load(dy + n * py.image + d * py.plane + h * py.row + q * py.pixel);
    vec_store(to, sum);
}

/* The sums of a block from copies of x and dy. */
static void sum_copied(const struct plan *s, const struct box *box, long first, long channels, real *x, real *dy, real *sums)
{
    const long across = s->p->window[2];
    const struct pitch px = FN(box_pitch)(&s->in, box->images, box->size, s->slice), py = FN(box_pitch)(&s->out, box->images, box->size, s->slice);
    if (channels < s->slice) {
        memset(x, 0, (size_t)px.size * sizeof(real));
        memset(dy, 0, (size_t)py.size * sizeof(real));
    }
    FN(box_copy)(&s->in, box, s->x, first, channels, px, x);
    FN(box_copy)(&s->out, box, s->dy, first, channels, py, dy);
    for (long c = 0; c < s->slice; c += LANES) { /* lanes without a channel sum zeros: parts are added whole */
        const int nine = across == 3 && s->p->window[1] == 3;
        for (long t = 0, taps; t < s->taps; t += taps) {
            const long r = t % across, h = t / across % s->p->window[1], d = t / across / s->p->window[1];
            const real *from = x + d * s->in.spread[0] * px.plane + h * s->in.spread[1] * px.row + r * s->in.spread[2] * px.pixel + c;
            real *to = sums + t * s->slice + c;
            taps = nine ? NINE : min_long(3, across - r);
            if (taps == NINE)
                sum_taps(s, box, px, py, from, dy + c, 3, 3, to);
            else if (taps == 3)
                sum_taps(s, box, px, py, from, dy + c, 1, 3, to);
            else if (taps == 2)
                sum_taps(s, box, px, py, from, dy + c, 1, 2, to);
            else
                sum_taps(s, box, px, py, from, dy + c, 1, 1, to);
        }
        sum_cells(box, py, dy + c, sums + s->taps * s->slice + c);
    }
}

/* Where pixel i of an axis comes from, or -1. */
ALWAYS_INLINE long source(int mode, long i, long length) { return i >= 0 && i < length ? i : mode == CNN_ZEROS ? -1 : cnn_source(mode, i, length); }

/* What the taps of a cell see, then dy, of `valid` channels; zeros for what is not there. Sums read them from memory: compilers that see where the zeros come
 * from compute their products before, and all others apart from the sums that they belong to, which rounds twice. */
static void copy_cell(const struct windows *v, const real *const *rows, long left, const real *dy, long valid, real *to)
{
    for (int t = 0; t <= NINE; t++) {
        const long j = t < NINE ? source(v->mode, left + t % 3 * v->spread[2], v->in[2]) : 0;
        const real *from = t == NINE ? dy : j < 0 || !rows[t / 3] ? NULL : rows[t / 3] + j * v->stride[4];
        vec_store(to + t * LANES, from ? vec_get(from, valid) : (vec){0});
    }
    RELOAD;
}

/* One row of outputs, all channels of a block: nine sums of a vector of channels and that of the bias pass from row to row. rows: of x that the taps see,
 * NULL where there is none. */
static void add_row(const struct plan *s, const struct box *box, const real *const *rows, const real *dy, long channels, real *sums)
{
    static const real zeros[LANES];
    const struct windows *v = &s->in;
    const long pixel = v->stride[4], y_pixel = s->p->y[4], columns = box->size[2], left = box->begin[2] * v->step[2] - v->before[2];
    /* [begin, end): cells whose windows lie inside */
    const long begin = min_long(columns, divide_up(max_long(0, -left), v->step[2])), room = v->in[2] - 1 - 2 * v->spread[2] - left;
    const long end = max_long(begin, room < 0 ? 0 : min_long(columns, room / v->step[2] + 1));
    for (long c = 0; c < channels; c += LANES) {
        const long valid = min_long(LANES, channels - c);
        const real *const shifted[3] = {rows[0] ? rows[0] + c : NULL, rows[1] ? rows[1] + c : NULL, rows[2] ? rows[2] + c : NULL};
        vec sum[NINE], bias = vec_load(sums + NINE * s->slice + c);
        UNROLL for (int t = 0; t < NINE; t++)
            sum[t] = vec_load(sums + t * s->slice + c);
        const real *g = dy + c;
        for (long q = 0; q < columns;) {
            if (q < begin || q >= end || valid < LANES) {
                real seen[(NINE + 1) * LANES];
                copy_cell(v, shifted, left + q * v->step[2], g, valid, seen);
                const vec dv = vec_load(seen + NINE * LANES);
                UNROLL for (int t = 0; t < NINE; t++)
                    sum[t] = vec_madd(dv, vec_load(seen + t * LANES), sum[t]);
                bias = bias + dv;
                q++, g += y_pixel;
                continue;
            }
            const real *from[3];
            long step[3], spread[3];
            for (int i = 0; i < 3; i++) {
                from[i] = shifted[i] ? shifted[i] + (left + q * v->step[2]) * pixel : zeros;
                step[i] = shifted[i] ? v->step[2] * pixel : 0, spread[i] = shifted[i] ? v->spread[2] * pixel : 0;
            }
            const long down = v->step[1] * v->stride[3] + 2 * spread[2], below = s->p->y[3];
            for (; q < end; q++, g += y_pixel) {
                const vec dv = vec_load(g);
                UNROLL for (int i = 0; i < 3; i++) {
                    UNROLL for (int j = 0; j < 3; j++)
                        sum[3 * i + j] = vec_madd(dv, vec_load(from[i] + j * spread[i]), sum[3 * i + j]);
                    from[i] += step[i];
                }
                bias = bias + dv;
                if (LANES == LINE || c % LINE == 0) { /* of the rows below, that come next */
                    __builtin_prefetch(from[2] + down, 0, 2);
                    __builtin_prefetch(g + below, 0, 2);
                }
            }
        }
        UNROLL for (int t = 0; t < NINE; t++)
            vec_store(sums + t * s->slice + c, sum[t]);
        vec_store(sums + NINE * s->slice + c, bias);
    }
}

/* The sums of a block from x and dy as they are. */
static void sum_in_place(const struct plan *s, const struct box *box, long first, long channels, real *sums)
{
    const struct windows *v = &s->in;
    const struct cnn_conv *p = s->p;
    memset(sums, 0, (size_t)slice_reals(s) * sizeof(real));
    for (long n = box->image; n < box->image + box->images; n++)
        for (long d = box->begin[0]; d < box->begin[0] + box->size[0]; d++) {
            const long from = cnn_source(v->mode, d * v->step[0] - v->before[0], v->in[0]);
            const real *plane = s->x + n * v->stride[0] + max_long(0, from) * v->stride[2] + first;
            for (long h = 0; h < box->size[1]; h++) {
                const real *rows[3], *dy = s->dy + n * p->y[0] + d * p->y[2] + (box->begin[1] + h) * p->y[3] + box->begin[2] * p->y[4] + first;
                for (int i = 0; i < 3; i++) {
                    const long row = source(v->mode, (box->begin[1] + h) * v->step[1] - v->before[1] + i * v->spread[1], v->in[1]);
                    rows[i] = from < 0 || row < 0 ? NULL : plane + row * v->stride[3];
                }
                add_row(s, box, rows, dy, channels, sums);
            }
        }
}

static void compute_block(void *context, long number, int worker)
{
    const struct plan *s = context;
    const long first = number % s->slices * s->slice, channels = min_long(s->slice, s->p->c - first);
    const struct box box = FN(box_at)(&s->in, &s->boxes, number / s->slices);
    real *x = (real *)(s->worker + (size_t)worker * s->worker_bytes), *dy = (real *)((char *)x + s->x_bytes);
    real *sums = s->sums + number * slice_reals(s);
    if (s->in_place)
        sum_in_place(s, &box, first, channels, sums);
    else
        sum_copied(s, &box, first, channels, x, dy, sums);
}

size_t FN(depthwise_weight_scratch)(const struct cnn_conv *p, int workers)
{
    struct plan s;
    return make_plan(&s, p, workers, cnn_no_scratch);
}

void FN(depthwise_weight)(const struct cnn_conv *p, const real *x, const real *dy, real *dw, real *db, struct cnn_run *run)
{
    struct plan s;
    make_plan(&s, p, run->workers, run->scratch);
    s.x = x, s.dy = dy;
    const double cells = (double)(p->n * p->out[0]) * (double)(p->out[1] * p->out[2]);
    cnn_parallel_for(run, s.boxes.total * s.slices, cells * (double)(p->c * (s.taps + 8)) / 50, compute_block, &s);
    const long all = s.slices * slice_reals(&s);
    for (long part = 1; part < s.boxes.total; part++)
        for (long i = 0; i < all; i += LANES)
            vec_store(s.sums + i, vec_load(s.sums + i) + vec_load(s.sums + part * all + i));
    for (long c = 0; c < p->c; c++) {
        const real *from = s.sums + c / s.slice * slice_reals(&s) + c % s.slice;
        for (long d = 0; d < p->window[0]; d++)
            for (long h = 0; h < p->window[1]; h++)
                for (long r = 0; r < p->window[2]; r++, from += s.slice)
                    dw[c * p->w[0] + d * p->w[2] + h * p->w[3] + r * p->w[4]] = s.boxes.total ? *from : 0;
        if (db)
            db[c] = s.boxes.total ? *from : 0;
    }
}
