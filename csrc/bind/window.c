#include "window.h"

static const char *const mode_names[] = {"zeros", "reflect", "symmetric", "replicate", "circular", "constant", "edge", "wrap", NULL};
static const int mode_numbers[] = {CNN_ZEROS, CNN_REFLECT, CNN_SYMMETRIC, CNN_REPLICATE, CNN_CIRCULAR, CNN_ZEROS, CNN_REPLICATE, CNN_CIRCULAR};
int read_mode(const struct frame *f, const char *name, PyObject *object, int *mode)
{
    int index;
    if (read_choice(f, name, object, mode_names, &index) < 0)
        return -1;
    *mode = mode_numbers[index];
    return 0;
}

const char *padding_mode_name(int mode) { return mode_names[mode]; }

int read_padding(const struct frame *f, PyObject *object, int rank, struct padding *to)
{
    static const char *const rules[] = {"valid", "same", "full", NULL};
    if (PyUnicode_Check(object)) {
        int rule;
        if (read_choice(f, "padding", object, rules, &rule) < 0)
            return -1;
        to->rule = rule + 1;
        return 0;
    }
    to->rule = AMOUNTS;
    if (PySequence_Check(object) && PySequence_Size(object) == rank) {
        PyObject *items = PySequence_Tuple(object);
        int pairs = items != NULL;
        for (int i = 0; pairs && i < rank; i++)
            pairs = PySequence_Check(PyTuple_GET_ITEM(items, i)) && !PyUnicode_Check(PyTuple_GET_ITEM(items, i));
        int ok = 0;
        for (int i = 0; pairs && i < rank; i++) {
            long pair[2];
            if (read_longs(f, "padding", PyTuple_GET_ITEM(items, i), 2, 0, LARGEST_INT, pair) < 0)
                break;
            to->before[i] = pair[0], to->after[i] = pair[1];
            ok = i + 1;
        }
        Py_XDECREF(items);
        if (pairs)
            return ok == rank ? 0 : -1;
    }
    PyErr_Clear();
    if (read_longs(f, "padding", object, rank, 0, LARGEST_INT, to->before) < 0)
        return -1;
    for (int i = 0; i < rank; i++)
        to->after[i] = to->before[i];
    return 0;
}

void resolve_padding(const struct padding *p, int axis, long in, long extent, long stride, long *before, long *after)
{
    *before = p->rule == AMOUNTS ? p->before[axis] : p->rule == FULL ? extent - 1 : 0;
    *after = p->rule == AMOUNTS ? p->after[axis] : p->rule == FULL ? extent - 1 : 0;
    if (p->rule == SAME && in > 0) {
        const long total = ((in + stride - 1) / stride - 1) * stride + extent - in;
        *before = total > 0 ? total / 2 : 0;
        *after = total > 0 ? total - *before : 0;
    }
}

int check_image(const struct frame *f, PyArrayObject *x, int rank)
{
    static const char *const spatial[] = {", W", ", H, W", ", D, H, W"};
    if (PyArray_NDIM(x) == rank + 2 || PyArray_NDIM(x) == rank + 1)
        return 0;
    refuse(f, PyExc_ValueError, "x has shape %s, expected (N, C%s) or, unbatched, (C%s)", shape_text(x), spatial[rank - 1], spatial[rank - 1]);
    return -1;
}

void find_strides(PyArrayObject *a, int rank, long to[5])
{
    const int batched = PyArray_NDIM(a) == rank + 2;
    to[0] = batched ? element_stride(a, 0) : 0;
    to[1] = element_stride(a, batched);
    for (int i = 0; i < 3; i++)
        to[2 + i] = i < 3 - rank ? 0 : element_stride(a, 1 + batched + i - (3 - rank));
}

int copy_image(struct frame *f, const long shape[5], const void *x, const long x_stride[5], void *y, const long y_stride[5])
{
    static const int order[5] = {0, 2, 3, 4, 1};
    struct cnn_array p = {.rank = 5};
    double size = 1;
    for (int i = 0; i < 5; i++) {
        p.shape[i] = shape[order[i]], p.x[i] = x_stride[order[i]], p.y[i] = y_stride[order[i]];
        size *= (double)p.shape[i];
    }
    void *const arrays[] = {(void *)x, y};
    return size > 0 ? run_entry(f, CNN_array_copy, &p, arrays, size) : 0;
}

PyArrayObject *new_together(struct frame *f, int rank, const long shape[5], long stride[5])
{
    npy_intp dims[5] = {shape[0], shape[1]};
    for (int i = 0; i < rank; i++)
        dims[2 + i] = shape[5 - rank + i];
    PyArrayObject *a = new_result(f, rank + 2, dims, 1);
    if (a)
        find_strides(a, rank, stride);
    return a;
}

void *dense_together(struct frame *f, PyArrayObject *x, int rank, const long shape[5], long stride[5])
{
    long from[5];
    PyArrayObject *copy = new_together(f, rank, shape, stride);
    find_strides(x, rank, from);
    return copy && copy_image(f, shape, PyArray_DATA(x), from, PyArray_DATA(copy), stride) == 0 ? PyArray_DATA(copy) : NULL;
}

int store_image(struct frame *f, const long shape[5], const void *from, const long stride[5], PyArrayObject *y, int rank)
{
    long to[5];
    find_strides(y, rank, to);
    return copy_image(f, shape, from, stride, PyArray_DATA(y), to);
}

/* flip=True reads the kernel backwards: the far corner, negative strides. Returns the offset of that corner. */
long find_weight_strides(PyArrayObject *w, int rank, int flip, long to[5])
{
    long corner = 0;
    to[0] = element_stride(w, 0);
    to[1] = element_stride(w, 1);
    for (int i = 0; i < 3; i++) {
        to[2 + i] = i < 3 - rank ? 0 : element_stride(w, 2 + i - (3 - rank));
        if (flip && i >= 3 - rank) {
            corner += to[2 + i] * (PyArray_DIM(w, 2 + i - (3 - rank)) - 1);
            to[2 + i] = -to[2 + i];
        }
    }
    return corner;
}

void *at(PyArrayObject *a, long offset) { return PyArray_BYTES(a) + offset * PyArray_ITEMSIZE(a); }

/* Nanoseconds on one thread, roughly: enough to decide about threads and the GIL. */
double conv_work(const struct cnn_conv *p)
{
    const long channels = p->c / p->groups;
    return 1000 + (double)(p->n * p->k) * (double)(p->out[0] * p->out[1] * p->out[2]) * (double)channels *
                      (double)(p->window[0] * p->window[1] * p->window[2]) / 20;
}

int too_large(const struct frame *f, PyArrayObject *a, const char *name)
{
    if (PyArray_SIZE(a) <= (npy_intp)1 << 42)
        return 0;
    refuse(f, PyExc_MemoryError, "%s of shape %s has too many elements", name, shape_text(a));
    return 1;
}
