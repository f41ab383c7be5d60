/* pool_whole.c: averages over whole planes.
 *
 *     y[n][c] = sum over p of x[n][c][p] / cells
 *
 * Sixteen partial sums, by the cell's number in its plane modulo 16, joined in a fixed tree: so planes that lie in one piece fill the lanes as
 * well as channels that are neighbours, and the bits are the same for every memory order. */
#include "pool.h"

enum { PARTIAL = 16, WIDE = 64 }; /* WIDE: channels of a block */

int FN(whole_planes)(const struct cnn_pool *p) { return p->adaptive && p->out[0] == 1 && p->out[1] == 1 && p->out[2] == 1; }

/* Channels that are neighbours. number: of the row's first cell. */
static void add_across(const real *row, long cells, long step, long width, long number, real (*sum)[WIDE])
{
    for (long i = 0; i < cells; i++, row += step) {
        real *to = sum[(number + i) % PARTIAL];
        long c = 0;
        for (; c + LANES <= width; c += LANES)
            vec_store(to + c, vec_load(to + c) + vec_load(row + c));
        for (; c < width; c++)
            to[c] += row[c];
    }
}

/* One channel, whose cells lie as they like. */
static void add_along(const real *row, long cells, long step, long number, real *sum)
{
    long i = 0;
    if (step == 1 && number % PARTIAL == 0) {
        vec total[PARTIAL / LANES];
        UNROLL for (int v = 0; v < PARTIAL / LANES; v++)
            total[v] = vec_load(sum + v * LANES);
        for (; i + PARTIAL <= cells; i += PARTIAL)
            UNROLL for (int v = 0; v < PARTIAL / LANES; v++)
                total[v] = total[v] + vec_load(row + i + v * LANES);
        UNROLL for (int v = 0; v < PARTIAL / LANES; v++)
            vec_store(sum + v * LANES, total[v]);
    }
    for (; i < cells; i++)
        sum[(number + i) % PARTIAL] += row[i * step];
}

/* Some planes of an image. */
static void average_planes(void *context, long block, int worker)
{
    (void)worker;
    const struct pool *s = context;
    const struct cnn_pool *p = s->p;
    const long blocks = divide_up(p->c, WIDE), n = block / blocks, first = block % blocks * WIDE, width = min_long(WIDE, p->c - first);
    const long cells = p->in[0] * p->in[1] * p->in[2], row_cells = dense_plane(p) ? cells : p->in[2];
    const real *x = s->x + n * p->x[0] + first * p->x[1];
    const int across = p->x[1] == 1 && width > 1;
    real sum[PARTIAL][WIDE] = {{0}};
    for (long k = 0; k < (across ? 1 : width); k++) {
        real along[PARTIAL] = {0};
        for (long number = 0; number < cells; number += row_cells) {
            const long row = number / p->in[2];
            const real *from = x + k * p->x[1] + row / p->in[1] * p->x[2] + row % p->in[1] * p->x[3];
            if (across)
                add_across(from, row_cells, p->x[4], width, number, sum);
            else
                add_along(from, row_cells, p->x[4], number, along);
        }
        for (int i = 0; !across && i < PARTIAL; i++)
            sum[i][k] = along[i];
    }
    for (int apart = PARTIAL / 2; apart; apart /= 2)
        for (int i = 0; i < apart; i++)
            for (long k = 0; k < width; k += LANES)
                vec_store(sum[i] + k, vec_load(sum[i] + k) + vec_load(sum[i + apart] + k));
    for (long k = 0; k < width; k++)
        s->y[n * p->y[0] + (first + k) * p->y[1]] = sum[0][k] / (real)cells;
}

void FN(average_whole)(const struct cnn_pool *p, const real *x, real *y, struct cnn_run *run)
{
    const struct pool s = {.p = p, .x = x, .y = y};
    cnn_parallel_for(run, p->n * divide_up(p->c, WIDE), (double)(p->n * p->c * p->in[0]) * (double)(p->in[1] * p->in[2]) * 0.2, average_planes, (void *)&s);
}
