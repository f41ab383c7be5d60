/* pad.c: padding an image, and its gradient.
 *
 *     y[n][c][i]  = x[n][c][source(i - before)], or `value` where the mode shows no cell
 *     dx[n][c][j] = sum of dy[n][c][i] over every padded cell i that shows cell j
 *
 * x[N][C][in], y[N][C][padded], any strides; both overwrite. A cell's gradient is its own, then its copies' in scan order,
 * axis by axis. Where channels are no neighbours, each is an image of its own. Source: mathematics 2.2. */
#include "ops.h"

struct pad {
    const struct cnn_pad *p;
    const real *from;
    real *to;
    const long *source; /* of every padded cell of a row: the image cell that it shows, or -1. NULL where cells of a row do not lie side by side */
    long front, inside; /* the cells of a padded row that show themselves */
    const long *begin[2], *shown[2]; /* of gradients: the padded planes and rows that show cell i, shown[begin[i]] to shown[begin[i + 1]] */
};

static void copy_reals(const real *from, long n, real *to)
{
    long i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(to + i, vec_load(from + i));
    for (; i < n; i++)
        to[i] = from[i];
}

/* Rows of one channel whose cells lie side by side: what their borders show is found once. */
static int single(const struct cnn_pad *p) { return p->c == 1 && p->image[4] == 1 && p->form[4] == 1; }
static size_t source_bytes(const struct cnn_pad *p) { return (size_t)max_long(0, p->padded[2]) * sizeof(long); }

static struct pad start(const struct cnn_pad *p, const real *from, real *to, char *scratch)
{
    struct pad s = {.p = p, .from = from, .to = to};
    if (!single(p))
        return s;
    long *source = (long *)scratch;
    for (long w = 0; w < p->padded[2]; w++)
        source[w] = cnn_source(p->mode, w - p->before[2], p->in[2]);
    s.source = source;
    s.front = min_long(p->padded[2], max_long(0, p->before[2]));
    s.inside = max_long(0, min_long(p->in[2] - max_long(0, -p->before[2]), p->padded[2] - s.front));
    return s;
}

static void pad_single(const struct pad *s, const real *from, real *to)
{
    const struct cnn_pad *p = s->p;
    const real value = (real)p->value;
    for (long w = 0; w < s->front; w++)
        to[w] = s->source[w] < 0 ? value : from[s->source[w]];
    copy_reals(from + s->front - p->before[2], s->inside, to + s->front);
    for (long w = s->front + s->inside; w < p->padded[2]; w++)
        to[w] = s->source[w] < 0 ? value : from[s->source[w]];
}

/* A padded row of dy to, or added to, the row of dx: the cells themselves, then their copies, those in front and those behind. */
static void fold_single(const struct pad *s, const real *from, int add, real *to)
{
    const struct cnn_pad *p = s->p;
    const long crop = min_long(p->in[2], max_long(0, -p->before[2])), end = crop + s->inside;
    if (add)
        for (long i = 0; i < s->inside; i++)
            to[crop + i] += from[s->front + i];
    else {
        memset(to, 0, (size_t)crop * sizeof(real));
        copy_reals(from + s->front, s->inside, to + crop);
        memset(to + end, 0, (size_t)(p->in[2] - end) * sizeof(real));
    }
    if (p->mode == CNN_ZEROS)
        return;
    for (long w = 0; w < s->front; w++)
        if (s->source[w] >= 0)
            to[s->source[w]] += from[w];
    for (long w = s->front + s->inside; w < p->padded[2]; w++)
        if (s->source[w] >= 0)
            to[s->source[w]] += from[w];
}

/* `count` cells of a row side by side: channels are neighbours, or cells are, or neither. */
static void copy_cells(const struct cnn_pad *p, const real *from, long count, real *to)
{
    if (p->image[1] == 1 && p->form[1] == 1) {
        if (p->image[4] == p->c && p->form[4] == p->c) {
            memcpy(to, from, (size_t)(count * p->c) * sizeof(real));
            return;
        }
        for (long i = 0; i < count; i++)
            memcpy(to + i * p->form[4], from + i * p->image[4], (size_t)p->c * sizeof(real));
        return;
    }
    for (long c = 0; c < p->c; c++) {
        const real *x = from + c * p->image[1];
        real *y = to + c * p->form[1];
        if (p->image[4] == 1 && p->form[4] == 1)
            memcpy(y, x, (size_t)count * sizeof(real));
        else
            for (long i = 0; i < count; i++)
                y[i * p->form[4]] = x[i * p->image[4]];
    }
}

/* Zeros for `count` cells of the image. */
static void fill_image(const struct cnn_pad *p, long count, real *to)
{
    if (p->image[1] == 1 && p->image[4] == p->c) {
        memset(to, 0, (size_t)max_long(0, count * p->c) * sizeof(real));
        return;
    }
    for (long c = 0; c < p->c; c++)
        for (long i = 0; i < count; i++)
            to[c * p->image[1] + i * p->image[4]] = 0;
}

static void fill_cells(const struct cnn_pad *p, long count, real *to)
{
    const real value = (real)p->value;
    for (long c = 0; c < p->c; c++)
        for (long i = 0; i < count; i++)
            to[c * p->form[1] + i * p->form[4]] = value;
}

static void pad_row(void *context, long row, int worker)
{
    (void)worker;
    const struct pad *s = context;
    const struct cnn_pad *p = s->p;
    const long h = row % p->padded[1], d = row / p->padded[1] % p->padded[0], n = row / p->padded[1] / p->padded[0];
    real *to = s->to + n * p->form[0] + d * p->form[2] + h * p->form[3];
    const long plane = cnn_source(p->mode, d - p->before[0], p->in[0]), line = cnn_source(p->mode, h - p->before[1], p->in[1]);
    if (plane < 0 || line < 0) {
        fill_cells(p, p->padded[2], to);
        return;
    }
    const real *from = s->from + n * p->image[0] + plane * p->image[2] + line * p->image[3];
    if (s->source) {
        pad_single(s, from, to);
        return;
    }
    for (long w = 0; w < p->padded[2];) {
        const long i = w - p->before[2], cell = cnn_source(p->mode, i, p->in[2]);
        long run = 1;
        if (cell < 0)
            run = min_long(p->padded[2] - w, i < 0 ? -i : p->padded[2] - w);
        else if (cell == i)
            run = min_long(p->padded[2] - w, p->in[2] - i);
        if (cell < 0)
            fill_cells(p, run, to + w * p->form[4]);
        else
            copy_cells(p, from + cell * p->image[4], run, to + w * p->form[4]);
        w += run;
    }
}

static double work_of(const struct cnn_pad *p) { return (double)(p->n * p->c) * (double)(p->padded[0] * p->padded[1] * p->padded[2]) * 0.5; }

/* C order: the channels of an image become images of one channel, whose rows are runs. */
static struct cnn_pad simplest(const struct cnn_pad *p)
{
    struct cnn_pad q = *p;
    const int folds = p->n == 1 || (p->image[0] == p->c * p->image[1] && p->form[0] == p->c * p->form[1]);
    if (folds && p->image[1] != 1 && p->form[1] != 1) {
        q.n = p->n * p->c, q.c = 1;
        q.image[0] = p->image[1], q.form[0] = p->form[1];
        q.image[1] = q.form[1] = 1;
    }
    return q;
}

static size_t scratch_of(const struct cnn_pad *problem)
{
    const struct cnn_pad p = simplest(problem);
    return single(&p) ? source_bytes(&p) : 0;
}

size_t FN(pad_forward_scratch)(const void *problem, int workers)
{
    (void)workers;
    return scratch_of(problem);
}

void FN(pad_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_pad p = simplest(problem);
    struct pad s = start(&p, array[0], array[1], run->scratch);
    cnn_parallel_for(run, s.p->n * s.p->padded[0] * s.p->padded[1], work_of(s.p), pad_row, &s);
}

/* to = from, or to += from, for `count` neighbouring cells. */
static void add_cells(const struct cnn_pad *p, const real *from, long count, int add, real *to)
{
    if (!add) {
        const struct cnn_pad turned = {.c = p->c, .image = {0, p->form[1], 0, 0, p->form[4]}, .form = {0, p->image[1], 0, 0, p->image[4]}};
        copy_cells(&turned, from, count, to);
        return;
    }
    const int together = p->image[1] == 1 && p->form[1] == 1;
    if (together && p->image[4] == p->c && p->form[4] == p->c) {
        for (long i = 0; i < count * p->c; i++)
            to[i] += from[i];
        return;
    }
    for (long i = 0; i < count; i++)
        for (long c = 0; c < p->c; c++)
            to[i * p->image[4] + c * p->image[1]] += from[i * p->form[4] + c * p->form[1]];
}

/* A padded row goes to the image row `to`: the cells themselves, then their copies, those in front and those behind. */
static void fold_row(const struct cnn_pad *p, const real *from, int add, real *to)
{
    const long front = max_long(0, p->before[2]), crop = max_long(0, -p->before[2]);
    const long inside = max_long(0, min_long(p->in[2] - crop, p->padded[2] - front)), behind = p->in[2] - crop - inside;
    if (!add) {
        fill_image(p, crop, to);
        fill_image(p, behind, to + (crop + inside) * p->image[4]);
    }
    add_cells(p, from + front * p->form[4], inside, add, to + crop * p->image[4]);
    for (long w = 0; w < p->padded[2]; w++) {
        if (w == front)
            w += inside;
        const long j = w < p->padded[2] ? cnn_source(p->mode, w - p->before[2], p->in[2]) : -1;
        if (j >= 0)
            add_cells(p, from + w * p->form[4], 1, 1, to + j * p->image[4]);
    }
}

/* Padded cells of an axis that show an image cell: itself first, then its copies in order. */
static size_t shown_bytes(const struct cnn_pad *p) { return (size_t)(p->in[0] + p->in[1] + 2 + max_long(0, p->padded[0]) + max_long(0, p->padded[1])) * sizeof(long); }

static void list_shown(struct pad *s, long *room)
{
    const struct cnn_pad *p = s->p;
    for (int a = 0; a < 2; a++) {
        const long in = p->in[a], padded = max_long(0, p->padded[a]);
        long *begin = room, *shown = room + in + 1;
        memset(begin, 0, (size_t)(in + 1) * sizeof(long));
        for (long i = 0; i < padded; i++) {
            const long cell = cnn_source(p->mode, i - p->before[a], in);
            if (cell >= 0)
                begin[cell + 1]++;
        }
        for (long cell = 0; cell < in; cell++)
            begin[cell + 1] += begin[cell];
        for (long itself = 1; itself >= 0; itself--) /* then begin[cell] is where its next one goes */
            for (long i = 0; i < padded; i++) {
                const long cell = cnn_source(p->mode, i - p->before[a], in);
                if (cell >= 0 && (cell == i - p->before[a]) == itself)
                    shown[begin[cell]++] = i;
            }
        for (long cell = in; cell > 0; cell--)
            begin[cell] = begin[cell - 1];
        begin[0] = 0;
        s->begin[a] = begin, s->shown[a] = shown;
        room = shown + padded;
    }
}

static void fold_image_row(void *context, long row, int worker)
{
    (void)worker;
    const struct pad *s = context;
    const struct cnn_pad *p = s->p;
    const long h = row % p->in[1], d = row / p->in[1] % p->in[0], n = row / p->in[1] / p->in[0];
    real *to = s->to + n * p->image[0] + d * p->image[2] + h * p->image[3];
    int add = 0;
    for (long i = s->begin[0][d]; i < s->begin[0][d + 1]; i++)
        for (long j = s->begin[1][h]; j < s->begin[1][h + 1]; j++, add = 1) {
            const real *from = s->from + n * p->form[0] + s->shown[0][i] * p->form[2] + s->shown[1][j] * p->form[3];
            if (s->source)
                fold_single(s, from, add, to);
            else
                fold_row(p, from, add, to);
        }
    if (!add)
        fill_image(p, p->in[2], to);
}

size_t FN(pad_backward_scratch)(const void *problem, int workers)
{
    (void)workers;
    return scratch_of(problem) + shown_bytes(problem);
}

void FN(pad_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_pad p = simplest(problem);
    struct pad s = start(&p, array[0], array[1], run->scratch);
    list_shown(&s, (long *)(run->scratch + scratch_of(problem)));
    cnn_parallel_for(run, s.p->n * s.p->in[0] * s.p->in[1], 2 * work_of(s.p), fold_image_row, &s);
}
