/* machine.h: what the processor has and how much of it this process may use. Read once, never guessed from a model name. */
#ifndef CNN_MACHINE_H
#define CNN_MACHINE_H

#include <stddef.h>

enum cnn_isa { CNN_BASE, CNN_AVX2, CNN_AVX512, CNN_ISA_COUNT };

struct cnn_machine {
    enum cnn_isa isa;       /* the best instruction set that processor and operating system support */
    size_t l1, l2, l3;      /* bytes a core sees; l3 clamped to 16 MB, virtual machines report nonsense */
    int processors;         /* allowed by affinity and by the cgroup's quota, at least 1 */
    size_t memory;          /* bytes of the machine or of the cgroup, whichever is smaller */
};

const struct cnn_machine *cnn_machine(void);
const char *cnn_isa_name(enum cnn_isa isa);

/* Every region computes in the default floating-point state (round to nearest, subnormals kept, nothing trapped) and gives
 * the caller's back: another library's flush-to-zero does not reach our numbers, ours would not reach anybody's. */
unsigned long cnn_float_enter(void);
void cnn_float_leave(unsigned long state);

double cnn_now(void); /* seconds, monotonic */

#endif
