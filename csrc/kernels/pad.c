/* pad.c: the gradient of padding an image.
 *
 *     dx[n][c][j] = sum of dpad[n][c][i] over every padded cell i that shows cell j
 *
 * dpad[N][C][padded], dx[N][C][in]; overwrites. Every image cell adds its own copies in scan order. Source: mathematics 2.2. */
#include "../base/problem.h"
#include "ops.h"

struct fold {
    const struct cnn_fold *p;
    const real *x;
    real *y;
};

/* Adds the row `from` of a padded image into the row `to`. */
static void fold_row(const struct cnn_fold *p, const real *from, real *to)
{
    for (long w = 0; w < p->padded[2]; w++) {
        const long j = cnn_source(p->mode, w - p->before[2], p->in[2]);
        if (j < 0)
            continue;
        const real *x = from + w * p->x[4];
        real *y = to + j * p->y[4];
        if (p->x[1] == 1 && p->y[1] == 1)
            for (long c = 0; c < p->c; c++)
                y[c] += x[c];
        else
            for (long c = 0; c < p->c; c++)
                y[c * p->y[1]] += x[c * p->x[1]];
    }
}

static void fold_plane_row(void *context, long row, int worker)
{
    (void)worker;
    const struct fold *s = context;
    const struct cnn_fold *p = s->p;
    const long h = row % p->in[1], d = row / p->in[1] % p->in[0], n = row / p->in[1] / p->in[0];
    real *to = s->y + n * p->y[0] + d * p->y[2] + h * p->y[3];
    for (long w = 0; w < p->in[2]; w++)
        for (long c = 0; c < p->c; c++)
            to[w * p->y[4] + c * p->y[1]] = 0;
    for (long i = 0; i < p->padded[0]; i++) {
        if (cnn_source(p->mode, i - p->before[0], p->in[0]) != d)
            continue;
        for (long j = 0; j < p->padded[1]; j++)
            if (cnn_source(p->mode, j - p->before[1], p->in[1]) == h)
                fold_row(p, s->x + n * p->x[0] + i * p->x[2] + j * p->x[3], to);
    }
}

size_t FN(pad_backward_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(pad_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct fold s = {problem, array[0], array[1]};
    const struct cnn_fold *p = s.p;
    cnn_parallel_for(run, p->n * p->in[0] * p->in[1], (double)(p->n * p->c) * (double)(p->padded[0] * p->padded[1] * p->padded[2]), fold_plane_row, &s);
}
