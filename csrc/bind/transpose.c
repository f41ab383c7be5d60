/* transpose.c: bindings of the transposed convolution. It has no kernel: its forward is a convolution's input gradient, its
 * input gradient the convolution, its weight gradient that of the convolution with x and dy exchanged. */
#include "window.h"

static const char *const names[2][3] = {{"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"},
                                        {"conv_transpose1d_backward", "conv_transpose2d_backward", "conv_transpose3d_backward"}};

struct options {
    int rank, has_size;
    struct padding padding;
    long stride[3], dilation[3], output_padding[3], output_size[3], groups;
    int strict;
};

/* args: stride, padding, output_padding, output_size, dilation, groups, strict */
static int read_options(const struct frame *f, PyObject *const *args, struct options *o)
{
    if (read_longs(f, "stride", args[0], o->rank, 1, LARGEST_INT, o->stride) < 0 || read_padding(f, args[1], o->rank, &o->padding) < 0 ||
        read_longs(f, "output_padding", args[2], o->rank, 0, LARGEST_INT, o->output_padding) < 0 ||
        read_longs(f, "dilation", args[4], o->rank, 1, LARGEST_INT, o->dilation) < 0 || read_long(f, "groups", args[5], 1, LARGEST_INT, &o->groups) < 0 ||
        read_bool(f, "strict", args[6], &o->strict) < 0)
        return -1;
    o->has_size = args[3] != Py_None;
    if (o->has_size && read_longs(f, "output_size", args[3], o->rank, 1, LARGEST_INT, o->output_size) < 0)
        return -1;
    if (o->padding.rule != AMOUNTS) {
        refuse(f, PyExc_ValueError, "padding is a rule, expected amounts: it crops the result here");
        return -1;
    }
    return 0;
}

/* The problem of the convolution whose input gradient this is: its x is our result, its y our x. */
static int find_geometry(const struct frame *f, const struct options *o, PyArrayObject *x, PyArrayObject *w, PyArrayObject *b, struct cnn_conv *p)
{
    const int rank = o->rank, batched = PyArray_NDIM(x) == rank + 2;
    if (check_image(f, x, rank) < 0)
        return -1;
    *p = (struct cnn_conv){.n = batched ? PyArray_DIM(x, 0) : 1, .k = PyArray_DIM(x, batched), .groups = o->groups, .padding_mode = CNN_ZEROS, .algorithm = o->strict ? CNN_DIRECT : CNN_AUTO};
    if (p->k == 0 || p->k % p->groups) {
        refuse(f, PyExc_ValueError, "groups is %ld, expected a divisor of the %ld channels of x", p->groups, p->k);
        return -1;
    }
    if (PyArray_NDIM(w) != rank + 2 || PyArray_DIM(w, 0) != p->k || PyArray_DIM(w, 1) == 0) {
        refuse(f, PyExc_ValueError, "weight has shape %s, expected (%ld, C_out/groups, kernel) with %d axes because x has %ld channels", shape_text(w), p->k,
               rank + 2, p->k);
        return -1;
    }
    p->c = PyArray_DIM(w, 1) * p->groups;
    if (b && (PyArray_NDIM(b) != 1 || PyArray_DIM(b, 0) != p->c)) {
        refuse(f, PyExc_ValueError, "bias has shape %s, expected (%ld,), one value a channel of the result", shape_text(b), p->c);
        return -1;
    }
    for (int a = 0; a < 3 - rank; a++)
        p->in[a] = p->out[a] = p->window[a] = p->stride[a] = p->dilation[a] = 1;
    for (int i = 0; i < rank; i++) {
        const int a = 3 - rank + i, axis = 1 + batched + i;
        const long in = PyArray_DIM(x, axis), window = PyArray_DIM(w, 2 + i), s = o->stride[i], d = o->dilation[i];
        if (window == 0 || in == 0 || in > LARGEST_INT || window > LARGEST_INT) {
            refuse(f, PyExc_ValueError, "x has shape %s and weight %s, expected axes of at least 1", shape_text(x), shape_text(w));
            return -1;
        }
        const long least = (in - 1) * s - o->padding.before[i] - o->padding.after[i] + (window - 1) * d + 1, room = s > d ? s : d;
        const long extra = o->has_size ? o->output_size[i] - least : o->output_padding[i];
        if (o->has_size && (extra < 0 || extra >= room)) {
            refuse(f, PyExc_ValueError, "output_size %ld along axis %d, expected %ld to %ld", o->output_size[i], axis, least, least + room - 1);
            return -1;
        }
        if (extra >= room) {
            refuse(f, PyExc_ValueError, "output_padding %ld along axis %d, expected less than the larger of stride %ld and dilation %ld", extra, axis, s, d);
            return -1;
        }
        if (least + extra < 1) {
            refuse(f, PyExc_ValueError, "no output along axis %d: (%ld - 1) * %ld - (%ld + %ld) + %ld + %ld is %ld", axis, in, s, o->padding.before[i],
                   o->padding.after[i], (window - 1) * d + 1, extra, least + extra);
            return -1;
        }
        p->out[a] = in, p->in[a] = least + extra, p->window[a] = window, p->stride[a] = s, p->dilation[a] = d, p->before[a] = o->padding.before[i];
    }
    return 0;
}

static int result_shape(const struct cnn_conv *p, int rank, int batched, npy_intp shape[5])
{
    if (batched)
        shape[0] = p->n;
    shape[batched] = p->c;
    for (int i = 0; i < rank; i++)
        shape[1 + batched + i] = p->in[3 - rank + i];
    return rank + 1 + batched;
}

/* conv_transpose_forward(rank, x, weight, bias, stride, padding, output_padding, output_size, dilation, groups, strict, out) */
static PyObject *conv_transpose_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "conv_transpose_forward"};
    struct options o = {0};
    struct cnn_conv p;
    PyArrayObject *x, *w, *b, *y;
    long rank;
    npy_intp shape[5];
    if (expect_arguments(&f, n, 12) < 0 || read_long(&f, "rank", args[0], 1, 3, &rank) < 0)
        return NULL;
    f.function = names[0][rank - 1];
    o.rank = (int)rank;
    const struct array_row rows[] = {{"x", args[1], &x, 0}, {"weight", args[2], &w, 0}, {"bias", args[3], &b, 1}};
    if (read_arrays(&f, rows, 3) < 0 || read_options(&f, args + 4, &o) < 0 || find_geometry(&f, &o, x, w, b, &p) < 0 || too_large(&f, x, "x") ||
        too_large(&f, w, "weight"))
        return frame_return(&f, NULL);
    const int batched = PyArray_NDIM(x) == rank + 2, nd = result_shape(&p, o.rank, batched, shape);
    if (check_out(&f, args[11], nd, shape) < 0 || (b && !(b = in_c_order(&f, b))))
        return frame_return(&f, NULL);
    PyArrayObject *const read[] = {x, w, b};
    if (!(y = result_for(&f, args[11], nd, shape, batched && is_channels_last(x), read, 3)))
        return frame_return(&f, NULL);
    find_strides(y, o.rank, p.x);
    find_strides(x, o.rank, p.y);
    find_weight_strides(w, o.rank, 0, p.w);
    void *const arrays[] = {PyArray_DATA(x), PyArray_DATA(w), b ? PyArray_DATA(b) : NULL, PyArray_DATA(y)};
    if (PyArray_SIZE(y) > 0 && run_entry(&f, CNN_conv_backward_input, &p, arrays, conv_work(&p)) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, args[11]);
}

/* conv_transpose_backward(rank, dy, x, weight, bias, stride, padding, output_padding, output_size, dilation, groups, strict, needs) -> (dx, dw, dy as
 * an array where the bias needs a gradient: that is a plain sum of it) */
static PyObject *conv_transpose_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "conv_transpose_backward"};
    struct options o = {0};
    struct cnn_conv p;
    PyArrayObject *dy, *x, *w, *b, *dx = NULL, *dw = NULL;
    long rank, needs;
    npy_intp shape[5];
    if (expect_arguments(&f, n, 13) < 0 || read_long(&f, "rank", args[0], 1, 3, &rank) < 0 || read_long(&f, "needs", args[12], 0, 7, &needs) < 0)
        return NULL;
    f.function = names[1][rank - 1];
    o.rank = (int)rank;
    const struct array_row rows[] = {{"dy", args[1], &dy, 0}, {"x", args[2], &x, 0}, {"weight", args[3], &w, 0}, {"bias", args[4], &b, 1}};
    if (read_arrays(&f, rows, 4) < 0 || read_options(&f, args + 5, &o) < 0 || find_geometry(&f, &o, x, w, b, &p) < 0 || too_large(&f, x, "x") ||
        too_large(&f, w, "weight"))
        return frame_return(&f, NULL);
    const int batched = PyArray_NDIM(x) == rank + 2, nd = result_shape(&p, o.rank, batched, shape);
    if (check_shape(&f, "dy", dy, nd, shape) < 0)
        return frame_return(&f, NULL);
    if ((needs & 1 && !(dx = new_result(&f, nd, PyArray_DIMS(x), batched && is_channels_last(x)))) ||
        (needs & 2 && !(dw = new_result(&f, o.rank + 2, PyArray_DIMS(w), 0))))
        return frame_return(&f, NULL);
    find_strides(dy, o.rank, p.x);
    if (dx && PyArray_SIZE(dx) > 0) {
        find_strides(dx, o.rank, p.y);
        find_weight_strides(w, o.rank, 0, p.w);
        void *const arrays[] = {PyArray_DATA(dy), PyArray_DATA(w), NULL, PyArray_DATA(dx)};
        if (run_entry(&f, CNN_conv_forward, &p, arrays, conv_work(&p)) < 0)
            return frame_return(&f, NULL);
    }
    if (dw) {
        find_strides(x, o.rank, p.y);
        find_weight_strides(dw, o.rank, 0, p.w);
        void *const arrays[] = {PyArray_DATA(dy), PyArray_DATA(x), PyArray_DATA(dw), NULL};
        if (run_entry(&f, CNN_conv_backward_weight, &p, arrays, conv_work(&p)) < 0)
            return frame_return(&f, NULL);
    }
    return frame_return(&f, PyTuple_Pack(3, dx ? (PyObject *)dx : Py_None, dw ? (PyObject *)dw : Py_None, needs & 4 && b ? (PyObject *)dy : Py_None));
}

PyMethodDef transpose_methods[] = {
    METHOD(conv_transpose_forward, "rank, x, weight, bias, stride, padding, output_padding, output_size, dilation, groups, strict, out -> y"),
    METHOD(conv_transpose_backward, "rank, dy, x, weight, bias, stride, padding, output_padding, output_size, dilation, groups, strict, needs -> dx, dw"),
    {NULL, NULL, 0, NULL}};
