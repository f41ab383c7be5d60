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

#endif
