/* attention_additive.c: the scores of additive attention and their gradients.
 *
 *     s[b][i][j] = sum over h of w[h] U,  U = tanh(q[b][i][h] + k[b][j][h])
 *     T = ds[b][i][j] w[h] (1 - U^2);  dq[b][i][h] = sum over j of T,  dk[b][j][h] = sum over i of T,  dw[h] = sum over b, i, j of ds U
 *
 * q[batch][l][e] and k[batch][s][e] are projected already, C order; everything is overwritten. U is made anew in each pass: L S H values need not be kept.
 * Source: mathematics 2.9; D. Bahdanau, K. Cho, Y. Bengio 2015. */
#include "ops.h"
#include "softmax.h"

struct plan {
    const struct cnn_attention *p;
    const real *q, *k, *w, *ds;
    real *s, *dq, *dk, *dw, *parts; /* parts[batch * l][e] of dw */
};

static double work_of(const struct cnn_attention *p) { return (double)(p->batch * p->l) * (double)p->s * (double)p->e * 1.5; }

static void score_block(void *context, long row, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const struct cnn_attention *p = s->p;
    const real *q = s->q + row * p->e, *k = s->k + row / p->l * p->s * p->e;
    for (long j = 0; j < p->s; j++, k += p->e) {
        vec sum = {0};
        for (long h = 0; h < p->e; h += LANES) {
            const long lanes = min_long(LANES, p->e - h);
            sum = vec_madd(vec_get(s->w + h, lanes), vec_tanh(vec_get(q + h, lanes) + vec_get(k + h, lanes)), sum);
        }
        s->s[row * p->s + j] = lanes_sum(sum);
    }
}

size_t FN(additive_scores_forward_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(additive_scores_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_attention *p = problem;
    struct plan s = {.p = p, .q = array[0], .k = array[1], .w = array[2], .s = array[3]};
    cnn_parallel_for(run, p->batch * p->l, work_of(p), score_block, &s);
}

/* dq of a row and its part of dw; the same for a key, without the part. */
static void query_block(void *context, long row, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const struct cnn_attention *p = s->p;
    const real *q = s->q + row * p->e, *k = s->k + row / p->l * p->s * p->e, *ds = s->ds + row * p->s;
    for (long h = 0; h < p->e; h += LANES) {
        const long lanes = min_long(LANES, p->e - h);
        const vec w = vec_get(s->w + h, lanes), own = vec_get(q + h, lanes);
        vec sum = {0}, part = {0};
        for (long j = 0; j < p->s; j++) {
            const vec u = vec_tanh(own + vec_get(k + j * p->e + h, lanes)), d = vec_fill(ds[j]);
            sum = vec_madd(d * w, REAL(1.0) - u * u, sum);
            part = vec_madd(d, u, part);
        }
        vec_put(s->dq + row * p->e + h, sum, lanes);
        vec_put(s->parts + row * p->e + h, part, lanes);
    }
}

static void key_block(void *context, long key, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const struct cnn_attention *p = s->p;
    const long batch = key / p->s, j = key % p->s;
    const real *k = s->k + key * p->e, *q = s->q + batch * p->l * p->e, *ds = s->ds + batch * p->l * p->s + j;
    for (long h = 0; h < p->e; h += LANES) {
        const long lanes = min_long(LANES, p->e - h);
        const vec w = vec_get(s->w + h, lanes), own = vec_get(k + h, lanes);
        vec sum = {0};
        for (long i = 0; i < p->l; i++) {
            const vec u = vec_tanh(vec_get(q + i * p->e + h, lanes) + own);
            sum = vec_madd(vec_fill(ds[i * p->s]) * w, REAL(1.0) - u * u, sum);
        }
        vec_put(s->dk + key * p->e + h, sum, lanes);
    }
}

size_t FN(additive_scores_backward_scratch)(const void *problem, int workers)
{
    (void)workers;
    const struct cnn_attention *p = problem;
    return (size_t)(p->batch * p->l * p->e) * sizeof(real);
}

void FN(additive_scores_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_attention *p = problem;
    struct plan s = {.p = p, .ds = array[0], .q = array[1], .k = array[2], .w = array[3], .dq = array[4], .dk = array[5], .dw = array[6]};
    s.parts = (real *)run->scratch;
    cnn_parallel_for(run, p->batch * p->l, work_of(p), query_block, &s);
    cnn_parallel_for(run, p->batch * p->s, work_of(p), key_block, &s);
    for (long h = 0; h < p->e; h++)
        s.dw[h] = 0;
    for (long row = 0; row < p->batch * p->l; row++)
        for (long h = 0; h < p->e; h++)
            s.dw[h] += s.parts[row * p->e + h];
}
