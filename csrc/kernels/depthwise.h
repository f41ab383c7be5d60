/* depthwise.h: convolutions of which every channel sees one channel. */
#ifndef CNN_DEPTHWISE_H
#define CNN_DEPTHWISE_H

#include "product.h"

int FN(is_depthwise)(long groups, long channels, long filters);

/* A product of one channel and one filter a group: forward, input gradient and transposed convolution alike. */
size_t FN(depthwise_scratch)(const struct product *p, int workers);
void FN(depthwise_run)(const struct product *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run);

/* The same where rows are contiguous and channels are not neighbours. */
int FN(depthwise_rows_take)(const struct product *p);
size_t FN(depthwise_rows_scratch)(const struct product *p, int workers);
void FN(depthwise_rows)(const struct product *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run);

/* The same for windows of 3 x 3 neighbours, where channels are. */
int FN(depthwise_three_take)(const struct product *p);
size_t FN(depthwise_three_scratch)(const struct product *p);
void FN(depthwise_three)(const struct product *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run);

/* The input gradient with a stride, where channels are neighbours. */
int FN(depthwise_strided_take)(const struct cnn_conv *p);
size_t FN(depthwise_strided_scratch)(const struct cnn_conv *p, int workers);
void FN(depthwise_strided)(const struct cnn_conv *p, const real *dy, const real *w, const real *bias, real *dx, struct cnn_run *run);

size_t FN(depthwise_weight_scratch)(const struct cnn_conv *p, int workers);
void FN(depthwise_weight)(const struct cnn_conv *p, const real *x, const real *dy, real *dw, real *db, struct cnn_run *run);

#endif
