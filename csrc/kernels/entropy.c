/* entropy.c: the cross-entropy of class scores, and of log-probabilities.
 *
 *     loss         l = sum_c Q_c (-log_softmax(x)_c),  Q_c = w_c ((1 - e) q_c + e/C), q one-hot for a class target;
 *                  mean: sum l / sum of w_t over rows not ignored (classes), sum l / rows (probabilities);
 *                  dx = (softmax(x) sum_c Q_c - Q) * scale, 0 in ignored rows; nll: x are log-probabilities, dx = -Q scale
 *
 * x[rows][classes][inner] in C order. Backward reads x and the target again. Class targets without weights and smoothing, which
 * is what training uses, have Q = q: they take the same tiles and rows as softmax. The other forms gather a row at a time.
 * Source: mathematics 2.13. */
#include "softmax.h"

static void gather(const real *x, long n, long step, real *to)
{
    for (long i = 0; i < n; i++)
        to[i] = x[i * step];
}

struct entropy {
    const struct cnn_cross_entropy *p;
    const real *x, *weight, *probabilities, *dy;
    const int64_t *classes;
    real *loss, *dx, *scratch;
    double *row_loss, *row_share; /* of each row: its loss, and what it adds to the mean's divisor */
    double scale;
};

/* Of one worker: three rows, or two tiles. */
static long scratch_reals(const struct cnn_cross_entropy *p) { return spaced_reals(max_long(3, 2 * LANES) * p->classes); }

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
    real *x = s->scratch + worker * scratch_reals(s->p), *e = x + n, *q = e + n;
    double total = 0;
    if (!ignored(s, row)) {
        row_target(s, row, q);
        gather(s->x + at, n, inner, x);
        const real top = s->p->logarithms ? 0 : row_largest(x, n), log_sum = s->p->logarithms ? 0   : logarithm(row_exponentials(x, n, top, e));
        for (long c = 0; c < n; c++)
            if (q[c] != 0) /* a class without weight may have probability 0 */
                total -= (double)(q[c] * ((x[c] - top) - log_sum));
    }
    s->row_loss[row] = total;
    s->row_share[row] = share_of(s, row);
}

/* Class targets, each class counting one. */
static int plain(const struct entropy *s) { return s->classes && !s->weight && s->p->label_smoothing == 0 && !s->p->logarithms; }

static void plain_tile(void *context, long tile, int worker)
{
    const struct entropy *s = context;
    const long n = s->p->classes;
    long row;
    const struct tile_rows r = tile_rows_of(tile, s->p->rows, n, s->p->inner, &row);
    real *t = s->scratch + worker * scratch_reals(s->p), *e = t + n * LANES;
    tile_load(s->x, r, n, t);
    const vec top = tile_largest(t, n), log_sum = vec_log(tile_exponentials(t, n, top, e));
    for (long l = 0; l < r.count; l++) {
        const int out = ignored(s, row + l);
        s->row_loss[row + l] = out ? 0 : 0 - (double)((t[s->classes[row + l] * LANES + l] - top[l]) - log_sum[l]);
        s->row_share[row + l] = !out;
    }
}

static void plain_row(void *context, long row, int worker)
{
    const struct entropy *s = context;
    const long n = s->p->classes;
    const real *x = s->x + row * n;
    const int out = ignored(s, row);
    s->row_share[row] = !out;
    s->row_loss[row] = 0;
    if (!out) {
        const real top = row_largest(x, n), sum = row_exponentials(x, n, top, s->scratch + worker * scratch_reals(s->p));
        s->row_loss[row] = 0 - (double)((x[s->classes[row]] - top) - logarithm(sum));
    }
}

static void plain_backward_tile(void *context, long tile, int worker)
{
    const struct entropy *s = context;
    const long n = s->p->classes;
    long row;
    const struct tile_rows r = tile_rows_of(tile, s->p->rows, n, s->p->inner, &row);
    real *t = s->scratch + worker * scratch_reals(s->p);
    tile_load(s->x, r, n, t);
    const vec sum = tile_exponentials(t, n, tile_largest(t, n), t);
    vec scale = {0};
    mask kept = {0};
    for (long l = 0; l < r.count; l++) {
        scale[l] = (real)(s->scale * (double)(s->p->reduction == CNN_NONE ? s->dy[row + l] : s->dy[0]));
        kept[l] = -(bits)!ignored(s, row + l);
    }
    for (long c = 0; c < n; c++)
        vec_store(t + c * LANES, vec_load(t + c * LANES) / sum);
    for (long l = 0; l < r.count; l++)
        if (kept[l])
            t[s->classes[row + l] * LANES + l] -= 1;
    for (long c = 0; c < n; c++)
        vec_store(t + c * LANES, (vec)((mask)(vec_load(t + c * LANES) * scale) & kept));
    tile_store(t, r, n, s->dx);
}

static void plain_backward_row(void *context, long row, int worker)
{
    (void)worker;
    const struct entropy *s = context;
    const long n = s->p->classes;
    const real *x = s->x + row * n;
    real *dx = s->dx + row * n;
    if (ignored(s, row)) {
        for (long c = 0; c < n; c++)
            dx[c] = 0;
        return;
    }
    const real sum = row_exponentials(x, n, row_largest(x, n), dx);
    const real scale = (real)(s->scale * (double)(s->p->reduction == CNN_NONE ? s->dy[row] : s->dy[0]));
    const int64_t class = s->classes[row];
    const real right = (dx[class] / sum - 1) * scale;
    for (long c = 0; c < n; c++)
        dx[c] = dx[c] / sum * scale;
    dx[class] = right;
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
    s.row_loss = (double *)(scratch + round_up((long)sizeof(real) * scratch_reals(p) * workers, 64));
    s.row_share = s.row_loss + p->rows * p->inner;
    return s;
}

static size_t entropy_scratch(const struct cnn_cross_entropy *p, int workers)
{
    return (size_t)round_up((long)sizeof(real) * scratch_reals(p) * workers, 64) + (size_t)(2 * p->rows * p->inner) * sizeof(double);
}

static void over_rows(struct cnn_run *run, struct entropy *s, cnn_block *tile, cnn_block *row, cnn_block *general)
{
    const struct cnn_cross_entropy *p = s->p;
    const long rows = p->rows * p->inner;
    const double work = (double)(rows * p->classes) * ROW_WORK;
    if (rows && plain(s) && rows_in_lanes(p->classes, p->inner))
        cnn_parallel_for(run, tile_count(p->rows, p->inner), work, tile, s);
    else
        cnn_parallel_for(run, rows, work, plain(s) ? row : general, s);
}

size_t FN(cross_entropy_forward_scratch)(const void *problem, int workers) { return entropy_scratch(problem, workers); }

void FN(cross_entropy_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_cross_entropy *p = problem;
    struct entropy s = entropy_of(p, array, run->scratch, run->workers);
    real *loss = array[3];
    const long rows = p->rows * p->inner;
    over_rows(run, &s, plain_tile, plain_row, entropy_row);
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
    real *x = s->scratch + worker * scratch_reals(s->p), *e = x + n, *q = e + n;
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
    const real top = row_largest(x, n), sum = row_exponentials(x, n, top, e);
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
    over_rows(run, &s, plain_backward_tile, plain_backward_row, entropy_backward_row);
}
