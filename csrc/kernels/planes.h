/* planes.h: operations on each channel alone, for images whose memory order is not that of the loops.
 *
 * Pools and resizing compute with channels in the lanes. Other memory orders go through a worker's cache: the planes of a
 * few channels are turned into [cell][channel], computed there, and turned back. Images of few channels that are neighbours would leave lanes empty: they
 * are turned the other way, into [channel][cell], for loops over rows. */
#ifndef CNN_PLANES_H
#define CNN_PLANES_H

#include "../base/parallel.h"
#include "../base/problem.h"
#include "../base/real.h"

/* An image [n][c][size] with strides in that order. */
struct plane_image {
    const long *size, *stride;
};
ALWAYS_INLINE long plane_cells(const long size[3]) { return size[0] * size[1] * size[2]; }

/* `channels` planes of image n from channel c on, to [cell][channels], and back. */
void FN(gather_planes)(struct plane_image image, const real *x, long n, long c, long channels, real *to);
void FN(scatter_planes)(struct plane_image image, const real *from, long n, long c, long channels, real *y);

enum { TURNED_AT_ONCE = 8 * LINE }; /* neighbouring cells worth turning together */

/* Neighbouring cells of a row of `channels` planes, dc and dw apart, to cells `pitch` apart. */
void FN(gather_cells)(const real *x, long dc, long dw, long cells, long channels, long pitch, real *to);
/* The same of `rows` rows whose cells are neighbours, dh apart, to rows `row_pitch` apart. */
void FN(gather_rows)(const real *x, long dc, long dh, long rows, long cells, long channels, long pitch, long row_pitch, real *to);
void FN(scatter_cells)(const real *from, long dc, long dw, long cells, long channels, real *y); /* from [cell][channels] */

/* 2 to CNN_FEW_CHANNELS channels, fewer than lanes, whose pixels lie side by side; and x and y of an image so small that both are turned in a cache. */
enum { MOST_TURNED = (1 << 20) / (int)sizeof(real) };
ALWAYS_INLINE int few_channels(const long stride[5], long channels)
{
    return channels > 1 && channels <= CNN_FEW_CHANNELS && channels < LANES && stride[1] == 1 && stride[4] == channels;
}
ALWAYS_INLINE int few_planes(struct plane_image x, struct plane_image y, long channels)
{
    return few_channels(x.stride, channels) && few_channels(y.stride, channels) &&
           (double)channels * (double)(plane_cells(x.size) + plane_cells(y.size)) <= MOST_TURNED;
}

/* `cells` neighbouring pixels of few channels, to rows `apart` reals from each other, and back. */
void FN(gather_few)(const real *x, long cells, long channels, long apart, real *to);
void FN(scatter_few)(const real *from, long cells, long channels, long apart, real *y);

/* Computes image n's channels [c, c + channels) from and to [cell][channels] memory; of few channels all, [channels][cell]. */
struct planes;
typedef void plane_function(const struct planes *s, long n, long c, long channels, const real *from, real *to, struct cnn_run *run);

/* Planes that are turned together: a vector of them, of small ones up to four. */
ALWAYS_INLINE long planes_together(const long in[3], const long out[3], long channels)
{
    const long fit = 8192 / LANES / max_long(1, plane_cells(in) + plane_cells(out));
    return max_long(1, min_long(channels, min_long(4, max_long(1, fit)) * LANES));
}

struct planes {
    long n, c;
    int few;
    long together; /* channels of a block */
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

/* The same of [channel][cell] memory. */
ALWAYS_INLINE void row_strides(const long size[3], long channels, long to[5])
{
    to[0] = plane_cells(size) * channels, to[1] = plane_cells(size), to[2] = size[1] * size[2], to[3] = size[2], to[4] = 1;
}

#endif
