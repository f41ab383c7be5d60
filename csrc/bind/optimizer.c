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
    if (args[2] == Py_None && p.momentum != 0)
        return refuse(&f, PyExc_TypeError, "velocity is None, expected a numpy.ndarray because momentum is not 0");
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

/* One update with state arrays args[2..2 + states), NULL for None where bit i of `needed` is not set; the scalars have been read. */
static PyObject *run_update(struct frame *f, enum cnn_entry_number entry, PyObject *const *args, int states, int needed, struct cnn_update *p)
{
    static const char *const names[] = {"first state", "second state", "third state"};
    void *arrays[5] = {NULL};
    if (check_state(f, "parameter", args[0], NULL, 1) < 0)
        return NULL;
    PyArrayObject *w = (PyArrayObject *)args[0];
    if (check_state(f, "gradient", args[1], w, 0) < 0)
        return NULL;
    arrays[0] = PyArray_DATA((PyArrayObject *)args[1]), arrays[1] = PyArray_DATA(w);
    for (int i = 0; i < states; i++)
        if (args[2 + i] != Py_None || needed >> i & 1) {
            if (check_state(f, names[i], args[2 + i], w, 1) < 0)
                return NULL;
            arrays[2 + i] = PyArray_DATA((PyArrayObject *)args[2 + i]);
        }
    f->dtype = PyArray_TYPE(w) == NPY_FLOAT ? CNN_F32 : CNN_F64;
    p->size = PyArray_SIZE(w);
    if (run_entry(f, entry, p, arrays, (double)p->size) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* rmsprop_update(w, g, v, velocity or None, average or None, rate, alpha, momentum, epsilon, weight_decay) */
static PyObject *rmsprop_update(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "RMSprop"};
    struct cnn_update p = {.centered = n == 10 && args[4] != Py_None};
    if (expect_arguments(&f, n, 10) < 0 || read_double(&f, "lr", args[5], -INFINITY, INFINITY, &p.rate) < 0 || read_double(&f, "alpha", args[6], 0, 1, &p.beta2) < 0 ||
        read_double(&f, "momentum", args[7], 0, INFINITY, &p.momentum) < 0 || read_double(&f, "eps", args[8], 0, INFINITY, &p.epsilon) < 0 ||
        read_double(&f, "weight_decay", args[9], 0, INFINITY, &p.weight_decay) < 0)
        return NULL;
    return run_update(&f, CNN_rmsprop_update, args, 3, p.momentum != 0 ? 3 : 1, &p);
}

/* adagrad_update(w, g, v, rate, epsilon, weight_decay) */
static PyObject *adagrad_update(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "Adagrad"};
    struct cnn_update p = {0};
    if (expect_arguments(&f, n, 6) < 0 || read_double(&f, "lr", args[3], -INFINITY, INFINITY, &p.rate) < 0 || read_double(&f, "eps", args[4], 0, INFINITY, &p.epsilon) < 0 ||
        read_double(&f, "weight_decay", args[5], 0, INFINITY, &p.weight_decay) < 0)
        return NULL;
    return run_update(&f, CNN_adagrad_update, args, 1, 1, &p);
}

/* adadelta_update(w, g, v, z, rate, rho, epsilon, weight_decay) */
static PyObject *adadelta_update(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "Adadelta"};
    struct cnn_update p = {0};
    if (expect_arguments(&f, n, 8) < 0 || read_double(&f, "lr", args[4], -INFINITY, INFINITY, &p.rate) < 0 || read_double(&f, "rho", args[5], 0, 1, &p.beta2) < 0 ||
        read_double(&f, "eps", args[6], 0, INFINITY, &p.epsilon) < 0 || read_double(&f, "weight_decay", args[7], 0, INFINITY, &p.weight_decay) < 0)
        return NULL;
    return run_update(&f, CNN_adadelta_update, args, 2, 3, &p);
}

/* scale(x, by): in place */
static PyObject *scale(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "clip_grad_norm"};
    struct cnn_map p = {0};
    if (expect_arguments(&f, n, 2) < 0 || check_state(&f, "gradient", args[0], NULL, 1) < 0 || read_number(&f, "scale", args[1], &p.a) < 0)
        return NULL;
    PyArrayObject *x = (PyArrayObject *)args[0];
    f.dtype = PyArray_TYPE(x) == NPY_FLOAT ? CNN_F32 : CNN_F64;
    p.size = PyArray_SIZE(x);
    void *const arrays[] = {PyArray_DATA(x), PyArray_DATA(x)};
    if (run_entry(&f, CNN_scale, &p, arrays, (double)p.size * 0.3) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* sum_squares(x) -> float */
static PyObject *sum_squares(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "clip_grad_norm"};
    struct cnn_map p = {0};
    double sum = 0;
    if (expect_arguments(&f, n, 1) < 0 || check_state(&f, "gradient", args[0], NULL, 0) < 0)
        return NULL;
    PyArrayObject *x = (PyArrayObject *)args[0];
    f.dtype = PyArray_TYPE(x) == NPY_FLOAT ? CNN_F32 : CNN_F64;
    p.size = PyArray_SIZE(x);
    void *const arrays[] = {PyArray_DATA(x), &sum};
    if (run_entry(&f, CNN_sum_squares, &p, arrays, (double)p.size * 0.3) < 0)
        return NULL;
    return PyFloat_FromDouble(sum);
}

PyMethodDef optimizer_methods[] = {
    METHOD(rmsprop_update, "w, g, v, velocity, average, rate, alpha, momentum, epsilon, weight_decay: changes w and the state"),
    METHOD(adagrad_update, "w, g, v, rate, epsilon, weight_decay: changes w and v"),
    METHOD(adadelta_update, "w, g, v, z, rate, rho, epsilon, weight_decay: changes w, v, z"),
    METHOD(scale, "x, by: changes x"), METHOD(sum_squares, "x -> float"),
    METHOD(sgd_update, "w, g, velocity, rate, momentum, weight_decay, nesterov, first: changes w and velocity"),
    METHOD(adam_update, "w, g, m, v, rate, beta1, beta2, epsilon, weight_decay, decoupled, correction1, correction2: changes w, m, v"),
    {NULL, NULL, 0, NULL}};
