/* conv_scatter.h: the input gradient of a convolution with few input channels. */
#ifndef CNN_CONV_SCATTER_H
#define CNN_CONV_SCATTER_H

#include "../base/parallel.h"
#include "../base/problem.h"
#include "../base/real.h"

/* Whether this way is taken; by the shape alone, since it adds in another order. */
int FN(few_channels)(const struct cnn_conv *p);
size_t FN(scatter_scratch)(const struct cnn_conv *p, int workers);
void FN(scatter_input)(const struct cnn_conv *p, const real *dy, const real *w, const real *bias, real *dx, struct cnn_run *run);

#endif
