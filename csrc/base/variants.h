/* variants.h: the kernel entries of one dtype for one instruction set, and which set runs. */
#ifndef CNN_VARIANTS_H
#define CNN_VARIANTS_H

#include <stddef.h>

#include "machine.h"
#include "parallel.h"
#include "problem.h"

enum cnn_entry_number {
#define CNN_ENTRY(name, problem, arrays) CNN_##name,
#include "../ops.def"
#undef CNN_ENTRY
    CNN_ENTRIES
};

/* problem: the struct that ops.def names; array: its arrays, in order; run: threads, scratch and poll. */
typedef void cnn_entry(const void *problem, void *const *array, struct cnn_run *run);
typedef size_t cnn_scratch(const void *problem, int workers);

/* What the convolution of a problem can do beside computing: bytes of packed weights (0: it takes them only as they are), and whether
 * its forward and its input gradient can add to what is there. */
struct cnn_conv_traits {
    size_t packed_bytes;
    int forward_accumulates, input_accumulates;
    int weight_updates; /* its weight gradient can be applied piece by piece while it is computed: see update_weight */
};

struct cnn_variant {
    cnn_entry *entry[CNN_ENTRIES];
    cnn_scratch *scratch[CNN_ENTRIES];
    struct cnn_conv_traits (*conv_traits)(const struct cnn_conv *problem);
    /* conv_backward_weight(problem, array), then the update entry of the weights, in one pass: the same bits. Where weight_updates says so. */
    void (*update_weight)(const struct cnn_conv *problem, void *const *array, int update, const struct cnn_update *rule, void *const *state, struct cnn_run *run);
};

enum cnn_dtype { CNN_F32, CNN_F64 };

/* The variant that runs. At first the best that the machine has; cnn_choose picks another, 0 where it was not compiled or
 * the machine lacks it. */
const struct cnn_variant *cnn_variant(enum cnn_dtype dtype);
int cnn_choose(enum cnn_isa isa);
int cnn_has(enum cnn_isa isa);
int cnn_compiled(enum cnn_isa isa);
enum cnn_isa cnn_chosen(void);
const char *cnn_entry_name(int entry);

#endif
