/* few_rows.h: dense layers on a few rows: every weight is used a few times only, so memory is what counts. */
#ifndef CNN_FEW_ROWS_H
#define CNN_FEW_ROWS_H

#include "../base/parallel.h"
#include "../base/problem.h"
#include "../base/real.h"

/* Whether this way is taken; by the shape alone. */
int FN(few_rows)(const struct cnn_conv *p);
size_t FN(few_rows_scratch)(const struct cnn_conv *p, int workers);
void FN(few_rows_forward)(const struct cnn_conv *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run);
size_t FN(few_rows_input_scratch)(const struct cnn_conv *p, int workers);
size_t FN(few_rows_weight_scratch)(const struct cnn_conv *p, int workers);
void FN(few_rows_input)(const struct cnn_conv *p, const real *dy, const real *w, const real *bias, real *dx, struct cnn_run *run);

/* An update of the weights, which takes each piece of the gradient while it is in the first cache. */
struct few_rows_update {
    int entry, arrays;
    const struct cnn_update *rule;
    void *const *state;
};
void FN(few_rows_weight)(const struct cnn_conv *p, const real *x, const real *dy, real *dw, real *db, const struct few_rows_update *then, struct cnn_run *run);

#endif
