/* array.c: moving and summing arrays.
 *
 *     array_copy  y = x for logical arrays of up to 8 axes with any strides: C order to channels-last and back
 *     sum         y[outer][inner] = sum over axis of x[outer][axis][inner], in blocks of 4,096 terms added in order
 */
#include "ops.h"

struct copy {
    const struct cnn_array *p;
    const real *x;
    real *y;
    long rows, columns;      /* the two innermost axes */
    long xr, xc, yr, yc;     /* their strides */
    long row_blocks;
};

enum { SIDE = 64 };

/* A tile of rows of one of the two-dimensional slices. */
static void copy_block(void *context, long block, int worker)
{
    (void)worker;
    const struct copy *s = context;
    const real *x = s->x;
    real *y = s->y;
    long slice = block / s->row_blocks;
    for (int a = s->p->rank - 3; a >= 0; a--) {
        const long i = slice % s->p->shape[a];
        slice /= s->p->shape[a];
        x += i * s->p->x[a];
        y += i * s->p->y[a];
    }
    const long begin = block % s->row_blocks * SIDE, end = min_long(s->rows, begin + SIDE);
    if (s->xc == 1 && s->yc == 1) {
        for (long r = begin; r < end; r++)
            memcpy(y + r * s->yr, x + r * s->xr, (size_t)s->columns * sizeof(real));
        return;
    }
    for (long c0 = 0; c0 < s->columns; c0 += SIDE)
        for (long r = begin; r < end; r++)
            for (long c = c0; c < min_long(s->columns, c0 + SIDE); c++)
                y[r * s->yr + c * s->yc] = x[r * s->xr + c * s->xc];
}

size_t FN(array_copy_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(array_copy)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_array *p = problem;
    const int r = p->rank - 2, c = p->rank - 1;
    struct copy s = {p, array[0], array[1], p->shape[r], p->shape[c], p->x[r], p->x[c], p->y[r], p->y[c], divide_up(p->shape[r], SIDE)};
    long slices = 1;
    for (int a = 0; a < r; a++)
        slices *= p->shape[a];
    cnn_parallel_for(run, slices * s.row_blocks, (double)(slices * s.rows) * (double)s.columns * 0.5, copy_block, &s);
}

enum { TERMS = 4096 };

struct sum {
    const struct cnn_reduce *p;
    const real *x;
    real *y;
};

/* inner == 1: one sum along neighbours. Lanes are added in order at the end of each block of terms. */
static void sum_row(void *context, long row, int worker)
{
    (void)worker;
    const struct sum *s = context;
    const real *x = s->x + row * s->p->axis;
    real total = 0;
    for (long begin = 0; begin < s->p->axis; begin += TERMS) {
        const long end = min_long(s->p->axis, begin + TERMS);
        vec lanes = {0};
        long i = begin;
        for (; i + LANES <= end; i += LANES)
            lanes = lanes + vec_load(x + i);
        if (i < end)
            lanes = lanes + vec_load_part(x + i, end - i);
        real part = 0;
        for (int v = 0; v < LANES; v++)
            part += lanes[v];
        total += part;
    }
    s->y[row] = total;
}

/* inner > 1: sums of neighbouring columns side by side. */
static void sum_columns(void *context, long block, int worker)
{
    (void)worker;
    const struct sum *s = context;
    const long inner = s->p->inner, groups = divide_up(inner, 8 * LANES);
    const long outer = block / groups, begin = block % groups * 8 * LANES, end = min_long(inner, begin + 8 * LANES);
    const real *x = s->x + outer * s->p->axis * inner;
    real *y = s->y + outer * inner;
    real part[8 * LANES];
    for (long j = begin; j < end; j++)
        y[j] = 0;
    for (long first = 0; first < s->p->axis; first += TERMS) {
        for (long j = 0; j < end - begin; j++)
            part[j] = 0;
        for (long i = first; i < min_long(s->p->axis, first + TERMS); i++)
            for (long j = 0; j < end - begin; j++)
                part[j] += x[i * inner + begin + j];
        for (long j = begin; j < end; j++)
            y[j] += part[j - begin];
    }
}

size_t FN(sum_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(sum)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct sum s = {problem, array[0], array[1]};
    const double work = (double)(s.p->outer * s.p->inner) * (double)s.p->axis * 0.15;
    if (s.p->inner == 1)
        cnn_parallel_for(run, s.p->outer, work, sum_row, &s);
    else
        cnn_parallel_for(run, s.p->outer * divide_up(s.p->inner, 8 * LANES), work, sum_columns, &s);
}
