/* window.h: what the bindings of windowed operations share: padding, image shapes, strides, memory order. */
#ifndef CNN_WINDOW_H
#define CNN_WINDOW_H

#include "args.h"

/* How a call pads: amounts an axis, or a rule that follows from the sizes. */
struct padding {
    enum { AMOUNTS, VALID, SAME, FULL } rule;
    long before[3], after[3];
};

int read_padding(const struct frame *f, PyObject *object, int rank, struct padding *to);
int read_mode(const struct frame *f, const char *name, PyObject *object, int *mode);
const char *padding_mode_name(int mode);
void resolve_padding(const struct padding *p, int axis, long in, long extent, long stride, long *before, long *after);

/* x must be (N, C, spatial) or, unbatched, (C, spatial). */
int check_image(const struct frame *f, PyArrayObject *x, int rank);

/* Element strides n, c, d, h, w of such an array; 0 on the axes it lacks. */
void find_strides(PyArrayObject *a, int rank, long to[5]);

/* flip=True reads the kernel backwards: the far corner, negative strides. Returns the offset of that corner. */
long find_weight_strides(PyArrayObject *w, int rank, int flip, long to[5]);
void *at(PyArrayObject *a, long offset);

/* Nanoseconds on one thread, roughly: enough to decide about threads and the GIL. */
double conv_work(const struct cnn_conv *p);
int too_large(const struct frame *f, PyArrayObject *a, const char *name);

/* y = x for images n, c, d, h, w of any strides. */
int copy_image(struct frame *f, const long shape[5], const void *x, const long x_stride[5], void *y, const long y_stride[5]);

/* A new dense channels-last image of that shape, always as (N, C, spatial); one filled from x; and one written to y. */
PyArrayObject *new_together(struct frame *f, int rank, const long shape[5], long stride[5]);
void *dense_together(struct frame *f, PyArrayObject *x, int rank, const long shape[5], long stride[5]);
int store_image(struct frame *f, const long shape[5], const void *from, const long stride[5], PyArrayObject *y, int rank);

#endif
