/* tile.h: the register tile. Every matrix product of the library, convolution, dense and recurrent alike, ends here.
 *
 *     C[rows][width] = epilogue(C or 0 + sum over parts p, k < depth of A(p, k, i) * B[p][k][0 .. width-1])
 *
 * A "part" is one tap of a window, one row of pixels or one slice of a reduction; a batch of them is reduced in registers,
 * part after part and k after k, one fused multiply-add a term in every lane. The order of the sum is therefore the same
 * for every tile shape and instruction set.
 *
 * Three ways to read A, otherwise the same code:
 *     rows     A(p, k, i) = a[0][i*a_apart + offset[p] + k]   rows evenly apart: pixels, samples; k runs along channels
 *     cells    A(p, k, i) = a[i][offset[p] + k]               a pointer a row, of A and of C: pixels of more than one row of an image
 *     columns  A(p, k, i) = a[0][offset[p] + k*step + i]      rows are neighbours in memory; k runs along pixels
 * B is packed, part after part: B[p][k] = b + (p*depth + k)*width, zero-filled to the width, so the loop needs no masks. */
#ifndef CNN_TILE_H
#define CNN_TILE_H

#include "../base/problem.h"
#include "../base/real.h"

struct tile {
    long parts, depth;       /* terms of the sum: parts * depth */
    const long *offset;      /* [parts], in reals, added to the pointers of A */
    long step;               /* columns only: reals from one k to the next */
    const real *a[TILE_ROWS]; /* cells: all of them; else the first */
    long a_apart;            /* rows only: reals from one row to the next */
    long ahead;              /* rows and cells: reals to what is read next after this tile; it is fetched meanwhile */
    const char *next;        /* rows and fetching columns: memory that comes next, next_step bytes of it a term (rows: not of every term) */
    long next_step;
    const real *b;           /* [parts][depth][vectors * LANES] */
    real *c[TILE_ROWS];      /* cells: all of them; else the first */
    long c_apart;            /* not of cells: reals from one row to the next */
    long valid;              /* columns of C that exist, 1 .. vectors * LANES */
    enum { OVERWRITE, CONTINUE, ADD } join; /* the sum starts from 0; from C; from 0, and C is added at the end */
    const real *bias;        /* [vectors * LANES] or NULL; added after the sum */
    const real *row_bias;    /* [rows] or NULL; likewise */
    int activation;          /* enum cnn_activation, applied last */
};

typedef void tile_function(const struct tile *t);

/* The tile of `rows` rows (1 .. TILE_ROWS) and `vectors` vectors (1 .. TILE_VECTORS). */
tile_function *FN(tile_rows)(long rows, int vectors);
tile_function *FN(tile_cells)(long rows, int vectors);
tile_function *FN(tile_columns)(long rows, int vectors);
/* Columns that fetch meanwhile what comes next. */
tile_function *FN(tile_columns_fetching)(long rows, int vectors);

/* How a product of m rows is cut into tiles: `tiles` of nearly equal height, none above TILE_ROWS. */
struct cut { long tiles, height, taller; };

ALWAYS_INLINE struct cut cut_rows(long m)
{
    long tiles = divide_up(m, TILE_ROWS);
    return (struct cut){tiles, m / tiles, m % tiles};
}
ALWAYS_INLINE long cut_begin(struct cut s, long tile) { return tile * s.height + min_long(tile, s.taller); }
ALWAYS_INLINE long cut_height(struct cut s, long tile) { return s.height + (tile < s.taller); }

#endif
