/* winograd_tiles.h: the transforms of Winograd's convolution, and how a map is cut into tiles and brought into them.
 *
 *     F(m, 3)   Y = A' [(G g G') . (B' d B)] A    a tile of m x m outputs from n x n inputs, n = m + 2, by n*n products
 *     F(3, m)   the same for a weight gradient: 3 x 3 taps from n x n inputs and m x m gradients
 *     F(2, 5)   windows of 5 x 5, from as many inputs as F(4, 3); F(5, 2) for their gradient
 *     F(3, 2)   windows of 2 x 2, and of 4 x 4 with a stride of 2: two pairs of taps, of the even and of the odd cells, whose products are one longer sum
 *     F(2, 2)   windows of 3 x 3 with a stride of 2: of the even cells two taps, of the odd ones the middle tap, which joins the sums of one output
 *
 * Windows of one row take the algorithm along rows alone: tiles of 1 x m ("flat"), y = A' [(G g) . (B' d)].
 *
 * Three products: points {0, 1, inf}; four: {0, 1, -1, inf}; six: {0, 1, -1, 1/2, -2, inf}, whose error is about half that of {0, 1, -1, 2, -2, inf}.
 * B' belongs to the points, so F(m, 3) and F(3, m) share it, and F(4, 3) and F(2, 5). Lanes are channels (or filters): no shuffles.
 * Sources: S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin, S. Gray, 2016; mathematics 2.17. A test derives the matrices from the points. */
#ifndef CNN_WINOGRAD_TILES_H
#define CNN_WINOGRAD_TILES_H

#include "box.h"

enum { MOST_POINTS = 8, MOST_SUMS = 6, MOST_WINDOW = 5, MOST_PIXELS = MOST_POINTS * MOST_POINTS };

/* Which algorithm: F(outputs, taps), and with a stride of 2 where the name says so. */
enum kind { NO_WINOGRAD, F2_3, F4_3, F3_2, F2_3_STRIDED, F3_4_STRIDED, F2_5 };

/* Along an axis: `outputs` from `cells` of the input through windows of `taps`, by products at `points` points, which add up to `sums` sums. */
struct scheme { int outputs, taps, cells, points, sums; };
ALWAYS_INLINE struct scheme scheme_of(const enum kind kind)
{
    switch (kind) {
    case F4_3: return (struct scheme){4, 3, 6, 6, 6};
    case F2_5: return (struct scheme){2, 5, 6, 6, 6};
    case F3_2: return (struct scheme){3, 2, 4, 4, 4};
    case F2_3_STRIDED: return (struct scheme){2, 3, 5, 5, 3};
    case F3_4_STRIDED: return (struct scheme){3, 4, 8, 8, 4};
    default: return (struct scheme){2, 3, 4, 4, 4};
    }
}

/* The first of the points that add up to a sum; those of the next one follow. */
ALWAYS_INLINE int first_point(const enum kind kind, int sum)
{
    return kind == F2_3_STRIDED ? sum + (sum > 0) + (sum > 2) : kind == F3_4_STRIDED ? 2 * sum : sum;
}

/* B' d */
ALWAYS_INLINE void input_points(const enum kind kind, const vec *d, vec *v)
{
    if (kind == F2_3 || kind == F3_2) {
        v[0] = d[0] - d[2], v[1] = d[1] + d[2], v[2] = d[2] - d[1], v[3] = d[3] - d[1];
        return;
    }
    if (kind == F2_3_STRIDED) {
        v[0] = d[0] - d[2], v[1] = d[1], v[2] = d[2], v[3] = d[4] - d[2], v[4] = d[3];
        return;
    }
    if (kind == F3_4_STRIDED) {
        UNROLL for (int i = 0; i < 2; i++)
            v[i] = d[i] - d[4 + i], v[2 + i] = d[2 + i] + d[4 + i], v[4 + i] = d[4 + i] - d[2 + i], v[6 + i] = d[6 + i] - d[2 + i];
        return;
    }
    const vec q0 = d[3] - d[1], q1 = d[4] - d[2];
    const vec p0 = q0 + REAL(1.5) * d[2], p1 = q1 + REAL(1.5) * d[3];
    v[0] = d[0] + d[4] - REAL(2.0) * d[2] + REAL(1.5) * q0;
    v[1] = p1 + p0;
    v[2] = p1 - p0;
    v[3] = q1 + REAL(2.0) * q0;
    v[4] = q1 - REAL(0.5) * q0;
    v[5] = d[1] + d[5] - REAL(2.0) * d[3] + REAL(1.5) * q1;
}

/* G g */
ALWAYS_INLINE void weight_points(const enum kind kind, const vec *g, vec *u)
{
    if (kind == F2_3_STRIDED) {
        u[0] = g[0], u[1] = g[1], u[2] = g[0] + g[2], u[3] = g[2], u[4] = g[1];
        return;
    }
    if (kind == F3_2 || kind == F3_4_STRIDED) {
        const int apart = kind == F3_2 ? 1 : 2;
        UNROLL for (int i = 0; i < apart; i++) {
            const vec a = REAL(0.5) * g[i], b = REAL(0.5) * g[apart + i];
            u[i] = g[i], u[apart + i] = a + b, u[2 * apart + i] = a - b, u[3 * apart + i] = g[apart + i];
        }
        return;
    }
    if (kind == F2_3) {
        const vec s = REAL(0.5) * (g[0] + g[2]), h = REAL(0.5) * g[1];
        u[0] = g[0], u[1] = s + h, u[2] = s - h, u[3] = g[2];
        return;
    }
    if (kind == F2_5) {
        const vec even = (g[0] + g[2] + g[4]) * REAL(0.33333333333333333333), odd = (g[1] + g[3]) * REAL(0.33333333333333333333);
        u[0] = g[0];
        u[1] = even + odd;
        u[2] = odd - even;
        u[3] = REAL(-0.06666666666666666667) * ((REAL(16.0) * g[0] + REAL(8.0) * g[1]) + (REAL(4.0) * g[2] + REAL(2.0) * g[3]) + g[4]);
        u[4] = REAL(0.06666666666666666667) * ((g[0] - REAL(2.0) * g[1]) + (REAL(4.0) * g[2] - REAL(8.0) * g[3]) + REAL(16.0) * g[4]);
        u[5] = g[4];
        return;
    }
    const vec s = (g[0] + g[2]) * REAL(0.33333333333333333333), h = g[1] * REAL(0.33333333333333333333);
    u[0] = g[0];
    u[1] = s + h;
    u[2] = h - s;
    u[3] = REAL(-0.26666666666666666667) * (REAL(4.0) * g[0] + REAL(2.0) * g[1] + g[2]);
    u[4] = REAL(0.06666666666666666667) * (g[0] - REAL(2.0) * g[1] + REAL(4.0) * g[2]);
    u[5] = g[2];
}

/* A' s, the outputs */
ALWAYS_INLINE void output_points(const enum kind kind, const vec *s, vec *y)
{
    if (kind == F2_3_STRIDED) {
        y[0] = s[0] + s[1], y[1] = s[1] + s[2];
        return;
    }
    const vec a = s[1] + s[2], b = s[1] - s[2];
    if (kind == F3_2 || kind == F3_4_STRIDED) {
        y[0] = s[0] + a, y[1] = b, y[2] = a + s[3];
        return;
    }
    if (kind == F2_3) {
        y[0] = s[0] + a, y[1] = b + s[3];
        return;
    }
    y[0] = s[0] + a + (s[3] + s[4]);
    if (kind == F2_5) {
        y[1] = b + (REAL(0.5) * s[3] - REAL(2.0) * s[4]) + s[5];
        return;
    }
    y[1] = b + (REAL(0.5) * s[3] - REAL(2.0) * s[4]);
    y[2] = a + (REAL(0.25) * s[3] + REAL(4.0) * s[4]);
    y[3] = b + (REAL(0.125) * s[3] - REAL(8.0) * s[4]) + s[5];
}

/* G g of F(3, m), and of F(5, 2): g of m gradients of what `kind` computes */
ALWAYS_INLINE void gradient_points(const enum kind kind, const vec *g, vec *u)
{
    if (kind == F2_5) {
        const vec a = REAL(0.33333333333333333333) * g[0], b = REAL(0.33333333333333333333) * g[1];
        u[0] = g[0], u[1] = a + b, u[2] = b - a;
        u[3] = REAL(-0.53333333333333333333) * (REAL(2.0) * g[0] + g[1]);
        u[4] = REAL(0.06666666666666666667) * (g[0] - REAL(2.0) * g[1]);
        u[5] = g[1];
        return;
    }
    if (kind == F2_3) {
        u[0] = g[0], u[1] = REAL(0.5) * (g[0] + g[1]), u[2] = REAL(0.5) * (g[0] - g[1]), u[3] = g[1];
        return;
    }
    const vec s = (g[0] + g[2]) * REAL(0.33333333333333333333), h = (g[1] + g[3]) * REAL(0.33333333333333333333);
    u[0] = g[0];
    u[1] = s + h;
    u[2] = h - s;
    u[3] = REAL(-0.13333333333333333333) * (REAL(8.0) * g[0] + REAL(4.0) * g[1] + (REAL(2.0) * g[2] + g[3]));
    u[4] = REAL(0.06666666666666666667) * ((g[0] - REAL(2.0) * g[1]) + (REAL(4.0) * g[2] - REAL(8.0) * g[3]));
    u[5] = g[3];
}

/* A' s of F(3, m), and of F(5, 2): the taps */
ALWAYS_INLINE void tap_points(const enum kind kind, const vec *s, vec *y)
{
    const vec a = s[1] + s[2], b = s[1] - s[2];
    if (kind == F2_3) {
        y[0] = s[0] + a, y[1] = b, y[2] = a + s[3];
        return;
    }
    y[0] = s[0] + a + (s[3] + s[4]);
    y[1] = b + (REAL(0.5) * s[3] - REAL(2.0) * s[4]);
    y[2] = a + (REAL(0.25) * s[3] + REAL(4.0) * s[4]);
    if (kind == F4_3) {
        y[2] = y[2] + s[5];
        return;
    }
    y[3] = b + (REAL(0.125) * s[3] - REAL(8.0) * s[4]);
    y[4] = a + (REAL(0.0625) * s[3] + REAL(16.0) * s[4]) + s[5];
}

/* Rows, or columns, that one phase of dilated windows sees: every spread-th from `from` on, as an axis of its own without gaps. */
struct along { long from, in, before, out; };

/* A map cut into tiles of m x m outputs, numbered along images, planes, phases of rows, of columns, rows, columns; read through windows (the input of a
 * convolution) or cell by cell (the gradient of its result). Windows with gaps make spread x spread independent maps of every plane. */
struct tiles {
    struct windows w;
    enum kind kind;
    int flat;           /* windows of one row */
    int m, reach;       /* results along a row, and cells read; of a gradient the same */
    int high, tall;     /* rows of results, and rows read */
    struct along along[2][CNN_MOST_SPREAD];
    long rows, columns; /* tiles of a map */
    long count;
    int in_place;       /* channels are neighbours and whole vectors: read where they are */
};

/* For windows of one cell: the gradient of the result that `kind` computes. */
struct tiles FN(cut_tiles)(const struct windows *w, int flat, enum kind kind);
size_t FN(tiles_scratch)(const struct tiles *t); /* bytes for the copy and a row of zeros */

/* Transforms channels [channel, channel + channels) of tiles [first, first + count), of the planes that tap `tap` of the first axis sees:
 * to[point * point_pitch + (tile - first) * pitch + c], zeros from `channels` up to whole vectors. */
void FN(transform_tiles)(const struct tiles *t, const real *x, long first, long count, long tap, long channel, long channels, char *scratch, real *to,
                         long pitch, long point_pitch);

/* Where tile `number` stands: image, plane, phases, and its first row and column of the map. */
struct place { long image, plane, phase[2], row, column; };
ALWAYS_INLINE struct place place_of(const struct tiles *t, long number)
{
    const long column = number % t->columns, row = number / t->columns % t->rows;
    struct place at = {.row = row * t->high, .column = column * t->m};
    number = number / t->columns / t->rows;
    if (t->w.spread[1] * t->w.spread[2] > 1) {
        at.phase[1] = number % t->w.spread[2], number /= t->w.spread[2];
        at.phase[0] = number % t->w.spread[1], number /= t->w.spread[1];
    }
    at.image = number / t->w.out[0], at.plane = number % t->w.out[0];
    return at;
}

/* Reals from one point to the next: 64 bytes more than the points hold. Without them a power of two would put the stores of
 * one transform into one set of the first cache. */
ALWAYS_INLINE long point_pitch(long reals) { return round_up(reals, LANES) + 64 / (long)sizeof(real); }

#endif
