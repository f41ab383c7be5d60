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

/* max_axis(x, outer, axis, inner): x in C order seen as three axes -> (outer, inner), int64 (outer, inner) places along the axis */
static PyObject *max_axis(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "max"};
    PyArrayObject *x, *y, *index;
    struct cnn_reduce p;
    const struct array_row rows[] = {{"x", args[0], &x, 0}};
    if (expect_arguments(&f, n, 4) < 0 || read_arrays(&f, rows, 1) < 0 || read_long(&f, "outer", args[1], 0, 1l << 60, &p.outer) < 0 ||
        read_long(&f, "axis", args[2], 1, LARGEST_INT, &p.axis) < 0 || read_long(&f, "inner", args[3], 0, 1l << 60, &p.inner) < 0 || !(x = in_c_order(&f, x)))
        return frame_return(&f, NULL);
    const npy_intp shape[] = {p.outer, p.inner};
    if ((double)p.outer * (double)p.axis * (double)p.inner != (double)PyArray_SIZE(x))
        return frame_return(&f, refuse(&f, PyExc_ValueError, "x has %zd elements, expected %ld x %ld x %ld", (Py_ssize_t)PyArray_SIZE(x), p.outer, p.axis, p.inner));
    if (!(y = new_result(&f, 2, shape, 0)) || !(index = new_int64(&f, 2, shape)))
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(x), PyArray_DATA(y), PyArray_DATA(index)};
    if (PyArray_SIZE(y) > 0 && run_entry(&f, CNN_max_forward, &p, arrays, (double)PyArray_SIZE(x) * 0.3) < 0)
        return frame_return(&f, NULL);
    return frame_return(&f, PyTuple_Pack(2, y, index));
}

/* max_axis_backward(dy, index, axis): dy and index (outer, inner) as above -> (outer, axis, inner) */
static PyObject *max_axis_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "max_backward"};
    PyArrayObject *dy, *index, *dx;
    struct cnn_reduce p;
    const struct array_row rows[] = {{"dy", args[0], &dy, 0}};
    if (expect_arguments(&f, n, 3) < 0 || read_arrays(&f, rows, 1) < 0 || read_integers_array(&f, "index", args[1], &index) < 0 ||
        read_long(&f, "axis", args[2], 1, LARGEST_INT, &p.axis) < 0 || !(dy = in_c_order(&f, dy)))
        return frame_return(&f, NULL);
    if (PyArray_NDIM(dy) != 2 || !PyArray_SAMESHAPE(dy, index))
        return frame_return(&f, refuse(&f, PyExc_ValueError, "index has shape %s, expected that of dy %s", shape_text(index), shape_text(dy)));
    const npy_int64 *place = PyArray_DATA(index);
    for (npy_intp i = 0; i < PyArray_SIZE(index); i++)
        if (place[i] < 0 || place[i] >= p.axis)
            return frame_return(&f, refuse(&f, PyExc_ValueError, "index holds %lld, expected 0 to %ld", (long long)place[i], p.axis - 1));
    p.outer = PyArray_DIM(dy, 0), p.inner = PyArray_DIM(dy, 1);
    const npy_intp shape[] = {p.outer, p.axis, p.inner};
    if (!(dx = new_result(&f, 3, shape, 0)))
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(dy), PyArray_DATA(index), PyArray_DATA(dx)};
    if (PyArray_SIZE(dx) > 0 && run_entry(&f, CNN_max_backward, &p, arrays, (double)PyArray_SIZE(dx) * 0.2) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, dx, Py_None);
}

/* One operand of `binary`: an array of the common dtype with its strides along the axes of the result, or a number. */
static void find_operand(PyArrayObject *a, int rank, const npy_intp *shape, long *strides)
{
    const int lead = rank - PyArray_NDIM(a);
    for (int i = 0; i < rank; i++)
        strides[i] = i < lead || (PyArray_DIM(a, i - lead) == 1 && shape[i] != 1) ? 0 : element_stride(a, i - lead);
}

/* binary(operator, a, b): arrays of floats or numbers, at least one array; b is None for a square root */
static PyObject *binary(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    static const char *const operators[] = {"add", "subtract", "multiply", "divide", "maximum", "sqrt", NULL}; /* enum cnn_operator */
    struct frame f = {.function = "binary"};
    struct cnn_binary p = {0};
    PyArrayObject *a = NULL, *b = NULL, *y;
    struct array_row rows[2];
    int count = 0;
    if (expect_arguments(&f, n, 3) < 0 || read_choice(&f, "operator", args[0], operators, &p.operator) < 0)
        return NULL;
    f.function = operators[p.operator];
    if (PyFloat_CheckExact(args[1]) || PyLong_CheckExact(args[1]))
        p.a_number = PyFloat_AsDouble(args[1]);
    else
        rows[count++] = (struct array_row){"a", args[1], &a, 0};
    if (PyFloat_CheckExact(args[2]) || PyLong_CheckExact(args[2]))
        p.b_number = PyFloat_AsDouble(args[2]);
    else if (p.operator != CNN_SQUARE_ROOT)
        rows[count++] = (struct array_row){"b", args[2], &b, 0};
    if (PyErr_Occurred() || read_arrays(&f, rows, count) < 0)
        return frame_return(&f, NULL);
    if (count == 0) {
        refuse(&f, PyExc_TypeError, "both operands are numbers, expected an array");
        return frame_return(&f, NULL);
    }
    const int ra = a ? PyArray_NDIM(a) : 0, rb = b ? PyArray_NDIM(b) : 0, rank = ra > rb ? ra : rb;
    npy_intp shape[NPY_MAXDIMS];
    int fits = rank <= 8;
    for (int i = 0; fits && i < rank; i++) {
        const npy_intp m = !a || i < rank - ra ? 1 : PyArray_DIM(a, i - (rank - ra)), k = !b || i < rank - rb ? 1 : PyArray_DIM(b, i - (rank - rb));
        fits = m == k || m == 1 || k == 1;
        shape[i] = m == 1 ? k : m;
    }
    if (!fits) {
        refuse(&f, PyExc_ValueError, "a has shape %s and b %s, expected shapes that broadcast, of at most 8 axes", a ? shape_text(a) : "()", b ? shape_text(b) : "()");
        return frame_return(&f, NULL);
    }
    PyArrayObject *whole = a && ra == rank && PyArray_CompareLists(PyArray_DIMS(a), shape, rank) ? a : b && rb == rank && PyArray_CompareLists(PyArray_DIMS(b), shape, rank) ? b : NULL;
    if (!(y = new_result(&f, rank, shape, whole && is_channels_last(whole) && !PyArray_IS_C_CONTIGUOUS(whole))))
        return frame_return(&f, NULL);
    p.rank = rank;
    for (int i = 0; i < rank; i++)
        p.shape[i] = shape[i], p.y[i] = element_stride(y, i);
    if (a)
        find_operand(a, rank, shape, p.a);
    if (b)
        find_operand(b, rank, shape, p.b);
    void *const arrays[] = {a ? PyArray_DATA(a) : NULL, b ? PyArray_DATA(b) : NULL, PyArray_DATA(y)};
    if (PyArray_SIZE(y) > 0 && run_entry(&f, CNN_binary, &p, arrays, (double)PyArray_SIZE(y) * 0.3) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, Py_None);
}

/* full_like(x, number): a new array of x's shape and dtype, in C order unless x is channels-last */
static PyObject *full_like(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "full_like"};
    struct cnn_map p = {0};
    PyArrayObject *x, *y;
    const struct array_row rows[] = {{"x", args[0], &x, 0}};
    if (expect_arguments(&f, n, 2) < 0 || read_arrays(&f, rows, 1) < 0 || read_number(&f, "number", args[1], &p.a) < 0 ||
        !(y = new_result(&f, PyArray_NDIM(x), PyArray_DIMS(x), is_channels_last(x))))
        return frame_return(&f, NULL);
    p.size = PyArray_SIZE(y);
    void *const arrays[] = {PyArray_DATA(y)};
    if (p.size > 0 && run_entry(&f, CNN_fill, &p, arrays, (double)p.size * 0.1) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, Py_None);
}

/* new_bytes(count) -> uint8 array of a buffer of the core's: aligned to 64 bytes, large pages where the system has them */
static PyObject *new_bytes(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "compiled program", .dtype = CNN_F32};
    long bytes;
    if (expect_arguments(&f, n, 1) < 0 || read_long(&f, "count", args[0], 0, 1l << 60, &bytes) < 0)
        return NULL;
    enum { LEAST = 1 << 17 }; /* what new_result takes from the core's buffers */
    const npy_intp reals = (bytes > LEAST ? bytes : LEAST) / 4 + 1, all = reals * 4;
    PyArrayObject *whole = new_result(&f, 1, &reals, 0);
    PyObject *view = whole ? PyArray_New(&PyArray_Type, 1, &all, NPY_UINT8, NULL, PyArray_DATA(whole), 0, NPY_ARRAY_CARRAY, NULL) : NULL;
    if (view) {
        Py_INCREF(whole);
        if (PyArray_SetBaseObject((PyArrayObject *)view, (PyObject *)whole) < 0)
            Py_CLEAR(view);
    }
    return frame_return(&f, view);
}

/* copy_to(y, x): y = x, arrays of one shape and dtype, y writeable */
static PyObject *copy_to(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "copy_to"};
    if (expect_arguments(&f, n, 2) < 0)
        return NULL;
    PyArrayObject *y = (PyArrayObject *)args[0], *x = (PyArrayObject *)args[1];
    if (!PyArray_Check(args[0]) || !PyArray_Check(args[1]) || PyArray_TYPE(x) != PyArray_TYPE(y) || !PyArray_SAMESHAPE(x, y) || !PyArray_ISBEHAVED(y) ||
        !PyArray_ISBEHAVED_RO(x) || (PyArray_TYPE(x) != NPY_FLOAT && PyArray_TYPE(x) != NPY_DOUBLE))
        return refuse(&f, PyExc_TypeError, "x and y are no two float arrays of one shape and dtype");
    f.dtype = PyArray_TYPE(x) == NPY_FLOAT ? CNN_F32 : CNN_F64;
    Py_INCREF(y); /* a view of something recorded, or an array that becomes known here */
    frame_keep(&f, (PyObject *)y);
    if (copy_into(&f, y, x) < 0)
        return frame_return(&f, NULL);
    Py_INCREF(Py_None);
    return frame_return(&f, Py_None);
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
    if (expect_arguments(&f, n, 6) == 0 && read_name(&f, args[0]) == 0 && read_arrays(&f, rows, 1) == 0 &&
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
    if (expect_arguments(&f, n, n == 3 ? 3 : 2) < 0 || read_name(&f, args[0]) < 0 ||
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

PyMethodDef array_methods[] = {METHOD(max_axis, "x, outer, axis, inner -> y, index"), METHOD(max_axis_backward, "dy, index, axis -> dx"), METHOD(binary, "operator, a, b -> y"), METHOD(full_like, "x, number -> y"), METHOD(copy_to, "y, x"), METHOD(new_bytes, "count -> uint8 array"), METHOD(shape_of, "function, x, name='x' -> tuple"), METHOD(sum_axis, "x, outer, axis, inner -> y"), METHOD(channels_last, "x -> y"), METHOD(rearrange, "name, x, shape, axes, x_parts, y_parts -> y"), {NULL, NULL, 0, NULL}};
