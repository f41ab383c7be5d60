/* product.h: a convolution-shaped matrix product over strided arrays, the engine behind convolution forward, its input
 * gradient, transposed convolution, dense layers and matrix products (one cell a window).
 *
 *     y[n][g*F + f][p] = activation(bias[g*F + f] + sum over c < C, r of  w[g][f][c][r] * x[n][g*C + c][p*step + r*spread - before])
 *
 * The sum runs in the order (chunk of 256 channels, r, c), one fused multiply-add a term. */
#ifndef CNN_PRODUCT_H
#define CNN_PRODUCT_H

#include "../base/parallel.h"
#include "box.h"

enum { CHUNK = 256, PACKED = 4 << 20 }; /* channels of a chunk; bytes of weights that are packed at once */

/* Products of the same x whose results take turns in y, `count` of them along an axis (0 is 1): phase i of axis a sums taps [first, first + taps) of the
 * windows, its weights begin `w` reals behind those of the product, its results i * y. */
enum { PHASES = 8 };
struct phases {
    long count[3], y[3];
    struct { long first, taps, w; } axis[3][PHASES];
};

struct product {
    struct windows in; /* channels: those of one group */
    long groups, filters;
    long x_group, y_group, w_group; /* from one group to the next, in reals */
    long y[5], w[5];                /* strides: n, f, d, h, w of y; f, c, taps of w */
    struct phases phases;
    int activation;
    int algorithm;                  /* enum cnn_algorithm: what the caller asked for */
    int packed;                     /* w is what the pack function made of the weights */
    int accumulate;                 /* the sums start from y; only where filters are neighbours in y */
};

ALWAYS_INLINE long phases_of(const struct product *p)
{
    const long *count = p->phases.count;
    return max_long(1, count[0]) * max_long(1, count[1]) * max_long(1, count[2]);
}

/* Filters come in panels of TILE_WIDTH, the last one perhaps of LANES. */
ALWAYS_INLINE long panel_width(const struct product *p, long panel)
{
    return p->filters - panel * TILE_WIDTH > LANES ? TILE_WIDTH : LANES;
}

/* Packs `channels` channels from c0 on of a panel as [tap][channel][width], zeros beyond the last filter. */
void FN(pack_weights)(const struct product *p, const real *w, long group, long panel, long c0, long channels, real *to);

/* `channels` channels from c0 on of a panel of a weight gradient, [tap][channel][width] (`taps_run` taps of a row beside each other in a row of
 * the sums; NULL: zeros), to dw. */
void FN(unpack_weights)(const struct cnn_conv *p, long group, long panel, long c0, long channels, const real *from, long taps_run, real *dw);

/* Weights of all groups and panels in the order in which they are used, for any number of calls. */
size_t FN(product_packed)(const struct product *p); /* bytes */
void FN(product_pack)(const struct product *p, const real *w, real *packed, struct cnn_run *run);

size_t FN(product_scratch)(const struct product *p, int workers);
void FN(product_run)(const struct product *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run);

#endif
