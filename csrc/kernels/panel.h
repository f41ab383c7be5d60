/* panel.h: a few rows times one packed panel, the step of everything that walks through time or over keys.
 *
 *     c[i][0 .. width) = (0, or c) + sum over k < depth of a[i][k] * b[k][0 .. width) + bias[0 .. width) if there is one
 *
 * Rows of a and c by pointer; b as pack_weights leaves a panel of one tap; width is LANES or TILE_WIDTH, and c has room for it. The sum runs
 * over k in order. One or two rows alone would wait for their own sums: they run 4 / rows sums side by side, k modulo that. */
#ifndef CNN_PANEL_H
#define CNN_PANEL_H

#include "product.h"
#include "tile.h"

/* Rows that share a panel's way through the cache: whole tiles. */
enum { ROW_BLOCK = TILE_ROWS == 6 ? 48 : 56 };

ALWAYS_INLINE void few_rows(const real *const *a, const int rows, const int vectors, long depth, const real *b, real *const *c, int add, const real *bias)
{
    const int phases = 4 / rows;
    vec sum[2][4][TILE_VECTORS];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int f = 0; f < phases; f++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[i][f][v] = (vec){0};
    long k = 0;
    for (; k + phases <= depth; k += phases)
        UNROLL for (int f = 0; f < phases; f++, b += vectors * LANES)
            UNROLL for (int i = 0; i < rows; i++) {
                const vec av = vec_fill(a[i][k + f]);
                UNROLL for (int v = 0; v < vectors; v++)
                    sum[i][f][v] = vec_madd(av, vec_load(b + v * LANES), sum[i][f][v]);
            }
    for (; k < depth; k++, b += vectors * LANES)
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[i][0][v] = vec_madd(vec_fill(a[i][k]), vec_load(b + v * LANES), sum[i][0][v]);
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int v = 0; v < vectors; v++) {
            vec total = sum[i][0][v] + sum[i][1][v];
            if (rows == 1)
                total = total + (sum[i][2][v] + sum[i][3][v]);
            if (add)
                total = vec_load(c[i] + v * LANES) + total;
            if (bias)
                total = total + vec_load(bias + v * LANES);
            vec_store(c[i] + v * LANES, total);
        }
}

/* Whether the rows follow each other `apart` reals from one to the next. */
ALWAYS_INLINE int evenly_apart(const real *const *row, long rows, long apart)
{
    long differs = 0;
    for (long i = 1; i < rows; i++)
        differs |= (long)((uintptr_t)row[i] - (uintptr_t)row[i - 1]) ^ apart * (long)sizeof(real);
    return !differs;
}

ALWAYS_INLINE long first_apart(const real *const *row, long rows)
{
    return rows > 1 ? (long)((uintptr_t)row[1] - (uintptr_t)row[0]) / (long)sizeof(real) : 0;
}

static inline void panel_product(const real *const *a, long m, long depth, const real *b, long width, real *const *c, int add, const real *bias)
{
    if (m <= 2) {
        if (m == 1 && width == LANES)
            few_rows(a, 1, 1, depth, b, c, add, bias);
        else if (m == 1)
            few_rows(a, 1, 2, depth, b, c, add, bias);
        else if (m == 2 && width == LANES)
            few_rows(a, 2, 1, depth, b, c, add, bias);
        else if (m == 2)
            few_rows(a, 2, 2, depth, b, c, add, bias);
        return;
    }
    const struct cut cut = cut_rows(m);
    const long offset = 0;
    struct tile t = {.parts = 1, .valid = width, .depth = depth, .offset = &offset, .ahead = LINE, .b = b, .join = add ? CONTINUE : OVERWRITE, .bias = bias};
    for (long i = 0; i < cut.tiles; i++) {
        const long begin = cut_begin(cut, i), height = cut_height(cut, i);
        const real *const *a_row = a + begin, *const *c_row = (const real *const *)c + begin;
        t.a_apart = first_apart(a_row, height), t.c_apart = first_apart(c_row, height);
        const int even = evenly_apart(a_row, height, t.a_apart) && evenly_apart(c_row, height, t.c_apart);
        for (long r = 0; r < (even ? 1 : height); r++)
            t.a[r] = a[begin + r], t.c[r] = c[begin + r];
        (even ? FN(tile_rows) : FN(tile_cells))(height, (int)(width / LANES))(&t);
    }
}

ALWAYS_INLINE long panels_count(long filters) { return divide_up(filters, TILE_WIDTH); }
ALWAYS_INLINE long panels_width(long filters, long panel) { return filters - panel * TILE_WIDTH > LANES ? TILE_WIDTH : LANES; }

/* Packs panel number `panel` of w, whose strides are those of filter and depth, to `to`. */
static inline void pack_panel_of(const real *w, long filters, long depth, long filter_stride, long depth_stride, long panel, real *to)
{
    const struct product q = {.groups = 1, .filters = filters, .w = {filter_stride, depth_stride}, .in = {.channels = depth, .taps = {1, 1, 1}}};
    FN(pack_weights)(&q, w, 0, panel, 0, depth, to);
}

#endif
