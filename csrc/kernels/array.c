/* array.c: moving and summing arrays.
 *
 *     array_copy  y = x for logical arrays of up to 8 axes with any strides: C order to channels-last and back
 *     sum         y[outer][inner] = sum over axis of x[outer][axis][inner], in blocks of 4,096 terms added in order
 *     max         y[outer][inner] = the largest of x[outer][axis][inner] over axis, the first of equals, a NaN before any number; index:
 *                 its place along axis. Backward writes dy there and 0 elsewhere.
 */
#include "ops.h"
#include "planes.h"
#include "transpose.h"

enum { AXES = 8, WORTH = 16384, FEW = 16 }; /* WORTH: elements of a block; fewer blocks than FEW are few */

/* The axes that are left: those of length 1 are dropped, neighbours that run on in both arrays are one. The last is the one
 * along which y is written; `across` is another one along which x is read in runs, -1 where there is none. */
struct copy {
    const real *x;
    real *y;
    int rank, across;
    long shape[AXES], xs[AXES], ys[AXES];
    int axis;          /* a block has `split` cells of it, and one of each axis before */
    long split, parts; /* blocks of those */
};

static long size_of(long stride) { return stride < 0 ? -stride : stride; }

static void swap_axes(struct copy *s, int i, int j)
{
    const long shape = s->shape[i], x = s->xs[i], y = s->ys[i];
    s->shape[i] = s->shape[j], s->xs[i] = s->xs[j], s->ys[i] = s->ys[j];
    s->shape[j] = shape, s->xs[j] = x, s->ys[j] = y;
}

static void simplify(struct copy *s, const struct cnn_array *p)
{
    s->rank = 0;
    for (int a = 0; a < p->rank; a++)
        if (p->shape[a] != 1) {
            s->shape[s->rank] = p->shape[a], s->xs[s->rank] = p->x[a], s->ys[s->rank] = p->y[a];
            s->rank++;
        }
    for (int i = 1; i < s->rank; i++) /* the longest strides of y first */
        for (int j = i; j > 0 && size_of(s->ys[j - 1]) < size_of(s->ys[j]); j--)
            swap_axes(s, j - 1, j);
    int last = 0;
    for (int a = 1; a < s->rank; a++)
        if (s->xs[last] == s->xs[a] * s->shape[a] && s->ys[last] == s->ys[a] * s->shape[a]) {
            s->shape[last] *= s->shape[a], s->xs[last] = s->xs[a], s->ys[last] = s->ys[a];
        } else {
            last++;
            s->shape[last] = s->shape[a], s->xs[last] = s->xs[a], s->ys[last] = s->ys[a];
        }
    s->rank = s->rank ? last + 1 : 0;
    while (s->rank < 2) { /* at least two axes: one around, one along */
        s->shape[s->rank] = 1, s->xs[s->rank] = s->ys[s->rank] = 0;
        s->rank++;
        if (s->rank == 2)
            swap_axes(s, 0, 1);
    }
    s->across = -1;
    for (int a = 0; a < s->rank - 1 && s->xs[s->rank - 1] != 1; a++)
        if (s->xs[a] == 1)
            s->across = a;
}

/* The last axis times the one of x's runs where one of them is as short as a factor of pixel_shuffle: rows shuffled into each other, or apart.
 * Returns how much of the longer axis is done. */
ALWAYS_INLINE long copy_pairs(const struct copy *s, const real *x, real *y, long rows)
{
#if CNN_HAS_TRANSPOSE
    const long columns = s->shape[s->rank - 1], xc = s->xs[s->rank - 1], yr = s->ys[s->across], yc = s->ys[s->rank - 1];
    long done = 0;
    if (columns == 2 && yc == 1 && yr == 2) {
        for (; done + LANES <= rows; done += LANES) {
            const vec a = vec_load(x + done), b = vec_load(x + xc + done);
            vec_store(y + 2 * done, __builtin_shufflevector(a, b, LOWER_INDICES));
            vec_store(y + 2 * done + LANES, __builtin_shufflevector(a, b, UPPER_INDICES));
        }
        return done;
    }
    if (rows == 2 && yc == 1 && (xc == 2 || xc == 4)) {
        for (; done + LANES <= columns; done += LANES)
            for (int i = 0; i < 2; i++)
                vec_store(y + i * yr + done, xc == 2 ? vec_load_apart(x + i + 2 * done, 2) : vec_load_apart(x + i + 4 * done, 4));
        return done;
    }
#endif
    (void)s, (void)x, (void)y, (void)rows;
    return 0;
}

/* The last axis times the one of x's runs, some rows at a time so that lines of both are used up. */
static void copy_turned(const struct copy *s, const real *x, real *y, long rows)
{
    const int along = s->rank - 1;
    const long columns = s->shape[along], xc = s->xs[along], yr = s->ys[s->across], yc = s->ys[along];
    const long pairs = copy_pairs(s, x, y, rows), done = rows == 2 ? pairs : 0; /* columns of every row */
    for (long r = rows == 2 ? 0 : pairs, high; r < rows; r += high) {
        high = rows - r < 2 * TURNED_AT_ONCE ? rows - r : TURNED_AT_ONCE;
        if (yc == 1)
            FN(gather_cells)(x + r + done * xc, xc, 1, high, columns - done, yr, y + r * yr + done);
        else
            for (long i = r; i < r + high; i++)
                for (long c = done; c < columns; c++)
                    y[i * yr + c * yc] = x[i + c * xc];
    }
}

/* All axes from `axis` on, `count` cells of it. */
static void copy_axes(const struct copy *s, int axis, long count, const real *x, real *y)
{
    const int along = s->rank - 1;
    if (axis == s->across) { /* done with the last axis */
        axis++;
        if (axis == along)
            copy_turned(s, x, y, count);
        else
            copy_axes(s, axis, s->shape[axis], x, y);
        return;
    }
    if (axis == along) {
        const long xc = s->xs[along], yc = s->ys[along];
        if (s->across >= 0)
            copy_turned(s, x, y, s->shape[s->across]);
        else if (xc == 1 && yc == 1)
            memcpy(y, x, (size_t)count * sizeof(real));
        else
            for (long i = 0; i < count; i++)
                y[i * yc] = x[i * xc];
        return;
    }
    for (long i = 0; i < count; i++)
        copy_axes(s, axis + 1, s->shape[axis + 1], x + i * s->xs[axis], y + i * s->ys[axis]);
}

static void copy_block(void *context, long block, int worker)
{
    (void)worker;
    const struct copy *s = context;
    const long begin = block % s->parts * s->split;
    struct copy part = *s;
    part.x += begin * s->xs[s->axis], part.y += begin * s->ys[s->axis];
    part.shape[s->axis] = min_long(s->split, s->shape[s->axis] - begin);
    block /= s->parts;
    for (int a = s->axis - 1; a >= 0; a--) {
        const long i = block % s->shape[a];
        part.x += i * s->xs[a], part.y += i * s->ys[a], part.shape[a] = 1;
        block /= s->shape[a];
    }
    copy_axes(&part, 0, part.shape[0], part.x, part.y);
}

/* Axes are cut from the outermost on until there are enough blocks; never one behind `across`, whose squares would be cut into rows. */
static long cut_copy(struct copy *s, double size)
{
    long outer = 1;
    s->axis = 0;
    while (s->axis < (s->across >= 0 ? s->across : s->rank - 1) && outer * s->shape[s->axis] < FEW)
        outer *= s->shape[s->axis++];
    const long length = max_long(1, s->shape[s->axis]);
    const double inner = size / (double)outer / (double)length;
    s->split = inner >= WORTH ? 1 : max_long(1, (long)(WORTH / (inner < 1 ? 1 : inner)));
    if (s->split > LANES || s->axis == s->across)
        s->split = round_up(s->split, LANES); /* whole squares */
    s->parts = divide_up(s->shape[s->axis], s->split);
    return outer * s->parts;
}

size_t FN(array_copy_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(array_copy)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct copy s = {.x = array[0], .y = array[1]};
    simplify(&s, problem);
    double size = 1;
    for (int a = 0; a < s.rank; a++)
        size *= (double)s.shape[a];
    const long blocks = cut_copy(&s, size);
    cnn_parallel_for(run, blocks, size * 0.4, copy_block, &s);
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

struct most {
    const struct cnn_reduce *p;
    const real *x;
    real *y;
    int64_t *index;
};

/* Columns of one outer row, LANES beside each other in turn; `place` counts along the axis. */
static void find_most(void *context, long outer, int worker)
{
    (void)worker;
    const struct most *s = context;
    const long axis = s->p->axis, inner = s->p->inner;
    const real *x = s->x + outer * axis * inner;
    real *y = s->y + outer * inner;
    int64_t *index = s->index + outer * inner;
    for (long j = 0; j < inner; j += LANES) {
        const long n = min_long(LANES, inner - j);
        vec best = vec_get(x + j, n);
        mask place = {0};
        for (long i = 1; i < axis; i++) {
            const vec v = vec_get(x + i * inner + j, n);
            const mask above = (v > best) | ((v != v) & (best == best));
            best = vec_select(above, v, best);
            place = (above & ((mask){0} + (bits)i)) | (~above & place);
        }
        vec_put(y + j, best, n);
        for (long k = 0; k < n; k++)
            index[j + k] = place[k];
    }
}

size_t FN(max_forward_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(max_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct most s = {problem, array[0], array[1], array[2]};
    cnn_parallel_for(run, s.p->outer, (double)(s.p->outer * s.p->inner) * (double)s.p->axis * 0.3, find_most, &s);
}

static void spread_most(void *context, long outer, int worker)
{
    (void)worker;
    const struct most *s = context;
    const long axis = s->p->axis, inner = s->p->inner;
    const real *dy = s->x + outer * inner;
    const int64_t *index = s->index + outer * inner;
    real *dx = s->y + outer * axis * inner;
    memset(dx, 0, (size_t)(axis * inner) * sizeof(real));
    for (long j = 0; j < inner; j++)
        dx[index[j] * inner + j] = dy[j];
}

size_t FN(max_backward_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(max_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct most s = {problem, array[0], array[2], array[1]};
    cnn_parallel_for(run, s.p->outer, (double)(s.p->outer * s.p->inner) * (double)s.p->axis * 0.2, spread_most, &s);
}
