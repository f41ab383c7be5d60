/* pool_taps.c: gradients of maxima whose channels are neighbours in memory, from the taps that won, a byte a window.
 *
 *     dx[h] = sum over windows p, in scan order, that hold h as their tap[p] of dy[p]
 *
 * Where windows are small a cell looks at all of them: a vector of channels of dx is summed in a register and stored once. Where they are large a
 * window adds to the one cell that won. */
#include "pool.h"

enum { COMPARED = 16, AT_ONCE = 16384 }; /* cells of a small window at most; reals of dx that are one block, about */

/* A window that holds a cell, along one axis: how far from the first one's its dy and its taps lie, and what the cell adds to the name of its tap. */
struct reader {
    long y, tap;
    bits name;
};

struct gather {
    const struct cnn_pool *p;
    const real *dy;
    real *dx;
    struct winners won;
    long *begin[3]; /* readers [begin[cell], begin[cell + 1]) */
    struct reader *readers[3];
    long many; /* rows of a block */
};

/* Small windows, and few of them that hold a cell. */
static int few_readers(const struct cnn_pool *p)
{
    for (int a = 0; a < 3; a++)
        if (p->adaptive && p->out[a] > p->in[a])
            return 0;
    return p->window[0] * p->window[1] * p->window[2] <= COMPARED;
}

static size_t place(struct gather *s, const struct cnn_pool *p, char *scratch)
{
    size_t bytes = 0;
    for (int a = 0; a < 3; a++) {
        s->begin[a] = (long *)(scratch + bytes);
        bytes += aligned((size_t)(p->in[a] + 2) * sizeof(long));
        s->readers[a] = (struct reader *)(scratch + bytes);
        bytes += aligned((size_t)(p->out[a] * p->window[a]) * sizeof(struct reader));
    }
    return bytes;
}

/* Readers of each cell of an axis, in the order of the windows. */
static void find_readers(struct gather *s, int a)
{
    const struct cnn_pool *p = s->p;
    const long cells = p->in[a], tap = a == 2 ? s->won.apart : a == 1 ? p->out[2] * s->won.apart : p->out[1] * p->out[2] * s->won.apart;
    const long name = a == 2 ? 1 : a == 1 ? p->window[2] : p->window[1] * p->window[2];
    long *end = s->begin[a] + 1; /* end[c]: first where the readers of c begin, then where they end */
    memset(s->begin[a], 0, (size_t)(cells + 2) * sizeof(long));
    for (int fill = 0; fill < 2; fill++) {
        for (long q = 0; q < p->out[a]; q++) {
            const struct range r = taps_inside(p, a, q);
            for (long k = r.begin; k < r.end; k++) {
                const long cell = r.first + k * p->dilation[a];
                if (fill)
                    s->readers[a][end[cell]++] = (struct reader){q * p->y[2 + a], q * tap, (bits)(k * name)};
                else
                    end[cell + 1]++;
            }
        }
        for (long c = 0; !fill && c < cells; c++)
            end[c + 1] += end[c];
    }
}

ALWAYS_INLINE mask taps_of(const uint8_t *tap, long valid)
{
    mask m = {0};
    for (long v = 0; v < valid; v++)
        m[v] = tap[v];
    return m;
}

/* A cell of dx that rows x columns windows hold, from channel c on. */
static void gather_any(const struct reader *row, int rows, const struct reader *column, int columns, const real *dy, const uint8_t *tap, long c, long channels, real *dx)
{
    for (; c < channels; c += LANES) {
        const long valid = min_long(LANES, channels - c);
        vec sum = {0};
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++) {
                const real *from = dy + row[i].y + column[j].y + c;
                const uint8_t *won = tap + row[i].tap + column[j].tap + c;
                const bits name = row[i].name + column[j].name;
                sum = sum + (valid == LANES ? share_of(from, won, name) : (vec)((taps_of(won, valid) == (mask){0} + name) & (mask)vec_load_part(from, valid)));
            }
        vec_put(dx + c, sum, valid);
    }
}

/* The same for counts that are constants. */
ALWAYS_INLINE void gather_cell(const struct reader *row, const int rows, const struct reader *column, const int columns, const real *dy, const uint8_t *tap, long channels, real *dx)
{
    const long whole = channels / LANES * LANES;
    for (long c = 0; c < whole; c += LANES) {
        vec sum = {0};
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < columns; j++)
                sum = sum + share_of(dy + row[i].y + column[j].y + c, tap + row[i].tap + column[j].tap + c, row[i].name + column[j].name);
        vec_store(dx + c, sum);
    }
    gather_any(row, rows, column, columns, dy, tap, whole, channels, dx);
}

/* A row of dx that one row of windows reaches, which do not overlap: each is read once. */
static void put_windows(const struct cnn_pool *p, const struct reader *row, long apart, const real *dy, const uint8_t *tap, real *dx)
{
    const long whole = p->c / LANES * LANES, cell = p->x[4];
    dy += row->y, tap += row->tap;
    long done = 0; /* cells of the row */
    for (long q = 0; q < p->out[2]; q++, dy += p->y[4], tap += apart) {
        const struct range r = taps_inside(p, 2, q);
        for (; done < r.first + r.begin; done++)
            memset(dx + done * cell, 0, (size_t)p->c * sizeof(real));
        real *to = dx + r.first * cell;
        for (long c = 0; c < whole; c += LANES)
            for (long k = r.begin; k < r.end; k++)
                vec_store(to + k * cell + c, share_of(dy + c, tap + c, row->name + (bits)k) + (vec){0});
        for (long k = r.begin; whole < p->c && k < r.end; k++) {
            const mask won = taps_of(tap + whole, p->c - whole) == (mask){0} + (row->name + (bits)k);
            vec_store_part(to + k * cell + whole, (vec)(won & (mask)vec_load_part(dy + whole, p->c - whole)) + (vec){0}, p->c - whole);
        }
        done = max_long(done, r.first + r.end);
    }
    for (; done < p->in[2]; done++)
        memset(dx + done * cell, 0, (size_t)p->c * sizeof(real));
}

static void gather_rows_of(void *context, long block, int worker)
{
    (void)worker;
    const struct gather *s = context;
    const struct cnn_pool *p = s->p;
    const long end = min_long((block + 1) * s->many, p->n * p->in[0] * p->in[1]);
    const int apart = !p->adaptive && p->window[2] <= p->stride[2] && p->dilation[2] == 1;
    for (long number = block * s->many; number < end; number++) {
        const long h = number % p->in[1], d = number / p->in[1] % p->in[0], n = number / p->in[1] / p->in[0];
        const real *dy = s->dy + n * p->y[0];
        const uint8_t *tap = s->won.tap + n * s->won.image;
        real *dx = s->dx + n * p->x[0] + d * p->x[2] + h * p->x[3];
        struct reader row[COMPARED];
        int rows = 0;
        for (long i = s->begin[0][d]; i < s->begin[0][d + 1]; i++)
            for (long j = s->begin[1][h]; j < s->begin[1][h + 1]; j++) {
                const struct reader *a = &s->readers[0][i], *b = &s->readers[1][j];
                row[rows++] = (struct reader){a->y + b->y, a->tap + b->tap, a->name + b->name};
            }
        if (rows == 1 && apart) {
            put_windows(p, row, s->won.apart, dy, tap, dx);
            continue;
        }
        for (long w = 0; w < p->in[2]; w++, dx += p->x[4]) {
            const struct reader *column = s->readers[2] + s->begin[2][w];
            const int columns = (int)(s->begin[2][w + 1] - s->begin[2][w]);
            if (rows == 1 && columns == 1)
                gather_cell(row, 1, column, 1, dy, tap, p->c, dx);
            else if (rows == 1 && columns == 2)
                gather_cell(row, 1, column, 2, dy, tap, p->c, dx);
            else if (rows == 2 && columns == 1)
                gather_cell(row, 2, column, 1, dy, tap, p->c, dx);
            else if (rows == 2 && columns == 2)
                gather_cell(row, 2, column, 2, dy, tap, p->c, dx);
            else if (rows == 3 && columns == 3)
                gather_cell(row, 3, column, 3, dy, tap, p->c, dx);
            else
                gather_any(row, rows, column, columns, dy, tap, 0, p->c, dx);
        }
    }
}

/* Large windows: one image's channels, in scan order of the outputs. Cells of dx are zeroed shortly before they are needed. */
struct scatter {
    const struct cnn_pool *p;
    const real *dy;
    real *dx;
    struct winners won;
    unsigned long end; /* reals from an image's first cell to behind its last one */
    struct tap_table table;
};

static void scatter_channels(void *context, long block, int worker)
{
    (void)worker;
    const struct scatter *s = context;
    const struct cnn_pool *p = s->p;
    const long groups = divide_up(p->c, SHARE), n = block / groups, begin = block % groups * SHARE, channels = min_long(SHARE, p->c - begin);
    const int dense = dense_plane(p);
    const long apart = s->won.channel;
    real *image = s->dx + n * p->x[0] + begin;
    long zeroed = 0;
    for (long d = 0; d < p->out[0]; d++)
        for (long h = 0; h < p->out[1]; h++) {
            const real *dy = s->dy + n * p->y[0] + d * p->y[2] + h * p->y[3] + begin;
            const uint8_t *tap = s->won.tap + n * s->won.image + (d * p->out[1] + h) * p->out[2] * s->won.apart + begin * apart;
            struct range r[3] = {taps_inside(p, 0, d), taps_inside(p, 1, h)};
            const long reach = reach_of(p, r);
            zero_cells(p, dense, zeroed, reach, channels, image);
            zeroed = max_long(zeroed, reach);
            for (long w = 0; w < p->out[2]; w++, dy += p->y[4], tap += s->won.apart) {
                r[2] = taps_inside(p, 2, w);
                int whole = 1; /* adaptive ones that are shorter than others lie inside, too */
                for (int a = 0; a < 3 && !(p->adaptive && dense); a++)
                    whole &= r[a].end - r[a].begin == p->window[a];
                const long first = r[0].first * p->x[2] + r[1].first * p->x[3] + r[2].first * p->x[4];
                const struct tap_bounds bounds = both_bounds(both_bounds(bounds_along(r[0], 0), bounds_along(r[1], 1)), bounds_along(r[2], 2));
                for (long c = 0; c < channels; c++) {
                    const long t = tap[c * apart];
                    const unsigned long cell = (unsigned long)(first + s->table.tap[t].at);
                    if (cell < s->end && (whole || tap_inside(s->table.tap[t].place, bounds)))
                        image[(long)cell + c] += dy[c];
                }
            }
        }
    zero_cells(p, dense, zeroed, p->in[0] * p->in[1] * p->in[2], channels, image);
}

static int gathers(const struct cnn_pool *p, struct winners won) { return won.channel == 1 && p->c >= LANES && few_readers(p); }

size_t FN(taps_scratch)(const struct cnn_pool *p, int workers)
{
    (void)workers;
    struct gather s;
    return few_readers(p) ? place(&s, p, cnn_no_scratch) : 0;
}

void FN(taps_backward)(const struct cnn_pool *p, const real *dy, real *dx, struct winners won, struct cnn_run *run)
{
    const double work = (double)(p->n * p->c) * (double)(p->in[0] * p->in[1] * p->in[2]) * 0.5;
    if (gathers(p, won)) {
        struct gather s = {.p = p, .dy = dy, .dx = dx, .won = won};
        place(&s, p, run->scratch);
        for (int a = 0; a < 3; a++)
            find_readers(&s, a);
        s.many = max_long(1, AT_ONCE / max_long(1, p->in[2] * p->c));
        cnn_parallel_for(run, divide_up(p->n * p->in[0] * p->in[1], s.many), work, gather_rows_of, &s);
        return;
    }
    struct scatter s = {.p = p, .dy = dy, .dx = dx, .won = won};
    fill_taps(p, p->window, p->x + 2, &s.table);
    s.end = (unsigned long)((p->in[0] - 1) * p->x[2] + (p->in[1] - 1) * p->x[3] + (p->in[2] - 1) * p->x[4]) + 1;
    cnn_parallel_for(run, p->n * divide_up(p->c, SHARE), work, scatter_channels, &s);
}
