/* pointwise.h: 1x1 convolutions of planes: images in C order, whose pixels are neighbours in memory, and so are those of y. */
#ifndef CNN_POINTWISE_H
#define CNN_POINTWISE_H

#include "product.h"

/* Whether this way is taken. Its sums have the order of every other product, so the bits do not depend on it. */
int FN(pointwise_planes)(const struct product *p);
size_t FN(pointwise_scratch)(const struct product *p, int workers);
void FN(pointwise_run)(const struct product *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run);

#endif
