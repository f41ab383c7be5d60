/* pad.c: padding an image, and its gradient.
 *
 *     y[n][c][i]  = x[n][c][source(i - before)], or `value` where the mode shows no cell
 *     dx[n][c][j] = sum of dy[n][c][i] over every padded cell i that shows cell j
 *
 * x[N][C][in], y[N][C][padded], any strides; both overwrite. A cell adds its copies in scan order. Source: mathematics 2.2. */
#include "ops.h"

struct pad {
    const struct cnn_pad *p;
    const real *from;
    real *to;
};

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

size_t FN(pad_forward_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(pad_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct pad s = {problem, array[0], array[1]};
    cnn_parallel_for(run, s.p->n * s.p->padded[0] * s.p->padded[1], work_of(s.p), pad_row, &s);
}

/* Adds the padded row `from` into the image row `to`. */
static void fold_row(const struct cnn_pad *p, const real *from, real *to)
{
    for (long w = 0; w < p->padded[2]; w++) {
        const long j = cnn_source(p->mode, w - p->before[2], p->in[2]);
        if (j < 0)
            continue;
        const real *x = from + w * p->form[4];
        real *y = to + j * p->image[4];
        if (p->form[1] == 1 && p->image[1] == 1)
            for (long c = 0; c < p->c; c++)
                y[c] += x[c];
        else
            for (long c = 0; c < p->c; c++)
                y[c * p->image[1]] += x[c * p->form[1]];
    }
}

static void fold_image_row(void *context, long row, int worker)
{
    (void)worker;
    const struct pad *s = context;
    const struct cnn_pad *p = s->p;
    const long h = row % p->in[1], d = row / p->in[1] % p->in[0], n = row / p->in[1] / p->in[0];
    real *to = s->to + n * p->image[0] + d * p->image[2] + h * p->image[3];
    for (long c = 0; c < p->c; c++)
        for (long w = 0; w < p->in[2]; w++)
            to[w * p->image[4] + c * p->image[1]] = 0;
    for (long i = 0; i < p->padded[0]; i++) {
        if (cnn_source(p->mode, i - p->before[0], p->in[0]) != d)
            continue;
        for (long j = 0; j < p->padded[1]; j++)
            if (cnn_source(p->mode, j - p->before[1], p->in[1]) == h)
                fold_row(p, s->from + n * p->form[0] + i * p->form[2] + j * p->form[3], to);
    }
}

size_t FN(pad_backward_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(pad_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct pad s = {problem, array[0], array[1]};
    cnn_parallel_for(run, s.p->n * s.p->in[0] * s.p->in[1], 2 * work_of(s.p), fold_image_row, &s);
}
