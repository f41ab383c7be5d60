/* problem.h: one plain struct an operation family. Geometry only: no pointers, no dtype; no padding either (`unused` fills it), because
 * recorded problems are compared byte by byte.
 *
 * Windows are three-dimensional; lower ranks have length 1 on the leading axes. Every array comes with its strides, in
 * elements, so C order, channels-last, a flipped kernel (negative strides) and a transposed weight are the same kernel. */
#ifndef CNN_PROBLEM_H
#define CNN_PROBLEM_H

#include <stddef.h>

_Static_assert(sizeof(long) == 8, "sizes are 64-bit longs");

enum cnn_activation { CNN_LINEAR, CNN_RELU };

/* How a convolution is computed; CNN_AUTO chooses by shape and dtype alone. */
enum cnn_algorithm { CNN_AUTO, CNN_DIRECT, CNN_WINOGRAD };

/* What the last one knows: gaps of at most this many cells, and multiples of so many channels where windows have several planes. */
enum { CNN_MOST_SPREAD = 8, CNN_WHOLE_CHANNELS = 16 };

enum cnn_padding_mode { CNN_ZEROS, CNN_REFLECT, CNN_SYMMETRIC, CNN_REPLICATE, CNN_CIRCULAR };

/* The cell of an axis of length m that padded position i (0 is the first real cell) shows, or -1: a zero.
 * mathematics: reflect repeats no edge, symmetric repeats it; all modes repeat as often as needed. */
long cnn_source(int mode, long i, long m);

/* y = x convolved with w. x[n][c][in], w[k][c/groups][window], y[n][k][out]; strides in that order. */
struct cnn_conv {
    long n, c, k, groups;
    long in[3], out[3], window[3], stride[3], dilation[3], before[3];
    int padding_mode;
    int activation;
    int algorithm;
    int packed;     /* forward: w is what conv_pack made of the weights */
    int accumulate; /* forward and input gradient: the result is added to what is there, before the activation; where the traits say so */
    int unused;
    long x[5], w[5], y[5];
};

/* An image[n][c][in] and its padded form[n][c][padded], `before` cells in front (negative: cropped); strides of both. */
struct cnn_pad {
    long n, c;
    long in[3], padded[3], before[3];
    int mode;
    int unused;
    double value; /* of added cells in the mode CNN_ZEROS */
    long image[5], form[5];
};

/* Windows spelled out: columns[n][c * taps + tap][window], taps and windows in scan order, C order. Zeros outside the image. */
struct cnn_unfold {
    long n, c;
    long in[3], out[3], window[3], stride[3], dilation[3], before[3];
    long image[5];
};

/* c[batch][m][n] = a[batch][m][k] b[batch][k][n]; strides in the order of the axes. */
struct cnn_matmul {
    long batch, m, n, k;
    long a[3], b[3], c[3];
};

enum { CNN_FEW_CHANNELS = 8 }; /* so many channels that are neighbours are turned into rows, where lanes are columns */

/* Windows over each channel alone. x[n][c][in], y[n][c][out], index like y. */
struct cnn_pool {
    long n, c;
    long in[3], out[3], window[3], stride[3], dilation[3], before[3], after[3];
    int count_include_pad;
    int adaptive; /* windows follow from the sizes alone; `window` bounds their length */
    int planar;   /* taps[N][C][out], else taps[N][out][C] */
    double norm;  /* of lp pools */
    long x[5], y[5];
};

/* One layer of a recurrent network in one direction. x[n][t][inputs], y[n][t][outputs] with their strides of sample and time, features
 * side by side; outputs = projected, or units without a projection. Rows are packed: step s holds the samples order[i] whose length is
 * above s, longest first; sample n is at time s then, or at its length - 1 - s in reverse. */
enum cnn_cell { CNN_RNN_TANH, CNN_RNN_RELU, CNN_LSTM, CNN_GRU };
struct cnn_recurrent {
    int cell, reverse;
    long samples, steps, inputs, units, projected;
    long packed; /* rows of all steps, the sum of the lengths */
    long x[2], y[2];
};

/* Attention of q[batch][heads][l][e] to k[batch][heads][s][e] with values v[batch][heads][s][w], y[batch][heads][l][w]: strides of batch, head and
 * row, features side by side; the mask of a head by strides of row and key. */
struct cnn_attention {
    long batch, heads, l, s, e, w;
    long q[3], k[3], v[3], y[3];
    long mask[2];
    int causal;
    int unused;
    double scale;
};

/* Resizing: every axis by itself, y = A x. x[n][c][in], y[n][c][out]. */
enum cnn_resize_mode { CNN_NEAREST, CNN_NEAREST_EXACT, CNN_LINEAR_RESIZE, CNN_CUBIC };
struct cnn_resize {
    long n, c;
    long in[3], out[3];
    int mode, align_corners;
    double ratio[3]; /* input cells an output cell; 0: in / out, exactly */
    long x[5], y[5];
};

enum { CNN_CHAINS = 12 }; /* sums of the probe side by side, each a vector */

/* A flat array of `size` elements; a, b: what the function takes beside them. */
struct cnn_map {
    long size;
    double a, b;
};

/* Normalisation of x[n][c][s] by the mean and variance of sets, in C order or channels-last, no gaps. */
struct cnn_norm {
    long n, c, s;
    long groups;       /* sets of an image, c / groups channels each; a batch norm's sets are the channels of all images */
    int channels_last;
    int centred;       /* 0: the mean counts as 0 (root mean square) */
    int trained;       /* backward: mean and variance came from x */
    int activation;
    double epsilon;
    long window;       /* of local response normalisation: channels summed */
    double alpha, beta, k;
};

/* Rows of a table by number: y[count][width] = table[index[count]][width]; the table has `rows`. */
struct cnn_lookup {
    long rows, count, width;
};

/* Element i of x[n][c][s] is kept where the random number of its logical C-order position, or of its (n, c), is at least `share`. */
struct cnn_dropout {
    long n, c, s;
    int channels_last;
    int whole_channels;
    double share;
    unsigned long key;
};

/* A loss element by element of input and target, then reduced. */
enum cnn_loss { CNN_MSE, CNN_L1, CNN_HUBER, CNN_BINARY_CROSS_ENTROPY, CNN_KL_DIV };
struct cnn_loss_map {
    long size;
    int kind, reduction; /* enum cnn_loss, enum cnn_reduction */
    double delta;
};

/* A logical array of up to 8 axes read with strides x, written or read with strides y. */
struct cnn_array {
    int rank;
    int unused;
    long shape[8], x[8], y[8];
};

/* y = a op b, element by element of a logical array; strides 0 where an operand is broadcast. An absent operand is a number. */
enum cnn_operator { CNN_ADD, CNN_SUBTRACT, CNN_MULTIPLY, CNN_DIVIDE, CNN_MAXIMUM, CNN_SQUARE_ROOT, CNN_ADD_RELU };
struct cnn_binary {
    int operator, rank;
    long shape[8], a[8], b[8], y[8];
    double a_number, b_number;
};

/* y = x, flat arrays of `size` elements, x of another type. */
enum cnn_source { CNN_INT8, CNN_UINT8, CNN_INT16, CNN_UINT16, CNN_INT32, CNN_UINT32, CNN_INT64, CNN_UINT64, CNN_FLOAT32, CNN_FLOAT64 };
struct cnn_convert {
    long size;
    int source;
    int unused;
};

/* running = (1 - momentum) running + momentum statistic, of `size` channels; the variance of `count` values enters unbiased. */
struct cnn_running {
    long size, count;
    double momentum;
};

/* Sums (or maxima) over the middle axis: x[outer][axis][inner] in C order. */
struct cnn_reduce {
    long outer, axis, inner;
};

/* Losses over classes: logits[rows][classes][inner] in C order, target[rows][inner]. */
struct cnn_cross_entropy {
    long rows, classes, inner;
    double label_smoothing;
    long ignore_index;
    int probabilities; /* the target has the shape of the logits */
    int logarithms;    /* the logits are log-probabilities already */
    int reduction;     /* enum cnn_reduction */
    int unused;
};
enum cnn_reduction { CNN_MEAN, CNN_SUM, CNN_NONE };

/* One update of a parameter of `size` elements. Scalars are float64 and rounded once to the parameter's dtype. */
struct cnn_update {
    long size;
    int nesterov, first, decoupled, centered;
    double rate, momentum, weight_decay;
    double beta1, beta2, epsilon, correction1, correction2;
};

#endif
