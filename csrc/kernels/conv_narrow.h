/* conv_narrow.h: convolutions with few filters. */
#ifndef CNN_CONV_NARROW_H
#define CNN_CONV_NARROW_H

#include "../base/parallel.h"
#include "../base/problem.h"
#include "../base/real.h"

/* Whether this way is taken; by the shape alone. The forward sum has the order of every other direct convolution. */
int FN(few_filters)(const struct cnn_conv *p);
size_t FN(narrow_forward_scratch)(const struct cnn_conv *p, int workers);
void FN(narrow_forward)(const struct cnn_conv *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run);
/* The input gradient of as few channels, where it is such a convolution of dy with the kernel turned round. */
int FN(narrow_input_takes)(const struct cnn_conv *p);
size_t FN(narrow_input_scratch)(const struct cnn_conv *p, int workers);
void FN(narrow_input)(const struct cnn_conv *p, const real *dy, const real *w, const real *bias, real *dx, struct cnn_run *run);
size_t FN(narrow_weight_scratch)(const struct cnn_conv *p, int workers);
void FN(narrow_weight)(const struct cnn_conv *p, const real *x, const real *dy, real *dw, real *db, struct cnn_run *run);

#endif
