/* out.c: the argument out=, an array that takes the result. */
#include "args.h"

#include "record.h"

/* Whether two elements of the array may share memory: strides that do not nest. */
static int overlaps_itself(PyArrayObject *a)
{
    npy_intp below = PyArray_ITEMSIZE(a);
    char done[NPY_MAXDIMS] = {0};
    for (int n = 0; n < PyArray_NDIM(a); n++) {
        int best = -1;
        for (int i = 0; i < PyArray_NDIM(a); i++)
            if (!done[i] && (best < 0 || Py_ABS(PyArray_STRIDE(a, i)) < Py_ABS(PyArray_STRIDE(a, best))))
                best = i;
        done[best] = 1;
        if (PyArray_DIM(a, best) > 1) {
            if (Py_ABS(PyArray_STRIDE(a, best)) < below)
                return 1;
            below = Py_ABS(PyArray_STRIDE(a, best)) * (PyArray_DIM(a, best) - 1) + below;
        }
    }
    return 0;
}

int check_out(const struct frame *f, PyObject *object, int rank, const npy_intp *shape)
{
    if (object == Py_None)
        return 0;
    if (!PyArray_Check(object) || is_masked(object))
        return explain(f, PyExc_TypeError, "out", "a numpy.ndarray", object);
    PyArrayObject *out = (PyArrayObject *)object;
    if (PyArray_TYPE(out) != (f->dtype == CNN_F32 ? NPY_FLOAT : NPY_DOUBLE)) {
        refuse(f, PyExc_TypeError, "out has dtype %S, expected %s", (PyObject *)PyArray_DESCR(out), f->dtype == CNN_F32 ? "float32" : "float64");
        return -1;
    }
    if (PyArray_NDIM(out) != rank || !PyArray_CompareLists(PyArray_DIMS(out), shape, rank)) {
        refuse(f, PyExc_ValueError, "out has shape %s, expected %s", shape_text(out), list_text(shape, rank));
        return -1;
    }
    if (!PyArray_ISWRITEABLE(out)) {
        refuse(f, PyExc_ValueError, "out is read-only");
        return -1;
    }
    if (overlaps_itself(out)) {
        refuse(f, PyExc_ValueError, "out overlaps itself in memory");
        return -1;
    }
    return 0;
}

/* Whether the two share a byte, by the ranges that they span. */
static int may_overlap(PyArrayObject *a, PyArrayObject *b)
{
    PyArrayObject *const both[] = {a, b};
    const char *low[2], *high[2];
    for (int n = 0; n < 2; n++) {
        low[n] = PyArray_BYTES(both[n]), high[n] = low[n] + PyArray_ITEMSIZE(both[n]);
        for (int i = 0; i < PyArray_NDIM(both[n]); i++) {
            const npy_intp way = PyArray_STRIDE(both[n], i) * (PyArray_DIM(both[n], i) - 1);
            if (way > 0)
                high[n] += way;
            else
                low[n] += way;
        }
    }
    return low[0] < high[1] && low[1] < high[0];
}

PyArrayObject *result_for(struct frame *f, PyObject *object, int rank, const npy_intp *shape, int channels_last, PyArrayObject *const *read, int count)
{
    if (object == Py_None)
        return new_result(f, rank, shape, channels_last);
    PyArrayObject *out = (PyArrayObject *)object;
    npy_intp strides[NPY_MAXDIMS];
    result_strides(rank, shape, channels_last, PyArray_ITEMSIZE(out), strides);
    int at_once = PyArray_ISBEHAVED(out) && PyArray_SIZE(out) > 0;
    for (int i = 0; at_once && i < rank; i++)
        at_once = shape[i] == 1 || PyArray_STRIDE(out, i) == strides[i];
    for (int i = 0; at_once && i < count; i++)
        at_once = !read[i] || !may_overlap(out, read[i]);
    return at_once ? out : new_result(f, rank, shape, channels_last);
}

PyObject *deliver(struct frame *f, PyArrayObject *result, PyObject *out)
{
    if (!result || PyErr_Occurred())
        return frame_return(f, NULL);
    if (out != Py_None) {
        record_failure(f->function, "out= cannot be recorded");
        if ((PyObject *)result != out && PyArray_CopyInto((PyArrayObject *)out, result) < 0)
            return frame_return(f, NULL);
        result = (PyArrayObject *)out;
    }
    Py_INCREF(result);
    return frame_return(f, (PyObject *)result);
}
