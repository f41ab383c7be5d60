/* arithmetic.c: element-wise arithmetic with broadcasting.
 *
 *     binary  y = a op b for logical arrays of up to 8 axes; an operand without an array is a number; the compiler's ADD_RELU is the ReLU of a sum
 *     fill    y = the number a
 *     convert  y = x, of another type
 *     running_update  running = (1 - momentum) running + momentum statistic
 *
 * Every result is rounded once, as IEEE 754 says; the maximum of a NaN and anything is a NaN. */
#include "ops.h"

enum { AXES = 8, BLOCK = 16384 };

/* The axes that are left: those of length 1 are dropped, neighbours that run on in all three arrays are one. The last is the one along
 * which y is written. */
struct binary {
    const real *a, *b;
    real *y;
    int operator, rank;
    long shape[AXES], as[AXES], bs[AXES], ys[AXES];
    long split; /* cells of the outermost axis in a block */
};

static void swap_long(long *v, int i, int j)
{
    const long kept = v[i];
    v[i] = v[j], v[j] = kept;
}

static void simplify(struct binary *s, const struct cnn_binary *p)
{
    int n = 0;
    for (int a = 0; a < p->rank; a++)
        if (p->shape[a] != 1) {
            s->shape[n] = p->shape[a], s->as[n] = p->a[a], s->bs[n] = p->b[a], s->ys[n] = p->y[a];
            n++;
        }
    for (int i = 1; i < n; i++) /* the longest strides of y first */
        for (int j = i; j > 0 && s->ys[j - 1] < s->ys[j]; j--)
            swap_long(s->shape, j - 1, j), swap_long(s->as, j - 1, j), swap_long(s->bs, j - 1, j), swap_long(s->ys, j - 1, j);
    int last = 0;
    for (int a = 1; a < n; a++) {
        if (s->as[last] == s->as[a] * s->shape[a] && s->bs[last] == s->bs[a] * s->shape[a] && s->ys[last] == s->ys[a] * s->shape[a])
            s->shape[last] *= s->shape[a];
        else
            s->shape[++last] = s->shape[a];
        s->as[last] = s->as[a], s->bs[last] = s->bs[a], s->ys[last] = s->ys[a];
    }
    s->rank = n ? last + 1 : 1;
    if (n == 0)
        s->shape[0] = 1, s->as[0] = s->bs[0] = 0, s->ys[0] = 1;
}

ALWAYS_INLINE vec apply(int operator, vec a, vec b)
{
    switch (operator) {
    case CNN_ADD: return a + b;
    case CNN_SUBTRACT: return a - b;
    case CNN_MULTIPLY: return a * b;
    case CNN_DIVIDE: return a / b;
    case CNN_MAXIMUM: return vec_select((a >= b) | (a != a), a, b);
    case CNN_ADD_RELU: return vec_max((vec){0}, a + b);
    default: return vec_sqrt(a);
    }
}

/* n cells along the last axis. An operand runs on (stride 1), stays (0), or is gathered. */
ALWAYS_INLINE vec operand(const real *p, long stride, long i, long n)
{
    if (stride == 1)
        return vec_get(p + i, n);
    if (stride == 0)
        return vec_fill(*p);
    vec v = {0};
    for (long j = 0; j < n; j++)
        v[j] = p[(i + j) * stride];
    return v;
}

ALWAYS_INLINE void run_row(int operator, long n, const real *a, long as, const real *b, long bs, real *y, long ys)
{
    for (long i = 0; i < n; i += LANES) {
        const long part = min_long(LANES, n - i);
        const vec v = apply(operator, operand(a, as, i, part), operand(b, bs, i, part));
        if (ys == 1)
            vec_put(y + i, v, part);
        else
            for (long j = 0; j < part; j++)
                y[(i + j) * ys] = v[j];
    }
}

#define ROW(name)                                                                                                  \
    static void row_##name(long n, const real *a, long as, const real *b, long bs, real *y, long ys)               \
    {                                                                                                              \
        if (as == 1 && bs == 1 && ys == 1)                                                                         \
            run_row(CNN_##name, n, a, 1, b, 1, y, 1);                                                              \
        else if (as == 1 && bs == 0 && ys == 1)                                                                    \
            run_row(CNN_##name, n, a, 1, b, 0, y, 1);                                                              \
        else if (as == 0 && bs == 1 && ys == 1)                                                                    \
            run_row(CNN_##name, n, a, 0, b, 1, y, 1);                                                              \
        else                                                                                                       \
            run_row(CNN_##name, n, a, as, b, bs, y, ys);                                                           \
    }
ROW(ADD)
ROW(SUBTRACT)
ROW(MULTIPLY)
ROW(DIVIDE)
ROW(MAXIMUM)
ROW(SQUARE_ROOT)
ROW(ADD_RELU)

typedef void row_function(long n, const real *a, long as, const real *b, long bs, real *y, long ys);
static row_function *const rows[] = {row_ADD, row_SUBTRACT, row_MULTIPLY, row_DIVIDE, row_MAXIMUM, row_SQUARE_ROOT, row_ADD_RELU};

static void run_axes(const struct binary *s, int axis, long count, const real *a, const real *b, real *y)
{
    if (axis == s->rank - 1) {
        rows[s->operator](count, a, s->as[axis], b, s->bs[axis], y, s->ys[axis]);
        return;
    }
    for (long i = 0; i < count; i++)
        run_axes(s, axis + 1, s->shape[axis + 1], a + i * s->as[axis], b + i * s->bs[axis], y + i * s->ys[axis]);
}

static void run_block(void *context, long block, int worker)
{
    (void)worker;
    const struct binary *s = context;
    const long begin = block * s->split;
    run_axes(s, 0, min_long(s->split, s->shape[0] - begin), s->a + begin * s->as[0], s->b + begin * s->bs[0], s->y + begin * s->ys[0]);
}

size_t FN(binary_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(binary)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_binary *p = problem;
    const real a_number = (real)p->a_number, b_number = (real)p->b_number;
    struct binary s = {.a = array[0] ? array[0] : &a_number, .b = array[1] ? array[1] : &b_number, .y = array[2], .operator = p->operator};
    simplify(&s, p);
    double size = 1;
    for (int a = 0; a < s.rank; a++)
        size *= (double)s.shape[a];
    s.split = max_long(1, (long)(BLOCK / (size / (double)s.shape[0])));
    cnn_parallel_for(run, divide_up(s.shape[0], s.split), size * 0.2, run_block, &s);
}

static void fill_block(void *context, long block, int worker)
{
    (void)worker;
    const struct binary *s = context;
    const long begin = block * BLOCK, end = min_long(s->shape[0], begin + BLOCK);
    for (long i = begin; i < end; i++)
        s->y[i] = *s->a;
}

size_t FN(fill_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(fill)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_map *p = problem;
    const real number = (real)p->a;
    struct binary s = {.a = &number, .y = array[0], .shape = {p->size}};
    cnn_parallel_for(run, divide_up(p->size, BLOCK), (double)p->size * 0.1, fill_block, &s);
}

struct convert {
    const struct cnn_convert *p;
    const void *x;
    real *y;
};

static void convert_block(void *context, long block, int worker)
{
    (void)worker;
    const struct convert *s = context;
    const long begin = block * BLOCK, end = min_long(s->p->size, begin + BLOCK);
#define FROM(number, type)                                \
    case number:                                          \
        for (long i = begin; i < end; i++)                \
            s->y[i] = (real)((const type *)s->x)[i];      \
        break;
    switch (s->p->source) {
        FROM(CNN_INT8, int8_t)
        FROM(CNN_UINT8, uint8_t)
        FROM(CNN_INT16, int16_t)
        FROM(CNN_UINT16, uint16_t)
        FROM(CNN_INT32, int32_t)
        FROM(CNN_UINT32, uint32_t)
        FROM(CNN_INT64, int64_t)
        FROM(CNN_UINT64, uint64_t)
        FROM(CNN_FLOAT32, float)
        FROM(CNN_FLOAT64, double)
    }
}

size_t FN(convert_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(convert)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct convert s = {problem, array[0], array[1]};
    cnn_parallel_for(run, divide_up(s.p->size, BLOCK), (double)s.p->size * 0.3, convert_block, &s);
}

size_t FN(running_update_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(running_update)(const void *problem, void *const *array, struct cnn_run *run)
{
    (void)run;
    const struct cnn_running *p = problem;
    const real rest = (real)(1 - p->momentum), momentum = (real)p->momentum, unbiased = (real)((double)p->count / (double)(p->count - 1));
    const real *mean = array[0], *variance = array[1];
    real *running_mean = array[2], *running_var = array[3];
    for (long c = 0; c < p->size; c++) {
        if (running_mean)
            running_mean[c] = rest * running_mean[c] + momentum * mean[c];
        if (running_var)
            running_var[c] = rest * running_var[c] + momentum * (variance[c] * unbiased);
    }
}
