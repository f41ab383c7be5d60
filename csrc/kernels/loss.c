/* loss.c: losses element by element, then reduced.
 *
 *     mse (x - t)^2          l1 |x - t|         huber e^2/2 where |e| <= delta, else delta (|e| - delta/2), e = x - t
 *     binary cross-entropy of logits  max(x, 0) - x t + ln(1 + e^-|x|)         kl_div  t (ln t - x), 0 at t = 0
 *     dx  2 e;  sign e;  clip(e, -delta, delta);  sigmoid(x) - t;  -t
 *
 * x, t flat; loss one number ('mean' divides by the size, over nothing it is NaN) or one an element; dy likewise. The sum runs
 * in blocks of 4,096 elements, added in order, in float64. Backward needs x and t. Source: mathematics 2.13. */
#include "ops.h"
#include "vecmath.h"

enum { BLOCK = 4096 };

struct loss {
    const struct cnn_loss_map *p;
    const real *x, *t, *dy;
    real *to;
    double *part;
    real scale;
};

ALWAYS_INLINE vec value(int kind, real delta, vec x, vec t)
{
    const vec e = x - t, size = vec_abs(e);
    switch (kind) {
    case CNN_MSE:
        return e * e;
    case CNN_L1:
        return size;
    case CNN_HUBER:
        return vec_select(size <= delta, e * e * REAL(0.5), delta * (size - REAL(0.5) * delta));
    case CNN_BINARY_CROSS_ENTROPY:
        return vec_select(x > 0, x, vec_select(x == x, (vec){0}, x)) - x * t + vec_log1p_unit(vec_exp_negative(-vec_abs(x)));
    default:
        return vec_select(t == 0, (vec){0}, t * (vec_log(t) - x));
    }
}

ALWAYS_INLINE vec slope(int kind, real delta, vec x, vec t)
{
    const vec e = x - t;
    switch (kind) {
    case CNN_MSE:
        return e + e;
    case CNN_L1:
        return vec_select(e > 0, vec_fill(1), vec_select(e < 0, vec_fill(-1), vec_select(e == e, (vec){0}, e)));
    case CNN_HUBER:
        return vec_select(e > delta, vec_fill(delta), vec_select(e < -delta, vec_fill(-delta), e));
    case CNN_BINARY_CROSS_ENTROPY:
        return vec_sigmoid(x) - t;
    default:
        return -t;
    }
}

ALWAYS_INLINE void forward_kind(const struct loss *s, const int kind, long begin, long end, long block)
{
    double sum = 0;
    vec lanes = {0};
    for (long i = begin; i < end; i += LANES) {
        const long n = min_long(LANES, end - i);
        const vec v = value(kind, (real)s->p->delta, vec_get(s->x + i, n), vec_get(s->t + i, n));
        if (s->p->reduction == CNN_NONE)
            vec_put(s->to + i, v, n);
        else if (n == LANES)
            lanes = lanes + v;
        else
            for (long j = 0; j < n; j++)
                sum += (double)v[j];
    }
    for (int v = 0; v < LANES; v++)
        sum += (double)lanes[v];
    if (s->part)
        s->part[block] = sum;
}

ALWAYS_INLINE void backward_kind(const struct loss *s, const int kind, long begin, long end)
{
    for (long i = begin; i < end; i += LANES) {
        const long n = min_long(LANES, end - i);
        const vec g = s->p->reduction == CNN_NONE ? vec_get(s->dy + i, n) : vec_fill(s->scale);
        vec_put(s->to + i, slope(kind, (real)s->p->delta, vec_get(s->x + i, n), vec_get(s->t + i, n)) * g, n);
    }
}

static void loss_block(void *context, long block, int worker)
{
    (void)worker;
    const struct loss *s = context;
    const long begin = block * BLOCK, end = min_long(s->p->size, begin + BLOCK);
    const int backward = s->dy != NULL;
#define KIND(name)                                       \
    case name:                                           \
        if (backward)                                    \
            backward_kind(s, name, begin, end);          \
        else                                             \
            forward_kind(s, name, begin, end, block);    \
        break;
    switch (s->p->kind) {
        KIND(CNN_MSE) KIND(CNN_L1) KIND(CNN_HUBER) KIND(CNN_BINARY_CROSS_ENTROPY) KIND(CNN_KL_DIV)
    }
}

size_t FN(loss_forward_scratch)(const void *problem, int workers)
{
    (void)workers;
    return (size_t)divide_up(((const struct cnn_loss_map *)problem)->size, BLOCK) * sizeof(double);
}

void FN(loss_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_loss_map *p = problem;
    struct loss s = {.p = p, .x = array[0], .t = array[1], .to = array[2], .part = p->reduction == CNN_NONE ? NULL : (double *)run->scratch};
    const long blocks = divide_up(p->size, BLOCK);
    cnn_parallel_for(run, blocks, (double)p->size * 0.5, loss_block, &s);
    if (p->reduction == CNN_NONE || run->stopped)
        return;
    double sum = 0;
    for (long block = 0; block < blocks; block++)
        sum += s.part[block];
    s.to[0] = (real)(p->reduction == CNN_MEAN ? sum / (double)p->size : sum);
}

size_t FN(loss_backward_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(loss_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_loss_map *p = problem;
    struct loss s = {.p = p, .dy = array[0], .x = array[1], .t = array[2], .to = array[3]};
    if (p->reduction != CNN_NONE)
        s.scale = p->reduction == CNN_MEAN ? s.dy[0] / (real)p->size : s.dy[0];
    cnn_parallel_for(run, divide_up(p->size, BLOCK), (double)p->size * 0.5, loss_block, &s);
}
