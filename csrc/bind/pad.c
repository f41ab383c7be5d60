/* pad.c: bindings of padding and of unfold and fold. */
#include "window.h"

#include <math.h>

/* pads: one (before, after) pair a spatial axis, last axes of x; negative pairs crop. */
static int read_pads(const struct frame *f, PyObject *object, PyArrayObject *x, int *rank, long before[3], long after[3])
{
    PyObject *items = PySequence_Check(object) && !PyUnicode_Check(object) && !PyBytes_Check(object) ? PySequence_Tuple(object) : NULL;
    if (!items) {
        PyErr_Clear();
        refuse(f, PyExc_TypeError, "pads is %.100s, expected one (before, after) pair a spatial axis", Py_TYPE(object)->tp_name);
        return -1;
    }
    const Py_ssize_t count = PyTuple_GET_SIZE(items);
    int ok = count >= 1 && count <= 3 && (PyArray_NDIM(x) == count + 1 || PyArray_NDIM(x) == count + 2);
    if (!ok)
        refuse(f, PyExc_ValueError, "pads has %zd pairs, expected one for each spatial axis of x, which has shape %s", count, shape_text(x));
    for (Py_ssize_t i = 0; ok && i < count; i++) {
        long pair[2];
        ok = read_longs(f, "pads", PyTuple_GET_ITEM(items, i), 2, -LARGEST_INT, LARGEST_INT, pair) == 0;
        if (ok)
            before[3 - count + i] = pair[0], after[3 - count + i] = pair[1];
    }
    Py_DECREF(items);
    *rank = (int)count;
    return ok ? 0 : -1;
}

static int find_pad(const struct frame *f, PyObject *pads, PyArrayObject *x, struct cnn_pad *p, int *rank)
{
    long after[3] = {0};
    if (read_pads(f, pads, x, rank, p->before, after) < 0)
        return -1;
    const int batched = PyArray_NDIM(x) == *rank + 2;
    p->n = batched ? PyArray_DIM(x, 0) : 1;
    p->c = PyArray_DIM(x, batched);
    for (int a = 0; a < 3; a++) {
        const int axis = 1 + batched + a - (3 - *rank);
        const long in = a < 3 - *rank ? 1 : PyArray_DIM(x, axis);
        p->in[a] = in;
        p->padded[a] = in + p->before[a] + after[a];
        if (in > 0 && (p->before[a] <= -in || after[a] <= -in || p->padded[a] <= 0)) {
            refuse(f, PyExc_ValueError, "pads (%ld, %ld) crop axis %d of x to nothing: it has %ld cells", p->before[a], after[a], axis, in);
            return -1;
        }
        if (in == 0 && (p->padded[a] < 0 || (p->mode != CNN_ZEROS && p->padded[a] > 0))) {
            refuse(f, PyExc_ValueError, "pads (%ld, %ld) along axis %d of x, which is empty: only constant padding is possible", p->before[a], after[a], axis);
            return -1;
        }
    }
    return 0;
}

static int padded_shape(const struct cnn_pad *p, int rank, int batched, npy_intp shape[5])
{
    if (batched)
        shape[0] = p->n;
    shape[batched] = p->c;
    for (int i = 0; i < rank; i++)
        shape[1 + batched + i] = p->padded[3 - rank + i];
    return rank + 1 + batched;
}

/* pad_forward(x, pads, mode, value) */
static PyObject *pad_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "pad"};
    struct cnn_pad p = {0};
    PyArrayObject *x, *y;
    npy_intp shape[5];
    int rank;
    const struct array_row rows[] = {{"x", args[0], &x, 0}};
    if (expect_arguments(&f, n, 4) < 0 || read_arrays(&f, rows, 1) < 0 || read_mode(&f, "mode", args[2], &p.mode) < 0 || read_number(&f, "value", args[3], &p.value) < 0 ||
        find_pad(&f, args[1], x, &p, &rank) < 0)
        return frame_return(&f, NULL);
    const int batched = PyArray_NDIM(x) == rank + 2, nd = padded_shape(&p, rank, batched, shape);
    if (!(y = new_result(&f, nd, shape, batched && is_channels_last(x))))
        return frame_return(&f, NULL);
    find_strides(x, rank, p.image);
    find_strides(y, rank, p.form);
    void *const arrays[] = {PyArray_DATA(x), PyArray_DATA(y)};
    if (PyArray_SIZE(y) > 0 && run_entry(&f, CNN_pad_forward, &p, arrays, (double)PyArray_SIZE(y)) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, Py_None);
}

/* pad_backward(dy, x, pads, mode) -> dx */
static PyObject *pad_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "pad_backward"};
    struct cnn_pad p = {0};
    PyArrayObject *dy, *x, *dx;
    npy_intp shape[5];
    int rank;
    const struct array_row rows[] = {{"dy", args[0], &dy, 0}, {"x", args[1], &x, 0}};
    if (expect_arguments(&f, n, 4) < 0 || read_arrays(&f, rows, 2) < 0 || read_mode(&f, "mode", args[3], &p.mode) < 0 || find_pad(&f, args[2], x, &p, &rank) < 0)
        return frame_return(&f, NULL);
    const int batched = PyArray_NDIM(x) == rank + 2, nd = padded_shape(&p, rank, batched, shape);
    if (check_shape(&f, "dy", dy, nd, shape) < 0 || !(dx = new_result(&f, nd, PyArray_DIMS(x), batched && is_channels_last(x))))
        return frame_return(&f, NULL);
    find_strides(dx, rank, p.image);
    find_strides(dy, rank, p.form);
    void *const arrays[] = {PyArray_DATA(dy), PyArray_DATA(dx)};
    if (PyArray_SIZE(dx) > 0 && run_entry(&f, CNN_pad_backward, &p, arrays, 2.0 * (double)PyArray_SIZE(dy)) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, dx, Py_None);
}

/* Options at args: kernel_size, stride, padding, dilation; `size` is the image's. */
static int find_windows(const struct frame *f, PyObject *const *args, int rank, const npy_intp *size, struct cnn_unfold *p)
{
    long window[3], stride[3], dilation[3];
    struct padding padding;
    if (read_longs(f, "kernel_size", args[0], rank, 1, LARGEST_INT, window) < 0 || read_longs(f, "stride", args[1], rank, 1, LARGEST_INT, stride) < 0 ||
        read_padding(f, args[2], rank, &padding) < 0 || read_longs(f, "dilation", args[3], rank, 1, LARGEST_INT, dilation) < 0)
        return -1;
    double taps = 1;
    for (int a = 0; a < 3 - rank; a++)
        p->in[a] = p->out[a] = p->window[a] = p->stride[a] = p->dilation[a] = 1;
    for (int i = 0; i < rank; i++) {
        const int a = 3 - rank + i;
        const long in = size[i], extent = (window[i] - 1) * dilation[i] + 1;
        long before, after;
        resolve_padding(&padding, i, in, extent, stride[i], &before, &after);
        if (in + before + after < extent) {
            refuse(f, PyExc_ValueError, "no window along axis %d: image %ld + padding (%ld, %ld) is smaller than the kernel's extent %ld", 2 + i, in, before,
                   after, extent);
            return -1;
        }
        p->in[a] = in, p->window[a] = window[i], p->stride[a] = stride[i], p->dilation[a] = dilation[i], p->before[a] = before;
        p->out[a] = (in + before + after - extent) / stride[i] + 1;
        taps *= (double)window[i];
    }
    if (taps > LARGEST_INT) {
        refuse(f, PyExc_ValueError, "kernel_size has more than %d cells", LARGEST_INT);
        return -1;
    }
    return 0;
}

/* unfold(name, x, kernel_size, stride, padding, dilation) -> (N, C*taps, windows) */
static PyObject *unfold(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "unfold"};
    PyArrayObject *x, *y;
    if (expect_arguments(&f, n, 6) < 0 || read_name(&f, args[0]) < 0)
        return NULL;
    const struct array_row rows[] = {{"x", args[1], &x, 0}};
    if (read_arrays(&f, rows, 1) < 0)
        return frame_return(&f, NULL);
    const int rank = PyArray_NDIM(x) - 2;
    if (rank < 1 || rank > 3) {
        refuse(&f, PyExc_ValueError, "x has shape %s, expected (N, C, spatial) with one to three spatial axes", shape_text(x));
        return frame_return(&f, NULL);
    }
    struct cnn_unfold p = {.n = PyArray_DIM(x, 0), .c = PyArray_DIM(x, 1)};
    if (find_windows(&f, args + 2, rank, PyArray_DIMS(x) + 2, &p) < 0)
        return frame_return(&f, NULL);
    const npy_intp shape[] = {p.n, p.c * p.window[0] * p.window[1] * p.window[2], p.out[0] * p.out[1] * p.out[2]};
    if (!(y = new_result(&f, 3, shape, 0)))
        return frame_return(&f, NULL);
    find_strides(x, rank, p.image);
    void *const arrays[] = {PyArray_DATA(x), PyArray_DATA(y)};
    if (PyArray_SIZE(y) > 0 && run_entry(&f, CNN_unfold, &p, arrays, (double)PyArray_SIZE(y)) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, Py_None);
}

/* fold(name, columns, output_size, kernel_size, stride, padding, dilation) -> (N, C, spatial) */
static PyObject *fold(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "fold"};
    PyArrayObject *columns, *y;
    long size[3];
    if (expect_arguments(&f, n, 7) < 0 || read_name(&f, args[0]) < 0)
        return NULL;
    const struct array_row rows[] = {{"cols", args[1], &columns, 0}};
    if (read_arrays(&f, rows, 1) < 0)
        return frame_return(&f, NULL);
    const Py_ssize_t rank = PySequence_Check(args[2]) && !PyUnicode_Check(args[2]) && !PyBytes_Check(args[2]) ? PySequence_Size(args[2]) : -1;
    if (rank < 1 || rank > 3) {
        PyErr_Clear();
        refuse(&f, rank < 0 ? PyExc_TypeError : PyExc_ValueError, "output_size is %R, expected one to three integers", args[2]);
        return frame_return(&f, NULL);
    }
    if (read_longs(&f, "output_size", args[2], (int)rank, 1, LARGEST_INT, size) < 0)
        return frame_return(&f, NULL);
    struct cnn_unfold p = {0};
    npy_intp shape[5];
    for (int i = 0; i < rank; i++)
        shape[2 + i] = size[i];
    if (find_windows(&f, args + 3, (int)rank, shape + 2, &p) < 0)
        return frame_return(&f, NULL);
    const long taps = p.window[0] * p.window[1] * p.window[2], windows = p.out[0] * p.out[1] * p.out[2];
    if (PyArray_NDIM(columns) != 3 || PyArray_DIM(columns, 1) % taps || PyArray_DIM(columns, 1) == 0 || PyArray_DIM(columns, 2) != windows) {
        refuse(&f, PyExc_ValueError, "cols has shape %s, expected (N, C * %ld, %ld) for output_size %R", shape_text(columns), taps, windows, args[2]);
        return frame_return(&f, NULL);
    }
    p.n = shape[0] = PyArray_DIM(columns, 0);
    p.c = shape[1] = PyArray_DIM(columns, 1) / taps;
    if (!(columns = in_c_order(&f, columns)) || !(y = new_result(&f, (int)rank + 2, shape, 0)))
        return frame_return(&f, NULL);
    find_strides(y, (int)rank, p.image);
    void *const arrays[] = {PyArray_DATA(columns), PyArray_DATA(y)};
    if (PyArray_SIZE(y) > 0 && run_entry(&f, CNN_fold, &p, arrays, (double)PyArray_SIZE(columns)) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, Py_None);
}

PyMethodDef pad_methods[] = {METHOD(pad_forward, "x, pads, mode, value -> y"), METHOD(pad_backward, "dy, x, pads, mode -> dx"),
                             METHOD(unfold, "name, x, kernel_size, stride, padding, dilation -> cols"),
                             METHOD(fold, "name, cols, output_size, kernel_size, stride, padding, dilation -> x"), {NULL, NULL, 0, NULL}};
