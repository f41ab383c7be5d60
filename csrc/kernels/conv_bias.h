/* conv_bias.h: db[k] = sum over n, p of dy[n][k][p], where nothing else reads dy cell by cell. */
#ifndef CNN_CONV_BIAS_H
#define CNN_CONV_BIAS_H

#include "../base/parallel.h"
#include "../base/problem.h"
#include "../base/real.h"

void FN(conv_bias)(const struct cnn_conv *p, const real *dy, real *db, struct cnn_run *run);

#endif
