/* softmax.c: bindings of softmax, log-softmax and cross-entropy. */
#include "args.h"

#include <math.h>

static int find_axis(const struct frame *f, PyArrayObject *x, PyObject *object, struct cnn_reduce *p)
{
    long axis;
    const int rank = PyArray_NDIM(x);
    if (rank == 0) {
        refuse(f, PyExc_ValueError, "x has no axes, expected at least one");
        return -1;
    }
    if (read_long(f, "axis", object, -rank, rank - 1, &axis) < 0)
        return -1;
    if (axis < 0)
        axis += rank;
    *p = (struct cnn_reduce){1, PyArray_DIM(x, (int)axis), 1};
    for (int i = 0; i < rank; i++)
        if (i != axis)
            *(i < axis ? &p->outer : &p->inner) *= PyArray_DIM(x, i);
    return 0;
}

static PyObject *forward(const char *name, enum cnn_entry_number entry, PyObject *const *args, Py_ssize_t n)
{
    struct frame f = {.function = name};
    PyArrayObject *x, *y;
    struct cnn_reduce p;
    const struct array_row rows[] = {{"x", args[0], &x, 0}};
    if (expect_arguments(&f, n, 2) < 0 || read_arrays(&f, rows, 1) < 0 || find_axis(&f, x, args[1], &p) < 0 || !(x = in_c_order(&f, x)) ||
        !(y = new_result(&f, PyArray_NDIM(x), PyArray_DIMS(x), 0)))
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(x), PyArray_DATA(y)};
    if (run_entry(&f, entry, &p, arrays, 2.0 * (double)PyArray_SIZE(x)) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, Py_None);
}

static PyObject *backward(const char *name, enum cnn_entry_number entry, PyObject *const *args, Py_ssize_t n)
{
    struct frame f = {.function = name};
    PyArrayObject *dy, *y, *dx;
    struct cnn_reduce p;
    const struct array_row rows[] = {{"dy", args[0], &dy, 0}, {"cache", args[1], &y, 0}};
    if (expect_arguments(&f, n, 3) < 0 || read_arrays(&f, rows, 2) < 0 || find_axis(&f, y, args[2], &p) < 0)
        return frame_return(&f, NULL);
    if (PyArray_NDIM(dy) != PyArray_NDIM(y) || !PyArray_CompareLists(PyArray_DIMS(dy), PyArray_DIMS(y), PyArray_NDIM(y))) {
        refuse(&f, PyExc_ValueError, "dy has shape %s, expected %s, the shape of the result", shape_text(dy), shape_text(y));
        return frame_return(&f, NULL);
    }
    if (!(dy = in_c_order(&f, dy)) || !(y = in_c_order(&f, y)) || !(dx = new_result(&f, PyArray_NDIM(y), PyArray_DIMS(y), 0)))
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(dy), PyArray_DATA(y), PyArray_DATA(dx)};
    if (run_entry(&f, entry, &p, arrays, 2.0 * (double)PyArray_SIZE(y)) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, dx, Py_None);
}

#define PAIR(name)                                                                                          \
    static PyObject *name##_forward(PyObject *m, PyObject *const *args, Py_ssize_t n)                       \
    {                                                                                                       \
        (void)m;                                                                                            \
        return forward(#name, CNN_##name##_forward, args, n);                                               \
    }                                                                                                       \
    static PyObject *name##_backward(PyObject *m, PyObject *const *args, Py_ssize_t n)                      \
    {                                                                                                       \
        (void)m;                                                                                            \
        return backward(#name "_backward", CNN_##name##_backward, args, n);                                 \
    }
PAIR(softmax)
PAIR(log_softmax)

struct loss {
    PyArrayObject *logits, *target, *weight;
    struct cnn_cross_entropy p;
    npy_intp shape[NPY_MAXDIMS]; /* of the unreduced loss */
    int rank;
};

/* args: logits, target, weight, ignore_index, label_smoothing, reduction, log-probabilities instead of logits */
static int read_loss(struct frame *f, PyObject *const *args, struct loss *l, PyObject *dy_object, PyArrayObject **dy)
{
    static const char *const reductions[] = {"mean", "sum", "none", NULL};
    PyArrayObject *target = NULL;
    if (read_long(f, "ignore_index", args[3], -LARGEST_INT, LARGEST_INT, &l->p.ignore_index) < 0 ||
        read_double(f, "label_smoothing", args[4], 0, 1, &l->p.label_smoothing) < 0 ||
        read_choice(f, "reduction", args[5], reductions, &l->p.reduction) < 0 || read_bool(f, "logarithms", args[6], &l->p.logarithms) < 0)
        return -1;
    const char *const name = l->p.logarithms ? "input" : "logits";
    /* Integers are classes; real numbers of the logits' shape are probabilities. */
    PyObject *probe = args[1] == Py_None ? NULL : PyArray_FromAny(args[1], NULL, 0, 0, 0, NULL);
    if (!probe) {
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_ValueError) && !PyErr_ExceptionMatches(PyExc_TypeError))
            return -1;
        PyErr_Clear();
        refuse(f, PyExc_TypeError, "target is %.100s, expected integer classes or probabilities", Py_TYPE(args[1])->tp_name);
        return -1;
    }
    frame_keep(f, probe);
    l->p.probabilities = PyTypeNum_ISFLOAT(PyArray_TYPE((PyArrayObject *)probe));
    struct array_row rows[4] = {{name, args[0], &l->logits, 0}, {"weight", args[2], &l->weight, 1}};
    int count = 2;
    if (l->p.probabilities)
        rows[count++] = (struct array_row){"target", args[1], &target, 0};
    if (dy)
        rows[count++] = (struct array_row){"dy", dy_object, dy, 0};
    if (read_arrays(f, rows, count) < 0)
        return -1;
    PyArrayObject *x = l->logits;
    const int rank = PyArray_NDIM(x);
    if (rank < 2) {
        refuse(f, PyExc_ValueError, "%s has shape %s, expected (N, classes, ...)", name, shape_text(x));
        return -1;
    }
    const long classes = PyArray_DIM(x, 1);
    if (classes == 0) {
        refuse(f, PyExc_ValueError, "%s has shape %s, expected at least one class along axis 1", name, shape_text(x));
        return -1;
    }
    l->p.rows = PyArray_DIM(x, 0), l->p.classes = classes, l->p.inner = 1;
    l->rank = rank - 1;
    l->shape[0] = PyArray_DIM(x, 0);
    for (int i = 2; i < rank; i++)
        l->p.inner *= l->shape[i - 1] = PyArray_DIM(x, i);
    if (l->weight && (PyArray_NDIM(l->weight) != 1 || PyArray_DIM(l->weight, 0) != classes)) {
        refuse(f, PyExc_ValueError, "weight has shape %s, expected (%ld,), one value a class", shape_text(l->weight), classes);
        return -1;
    }
    if (l->p.probabilities) {
        is_given(target);
        if (PyArray_NDIM(target) != rank || !PyArray_CompareLists(PyArray_DIMS(target), PyArray_DIMS(x), rank)) {
            refuse(f, PyExc_ValueError, "target has shape %s, expected %s, probabilities like logits, or integer classes", shape_text(target), shape_text(x));
            return -1;
        }
        l->target = in_c_order(f, target);
    } else {
        if (read_integers_array(f, "target", args[1], &l->target) < 0)
            return -1;
        if (PyArray_NDIM(l->target) != l->rank || !PyArray_CompareLists(PyArray_DIMS(l->target), l->shape, l->rank)) {
            refuse(f, PyExc_ValueError, "target has shape %s, expected one class for each row of logits %s", shape_text(l->target), shape_text(x));
            return -1;
        }
        const npy_int64 *t = PyArray_DATA(l->target);
        for (npy_intp i = 0; i < PyArray_SIZE(l->target); i++)
            if (t[i] != l->p.ignore_index && (t[i] < 0 || t[i] >= classes)) {
                refuse(f, PyExc_ValueError, "target holds %lld at position %zd, expected 0 to %ld", (long long)t[i], (Py_ssize_t)i, classes - 1);
                return -1;
            }
    }
    if (l->weight)
        l->weight = in_c_order(f, l->weight);
    l->logits = in_c_order(f, x);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *cross_entropy_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "cross_entropy"};
    struct loss l = {0};
    if (expect_arguments(&f, n, 8) < 0 || read_name(&f, args[0]) < 0 || read_loss(&f, args + 1, &l, NULL, NULL) < 0)
        return frame_return(&f, NULL);
    PyArrayObject *loss = new_result(&f, l.p.reduction == CNN_NONE ? l.rank : 0, l.shape, 0);
    if (!loss)
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(l.logits), PyArray_DATA(l.target), l.weight ? PyArray_DATA(l.weight) : NULL, PyArray_DATA(loss)};
    if (run_entry(&f, CNN_cross_entropy_forward, &l.p, arrays, 2.0 * (double)PyArray_SIZE(l.logits)) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, loss, Py_None);
}

/* name, dy, then the arguments of the forward */
static PyObject *cross_entropy_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "cross_entropy_backward"};
    struct loss l = {0};
    PyArrayObject *dy;
    if (expect_arguments(&f, n, 9) < 0 || read_name(&f, args[0]) < 0 || read_loss(&f, args + 2, &l, args[1], &dy) < 0)
        return frame_return(&f, NULL);
    const int rank = l.p.reduction == CNN_NONE ? l.rank : 0;
    if (PyArray_NDIM(dy) != rank || !PyArray_CompareLists(PyArray_DIMS(dy), l.shape, rank)) {
        refuse(&f, PyExc_ValueError, "dy has shape %s, expected the shape of the loss", shape_text(dy));
        return frame_return(&f, NULL);
    }
    PyArrayObject *dx = new_result(&f, PyArray_NDIM(l.logits), PyArray_DIMS(l.logits), 0);
    if (!dx || !(dy = in_c_order(&f, dy)))
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(l.logits), PyArray_DATA(l.target), l.weight ? PyArray_DATA(l.weight) : NULL, PyArray_DATA(dy), PyArray_DATA(dx)};
    if (run_entry(&f, CNN_cross_entropy_backward, &l.p, arrays, 2.0 * (double)PyArray_SIZE(dx)) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, dx, Py_None);
}

PyMethodDef softmax_methods[] = {
    METHOD(softmax_forward, "x, axis -> y"), METHOD(softmax_backward, "dy, y, axis -> dx"),
    METHOD(log_softmax_forward, "x, axis -> y"), METHOD(log_softmax_backward, "dy, y, axis -> dx"),
    METHOD(cross_entropy_forward, "name, logits, target, weight, ignore_index, label_smoothing, reduction, logarithms -> loss"),
    METHOD(cross_entropy_backward, "name, dy, logits, target, weight, ignore_index, label_smoothing, reduction, logarithms -> dlogits"),
    {NULL, NULL, 0, NULL}};
