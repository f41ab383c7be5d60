/* box.h: a box of output cells and the box of input cells under it.
 *
 * Convolutions and pools work box by box. The input cells that the windows of a box reach are copied to contiguous
 * [image][plane][row][column][channel] memory that fits a cache, borders filled by the padding's rule. After that no kernel
 * knows about padding, memory order or strides of the caller's array, and a window's tap is one constant offset. */
#ifndef CNN_BOX_H
#define CNN_BOX_H

#include "../base/problem.h"
#include "../base/real.h"

/* The side of a problem that is read through windows. Axis order d, h, w everywhere. */
struct windows {
    long images, channels;
    long in[3], out[3];            /* cells of the input, cells of the output */
    long taps[3], spread[3];       /* window length and dilation */
    long step[3];                  /* input cells from one output cell to the next */
    long before[3];                /* padding in front; negative crops */
    int mode;                      /* enum cnn_padding_mode */
    long stride[5];                /* of the array: n, c, d, h, w */
};

/* How a convolution reads its x; channels of one group. */
struct windows FN(conv_windows)(const struct cnn_conv *p);

/* A range of output cells: `size` cells from `begin` on every axis, and of images. */
struct box {
    long image, images;
    long begin[3], size[3];
};

/* How the outputs of a problem are cut: `count` boxes along images, d, h, w, each at most `size` long. */
struct boxes {
    long count[4], size[4];
    long total;
};

/* Cuts so that a box has at most `cells` output cells (at least one) and its input at most `reals` reals of `channels`
 * channels, if one row of windows allows that. */
struct boxes FN(cut_boxes)(const struct windows *w, long cells, long channels, double reals);
struct box FN(box_at)(const struct windows *w, const struct boxes *b, long index);

/* Memory of an input box: distances, in reals, between neighbours. */
struct pitch {
    long pixel, row, plane, image, size;
};
ALWAYS_INLINE long box_extent(const struct windows *w, int axis, long cells)
{
    return cells > 0 ? (cells - 1) * w->step[axis] + (w->taps[axis] - 1) * w->spread[axis] + 1 : 0;
}
struct pitch FN(box_pitch)(const struct windows *w, long images, const long size[3], long pixel);

/* Copies some rows of the box's input, numbered through all its planes and images, p.row from one to the next and pixels p.pixel apart. */
void FN(box_copy_rows)(const struct windows *w, const struct box *b, const real *x, long channel, long channels, long first, long last, struct pitch p,
                       real *to);

/* Copies channels [channel, channel + channels) of the box's input to `to`, pixels p.pixel apart; reals between
 * `channels` and p.pixel stay as they are. */
void FN(box_copy)(const struct windows *w, const struct box *b, const real *x, long channel, long channels, struct pitch p, real *to);

#endif
