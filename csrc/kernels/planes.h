/* planes.h: operations on each channel alone, for images whose channels are not neighbours in memory.
 *
 * Pools and resizing compute with channels in the lanes. Other memory orders go through a worker's cache: the planes of a
 * few channels are turned into [cell][channel], computed there, and turned back. */
#ifndef CNN_PLANES_H
#define CNN_PLANES_H

#include "../base/parallel.h"
#include "../base/real.h"

/* An image [n][c][size] with strides in that order. */
struct plane_image {
    const long *size, *stride;
};
ALWAYS_INLINE long plane_cells(const long size[3]) { return size[0] * size[1] * size[2]; }

/* `channels` planes of image n from channel c on, to [cell][channels], and back. */
void FN(gather_planes)(struct plane_image image, const real *x, long n, long c, long channels, real *to);
void FN(scatter_planes)(struct plane_image image, const real *from, long n, long c, long channels, real *y);

/* Neighbouring cells of a row of `channels` planes, dc and dw apart, to [cell][channels]. */
void FN(gather_cells)(const real *x, long dc, long dw, long cells, long channels, real *to);

/* Computes image n's channels [c, c + channels) from and to [cell][channels] memory. */
struct planes;
typedef void plane_function(const struct planes *s, long n, long c, long channels, const real *from, real *to, struct cnn_run *run);

struct planes {
    long n, c;
    struct plane_image in, out; /* of x and y */
    const real *x;
    real *y;
    plane_function *compute;
    const void *context;
    size_t scratch; /* bytes that `compute` needs */
    double work;    /* nanoseconds in all */
};

size_t FN(planes_scratch)(const struct planes *s, int workers);
void FN(planes_run)(const struct planes *s, struct cnn_run *run);

/* Dense strides n, c, d, h, w of [cell][channels] memory. */
ALWAYS_INLINE void dense_strides(const long size[3], long channels, long to[5])
{
    to[0] = plane_cells(size) * channels, to[1] = 1, to[4] = channels, to[3] = size[2] * channels, to[2] = size[1] * to[3];
}

#endif
