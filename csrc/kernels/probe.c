/* probe.c: the machine's ceiling, for benches: independent multiply-adds in registers, as many as a tile's.
 *
 *     y[block] = something that depends on `size` rounds of CHAINS * LANES multiply-adds of a block */
#include "ops.h"

/* More than two units of four cycles keep busy: with just as many, each that is late leaves one idle. No more than 16 registers hold. */
enum { CHAINS = CNN_CHAINS };

struct probe {
    long rounds;
    real *y;
};

static void probe_block(void *context, long block, int worker)
{
    (void)worker;
    const struct probe *s = context;
    const vec a = vec_fill(REAL(0.999)), b = vec_fill(REAL(0.001));
    vec chain[CHAINS];
    for (int i = 0; i < CHAINS; i++)
        chain[i] = vec_fill((real)(s->rounds + i)); /* nothing that could be computed beforehand */
    for (long r = 0; r < s->rounds; r++)
        UNROLL for (int i = 0; i < CHAINS; i++)
            chain[i] = vec_madd(a, chain[i], b);
    vec sum = chain[0];
    for (int i = 1; i < CHAINS; i++)
        sum = sum + chain[i];
    s->y[block] = sum[0];
}

size_t FN(probe_scratch)(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}

/* One block a worker. */
void FN(probe)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct probe s = {((const struct cnn_map *)problem)->size, array[0]};
    cnn_parallel_for(run, run->workers, 1e6 * run->workers, probe_block, &s);
}
