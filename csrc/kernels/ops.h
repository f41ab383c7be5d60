/* ops.h: declares every entry of ops.def for this variant. An entry reads its arrays in the order that ops.def lists. */
#ifndef CNN_KERNELS_OPS_H
#define CNN_KERNELS_OPS_H

#include "../base/parallel.h"
#include "../base/problem.h"
#include "../base/real.h"
#include "../base/variants.h"

#define CNN_ENTRY(name, problem, arrays)                                             \
    void FN(name)(const void *problem, void *const *array, struct cnn_run *run);     \
    size_t FN(name##_scratch)(const void *problem, int workers);
#include "../ops.def"
#undef CNN_ENTRY

struct cnn_conv_traits FN(conv_traits)(const struct cnn_conv *problem);
void FN(update_weight)(const struct cnn_conv *p, void *const *array, int update, const struct cnn_update *rule, void *const *state, struct cnn_run *run);

/* What update entry `update` does to parameters [first, first + count), whose gradients are g[0..count); state: its arrays, g apart. */
void FN(update_some)(int update, const struct cnn_update *p, void *const *state, const real *g, long first, long count);
int FN(update_arrays)(int update); /* in its state */

#endif
