/* depthwise_rows.c: depthwise.c's product where rows of x and y are contiguous, C order above all. Lanes are neighbouring columns, four
 * rows of the output share a tap's weight; a channel's input under a box of outputs is copied to contiguous rows, borders filled; windows of 3 x 3 neighbours
 * between zeros read x itself where lanes can be masked.
 * Sums run in depthwise.c's order. */
#include "depthwise.h"

#include "../base/machine.h"
#include "transpose.h"

enum { TALL = 4, SOON = 2 }; /* rows of the output at once; how many channels later a plane is fetched */

struct plan {
    const struct product *p;
    const real *x, *w, *bias;
    real *y;
    struct windows in;
    struct boxes boxes;
    long taps;
    char *worker;
    size_t worker_bytes, weight_bytes;
};

static struct plan make_plan(const struct product *p, char *scratch)
{
    struct plan s = {.p = p, .in = p->in, .taps = p->in.taps[0] * p->in.taps[1] * p->in.taps[2], .worker = scratch};
    s.in.channels = p->groups, s.in.stride[1] = p->x_group;
    s.boxes = FN(cut_boxes)(&s.in, 4096, 1, (double)cnn_machine()->l1 / 2 / sizeof(real));
    s.weight_bytes = aligned((size_t)((s.taps + 1) * LANES) * sizeof(real));
    const long slack = LANES * (s.in.step[2] + 1); /* a vector that begins in a row, or in zeros behind it, may end beyond */
    const long reals = FN(box_pitch)(&s.in, s.boxes.size[0], s.boxes.size + 1, 1).size;
    s.worker_bytes = spaced(s.weight_bytes + (size_t)(max_long(reals, s.in.in[2]) + slack) * sizeof(real));
    return s;
}

int FN(depthwise_rows_take)(const struct product *p) { return p->in.stride[4] == 1 && !(p->x_group == 1 && p->y_group == 1 && p->groups > 1); }

size_t FN(depthwise_rows_scratch)(const struct product *p, int workers) { return (size_t)workers * make_plan(p, cnn_no_scratch).worker_bytes; }

/* `valid` lanes go to y, whose first `room` reals may be written: what is beyond the row is the next one's, which comes later. */
ALWAYS_INLINE void finish(const struct plan *s, const vec *sum, const int rows, const real *bias, real *y, long valid, long room)
{
    const int biased = s->bias != NULL, relu = s->p->activation == CNN_RELU;
    const long down = s->p->y[3], apart = s->p->y[4];
    const vec added = vec_load(bias);
    UNROLL for (int q = 0; q < rows; q++, y += down, room -= down) {
        vec t = sum[q];
        if (biased)
            t = t + added;
        if (relu)
            t = vec_max((vec){0}, t);
        if (apart != 1)
            for (long i = 0; i < valid; i++)
                y[i * apart] = t[i];
        else if (valid == LANES || room >= LANES)
            vec_store(y, t);
        else
            vec_store_part(y, t, valid);
    }
}

/* `rows` vectors below each other. */
ALWAYS_INLINE void compute_tile(const struct plan *s, const real *in, struct pitch pitch, const real *w, const int rows, const long step, real *y, long valid, long room)
{
    const struct windows *v = &s->in;
    const long down = v->step[1] * pitch.row;
    vec sum[TALL];
    UNROLL for (int q = 0; q < rows; q++)
        sum[q] = (vec){0};
    for (long d = 0; d < v->taps[0]; d++)
        for (long h = 0; h < v->taps[1]; h++) {
            const real *row = in + d * v->spread[0] * pitch.plane + h * v->spread[1] * pitch.row;
            for (long r = 0; r < v->taps[2]; r++, w += LANES, row += v->spread[2]) {
                const vec weight = vec_load(w);
                UNROLL for (int q = 0; q < rows; q++)
                    sum[q] = vec_madd(weight, vec_load_apart(row + q * down, step), sum[q]);
            }
        }
    finish(s, sum, rows, w, y, valid, room);
}

/* The same for windows of 3 x 3 neighbours, whose rows are read once for all the outputs that they reach. */
ALWAYS_INLINE void compute_three(const struct plan *s, const real *in, struct pitch pitch, const real *w, const int rows, const long step, real *y, long valid, long room)
{
    vec sum[TALL], weight[9];
    UNROLL for (int q = 0; q < rows; q++)
        sum[q] = (vec){0};
    UNROLL for (int t = 0; t < 9; t++)
        weight[t] = vec_load(w + t * LANES);
    UNROLL for (int i = 0; i < (rows - 1) * (int)step + 3; i++)
        UNROLL for (int r = 0; r < 3; r++) {
            const vec x = vec_load_apart(in + i * pitch.row + r, step);
            UNROLL for (int q = 0; q < rows; q++) {
                const int h = i - q * (int)step;
                if (h >= 0 && h < 3)
                    sum[q] = vec_madd(weight[h * 3 + r], x, sum[q]);
            }
        }
    finish(s, sum, rows, w + 9 * LANES, y, valid, room);
}

ALWAYS_INLINE void compute_rows(const struct plan *s, const real *in, struct pitch pitch, const real *w, const int rows, const long step, const int three, long columns, real *y, long room)
{
    for (long q = 0; q < columns; q += LANES) {
        if (columns >= LANES)
            q = min_long(q, columns - LANES);
        const long valid = min_long(LANES, columns - q);
        if (three && valid == LANES)
            compute_three(s, in + q * step, pitch, w, rows, step, y + q * s->p->y[4], LANES, room - q);
        else if (three)
            compute_three(s, in + q * step, pitch, w, rows, step, y + q * s->p->y[4], valid, room - q);
        else if (valid == LANES)
            compute_tile(s, in + q * step, pitch, w, rows, step, y + q * s->p->y[4], LANES, room - q);
        else
            compute_tile(s, in + q * step, pitch, w, rows, step, y + q * s->p->y[4], valid, room - q);
    }
}

ALWAYS_INLINE void compute_plane(const struct plan *s, const struct box *box, const real *in, struct pitch pitch, const real *w, const long step, const int three, real *y)
{
    const long down = s->in.step[1] * pitch.row, across = s->p->y[3], full = s->p->y[4] == 1 && across == box->size[2] ? box->size[1] * across : 0;
    long h = 0;
    for (; h < box->size[1] && box->size[1] >= TALL; h += TALL) {
        h = min_long(h, box->size[1] - TALL); /* rows that are written again get the same */
        compute_rows(s, in + h * down, pitch, w, TALL, step, three, box->size[2], y + h * across, full - h * across);
    }
    for (; h < box->size[1]; h++)
        compute_rows(s, in + h * down, pitch, w, 1, step, three, box->size[2], y + h * across, full - h * across);
}

#if CNN_HAS_MASKED_MOVES
/* Windows of 3 x 3 neighbours read from x itself: rows + 2 rows, of which those outside are zeros; lanes beside the row are not loaded, and 0.
 * left: the column that the first lane's first tap reads. */
ALWAYS_INLINE void compute_there(const struct plan *s, const real *const *row, long left, const real *w, const int rows, real *y, long valid, long room)
{
    const long width = s->in.in[2];
    unsigned lanes[3];
    UNROLL for (int r = 0; r < 3; r++) {
        const long low = max_long(0, -left - r), high = min_long(LANES, width - left - r);
        lanes[r] = high > low ? ((1u << high) - 1) & ~((1u << low) - 1) : 0;
    }
    vec sum[TALL], weight[9];
    UNROLL for (int q = 0; q < rows; q++)
        sum[q] = (vec){0};
    UNROLL for (int t = 0; t < 9; t++)
        weight[t] = vec_load(w + t * LANES);
    UNROLL for (int i = 0; i < rows + 2; i++)
        UNROLL for (int r = 0; r < 3; r++) {
            const vec x = vec_load_masked(row[i] + left + r, lanes[r]);
            UNROLL for (int q = 0; q < rows; q++)
                if (i - q >= 0 && i - q < 3)
                    sum[q] = vec_madd(weight[(i - q) * 3 + r], x, sum[q]);
        }
    finish(s, sum, rows, w + 9 * LANES, y, valid, room);
}

/* `rows` rows of outputs, whose windows begin at row `top` of x. */
ALWAYS_INLINE void compute_rows_there(const struct plan *s, const real *plane, const real *zeros, long top, const real *w, const int rows, real *y, long room)
{
    const struct windows *v = &s->in;
    const long columns = v->out[2];
    const real *row[TALL + 2];
    UNROLL for (int i = 0; i < rows + 2; i++)
        row[i] = plane && top + i >= 0 && top + i < v->in[1] ? plane + (top + i) * v->stride[3] : zeros;
    for (long q = 0; q < columns; q += LANES) {
        if (columns >= LANES)
            q = min_long(q, columns - LANES);
        const long valid = min_long(LANES, columns - q);
        if (valid == LANES)
            compute_there(s, row, q - v->before[2], w, rows, y + q * s->p->y[4], LANES, room - q);
        else
            compute_there(s, row, q - v->before[2], w, rows, y + q * s->p->y[4], valid, room - q);
    }
}

/* A plane of outputs; plane: of x, or NULL where that lies outside. */
static void compute_plane_there(const struct plan *s, const struct box *box, const real *plane, const real *zeros, const real *w, real *y)
{
    const long across = s->p->y[3], full = s->p->y[4] == 1 && across == box->size[2] ? box->size[1] * across : 0, top = box->begin[1] - s->in.before[1];
    long h = 0;
    for (; h < box->size[1] && box->size[1] >= TALL; h += TALL) {
        h = min_long(h, box->size[1] - TALL);
        compute_rows_there(s, plane, zeros, top + h, w, TALL, y + h * across, full - h * across);
    }
    for (; h < box->size[1]; h++)
        compute_rows_there(s, plane, zeros, top + h, w, 1, y + h * across, full - h * across);
}

/* The block's windows read x where it is: whole rows of outputs, zeros around the image. */
static int reads_there(const struct plan *s, const struct box *box)
{
    const struct windows *v = &s->in;
    return v->mode == CNN_ZEROS && v->step[1] == 1 && v->step[2] == 1 && box->size[2] == v->out[2] && v->in[2] > 0;
}

static void compute_there_block(const struct plan *s, const struct box *box, long channel, const real *w, real *zeros)
{
    const struct windows *v = &s->in;
    memset(zeros, 0, (size_t)v->in[2] * sizeof(real));
    for (long n = box->image; n < box->image + box->images; n++)
        for (long d = box->begin[0]; d < box->begin[0] + box->size[0]; d++) {
            const long from = d * v->step[0] - v->before[0];
            const real *plane = from < 0 || from >= v->in[0] ? NULL : s->x + n * v->stride[0] + channel * v->stride[1] + from * v->stride[2];
            compute_plane_there(s, box, plane, zeros, w, s->y + n * s->p->y[0] + channel * s->p->y_group + d * s->p->y[2] + box->begin[1] * s->p->y[3]);
        }
}
#else
static int reads_there(const struct plan *s, const struct box *box)
{
    (void)s, (void)box;
    return 0;
}
static void compute_there_block(const struct plan *s, const struct box *box, long channel, const real *w, real *zeros) { (void)s, (void)box, (void)channel, (void)w, (void)zeros; }
#endif

static void spread_weights(const struct plan *s, long channel, real *to)
{
    const struct product *p = s->p;
    const real *from = s->w + channel * p->w_group;
    for (long d = 0; d < p->in.taps[0]; d++)
        for (long h = 0; h < p->in.taps[1]; h++)
            for (long r = 0; r < p->in.taps[2]; r++, to += LANES)
                vec_store(to, vec_fill(from[d * p->w[2] + h * p->w[3] + r * p->w[4]]));
    vec_store(to, vec_fill(s->bias ? s->bias[channel] : 0));
}

/* n reals; the last vector begins early, or ends late where `room` reals may be read. */
ALWAYS_INLINE void copy_reals(const real *from, long n, long room, real *to)
{
    if (n < LANES) {
        vec_store(to, room >= LANES ? vec_load(from) : vec_load_part(from, n));
        return;
    }
    for (long i = 0; i < n - LANES; i += LANES)
        vec_store(to + i, vec_load(from + i));
    vec_store(to + n - LANES, vec_load(from + n - LANES));
}

/* n zeros or some more: what follows is written later. */
ALWAYS_INLINE void zero_reals(real *to, long n)
{
    for (long i = 0; i < n; i += LANES) {
        vec_store(to + i, (vec){0});
        RELOAD; /* or it becomes a call of memset, of one vector */
    }
}

/* Rows of the image that lie in the box, `inside` reals each, zeros at their sides: those behind a row and in front of the next one at once.
 * room: reals that may be read from the first row on. */
static void copy_rows(const struct windows *v, const real *row, long rows, long left, long inside, long right, long room, real *to)
{
    const long down = v->stride[3], soon = SOON * v->stride[1], next = inside + right + left;
    zero_reals(to, left);
    to += left;
    for (long h = 0; h < rows; h++, row += down, room -= down, to += next) {
        for (long i = 0; i < inside; i += LINE)
            __builtin_prefetch(row + soon + i);
        copy_reals(row, inside, room, to);
        zero_reals(to + inside, h + 1 < rows ? right + left : right);
    }
}

/* box_copy of one channel with zeros around it, row after row as they lie in `to`, behind which a vector has room. */
static void copy_plane_rows(const struct plan *s, const struct box *b, long channel, struct pitch pitch, real *to)
{
    const struct windows v = s->in;
    long first[3], extent[3], before[3], inside[3]; /* cells in front of the image, and of it */
    for (int a = 0; a < 3; a++) {
        first[a] = b->begin[a] * v.step[a] - v.before[a], extent[a] = box_extent(&v, a, b->size[a]);
        before[a] = min_long(extent[a], max_long(0, -first[a]));
        inside[a] = max_long(0, min_long(extent[a] - before[a], v.in[a] - first[a] - before[a]));
    }
    const long right = extent[2] - before[2] - inside[2], column = first[2] + before[2], row = first[1] + before[1];
    const long rows = inside[2] ? inside[1] : 0, above = rows ? before[1] : extent[1], below = extent[1] - above - rows;
    const long room = v.stride[3] == v.in[2] ? (v.in[1] - row) * v.in[2] - column : 0;
    for (long n = 0; n < b->images; n++)
        for (long d = first[0]; d < first[0] + extent[0]; d++, to += pitch.plane) {
            if (d < 0 || d >= v.in[0]) {
                zero_reals(to, pitch.plane);
                continue;
            }
            zero_reals(to, above * pitch.row);
            if (rows)
                copy_rows(&v, s->x + (b->image + n) * v.stride[0] + channel * v.stride[1] + d * v.stride[2] + row * v.stride[3] + column, rows, before[2], inside[2],
                          right, room, to + above * pitch.row);
            zero_reals(to + (above + rows) * pitch.row, below * pitch.row);
        }
}

static void compute_block(void *context, long number, int worker)
{
    const struct plan *s = context;
    const struct product *p = s->p;
    const long channel = number % p->groups, step = p->in.step[2];
    const struct box box = FN(box_at)(&s->in, &s->boxes, number / p->groups);
    const struct pitch pitch = FN(box_pitch)(&s->in, box.images, box.size, 1);
    real *w = (real *)(s->worker + (size_t)worker * s->worker_bytes), *copy = (real *)((char *)w + s->weight_bytes);
    spread_weights(s, channel, w);
    const struct windows *v = &s->in;
    const int three = v->taps[0] == 1 && v->taps[1] == 3 && v->taps[2] == 3 && v->spread[1] == 1 && v->spread[2] == 1 && v->step[1] == step;
    if (three && reads_there(s, &box)) {
        compute_there_block(s, &box, channel, w, copy);
        return;
    }
    if (v->mode == CNN_ZEROS)
        copy_plane_rows(s, &box, channel, pitch, copy);
    else
        FN(box_copy)(v, &box, s->x, channel, 1, pitch, copy);
    memset(copy + pitch.size, 0, (size_t)(LANES * (step + 1)) * sizeof(real));
    for (long n = 0; n < box.images; n++)
        for (long d = 0; d < box.size[0]; d++) {
            const real *in = copy + n * pitch.image + d * p->in.step[0] * pitch.plane;
            real *y = s->y + (box.image + n) * p->y[0] + channel * p->y_group + (box.begin[0] + d) * p->y[2] + box.begin[1] * p->y[3] + box.begin[2] * p->y[4];
            if (three && step == 1)
                compute_plane(s, &box, in, pitch, w, 1, 1, y);
            else if (three && step == 2)
                compute_plane(s, &box, in, pitch, w, 2, 1, y);
            else if (step == 1)
                compute_plane(s, &box, in, pitch, w, 1, 0, y);
            else if (step == 2)
                compute_plane(s, &box, in, pitch, w, 2, 0, y);
            else
                compute_plane(s, &box, in, pitch, w, step, 0, y);
        }
}

void FN(depthwise_rows)(const struct product *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run)
{
    struct plan s = make_plan(p, run->scratch);
    s.x = x, s.w = w, s.bias = bias, s.y = y;
    const double cells = (double)(p->in.images * p->in.out[0]) * (double)(p->in.out[1] * p->in.out[2]);
    cnn_parallel_for(run, s.boxes.total * p->groups, cells * (double)(p->groups * (s.taps + 4)) / 50, compute_block, &s);
}
