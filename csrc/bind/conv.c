/* conv.c: bindings of convolution. Arguments by position: rank (1, 2, 3), arrays, options as in cnnpy.functional.conv. */
#include "window.h"

static const char *const conv_names[] = {"conv1d", "conv2d", "conv3d"};
static const char *const backward_names[] = {"conv1d_backward", "conv2d_backward", "conv3d_backward"};

struct options {
    int rank, flip;
    struct padding padding;
    long stride[3], dilation[3], groups;
    int mode, algorithm;
};

static const char *const algorithms[] = {"auto", "direct", "winograd", NULL}; /* enum cnn_algorithm */

/* The options of a convolution stand at args[0..6]: stride, padding, dilation, groups, padding_mode, flip, algorithm. */
static int read_options(const struct frame *f, PyObject *const *args, struct options *o)
{
    if (read_longs(f, "stride", args[0], o->rank, 1, LARGEST_INT, o->stride) < 0 || read_padding(f, args[1], o->rank, &o->padding) < 0 ||
        read_longs(f, "dilation", args[2], o->rank, 1, LARGEST_INT, o->dilation) < 0 ||
        read_long(f, "groups", args[3], 1, LARGEST_INT, &o->groups) < 0 || read_mode(f, "padding_mode", args[4], &o->mode) < 0 ||
        read_bool(f, "flip", args[5], &o->flip) < 0 || read_choice(f, "algorithm", args[6], algorithms, &o->algorithm) < 0)
        return -1;
    return 0;
}

/* What winograd_fits asks. */
static int knows_winograd(const struct cnn_conv *p)
{
    const long taps = p->window[2], step = p->stride[2];
    if (!(step == 1 ? taps == 2 || taps == 3 || taps == 5 : step == 2 && (taps == 3 || taps == 4)))
        return 0;
    if (!(p->window[1] == taps && p->stride[1] == step) && !(p->window[1] == 1 && p->stride[1] == 1))
        return 0;
    for (int a = 1; a < 3; a++)
        if (p->dilation[a] > (p->padding_mode == CNN_ZEROS && step == 1 ? CNN_MOST_SPREAD : 1))
            return 0;
    return (p->groups == 1 || p->groups < p->c) && (p->window[0] == 1 || (p->c / p->groups % CNN_WHOLE_CHANNELS == 0 && p->k / p->groups % CNN_WHOLE_CHANNELS == 0));
}

/* Fills the problem from shapes and options, or refuses them. lead: 2 for (N, C, ...), 1 for an unbatched (C, ...). */
static int find_geometry(const struct frame *f, const struct options *o, PyArrayObject *x, PyArrayObject *w, struct cnn_conv *p)
{
    const int rank = o->rank, batched = PyArray_NDIM(x) == rank + 2;
    static const char *const kernels[] = {"kw", "kh, kw", "kd, kh, kw"};
    if (check_image(f, x, rank) < 0)
        return -1;
    *p = (struct cnn_conv){.n = batched ? PyArray_DIM(x, 0) : 1, .c = PyArray_DIM(x, batched), .groups = o->groups, .padding_mode = o->mode, .algorithm = o->algorithm};
    if (p->c == 0 || p->c % p->groups) {
        refuse(f, PyExc_ValueError, "groups is %ld, expected a divisor of the %ld channels of x", p->groups, p->c);
        return -1;
    }
    if (PyArray_NDIM(w) != rank + 2 || PyArray_DIM(w, 1) != p->c / p->groups) {
        refuse(f, PyExc_ValueError, "weight has shape %s, expected (C_out, %ld, %s) because x has %ld channels and groups=%ld", shape_text(w),
               p->c / p->groups, kernels[rank - 1], p->c, p->groups);
        return -1;
    }
    p->k = PyArray_DIM(w, 0);
    if (p->k % p->groups) {
        refuse(f, PyExc_ValueError, "groups is %ld, expected a divisor of the %ld filters of weight", p->groups, p->k);
        return -1;
    }
    for (int a = 0; a < 3 - rank; a++)
        p->in[a] = p->out[a] = p->window[a] = p->stride[a] = p->dilation[a] = 1;
    for (int i = 0; i < rank; i++) {
        const int a = 3 - rank + i;
        const long in = PyArray_DIM(x, 1 + batched + i), window = PyArray_DIM(w, 2 + i), s = o->stride[i], d = o->dilation[i];
        if (window == 0) {
            refuse(f, PyExc_ValueError, "weight has shape %s, expected a kernel of at least 1 along every axis", shape_text(w));
            return -1;
        }
        if (window > LARGEST_INT || in > (long)LARGEST_INT << 16) {
            refuse(f, PyExc_ValueError, "axis %d is too long", 1 + batched + i);
            return -1;
        }
        const long extent = (window - 1) * d + 1;
        long before, after;
        resolve_padding(&o->padding, i, in, extent, s, &before, &after);
        if (in == 0 && o->mode != CNN_ZEROS && before + after > 0) {
            refuse(f, PyExc_ValueError, "padding_mode '%s' cannot pad axis %d of x, which is empty", padding_mode_name(o->mode), 1 + batched + i);
            return -1;
        }
        if (in + before + after < extent) {
            refuse(f, PyExc_ValueError,
                   "no output along axis %d: input %ld + padding (%ld, %ld) is smaller than the kernel's extent %ld; try padding='same'",
                   1 + batched + i, in, before, after, extent);
            return -1;
        }
        p->in[a] = in, p->window[a] = window, p->stride[a] = s, p->dilation[a] = d, p->before[a] = before;
        p->out[a] = (in + before + after - extent) / s + 1;
    }
    if (o->algorithm == CNN_WINOGRAD && !knows_winograd(p)) {
        refuse(f, PyExc_ValueError, "algorithm is 'winograd', expected 'auto' or 'direct' because that one computes kernels of 2x2, 3x3 or 5x5, or rows of "
                                    "them, with a stride of 1, and of 3x3 or 4x4 with a stride of 2, a dilation of at most 8 (of 1 where padding is "
                                    "not zeros or the stride is 2), fewer groups than channels, and multiples of 16 channels and filters a group "
                                    "where they have several planes");
        return -1;
    }
    return 0;
}

/* conv_forward(rank, x, weight, bias, stride, padding, dilation, groups, padding_mode, flip, algorithm, out) */
static PyObject *conv_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "conv_forward"};
    struct options o = {0};
    struct cnn_conv p;
    PyArrayObject *x, *w, *b;
    long rank;
    if (expect_arguments(&f, n, 12) < 0 || read_long(&f, "rank", args[0], 1, 3, &rank) < 0)
        return NULL;
    f.function = conv_names[rank - 1];
    o.rank = (int)rank;
    const struct array_row rows[] = {{"x", args[1], &x, 0}, {"weight", args[2], &w, 0}, {"bias", args[3], &b, 1}};
    if (read_arrays(&f, rows, 3) < 0 || read_options(&f, args + 4, &o) < 0 || find_geometry(&f, &o, x, w, &p) < 0 ||
        too_large(&f, x, "x") || too_large(&f, w, "weight"))
        return frame_return(&f, NULL);
    if (b && (PyArray_NDIM(b) != 1 || PyArray_DIM(b, 0) != p.k)) {
        refuse(&f, PyExc_ValueError, "bias has shape %s, expected (%ld,), one value a filter of weight", shape_text(b), p.k);
        return frame_return(&f, NULL);
    }
    npy_intp shape[5];
    const int batched = PyArray_NDIM(x) == rank + 2;
    if (batched)
        shape[0] = p.n;
    shape[batched] = p.k;
    for (int i = 0; i < rank; i++)
        shape[1 + batched + i] = p.out[3 - rank + i];
    if (check_out(&f, args[11], (int)rank + 1 + batched, shape) < 0)
        return frame_return(&f, NULL);
    if (b && !(b = in_c_order(&f, b)))
        return frame_return(&f, NULL);
    PyArrayObject *const read[] = {x, w, b};
    PyArrayObject *y = result_for(&f, args[11], (int)rank + 1 + batched, shape, batched && is_channels_last(x), read, 3);
    if (!y)
        return frame_return(&f, NULL);
    find_strides(x, (int)rank, p.x);
    find_strides(y, (int)rank, p.y);
    const long corner = find_weight_strides(w, (int)rank, o.flip, p.w);
    void *const arrays[] = {PyArray_DATA(x), at(w, corner), b ? PyArray_DATA(b) : NULL, PyArray_DATA(y)};
    if (PyArray_SIZE(y) > 0 && run_entry(&f, CNN_conv_forward, &p, arrays, conv_work(&p)) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, args[11]);
}

/* Of a copying padding mode: dx is folded from the gradient of the padded image, so that is computed first, axis by axis. */
static int backward_input(struct frame *f, const struct options *o, struct cnn_conv p, PyArrayObject *dy, void *w, PyArrayObject *dx)
{
    void *arrays[] = {PyArray_DATA(dy), w, NULL, PyArray_DATA(dx)};
    if (PyArray_SIZE(dx) == 0)
        return 0;
    find_strides(dx, o->rank, p.x);
    if (p.padding_mode == CNN_ZEROS)
        return run_entry(f, CNN_conv_backward_input, &p, arrays, conv_work(&p));
    npy_intp shape[5] = {p.n, p.c};
    struct cnn_pad fold = {.n = p.n, .c = p.c, .mode = p.padding_mode};
    struct cnn_conv whole = p;
    for (int a = 0; a < 3; a++) {
        const long reach = (p.out[a] - 1) * p.stride[a] + (p.window[a] - 1) * p.dilation[a] + 1;
        fold.in[a] = p.in[a], fold.before[a] = p.before[a];
        fold.padded[a] = whole.in[a] = shape[2 + a] = reach > p.before[a] + p.in[a] ? reach : p.before[a] + p.in[a];
        whole.before[a] = 0;
    }
    whole.padding_mode = CNN_ZEROS;
    PyArrayObject *padded = new_result(f, 5, shape, 1);
    if (!padded)
        return -1;
    for (int i = 0; i < 5; i++)
        whole.x[i] = fold.form[i] = element_stride(padded, i), fold.image[i] = p.x[i];
    arrays[3] = PyArray_DATA(padded);
    if (run_entry(f, CNN_conv_backward_input, &whole, arrays, conv_work(&p)) < 0)
        return -1;
    void *const folds[] = {PyArray_DATA(padded), PyArray_DATA(dx)};
    return run_entry(f, CNN_pad_backward, &fold, folds, 4.0 * (double)PyArray_SIZE(padded));
}

/* conv_backward(rank, dy, x, weight, bias, stride, padding, dilation, groups, padding_mode, flip, algorithm, needs) -> (dx, dw, db);
 * needs: bits 1, 2, 4. x is only looked at for its shape and order unless dw is needed. */
static PyObject *conv_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "conv_backward"};
    struct options o = {0};
    struct cnn_conv p;
    PyArrayObject *dy, *x, *w, *b;
    long rank, needs;
    if (expect_arguments(&f, n, 13) < 0 || read_long(&f, "rank", args[0], 1, 3, &rank) < 0 || read_long(&f, "needs", args[12], 0, 7, &needs) < 0)
        return NULL;
    f.function = backward_names[rank - 1];
    o.rank = (int)rank;
    const struct array_row rows[] = {{"dy", args[1], &dy, 0}, {"x", args[2], &x, 0}, {"weight", args[3], &w, 0}, {"bias", args[4], &b, 1}};
    if (read_arrays(&f, rows, 4) < 0 || read_options(&f, args + 5, &o) < 0 || find_geometry(&f, &o, x, w, &p) < 0 ||
        too_large(&f, x, "x") || too_large(&f, w, "weight"))
        return frame_return(&f, NULL);
    if (b && (PyArray_NDIM(b) != 1 || PyArray_DIM(b, 0) != p.k)) {
        refuse(&f, PyExc_ValueError, "bias has shape %s, expected (%ld,), one value a filter of weight", shape_text(b), p.k);
        return frame_return(&f, NULL);
    }
    const int batched = PyArray_NDIM(x) == rank + 2, nd = (int)rank + 1 + batched;
    npy_intp shape[5];
    if (batched)
        shape[0] = p.n;
    shape[batched] = p.k;
    for (int i = 0; i < rank; i++)
        shape[1 + batched + i] = p.out[3 - rank + i];
    if (check_shape(&f, "dy", dy, nd, shape) < 0)
        return frame_return(&f, NULL);
    PyArrayObject *dx = NULL, *dw = NULL, *db = NULL;
    const npy_intp filters = p.k;
    if ((needs & 1 && !(dx = new_result(&f, nd, PyArray_DIMS(x), batched && is_channels_last(x)))) ||
        (needs & 2 && !(dw = new_result(&f, (int)rank + 2, PyArray_DIMS(w), 0))) || (needs & 4 && b && !(db = new_result(&f, 1, &filters, 0))))
        return frame_return(&f, NULL);
    find_strides(x, (int)rank, p.x);
    find_strides(dy, (int)rank, p.y);
    if (dx) {
        const long corner = find_weight_strides(w, (int)rank, o.flip, p.w);
        if (backward_input(&f, &o, p, dy, at(w, corner), dx) < 0)
            return frame_return(&f, NULL);
    }
    if (dw || db) {
        PyArrayObject *target = dw ? dw : new_result(&f, (int)rank + 2, PyArray_DIMS(w), 0);
        if (!target)
            return frame_return(&f, NULL);
        const long corner = find_weight_strides(target, (int)rank, o.flip, p.w);
        void *const arrays[] = {PyArray_DATA(x), PyArray_DATA(dy), at(target, corner), db ? PyArray_DATA(db) : NULL};
        if (PyArray_SIZE(w) > 0 && run_entry(&f, CNN_conv_backward_weight, &p, arrays, conv_work(&p)) < 0)
            return frame_return(&f, NULL);
    }
    PyObject *result = PyTuple_Pack(3, dx ? (PyObject *)dx : Py_None, dw ? (PyObject *)dw : Py_None, db ? (PyObject *)db : Py_None);
    return frame_return(&f, result);
}

PyMethodDef conv_methods[] = {
    METHOD(conv_forward, "rank, x, weight, bias, stride, padding, dilation, groups, padding_mode, flip, algorithm, out -> y"),
    METHOD(conv_backward, "rank, dy, x, weight, bias, stride, padding, dilation, groups, padding_mode, flip, algorithm, needs -> dx, dw, db"),
    {NULL, NULL, 0, NULL}};
