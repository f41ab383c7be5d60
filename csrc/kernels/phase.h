/* phase.h: which taps reach which cells of an input, for the gradients of convolutions with a stride. */
#ifndef CNN_PHASE_H
#define CNN_PHASE_H

#include "../base/problem.h"
#include "../base/real.h"

ALWAYS_INLINE long greatest_divisor(long a, long b)
{
    while (b) {
        const long r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* The gradient at every stride-th input cell is a convolution of its own, of stride 1, by the taps that reach those cells,
 * read backwards: no zeros are inserted between the cells of dy. */
struct phase {
    long first_tap, tap_step; /* of w, in the order of the product */
    long taps, spread, before;
    long count;               /* input cells */
};

/* The cells first, first + stride, first + 2*stride ... of axis a. */
static inline struct phase find_phase(const struct cnn_conv *p, int a, long first)
{
    const long stride = p->stride[a], dilation = p->dilation[a], apart = stride / greatest_divisor(stride, dilation);
    const long phase = (first + p->before[a]) % stride, t0 = (first + p->before[a]) / stride;
    struct phase f = {.spread = apart * dilation / stride, .tap_step = -apart};
    const long search = min_long(p->window[a], apart);
    long r0 = 0;
    while (r0 < search && r0 * dilation % stride != phase)
        r0++;
    f.taps = r0 < search ? (p->window[a] - 1 - r0) / apart + 1 : 0;
    f.first_tap = r0 + (f.taps - 1) * apart;
    f.count = (p->in[a] - 1 - first) / stride + 1;
    f.before = f.taps ? (r0 * dilation - phase) / stride + (f.taps - 1) * f.spread - t0 : 0;
    return f;
}

#endif
