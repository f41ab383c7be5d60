/* conv_bias.c: the sum of a gradient over everything but its filters.
 *
 * Sixteen partial sums, by column modulo 16, over at most 2,048 cells (whole rows); they are joined in a fixed tree, and these parts
 * are added in order. So the bits are the same for every memory order, instruction set and number of threads. */
#include "conv_bias.h"

enum { PARTIAL = 16, PART = 2048, VECTORS = 4, COMING = 16 }; /* neighbouring vectors of filters that a block takes; columns from now that are fetched */

struct plan {
    const struct cnn_conv *p;
    const real *dy;
    real *db;
    long filters; /* a block's */
};

/* Joins partial sums in the first of them. */
static void join(real (*sum)[LANES])
{
    for (int apart = PARTIAL / 2; apart; apart /= 2)
        for (int i = 0; i < apart; i++)
            vec_store(sum[i], vec_load(sum[i]) + vec_load(sum[i + apart]));
}

/* Filters that are neighbours in memory: lanes are filters, of `width` and the vectors that they are in. */
static void add_row_across(const real *row, long columns, long step, long width, real (*sum)[PARTIAL][LANES])
{
    for (long j = 0; j < columns; j++, row += step) {
        for (long v = 0; v * LANES < width; v++) {
            real *to = sum[v][j % PARTIAL];
            const long lanes = min_long(LANES, width - v * LANES);
            __builtin_prefetch(row + v * LANES + COMING * step);
            if (lanes == LANES)
                vec_store(to, vec_load(to) + vec_load(row + v * LANES));
            else
                for (long k = 0; k < lanes; k++)
                    to[k] += row[v * LANES + k];
        }
    }
}

/* Columns that are neighbours, or anything else: one filter. */
static void add_row_along(const real *row, long columns, long step, real *sum)
{
    for (long j = 0; step == 1 && j < columns; j += PARTIAL)
        for (long i = 0; i < PARTIAL && j + i < columns; i += LANES) {
            const long valid = columns - j - i;
            vec_store(sum + i, vec_load(sum + i) + (valid < LANES ? vec_get(row + j + i, valid) : vec_load(row + j + i)));
        }
    for (long j = 0; step != 1 && j < columns; j++)
        sum[j % PARTIAL] += row[j * step];
}

static void sum_filters(void *context, long block, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const struct cnn_conv *p = s->p;
    const long first = block * s->filters, width = min_long(s->filters, p->k - first);
    const long rows = p->n * p->out[0] * p->out[1], together = max_long(1, PART / max_long(1, p->out[2]));
    const int across = p->y[1] == 1;
    real total[VECTORS][LANES] = {{0}};
    for (long r0 = 0; r0 < rows; r0 += together) {
        real sum[VECTORS][PARTIAL][LANES];
        for (long v = 0; v * LANES < width; v++)
            memset(sum[v], 0, sizeof sum[v]);
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
                sum[k / LANES][i][k % LANES] = along[i];
        }
        for (long v = 0; v * LANES < width; v++) {
            join(sum[v]);
            vec_store(total[v], vec_load(total[v]) + vec_load(sum[v][0]));
        }
    }
    memcpy(s->db + first, total, (size_t)width * sizeof(real));
}

void FN(conv_bias)(const struct cnn_conv *p, const real *dy, real *db, struct cnn_run *run)
{
    /* Vectors side by side use whole pages and pairs of cache lines; but every worker shall have a block. */
    const long vectors = divide_up(p->k, LANES), together = p->y[1] == 1 ? min_long(VECTORS, max_long(1, vectors / run->workers)) : 1;
    struct plan s = {p, dy, db, together * LANES};
    const double cells = (double)(p->n * p->out[0] * p->out[1] * p->out[2]);
    cnn_parallel_for(run, divide_up(p->k, s.filters), cells * (double)p->k / 8, sum_filters, &s);
}
