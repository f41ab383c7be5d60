/* pool.c: bindings of pooling. Arguments by position: rank (1, 2, 3), arrays, options as in cnnpy.functional.pool. */
#include "window.h"

static const char *const names[2][2][3] = {
    {{"max_pool1d", "max_pool2d", "max_pool3d"}, {"avg_pool1d", "avg_pool2d", "avg_pool3d"}},
    {{"max_pool1d_backward", "max_pool2d_backward", "max_pool3d_backward"}, {"avg_pool1d_backward", "avg_pool2d_backward", "avg_pool3d_backward"}},
};

struct options {
    int rank, average, ceil_mode, count_include_pad;
    struct padding padding;
    long window[3], stride[3], dilation[3];
};

/* Options at args: kernel_size, stride (None: the window), padding, dilation, ceil_mode, count_include_pad. */
static int read_options(const struct frame *f, PyObject *const *args, struct options *o)
{
    if (read_longs(f, "kernel_size", args[0], o->rank, 1, LARGEST_INT, o->window) < 0 ||
        read_longs(f, "stride", args[1] == Py_None ? args[0] : args[1], o->rank, 1, LARGEST_INT, o->stride) < 0 ||
        read_padding(f, args[2], o->rank, &o->padding) < 0 || read_longs(f, "dilation", args[3], o->rank, 1, LARGEST_INT, o->dilation) < 0 ||
        read_bool(f, "ceil_mode", args[4], &o->ceil_mode) < 0 || read_bool(f, "count_include_pad", args[5], &o->count_include_pad) < 0)
        return -1;
    if (o->padding.rule == FULL) {
        refuse(f, PyExc_ValueError, "padding is 'full', expected 'valid', 'same' or amounts: a pool pads at most half its window");
        return -1;
    }
    return 0;
}

/* A dilated window may step over a short axis: then it has no cell and no maximum. */
static int has_cells(const struct cnn_pool *p, int a)
{
    for (long i = 0; i < p->out[a]; i++) {
        const long first = i * p->stride[a] - p->before[a], d = p->dilation[a];
        const long tap = first < 0 ? (-first + d - 1) / d : 0;
        if (tap >= p->window[a] || first + tap * d >= p->in[a])
            return 0;
    }
    return 1;
}

static int find_geometry(const struct frame *f, const struct options *o, PyArrayObject *x, struct cnn_pool *p)
{
    const int rank = o->rank, batched = PyArray_NDIM(x) == rank + 2;
    if (check_image(f, x, rank) < 0)
        return -1;
    *p = (struct cnn_pool){.n = batched ? PyArray_DIM(x, 0) : 1, .c = PyArray_DIM(x, batched), .count_include_pad = o->count_include_pad};
    for (int a = 0; a < 3 - rank; a++)
        p->in[a] = p->out[a] = p->window[a] = p->stride[a] = p->dilation[a] = 1;
    for (int i = 0; i < rank; i++) {
        const int a = 3 - rank + i, axis = 1 + batched + i;
        const long in = PyArray_DIM(x, axis), s = o->stride[i], d = o->dilation[i], extent = (o->window[i] - 1) * d + 1;
        long before, after;
        resolve_padding(&o->padding, i, in, extent, s, &before, &after);
        if (o->padding.rule == AMOUNTS && (before > extent / 2 || after > extent / 2)) {
            refuse(f, PyExc_ValueError, "padding (%ld, %ld) along axis %d is more than half the window's extent %ld", before, after, axis, extent);
            return -1;
        }
        if (in == 0 || in + before + after < extent) {
            refuse(f, PyExc_ValueError, "no output along axis %d: input %ld + padding (%ld, %ld) is smaller than the window's extent %ld", axis, in,
                   before, after, extent);
            return -1;
        }
        const long room = in + before + after - extent;
        long out = (o->ceil_mode ? (room + s - 1) / s : room / s) + 1;
        if (o->ceil_mode && (out - 1) * s >= in + before)
            out--;
        p->in[a] = in, p->out[a] = out, p->window[a] = o->window[i], p->stride[a] = s, p->dilation[a] = d;
        p->before[a] = before, p->after[a] = after;
        if (d > 1 && !has_cells(p, a)) {
            refuse(f, PyExc_ValueError, "a window of kernel_size %ld and dilation %ld lies on no cell of axis %d, which has %ld", o->window[i], d, axis, in);
            return -1;
        }
    }
    if ((double)p->window[0] * (double)p->window[1] * (double)p->window[2] > LARGEST_INT) {
        refuse(f, PyExc_ValueError, "kernel_size has more than %d cells", LARGEST_INT);
        return -1;
    }
    return 0;
}

static double estimate(const struct cnn_pool *p)
{
    return 500 + (double)(p->n * p->c) * (double)(p->out[0] * p->out[1] * p->out[2]) * (double)(p->window[0] * p->window[1] * p->window[2]) * 0.3;
}

static void find_shapes(const struct cnn_pool *p, long in[5], long out[5])
{
    in[0] = out[0] = p->n, in[1] = out[1] = p->c;
    for (int a = 0; a < 3; a++)
        in[2 + a] = p->in[a], out[2 + a] = p->out[a];
}

static void result_shape(const struct cnn_pool *p, int rank, int batched, npy_intp shape[5])
{
    if (batched)
        shape[0] = p->n;
    shape[batched] = p->c;
    for (int i = 0; i < rank; i++)
        shape[1 + batched + i] = p->out[3 - rank + i];
}

/* pool_forward(rank, average, x, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, return_indices) */
static PyObject *pool_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "pool_forward"};
    struct options o = {0};
    struct cnn_pool p;
    PyArrayObject *x;
    long rank, average;
    int indices;
    if (expect_arguments(&f, n, 10) < 0 || read_long(&f, "rank", args[0], 1, 3, &rank) < 0 || read_long(&f, "average", args[1], 0, 1, &average) < 0)
        return NULL;
    f.function = names[0][average][rank - 1];
    o.rank = (int)rank, o.average = (int)average;
    const struct array_row rows[] = {{"x", args[2], &x, 0}};
    if (read_arrays(&f, rows, 1) < 0 || read_options(&f, args + 3, &o) < 0 || read_bool(&f, "return_indices", args[9], &indices) < 0 ||
        find_geometry(&f, &o, x, &p) < 0)
        return frame_return(&f, NULL);
    const int batched = PyArray_NDIM(x) == rank + 2;
    npy_intp shape[5];
    long in[5], out[5];
    result_shape(&p, o.rank, batched, shape);
    find_shapes(&p, in, out);
    PyArrayObject *y = new_result(&f, o.rank + 1 + batched, shape, batched && is_channels_last(x)), *index = NULL;
    if (!y || (indices && !(index = new_int64(&f, o.rank + 1 + batched, shape))))
        return frame_return(&f, NULL);
    if (PyArray_SIZE(y) > 0) {
        void *from = channels_together(&f, x, o.rank, in, p.x), *to = from ? result_together(&f, y, o.rank, out, p.y) : NULL;
        if (!to)
            return frame_return(&f, NULL);
        void *const arrays[] = {from, to, index ? PyArray_DATA(index) : NULL};
        if (run_entry(&f, average ? CNN_avg_pool_forward : CNN_max_pool_forward, &p, arrays, estimate(&p)) < 0 ||
            store_image(&f, out, to, p.y, y, o.rank) < 0)
            return frame_return(&f, NULL);
    }
    if (!indices)
        return deliver(&f, y, Py_None);
    return frame_return(&f, PyTuple_Pack(2, y, index));
}

/* pool_backward(rank, average, dy, x, index, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad) -> dx */
static PyObject *pool_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "pool_backward"};
    struct options o = {0};
    struct cnn_pool p;
    PyArrayObject *dy, *x, *index = NULL;
    long rank, average;
    if (expect_arguments(&f, n, 11) < 0 || read_long(&f, "rank", args[0], 1, 3, &rank) < 0 || read_long(&f, "average", args[1], 0, 1, &average) < 0)
        return NULL;
    f.function = names[1][average][rank - 1];
    o.rank = (int)rank, o.average = (int)average;
    const struct array_row rows[] = {{"dy", args[2], &dy, 0}, {"x", args[3], &x, 0}};
    if (read_arrays(&f, rows, 2) < 0 || read_options(&f, args + 5, &o) < 0 || find_geometry(&f, &o, x, &p) < 0 ||
        (!average && read_integers_array(&f, "cache", args[4], &index) < 0))
        return frame_return(&f, NULL);
    const int batched = PyArray_NDIM(x) == rank + 2, nd = o.rank + 1 + batched;
    npy_intp shape[5];
    long in[5], out[5];
    result_shape(&p, o.rank, batched, shape);
    find_shapes(&p, in, out);
    if (check_shape(&f, "dy", dy, nd, shape) < 0)
        return frame_return(&f, NULL);
    if (index) {
        const npy_int64 *at = PyArray_DATA(index), cells = p.in[0] * p.in[1] * p.in[2];
        if (PyArray_NDIM(index) != nd || !PyArray_CompareLists(PyArray_DIMS(index), shape, nd)) {
            refuse(&f, PyExc_ValueError, "cache has shape %s, expected the indices of this call, one a value of dy", shape_text(index));
            return frame_return(&f, NULL);
        }
        for (npy_intp i = 0; i < PyArray_SIZE(index); i++)
            if (at[i] < 0 || at[i] >= cells) {
                refuse(&f, PyExc_ValueError, "cache holds index %lld at position %zd, expected 0 to %lld", (long long)at[i], (Py_ssize_t)i, (long long)cells - 1);
                return frame_return(&f, NULL);
            }
    }
    PyArrayObject *dx = new_result(&f, nd, PyArray_DIMS(x), batched && is_channels_last(x));
    if (!dx)
        return frame_return(&f, NULL);
    if (PyArray_SIZE(dx) > 0) {
        void *from = channels_together(&f, dy, o.rank, out, p.y), *to = from ? result_together(&f, dx, o.rank, in, p.x) : NULL;
        if (!to)
            return frame_return(&f, NULL);
        void *const of_max[] = {from, index ? PyArray_DATA(index) : NULL, to}, *const of_average[] = {from, to};
        if (run_entry(&f, average ? CNN_avg_pool_backward : CNN_max_pool_backward, &p, average ? of_average : of_max, estimate(&p) * 2) < 0 ||
            store_image(&f, in, to, p.x, dx, o.rank) < 0)
            return frame_return(&f, NULL);
    }
    return deliver(&f, dx, Py_None);
}

PyMethodDef pool_methods[] = {
    METHOD(pool_forward, "rank, average, x, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, return_indices -> y or (y, indices)"),
    METHOD(pool_backward, "rank, average, dy, x, index, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad -> dx"),
    {NULL, NULL, 0, NULL}};
