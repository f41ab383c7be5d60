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

static double pool_work(const struct cnn_pool *p)
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

/* What a maximum leaves beside y: nothing, indices for the caller, or for its backward a byte a window. */
enum { NOTHING, INDICES, TAPS };

/* taps[N][output cells][C], or of images whose rows are contiguous or whose channels are few taps[N][C][output cells], private to the two passes; windows of
 * more than 256 cells have indices instead. */
static int tap_shape(const struct cnn_pool *p, int planar, npy_intp shape[3])
{
    const long cells = p->out[0] * p->out[1] * p->out[2];
    shape[0] = p->n, shape[1] = planar ? p->c : cells, shape[2] = planar ? cells : p->c;
    return p->window[0] * p->window[1] * p->window[2] <= 256;
}

/* Taps of either order have one shape, [N][output cells][C]; their strides say which it is. */
static PyArrayObject *new_taps(struct frame *f, struct cnn_pool *p, int planar)
{
    npy_intp shape[3], order[3] = {0, 2, 1};
    PyArray_Dims turned = {order, 3};
    tap_shape(p, planar, shape);
    p->planar = planar;
    PyObject *taps = PyArray_SimpleNew(3, shape, NPY_UINT8);
    frame_keep(f, taps);
    if (!taps || !planar)
        return (PyArrayObject *)taps;
    taps = PyArray_Transpose((PyArrayObject *)taps, &turned);
    frame_keep(f, taps);
    return (PyArrayObject *)taps;
}

/* Whether an array can be taps, and in which order. */
static int read_taps(PyObject *cache, struct cnn_pool *p)
{
    if (!PyArray_Check(cache) || PyArray_TYPE((PyArrayObject *)cache) != NPY_UINT8)
        return 0;
    PyArrayObject *taps = (PyArrayObject *)cache;
    if (PyArray_IS_C_CONTIGUOUS(taps))
        return 1;
    p->planar = PyArray_NDIM(taps) == 3 && PyArray_STRIDE(taps, 1) == 1 && PyArray_STRIDE(taps, 2) == PyArray_DIM(taps, 1) &&
                PyArray_STRIDE(taps, 0) == PyArray_DIM(taps, 1) * PyArray_DIM(taps, 2);
    return p->planar;
}

/* y (and indices or taps) of a pool whose problem is complete. */
static PyObject *run_forward(struct frame *f, enum cnn_entry_number entry, struct cnn_pool *p, PyArrayObject *x, int rank, int indices)
{
    const int batched = PyArray_NDIM(x) == rank + 2;
    npy_intp shape[5];
    result_shape(p, rank, batched, shape);
    PyArrayObject *y = new_result(f, rank + 1 + batched, shape, batched && is_channels_last(x)), *index = NULL;
    npy_intp taps[3];
    if (indices == TAPS && tap_shape(p, 0, taps)) {
        index = new_taps(f, p, !is_channels_last(x) || p->c <= CNN_FEW_CHANNELS);
        entry = CNN_max_pool_taps_forward;
    } else if (indices)
        index = new_int64(f, rank + 1 + batched, shape);
    if (!y || (indices && !index))
        return frame_return(f, NULL);
    if (PyArray_SIZE(y) > 0) {
        find_strides(x, rank, p->x);
        find_strides(y, rank, p->y);
        void *const arrays[] = {PyArray_DATA(x), PyArray_DATA(y), index ? PyArray_DATA(index) : NULL};
        if (run_entry(f, entry, p, arrays, pool_work(p)) < 0)
            return frame_return(f, NULL);
    }
    if (!indices)
        return deliver(f, y, Py_None);
    return frame_return(f, PyTuple_Pack(2, y, index));
}

/* Indices of the shape of the pool's result, all inside the plane of p->in. */
static int check_indices(const struct frame *f, const char *name, const struct cnn_pool *p, PyArrayObject *index, int nd, const npy_intp *shape)
{
    const npy_int64 *at = PyArray_DATA(index), cells = p->in[0] * p->in[1] * p->in[2];
    if (check_shape(f, name, index, nd, shape) < 0)
        return -1;
    const npy_intp size = PyArray_SIZE(index);
    npy_uint64 signs = 0;
    for (npy_intp i = 0; i < size; i++) /* without a branch: most calls find nothing */
        signs |= (npy_uint64)at[i] | ((npy_uint64)cells - 1 - (npy_uint64)at[i]);
    for (npy_intp i = 0; signs >> 63 && i < size; i++)
        if (at[i] < 0 || at[i] >= cells) {
            refuse(f, PyExc_ValueError, "%s holds %lld at position %zd, expected 0 to %lld", name, (long long)at[i], (Py_ssize_t)i, (long long)cells - 1);
            return -1;
        }
    return 0;
}

/* dx of a maximum (index) or average pool whose problem is complete. */
static PyObject *run_backward(struct frame *f, int average, struct cnn_pool *p, PyArrayObject *dy, PyArrayObject *x, PyObject *cache, int rank)
{
    const int batched = PyArray_NDIM(x) == rank + 2, nd = rank + 1 + batched;
    npy_intp shape[5];
    PyArrayObject *index = NULL, *dx;
    result_shape(p, rank, batched, shape);
    const int taps = !average && read_taps(cache, p);
    npy_intp tap_dims[3];
    if (taps) {
        index = (PyArrayObject *)cache;
        Py_INCREF(index);
        frame_keep(f, cache);
        tap_shape(p, 0, tap_dims);
        if (check_shape(f, "cache", index, 3, tap_dims) < 0)
            return frame_return(f, NULL);
    }
    if (check_shape(f, "dy", dy, nd, shape) < 0 || (!average && !taps && (read_integers_array(f, "cache", cache, &index) < 0 || check_indices(f, "cache", p, index, nd, shape) < 0)) ||
        !(dx = new_result(f, nd, PyArray_DIMS(x), batched && is_channels_last(x))))
        return frame_return(f, NULL);
    if (PyArray_SIZE(dx) > 0) {
        find_strides(dy, rank, p->y);
        find_strides(dx, rank, p->x);
        void *const of_max[] = {PyArray_DATA(dy), index ? PyArray_DATA(index) : NULL, PyArray_DATA(dx)};
        void *const of_average[] = {PyArray_DATA(dy), PyArray_DATA(dx)};
        if (run_entry(f, average ? CNN_avg_pool_backward : taps ? CNN_max_pool_taps_backward : CNN_max_pool_backward, p, average ? of_average : of_max, pool_work(p) * 2) < 0)
            return frame_return(f, NULL);
    }
    return deliver(f, dx, Py_None);
}

static int read_rank(struct frame *f, PyObject *const *args, Py_ssize_t n, Py_ssize_t wanted, int backward, struct options *o, int *average)
{
    long rank, kind;
    if (expect_arguments(f, n, wanted) < 0 || read_long(f, "rank", args[0], 1, 3, &rank) < 0 || read_long(f, "average", args[1], 0, 1, &kind) < 0)
        return -1;
    f->function = names[backward][kind][rank - 1];
    o->rank = (int)rank, o->average = *average = (int)kind;
    return 0;
}

/* pool_forward(rank, average, x, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, return_indices) */
static PyObject *pool_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "pool_forward"};
    struct options o = {0};
    struct cnn_pool p;
    PyArrayObject *x;
    int average;
    long indices;
    if (read_rank(&f, args, n, 10, 0, &o, &average) < 0)
        return NULL;
    const struct array_row rows[] = {{"x", args[2], &x, 0}};
    if (read_arrays(&f, rows, 1) < 0 || read_options(&f, args + 3, &o) < 0 || read_long(&f, "return_indices", args[9], NOTHING, TAPS, &indices) < 0 ||
        find_geometry(&f, &o, x, &p) < 0)
        return frame_return(&f, NULL);
    return run_forward(&f, average ? CNN_avg_pool_forward : CNN_max_pool_forward, &p, x, o.rank, (int)indices);
}

/* pool_backward(rank, average, dy, x, index, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad) -> dx */
static PyObject *pool_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "pool_backward"};
    struct options o = {0};
    struct cnn_pool p;
    PyArrayObject *dy, *x;
    int average;
    if (read_rank(&f, args, n, 11, 1, &o, &average) < 0)
        return NULL;
    const struct array_row rows[] = {{"dy", args[2], &dy, 0}, {"x", args[3], &x, 0}};
    if (read_arrays(&f, rows, 2) < 0 || read_options(&f, args + 5, &o) < 0 || find_geometry(&f, &o, x, &p) < 0)
        return frame_return(&f, NULL);
    return run_backward(&f, average, &p, dy, x, args[4], o.rank);
}

/* Windows that follow from the sizes: [floor(p M / P), ceil((p + 1) M / P)). */
static int find_adaptive(const struct frame *f, PyObject *output_size, PyArrayObject *x, int rank, struct cnn_pool *p)
{
    long out[3];
    if (check_image(f, x, rank) < 0 || read_longs(f, "output_size", output_size, rank, 1, LARGEST_INT, out) < 0)
        return -1;
    const int batched = PyArray_NDIM(x) == rank + 2;
    *p = (struct cnn_pool){.n = batched ? PyArray_DIM(x, 0) : 1, .c = PyArray_DIM(x, batched), .adaptive = 1};
    for (int a = 0; a < 3; a++) {
        const int axis = 1 + batched + a - (3 - rank);
        p->in[a] = a < 3 - rank ? 1 : PyArray_DIM(x, axis);
        p->out[a] = a < 3 - rank ? 1 : out[a - (3 - rank)];
        p->stride[a] = p->dilation[a] = 1;
        p->window[a] = (p->in[a] + p->out[a] - 1) / p->out[a] + 1;
        if (p->in[a] == 0 || p->in[a] > LARGEST_INT) {
            refuse(f, PyExc_ValueError, "x has %ld cells along axis %d, expected at least one", p->in[a], axis);
            return -1;
        }
    }
    return 0;
}

static int read_function(struct frame *f, PyObject *const *args, Py_ssize_t n, Py_ssize_t wanted, long *rank)
{
    if (expect_arguments(f, n, wanted) < 0 || read_name(f, args[0]) < 0)
        return -1;
    return read_long(f, "rank", args[1], 1, 3, rank);
}

/* adaptive_pool_forward(name, rank, average, x, output_size, return_indices) */
static PyObject *adaptive_pool_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "adaptive_pool_forward"};
    struct cnn_pool p;
    PyArrayObject *x;
    long rank, indices;
    int average;
    if (read_function(&f, args, n, 6, &rank) < 0 || read_bool(&f, "average", args[2], &average) < 0)
        return NULL;
    const struct array_row rows[] = {{"x", args[3], &x, 0}};
    if (read_arrays(&f, rows, 1) < 0 || read_long(&f, "return_indices", args[5], NOTHING, TAPS, &indices) < 0 || find_adaptive(&f, args[4], x, (int)rank, &p) < 0)
        return frame_return(&f, NULL);
    return run_forward(&f, average ? CNN_avg_pool_forward : CNN_max_pool_forward, &p, x, (int)rank, (int)indices);
}

/* adaptive_pool_backward(name, rank, average, dy, x, index, output_size) -> dx */
static PyObject *adaptive_pool_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "adaptive_pool_backward"};
    struct cnn_pool p;
    PyArrayObject *dy, *x;
    long rank;
    int average;
    if (read_function(&f, args, n, 7, &rank) < 0 || read_bool(&f, "average", args[2], &average) < 0)
        return NULL;
    const struct array_row rows[] = {{"dy", args[3], &dy, 0}, {"x", args[4], &x, 0}};
    if (read_arrays(&f, rows, 2) < 0 || find_adaptive(&f, args[6], x, (int)rank, &p) < 0)
        return frame_return(&f, NULL);
    return run_backward(&f, average, &p, dy, x, args[5], (int)rank);
}

static int find_lp(const struct frame *f, PyObject *const *args, PyArrayObject *x, int rank, struct cnn_pool *p)
{
    struct options o = {.rank = rank, .dilation = {1, 1, 1}};
    double norm;
    if (read_longs(f, "kernel_size", args[0], rank, 1, LARGEST_INT, o.window) < 0 || read_double(f, "norm_type", args[1], 1e-3, 1e3, &norm) < 0 ||
        read_longs(f, "stride", args[2] == Py_None ? args[0] : args[2], rank, 1, LARGEST_INT, o.stride) < 0 || read_bool(f, "ceil_mode", args[3], &o.ceil_mode) < 0 ||
        find_geometry(f, &o, x, p) < 0)
        return -1;
    p->norm = norm;
    return 0;
}

/* lp_pool_forward(name, rank, x, kernel_size, norm_type, stride, ceil_mode) */
static PyObject *lp_pool_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "lp_pool_forward"};
    struct cnn_pool p;
    PyArrayObject *x;
    long rank;
    if (read_function(&f, args, n, 7, &rank) < 0)
        return NULL;
    const struct array_row rows[] = {{"x", args[2], &x, 0}};
    if (read_arrays(&f, rows, 1) < 0 || find_lp(&f, args + 3, x, (int)rank, &p) < 0)
        return frame_return(&f, NULL);
    return run_forward(&f, CNN_lp_pool_forward, &p, x, (int)rank, 0);
}

/* lp_pool_backward(name, rank, dy, x, y, kernel_size, norm_type, stride, ceil_mode) -> dx */
static PyObject *lp_pool_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "lp_pool_backward"};
    struct cnn_pool p;
    PyArrayObject *dy, *x, *y, *dx;
    long rank, in[5], out[5];
    npy_intp shape[5];
    if (read_function(&f, args, n, 9, &rank) < 0)
        return NULL;
    const struct array_row rows[] = {{"dy", args[2], &dy, 0}, {"x", args[3], &x, 0}, {"cache", args[4], &y, 0}};
    if (read_arrays(&f, rows, 3) < 0 || find_lp(&f, args + 5, x, (int)rank, &p) < 0)
        return frame_return(&f, NULL);
    const int batched = PyArray_NDIM(x) == rank + 2, nd = (int)rank + 1 + batched;
    result_shape(&p, (int)rank, batched, shape);
    find_shapes(&p, in, out);
    if (check_shape(&f, "dy", dy, nd, shape) < 0 || check_shape(&f, "cache", y, nd, shape) < 0 ||
        !(dx = new_result(&f, nd, PyArray_DIMS(x), batched && is_channels_last(x))))
        return frame_return(&f, NULL);
    if (PyArray_SIZE(dx) > 0) {
        /* One set of strides serves dy and y, another x and dx: all as dense channels-last images. */
        long ignored[5];
        void *from_dy = dense_together(&f, dy, (int)rank, out, p.y), *from_y = dense_together(&f, y, (int)rank, out, p.y);
        void *from_x = dense_together(&f, x, (int)rank, in, p.x);
        PyArrayObject *aside = new_together(&f, (int)rank, in, ignored);
        if (!from_dy || !from_y || !from_x || !aside)
            return frame_return(&f, NULL);
        void *const arrays[] = {from_dy, from_x, from_y, PyArray_DATA(aside)};
        if (run_entry(&f, CNN_lp_pool_backward, &p, arrays, pool_work(&p) * 4) < 0 || store_image(&f, in, PyArray_DATA(aside), p.x, dx, (int)rank) < 0)
            return frame_return(&f, NULL);
    }
    return deliver(&f, dx, Py_None);
}

/* max_unpool(name, rank, x or dy, indices, kernel_size, stride, padding, output_size, backward): the plane's size, checked; x -> y, or dy -> dx
 * for an x of the shape of indices */
static PyObject *max_unpool(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "max_unpool"};
    struct cnn_pool p;
    PyArrayObject *a, *index, *result;
    long rank, window[3], stride[3], pad[3], size[3] = {0};
    int backward;
    if (read_function(&f, args, n, 9, &rank) < 0 || read_bool(&f, "backward", args[8], &backward) < 0)
        return NULL;
    const struct array_row rows[] = {{backward ? "dy" : "x", args[2], &a, 0}};
    if (read_arrays(&f, rows, 1) < 0 || read_integers_array(&f, "indices", args[3], &index) < 0 ||
        read_longs(&f, "kernel_size", args[4], (int)rank, 1, LARGEST_INT, window) < 0 ||
        read_longs(&f, "stride", args[5] == Py_None ? args[4] : args[5], (int)rank, 1, LARGEST_INT, stride) < 0 ||
        read_longs(&f, "padding", args[6], (int)rank, 0, LARGEST_INT, pad) < 0 ||
        (args[7] != Py_None && read_longs(&f, "output_size", args[7], (int)rank, 1, LARGEST_INT, size) < 0) || check_image(&f, a, (int)rank) < 0)
        return frame_return(&f, NULL);
    const int nd = PyArray_NDIM(a), batched = nd == rank + 2;
    if (PyArray_NDIM(index) != nd) {
        refuse(&f, PyExc_ValueError, "indices has shape %s, expected %d axes like %s", shape_text(index), nd, backward ? "dy" : "x");
        return frame_return(&f, NULL);
    }
    p = (struct cnn_pool){.n = batched ? PyArray_DIM(index, 0) : 1, .c = PyArray_DIM(index, batched)};
    npy_intp plane[5], values[5];
    memcpy(values, PyArray_DIMS(index), sizeof(npy_intp) * (size_t)nd);
    memcpy(plane, values, sizeof(npy_intp) * (size_t)nd);
    for (int k = 0; k < 3; k++)
        p.in[k] = p.out[k] = 1;
    for (int i = 0; i < rank; i++) {
        const int axis = 1 + batched + i;
        const long natural = (values[axis] - 1) * stride[i] - 2 * pad[i] + window[i];
        const long wanted = args[7] == Py_None ? natural : size[i];
        if (wanted < 1 || (args[7] != Py_None && (wanted <= natural - stride[i] || wanted >= natural + stride[i]))) {
            refuse(&f, PyExc_ValueError, "output_size %ld along axis %d, expected %ld to %ld", wanted, axis, natural - stride[i] + 1, natural + stride[i] - 1);
            return frame_return(&f, NULL);
        }
        p.in[3 - rank + i] = plane[axis] = wanted;
        p.out[3 - rank + i] = values[axis];
    }
    const npy_intp *expected = backward ? plane : values;
    if (check_shape(&f, backward ? "dy" : "x", a, nd, expected) < 0 || check_indices(&f, "indices", &p, index, nd, values) < 0 ||
        !(result = new_result(&f, nd, backward ? values : plane, batched && is_channels_last(a))))
        return frame_return(&f, NULL);
    find_strides(backward ? a : result, (int)rank, p.x);
    find_strides(backward ? result : a, (int)rank, p.y);
    void *const arrays[] = {PyArray_DATA(a), PyArray_DATA(index), PyArray_DATA(result)};
    if (PyArray_SIZE(result) > 0 &&
        run_entry(&f, backward ? CNN_max_unpool_backward : CNN_max_unpool_forward, &p, arrays, (double)(PyArray_SIZE(result) + PyArray_SIZE(a)) * 2) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, result, Py_None);
}

PyMethodDef pool_methods[] = {
    METHOD(pool_forward, "rank, average, x, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, return_indices -> y or (y, indices)"),
    METHOD(pool_backward, "rank, average, dy, x, index, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad -> dx"),
    METHOD(adaptive_pool_forward, "name, rank, average, x, output_size, return_indices -> y or (y, indices)"),
    METHOD(adaptive_pool_backward, "name, rank, average, dy, x, index, output_size -> dx"),
    METHOD(lp_pool_forward, "name, rank, x, kernel_size, norm_type, stride, ceil_mode -> y"),
    METHOD(lp_pool_backward, "name, rank, dy, x, y, kernel_size, norm_type, stride, ceil_mode -> dx"),
    METHOD(max_unpool, "name, rank, x or dy, indices, kernel_size, stride, padding, output_size, backward -> y or dx"),
    {NULL, NULL, 0, NULL}};
