/* attention.c: bindings of scaled dot-product attention and of the scores of additive attention. */
#include "args.h"

struct call {
    struct cnn_attention p;
    PyArrayObject *q, *k, *v, *mask, *place;
    int rank;                 /* of q; the scores have `lead` axes before (l, s) */
    npy_intp scores[NPY_MAXDIMS];
    int scores_rank;
};

enum { CALL_ARGUMENTS = 7 };

static int refuse_shape(const struct frame *f, const char *name, PyArrayObject *a, const char *expected)
{
    refuse(f, PyExc_ValueError, "%s has shape %s, expected %s", name, shape_text(a), expected);
    return -1;
}

/* Where the mask of every head begins: broadcast over the axes before rows and keys. */
static int place_mask(struct frame *f, struct call *c)
{
    const int rank = c->scores_rank, own = PyArray_NDIM(c->mask), missing = rank - own;
    int fits = own <= rank;
    for (int i = 0; fits && i < own; i++)
        fits = PyArray_DIM(c->mask, i) == 1 || PyArray_DIM(c->mask, i) == c->scores[missing + i];
    if (!fits) {
        long shape[NPY_MAXDIMS];
        for (int i = 0; i < rank; i++)
            shape[i] = c->scores[i];
        refuse(f, PyExc_ValueError, "mask has shape %s, expected one that broadcasts to %s", shape_text(c->mask), longs_text(shape, rank));
        return -1;
    }
    const npy_intp heads = c->p.batch * c->p.heads;
    if (!(c->place = new_int64(f, 1, &heads)))
        return -1;
    int64_t *place = PyArray_DATA(c->place);
    for (long head = 0; head < heads; head++) {
        long rest = head, at = 0;
        for (int i = rank - 3; i >= 0; i--) {
            const long index = rest % c->scores[i];
            rest /= c->scores[i];
            if (i >= missing && PyArray_DIM(c->mask, i - missing) > 1)
                at += index * element_stride(c->mask, i - missing);
        }
        place[head] = at;
    }
    for (int i = 0; i < 2; i++) {
        const int axis = own - 2 + i;
        c->p.mask[i] = axis >= 0 && PyArray_DIM(c->mask, axis) > 1 ? element_stride(c->mask, axis) : 0;
    }
    return 0;
}

/* args: q, k, v, mask, heads (0: q (..., L, E); else features hold so many heads side by side), causal, scale (None: 1/sqrt(E)) */
static int read_call(struct frame *f, PyObject *const *args, struct call *c, const struct array_row *more, int more_count)
{
    struct array_row rows[16] = {{"q", args[0], &c->q, 0}, {"k", args[1], &c->k, 0}, {"v", args[2], &c->v, 0}, {"mask", args[3], &c->mask, 1}};
    for (int i = 0; i < more_count; i++)
        rows[4 + i] = more[i];
    long heads;
    if (read_arrays(f, rows, 4 + more_count) < 0 || read_long(f, "num_heads", args[4], 0, LARGEST_INT, &heads) < 0 ||
        read_bool(f, "is_causal", args[5], &c->p.causal) < 0)
        return -1;
    const int rank = c->rank = PyArray_NDIM(c->q);
    if (heads ? rank != 3 : rank < 2 || rank > 15)
        return refuse_shape(f, "q", c->q, heads ? "(N, L, E)" : "(..., L, E)");
    const npy_intp *q = PyArray_DIMS(c->q), *k = PyArray_DIMS(c->k), *v = PyArray_DIMS(c->v);
    const long parts = heads ? heads : 1, features = q[rank - 1];
    if (features == 0 || features % parts) {
        refuse(f, PyExc_ValueError, "q has shape %s, expected features that %ld heads divide", shape_text(c->q), parts);
        return -1;
    }
    if (PyArray_NDIM(c->k) != rank || !PyArray_CompareLists(q, k, rank - 2) || k[rank - 1] != features) {
        refuse(f, PyExc_ValueError, "k has shape %s, expected (..., S, %ld) with the leading axes of q %s", shape_text(c->k), features, shape_text(c->q));
        return -1;
    }
    if (PyArray_NDIM(c->v) != rank || !PyArray_CompareLists(k, v, rank - 1) || v[rank - 1] % parts) {
        refuse(f, PyExc_ValueError, "v has shape %s, expected (..., %ld, W) with the leading axes of k %s", shape_text(c->v), (long)k[rank - 2], shape_text(c->k));
        return -1;
    }
    c->p.batch = 1;
    c->scores_rank = 0;
    for (int i = 0; i < rank - 2; i++)
        c->p.batch *= c->scores[c->scores_rank++] = q[i];
    c->p.heads = parts;
    if (heads)
        c->scores[c->scores_rank++] = parts;
    c->p.l = c->scores[c->scores_rank++] = q[rank - 2];
    c->p.s = c->scores[c->scores_rank++] = k[rank - 2];
    c->p.e = features / parts, c->p.w = v[rank - 1] / parts;
    c->p.scale = 1 / __builtin_sqrt((double)c->p.e);
    if (args[6] != Py_None && read_number(f, "scale", args[6], &c->p.scale) < 0)
        return -1;
    if (!(c->q = in_c_order(f, c->q)) || !(c->k = in_c_order(f, c->k)) || !(c->v = in_c_order(f, c->v)) || (c->mask && place_mask(f, c) < 0))
        return -1;
    const long widths[] = {c->p.e, c->p.e, c->p.w, c->p.w}, rows_of[] = {c->p.l, c->p.s, c->p.s, c->p.l};
    long *const strides[] = {c->p.q, c->p.k, c->p.v, c->p.y};
    for (int i = 0; i < 4; i++) {
        strides[i][2] = widths[i] * parts;
        strides[i][1] = widths[i];
        strides[i][0] = strides[i][2] * rows_of[i];
    }
    return 0;
}

static double estimate(const struct cnn_attention *p)
{
    return 1000 + (double)(p->batch * p->heads * p->l) * (double)p->s * ((double)(p->e + p->w) / 40 + 1);
}
static void *data_of(PyArrayObject *a) { return a ? PyArray_DATA(a) : NULL; }

static void result_shape(const struct call *c, npy_intp *shape)
{
    memcpy(shape, PyArray_DIMS(c->q), sizeof(npy_intp) * (size_t)c->rank);
    shape[c->rank - 1] = PyArray_DIM(c->v, c->rank - 1);
}

/* attention_forward(function, <the call>, keep, weights) -> y, log_sum, weights */
static PyObject *attention_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "attention_forward"};
    struct call c = {0};
    int keep, wants_weights;
    npy_intp shape[NPY_MAXDIMS];
    PyArrayObject *y, *log_sum = NULL, *weights = NULL;
    if (expect_arguments(&f, n, 1 + CALL_ARGUMENTS + 2) < 0 || read_name(&f, args[0]) < 0 || read_call(&f, args + 1, &c, NULL, 0) < 0 ||
        read_bool(&f, "return_cache", args[8], &keep) < 0 || read_bool(&f, "return_weights", args[9], &wants_weights) < 0)
        return frame_return(&f, NULL);
    result_shape(&c, shape);
    if (!(y = new_result(&f, c.rank, shape, 0)) || (keep && !(log_sum = new_result(&f, c.scores_rank - 1, c.scores, 0))) ||
        (wants_weights && !(weights = new_result(&f, c.scores_rank, c.scores, 0))))
        return frame_return(&f, NULL);
    void *const arrays[] = {data_of(c.q), data_of(c.k), data_of(c.v), data_of(c.mask), data_of(c.place), data_of(y), data_of(log_sum), data_of(weights)};
    if (c.p.batch * c.p.heads * c.p.l > 0 && run_entry(&f, CNN_attention_forward, &c.p, arrays, estimate(&c.p)) < 0)
        return frame_return(&f, NULL);
    return frame_return(&f, PyTuple_Pack(3, (PyObject *)y, log_sum ? (PyObject *)log_sum : Py_None, weights ? (PyObject *)weights : Py_None));
}

/* attention_backward(function, <the call>, dy, y, log_sum, needs) -> dq, dk, dv, dscores of the mask, before its broadcast; needs: 1 q, 2 k, 4 v, 8 mask */
static PyObject *attention_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "attention_backward"};
    struct call c = {0};
    long needs;
    npy_intp shape[NPY_MAXDIMS];
    PyArrayObject *dy, *y, *log_sum, *dq = NULL, *dk = NULL, *dv = NULL, *dmask = NULL;
    if (expect_arguments(&f, n, 1 + CALL_ARGUMENTS + 4) < 0 || read_name(&f, args[0]) < 0)
        return frame_return(&f, NULL);
    const struct array_row rows[] = {{"dy", args[8], &dy, 0}, {"cache", args[9], &y, 0}, {"cache", args[10], &log_sum, 0}};
    if (read_call(&f, args + 1, &c, rows, 3) < 0 || read_long(&f, "needs", args[11], 0, 15, &needs) < 0)
        return frame_return(&f, NULL);
    result_shape(&c, shape);
    if (check_shape(&f, "dy", dy, c.rank, shape) < 0 || check_shape(&f, "cache", y, c.rank, shape) < 0 ||
        check_shape(&f, "cache", log_sum, c.scores_rank - 1, c.scores) < 0 || !(dy = in_c_order(&f, dy)) || !(y = in_c_order(&f, y)) ||
        !(log_sum = in_c_order(&f, log_sum)) || (needs & 1 && !(dq = new_result(&f, c.rank, PyArray_DIMS(c.q), 0))) ||
        (needs & 2 && !(dk = new_result(&f, c.rank, PyArray_DIMS(c.k), 0))) || (needs & 4 && !(dv = new_result(&f, c.rank, PyArray_DIMS(c.v), 0))) ||
        (needs & 8 && c.mask && !(dmask = new_result(&f, c.scores_rank, c.scores, 0))))
        return frame_return(&f, NULL);
    void *const arrays[] = {data_of(dy), data_of(c.q), data_of(c.k), data_of(c.v), data_of(c.mask), data_of(c.place), data_of(y), data_of(log_sum),
                            data_of(dq), data_of(dk), data_of(dv), data_of(dmask)};
    if (c.p.batch * c.p.heads > 0 && run_entry(&f, CNN_attention_backward, &c.p, arrays, 3 * estimate(&c.p)) < 0)
        return frame_return(&f, NULL);
    return frame_return(&f, PyTuple_Pack(4, dq ? (PyObject *)dq : Py_None, dk ? (PyObject *)dk : Py_None, dv ? (PyObject *)dv : Py_None,
                                         dmask ? (PyObject *)dmask : Py_None));
}

/* The problem of q (N, L, H), k (N, S, H), w (H,). */
static int read_additive(struct frame *f, PyObject *const *args, const struct array_row *first, PyArrayObject **q, PyArrayObject **k, PyArrayObject **w,
                         struct cnn_attention *p)
{
    const struct array_row rows[] = {{"q", args[0], q, 0}, {"k", args[1], k, 0}, {"w_v", args[2], w, 0}, first ? *first : (struct array_row){0}};
    if (read_arrays(f, rows, first ? 4 : 3) < 0)
        return -1;
    if (PyArray_NDIM(*q) != 3 || PyArray_NDIM(*k) != 3 || PyArray_NDIM(*w) != 1 || PyArray_DIM(*q, 0) != PyArray_DIM(*k, 0) ||
        PyArray_DIM(*q, 2) != PyArray_DIM(*k, 2)) {
        refuse(f, PyExc_ValueError, "q has shape %s and k %s after their projections, expected (N, L, H) and (N, S, H)", shape_text(*q), shape_text(*k));
        return -1;
    }
    if (PyArray_DIM(*w, 0) != PyArray_DIM(*q, 2)) {
        refuse(f, PyExc_ValueError, "w_v has shape %s, expected (%ld,)", shape_text(*w), (long)PyArray_DIM(*q, 2));
        return -1;
    }
    *p = (struct cnn_attention){.batch = PyArray_DIM(*q, 0), .heads = 1, .l = PyArray_DIM(*q, 1), .s = PyArray_DIM(*k, 1), .e = PyArray_DIM(*q, 2)};
    return (*q = in_c_order(f, *q)) && (*k = in_c_order(f, *k)) && (*w = in_c_order(f, *w)) ? 0 : -1;
}
static double additive_estimate(const struct cnn_attention *p) { return 500 + (double)(p->batch * p->l * p->s) * (double)p->e * 1.5; }

/* additive_scores_forward(function, q, k, w_v) -> scores */
static PyObject *additive_scores_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "additive_scores_forward"};
    struct cnn_attention p;
    PyArrayObject *q, *k, *w, *y;
    if (expect_arguments(&f, n, 4) < 0 || read_name(&f, args[0]) < 0 || read_additive(&f, args + 1, NULL, &q, &k, &w, &p) < 0)
        return frame_return(&f, NULL);
    const npy_intp shape[] = {p.batch, p.l, p.s};
    if (!(y = new_result(&f, 3, shape, 0)))
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(q), PyArray_DATA(k), PyArray_DATA(w), PyArray_DATA(y)};
    if (PyArray_SIZE(y) > 0 && run_entry(&f, CNN_additive_scores_forward, &p, arrays, additive_estimate(&p)) < 0)
        return frame_return(&f, NULL);
    return deliver(&f, y, Py_None);
}

/* additive_scores_backward(function, q, k, w_v, ds) -> dq, dk, dw_v */
static PyObject *additive_scores_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "additive_scores_backward"};
    struct cnn_attention p;
    PyArrayObject *q, *k, *w, *ds, *dq, *dk, *dw;
    if (expect_arguments(&f, n, 5) < 0 || read_name(&f, args[0]) < 0)
        return frame_return(&f, NULL);
    const struct array_row row = {"dy", args[4], &ds, 0};
    if (read_additive(&f, args + 1, &row, &q, &k, &w, &p) < 0)
        return frame_return(&f, NULL);
    const npy_intp shape[] = {p.batch, p.l, p.s};
    if (check_shape(&f, "dy", ds, 3, shape) < 0 || !(ds = in_c_order(&f, ds)) || !(dq = new_result(&f, 3, PyArray_DIMS(q), 0)) ||
        !(dk = new_result(&f, 3, PyArray_DIMS(k), 0)) || !(dw = new_result(&f, 1, PyArray_DIMS(w), 0)))
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(ds), PyArray_DATA(q), PyArray_DATA(k), PyArray_DATA(w), PyArray_DATA(dq), PyArray_DATA(dk), PyArray_DATA(dw)};
    if (p.e > 0 && run_entry(&f, CNN_additive_scores_backward, &p, arrays, 3 * additive_estimate(&p)) < 0)
        return frame_return(&f, NULL);
    return frame_return(&f, PyTuple_Pack(3, dq, dk, dw));
}

PyMethodDef attention_methods[] = {METHOD(attention_forward, "function, q, k, v, mask, heads, causal, scale, keep, weights -> y, log_sum, weights"),
                                   METHOD(attention_backward, "... dy, y, log_sum, needs -> dq, dk, dv, dscores"),
                                   METHOD(additive_scores_forward, "function, q, k, w_v -> scores"),
                                   METHOD(additive_scores_backward, "function, q, k, w_v, dscores -> dq, dk, dw_v"), {NULL, NULL, 0, NULL}};
