/* resize.c: bindings of interpolation. */
#include "window.h"

#include <math.h>

static const char *const modes[] = {"nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", NULL};
static const int numbers[] = {CNN_NEAREST, CNN_NEAREST_EXACT, CNN_LINEAR_RESIZE, CNN_LINEAR_RESIZE, CNN_LINEAR_RESIZE, CNN_CUBIC};
static const int ranks[] = {0, 0, 1, 2, 3, 2}; /* that a mode fixes */

/* args: size, scale_factor, mode, align_corners. A mode that fixes the rank also takes unbatched images. */
static int find_geometry(const struct frame *f, PyObject *const *args, PyArrayObject *x, struct cnn_resize *p, int *rank)
{
    int mode;
    if (read_choice(f, "mode", args[2], modes, &mode) < 0 || read_bool(f, "align_corners", args[3], &p->align_corners) < 0)
        return -1;
    p->mode = numbers[mode];
    *rank = ranks[mode] ? ranks[mode] : PyArray_NDIM(x) - 2;
    if (*rank < 1 || *rank > 3) {
        refuse(f, PyExc_ValueError, "x has shape %s, expected (N, C, spatial) with one to three spatial axes", shape_text(x));
        return -1;
    }
    if (ranks[mode] ? check_image(f, x, *rank) < 0 : 0)
        return -1;
    if (p->align_corners && mode < 2) {
        refuse(f, PyExc_ValueError, "align_corners is True, expected False with mode '%s'", modes[mode]);
        return -1;
    }
    if ((args[0] == Py_None) == (args[1] == Py_None)) {
        refuse(f, PyExc_ValueError, "size is %R and scale_factor %R, expected one of them", args[0], args[1]);
        return -1;
    }
    const int batched = PyArray_NDIM(x) == *rank + 2;
    p->n = batched ? PyArray_DIM(x, 0) : 1;
    p->c = PyArray_DIM(x, batched);
    long size[3] = {0};
    double scale[3] = {0};
    if (args[0] != Py_None && read_longs(f, "size", args[0], *rank, 1, LARGEST_INT, size) < 0)
        return -1;
    if (args[1] != Py_None) {
        const int many = PySequence_Check(args[1]) && !PyUnicode_Check(args[1]);
        PyObject *items = many ? PySequence_Tuple(args[1]) : PyTuple_Pack(1, args[1]);
        int ok = items != NULL;
        if (ok && many && PyTuple_GET_SIZE(items) != *rank) {
            refuse(f, PyExc_ValueError, "scale_factor has %zd values, expected one or %d, one an axis", PyTuple_GET_SIZE(items), *rank);
            ok = 0;
        }
        for (int i = 0; ok && i < *rank; i++)
            ok = read_double(f, "scale_factor", PyTuple_GET_ITEM(items, many ? i : 0), 1e-6, 1e6, &scale[i]) == 0;
        Py_XDECREF(items);
        if (!ok)
            return -1;
    }
    for (int a = 0; a < 3; a++) {
        const int i = a - (3 - *rank), axis = 1 + batched + i;
        p->in[a] = i < 0 ? 1 : PyArray_DIM(x, axis);
        p->out[a] = i < 0 ? 1 : args[0] != Py_None ? size[i] : (long)floor((double)p->in[a] * scale[i]);
        p->ratio[a] = i >= 0 && args[1] != Py_None ? 1 / scale[i] : 0;
        if (p->in[a] == 0 || p->out[a] < 1 || p->in[a] > LARGEST_INT) {
            refuse(f, PyExc_ValueError, "no output along axis %d: %ld cells become %ld", axis, p->in[a], p->out[a]);
            return -1;
        }
    }
    return 0;
}

static int result_shape(const struct cnn_resize *p, int rank, int batched, npy_intp shape[5])
{
    if (batched)
        shape[0] = p->n;
    shape[batched] = p->c;
    for (int i = 0; i < rank; i++)
        shape[1 + batched + i] = p->out[3 - rank + i];
    return rank + 1 + batched;
}

static double work(const struct cnn_resize *p) { return 1000 + 2.0 * (double)(p->n * p->c) * (double)(p->in[0] * p->in[1] * p->in[2] + p->out[0] * p->out[1] * p->out[2]); }

/* resize_forward(x, size, scale_factor, mode, align_corners) */
static PyObject *resize_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "interpolate"};
    struct cnn_resize p = {0};
    PyArrayObject *x, *y;
    npy_intp shape[5];
    int rank;
    const struct array_row rows[] = {{"x", args[0], &x, 0}};
    if (expect_arguments(&f, n, 5) < 0 || read_arrays(&f, rows, 1) < 0 || find_geometry(&f, args + 1, x, &p, &rank) < 0)
        return frame_return(&f, NULL);
    const int batched = PyArray_NDIM(x) == rank + 2, nd = result_shape(&p, rank, batched, shape);
    if (!(y = new_result(&f, nd, shape, batched && is_channels_last(x))))
        return frame_return(&f, NULL);
    if (PyArray_SIZE(y) > 0) {
        find_strides(x, rank, p.x);
        find_strides(y, rank, p.y);
        void *const arrays[] = {PyArray_DATA(x), PyArray_DATA(y)};
        if (run_entry(&f, CNN_resize_forward, &p, arrays, work(&p)) < 0)
            return frame_return(&f, NULL);
    }
    return deliver(&f, y, Py_None);
}

/* resize_backward(dy, x, size, scale_factor, mode, align_corners) -> dx */
static PyObject *resize_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "interpolate_backward"};
    struct cnn_resize p = {0};
    PyArrayObject *dy, *x, *dx;
    npy_intp shape[5];
    int rank;
    const struct array_row rows[] = {{"dy", args[0], &dy, 0}, {"x", args[1], &x, 0}};
    if (expect_arguments(&f, n, 6) < 0 || read_arrays(&f, rows, 2) < 0 || find_geometry(&f, args + 2, x, &p, &rank) < 0)
        return frame_return(&f, NULL);
    const int batched = PyArray_NDIM(x) == rank + 2, nd = result_shape(&p, rank, batched, shape);
    if (check_shape(&f, "dy", dy, nd, shape) < 0 || !(dx = new_result(&f, nd, PyArray_DIMS(x), batched && is_channels_last(x))))
        return frame_return(&f, NULL);
    if (PyArray_SIZE(dx) > 0) {
        find_strides(dy, rank, p.y);
        find_strides(dx, rank, p.x);
        void *const arrays[] = {PyArray_DATA(dy), PyArray_DATA(dx)};
        if (run_entry(&f, CNN_resize_backward, &p, arrays, work(&p)) < 0)
            return frame_return(&f, NULL);
    }
    return deliver(&f, dx, Py_None);
}

PyMethodDef resize_methods[] = {METHOD(resize_forward, "x, size, scale_factor, mode, align_corners -> y"),
                                METHOD(resize_backward, "dy, x, size, scale_factor, mode, align_corners -> dx"), {NULL, NULL, 0, NULL}};
