/* resize.c: interpolation of images, every axis by itself: y = A x, dx = A' dy.
 *
 *     nearest        h = min(floor(p q), M-1)                nearest-exact   h = min(floor((p + 1/2) q), M-1)
 *     linear, cubic  t = (p + 1/2) q - 1/2 (linear: at least 0), or p (M-1)/(P-1) with aligned corners
 *                    linear: (1-f) x[h] + f x[h+1];  cubic: 4 taps from floor t - 1, a = -3/4; indices clamped to the image
 *
 * x[N][C][in], y[N][C][out] of any strides; the loops have channels as neighbours in memory, doubled contiguous rows are resize_rows.c's, short ones
 * resize_short.c's, other orders come plane by plane. A row of results is the weighted sum of rows, then of its neighbouring pixels; the tables are made in float64 and
 * rounded once. Both overwrite. Source: mathematics 2.7. */
#include "ops.h"
#include "planes.h"
#include "resize.h"

struct resize {
    const struct cnn_resize *p;
    const real *from;
    real *to;
    struct taps *table[3];
    long *begin[3]; /* of gradients */
    struct reader *readers[3];
    int count; /* taps an axis that is resized */
    real *rows;
    long room, worker_room;
};

static double cubic(double v)
{
    const double a = -0.75;
    return v <= 1 ? ((a + 2) * v - (a + 3)) * v * v + 1 : v < 2 ? ((a * v - 5 * a) * v + 8 * a) * v - 4 * a : 0;
}

static long clamp(long i, long m) { return i < 0 ? 0 : i >= m ? m - 1 : i; }

static long whole_part(double t) /* floor, for |t| far below 2^62 */
{
    const long i = (long)t;
    return (double)i > t ? i - 1 : i;
}

static struct taps find_taps(const struct cnn_resize *p, int a, long cell)
{
    const long in = p->in[a], out = p->out[a];
    struct taps t = {{0}, {1}};
    const double q = p->ratio[a] != 0 ? p->ratio[a] : (double)in / (double)out;
    if (p->mode == CNN_NEAREST)
        t.cell[0] = min_long(p->ratio[a] != 0 ? whole_part((double)cell * q) : cell * in / out, in - 1);
    else if (p->mode == CNN_NEAREST_EXACT)
        t.cell[0] = min_long(p->ratio[a] != 0 ? whole_part(((double)cell + 0.5) * q) : (2 * cell + 1) * in / (2 * out), in - 1);
    else {
        double at = ((double)cell + 0.5) * q - 0.5;
        if (p->align_corners)
            at = out > 1 ? (double)cell * (double)(in - 1) / (double)(out - 1) : 0;
        if (p->mode == CNN_LINEAR_RESIZE) {
            at = at > 0 ? at : 0;
            const long low = min_long(whole_part(at), in - 1);
            const double f = at - (double)low;
            t.cell[0] = low, t.cell[1] = min_long(low + 1, in - 1);
            t.weight[0] = (real)(1 - f), t.weight[1] = (real)f;
        } else {
            const long low = whole_part(at);
            for (int i = 0; i < 4; i++) {
                const double away = at - (double)(low - 1 + i);
                t.cell[i] = clamp(low - 1 + i, in);
                t.weight[i] = (real)cubic(away < 0 ? -away : away);
            }
        }
    }
    return t;
}

static int tap_count(const struct cnn_resize *p) { return p->mode == CNN_CUBIC ? 4 : p->mode == CNN_LINEAR_RESIZE ? 2 : 1; }
int FN(resize_tap_count)(const struct cnn_resize *p, int axis) { return p->in[axis] == 1 && p->out[axis] == 1 ? 1 : tap_count(p); }
static int taps_of(const struct resize *s, int a) { return FN(resize_tap_count)(s->p, a); }

void FN(resize_taps)(const struct cnn_resize *p, int axis, struct taps *to)
{
    const int one = FN(resize_tap_count)(p, axis) == 1 && tap_count(p) > 1;
    for (long i = 0; i < p->out[axis]; i++)
        to[i] = one ? (struct taps){{0}, {1}} : find_taps(p, axis, i);
}

void FN(resize_readers)(const struct cnn_resize *p, int axis, const struct taps *table, long *begin, struct reader *readers)
{
    const int count = FN(resize_tap_count)(p, axis);
    const long in = p->in[axis], out = p->out[axis];
    memset(begin, 0, (size_t)(in + 1) * sizeof(long));
    for (long i = 0; i < out; i++)
        for (int k = 0; k < count; k++)
            begin[table[i].cell[k] + 1]++;
    for (long i = 0; i < in; i++)
        begin[i + 1] += begin[i];
    for (long i = 0; i < out; i++)
        for (int k = 0; k < count; k++)
            readers[begin[table[i].cell[k]]++] = (struct reader){i, table[i].weight[k]};
    for (long i = in; i > 0; i--)
        begin[i] = begin[i - 1];
    begin[0] = 0;
}

static size_t place(struct resize *s, const struct cnn_resize *p, char *scratch, int workers)
{
    size_t bytes = 0;
    for (int a = 0; a < 3; a++) {
        s->table[a] = (struct taps *)(scratch + bytes);
        bytes += aligned((size_t)p->out[a] * sizeof(struct taps));
        s->begin[a] = (long *)(scratch + bytes);
        bytes += aligned((size_t)(p->in[a] + 1) * sizeof(long));
        s->readers[a] = (struct reader *)(scratch + bytes);
        bytes += aligned((size_t)(p->out[a] * tap_count(p)) * sizeof(struct reader));
    }
    s->rows = (real *)(scratch + bytes);
    s->room = round_up(max_long(p->in[2], p->out[2]) * p->c, LANES) + LANES + p->c;
    s->worker_room = spaced_reals(2 * s->room);
    return bytes + (size_t)(s->worker_room * workers) * sizeof(real);
}

static struct resize start(const struct cnn_resize *p, const real *from, real *to, char *scratch, int workers)
{
    struct resize s = {.p = p, .from = from, .to = to, .count = tap_count(p)};
    place(&s, p, scratch, workers);
    for (int a = 0; a < 3; a++)
        FN(resize_taps)(p, a, s.table[a]);
    return s;
}

/* to = weight * row, or to += weight * row, for `pixels` pixels `step` apart. */
static void add_row(const real *row, long pixels, long channels, long step, real weight, int add, real *to)
{
    for (long w = 0; w < (step == channels ? 1 : pixels); w++) {
        const real *x = row + w * step;
        real *y = to + w * channels;
        const long n = step == channels ? pixels * channels : channels;
        if (add)
            for (long i = 0; i < n; i++)
                y[i] = real_madd(weight, x[i], y[i]);
        else
            for (long i = 0; i < n; i++)
                y[i] = weight * x[i];
    }
}

static void store_row(const real *from, long pixels, long channels, long step, real *row)
{
    for (long w = 0; w < (step == channels ? 1 : pixels); w++)
        memcpy(row + w * step, from + w * channels, (size_t)(step == channels ? pixels * channels : channels) * sizeof(real));
}

/* Where a row has no more results than pixels, its weighted rows are summed at those pixels that are read. */
ALWAYS_INLINE void resize_pixels(const struct resize *s, const struct weighted *r, const int rows, const int taps, real *to)
{
    const struct cnn_resize *p = s->p;
    for (long w = 0; w < p->out[2]; w++, to += p->y[4]) {
        const struct taps *t = &s->table[2][w];
        for (long c = 0; c < p->c; c += LANES) {
            vec y = vec_multiply(vec_fill(t->weight[0]), sum_of(r, rows, t->cell[0] * p->x[4] + c));
            UNROLL for (int k = 1; k < taps; k++)
                y = vec_madd(vec_fill(t->weight[k]), sum_of(r, rows, t->cell[k] * p->x[4] + c), y);
            vec_store(to + c, y);
        }
    }
}

static struct weighted rows_read(const struct resize *s, const real *image, const struct taps *td, const struct taps *th)
{
    const struct cnn_resize *p = s->p;
    struct weighted r;
    r.count = 0;
    for (int i = 0; i < taps_of(s, 0); i++)
        for (int j = 0; j < taps_of(s, 1); j++)
            r.row[r.count] = image + td->cell[i] * p->x[2] + th->cell[j] * p->x[3], r.weight[r.count++] = td->weight[i] * th->weight[j];
    return r;
}

static void resize_row(void *context, long row, int worker)
{
    const struct resize *s = context;
    const struct cnn_resize *p = s->p;
    const long h = row % p->out[1], d = row / p->out[1] % p->out[0], n = row / p->out[1] / p->out[0], channels = p->c;
    real *sums = s->rows + worker * s->worker_room, *aside = sums + s->room;
    real *to = s->to + n * p->y[0] + d * p->y[2] + h * p->y[3];
    const struct taps *td = &s->table[0][d], *th = &s->table[1][h];
    if (channels % LANES == 0 && taps_of(s, 2) == 2 && taps_of(s, 1) == 2 && taps_of(s, 0) <= 2 && p->out[2] <= p->in[2]) {
        const struct weighted r = rows_read(s, s->from + n * p->x[0], td, th);
        if (r.count == 2)
            resize_pixels(s, &r, 2, 2, to);
        else
            resize_pixels(s, &r, 4, 2, to);
        return;
    }
    const real *rows = sums; /* the weighted rows */
    if (s->count == 1 && p->x[4] == channels && channels % LANES == 0)
        rows = s->from + n * p->x[0] + td->cell[0] * p->x[2] + th->cell[0] * p->x[3];
    else
        for (int i = 0, add = 0; i < taps_of(s, 0); i++)
            for (int j = 0; j < taps_of(s, 1); j++, add = 1)
                add_row(s->from + n * p->x[0] + td->cell[i] * p->x[2] + th->cell[j] * p->x[3], p->in[2], channels, p->x[4], td->weight[i] * th->weight[j], add, sums);
    const int direct = channels % LANES == 0;
    const long step = direct ? p->y[4] : channels;
    real *result = direct ? to : aside;
    for (long w = 0; w < p->out[2]; w++) {
        const struct taps *t = &s->table[2][w];
        for (long c = 0; c < channels; c += LANES) { /* lanes beyond the pixel are written again by the next ones, or are slack */
            vec y = vec_multiply(vec_fill(t->weight[0]), vec_load(rows + t->cell[0] * channels + c));
            for (int k = 1; k < taps_of(s, 2); k++)
                y = vec_madd(vec_fill(t->weight[k]), vec_load(rows + t->cell[k] * channels + c), y);
            vec_store(result + w * step + c, y);
        }
    }
    if (!direct)
        store_row(aside, p->out[2], channels, p->y[4], to);
}

static double work_of(const struct cnn_resize *p)
{
    const long in = p->in[0] * p->in[1] * p->in[2], out = p->out[0] * p->out[1] * p->out[2];
    return (double)(p->n * p->c) * (double)max_long(in, out) * tap_count(p) * 0.1;
}

static void forward(const struct cnn_resize *p, const real *x, real *y, struct cnn_run *run)
{
    const struct resize s = start(p, x, y, run->scratch, run->workers);
    cnn_parallel_for(run, p->n * p->out[0] * p->out[1], work_of(p), resize_row, (void *)&s);
}

/* A weighted sum of rows, or added to what is there; whole vectors of channels. */
static void sum_rows(const struct resize *s, const struct weighted *r, int add, real *to)
{
    const long channels = s->p->c, step = s->p->y[4];
    for (long w = 0; w < s->p->out[2]; w++, to += channels)
        for (long c = 0; c < channels; c += LANES) {
            vec sum = vec_load(to + c);
            if (!add)
                sum = vec_multiply(vec_fill(r->weight[0]), vec_load(r->row[0] + w * step + c));
            for (int k = add ? 0 : 1; k < r->count; k++)
                sum = vec_madd(vec_fill(r->weight[k]), vec_load(r->row[k] + w * step + c), sum);
            vec_store(to + c, sum);
        }
}

/* Every pixel of a row of dx gathers those pixels of the rows' sum that read it, pixels of a row `step` apart. */
ALWAYS_INLINE void gather_pixels(const struct resize *s, const struct weighted *r, const int count, long step, real *dx)
{
    const struct cnn_resize *p = s->p;
    for (long w = 0; w < p->in[2]; w++, dx += p->x[4])
        for (long c = 0; c < p->c; c += LANES) {
            vec sum = {0};
            for (long e = s->begin[2][w]; e < s->begin[2][w + 1]; e++) {
                const struct reader *from = &s->readers[2][e];
                const vec g = count ? sum_of(r, count, from->cell * step + c) : vec_load(r->row[0] + from->cell * step + c);
                sum = vec_madd(vec_fill(from->weight), g, sum);
            }
            vec_store(dx + c, sum);
        }
}

/* The rows of dy that read row (d, h) of image n, some at a time: those not yet in `sums`. Returns whether any were added to it. */
static int list_rows(const struct resize *s, long n, long d, long h, struct weighted *r, real *sums)
{
    const struct cnn_resize *p = s->p;
    int add = 0;
    r->count = 0;
    for (long i = s->begin[0][d]; i < s->begin[0][d + 1]; i++)
        for (long j = s->begin[1][h]; j < s->begin[1][h + 1]; j++) {
            const struct reader *a = &s->readers[0][i], *b = &s->readers[1][j];
            if (r->count == MOST_ROWS) {
                sum_rows(s, r, add, sums);
                r->count = 0, add = 1;
            }
            r->row[r->count] = s->from + n * p->y[0] + a->cell * p->y[2] + b->cell * p->y[3], r->weight[r->count++] = a->weight * b->weight;
        }
    return add;
}

static void gather_row(void *context, long row, int worker)
{
    const struct resize *s = context;
    const struct cnn_resize *p = s->p;
    const long h = row % p->in[1], d = row / p->in[1] % p->in[0], n = row / p->in[1] / p->in[0];
    real *sums = s->rows + worker * s->worker_room, *dx = s->to + n * p->x[0] + d * p->x[2] + h * p->x[3];
    struct weighted r;
    const int add = list_rows(s, n, d, h, &r, sums);
    if (r.count == 0) {
        for (long w = 0; w < p->in[2]; w++)
            memset(dx + w * p->x[4], 0, (size_t)p->c * sizeof(real));
        return;
    }
    if (!add && taps_of(s, 2) == 1) { /* every pixel is read once: the rows' sum need not be stored */
        if (r.count == 1)
            gather_pixels(s, &r, 1, p->y[4], dx);
        else if (r.count == 2)
            gather_pixels(s, &r, 2, p->y[4], dx);
        else
            gather_pixels(s, &r, r.count, p->y[4], dx);
        return;
    }
    sum_rows(s, &r, add, sums);
    r.row[0] = sums;
    gather_pixels(s, &r, 0, p->c, dx);
}

/* The same where the channels are no whole vectors: lanes beyond a pixel are written again by the next ones, or are slack. */
static void gather_row_aside(void *context, long row, int worker)
{
    const struct resize *s = context;
    const struct cnn_resize *p = s->p;
    const long h = row % p->in[1], d = row / p->in[1] % p->in[0], n = row / p->in[1] / p->in[0], channels = p->c;
    real *sums = s->rows + worker * s->worker_room, *dx = sums + s->room;
    int add = 0;
    for (long i = s->begin[0][d]; i < s->begin[0][d + 1]; i++)
        for (long j = s->begin[1][h]; j < s->begin[1][h + 1]; j++, add = 1) {
            const struct reader *a = &s->readers[0][i], *b = &s->readers[1][j];
            add_row(s->from + n * p->y[0] + a->cell * p->y[2] + b->cell * p->y[3], p->out[2], channels, p->y[4], a->weight * b->weight, add, sums);
        }
    for (long w = 0; w < p->in[2]; w++)
        for (long c = 0; c < channels; c += LANES) {
            vec sum = {0};
            for (long e = s->begin[2][w]; add && e < s->begin[2][w + 1]; e++)
                sum = vec_madd(vec_fill(s->readers[2][e].weight), vec_load(sums + s->readers[2][e].cell * channels + c), sum);
            vec_store(dx + w * channels + c, sum);
        }
    store_row(dx, p->in[2], channels, p->x[4], s->to + n * p->x[0] + d * p->x[2] + h * p->x[3]);
}

static void backward(const struct cnn_resize *p, const real *dy, real *dx, struct cnn_run *run)
{
    const struct resize s = start(p, dy, dx, run->scratch, run->workers);
    for (int a = 0; a < 3; a++)
        FN(resize_readers)(p, a, s.table[a], s.begin[a], s.readers[a]);
    cnn_parallel_for(run, p->n * p->in[0] * p->in[1], 2 * work_of(p), p->c % LANES == 0 ? gather_row : gather_row_aside, (void *)&s);
}

static int together(const struct cnn_resize *p) { return p->c == 1 || (p->x[1] == 1 && p->y[1] == 1); }

/* Planes that lie one after another are channels of one image. */
static struct cnn_resize as_one_image(const struct cnn_resize *p)
{
    struct cnn_resize one = *p;
    if (!together(p) && p->x[0] == p->c * p->x[1] && p->y[0] == p->c * p->y[1])
        one.n = 1, one.c = p->n * p->c;
    return one;
}

static struct cnn_resize part_of(const struct cnn_resize *p, long channels)
{
    struct cnn_resize part = *p;
    part.n = 1, part.c = channels;
    dense_strides(p->in, channels, part.x);
    dense_strides(p->out, channels, part.y);
    return part;
}

/* An image of few channels that are neighbours, as rows. */
static struct cnn_resize few_of(const struct cnn_resize *p)
{
    struct cnn_resize part = *p;
    part.n = 1;
    row_strides(p->in, p->c, part.x);
    row_strides(p->out, p->c, part.y);
    return part;
}

static int few(const struct cnn_resize *p)
{
    if (!few_planes((struct plane_image){p->in, p->x}, (struct plane_image){p->out, p->y}, p->c))
        return 0;
    const struct cnn_resize part = few_of(p);
    return FN(resize_rows_take)(&part);
}

static void forward_planes(const struct planes *s, long n, long c, long channels, const real *from, real *to, struct cnn_run *run)
{
    (void)n, (void)c;
    const struct cnn_resize part = s->few ? few_of(s->context) : part_of(s->context, channels);
    if (s->few)
        FN(resize_rows_forward)(&part, from, to, run);
    else
        forward(&part, from, to, run);
}

static void backward_planes(const struct planes *s, long n, long c, long channels, const real *from, real *to, struct cnn_run *run)
{
    (void)n, (void)c;
    const struct cnn_resize part = s->few ? few_of(s->context) : part_of(s->context, channels);
    if (s->few)
        FN(resize_rows_backward)(&part, from, to, run);
    else
        backward(&part, from, to, run);
}

static struct planes describe(const struct cnn_resize *p, int is_backward)
{
    const int as_rows = few(p);
    const long width = as_rows ? p->c : planes_together(p->in, p->out, p->c);
    const struct cnn_resize part = as_rows ? few_of(p) : part_of(p, width);
    const struct plane_image x = {p->in, p->x}, y = {p->out, p->y};
    struct resize tables;
    struct planes s = {.n = p->n, .c = p->c, .few = as_rows, .together = width, .context = p, .compute = is_backward ? backward_planes : forward_planes};
    s.in = is_backward ? y : x, s.out = is_backward ? x : y, s.work = 2 * work_of(p);
    s.scratch = as_rows ? FN(resize_rows_scratch)(&part, 1) : place(&tables, &part, NULL, 1);
    return s;
}

static size_t scratch_of(const struct cnn_resize *p, int workers) /* forward and backward need the same */
{
    struct resize tables;
    if (FN(resize_rows_take)(p))
        return FN(resize_rows_scratch)(p, workers);
    if (together(p) && !few(p))
        return place(&tables, p, NULL, workers);
    const struct cnn_resize one = as_one_image(p);
    const struct planes s = describe(&one, 0);
    return FN(planes_scratch)(&s, workers);
}

static void run_planes(const struct cnn_resize *p, int is_backward, const real *from, real *to, struct cnn_run *run)
{
    const struct cnn_resize one = as_one_image(p);
    struct planes s = describe(&one, is_backward);
    s.x = from, s.y = to;
    FN(planes_run)(&s, run);
}

size_t FN(resize_forward_scratch)(const void *problem, int workers)
{
    return FN(resize_short_takes)(problem) ? FN(resize_short_scratch)(problem) : scratch_of(problem, workers);
}
size_t FN(resize_backward_scratch)(const void *problem, int workers) { return scratch_of(problem, workers); }

void FN(resize_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    if (FN(resize_short_takes)(problem))
        FN(resize_short_forward)(problem, array[0], array[1], run);
    else if (FN(resize_rows_take)(problem))
        FN(resize_rows_forward)(problem, array[0], array[1], run);
    else if (together(problem) && !few(problem))
        forward(problem, array[0], array[1], run);
    else
        run_planes(problem, 0, array[0], array[1], run);
}

void FN(resize_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    if (FN(resize_rows_take)(problem))
        FN(resize_rows_backward)(problem, array[0], array[1], run);
    else if (together(problem) && !few(problem))
        backward(problem, array[0], array[1], run);
    else
        run_planes(problem, 1, array[0], array[1], run);
}
