/* softmax.c: softmax and log-softmax along one axis, and the cross-entropy of class scores.
 *
 *     softmax      y = e^(x - max) / sum e^(x - max)             dx = y (dy - sum dy y)
 *     log_softmax  y = x - max - log sum e^(x - max)             dx = dy - e^y sum dy
 *     loss         l = sum_c Q_c (-log_softmax(x)_c),  Q_c = w_c ((1 - e) q_c + e/C), q one-hot for a class target;
 *                  mean: sum l / sum of w_t over rows not ignored (classes), sum l / rows (probabilities);
 *                  dx = (softmax(x) sum_c Q_c - Q) * scale, 0 in ignored rows; nll: x are log-probabilities, dx = -Q scale
 *
 * x[outer][axis][inner] in C order. Backward of softmax reads y; of the loss, x and the target again. A row that holds NaN or
 * +Inf gives NaN. Sums run over lanes of fixed width in index order. Source: mathematics 2.11, 2.13. */
#include "ops.h"
#include "vecmath.h"

static real largest(const real *x, long n)
{
    real best = x[0];
    for (long i = 1; i < n; i++)
        best = x[i] > best || x[i] != x[i] ? x[i] : best;
    return best;
}

/* e[i] = e^(x[i] - shift); returns their sum. e may be x. */
static real exponentials(const real *x, long n, real shift, real *e)
{
    vec sum = {0};
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec v = vec_exp(vec_load(x + i) - shift);
        sum = sum + v;
        vec_store(e + i, v);
    }
    real rest = 0;
    if (i < n) {
        const vec v = vec_exp(vec_load_part(x + i, n - i) - shift);
        vec_store_part(e + i, v, n - i);
        for (long j = 0; j < n - i; j++)
            rest += v[j];
    }
    real total = 0;
    for (int v = 0; v < LANES; v++)
        total += sum[v];
    return total + rest;
}

static real logarithm(real x) { return vec_log(vec_fill(x))[0]; }

/* Rows are gathered to contiguous scratch, one row a worker, where the axis is not innermost. */
struct rows {
    const struct cnn_reduce *p;
    const real *a, *b;
    real *y, *scratch;
    int log;
};

enum { ROW_WORK = 2 }; /* nanoseconds an element */

static void gather(const real *x, long n, long step, real *to)
{
    for (long i = 0; i < n; i++)
        to[i] = x[i * step];
}
static void spread(const real *from, long n, long step, real *y)
{
    for (long i = 0; i < n; i++)
        y[i * step] = from[i];
}

static void softmax_row(void *context, long row, int worker)
{
    const struct rows *s = context;
    const long n = s->p->axis, inner = s->p->inner, at = row / inner * n * inner + row % inner;
    real *x = s->scratch + worker * 2 * n, *y = x + n;
    gather(s->a + at, n, inner, x);
    const real top = largest(x, n), sum = exponentials(x, n, top, y);
    const real log_sum = s->log ? logarithm(sum) : 0;
    for (long i = 0; i < n; i++)
        y[i] = s->log ? (x[i] - top) - log_sum : y[i] / sum;
    spread(y, n, inner, s->y + at);
}

static void softmax_backward_row(void *context, long row, int worker)
{
    const struct rows *s = context;
    const long n = s->p->axis, inner = s->p->inner, at = row / inner * n * inner + row % inner;
    real *dy = s->scratch + worker * 2 * n, *y = dy + n;
    gather(s->a + at, n, inner, dy);
    gather(s->b + at, n, inner, y);
    real sum = 0;
    for (long i = 0; i < n; i++)
        sum += s->log ? dy[i] : dy[i] * y[i];
    if (s->log)
        exponentials(y, n, 0, y);
    for (long i = 0; i < n; i++)
        dy[i] = s->log ? dy[i] - y[i] * sum : y[i] * (dy[i] - sum);
    spread(dy, n, inner, s->y + at);
}

#define DEFINE_SOFTMAX(name, inputs, is_log, row_function)                                                    \
    size_t FN(name##_scratch)(const void *problem, int workers)                                               \
    {                                                                                                         \
        const struct cnn_reduce *p = problem;                                                                 \
        return (size_t)(2 * p->axis * workers) * sizeof(real);                                                \
    }                                                                                                         \
    void FN(name)(const void *problem, void *const *array, struct cnn_run *run)                               \
    {                                                                                                         \
        const struct cnn_reduce *p = problem;                                                                 \
        struct rows s = {p, array[0], inputs > 1 ? array[1] : NULL, array[inputs], (real *)run->scratch, is_log}; \
        const long rows = p->axis ? p->outer * p->inner : 0;                                                  \
        cnn_parallel_for(run, rows, (double)(rows * p->axis) * ROW_WORK, row_function, &s);                   \
    }

DEFINE_SOFTMAX(softmax_forward, 1, 0, softmax_row)
DEFINE_SOFTMAX(softmax_backward, 2, 0, softmax_backward_row)
DEFINE_SOFTMAX(log_softmax_forward, 1, 1, softmax_row)
DEFINE_SOFTMAX(log_softmax_backward, 2, 1, softmax_backward_row)

struct entropy {
    const struct cnn_cross_entropy *p;
    const real *x, *weight, *probabilities, *dy;
    const int64_t *classes;
    real *loss, *dx, *scratch;
    double *row_loss, *row_share; /* of each row: its loss, and what it adds to the mean's divisor */
    double scale;
};

static int ignored(const struct entropy *s, long row) { return s->classes && s->classes[row] == s->p->ignore_index; }

/* What a row adds to the divisor of the mean. */
static double share_of(const struct entropy *s, long row)
{
    if (ignored(s, row))
        return 0;
    return s->classes && s->weight ? (double)s->weight[s->classes[row]] : 1;
}

/* Q of a row that is not ignored; returns its sum. */
static real row_target(const struct entropy *s, long row, real *q)
{
    const struct cnn_cross_entropy *p = s->p;
    const long n = p->classes, at = row / p->inner * n * p->inner + row % p->inner;
    const real smooth = (real)p->label_smoothing, even = smooth / (real)n;
    const int64_t class = s->classes ? s->classes[row] : -1;
    real sum = 0;
    for (long c = 0; c < n; c++) {
        const real hot = s->classes ? (real)(c == class) : s->probabilities[at + c * p->inner];
        q[c] = ((1 - smooth) * hot + even) * (s->weight ? s->weight[c] : 1);
        sum += q[c];
    }
    return sum;
}

static void entropy_row(void *context, long row, int worker)
{
    const struct entropy *s = context;
    const long n = s->p->classes, inner = s->p->inner, at = row / inner * n * inner + row % inner;
    real *x = s->scratch + worker * 3 * n, *e = x + n, *q = e + n;
    double total = 0;
    if (!ignored(s, row)) {
        row_target(s, row, q);
        gather(s->x + at, n, inner, x);
        const real top = s->p->logarithms ? 0 : largest(x, n), log_sum = s->p->logarithms ? 0 : logarithm(exponentials(x, n, top, e));
        for (long c = 0; c < n; c++)
            if (q[c] != 0) /* a class without weight may have probability 0 */
                total -= (double)(q[c] * ((x[c] - top) - log_sum));
    }
    s->row_loss[row] = total;
    s->row_share[row] = share_of(s, row);
}

static double ordered_sum(const double *x, long n)
{
    double sum = 0;
    for (long i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

static struct entropy entropy_of(const struct cnn_cross_entropy *p, void *const *array, char *scratch, int workers)
{
    struct entropy s = {.p = p, .x = array[0], .weight = array[2], .scratch = (real *)scratch};
    if (p->probabilities)
        s.probabilities = array[1];
    else
        s.classes = array[1];
    s.row_loss = (double *)(scratch + round_up((long)sizeof(real) * 3 * p->classes * workers, 64));
    s.row_share = s.row_loss + p->rows * p->inner;
    return s;
}

static size_t entropy_scratch(const struct cnn_cross_entropy *p, int workers)
{
    return (size_t)round_up((long)sizeof(real) * 3 * p->classes * workers, 64) + (size_t)(2 * p->rows * p->inner) * sizeof(double);
}

size_t FN(cross_entropy_forward_scratch)(const void *problem, int workers) { return entropy_scratch(problem, workers); }

void FN(cross_entropy_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_cross_entropy *p = problem;
    struct entropy s = entropy_of(p, array, run->scratch, run->workers);
    real *loss = array[3];
    const long rows = p->rows * p->inner;
    cnn_parallel_for(run, rows, (double)(rows * p->classes) * ROW_WORK, entropy_row, &s);
    if (p->reduction == CNN_NONE) {
        for (long i = 0; i < rows; i++)
            loss[i] = (real)s.row_loss[i];
        return;
    }
    const double sum = ordered_sum(s.row_loss, rows);
    *loss = (real)(p->reduction == CNN_SUM ? sum : sum / ordered_sum(s.row_share, rows));
}

static void entropy_backward_row(void *context, long row, int worker)
{
    const struct entropy *s = context;
    const long n = s->p->classes, inner = s->p->inner, at = row / inner * n * inner + row % inner;
    real *x = s->scratch + worker * 3 * n, *e = x + n, *q = e + n;
    if (ignored(s, row)) {
        for (long c = 0; c < n; c++)
            s->dx[at + c * inner] = 0;
        return;
    }
    const real sum_q = row_target(s, row, q);
    if (s->p->logarithms) {
        const real scale = (real)(s->scale * (double)(s->p->reduction == CNN_NONE ? s->dy[row] : s->dy[0]));
        for (long c = 0; c < n; c++)
            s->dx[at + c * inner] = -q[c] * scale;
        return;
    }
    gather(s->x + at, n, inner, x);
    const real top = largest(x, n), sum = exponentials(x, n, top, e);
    const real scale = (real)(s->scale * (double)(s->p->reduction == CNN_NONE ? s->dy[row] : s->dy[0]));
    for (long c = 0; c < n; c++)
        s->dx[at + c * inner] = (e[c] / sum * sum_q - q[c]) * scale;
}

static void share_row(void *context, long row, int worker)
{
    (void)worker;
    const struct entropy *s = context;
    s->row_share[row] = share_of(s, row);
}

size_t FN(cross_entropy_backward_scratch)(const void *problem, int workers) { return entropy_scratch(problem, workers); }

/* array: logits, target, weight, dy -> dlogits */
void FN(cross_entropy_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_cross_entropy *p = problem;
    struct entropy s = entropy_of(p, array, run->scratch, run->workers);
    s.dy = array[3], s.dx = array[4], s.scale = 1;
    const long rows = p->rows * p->inner;
    if (p->reduction == CNN_MEAN) {
        cnn_parallel_for(run, rows, (double)rows, share_row, &s);
        const double divisor = ordered_sum(s.row_share, rows);
        s.scale = divisor != 0 ? 1 / divisor : 0;
    }
    cnn_parallel_for(run, rows, (double)(rows * p->classes) * ROW_WORK, entropy_backward_row, &s);
}
