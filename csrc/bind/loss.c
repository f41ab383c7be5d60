/* loss.c: bindings of element-wise losses and of embeddings. */
#include "args.h"

static const char *const kinds[] = {"mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy_with_logits", "kl_div", NULL}; /* enum cnn_loss */
static const char *const backward_kinds[] = {"mse_loss_backward", "l1_loss_backward", "huber_loss_backward", "binary_cross_entropy_with_logits_backward", "kl_div_backward"};
static const char *const reductions[] = {"mean", "sum", "none", NULL}; /* enum cnn_reduction */

/* kind, input, target, delta, reduction at args; both arrays in one order */
static int read_loss(struct frame *f, PyObject *const *args, PyObject *dy_object, PyArrayObject **dy, PyArrayObject **x, PyArrayObject **t, struct cnn_loss_map *p)
{
    if (read_choice(f, "kind", args[0], kinds, &p->kind) < 0)
        return -1;
    f->function = dy ? backward_kinds[p->kind] : kinds[p->kind];
    const struct array_row rows[] = {{"input", args[1], x, 0}, {"target", args[2], t, 0}, {"dy", dy_object, dy, 0}};
    if (read_arrays(f, rows, dy ? 3 : 2) < 0 || read_double(f, "delta", args[3], 0, 1e300, &p->delta) < 0 || read_choice(f, "reduction", args[4], reductions, &p->reduction) < 0 ||
        check_shape(f, "target", *t, PyArray_NDIM(*x), PyArray_DIMS(*x)) < 0)
        return -1;
    /* A sum runs in C order whatever the memory order. */
    if (((!is_dense(*x) || (!dy && p->reduction != CNN_NONE)) && !(*x = in_c_order(f, *x))) || !(*t = ordered_like(f, *t, *x)))
        return -1;
    p->size = PyArray_SIZE(*x);
    return 0;
}

/* loss_forward(kind, input, target, delta, reduction) */
static PyObject *loss_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "loss"};
    struct cnn_loss_map p = {0};
    PyArrayObject *x, *t, *y;
    if (expect_arguments(&f, n, 5) < 0 || read_loss(&f, args, NULL, NULL, &x, &t, &p) < 0)
        return frame_return(&f, NULL);
    const int rank = p.reduction == CNN_NONE ? PyArray_NDIM(x) : 0;
    if (!(y = new_result(&f, rank, PyArray_DIMS(x), rank > 0 && is_channels_last(x))))
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(x), PyArray_DATA(t), PyArray_DATA(y)};
    if (PyArray_SIZE(y) > 0 && run_entry(&f, CNN_loss_forward, &p, arrays, (double)p.size * 0.6) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, Py_None);
}

/* loss_backward(dy, kind, input, target, delta, reduction) */
static PyObject *loss_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "loss_backward"};
    struct cnn_loss_map p = {0};
    PyArrayObject *dy, *x, *t, *dx;
    if (expect_arguments(&f, n, 6) < 0 || read_loss(&f, args + 1, args[0], &dy, &x, &t, &p) < 0)
        return frame_return(&f, NULL);
    const int rank = p.reduction == CNN_NONE ? PyArray_NDIM(x) : 0;
    if (check_shape(&f, "dy", dy, rank, PyArray_DIMS(x)) < 0 || !(dy = rank ? ordered_like(&f, dy, x) : in_c_order(&f, dy)) ||
        !(dx = new_result(&f, PyArray_NDIM(x), PyArray_DIMS(x), is_channels_last(x))))
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(dy), PyArray_DATA(x), PyArray_DATA(t), PyArray_DATA(dx)};
    if (PyArray_SIZE(dx) > 0 && run_entry(&f, CNN_loss_backward, &p, arrays, (double)p.size * 0.6) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, dx, Py_None);
}

static int read_indices(struct frame *f, PyObject *object, PyArrayObject *weight, PyArrayObject **index)
{
    if (PyArray_NDIM(weight) != 2) {
        refuse(f, PyExc_ValueError, "weight has shape %s, expected (num_embeddings, embedding_dim)", shape_text(weight));
        return -1;
    }
    if (read_integers_array(f, "indices", object, index) < 0)
        return -1;
    if (PyArray_NDIM(*index) > 31) {
        refuse(f, PyExc_ValueError, "indices has %d axes, expected at most 31", PyArray_NDIM(*index));
        return -1;
    }
    const npy_int64 *at = PyArray_DATA(*index), rows = PyArray_DIM(weight, 0);
    for (npy_intp i = 0; i < PyArray_SIZE(*index); i++)
        if (at[i] < 0 || at[i] >= rows) {
            refuse(f, PyExc_ValueError, "indices holds %lld at position %zd, expected 0 to %lld", (long long)at[i], (Py_ssize_t)i, (long long)rows - 1);
            return -1;
        }
    return 0;
}

/* embedding_forward(indices, weight) */
static PyObject *embedding_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "embedding"};
    PyArrayObject *index, *weight, *y;
    const struct array_row rows[] = {{"weight", args[1], &weight, 0}};
    if (expect_arguments(&f, n, 2) < 0 || read_arrays(&f, rows, 1) < 0 || read_indices(&f, args[0], weight, &index) < 0 || !(weight = in_c_order(&f, weight)))
        return frame_return(&f, NULL);
    npy_intp shape[NPY_MAXDIMS];
    const int rank = PyArray_NDIM(index);
    for (int i = 0; i < rank; i++)
        shape[i] = PyArray_DIM(index, i);
    shape[rank] = PyArray_DIM(weight, 1);
    if (!(y = new_result(&f, rank + 1, shape, 0)))
        return frame_return(&f, NULL);
    const struct cnn_lookup p = {PyArray_DIM(weight, 0), PyArray_SIZE(index), PyArray_DIM(weight, 1)};
    void *const arrays[] = {PyArray_DATA(index), PyArray_DATA(weight), PyArray_DATA(y)};
    if (PyArray_SIZE(y) > 0 && run_entry(&f, CNN_embedding_forward, &p, arrays, (double)PyArray_SIZE(y) * 0.3) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, Py_None);
}

/* embedding_backward(dy, indices, weight) -> dweight */
static PyObject *embedding_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "embedding_backward"};
    PyArrayObject *index, *weight, *dy, *dw;
    const struct array_row rows[] = {{"dy", args[0], &dy, 0}, {"weight", args[2], &weight, 0}};
    if (expect_arguments(&f, n, 3) < 0 || read_arrays(&f, rows, 2) < 0 || read_indices(&f, args[1], weight, &index) < 0)
        return frame_return(&f, NULL);
    npy_intp shape[NPY_MAXDIMS];
    const int rank = PyArray_NDIM(index);
    for (int i = 0; i < rank; i++)
        shape[i] = PyArray_DIM(index, i);
    shape[rank] = PyArray_DIM(weight, 1);
    if (check_shape(&f, "dy", dy, rank + 1, shape) < 0 || !(dy = in_c_order(&f, dy)) || !(dw = new_result(&f, 2, PyArray_DIMS(weight), 0)))
        return frame_return(&f, NULL);
    const struct cnn_lookup p = {PyArray_DIM(weight, 0), PyArray_SIZE(index), PyArray_DIM(weight, 1)};
    void *const arrays[] = {PyArray_DATA(index), PyArray_DATA(dy), PyArray_DATA(dw)};
    if (PyArray_SIZE(dw) > 0 && run_entry(&f, CNN_embedding_backward, &p, arrays, (double)(PyArray_SIZE(dy) + PyArray_SIZE(dw)) * 0.3) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, dw, Py_None);
}

PyMethodDef loss_methods[] = {METHOD(loss_forward, "kind, input, target, delta, reduction -> loss"), METHOD(loss_backward, "dy, kind, input, target, delta, reduction -> dinput"),
                              METHOD(embedding_forward, "indices, weight -> y"), METHOD(embedding_backward, "dy, indices, weight -> dweight"), {NULL, NULL, 0, NULL}};
