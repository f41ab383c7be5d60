/* table.c: the table of this variant's entries, in the order of ops.def. */
#include "../base/variants.h"
#include "ops.h"

const struct cnn_variant FN(cnn_variant) = {
    .entry = {
#define CNN_ENTRY(name, problem, arrays) FN(name),
#include "../ops.def"
#undef CNN_ENTRY
    },
    .scratch = {
#define CNN_ENTRY(name, problem, arrays) FN(name##_scratch),
#include "../ops.def"
#undef CNN_ENTRY
    },
    .conv_traits = FN(conv_traits),
    .update_weight = FN(update_weight),
};
