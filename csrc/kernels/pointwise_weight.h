/* pointwise_weight.h: the weight gradient of a 1x1 convolution. */
#ifndef CNN_POINTWISE_WEIGHT_H
#define CNN_POINTWISE_WEIGHT_H

#include "../base/parallel.h"
#include "../base/problem.h"
#include "../base/real.h"

/* Whether this way is taken: by the shape, and because dw is in C order. */
int FN(pointwise)(const struct cnn_conv *p);
size_t FN(pointwise_weight_scratch)(const struct cnn_conv *p, int workers);
void FN(pointwise_weight)(const struct cnn_conv *p, const real *x, const real *dy, real *dw, real *db, struct cnn_run *run);

#endif
