/* gates.c: the gates of an LSTM by themselves, for cells whose products are made elsewhere (convolutions).
 *
 *     i, f, o = sg(a + q), g = tanh(a + q);  c1 = f c + i g;  h = o tanh(c1)
 *
 * a, q[outer][4][inner], c, c1, h[outer][inner], gates[outer][4][inner] (i, f, g, o), which backward reads: C order maps have inner = channels * cells,
 * channels-last ones inner = channels. Backward gives the gradient of a and q, which is one, and that of c. Overwrites. Source: mathematics 2.8. */
#include "cell.h"
#include "ops.h"

enum { BLOCK = 2048 }; /* elements of inner that a block takes: whole vectors */

struct plan {
    const struct cnn_reduce *p;
    const real *a, *q, *c, *dh, *dc, *gate, *after;
    real *h, *c1, *gates, *da, *dc0;
    long blocks;
};

static void forward_block(void *context, long block, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const long n = s->p->inner, o = block / s->blocks, first = block % s->blocks * BLOCK, last = min_long(n, first + BLOCK);
    for (long i = first; i < last; i += LANES) {
        const long lanes = min_long(LANES, last - i);
        vec a[4], q[4];
        UNROLL for (int g = 0; g < 4; g++)
            a[g] = vec_get(s->a + (o * 4 + g) * n + i, lanes), q[g] = vec_get(s->q + (o * 4 + g) * n + i, lanes);
        struct cell x;
        x.c = vec_get(s->c + o * n + i, lanes);
        cell_forward(&x, CNN_LSTM, a, q, (vec){0});
        const long stored = lanes_stored(lanes);
        vec_put(s->h + o * n + i, x.h, stored);
        vec_put(s->c1 + o * n + i, x.c, stored);
        UNROLL for (int g = 0; g < 4; g++)
            vec_put(s->gates + (o * 4 + g) * n + i, x.kept[g], stored);
    }
}

static void backward_block(void *context, long block, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const long n = s->p->inner, o = block / s->blocks, first = block % s->blocks * BLOCK, last = min_long(n, first + BLOCK);
    for (long i = first; i < last; i += LANES) {
        const long lanes = min_long(LANES, last - i), at = o * n + i;
        struct cell x;
        UNROLL for (int g = 0; g < 4; g++)
            x.kept[g] = vec_get(s->gate + (o * 4 + g) * n + i, lanes);
        x.c = vec_get(s->c + at, lanes);
        x.dh = s->dh ? vec_get(s->dh + at, lanes) : (vec){0};
        x.dc = s->dc ? vec_get(s->dc + at, lanes) : (vec){0};
        cell_backward(&x, CNN_LSTM, vec_get(s->after + at, lanes));
        const long stored = lanes_stored(lanes);
        UNROLL for (int g = 0; g < 4; g++)
            vec_put(s->da + (o * 4 + g) * n + i, x.error[g], stored);
        vec_put(s->dc0 + at, x.dc, stored);
    }
}

size_t FN(lstm_gates_forward_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}
size_t FN(lstm_gates_backward_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

void FN(lstm_gates_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_reduce *p = problem;
    struct plan s = {.p = p, .a = array[0], .q = array[1], .c = array[2], .h = array[3], .c1 = array[4], .gates = array[5]};
    s.blocks = divide_up(p->inner, BLOCK);
    cnn_parallel_for(run, p->outer * s.blocks, (double)(p->outer * p->inner) * 8, forward_block, &s);
}

void FN(lstm_gates_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_reduce *p = problem;
    struct plan s = {.p = p, .dh = array[0], .dc = array[1], .c = array[2], .after = array[3], .gate = array[4], .da = array[5], .dc0 = array[6]};
    s.blocks = divide_up(p->inner, BLOCK);
    cnn_parallel_for(run, p->outer * s.blocks, (double)(p->outer * p->inner) * 4, backward_block, &s);
}
