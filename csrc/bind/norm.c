/* norm.c: bindings of normalisation. Arguments by position, the function's name first. */
#include "record.h"

#include <math.h>

/* x in C order or channels-last; n, c, s from its shape. layer norms see rows of the last axes instead. */
struct norm {
    struct cnn_norm p;
    PyArrayObject *x, *dy, *weight, *bias;
};

static int check_vector(const struct frame *f, const char *name, PyArrayObject *a, npy_intp length, const char *of)
{
    if (!a || (PyArray_NDIM(a) == 1 && PyArray_DIM(a, 0) == length))
        return 0;
    refuse(f, PyExc_ValueError, "%s has shape %s, expected (%zd,), one value a %s of x", name, shape_text(a), (Py_ssize_t)length, of);
    return -1;
}

static int same_shape(const struct frame *f, PyArrayObject *dy, PyArrayObject *x)
{
    return check_shape(f, "dy", dy, PyArray_NDIM(x), PyArray_DIMS(x));
}

/* (N, C, ...) as [n][c][s] */
static int find_images(struct frame *f, struct norm *s)
{
    const int rank = PyArray_NDIM(s->x);
    if (rank < 2) {
        refuse(f, PyExc_ValueError, "x has shape %s, expected (N, C) or (N, C, spatial)", shape_text(s->x));
        return -1;
    }
    if ((!is_dense(s->x) && !(s->x = in_c_order(f, s->x))) || (s->dy && !(s->dy = ordered_like(f, s->dy, s->x))))
        return -1;
    s->p.n = PyArray_DIM(s->x, 0), s->p.c = PyArray_DIM(s->x, 1), s->p.s = 1;
    for (int i = 2; i < rank; i++)
        s->p.s *= PyArray_DIM(s->x, i);
    s->p.channels_last = rank == 2 || (is_channels_last(s->x) && !PyArray_IS_C_CONTIGUOUS(s->x)) || s->p.s == 1;
    return 0;
}

static int in_order(struct frame *f, PyArrayObject **a) { return !*a || (*a = in_c_order(f, *a)) ? 0 : -1; }

static double work_of(const struct cnn_norm *p) { return 500 + (double)(p->n * p->c) * (double)p->s * 0.6; }

/* Rows: shape (the normalised axes; None: images in `groups`), eps, centred. */
static int find_rows(struct frame *f, struct norm *s, PyObject *shape, PyObject *groups, PyObject *epsilon, PyObject *centred)
{
    if (read_double(f, "eps", epsilon, 0, INFINITY, &s->p.epsilon) < 0 || read_bool(f, "centred", centred, &s->p.centred) < 0)
        return -1;
    if (shape == Py_None) {
        if (read_long(f, "num_groups", groups, 1, LARGEST_INT, &s->p.groups) < 0 || find_images(f, s) < 0)
            return -1;
        if (s->p.c == 0 || s->p.c % s->p.groups) {
            refuse(f, PyExc_ValueError, "num_groups is %ld, expected a divisor of the %ld channels of x", s->p.groups, s->p.c);
            return -1;
        }
        return check_vector(f, "weight", s->weight, s->p.c, "channel") < 0 || check_vector(f, "bias", s->bias, s->p.c, "channel") < 0 ? -1 : 0;
    }
    PyObject *items = PyLong_Check(shape) && !PyBool_Check(shape) ? PyTuple_Pack(1, shape)
                      : PySequence_Check(shape) && !PyUnicode_Check(shape) && !PyBytes_Check(shape) ? PySequence_Tuple(shape) : NULL;
    const Py_ssize_t count = items ? PyTuple_GET_SIZE(items) : 0;
    npy_intp lengths[NPY_MAXDIMS];
    if (!items || count < 1 || count > PyArray_NDIM(s->x)) {
        PyErr_Clear();
        refuse(f, items ? PyExc_ValueError : PyExc_TypeError, "normalized_shape is %R, expected the last axes of x, which has shape %s", shape, shape_text(s->x));
        Py_XDECREF(items);
        return -1;
    }
    s->p.n = 1, s->p.c = 1, s->p.s = 1, s->p.groups = 1, s->p.channels_last = 1;
    for (Py_ssize_t i = 0; i < count; i++) {
        long length;
        if (read_long(f, "normalized_shape", PyTuple_GET_ITEM(items, i), 1, 1l << 60, &length) < 0) {
            Py_DECREF(items);
            return -1;
        }
        lengths[i] = length;
    }
    Py_DECREF(items);
    const int lead = PyArray_NDIM(s->x) - (int)count;
    if (!PyArray_CompareLists(lengths, PyArray_DIMS(s->x) + lead, (int)count)) {
        refuse(f, PyExc_ValueError, "normalized_shape is %R, expected the last axes of x, which has shape %s", shape, shape_text(s->x));
        return -1;
    }
    for (int i = 0; i < PyArray_NDIM(s->x); i++)
        *(i < lead ? &s->p.n : &s->p.c) *= PyArray_DIM(s->x, i);
    for (int k = 0; k < 2; k++) {
        PyArrayObject *a = k ? s->bias : s->weight;
        if (a && check_shape(f, k ? "bias" : "weight", a, (int)count, lengths) < 0)
            return -1;
    }
    return (s->x = in_c_order(f, s->x)) && (!s->dy || (s->dy = in_c_order(f, s->dy))) ? 0 : -1;
}

/* row_norm_forward(name, x, weight, bias, normalized_shape, num_groups, eps, centred) -> y, mean, rstd */
static PyObject *row_norm_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "row_norm"};
    struct norm s = {0};
    const struct array_row rows[] = {{"x", args[1], &s.x, 0}, {"weight", args[2], &s.weight, 1}, {"bias", args[3], &s.bias, 1}};
    PyArrayObject *y, *mean, *rstd;
    if (expect_arguments(&f, n, 8) < 0 || read_name(&f, args[0]) < 0 || read_arrays(&f, rows, 3) < 0 || find_rows(&f, &s, args[4], args[5], args[6], args[7]) < 0 ||
        in_order(&f, &s.weight) < 0 || in_order(&f, &s.bias) < 0)
        return frame_return(&f, NULL);
    const npy_intp sets = s.p.n * s.p.groups;
    if (!(y = new_result(&f, PyArray_NDIM(s.x), PyArray_DIMS(s.x), args[4] == Py_None && is_channels_last(s.x))) || !(mean = new_result(&f, 1, &sets, 0)) ||
        !(rstd = new_result(&f, 1, &sets, 0)))
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(s.x), s.weight ? PyArray_DATA(s.weight) : NULL, s.bias ? PyArray_DATA(s.bias) : NULL, PyArray_DATA(y), PyArray_DATA(mean), PyArray_DATA(rstd)};
    if (PyArray_SIZE(y) > 0 && run_entry(&f, CNN_row_norm_forward, &s.p, arrays, work_of(&s.p)) < 0)
        return frame_return(&f, NULL);
    return frame_return(&f, PyTuple_Pack(3, y, mean, rstd));
}

/* row_norm_backward(name, dy, x, weight, bias, mean, rstd, normalized_shape, num_groups, eps, centred) -> dx, dweight, dbias (None where absent) */
static PyObject *row_norm_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "row_norm_backward"};
    struct norm s = {0};
    PyArrayObject *mean, *rstd, *dx, *dw = NULL, *db = NULL;
    const struct array_row rows[] = {{"dy", args[1], &s.dy, 0}, {"x", args[2], &s.x, 0}, {"weight", args[3], &s.weight, 1}, {"bias", args[4], &s.bias, 1},
                                     {"cache", args[5], &mean, 0}, {"cache", args[6], &rstd, 0}};
    if (expect_arguments(&f, n, 11) < 0 || read_name(&f, args[0]) < 0 || read_arrays(&f, rows, 6) < 0 || same_shape(&f, s.dy, s.x) < 0 ||
        find_rows(&f, &s, args[7], args[8], args[9], args[10]) < 0 || in_order(&f, &s.weight) < 0 || in_order(&f, &mean) < 0 || in_order(&f, &rstd) < 0)
        return frame_return(&f, NULL);
    const npy_intp sets = s.p.n * s.p.groups;
    if (check_shape(&f, "cache", mean, 1, &sets) < 0 || check_shape(&f, "cache", rstd, 1, &sets) < 0 ||
        !(dx = new_result(&f, PyArray_NDIM(s.x), PyArray_DIMS(s.x), args[7] == Py_None && is_channels_last(s.x))) ||
        (s.weight && !(dw = new_result(&f, PyArray_NDIM(s.weight), PyArray_DIMS(s.weight), 0))) ||
        (s.bias && !(db = new_result(&f, PyArray_NDIM(s.bias), PyArray_DIMS(s.bias), 0))))
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(s.dy), PyArray_DATA(s.x), s.weight ? PyArray_DATA(s.weight) : NULL, PyArray_DATA(mean), PyArray_DATA(rstd), PyArray_DATA(dx),
                            dw ? PyArray_DATA(dw) : NULL, db ? PyArray_DATA(db) : NULL};
    if (s.p.c * s.p.s > 0 && run_entry(&f, CNN_row_norm_backward, &s.p, arrays, work_of(&s.p) * 2) < 0)
        return frame_return(&f, NULL);
    return frame_return(&f, PyTuple_Pack(3, dx, dw ? (PyObject *)dw : Py_None, db ? (PyObject *)db : Py_None));
}

/* batch_norm_forward(x, running_mean, running_var, weight, bias, training, eps) -> y, mean, variance; the latter two are those used */
static PyObject *batch_norm_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "batch_norm"};
    struct norm s = {0};
    PyArrayObject *mean, *variance, *y;
    const struct array_row rows[] = {{"x", args[0], &s.x, 0}, {"running_mean", args[1], &mean, 1}, {"running_var", args[2], &variance, 1},
                                     {"weight", args[3], &s.weight, 1}, {"bias", args[4], &s.bias, 1}};
    if (expect_arguments(&f, n, 7) < 0 || read_arrays(&f, rows, 5) < 0 || read_bool(&f, "training", args[5], &s.p.trained) < 0 ||
        read_double(&f, "eps", args[6], 0, INFINITY, &s.p.epsilon) < 0 || find_images(&f, &s) < 0 || check_vector(&f, "running_mean", mean, s.p.c, "channel") < 0 ||
        check_vector(&f, "running_var", variance, s.p.c, "channel") < 0 || check_vector(&f, "weight", s.weight, s.p.c, "channel") < 0 ||
        check_vector(&f, "bias", s.bias, s.p.c, "channel") < 0)
        return frame_return(&f, NULL);
    if (!s.p.trained && (!mean || !variance)) {
        refuse(&f, PyExc_ValueError, "%s is None, expected running statistics with training=False", mean ? "running_var" : "running_mean");
        return frame_return(&f, NULL);
    }
    if (s.p.trained && s.p.n * s.p.s == 1) {
        refuse(&f, PyExc_ValueError, "x has shape %s, expected more than one value a channel with training=True", shape_text(s.x));
        return frame_return(&f, NULL);
    }
    const npy_intp channels = s.p.c;
    s.p.centred = 1, s.p.groups = s.p.c;
    if (in_order(&f, &s.weight) < 0 || in_order(&f, &s.bias) < 0 || !(y = new_result(&f, PyArray_NDIM(s.x), PyArray_DIMS(s.x), is_channels_last(s.x))))
        return frame_return(&f, NULL);
    if (s.p.trained) {
        if (!(mean = new_result(&f, 1, &channels, 0)) || !(variance = new_result(&f, 1, &channels, 0)))
            return frame_return(&f, NULL);
        if (PyArray_SIZE(s.x) == 0) {
            record_failure(f.function, "an empty batch");
            memset(PyArray_DATA(mean), 0, (size_t)PyArray_NBYTES(mean));
            memset(PyArray_DATA(variance), 0, (size_t)PyArray_NBYTES(variance));
        }
        void *const arrays[] = {PyArray_DATA(s.x), PyArray_DATA(mean), PyArray_DATA(variance)};
        if (PyArray_SIZE(s.x) > 0 && run_entry(&f, CNN_channel_moments, &s.p, arrays, work_of(&s.p)) < 0)
            return frame_return(&f, NULL);
    } else if (in_order(&f, &mean) < 0 || in_order(&f, &variance) < 0)
        return frame_return(&f, NULL);
    is_given(mean), is_given(variance);
    void *const arrays[] = {PyArray_DATA(s.x), s.weight ? PyArray_DATA(s.weight) : NULL, s.bias ? PyArray_DATA(s.bias) : NULL, PyArray_DATA(mean), PyArray_DATA(variance),
                            NULL, PyArray_DATA(y)};
    if (PyArray_SIZE(y) > 0 && run_entry(&f, CNN_channel_norm_forward, &s.p, arrays, work_of(&s.p)) < 0)
        return frame_return(&f, NULL);
    return frame_return(&f, PyTuple_Pack(3, y, mean, variance));
}

/* running_update(running_mean, running_var, mean, variance, momentum, count): in place; either of the first two may be None */
static PyObject *running_update(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "batch_norm"};
    struct cnn_running p = {0};
    PyArrayObject *arrays[4];
    static const char *const names[] = {"running_mean", "running_var", "mean", "variance"};
    if (expect_arguments(&f, n, 6) < 0 || read_double(&f, "momentum", args[4], 0, 1, &p.momentum) < 0 || read_long(&f, "count", args[5], 2, 1l << 60, &p.count) < 0)
        return NULL;
    PyArrayObject *like = NULL;
    for (int i = 3; i >= 0; i--) {
        arrays[i] = (PyArrayObject *)args[i];
        if (i < 2 && args[i] == Py_None) {
            arrays[i] = NULL;
            continue;
        }
        if (!PyArray_Check(args[i]) || PyArray_NDIM(arrays[i]) != 1 || !PyArray_ISCARRAY_RO(arrays[i]) || (i < 2 && !PyArray_ISWRITEABLE(arrays[i])) ||
            (PyArray_TYPE(arrays[i]) != NPY_FLOAT && PyArray_TYPE(arrays[i]) != NPY_DOUBLE) ||
            (like && (PyArray_TYPE(arrays[i]) != PyArray_TYPE(like) || PyArray_DIM(arrays[i], 0) != PyArray_DIM(like, 0))))
            return refuse(&f, PyExc_TypeError, "%s is no dense vector like the others", names[i]);
        like = arrays[i];
    }
    f.dtype = PyArray_TYPE(like) == NPY_FLOAT ? CNN_F32 : CNN_F64;
    p.size = PyArray_DIM(like, 0);
    void *const data[] = {PyArray_DATA(arrays[2]), PyArray_DATA(arrays[3]), arrays[0] ? PyArray_DATA(arrays[0]) : NULL, arrays[1] ? PyArray_DATA(arrays[1]) : NULL};
    if (run_entry(&f, CNN_running_update, &p, data, (double)p.size) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* batch_norm_backward(dy, x, weight, bias, mean, variance, training, eps, needs) -> dx, dweight, dbias; needs: bits 1, 2, 4 */
static PyObject *batch_norm_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "batch_norm_backward"};
    struct norm s = {0};
    PyArrayObject *mean, *variance, *dx = NULL, *dw = NULL, *db = NULL;
    long needs;
    const struct array_row rows[] = {{"dy", args[0], &s.dy, 0}, {"x", args[1], &s.x, 0}, {"weight", args[2], &s.weight, 1}, {"bias", args[3], &s.bias, 1},
                                     {"running_mean", args[4], &mean, 0}, {"running_var", args[5], &variance, 0}};
    if (expect_arguments(&f, n, 9) < 0 || read_arrays(&f, rows, 6) < 0 || read_bool(&f, "training", args[6], &s.p.trained) < 0 ||
        read_double(&f, "eps", args[7], 0, INFINITY, &s.p.epsilon) < 0 || read_long(&f, "needs", args[8], 0, 7, &needs) < 0 || same_shape(&f, s.dy, s.x) < 0 ||
        find_images(&f, &s) < 0 || check_vector(&f, "running_mean", mean, s.p.c, "channel") < 0 || check_vector(&f, "running_var", variance, s.p.c, "channel") < 0 ||
        check_vector(&f, "weight", s.weight, s.p.c, "channel") < 0 || check_vector(&f, "bias", s.bias, s.p.c, "channel") < 0)
        return frame_return(&f, NULL);
    const npy_intp channels = s.p.c;
    if (in_order(&f, &s.weight) < 0 || in_order(&f, &s.bias) < 0 || in_order(&f, &mean) < 0 || in_order(&f, &variance) < 0 ||
        (needs & 1 && !(dx = new_result(&f, PyArray_NDIM(s.x), PyArray_DIMS(s.x), is_channels_last(s.x)))) ||
        (needs & 2 && s.weight && !(dw = new_result(&f, 1, &channels, 0))) || (needs & 4 && s.bias && !(db = new_result(&f, 1, &channels, 0))))
        return frame_return(&f, NULL);
    is_given(mean), is_given(variance);
    void *const arrays[] = {PyArray_DATA(s.dy), PyArray_DATA(s.x), s.weight ? PyArray_DATA(s.weight) : NULL, PyArray_DATA(mean), PyArray_DATA(variance),
                            s.bias ? PyArray_DATA(s.bias) : NULL, NULL, dx ? PyArray_DATA(dx) : NULL, dw ? PyArray_DATA(dw) : NULL, db ? PyArray_DATA(db) : NULL, NULL};
    if (s.p.c > 0 && run_entry(&f, CNN_channel_norm_backward, &s.p, arrays, work_of(&s.p) * 2) < 0)
        return frame_return(&f, NULL);
    return frame_return(&f, PyTuple_Pack(3, dx ? (PyObject *)dx : Py_None, dw ? (PyObject *)dw : Py_None, db ? (PyObject *)db : Py_None));
}

static PyObject *local_norm(struct frame *f, enum cnn_entry_number entry, struct norm *s, PyObject *const *options, int backward)
{
    PyArrayObject *y;
    if (read_long(f, "size", options[0], 1, LARGEST_INT, &s->p.window) < 0 || read_double(f, "alpha", options[1], -INFINITY, INFINITY, &s->p.alpha) < 0 ||
        read_double(f, "beta", options[2], -INFINITY, INFINITY, &s->p.beta) < 0 || read_double(f, "k", options[3], -INFINITY, INFINITY, &s->p.k) < 0 ||
        (backward && same_shape(f, s->dy, s->x) < 0) || find_images(f, s) < 0 ||
        !(y = new_result(f, PyArray_NDIM(s->x), PyArray_DIMS(s->x), is_channels_last(s->x))))
        return frame_return(f, NULL);
    void *const forward_arrays[] = {PyArray_DATA(s->x), PyArray_DATA(y)}, *const backward_arrays[] = {backward ? PyArray_DATA(s->dy) : NULL, PyArray_DATA(s->x), PyArray_DATA(y)};
    if (PyArray_SIZE(y) > 0 && run_entry(f, entry, &s->p, backward ? backward_arrays : forward_arrays, work_of(&s->p) * 5) < 0)
        return frame_return(f, NULL);
    return deliver(f, y, Py_None);
}

/* local_response_norm_forward(x, size, alpha, beta, k) */
static PyObject *local_response_norm_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "local_response_norm"};
    struct norm s = {0};
    const struct array_row rows[] = {{"x", args[0], &s.x, 0}};
    if (expect_arguments(&f, n, 5) < 0 || read_arrays(&f, rows, 1) < 0)
        return frame_return(&f, NULL);
    return local_norm(&f, CNN_local_response_norm_forward, &s, args + 1, 0);
}

/* local_response_norm_backward(dy, x, size, alpha, beta, k) */
static PyObject *local_response_norm_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "local_response_norm_backward"};
    struct norm s = {0};
    const struct array_row rows[] = {{"dy", args[0], &s.dy, 0}, {"x", args[1], &s.x, 0}};
    if (expect_arguments(&f, n, 6) < 0 || read_arrays(&f, rows, 2) < 0)
        return frame_return(&f, NULL);
    return local_norm(&f, CNN_local_response_norm_backward, &s, args + 2, 1);
}

/* dropout(name, x, p, key, whole_channels): its own backward */
static PyObject *dropout(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "dropout"};
    struct norm s = {0};
    struct cnn_dropout p = {0};
    PyArrayObject *y;
    if (expect_arguments(&f, n, 5) < 0 || read_name(&f, args[0]) < 0)
        return NULL;
    const struct array_row rows[] = {{strstr(f.function, "backward") ? "dy" : "x", args[1], &s.x, 0}};
    if (read_arrays(&f, rows, 1) < 0 || read_double(&f, "p", args[2], 0, 1, &p.share) < 0 || read_bool(&f, "whole_channels", args[4], &p.whole_channels) < 0)
        return frame_return(&f, NULL);
    p.key = PyLong_AsUnsignedLongMask(args[3]);
    if (PyErr_Occurred())
        return frame_return(&f, NULL);
    if (PyArray_NDIM(s.x) >= 2 ? find_images(&f, &s) < 0 : !(s.x = in_c_order(&f, s.x)))
        return frame_return(&f, NULL);
    if (PyArray_NDIM(s.x) >= 2)
        p.n = s.p.n, p.c = s.p.c, p.s = s.p.s, p.channels_last = s.p.channels_last;
    else
        p.n = p.c = 1, p.s = PyArray_SIZE(s.x);
    if (!(y = new_result(&f, PyArray_NDIM(s.x), PyArray_DIMS(s.x), is_channels_last(s.x))))
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(s.x), PyArray_DATA(y)};
    if (PyArray_SIZE(y) > 0 && run_entry(&f, CNN_dropout, &p, arrays, (double)PyArray_SIZE(y)) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, Py_None);
}

PyMethodDef norm_methods[] = {
    METHOD(row_norm_forward, "name, x, weight, bias, normalized_shape, num_groups, eps, centred -> y, mean, rstd"),
    METHOD(row_norm_backward, "name, dy, x, weight, bias, mean, rstd, normalized_shape, num_groups, eps, centred -> dx, dweight, dbias"),
    METHOD(batch_norm_forward, "x, running_mean, running_var, weight, bias, training, eps -> y, mean, variance"),
    METHOD(batch_norm_backward, "dy, x, weight, bias, mean, variance, training, eps, needs -> dx, dweight, dbias"),
    METHOD(running_update, "running_mean, running_var, mean, variance, momentum, count"),
    METHOD(local_response_norm_forward, "x, size, alpha, beta, k -> y"), METHOD(local_response_norm_backward, "dy, x, size, alpha, beta, k -> dx"),
    METHOD(dropout, "name, x, p, key, whole_channels -> y"), {NULL, NULL, 0, NULL}};
