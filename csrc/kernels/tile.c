/* tile.c: the bodies of tile.h, one function for every height and width, and the tables that find them. */
#include "tile.h"

ALWAYS_INLINE void load_rows(const struct tile *t, const long rows, const int vectors, vec (*to)[TILE_VECTORS], real (*edge)[TILE_WIDTH])
{
    if (t->valid == vectors * LANES) {
        UNROLL for (long i = 0; i < rows; i++)
            UNROLL for (int v = 0; v < vectors; v++)
                to[i][v] = vec_load(t->c[i] + v * LANES);
        return;
    }
    for (long i = 0; i < rows; i++) {
        UNROLL for (int v = 0; v < vectors; v++)
            vec_store(edge[i] + v * LANES, (vec){0});
        for (long j = 0; j < t->valid; j++)
            edge[i][j] = t->c[i][j];
    }
    UNROLL for (long i = 0; i < rows; i++)
        UNROLL for (int v = 0; v < vectors; v++)
            to[i][v] = vec_load(edge[i] + v * LANES);
}

/* Steps of k written out one after another; rows whose pointers fit the integer registers; pointers for more
 * rows, of which each serves three rows by the addresses base, base + stride and base + 2 stride; lines that B is asked for ahead; reals that A is, in
 * sums of LONG terms and more: what those fetched for the whole next tile would have left the first cache before it is used. */
enum { STEPS = 4, POINTERS = 8, EVEN = TILE_ROWS > POINTERS ? 2 : TILE_ROWS, BASES = (TILE_ROWS + 2) / 3, AHEAD = 16, NEAR = 2 * LINE, LONG = 16 * LINE };

/* The bytes from each row of A to the next, or 0 if they differ. */
ALWAYS_INLINE long even_stride(const struct tile *t, const long rows)
{
    const long stride = (long)((uintptr_t)t->a[1] - (uintptr_t)t->a[0]);
    long differs = 0;
    for (long i = 2; i < rows; i++)
        differs |= (long)((uintptr_t)t->a[i] - (uintptr_t)t->a[i - 1]) ^ stride;
    return differs ? 0 : stride;
}

/* What a term needs of B. A panel is read once from the second or third cache on its way past each tile: more of it is on the way than the processor
 * would look ahead. */
ALWAYS_INLINE void load_term(const real *b, const int vectors, vec *to)
{
    UNROLL for (int v = 0; v < vectors; v++) {
        to[v] = vec_load(b + v * LANES);
        if (v * LANES % LINE == 0)
            __builtin_prefetch(b + AHEAD * LINE + v * LANES);
    }
}

/* `steps` terms of the sums of evenly spaced rows. The bases are opaque to the compiler, or it would keep a pointer a row. */
ALWAYS_INLINE void even_steps(const char **base, long stride, const real *b, const int steps, const long rows, const int vectors, vec (*sum)[TILE_VECTORS])
{
    UNROLL for (int k = 0; k < steps; k++) {
        vec bv[TILE_VECTORS];
        load_term(b + k * vectors * LANES, vectors, bv);
        UNROLL for (long i = 0; i < rows; i++) {
            const vec av = vec_fill(*(const real *)(base[i / 3] + i % 3 * stride + k * (long)sizeof(real)));
            UNROLL for (int v = 0; v < vectors; v++)
                sum[i][v] = vec_madd(av, bv[v], sum[i][v]);
        }
    }
    UNROLL for (long j = 0; j < divide_up(rows, 3); j++) {
        base[j] += steps * (long)sizeof(real);
        __asm__("" : "+r"(base[j]));
    }
}

/* Fetches what comes next, line by line, as it falls due: `bytes` more. */
ALWAYS_INLINE const char *fetch_due(const char *next, long *due, long bytes)
{
    for (*due += bytes; *due >= 64; *due -= 64, next += 64)
        __builtin_prefetch(next, 0, 2);
    return next;
}

enum kind { ROWS, ROWS_FETCHING, COLUMNS, COLUMNS_FETCHING };

/* rows and vectors are constants at every call, so the accumulators live in registers and the loops over them vanish. */
ALWAYS_INLINE void tile_body(const struct tile *t, const long rows, const int vectors, const enum kind kind)
{
    const long width = vectors * LANES;
    vec sum[TILE_ROWS][TILE_VECTORS];
    real edge[TILE_ROWS][TILE_WIDTH];

    UNROLL for (long i = 0; i < rows; i++)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[i][v] = (vec){0};
    const long depth = t->depth, step = t->step;
    const int across = kind == ROWS || kind == ROWS_FETCHING, fetching = kind == ROWS_FETCHING || kind == COLUMNS_FETCHING;
    const long stride = across && rows > EVEN ? even_stride(t, rows) : 0;
    /* The lines of C are fetched before they are stored: one row with every line of A if there are enough, lest A and B wait for all of them. */
    const int one_by_one = rows > EVEN && stride && t->parts * (depth / LINE) >= rows;
    if (t->join == CONTINUE)
        load_rows(t, rows, vectors, sum, edge);
    else if (!one_by_one)
        UNROLL for (long i = 0; i < rows; i++)
            UNROLL for (int v = 0; v < vectors; v++)
                __builtin_prefetch(t->c[i] + v * LANES, 1);

    const real *b = t->b;
    const char *next = t->next;
    long due = 0;
    long fetched = one_by_one && t->join != CONTINUE ? 0 : rows;
    for (long p = 0; p < t->parts; p++) {
        const long offset = t->offset[p];
        if (!across) {
            const real *column = t->a[0] + offset;
            for (long k = 0; k < depth; k++, column += step, b += width, next += fetching ? t->next_step : 0) {
                if (fetching)
                    __builtin_prefetch(next, 0, 2);
                vec bv[TILE_VECTORS];
                load_term(b, vectors, bv);
                UNROLL for (long i = 0; i < rows; i++) {
                    const vec av = vec_fill(column[i]);
                    UNROLL for (int v = 0; v < vectors; v++)
                        sum[i][v] = vec_madd(av, bv[v], sum[i][v]);
                }
            }
        } else if (rows > EVEN && stride) {
            const char *base[BASES];
            UNROLL for (long j = 0; j < divide_up(rows, 3); j++)
                base[j] = (const char *)(t->a[0] + offset) + 3 * j * stride;
            long k = depth;
            /* Of a long sum's part the last lines are where the next part, or tile, begins. */
            const long soon = t->parts * depth >= LONG && depth >= 2 * NEAR ? NEAR : 0;
            const long later = (p + 1 < t->parts ? t->offset[p + 1] - offset : t->ahead + t->offset[0] - offset) - (depth - soon);
            for (; k >= LINE; k -= LINE) {
                const long distance = (k > soon ? (soon ? soon : t->ahead) : soon + later) * (long)sizeof(real);
                UNROLL for (long i = 0; i < rows; i++)
                    __builtin_prefetch(base[i / 3] + i % 3 * stride + distance);
                if (fetched < rows) {
                    UNROLL for (int v = 0; v < vectors; v++)
                        __builtin_prefetch(t->c[fetched] + v * LANES, 1);
                    fetched++;
                }
                for (int part = 0; part < LINE; part += STEPS, b += STEPS * width) {
                    if (fetching)
                        next = fetch_due(next, &due, STEPS * t->next_step);
                    even_steps(base, stride, b, STEPS, rows, vectors, sum);
                }
            }
            for (; k >= STEPS; k -= STEPS, b += STEPS * width)
                even_steps(base, stride, b, STEPS, rows, vectors, sum);
            for (; k > 0; k--, b += width)
                even_steps(base, stride, b, 1, rows, vectors, sum);
        } else {
            /* Few row pointers live in registers. Of many there are more than registers: they are read again, lest vector registers hold them. */
            const real *row[TILE_ROWS];
            UNROLL for (long i = 0; i < rows; i++)
                row[i] = t->a[i];
            for (long k = offset; k < offset + depth;) {
                const long end = k + LINE < offset + depth ? k + LINE : offset + depth;
                UNROLL for (long i = 0; i < rows; i++)
                    __builtin_prefetch((rows > POINTERS ? t->a[i] : row[i]) + k + t->ahead);
                if (fetching)
                    next = fetch_due(next, &due, LINE * t->next_step);
                for (; k < end; k++, b += width) {
                    if (rows > POINTERS)
                        RELOAD;
                    vec bv[TILE_VECTORS];
                    load_term(b, vectors, bv);
                    UNROLL for (long i = 0; i < rows; i++) {
                        const vec av = vec_fill(rows > POINTERS ? t->a[i][k] : row[i][k]);
                        UNROLL for (int v = 0; v < vectors; v++)
                            sum[i][v] = vec_madd(av, bv[v], sum[i][v]);
                    }
                }
            }
        }
    }

    if (t->join == ADD) {
        vec before[TILE_ROWS][TILE_VECTORS];
        load_rows(t, rows, vectors, before, edge);
        UNROLL for (long i = 0; i < rows; i++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[i][v] = before[i][v] + sum[i][v];
    }
    if (t->bias) {
        UNROLL for (int v = 0; v < vectors; v++) {
            const vec bias = vec_load(t->bias + v * LANES);
            UNROLL for (long i = 0; i < rows; i++)
                sum[i][v] = sum[i][v] + bias;
        }
    }
    if (t->row_bias) {
        UNROLL for (long i = 0; i < rows; i++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[i][v] = sum[i][v] + vec_fill(t->row_bias[i]);
    }
    if (t->activation == CNN_RELU) {
        UNROLL for (long i = 0; i < rows; i++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[i][v] = vec_select(sum[i][v] < 0, (vec){0}, sum[i][v]);
    }
    if (t->valid == width) {
        UNROLL for (long i = 0; i < rows; i++)
            UNROLL for (int v = 0; v < vectors; v++)
                vec_store(t->c[i] + v * LANES, sum[i][v]);
    } else {
        UNROLL for (long i = 0; i < rows; i++)
            UNROLL for (int v = 0; v < vectors; v++)
                vec_store(edge[i] + v * LANES, sum[i][v]);
        for (long i = 0; i < rows; i++)
            for (long j = 0; j < t->valid; j++)
                t->c[i][j] = edge[i][j];
    }
}

#define TILE(rows)                                                                              \
    static void rows_##rows##x1(const struct tile *t) { tile_body(t, rows, 1, ROWS); }             \
    static void rows_##rows##x2(const struct tile *t) { tile_body(t, rows, 2, ROWS); }             \
    static void columns_##rows##x1(const struct tile *t) { tile_body(t, rows, 1, COLUMNS); }          \
    static void columns_##rows##x2(const struct tile *t) { tile_body(t, rows, 2, COLUMNS); }    \
    static void rows_fetching_##rows(const struct tile *t) { tile_body(t, rows, 2, ROWS_FETCHING); }          \
    static void columns_fetching_##rows(const struct tile *t) { tile_body(t, rows, 2, COLUMNS_FETCHING); }
#define ROWS_OF(rows) {rows_##rows##x1, rows_##rows##x2}
#define COLUMNS_OF(rows) {columns_##rows##x1, columns_##rows##x2}
#define ROWS_FETCHING_OF(rows) rows_fetching_##rows
#define COLUMNS_FETCHING_OF(rows) columns_fetching_##rows

TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
#if CNN_VECTOR_BYTES == 64 || defined(__aarch64__)
TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12) TILE(13) TILE(14)
#define TALLER(of) of(7), of(8), of(9), of(10), of(11), of(12), of(13), of(14),
#else
#define TALLER(of)
#endif

tile_function *FN(tile_rows)(long rows, int vectors)
{
    static tile_function *const table[TILE_ROWS][TILE_VECTORS] = {
        ROWS_OF(1), ROWS_OF(2), ROWS_OF(3), ROWS_OF(4), ROWS_OF(5), ROWS_OF(6), TALLER(ROWS_OF)};
    return table[rows - 1][vectors - 1];
}

tile_function *FN(tile_columns)(long rows, int vectors)
{
    static tile_function *const table[TILE_ROWS][TILE_VECTORS] = {
        COLUMNS_OF(1), COLUMNS_OF(2), COLUMNS_OF(3), COLUMNS_OF(4), COLUMNS_OF(5), COLUMNS_OF(6), TALLER(COLUMNS_OF)};
    return table[rows - 1][vectors - 1];
}

tile_function *FN(tile_rows_fetching)(long rows)
{
    static tile_function *const table[TILE_ROWS] = {
        ROWS_FETCHING_OF(1), ROWS_FETCHING_OF(2), ROWS_FETCHING_OF(3), ROWS_FETCHING_OF(4), ROWS_FETCHING_OF(5), ROWS_FETCHING_OF(6), TALLER(ROWS_FETCHING_OF)};
    return table[rows - 1];
}

tile_function *FN(tile_columns_fetching)(long rows)
{
    static tile_function *const table[TILE_ROWS] = {
        COLUMNS_FETCHING_OF(1), COLUMNS_FETCHING_OF(2), COLUMNS_FETCHING_OF(3), COLUMNS_FETCHING_OF(4), COLUMNS_FETCHING_OF(5), COLUMNS_FETCHING_OF(6),
        TALLER(COLUMNS_FETCHING_OF)};
    return table[rows - 1];
}
