/* conv_bias.c: the sum of a gradient over everything but its filters.
 *
 * Sixteen partial sums, by column modulo 16, over at most 2,048 cells (whole rows); they are joined in a fixed tree, and these parts
 * are added in order. So the bits are the same for every memory order, instruction set and number of threads. */
#include "conv_bias.h"

enum { PARTIAL = 16, PART = 2048 };

struct plan {
    const struct cnn_conv *p;
    const real *dy;
    real *db;
};

/* Joins partial sums; each of `width` reals. */
static void join(real (*sum)[LANES], long width)
{
    for (int apart = PARTIAL / 2; apart; apart /= 2)
        for (int i = 0; i < apart; i++)
            for (long k = 0; k < width; k++)
                sum[i][k] += sum[i + apart][k];
}

/* Filters that are neighbours in memory: lanes are filters. */
static void add_row_across(const real *row, long columns, long step, long width, real (*sum)[LANES])
{
    for (long j = 0; j < columns; j++) {
        real *to = sum[j % PARTIAL];
        if (width == LANES)
            vec_store(to, vec_load(to) + vec_load(row + j * step));
        else
            for (long k = 0; k < width; k++)
                to[k] += row[j * step + k];
    }
}

/* Columns that are neighbours, or anything else: one filter. */
static void add_row_along(const real *row, long columns, long step, real *sum)
{
    long j = 0;
    if (step == 1)
        for (; j + PARTIAL <= columns; j += PARTIAL)
            for (int i = 0; i < PARTIAL; i += LANES)
                vec_store(sum + i, vec_load(sum + i) + vec_load(row + j + i));
    for (; j < columns; j++)
        sum[j % PARTIAL] += row[j * step];
}

static void sum_filters(void *context, long block, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const struct cnn_conv *p = s->p;
    const long first = block * LANES, width = min_long(LANES, p->k - first);
    const long rows = p->n * p->out[0] * p->out[1], together = max_long(1, PART / max_long(1, p->out[2]));
    const int across = p->y[1] == 1;
    real total[LANES] = {0};
    for (long r0 = 0; r0 < rows; r0 += together) {
        real sum[PARTIAL][LANES] = {{0}};
        for (long k = 0; k < (across ? 1 : width); k++) {
            real along[PARTIAL] = {0};
            for (long r = r0; r < min_long(rows, r0 + together); r++) {
                const long h = r % p->out[1], d = r / p->out[1] % p->out[0], n = r / p->out[1] / p->out[0];
                const real *row = s->dy + n * p->y[0] + (first + k) * p->y[1] + d * p->y[2] + h * p->y[3];
                if (across)
                    add_row_across(row, p->out[2], p->y[4], width, sum);
                else
                    add_row_along(row, p->out[2], p->y[4], along);
            }
            for (int i = 0; !across && i < PARTIAL; i++)
                sum[i][k] = along[i];
        }
        join(sum, width);
        for (long k = 0; k < width; k++)
            total[k] += sum[0][k];
    }
    for (long k = 0; k < width; k++)
        s->db[first + k] = total[k];
}

void FN(conv_bias)(const struct cnn_conv *p, const real *dy, real *db, struct cnn_run *run)
{
    struct plan s = {p, dy, db};
    const double cells = (double)(p->n * p->out[0] * p->out[1] * p->out[2]);
    cnn_parallel_for(run, divide_up(p->k, LANES), cells * (double)p->k / 8, sum_filters, &s);
}
