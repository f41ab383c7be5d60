/* map.c: bindings of element-wise functions. name_forward(x, out), name_backward(dy, saved); both take two numbers more where the
 * function has parameters. */
#include "args.h"

struct map_row {
    const char *name, *backward_name, *saved;
    int forward, backward; /* entries; -1: no backward kernel */
    double work;
    const char *numbers[2]; /* what the numbers of a call are called */
};
static const struct map_row maps[] = {
    {"relu", "relu_backward", "x", CNN_relu_forward, CNN_relu_backward, 0.15, {NULL, NULL}},
    {"sigmoid", "sigmoid_backward", "cache", CNN_sigmoid_forward, CNN_sigmoid_backward, 0.7, {NULL, NULL}},
    {"tanh", "tanh_backward", "cache", CNN_tanh_forward, CNN_tanh_backward, 0.9, {NULL, NULL}},
    {"exp", NULL, NULL, CNN_exp_forward, -1, 0.6, {NULL, NULL}},
    {"log", NULL, NULL, CNN_log_forward, -1, 0.7, {NULL, NULL}},
    {"hardtanh", "hardtanh_backward", "x", CNN_clip_forward, CNN_clip_backward, 0.15, {"min_val", "max_val"}},
    {"leaky_relu", "leaky_relu_backward", "x", CNN_leaky_relu_forward, CNN_leaky_relu_backward, 0.15, {"negative_slope", "negative_slope"}},
    {"elu", "elu_backward", "x", CNN_elu_forward, CNN_elu_backward, 0.9, {"alpha", "alpha"}},
    {"silu", "silu_backward", "x", CNN_silu_forward, CNN_silu_backward, 0.9, {NULL, NULL}},
    {"gelu", "gelu_backward", "x", CNN_gelu_forward, CNN_gelu_backward, 1.2, {NULL, NULL}},
    {"gelu", "gelu_backward", "x", CNN_gelu_tanh_forward, CNN_gelu_tanh_backward, 1.2, {NULL, NULL}},
    {"softplus", "softplus_backward", "x", CNN_softplus_forward, CNN_softplus_backward, 1, {NULL, NULL}},
    {"relu6", "relu6_backward", "x", CNN_clip_forward, CNN_clip_backward, 0.15, {"min_val", "max_val"}},
};

/* The numbers of a function that has some, at args[2] and args[3]. */
static int read_numbers(const struct frame *f, const struct map_row *row, PyObject *const *args, Py_ssize_t n, struct cnn_map *p)
{
    if (!row->numbers[0])
        return expect_arguments(f, n, 2);
    return expect_arguments(f, n, 4) < 0 || read_number(f, row->numbers[0], args[2], &p->a) < 0 || read_number(f, row->numbers[1], args[3], &p->b) < 0 ? -1 : 0;
}

static PyObject *forward(const struct map_row *row, PyObject *const *args, Py_ssize_t n)
{
    struct frame f = {.function = row->name};
    struct cnn_map p = {0};
    PyArrayObject *x;
    const struct array_row rows[] = {{"x", args[0], &x, 0}};
    if (read_numbers(&f, row, args, n, &p) < 0 || read_arrays(&f, rows, 1) < 0 || check_out(&f, args[1], PyArray_NDIM(x), PyArray_DIMS(x)) < 0)
        return frame_return(&f, NULL);
    if (!is_dense(x) && !(x = in_c_order(&f, x)))
        return frame_return(&f, NULL);
    PyArrayObject *y = result_for(&f, args[1], PyArray_NDIM(x), PyArray_DIMS(x), is_channels_last(x), &x, 1);
    if (!y)
        return frame_return(&f, NULL);
    p.size = PyArray_SIZE(x);
    void *const arrays[] = {PyArray_DATA(x), PyArray_DATA(y)};
    if (run_entry(&f, row->forward, &p, arrays, (double)p.size * row->work) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, args[1]);
}

static PyObject *backward(const struct map_row *row, PyObject *const *args, Py_ssize_t n)
{
    struct frame f = {.function = row->backward_name};
    struct cnn_map p = {0};
    PyArrayObject *dy, *saved;
    const struct array_row rows[] = {{"dy", args[0], &dy, 0}, {row->saved, args[1], &saved, 0}};
    if (read_numbers(&f, row, args, n, &p) < 0 || read_arrays(&f, rows, 2) < 0)
        return frame_return(&f, NULL);
    if (PyArray_NDIM(dy) != PyArray_NDIM(saved) || !PyArray_CompareLists(PyArray_DIMS(dy), PyArray_DIMS(saved), PyArray_NDIM(dy))) {
        refuse(&f, PyExc_ValueError, "dy has shape %s, expected %s, the shape of %s", shape_text(dy), shape_text(saved), row->saved);
        return frame_return(&f, NULL);
    }
    if ((!is_dense(saved) && !(saved = in_c_order(&f, saved))) || !(dy = ordered_like(&f, dy, saved)))
        return frame_return(&f, NULL);
    PyArrayObject *dx = new_result(&f, PyArray_NDIM(dy), PyArray_DIMS(dy), is_channels_last(saved));
    if (!dx)
        return frame_return(&f, NULL);
    p.size = PyArray_SIZE(dy);
    void *const arrays[] = {PyArray_DATA(dy), PyArray_DATA(saved), PyArray_DATA(dx)};
    if (run_entry(&f, row->backward, &p, arrays, (double)p.size * 0.2) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, dx, Py_None);
}

#define PAIR(name, row)                                                                                                                     \
    static PyObject *name##_forward(PyObject *m, PyObject *const *args, Py_ssize_t n) { (void)m; return forward(&maps[row], args, n); }     \
    static PyObject *name##_backward(PyObject *m, PyObject *const *args, Py_ssize_t n) { (void)m; return backward(&maps[row], args, n); }
PAIR(relu, 0)
PAIR(sigmoid, 1)
PAIR(tanh, 2)
PAIR(hardtanh, 5)
PAIR(leaky_relu, 6)
PAIR(elu, 7)
PAIR(silu, 8)
PAIR(gelu, 9)
PAIR(gelu_tanh, 10)
PAIR(softplus, 11)
PAIR(relu6, 12)
static PyObject *exp_forward(PyObject *m, PyObject *const *args, Py_ssize_t n) { (void)m; return forward(&maps[3], args, n); }
static PyObject *log_forward(PyObject *m, PyObject *const *args, Py_ssize_t n) { (void)m; return forward(&maps[4], args, n); }

PyMethodDef map_methods[] = {
    METHOD(relu_forward, "x, out -> y"), METHOD(relu_backward, "dy, x -> dx"),
    METHOD(sigmoid_forward, "x, out -> y"), METHOD(sigmoid_backward, "dy, y -> dx"),
    METHOD(tanh_forward, "x, out -> y"), METHOD(tanh_backward, "dy, y -> dx"),
    METHOD(hardtanh_forward, "x, out, low, high -> y"), METHOD(hardtanh_backward, "dy, x, low, high -> dx"),
    METHOD(relu6_forward, "x, out, low, high -> y"), METHOD(relu6_backward, "dy, x, low, high -> dx"),
    METHOD(leaky_relu_forward, "x, out, slope, 0 -> y"), METHOD(leaky_relu_backward, "dy, x, slope, 0 -> dx"),
    METHOD(elu_forward, "x, out, alpha, 0 -> y"), METHOD(elu_backward, "dy, x, alpha, 0 -> dx"),
    METHOD(silu_forward, "x, out -> y"), METHOD(silu_backward, "dy, x -> dx"),
    METHOD(gelu_forward, "x, out -> y"), METHOD(gelu_backward, "dy, x -> dx"),
    METHOD(gelu_tanh_forward, "x, out -> y"), METHOD(gelu_tanh_backward, "dy, x -> dx"),
    METHOD(softplus_forward, "x, out -> y"), METHOD(softplus_backward, "dy, x -> dx"),
    METHOD(exp_forward, "x, out -> y"), METHOD(log_forward, "x, out -> y"),
    {NULL, NULL, 0, NULL}};
