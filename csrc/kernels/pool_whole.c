/* pool_whole.c: averages over whole planes.
 *
 *     y[n][c] = sum over p of x[n][c][p] / cells
 *
 * Sixteen partial sums, by the cell's number in its plane modulo 16, joined in a fixed tree: so planes that lie in one piece fill the lanes as
 * well as channels that are neighbours, and the bits are the same for every memory order. */
#include "planes.h"
#include "pool.h"

enum { PARTIAL = 16, WIDE = 64 }; /* WIDE: channels of a block */

int FN(whole_planes)(const struct cnn_pool *p) { return p->adaptive && p->out[0] == 1 && p->out[1] == 1 && p->out[2] == 1; }

/* Channels that are neighbours, a vector of them: `rounds` times PARTIAL pixels, each sum loaded and stored once. */
ALWAYS_INLINE void add_rounds(const real *row, long step, const int rounds, real *sum)
{
    vec total = vec_load(sum);
    UNROLL for (int i = 0; i < rounds; i++)
        total = total + vec_load(row + i * PARTIAL * step);
    vec_store(sum, total);
}

enum { ROUNDS = 4 };

/* number: of the row's first cell. */
static void add_across(const real *row, long cells, long step, long width, long number, real (*sum)[WIDE])
{
    long whole = 0;
    if (number % PARTIAL == 0 && width % LANES == 0)
        for (; whole + ROUNDS * PARTIAL <= cells; whole += ROUNDS * PARTIAL)
            for (int i = 0; i < PARTIAL; i++)
                for (long c = 0; c < width; c += LANES)
                    add_rounds(row + (whole + i) * step + c, step, ROUNDS, sum[i] + c);
    row += whole * step;
    for (long i = whole; i < cells; i++, row += step) {
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
    for (long i = 0; i < cells; i++)
        sum[(number + i) % PARTIAL] += row[i * step];
}

/* The partial sums of one plane, joined. */
ALWAYS_INLINE real join(const vec *total)
{
    real sum[PARTIAL];
    for (int v = 0; v < PARTIAL / LANES; v++)
        vec_store(sum + v * LANES, total[v]);
    UNROLL for (int apart = PARTIAL / 2; apart; apart /= 2)
        for (int i = 0; i < apart; i++)
            sum[i] += sum[i + apart];
    return sum[0];
}

/* Planes that lie in one piece, some at once: each is one chain of sums. */
enum { CHAINS = LANES > 4 ? LANES / 4 : 1 };
ALWAYS_INLINE void average_pieces(const real *x, long apart, long cells, const int count, real *y, long y_apart)
{
    vec total[CHAINS][PARTIAL / LANES];
    UNROLL for (int k = 0; k < count; k++)
        UNROLL for (int v = 0; v < PARTIAL / LANES; v++)
            total[k][v] = (vec){0};
    long i = 0;
    for (; i + PARTIAL <= cells; i += PARTIAL)
        UNROLL for (int k = 0; k < count; k++)
            UNROLL for (int v = 0; v < PARTIAL / LANES; v++)
                total[k][v] = total[k][v] + vec_load(x + k * apart + i + v * LANES);
    for (int v = 0; i < cells; i += LANES, v++)
        for (int k = 0; k < count; k++)
            total[k][v] = total[k][v] + vec_get(x + k * apart + i, min_long(LANES, cells - i));
    UNROLL for (int k = 0; k < count; k++)
        y[k * y_apart] = join(total[k]) / (real)cells;
}

/* Few channels that are neighbours: PARTIAL pixels are so many vectors, whose reals are added as they lie. */
enum { MOST_VECTORS = CNN_FEW_CHANNELS * PARTIAL / LANES };
ALWAYS_INLINE void add_blocks(const real *row, long blocks, const int vectors, real *sum)
{
    vec total[MOST_VECTORS];
    UNROLL for (int v = 0; v < vectors; v++)
        total[v] = vec_load(sum + v * LANES);
    for (long i = 0; i < blocks; i++, row += vectors * LANES)
        UNROLL for (int v = 0; v < vectors; v++)
            total[v] = total[v] + vec_load(row + v * LANES);
    UNROLL for (int v = 0; v < vectors; v++)
        vec_store(sum + v * LANES, total[v]);
}

static void add_few(const real *row, long cells, long channels, real (*sum)[WIDE])
{
    real sums[CNN_FEW_CHANNELS * PARTIAL] = {0};
    const long blocks = cells / PARTIAL;
    switch (channels) {
    case 2: add_blocks(row, blocks, 2 * PARTIAL / LANES, sums); break;
    case 3: add_blocks(row, blocks, 3 * PARTIAL / LANES, sums); break;
    case 4: add_blocks(row, blocks, 4 * PARTIAL / LANES, sums); break;
    case 5: add_blocks(row, blocks, 5 * PARTIAL / LANES, sums); break;
    case 6: add_blocks(row, blocks, 6 * PARTIAL / LANES, sums); break;
    case 7: add_blocks(row, blocks, 7 * PARTIAL / LANES, sums); break;
    default: add_blocks(row, blocks, 8 * PARTIAL / LANES, sums);
    }
    for (int i = 0; i < PARTIAL; i++)
        for (long k = 0; k < channels; k++)
            sum[i][k] = sums[i * channels + k];
    add_across(row + blocks * PARTIAL * channels, cells - blocks * PARTIAL, channels, channels, 0, sum);
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
    const int few = few_channels(p->x, p->c) && dense_plane(p), across = p->x[1] == 1 && width > 1;
    if (!across && p->x[4] == 1 && row_cells == cells) {
        real *y = s->y + n * p->y[0] + first * p->y[1];
        long k = 0;
        for (; k + CHAINS <= width; k += CHAINS)
            average_pieces(x + k * p->x[1], p->x[1], cells, CHAINS, y + k * p->y[1], p->y[1]);
        for (; k < width; k++)
            average_pieces(x + k * p->x[1], p->x[1], cells, 1, y + k * p->y[1], p->y[1]);
        return;
    }
    real sum[PARTIAL][WIDE] = {{0}};
    for (long k = 0; k < (across ? 1 : width); k++) {
        real along[PARTIAL] = {0};
        for (long number = 0; number < cells; number += row_cells) {
            const long row = number / p->in[2];
            const real *from = x + k * p->x[1] + row / p->in[1] * p->x[2] + row % p->in[1] * p->x[3];
            if (few)
                add_few(from, row_cells, width, sum);
            else if (across)
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
