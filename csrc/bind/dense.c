/* dense.c: bindings of linear (a convolution over cells of one row of samples) and of matrix products. */
#include "record.h"

/* x (..., in) as rows: its C order unless its last two axes already are the rows. */
struct rows {
    PyArrayObject *x;
    long count, row_stride, column_stride;
};
static int as_rows(struct frame *f, PyArrayObject *x, struct rows *r)
{
    const int rank = PyArray_NDIM(x);
    if (rank > 2 && !(x = in_c_order(f, x)))
        return -1;
    r->x = x;
    r->count = 1;
    for (int i = 0; i < rank - 1; i++)
        r->count *= PyArray_DIM(x, i);
    r->column_stride = element_stride(x, rank - 1);
    r->row_stride = rank == 1 ? 0 : rank == 2 ? element_stride(x, 0) : PyArray_DIM(x, rank - 1);
    return 0;
}

static struct cnn_conv linear_problem(const struct rows *x, const struct rows *y, PyArrayObject *w)
{
    struct cnn_conv p = {.n = 1, .c = PyArray_DIM(w, 1), .k = PyArray_DIM(w, 0), .groups = 1};
    for (int a = 0; a < 3; a++)
        p.in[a] = p.out[a] = p.window[a] = p.stride[a] = p.dilation[a] = 1;
    p.in[2] = p.out[2] = x->count;
    p.x[1] = x->column_stride, p.x[4] = x->row_stride;
    p.y[1] = y->column_stride, p.y[4] = y->row_stride;
    p.w[0] = element_stride(w, 0), p.w[1] = element_stride(w, 1);
    return p;
}

static double estimate(const struct cnn_conv *p) { return 500 + (double)(p->c * p->k) * (double)p->in[2] / 20; }

static int check_linear(const struct frame *f, PyArrayObject *x, PyArrayObject *w, PyArrayObject *b)
{
    if (PyArray_NDIM(x) == 0) {
        refuse(f, PyExc_ValueError, "x has no axes, expected (..., in)");
        return -1;
    }
    const long in = PyArray_DIM(x, PyArray_NDIM(x) - 1);
    if (PyArray_NDIM(w) != 2 || PyArray_DIM(w, 1) != in || in == 0) {
        refuse(f, PyExc_ValueError, "weight has shape %s, expected (out, %ld) because x has shape %s", shape_text(w), in, shape_text(x));
        return -1;
    }
    if (b && (PyArray_NDIM(b) != 1 || PyArray_DIM(b, 0) != PyArray_DIM(w, 0))) {
        refuse(f, PyExc_ValueError, "bias has shape %s, expected (%ld,), one value an output of weight", shape_text(b), (long)PyArray_DIM(w, 0));
        return -1;
    }
    return 0;
}

/* linear_forward(x, weight, bias, out) */
static PyObject *linear_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "linear"};
    PyArrayObject *x, *w, *b;
    const struct array_row rows[] = {{"x", args[0], &x, 0}, {"weight", args[1], &w, 0}, {"bias", args[2], &b, 1}};
    if (expect_arguments(&f, n, 4) < 0 || read_arrays(&f, rows, 3) < 0 || check_linear(&f, x, w, b) < 0)
        return frame_return(&f, NULL);
    npy_intp shape[NPY_MAXDIMS];
    const int rank = PyArray_NDIM(x);
    memcpy(shape, PyArray_DIMS(x), sizeof(npy_intp) * (size_t)rank);
    shape[rank - 1] = PyArray_DIM(w, 0);
    struct rows from, to;
    PyArrayObject *y;
    if (check_out(&f, args[3], rank, shape) < 0 || (b && !(b = in_c_order(&f, b))))
        return frame_return(&f, NULL);
    PyArrayObject *const read[] = {x, w, b};
    if (!(y = result_for(&f, args[3], rank, shape, 0, read, 3)) || as_rows(&f, x, &from) < 0 || as_rows(&f, y, &to) < 0)
        return frame_return(&f, NULL);
    const struct cnn_conv p = linear_problem(&from, &to, w);
    void *const arrays[] = {PyArray_DATA(from.x), PyArray_DATA(w), b ? PyArray_DATA(b) : NULL, PyArray_DATA(y)};
    if (PyArray_SIZE(y) > 0 && run_entry(&f, CNN_conv_forward, &p, arrays, estimate(&p)) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, args[3]);
}

/* linear_backward(dy, x, weight, bias, needs) -> (dx, dw, db) */
static PyObject *linear_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "linear_backward"};
    PyArrayObject *dy, *x, *w, *b, *dx = NULL, *dw = NULL, *db = NULL;
    long needs;
    const struct array_row rows[] = {{"dy", args[0], &dy, 0}, {"x", args[1], &x, 0}, {"weight", args[2], &w, 0}, {"bias", args[3], &b, 1}};
    if (expect_arguments(&f, n, 5) < 0 || read_arrays(&f, rows, 4) < 0 || check_linear(&f, x, w, b) < 0 ||
        read_long(&f, "needs", args[4], 0, 7, &needs) < 0)
        return frame_return(&f, NULL);
    const int rank = PyArray_NDIM(x);
    if (PyArray_NDIM(dy) != rank || !PyArray_CompareLists(PyArray_DIMS(dy), PyArray_DIMS(x), rank - 1) ||
        PyArray_DIM(dy, rank - 1) != PyArray_DIM(w, 0)) {
        refuse(&f, PyExc_ValueError, "dy has shape %s, expected that of x %s with %ld at the end", shape_text(dy), shape_text(x), (long)PyArray_DIM(w, 0));
        return frame_return(&f, NULL);
    }
    const npy_intp out = PyArray_DIM(w, 0);
    struct rows from, to;
    if ((needs & 1 && !(dx = new_result(&f, rank, PyArray_DIMS(x), 0))) || (needs & 6 && !(dw = new_result(&f, 2, PyArray_DIMS(w), 0))) ||
        (needs & 4 && b && !(db = new_result(&f, 1, &out, 0))) || as_rows(&f, x, &from) < 0 || as_rows(&f, dy, &to) < 0)
        return frame_return(&f, NULL);
    if (dx && PyArray_SIZE(dx) > 0) {
        struct rows target;
        if (as_rows(&f, dx, &target) < 0)
            return frame_return(&f, NULL);
        const struct cnn_conv p = linear_problem(&target, &to, w);
        void *const arrays[] = {PyArray_DATA(to.x), PyArray_DATA(w), NULL, PyArray_DATA(dx)};
        if (out == 0) {
            record_failure(f.function, "an empty axis");
            memset(PyArray_DATA(dx), 0, (size_t)PyArray_NBYTES(dx));
        } else if (run_entry(&f, CNN_conv_backward_input, &p, arrays, estimate(&p)) < 0)
            return frame_return(&f, NULL);
    }
    if (dw && PyArray_SIZE(dw) > 0) {
        const struct cnn_conv p = linear_problem(&from, &to, dw);
        void *const arrays[] = {PyArray_DATA(from.x), PyArray_DATA(to.x), PyArray_DATA(dw), db ? PyArray_DATA(db) : NULL};
        if (run_entry(&f, CNN_conv_backward_weight, &p, arrays, estimate(&p)) < 0)
            return frame_return(&f, NULL);
    }
    return frame_return(&f, PyTuple_Pack(3, dx ? (PyObject *)dx : Py_None, dw && needs & 2 ? (PyObject *)dw : Py_None, db ? (PyObject *)db : Py_None));
}

/* matmul(a, b): (..., m, k) (..., k, n), both with the same leading axes, or (m, k) (k, n). Strides are free. */
static PyObject *matmul(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "matmul"};
    PyArrayObject *a, *b, *c;
    const struct array_row rows[] = {{"a", args[0], &a, 0}, {"b", args[1], &b, 0}};
    if (expect_arguments(&f, n, 2) < 0 || read_arrays(&f, rows, 2) < 0)
        return frame_return(&f, NULL);
    const int rank = PyArray_NDIM(a);
    if (rank < 2 || PyArray_NDIM(b) != rank || PyArray_DIM(a, rank - 1) != PyArray_DIM(b, rank - 2) ||
        !PyArray_CompareLists(PyArray_DIMS(a), PyArray_DIMS(b), rank - 2)) {
        refuse(&f, PyExc_ValueError, "a has shape %s and b %s, expected (..., m, k) and (..., k, n)", shape_text(a), shape_text(b));
        return frame_return(&f, NULL);
    }
    if (rank > 2 && (!(a = in_c_order(&f, a)) || !(b = in_c_order(&f, b))))
        return frame_return(&f, NULL);
    npy_intp shape[NPY_MAXDIMS];
    struct cnn_matmul p = {1, PyArray_DIM(a, rank - 2), PyArray_DIM(b, rank - 1), PyArray_DIM(a, rank - 1), {0}, {0}, {0}};
    for (int i = 0; i < rank - 2; i++)
        p.batch *= shape[i] = PyArray_DIM(a, i);
    shape[rank - 2] = p.m, shape[rank - 1] = p.n;
    if (!(c = new_result(&f, rank, shape, 0)))
        return frame_return(&f, NULL);
    p.a[0] = p.m * p.k, p.a[1] = element_stride(a, rank - 2), p.a[2] = element_stride(a, rank - 1);
    p.b[0] = p.k * p.n, p.b[1] = element_stride(b, rank - 2), p.b[2] = element_stride(b, rank - 1);
    p.c[0] = p.m * p.n, p.c[1] = p.n, p.c[2] = 1;
    void *const arrays[] = {PyArray_DATA(a), PyArray_DATA(b), PyArray_DATA(c)};
    if (PyArray_SIZE(c) > 0) {
        if (p.k == 0) {
            record_failure(f.function, "an empty axis");
            memset(PyArray_DATA(c), 0, (size_t)PyArray_NBYTES(c));
        } else if (run_entry(&f, CNN_matmul, &p, arrays, 500 + (double)(p.batch * p.m) * (double)(p.k * p.n) / 20) < 0)
            return frame_return(&f, NULL);
    }
    return deliver(&f, c, Py_None);
}

PyMethodDef dense_methods[] = {
    METHOD(linear_forward, "x, weight, bias, out -> y"), METHOD(linear_backward, "dy, x, weight, bias, needs -> dx, dw, db"),
    METHOD(matmul, "a, b -> c"), {NULL, NULL, 0, NULL}};
