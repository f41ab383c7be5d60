/* few_rows.h: dense layers on a few rows: every weight is used a few times only, so memory is what counts. */
#ifndef CNN_FEW_ROWS_H
#define CNN_FEW_ROWS_H

#include "../base/parallel.h"
#include "../base/problem.h"
#include "../base/real.h"

/* Whether this way is taken; by the shape alone. */
int FN(few_rows)(const struct cnn_conv *p);
size_t FN(few_rows_scratch)(const struct cnn_conv *p, int workers); /* of forward and weight */
void FN(few_rows_forward)(const struct cnn_conv *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run);
size_t FN(few_rows_input_scratch)(const struct cnn_conv *p, int workers);
void FN(few_rows_input)(const struct cnn_conv *p, const real *dy, const real *w, const real *bias, real *dx, struct cnn_run *run);
void FN(few_rows_weight)(const struct cnn_conv *p, const real *x, const real *dy, real *dw, real *db, struct cnn_run *run);

#endif
