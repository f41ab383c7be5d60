/* softmax.h: what softmax and cross-entropy share: rows in the lanes of vectors, or along them.
 *
 * A row is the n numbers x[o][0..n)[i] of x[outer][n][inner]. Short rows, and rows whose numbers do not stand side by side, are
 * taken LANES at a time into a tile t[n][LANES], one row a lane: sums run over n in order. Long rows in C order are read where
 * they are: sums run over lanes in order. Which of the two follows from the shape alone. */
#ifndef CNN_SOFTMAX_H
#define CNN_SOFTMAX_H

#include "ops.h"
#include "vecmath.h"

enum { SHORT_ROW = 64 };

ALWAYS_INLINE int rows_in_lanes(long n, long inner) { return inner > 1 || n < SHORT_ROW; }

/* Rows of a block: the rows of one tile, or one long row. */
struct tile_rows {
    long first, count, class_step, row_step; /* element (class c, row l) is x[first + c * class_step + l * row_step] */
};
ALWAYS_INLINE long tile_count(long outer, long inner) { return inner > 1 ? outer * divide_up(inner, LANES) : divide_up(outer, LANES); }
ALWAYS_INLINE struct tile_rows tile_rows_of(long tile, long outer, long n, long inner, long *row)
{
    if (inner == 1) {
        *row = tile * LANES;
        return (struct tile_rows){*row * n, min_long(LANES, outer - *row), 1, n};
    }
    const long wide = divide_up(inner, LANES), o = tile / wide, i = tile % wide * LANES;
    *row = o * inner + i;
    return (struct tile_rows){o * n * inner + i, min_long(LANES, inner - i), inner, 1};
}

/* Lanes without a row are 0. */
ALWAYS_INLINE void tile_load(const real *x, struct tile_rows r, long n, real *t)
{
    if (r.row_step == 1) {
        for (long c = 0; c < n; c++)
            vec_store(t + c * LANES, vec_get(x + r.first + c * r.class_step, r.count));
        return;
    }
    if (r.count < LANES)
        memset(t, 0, (size_t)(n * LANES) * sizeof(real));
    for (long l = 0; l < r.count; l++)
        for (long c = 0; c < n; c++)
            t[c * LANES + l] = x[r.first + c + l * r.row_step];
}
ALWAYS_INLINE void tile_store(const real *t, struct tile_rows r, long n, real *y)
{
    if (r.row_step == 1) {
        for (long c = 0; c < n; c++)
            vec_put(y + r.first + c * r.class_step, vec_load(t + c * LANES), r.count);
        return;
    }
    for (long l = 0; l < r.count; l++)
        for (long c = 0; c < n; c++)
            y[r.first + c + l * r.row_step] = t[c * LANES + l];
}

/* The larger, or NaN if there is one. */
ALWAYS_INLINE vec vec_larger(vec best, vec v) { return vec_select((v > best) | (v != v), v, best); }

ALWAYS_INLINE vec tile_largest(const real *t, long n)
{
    vec best = vec_load(t);
    for (long c = 1; c < n; c++)
        best = vec_larger(best, vec_load(t + c * LANES));
    return best;
}
/* e = e^(t - shift); returns the sums. e may be t. */
ALWAYS_INLINE vec tile_exponentials(const real *t, long n, vec shift, real *e)
{
    vec sum = {0};
    for (long c = 0; c < n; c++) {
        const vec v = vec_exp(vec_load(t + c * LANES) - shift);
        sum = sum + v;
        vec_store(e + c * LANES, v);
    }
    return sum;
}

ALWAYS_INLINE real row_largest(const real *x, long n)
{
    vec best = vec_fill(x[0]);
    long i = 0;
    for (; i + LANES <= n; i += LANES)
        best = vec_larger(best, vec_load(x + i));
    for (; i < n; i++)
        best = vec_larger(best, vec_fill(x[i]));
    real top = best[0];
    for (int v = 1; v < LANES; v++)
        top = best[v] > top || best[v] != best[v] ? best[v] : top;
    return top;
}
ALWAYS_INLINE real lanes_sum(vec sum)
{
    real total = 0;
    for (int v = 0; v < LANES; v++)
        total += sum[v];
    return total;
}
/* The same along a row in C order. */
ALWAYS_INLINE real row_exponentials(const real *x, long n, real shift, real *e)
{
    vec sum = {0};
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec v = vec_exp(vec_load(x + i) - shift);
        sum = sum + v;
        vec_store(e + i, v);
    }
    real rest = 0;
    if (i < n) {
        const vec v = vec_exp(vec_load_part(x + i, n - i) - shift);
        vec_store_part(e + i, v, n - i);
        for (long j = 0; j < n - i; j++)
            rest += v[j];
    }
    return lanes_sum(sum) + rest;
}

ALWAYS_INLINE real logarithm(real x) { return vec_log(vec_fill(x))[0]; }

enum { ROW_WORK = 2 }; /* nanoseconds an element */

#endif
