/* tile.c: the bodies of tile.h, one function for every height and width, and the tables that find them. */
#include "tile.h"

enum kind { ROWS, CELLS, COLUMNS, COLUMNS_FETCHING };

/* The compiler forgets how it came to x, a pointer or a number: it would keep a register for each of the values that follow from it. */
#define OPAQUE(x) __asm__("" : "+r"(x))

/* Goes through the rows of C. Those evenly apart follow each other: a store might change the tile, for all that the compiler knows, and it
 * would read from there where each row is. */
struct rows { real *at; long apart; };

ALWAYS_INLINE struct rows rows_of(const struct tile *t) { return (struct rows){t->c[0], t->c_apart}; }
ALWAYS_INLINE real *next_row(struct rows *r, const struct tile *t, const enum kind kind, long i)
{
    if (kind == CELLS)
        return t->c[i];
    real *row = r->at;
    r->at += r->apart;
    OPAQUE(r->at);
    return row;
}

ALWAYS_INLINE void load_rows(const struct tile *t, const long rows, const int vectors, const enum kind kind, vec (*to)[TILE_VECTORS], real (*edge)[TILE_WIDTH])
{
    struct rows c = rows_of(t);
    if (t->valid == vectors * LANES) {
        UNROLL for (long i = 0; i < rows; i++) {
            const real *row = next_row(&c, t, kind, i);
            UNROLL for (int v = 0; v < vectors; v++)
                to[i][v] = vec_load(row + v * LANES);
        }
        return;
    }
    for (long i = 0; i < rows; i++) {
        const real *row = next_row(&c, t, kind, i);
        UNROLL for (int v = 0; v < vectors; v++)
            vec_store(edge[i] + v * LANES, (vec){0});
        for (long j = 0; j < t->valid; j++)
            edge[i][j] = row[j];
    }
    UNROLL for (long i = 0; i < rows; i++)
        UNROLL for (int v = 0; v < vectors; v++)
            to[i][v] = vec_load(edge[i] + v * LANES);
}

/* Steps of k written out one after another; rows whose pointers fit the integer registers; pointers for more
 * rows, of which each serves three rows by the addresses base, base + stride and base + 2 stride; lines that B is asked for ahead; reals that A is, in
 * sums of LONG terms and more: what those fetched for the whole next tile would have left the first cache before it is used. */
enum { STEPS = 4, POINTERS = 8, EVEN = TILE_ROWS > POINTERS ? 2 : TILE_ROWS, BASES = (TILE_ROWS + 2) / 3, AHEAD = 16, NEAR = 2 * LINE, LONG = 16 * LINE };

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
        OPAQUE(base[j]);
    }
}

/* Fetches what comes next, line by line, as it falls due: `bytes` more. */
ALWAYS_INLINE const char *fetch_due(const char *next, long *due, long bytes)
{
    for (*due += bytes; *due >= 64; *due -= 64, next += 64)
        __builtin_prefetch(next, 0, 2);
    return next;
}

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
    const int even = kind == ROWS && rows > EVEN;
    /* The lines of C are fetched before they are stored: some rows with every line of A if there are enough, lest A and B wait for all of them. */
    const long lines = even ? t->parts * (depth / LINE) : 0;
    const int little_by_little = 2 * lines >= rows && t->join != CONTINUE;
    const long at_once = lines >= rows ? 1 : 2;
    if (t->join == CONTINUE)
        load_rows(t, rows, vectors, kind, sum, edge);
    else if (!little_by_little) {
        struct rows c = rows_of(t);
        UNROLL for (long i = 0; i < rows; i++) {
            const real *row = next_row(&c, t, kind, i);
            UNROLL for (int v = 0; v < vectors; v++)
                __builtin_prefetch(row + v * LANES, 1);
        }
    }

    const real *b = t->b;
    const char *next = t->next;
    long due = 0;
    long fetched = little_by_little ? 0 : rows;
    struct rows coming = rows_of(t);
    for (long p = 0; p < t->parts; p++) {
        const long offset = t->offset[p];
        if (kind == COLUMNS || kind == COLUMNS_FETCHING) {
            const real *column = t->a[0] + offset;
            for (long k = 0; k < depth; k++, column += step, b += width, next += kind == COLUMNS_FETCHING ? t->next_step : 0) {
                if (kind == COLUMNS_FETCHING)
                    __builtin_prefetch(next, 0, 2);
                vec bv[TILE_VECTORS];
                load_term(b, vectors, bv);
                UNROLL for (long i = 0; i < rows; i++) {
                    const vec av = vec_fill(column[i]);
                    UNROLL for (int v = 0; v < vectors; v++)
                        sum[i][v] = vec_madd(av, bv[v], sum[i][v]);
                }
            }
        } else if (even) {
            RELOAD;
            const long stride = t->a_apart * (long)sizeof(real);
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
                for (long i = 0; i < at_once && fetched < rows; i++, fetched++)
                    for (const real *row = next_row(&coming, t, kind, fetched), *end = row + width; row < end; row += LINE)
                        __builtin_prefetch(row, 1);
                for (int part = 0; part < LINE; part += STEPS, b += STEPS * width) {
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
            const int again = kind == CELLS && rows > POINTERS;
            const real *row[TILE_ROWS];
            UNROLL for (long i = 0; i < rows; i++)
                row[i] = kind == CELLS ? t->a[i] : t->a[0] + i * t->a_apart;
            for (long k = offset; k < offset + depth;) {
                const long end = k + LINE < offset + depth ? k + LINE : offset + depth;
                UNROLL for (long i = 0; i < rows; i++)
                    __builtin_prefetch((again ? t->a[i] : row[i]) + k + t->ahead);
                if (kind == ROWS)
                    next = fetch_due(next, &due, LINE * t->next_step);
                for (; k < end; k++, b += width) {
                    if (again)
                        RELOAD;
                    vec bv[TILE_VECTORS];
                    load_term(b, vectors, bv);
                    UNROLL for (long i = 0; i < rows; i++) {
                        const vec av = vec_fill(again ? t->a[i][k] : row[i][k]);
                        UNROLL for (int v = 0; v < vectors; v++)
                            sum[i][v] = vec_madd(av, bv[v], sum[i][v]);
                    }
                }
            }
        }
    }

    if (t->join == ADD) {
        vec before[TILE_ROWS][TILE_VECTORS];
        load_rows(t, rows, vectors, kind, before, edge);
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
                sum[i][v] = vec_max((vec){0}, sum[i][v]);
    }
    struct rows c = rows_of(t);
    if (t->valid == width) {
        UNROLL for (long i = 0; i < rows; i++) {
            real *row = next_row(&c, t, kind, i);
            UNROLL for (int v = 0; v < vectors; v++)
                vec_store(row + v * LANES, sum[i][v]);
        }
    } else {
        UNROLL for (long i = 0; i < rows; i++)
            UNROLL for (int v = 0; v < vectors; v++)
                vec_store(edge[i] + v * LANES, sum[i][v]);
        for (long i = 0; i < rows; i++) {
            real *row = next_row(&c, t, kind, i);
            for (long j = 0, valid = t->valid; j < valid; j++)
                row[j] = edge[i][j];
        }
    }
}

#include "tile_avx512.h"

#define TILE(rows)                                                                                      \
    static void rows_##rows##x1(const struct tile *t) { tile_body(t, rows, 1, ROWS); }                     \
    static void rows_##rows##x2(const struct tile *t) { tile_body(t, rows, 2, ROWS); }                     \
    static void cells_##rows##x1(const struct tile *t) { tile_body(t, rows, 1, CELLS); }                   \
    static void cells_##rows##x2(const struct tile *t) { tile_body(t, rows, 2, CELLS); }                   \
    static void columns_##rows##x1(const struct tile *t) { tile_body(t, rows, 1, COLUMNS); }               \
    static void columns_##rows##x2(const struct tile *t) { tile_body(t, rows, 2, COLUMNS); }               \
    static void fetching_##rows##x1(const struct tile *t) { tile_body(t, rows, 1, COLUMNS_FETCHING); }        \
    static void fetching_##rows##x2(const struct tile *t) { tile_body(t, rows, 2, COLUMNS_FETCHING); }
#define ROWS_OF(rows) {rows_##rows##x1, rows_##rows##x2}
#define CELLS_OF(rows) {cells_##rows##x1, cells_##rows##x2}
#define COLUMNS_OF(rows) {columns_##rows##x1, columns_##rows##x2}
#define FETCHING_OF(rows) {fetching_##rows##x1, fetching_##rows##x2}

/* Where assembly has them, it computes those of whole width. */
#define EITHER(name, assembled, body)         \
    static void name(const struct tile *t)      \
    {                                           \
        if (t->valid == TILE_WIDTH)             \
            FN(assembled)(t);                   \
        else                                    \
            body;                               \
    }
#define TALL_TILE_(rows)                                                                                                  \
    static void rows_##rows##x1(const struct tile *t) { tile_body(t, rows, 1, ROWS); }                                       \
    EITHER(rows_##rows##x2, assembled_rows_##rows, tile_body(t, rows, 2, ROWS))                                              \
    static void cells_##rows##x1(const struct tile *t) { tile_body(t, rows, 1, CELLS); }                                     \
    EITHER(cells_##rows##x2, assembled_cells_##rows, tile_body(t, rows, 2, CELLS))                                           \
    static void columns_##rows##x1(const struct tile *t) { tile_body(t, rows, 1, COLUMNS); }                                 \
    EITHER(columns_##rows##x2, assembled_columns_##rows, tile_body(t, rows, 2, COLUMNS))                                     \
    static void fetching_##rows##x1(const struct tile *t) { tile_body(t, rows, 1, COLUMNS_FETCHING); }                       \
    EITHER(fetching_##rows##x2, assembled_columns_fetching_##rows, tile_body(t, rows, 2, COLUMNS_FETCHING))
#if TILES_IN_ASSEMBLY
#define TALL_TILE(rows) TALL_TILE_(rows)
#else
#define TALL_TILE(rows) TILE(rows)
#endif

TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
#if CNN_VECTOR_BYTES == 64 || defined(__aarch64__)
TILE(7) TALL_TILE(8) TALL_TILE(9) TALL_TILE(10) TALL_TILE(11) TALL_TILE(12) TALL_TILE(13) TALL_TILE(14)
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

tile_function *FN(tile_cells)(long rows, int vectors)
{
    static tile_function *const table[TILE_ROWS][TILE_VECTORS] = {
        CELLS_OF(1), CELLS_OF(2), CELLS_OF(3), CELLS_OF(4), CELLS_OF(5), CELLS_OF(6), TALLER(CELLS_OF)};
    return table[rows - 1][vectors - 1];
}

tile_function *FN(tile_columns)(long rows, int vectors)
{
    static tile_function *const table[TILE_ROWS][TILE_VECTORS] = {
        COLUMNS_OF(1), COLUMNS_OF(2), COLUMNS_OF(3), COLUMNS_OF(4), COLUMNS_OF(5), COLUMNS_OF(6), TALLER(COLUMNS_OF)};
    return table[rows - 1][vectors - 1];
}

tile_function *FN(tile_columns_fetching)(long rows, int vectors)
{
    static tile_function *const table[TILE_ROWS][TILE_VECTORS] = {
        FETCHING_OF(1), FETCHING_OF(2), FETCHING_OF(3), FETCHING_OF(4), FETCHING_OF(5), FETCHING_OF(6), TALLER(FETCHING_OF)};
    return table[rows - 1][vectors - 1];
}
