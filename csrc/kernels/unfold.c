/* unfold.c: windows spelled out as columns, and added back.
 *
 *     unfold  columns[n][c*R + r][p] = xp[n][c][p*stride + r*dilation - before], 0 outside the image
 *     fold    x[n][c][h] = sum of columns[n][c*R + r][p] over all r, p with p*stride + r*dilation - before = h
 *
 * x[N][C][in] with any strides, columns in C order; both overwrite. Each is the other's gradient. Source: mathematics 2.5. */
#include "ops.h"

struct unfold {
    const struct cnn_unfold *p;
    const real *from;
    real *to;
    long taps, windows;
};

/* Windows of axis a whose tap r lies inside the image: [begin, end). */
static void windows_inside(const struct cnn_unfold *p, int a, long r, long *begin, long *end)
{
    const long first = r * p->dilation[a] - p->before[a], stride = p->stride[a];
    *begin = first < 0 ? min_long(p->out[a], divide_up(-first, stride)) : 0;
    *end = first < p->in[a] ? min_long(p->out[a], (p->in[a] - 1 - first) / stride + 1) : 0;
    *end = max_long(*begin, *end);
}

/* One row of columns: a channel and a tap. */
static void unfold_row(void *context, long row, int worker)
{
    (void)worker;
    const struct unfold *s = context;
    const struct cnn_unfold *p = s->p;
    const long tap = row % s->taps, channel = row / s->taps % p->c, n = row / s->taps / p->c;
    const long r[3] = {tap / p->window[2] / p->window[1], tap / p->window[2] % p->window[1], tap % p->window[2]};
    long begin[3], end[3];
    for (int a = 0; a < 3; a++)
        windows_inside(p, a, r[a], &begin[a], &end[a]);
    const real *x = s->from + n * p->image[0] + channel * p->image[1];
    for (int a = 0; a < 3; a++)
        x += (r[a] * p->dilation[a] - p->before[a]) * p->image[2 + a];
    real *to = s->to + row * s->windows;
    const long step = p->stride[2] * p->image[4];
    for (long d = 0; d < p->out[0]; d++)
        for (long h = 0; h < p->out[1]; h++, to += p->out[2]) {
            if (d < begin[0] || d >= end[0] || h < begin[1] || h >= end[1]) {
                memset(to, 0, (size_t)p->out[2] * sizeof(real));
                continue;
            }
            const real *line = x + d * p->stride[0] * p->image[2] + h * p->stride[1] * p->image[3];
            memset(to, 0, (size_t)begin[2] * sizeof(real));
            if (step == 1)
                memcpy(to + begin[2], line + begin[2], (size_t)(end[2] - begin[2]) * sizeof(real));
            else
                for (long w = begin[2]; w < end[2]; w++)
                    to[w] = line[w * step];
            memset(to + end[2], 0, (size_t)(p->out[2] - end[2]) * sizeof(real));
        }
}

static struct unfold start(const struct cnn_unfold *p, const real *from, real *to)
{
    return (struct unfold){p, from, to, p->window[0] * p->window[1] * p->window[2], p->out[0] * p->out[1] * p->out[2]};
}

size_t FN(unfold_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(unfold)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct unfold s = start(problem, array[0], array[1]);
    const long rows = s.p->n * s.p->c * s.taps;
    cnn_parallel_for(run, rows, (double)rows * (double)s.windows * 0.5, unfold_row, &s);
}

/* One channel of one image, its taps in scan order. */
static void fold_channel(void *context, long block, int worker)
{
    (void)worker;
    const struct unfold *s = context;
    const struct cnn_unfold *p = s->p;
    const long channel = block % p->c, n = block / p->c;
    real *plane = s->to + n * p->image[0] + channel * p->image[1];
    for (long d = 0; d < p->in[0]; d++)
        for (long h = 0; h < p->in[1]; h++)
            for (long w = 0; w < p->in[2]; w++)
                plane[d * p->image[2] + h * p->image[3] + w * p->image[4]] = 0;
    const long step = p->stride[2] * p->image[4];
    for (long tap = 0; tap < s->taps; tap++) {
        const long r[3] = {tap / p->window[2] / p->window[1], tap / p->window[2] % p->window[1], tap % p->window[2]};
        long begin[3], end[3], first = 0;
        for (int a = 0; a < 3; a++) {
            windows_inside(p, a, r[a], &begin[a], &end[a]);
            first += (r[a] * p->dilation[a] - p->before[a]) * p->image[2 + a];
        }
        const real *from = s->from + (block * s->taps + tap) * s->windows;
        for (long d = begin[0]; d < end[0]; d++)
            for (long h = begin[1]; h < end[1]; h++) {
                const real *line = from + (d * p->out[1] + h) * p->out[2];
                real *to = plane + first + d * p->stride[0] * p->image[2] + h * p->stride[1] * p->image[3];
                if (step == 1)
                    for (long w = begin[2]; w < end[2]; w++)
                        to[w] += line[w];
                else
                    for (long w = begin[2]; w < end[2]; w++)
                        to[w * step] += line[w];
            }
    }
}

size_t FN(fold_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(fold)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct unfold s = start(problem, array[0], array[1]);
    const double work = (double)(s.p->n * s.p->c) * (double)s.taps * (double)s.windows;
    cnn_parallel_for(run, s.p->n * s.p->c, work, fold_channel, &s);
}
