/* optimizer.c: bindings of parameter updates. Parameters and state are changed in place, after everything was checked. */
#include "args.h"

#include <math.h>

/* A C-ordered, writeable, aligned array of the parameter's dtype and size. */
static int check_state(const struct frame *f, const char *name, PyObject *object, PyArrayObject *like, int writes)
{
    PyArrayObject *a = (PyArrayObject *)object;
    if (!PyArray_Check(object)) {
        refuse(f, PyExc_TypeError, "%s is %.100s, expected a numpy.ndarray", name, Py_TYPE(object)->tp_name);
        return -1;
    }
    if ((PyArray_TYPE(a) != NPY_FLOAT && PyArray_TYPE(a) != NPY_DOUBLE) || (like && PyArray_TYPE(a) != PyArray_TYPE(like)) || !PyArray_ISNOTSWAPPED(a)) {
        refuse(f, PyExc_TypeError, "%s has dtype %S, expected float32 or float64, the same for all", name, (PyObject *)PyArray_DESCR(a));
        return -1;
    }
    if (like && !PyArray_SAMESHAPE(a, like)) {
        refuse(f, PyExc_ValueError, "%s has shape %s, expected %s", name, shape_text(a), shape_text(like));
        return -1;
    }
    if (!PyArray_IS_C_CONTIGUOUS(a) || !PyArray_ISALIGNED(a) || (writes && !PyArray_ISWRITEABLE(a))) {
        refuse(f, PyExc_ValueError, "%s is not a %sC-contiguous array", name, writes ? "writeable " : "");
        return -1;
    }
    return 0;
}

/* sgd_update(w, g, velocity or None, rate, momentum, weight_decay, nesterov, first) */
static PyObject *sgd_update(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "SGD"};
    struct cnn_update p = {0};
    if (expect_arguments(&f, n, 8) < 0 || check_state(&f, "parameter", args[0], NULL, 1) < 0)
        return NULL;
    PyArrayObject *w = (PyArrayObject *)args[0];
    if (check_state(&f, "gradient", args[1], w, 0) < 0 || (args[2] != Py_None && check_state(&f, "velocity", args[2], w, 1) < 0) ||
        read_double(&f, "lr", args[3], -INFINITY, INFINITY, &p.rate) < 0 || read_double(&f, "momentum", args[4], 0, INFINITY, &p.momentum) < 0 ||
        read_double(&f, "weight_decay", args[5], 0, INFINITY, &p.weight_decay) < 0 || read_bool(&f, "nesterov", args[6], &p.nesterov) < 0 ||
        read_bool(&f, "first", args[7], &p.first) < 0)
        return NULL;
    f.dtype = PyArray_TYPE(w) == NPY_FLOAT ? CNN_F32 : CNN_F64;
    p.size = PyArray_SIZE(w);
    void *const arrays[] = {PyArray_DATA((PyArrayObject *)args[1]), PyArray_DATA(w), args[2] == Py_None ? NULL : PyArray_DATA((PyArrayObject *)args[2])};
    if (run_entry(&f, CNN_sgd_update, &p, arrays, (double)p.size * 0.3) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* adam_update(w, g, m, v, rate, beta1, beta2, epsilon, weight_decay, decoupled, correction1, correction2) */
static PyObject *adam_update(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "Adam"};
    struct cnn_update p = {0};
    if (expect_arguments(&f, n, 12) < 0 || check_state(&f, "parameter", args[0], NULL, 1) < 0)
        return NULL;
    PyArrayObject *w = (PyArrayObject *)args[0];
    if (check_state(&f, "gradient", args[1], w, 0) < 0 || check_state(&f, "first moment", args[2], w, 1) < 0 ||
        check_state(&f, "second moment", args[3], w, 1) < 0 || read_double(&f, "lr", args[4], -INFINITY, INFINITY, &p.rate) < 0 ||
        read_double(&f, "beta1", args[5], 0, 1, &p.beta1) < 0 || read_double(&f, "beta2", args[6], 0, 1, &p.beta2) < 0 ||
        read_double(&f, "eps", args[7], 0, INFINITY, &p.epsilon) < 0 || read_double(&f, "weight_decay", args[8], 0, INFINITY, &p.weight_decay) < 0 ||
        read_bool(&f, "decoupled", args[9], &p.decoupled) < 0 || read_double(&f, "correction1", args[10], 0, 1, &p.correction1) < 0 ||
        read_double(&f, "correction2", args[11], 0, 1, &p.correction2) < 0)
        return NULL;
    f.dtype = PyArray_TYPE(w) == NPY_FLOAT ? CNN_F32 : CNN_F64;
    p.size = PyArray_SIZE(w);
    void *const arrays[] = {PyArray_DATA((PyArrayObject *)args[1]), PyArray_DATA(w), PyArray_DATA((PyArrayObject *)args[2]), PyArray_DATA((PyArrayObject *)args[3])};
    if (run_entry(&f, CNN_adam_update, &p, arrays, (double)p.size) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyMethodDef optimizer_methods[] = {
    METHOD(sgd_update, "w, g, velocity, rate, momentum, weight_decay, nesterov, first: changes w and velocity"),
    METHOD(adam_update, "w, g, m, v, rate, beta1, beta2, epsilon, weight_decay, decoupled, correction1, correction2: changes w, m, v"),
    {NULL, NULL, 0, NULL}};
