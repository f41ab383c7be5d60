/* pad.c: padding an image, and its gradient.
 *
 *     y[n][c][i]  = x[n][c][source(i - before)], or `value` where the mode shows no cell
 *     dx[n][c][j] = sum of dy[n][c][i] over every padded cell i that shows cell j
 *
 * x[N][C][in], y[N][C][padded], any strides; both overwrite. A cell's gradient is its own, then its copies' in scan order,
 * axis by axis. Where channels are no neighbours, each is an image of its own; small ones are turned (planes.h), so that channels fill
 * the lanes. Source: mathematics 2.2. */
#include "ops.h"
#include "planes.h"
#include "transpose.h"

struct pad {
    const struct cnn_pad *p;
    const real *from;
    real *to;
    const long *source; /* of every padded cell of a row: the image cell that it shows, or -1. NULL where cells of a row do not lie side by side */
    const long *lines;  /* of every padded row: the row that it shows, or -1 */
    long front, inside; /* the cells of a padded row that show themselves */
    long many;          /* rows of a block */
    int short_rows;     /* a row of the image is a vector at most, and a padded one too: the cells that its lanes show, and whether they show one */
    mask lane, shows;
    const long *begin[2], *shown[2]; /* of gradients: the padded planes and rows that show cell i, shown[begin[i]] to shown[begin[i + 1]] */
};

/* The last vector begins early, or is a part. */
ALWAYS_INLINE void copy_reals(const real *from, long n, real *to)
{
    if (n < LANES) {
        if (n > 0)
            vec_store_part(to, vec_load_part(from, n), n);
        return;
    }
    for (long i = 0; i < n - LANES; i += LANES)
        vec_store(to + i, vec_load(from + i));
    vec_store(to + n - LANES, vec_load(from + n - LANES));
}

/* to += from */
ALWAYS_INLINE void add_reals(const real *from, long n, real *to)
{
    for (long i = 0; i < n; i += LANES) {
        const long valid = min_long(LANES, n - i);
        vec_put(to + i, vec_get(to + i, valid) + vec_get(from + i, valid), valid);
    }
}

/* Rows of one channel whose cells lie side by side: what their borders show is found once. */
static int single(const struct cnn_pad *p) { return p->c == 1 && p->image[4] == 1 && p->form[4] == 1; }
static size_t source_bytes(const struct cnn_pad *p) { return (size_t)(max_long(0, p->padded[1]) + max_long(0, p->padded[2])) * sizeof(long); }

enum { AT_ONCE = 8192 }; /* cells of a block of single rows, about */

static struct pad start(const struct cnn_pad *p, const real *from, real *to, char *scratch)
{
    struct pad s = {.p = p, .from = from, .to = to};
    s.many = single(p) ? max_long(1, AT_ONCE / max_long(1, p->padded[2])) : 1;
    if (!single(p))
        return s;
    long *source = (long *)scratch, *lines = source + max_long(0, p->padded[2]);
    for (long h = 0; h < p->padded[1]; h++)
        lines[h] = cnn_source(p->mode, h - p->before[1], p->in[1]);
    for (long w = 0; w < p->padded[2]; w++)
        source[w] = cnn_source(p->mode, w - p->before[2], p->in[2]);
    s.source = source, s.lines = lines;
    s.short_rows = CNN_HAS_PERMUTE && p->in[2] <= LANES && p->padded[2] <= LANES;
    for (long w = 0; s.short_rows && w < LANES; w++) {
        const long cell = w < p->padded[2] ? source[w] : -1;
        s.lane[w] = (bits)max_long(0, cell), s.shows[w] = cell < 0 ? 0 : -1;
    }
    s.front = min_long(p->padded[2], max_long(0, p->before[2]));
    s.inside = max_long(0, min_long(p->in[2] - max_long(0, -p->before[2]), p->padded[2] - s.front));
    return s;
}

ALWAYS_INLINE void pad_single(const struct pad *s, const real *from, real *to)
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
        add_reals(from + s->front, s->inside, to + crop);
    else {
        if (crop)
            memset(to, 0, (size_t)crop * sizeof(real));
        copy_reals(from + s->front, s->inside, to + crop);
        if (p->in[2] > end)
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
    if (p->c == 1 && p->form[4] == 1) {
        for (long i = 0; i < count; i += LANES)
            vec_put(to + i, vec_fill(value), min_long(LANES, count - i));
        return;
    }
    for (long c = 0; c < p->c; c++)
        for (long i = 0; i < count; i++)
            to[c * p->form[1] + i * p->form[4]] = value;
}

/* Row h of plane d of image n. */
struct place {
    long n, d, h;
};
ALWAYS_INLINE struct place place_of(const long size[3], long row) { return (struct place){row / size[1] / size[0], row / size[1] % size[0], row % size[1]}; }
ALWAYS_INLINE void next_row(const long size[3], struct place *at)
{
    if (++at->h < size[1])
        return;
    at->h = 0;
    if (++at->d == size[0])
        at->d = 0, at->n++;
}

static void pad_row(const struct pad *s, struct place at)
{
    const struct cnn_pad *p = s->p;
    const long d = at.d, h = at.h;
    real *to = s->to + at.n * p->form[0] + d * p->form[2] + h * p->form[3];
    const long plane = cnn_source(p->mode, d - p->before[0], p->in[0]), line = cnn_source(p->mode, h - p->before[1], p->in[1]);
    if (plane < 0 || line < 0) {
        fill_cells(p, p->padded[2], to);
        return;
    }
    const real *from = s->from + at.n * p->image[0] + plane * p->image[2] + line * p->image[3];
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

/* `rows` rows of a plane from row h on. plane: of the image, NULL where there is none. */
ALWAYS_INLINE void pad_short(const struct pad *s, const real *plane, long h, long rows, real *to)
{
    const struct cnn_pad *p = s->p;
    const long in = p->in[2], padded = p->padded[2], down = p->image[3], below = p->form[3];
    const vec empty = vec_fill((real)p->value);
    const mask lane = s->lane, shows = s->shows;
    for (const long *line = s->lines + h; rows; rows--, line++, to += below)
        vec_put(to, plane && *line >= 0 ? vec_select(shows, vec_permute(vec_get(plane + *line * down, in), lane), empty) : empty, padded);
}

/* The same where rows are longer. */
static void pad_long(const struct pad *s, const real *plane, long h, long rows, real *to)
{
    const struct cnn_pad *p = s->p;
    const long down = p->image[3], below = p->form[3];
    for (const long *line = s->lines + h; rows; rows--, line++, to += below)
        if (plane && *line >= 0)
            pad_single(s, plane + *line * down, to);
        else
            fill_cells(p, p->padded[2], to);
}

static void pad_rows(void *context, long block, int worker)
{
    (void)worker;
    const struct pad *s = context;
    const long *size = s->p->padded, first = block * s->many, end = min_long(first + s->many, s->p->n * size[0] * size[1]);
    struct place at = place_of(size, first);
    if (!s->source) {
        for (long row = first; row < end; row++, next_row(size, &at))
            pad_row(s, at);
        return;
    }
    const struct cnn_pad *p = s->p;
    for (long row = first, rows; row < end; row += rows, at.h += rows - 1, next_row(size, &at)) {
        const long plane = cnn_source(p->mode, at.d - p->before[0], p->in[0]);
        rows = min_long(end - row, size[1] - at.h);
        const real *from = plane < 0 ? NULL : s->from + at.n * p->image[0] + plane * p->image[2];
        real *to = s->to + at.n * p->form[0] + at.d * p->form[2] + at.h * p->form[3];
        if (s->short_rows)
            pad_short(s, from, at.h, rows, to);
        else
            pad_long(s, from, at.h, rows, to);
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

/* Padded cells of an axis that show an image cell: itself first, then its copies in order. */
static size_t shown_bytes(const struct cnn_pad *p) { return (size_t)(p->in[0] + p->in[1] + 2 + max_long(0, p->padded[0]) + max_long(0, p->padded[1])) * sizeof(long); }

/* Planes whose rows leave lanes empty, as channels of one image; unless one move does all of a row. */
static int turns(const struct cnn_pad *p, int backward)
{
    const long *to = p->padded;
    const int one_move = backward ? p->mode == CNN_ZEROS && CNN_HAS_MASKED_MOVES : CNN_HAS_PERMUTE;
    return !one_move && single(p) && p->n >= LANES && p->in[2] <= LANES && to[0] > 0 && to[1] > 0 && to[2] > 0 && to[2] <= LANES;
}

struct turned {
    struct cnn_pad p;
    int backward;
};

static void pad_turned(const struct planes *s, long n, long c, long channels, const real *from, real *to, struct cnn_run *run)
{
    (void)n, (void)c;
    const struct turned *t = s->context;
    struct cnn_pad part = t->p;
    void *const arrays[] = {(void *)from, to};
    part.n = 1, part.c = channels;
    dense_strides(part.in, channels, part.image);
    dense_strides(part.padded, channels, part.form);
    if (t->backward)
        FN(pad_backward)(&part, arrays, run);
    else
        FN(pad_forward)(&part, arrays, run);
}

static struct turned turned_of(const struct cnn_pad *p, int backward)
{
    struct turned t = {*p, backward};
    t.p.n = 1, t.p.c = p->n, t.p.image[1] = p->image[0], t.p.form[1] = p->form[0];
    return t;
}

static struct planes planes_of(const struct turned *t)
{
    const struct cnn_pad *p = &t->p;
    const struct plane_image image = {p->in, p->image}, form = {p->padded, p->form};
    struct planes s = {.n = 1, .c = p->c, .together = planes_together(p->in, p->padded, p->c), .compute = pad_turned, .context = t};
    s.in = t->backward ? form : image, s.out = t->backward ? image : form;
    s.scratch = source_bytes(p) + shown_bytes(p), s.work = 2 * work_of(p);
    return s;
}

static void run_turned(const struct cnn_pad *p, int backward, void *const *array, struct cnn_run *run)
{
    const struct turned t = turned_of(p, backward);
    struct planes s = planes_of(&t);
    s.x = array[0], s.y = array[1];
    FN(planes_run)(&s, run);
}

static size_t scratch_of(const struct cnn_pad *problem, int backward, int workers)
{
    const struct cnn_pad p = simplest(problem);
    if (turns(&p, backward)) {
        const struct turned t = turned_of(&p, backward);
        const struct planes s = planes_of(&t);
        return FN(planes_scratch)(&s, workers);
    }
    return (single(&p) ? source_bytes(&p) : 0) + (backward ? shown_bytes(&p) : 0);
}

size_t FN(pad_forward_scratch)(const void *problem, int workers) { return scratch_of(problem, 0, workers); }

void FN(pad_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_pad p = simplest(problem);
    if (turns(&p, 0)) {
        run_turned(&p, 0, array, run);
        return;
    }
    struct pad s = start(&p, array[0], array[1], run->scratch);
    cnn_parallel_for(run, divide_up(p.n * p.padded[0] * p.padded[1], s.many), work_of(&p), pad_rows, &s);
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

static void fold_image_row(const struct pad *s, struct place at)
{
    const struct cnn_pad *p = s->p;
    const long h = at.h, d = at.d;
    real *to = s->to + at.n * p->image[0] + d * p->image[2] + h * p->image[3];
    int add = 0;
    for (long i = s->begin[0][d]; i < s->begin[0][d + 1]; i++)
        for (long j = s->begin[1][h]; j < s->begin[1][h + 1]; j++, add = 1) {
            const real *from = s->from + at.n * p->form[0] + s->shown[0][i] * p->form[2] + s->shown[1][j] * p->form[3];
            if (s->source)
                fold_single(s, from, add, to);
            else
                fold_row(p, from, add, to);
        }
    if (!add)
        fill_image(p, p->in[2], to);
}

/* The gradient of padding with zeros, for `rows` neighbouring single rows of a plane from `at` on: each is a row of dy, or zeros. */
static void crop_rows(const struct pad *s, struct place at, long rows)
{
    const struct cnn_pad *p = s->p;
    const long d = at.d + p->before[0], h = at.h + p->before[1];
    const int shown = d >= 0 && d < p->padded[0], whole = shown && h >= 0 && h + rows <= p->padded[1] && s->inside == p->in[2];
    const long from_row = p->form[3], to_row = p->image[3], inside = s->inside;
    const real *from = s->from + at.n * p->form[0] + d * p->form[2] + h * from_row + (whole ? s->front : 0);
    real *to = s->to + at.n * p->image[0] + at.d * p->image[2] + at.h * to_row;
    for (long r = 0; r < rows; r++, from += from_row, to += to_row) {
        if (whole)
            copy_reals(from, inside, to);
        else if (shown && h + r >= 0 && h + r < p->padded[1])
            fold_single(s, from, 0, to);
        else
            fill_image(p, p->in[2], to);
    }
}

static void fold_rows(void *context, long block, int worker)
{
    (void)worker;
    const struct pad *s = context;
    const long *size = s->p->in, first = block * s->many, end = min_long(first + s->many, s->p->n * size[0] * size[1]);
    const int crop = s->source && s->p->mode == CNN_ZEROS;
    struct place at = place_of(size, first);
    for (long row = first, rows; row < end; row += rows, at.h += rows - 1, next_row(size, &at)) {
        rows = crop ? min_long(end - row, size[1] - at.h) : 1;
        if (crop)
            crop_rows(s, at, rows);
        else
            fold_image_row(s, at);
    }
}

size_t FN(pad_backward_scratch)(const void *problem, int workers) { return scratch_of(problem, 1, workers); }

void FN(pad_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_pad p = simplest(problem);
    if (turns(&p, 1)) {
        run_turned(&p, 1, array, run);
        return;
    }
    struct pad s = start(&p, array[0], array[1], run->scratch);
    list_shown(&s, (long *)(run->scratch + (single(&p) ? source_bytes(&p) : 0)));
    cnn_parallel_for(run, divide_up(p.n * p.in[0] * p.in[1], s.many), 2 * work_of(&p), fold_rows, &s);
}
