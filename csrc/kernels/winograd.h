/* winograd.h: convolutions by 2 x 2, 3 x 3 and 5 x 5 cells, or some planes of them, with gaps or without, and by 3 x 3 and 4 x 4 with a stride of 2, by a
 * fraction of the multiplications. */
#ifndef CNN_WINOGRAD_H
#define CNN_WINOGRAD_H

#include "product.h"

/* The kind of Winograd's algorithm (enum kind of winograd_tiles.h) that computes this product; 0: the direct sum does. Follows from shape, dtype and what
 * the caller asked for, nothing else. */
int FN(winograd_kind)(const struct product *p);

/* The same for the weight gradient of this convolution: F2_3, F4_3, F2_5 or 0. */
int FN(winograd_weight_kind)(const struct cnn_conv *p);

/* Whether the algorithm knows this geometry at all. */
int FN(winograd_fits)(const struct windows *w);

/* Weights for any number of calls: transformed where they fit the cache, else in the order in which they are transformed. */
size_t FN(winograd_packed)(const struct product *p, int kind); /* bytes */
void FN(winograd_pack)(const struct product *p, int kind, const real *w, real *packed, struct cnn_run *run);

size_t FN(winograd_scratch)(const struct product *p, int kind, int workers);
void FN(winograd_run)(const struct product *p, int kind, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run);

size_t FN(winograd_weight_scratch)(const struct cnn_conv *p, int kind, int workers);
void FN(winograd_weight)(const struct cnn_conv *p, int kind, const real *x, const real *dy, real *dw, real *db, struct cnn_run *run);

#endif
