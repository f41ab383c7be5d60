/* array.c: bindings of sums and of memory order. */
#include "window.h"

/* sum_axes(x, outer, axis, inner): x in C order seen as three axes -> (outer, inner) */
static PyObject *sum_axis(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "sum"};
    PyArrayObject *x, *y;
    struct cnn_reduce p;
    const struct array_row rows[] = {{"x", args[0], &x, 0}};
    if (expect_arguments(&f, n, 4) < 0 || read_arrays(&f, rows, 1) < 0 || read_long(&f, "outer", args[1], 0, 1l << 60, &p.outer) < 0 ||
        read_long(&f, "axis", args[2], 0, 1l << 60, &p.axis) < 0 || read_long(&f, "inner", args[3], 0, 1l << 60, &p.inner) < 0 || !(x = in_c_order(&f, x)))
        return frame_return(&f, NULL);
    if ((double)p.outer * (double)p.axis * (double)p.inner != (double)PyArray_SIZE(x)) {
        refuse(&f, PyExc_ValueError, "x has %zd elements, expected %ld x %ld x %ld", (Py_ssize_t)PyArray_SIZE(x), p.outer, p.axis, p.inner);
        return frame_return(&f, NULL);
    }
    const npy_intp shape[] = {p.outer, p.inner};
    if (!(y = new_result(&f, 2, shape, 0)))
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(x), PyArray_DATA(y)};
    if (PyArray_SIZE(y) > 0 && run_entry(&f, CNN_sum, &p, arrays, (double)PyArray_SIZE(x) * 0.2) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, Py_None);
}

/* channels_last(x): (N, C, spatial) with channels neighbours in memory; x itself where it is so already, a view where only
 * the strides of axes of length 1 differ. */
static PyObject *channels_last(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "channels_last"};
    PyArrayObject *x, *y;
    const struct array_row rows[] = {{"x", args[0], &x, 0}};
    if (expect_arguments(&f, n, 1) < 0 || read_arrays(&f, rows, 1) < 0)
        return frame_return(&f, NULL);
    const int rank = PyArray_NDIM(x) - 2;
    if (rank < 1 || rank > 3) {
        refuse(&f, PyExc_ValueError, "x has shape %s, expected (N, C, spatial) with one to three spatial axes", shape_text(x));
        return frame_return(&f, NULL);
    }
    if (is_channels_last(x))
        return deliver(&f, x, Py_None);
    if (PyArray_DIM(x, 1) == 1 && PyArray_IS_C_CONTIGUOUS(x)) {
        npy_intp strides[5];
        memcpy(strides, PyArray_STRIDES(x), sizeof(npy_intp) * (size_t)(rank + 2));
        strides[1] = PyArray_ITEMSIZE(x);
        y = (PyArrayObject *)frame_keep(&f, PyArray_New(&PyArray_Type, rank + 2, PyArray_DIMS(x), PyArray_TYPE(x), strides, PyArray_DATA(x), 0,
                                                        PyArray_FLAGS(x) & NPY_ARRAY_WRITEABLE, NULL));
        if (!y)
            return frame_return(&f, NULL);
        Py_INCREF(x);
        if (PyArray_SetBaseObject(y, (PyObject *)x) < 0)
            return frame_return(&f, NULL);
        return deliver(&f, y, Py_None);
    }
    long shape[5] = {PyArray_DIM(x, 0), PyArray_DIM(x, 1), 1, 1, 1}, from[5], to[5];
    for (int i = 0; i < rank; i++)
        shape[5 - rank + i] = PyArray_DIM(x, 2 + i);
    if (!(y = new_result(&f, rank + 2, PyArray_DIMS(x), 1)))
        return frame_return(&f, NULL);
    find_strides(x, rank, from);
    find_strides(y, rank, to);
    if (copy_image(&f, shape, PyArray_DATA(x), from, PyArray_DATA(y), to) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, Py_None);
}

/* rearrange(name, x, shape, axes, x_parts, y_parts): a new array of that shape, channels-last if x is, else C order, whose view of shape
 * y_parts is x's view of shape x_parts with its axes in the order `axes`. Both views only split axes. */
static PyObject *rearrange(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "rearrange"};
    PyArrayObject *x, *y;
    PyArray_Dims shape = {0}, axes = {0}, x_parts = {0}, y_parts = {0};
    PyObject *result = NULL;
    const struct array_row rows[] = {{"x", args[1], &x, 0}};
    if (expect_arguments(&f, n, 6) == 0 && PyUnicode_Check(args[0]) && (f.function = PyUnicode_AsUTF8(args[0])) && read_arrays(&f, rows, 1) == 0 &&
        PyArray_IntpConverter(args[2], &shape) && PyArray_IntpConverter(args[3], &axes) && PyArray_IntpConverter(args[4], &x_parts) &&
        PyArray_IntpConverter(args[5], &y_parts) &&
        (y = new_result(&f, shape.len, shape.ptr, PyArray_NDIM(x) == shape.len && is_channels_last(x)))) {
        PyArrayObject *from = (PyArrayObject *)frame_keep(&f, PyArray_Newshape(x, &x_parts, NPY_CORDER));
        PyArrayObject *to = (PyArrayObject *)frame_keep(&f, PyArray_Newshape(y, &y_parts, NPY_CORDER));
        struct cnn_array p = {.rank = axes.len};
        int fits = from && to && axes.len <= 8 && PyArray_NDIM(from) == axes.len && PyArray_NDIM(to) == axes.len && PyArray_BYTES(to) == PyArray_BYTES(y);
        for (int i = 0; fits && i < axes.len; i++) {
            fits = axes.ptr[i] >= 0 && axes.ptr[i] < axes.len && PyArray_DIM(from, (int)axes.ptr[i]) == PyArray_DIM(to, i);
            p.shape[i] = PyArray_DIM(to, i), p.x[i] = fits ? element_stride(from, (int)axes.ptr[i]) : 0, p.y[i] = element_stride(to, i);
        }
        if (!fits && !PyErr_Occurred())
            refuse(&f, PyExc_ValueError, "x of shape %s does not fit the parts", shape_text(x));
        void *const arrays[] = {fits ? PyArray_DATA(from) : NULL, PyArray_DATA(y)};
        if (fits && (PyArray_SIZE(y) == 0 || run_entry(&f, CNN_array_copy, &p, arrays, (double)PyArray_SIZE(y)) == 0))
            result = (PyObject *)y;
    }
    PyDimMem_FREE(shape.ptr), PyDimMem_FREE(axes.ptr), PyDimMem_FREE(x_parts.ptr), PyDimMem_FREE(y_parts.ptr);
    if (!result)
        return frame_return(&f, NULL);
    return deliver(&f, y, Py_None);
}

/* shape_of(function, x, name="x"): the shape of what would be read as the array argument `name` */
static PyObject *shape_of(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "shape_of"};
    PyArrayObject *x;
    const char *name = "x";
    if (expect_arguments(&f, n, n == 3 ? 3 : 2) < 0 || !PyUnicode_Check(args[0]) || !(f.function = PyUnicode_AsUTF8(args[0])) ||
        (n > 2 && !(name = PyUnicode_AsUTF8(args[2]))))
        return NULL;
    const struct array_row rows[] = {{name, args[1], &x, 0}};
    if (read_arrays(&f, rows, 1) < 0)
        return frame_return(&f, NULL);
    PyObject *shape = PyTuple_New(PyArray_NDIM(x));
    for (int i = 0; shape && i < PyArray_NDIM(x); i++) {
        PyObject *length = PyLong_FromSsize_t(PyArray_DIM(x, i));
        if (length)
            PyTuple_SET_ITEM(shape, i, length);
        else
            Py_CLEAR(shape);
    }
    return frame_return(&f, shape);
}

PyMethodDef array_methods[] = {METHOD(shape_of, "function, x, name='x' -> tuple"), METHOD(sum_axis, "x, outer, axis, inner -> y"), METHOD(channels_last, "x -> y"), METHOD(rearrange, "name, x, shape, axes, x_parts, y_parts -> y"), {NULL, NULL, 0, NULL}};
