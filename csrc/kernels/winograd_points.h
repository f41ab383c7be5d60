/* winograd_points.h: Winograd's transforms of one vector of filters, of weights to their points and of sums to outputs. Those of the input: winograd_tiles.c.
 *
 * `kind` and `flat` are constants at every call but those of the two functions at the end, which know them all. */
#ifndef CNN_WINOGRAD_POINTS_H
#define CNN_WINOGRAD_POINTS_H

#include "winograd_tiles.h"

enum { ACROSS = 16, MOST_OUTPUTS = 4 * ACROSS }; /* outputs in a row, and in all, of tiles that leave together */

/* Where the weights of a point lie. Points of one sum are one matrix, `part` reals from each to the next; `sum` reals are kept for every point of the
 * sums before. */
struct places { long sum, part; };

/* G g G': g[tap] rows of reals `step` apart. */
ALWAYS_INLINE void weight_vector(const enum kind kind, const int flat, const real *g, long step, real *to, struct places at)
{
    const struct scheme scheme = scheme_of(kind);
    const int n = scheme.points, taps = scheme.taps, high = flat ? 1 : taps, sums = scheme.sums, bands = flat ? 1 : sums;
    vec half[MOST_POINTS][MOST_WINDOW];
    UNROLL for (int j = 0; j < taps; j++) {
        vec d[MOST_WINDOW], u[MOST_POINTS];
        UNROLL for (int i = 0; i < high; i++)
            d[i] = vec_load(g + (i * taps + j) * step);
        if (flat)
            half[0][j] = d[0];
        else {
            weight_points(kind, d, u);
            UNROLL for (int i = 0; i < n; i++)
                half[i][j] = u[i];
        }
    }
    UNROLL for (int a = 0; a < bands; a++) {
        const int top = flat ? 0 : first_point(kind, a), rows = flat ? 1 : first_point(kind, a + 1) - top;
        UNROLL for (int i = 0; i < rows; i++) {
            vec u[MOST_POINTS];
            weight_points(kind, half[top + i], u);
            UNROLL for (int b = 0; b < sums; b++) {
                const int left = first_point(kind, b), columns = first_point(kind, b + 1) - left, first = top * n + rows * left;
                UNROLL for (int j = 0; j < columns; j++)
                    vec_store(to + first * at.sum + (i * columns + j) * at.part, u[left + j]);
            }
        }
    }
}

/* A' M A + bias of one tile, or A' M + bias of a flat one: y[row * across + column]. */
ALWAYS_INLINE void output_vector(const enum kind kind, const int flat, const real *from, long pitch, vec bias, const long across, vec *y)
{
    const struct scheme scheme = scheme_of(kind);
    const int n = scheme.sums, m = scheme.outputs, high = flat ? 1 : m, bands = flat ? 1 : n;
    vec half[4][MOST_SUMS];
    UNROLL for (int j = 0; j < n; j++) {
        vec d[MOST_SUMS], v[4];
        UNROLL for (int i = 0; i < bands; i++)
            d[i] = vec_load(from + (i * n + j) * pitch);
        if (flat)
            half[0][j] = d[0];
        else {
            output_points(kind, d, v);
            UNROLL for (int i = 0; i < m; i++)
                half[i][j] = v[i];
        }
    }
    UNROLL for (int i = 0; i < high; i++) {
        vec v[4];
        output_points(kind, half[i], v);
        UNROLL for (int j = 0; j < m; j++)
            y[i * across + j] = v[j] + bias;
    }
}

#define EVERY_KIND(call)                          \
    switch (kind) {                               \
    case F2_3: call(F2_3); break;                 \
    case F4_3: call(F4_3); break;                 \
    case F3_2: call(F3_2); break;                 \
    case F2_3_STRIDED: call(F2_3_STRIDED); break; \
    case F3_4_STRIDED: call(F3_4_STRIDED); break; \
    case F2_5: call(F2_5); break;                 \
    case NO_WINOGRAD: break;                      \
    }

/* `reals` weights of every tap, [tap][real], to their points. */
static inline void weights_to_points(enum kind kind, int flat, const real *g, long reals, real *to, struct places at)
{
#define WEIGHTS(kind) flat ? weight_vector(kind, 1, g + i, reals, to + i, at) : weight_vector(kind, 0, g + i, reals, to + i, at)
    for (long i = 0; i < reals; i += LANES)
        EVERY_KIND(WEIGHTS)
#undef WEIGHTS
}

/* The sums of neighbouring tiles, `width` reals apart, to block[row * across + column]; across: ACROSS, or the outputs of one tile that is not flat. */
static inline void sums_to_outputs(enum kind kind, int flat, const real *m, long tiles, long width, long pitch, vec bias, long across, vec *block)
{
    const long outputs = scheme_of(kind).outputs;
#define OUTPUTS(kind)                                                              \
    if (flat)                                                                      \
        output_vector(kind, 1, m, pitch, bias, ACROSS, block);                     \
    else if (across == ACROSS)                                                     \
        output_vector(kind, 0, m, pitch, bias, ACROSS, block);                     \
    else                                                                           \
        output_vector(kind, 0, m, pitch, bias, scheme_of(kind).outputs, block)
    for (long i = 0; i < tiles; i++, m += width, block += outputs)
        EVERY_KIND(OUTPUTS)
#undef OUTPUTS
}

#endif
