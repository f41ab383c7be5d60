/* recurrent.c: bindings of one layer of a recurrent network in one direction. */
#include "record.h"

/* What forward and backward read alike. Names of the weights say which of the caller's they are. */
struct layer {
    struct cnn_recurrent p;
    PyArrayObject *x, *w_ih, *w_hh, *b_ih, *b_hh, *w_hr, *h0, *c0;
    int batch_first;
    PyArrayObject *order, *length;
};

enum { LAYER_ARGUMENTS = 13 };
static const char *const cells[] = {"rnn_tanh", "rnn_relu", "lstm", "gru", NULL};
static const long gate_counts[] = {1, 1, 4, 3};

static int expect_shape(const struct frame *f, const char *name, PyArrayObject *a, int rank, long m, long n, const char *meaning)
{
    if (!a || (PyArray_NDIM(a) == rank && PyArray_DIM(a, 0) == m && (rank == 1 || PyArray_DIM(a, 1) == n)))
        return 0;
    const long shape[] = {m, n};
    refuse(f, PyExc_ValueError, "%s has shape %s, expected %s = %s", name, shape_text(a), meaning, longs_text(shape, rank));
    return -1;
}

/* Lengths, longest first, and whose they are; without lengths all are `steps`. */
static int sort_lengths(struct frame *f, PyObject *object, struct layer *l)
{
    const npy_intp samples = l->p.samples;
    if (!(l->order = new_int64(f, 1, &samples)) || !(l->length = new_int64(f, 1, &samples)))
        return -1;
    int64_t *order = PyArray_DATA(l->order), *length = PyArray_DATA(l->length);
    l->p.packed = samples * l->p.steps;
    for (long i = 0; i < samples; i++)
        order[i] = i, length[i] = l->p.steps;
    if (object == Py_None) {
        record_constant(l->order);
        record_constant(l->length);
        return 0;
    }
    record_failure(f->function, "lengths may differ from call to call");
    PyArrayObject *given;
    if (read_integers_array(f, "lengths", object, &given) < 0)
        return -1;
    if (PyArray_NDIM(given) != 1 || PyArray_DIM(given, 0) != samples) {
        refuse(f, PyExc_ValueError, "lengths has shape %s, expected (%ld,), one a sample of x", shape_text(given), (long)samples);
        return -1;
    }
    const int64_t *value = PyArray_DATA(given);
    for (long i = 0; i < samples; i++)
        if (value[i] < 1 || value[i] > l->p.steps) {
            refuse(f, PyExc_ValueError, "lengths holds %lld at position %ld, expected 1 to %ld", (long long)value[i], i, l->p.steps);
            return -1;
        }
    /* a counting sort, stable: how many are longer, then each in turn */
    npy_intp bins = l->p.steps + 1;
    PyArrayObject *start = new_int64(f, 1, &bins);
    if (!start)
        return -1;
    int64_t *at = PyArray_DATA(start), before = 0;
    memset(at, 0, (size_t)bins * sizeof *at);
    l->p.packed = 0;
    for (long i = 0; i < samples; i++)
        at[value[i]]++, l->p.packed += value[i];
    for (long t = l->p.steps; t >= 0; t--) {
        const int64_t count = at[t];
        at[t] = before;
        before += count;
    }
    for (long i = 0; i < samples; i++) {
        const int64_t to = at[value[i]]++;
        order[to] = i, length[to] = value[i];
    }
    return 0;
}

/* args: cell, x, w_ih, w_hh, b_ih, b_hh, w_hr, h0, c0, lengths, reverse, batch_first, number of the weights (-1: by themselves). `more`: arrays of the
 * caller that take part in the common dtype. */
static int read_layer(struct frame *f, PyObject *const *args, struct layer *l, const struct array_row *more, int more_count)
{
    char names[5][48];
    static const char *const plain[] = {"w_ih", "w_hh", "b_ih", "b_hh", "w_hr"};
    long number;
    if (read_choice(f, "cell", args[0], cells, &l->p.cell) < 0 || read_long(f, "number", args[12], -1, LARGEST_INT, &number) < 0)
        return -1;
    for (int i = 0; i < 5; i++)
        snprintf(names[i], sizeof names[i], number < 0 ? "%s" : "%s of weights[%ld]", plain[i], number);
    const char *h = number < 0 ? "h" : "h0", *c = number < 0 ? "c" : "c0"; /* one step takes the states that a sequence begins with */
    struct array_row rows[16] = {
        {"x", args[1], &l->x, 0}, {names[0], args[2], &l->w_ih, 0}, {names[1], args[3], &l->w_hh, 0}, {names[2], args[4], &l->b_ih, 1},
        {names[3], args[5], &l->b_hh, 1}, {names[4], args[6], &l->w_hr, 1}, {h, args[7], &l->h0, number >= 0}, {c, args[8], &l->c0, number >= 0 || l->p.cell != CNN_LSTM}};
    for (int i = 0; i < more_count; i++)
        rows[8 + i] = more[i];
    if (read_arrays(f, rows, 8 + more_count) < 0 || read_bool(f, "reverse", args[10], &l->p.reverse) < 0 ||
        read_bool(f, "batch_first", args[11], &l->batch_first) < 0)
        return -1;
    if (PyArray_NDIM(l->x) != 3) {
        refuse(f, PyExc_ValueError, "x has shape %s, expected %s", shape_text(l->x), l->batch_first ? "(N, T, F)" : "(T, N, F)");
        return -1;
    }
    const int sample = l->batch_first ? 0 : 1, gates = (int)gate_counts[l->p.cell];
    l->p.samples = PyArray_DIM(l->x, sample), l->p.steps = PyArray_DIM(l->x, 1 - sample), l->p.inputs = PyArray_DIM(l->x, 2);
    if (l->p.steps == 0 || l->p.inputs == 0) {
        refuse(f, PyExc_ValueError, "x has shape %s, expected at least one %s", shape_text(l->x), l->p.steps ? "feature" : "step");
        return -1;
    }
    if (PyArray_NDIM(l->w_ih) != 2 || PyArray_DIM(l->w_ih, 1) != l->p.inputs || PyArray_DIM(l->w_ih, 0) % gates || PyArray_DIM(l->w_ih, 0) == 0) {
        refuse(f, PyExc_ValueError, "%s has shape %s, expected (%s, %ld) because x has shape %s", names[0], shape_text(l->w_ih),
               gates == 1 ? "H" : gates == 3 ? "3*H" : "4*H", l->p.inputs, shape_text(l->x));
        return -1;
    }
    const long rows_of = PyArray_DIM(l->w_ih, 0), units = l->p.units = rows_of / gates;
    if (l->w_hr && (PyArray_NDIM(l->w_hr) != 2 || PyArray_DIM(l->w_hr, 1) != units || PyArray_DIM(l->w_hr, 0) == 0)) {
        refuse(f, PyExc_ValueError, "%s has shape %s, expected (P, %ld)", names[4], shape_text(l->w_hr), units);
        return -1;
    }
    l->p.projected = l->w_hr ? PyArray_DIM(l->w_hr, 0) : 0;
    const long outputs = l->w_hr ? l->p.projected : units;
    const char *hidden = gates == 1 ? "(H, H)" : gates == 3 ? "(3*H, H)" : l->w_hr ? "(4*H, P)" : "(4*H, H)";
    const char *bias = gates == 1 ? "(H,)" : gates == 3 ? "(3*H,)" : "(4*H,)";
    if (expect_shape(f, names[1], l->w_hh, 2, rows_of, outputs, hidden) < 0 || expect_shape(f, names[2], l->b_ih, 1, rows_of, 0, bias) < 0 ||
        expect_shape(f, names[3], l->b_hh, 1, rows_of, 0, bias) < 0 ||
        expect_shape(f, h, l->h0, 2, l->p.samples, outputs, l->w_hr ? "(N, P)" : "(N, H)") < 0 ||
        expect_shape(f, c, l->c0, 2, l->p.samples, units, "(N, H)") < 0 || sort_lengths(f, args[9], l) < 0)
        return -1;
    PyArrayObject **const dense[] = {&l->x, &l->w_ih, &l->w_hh, &l->b_ih, &l->b_hh, &l->w_hr, &l->h0, &l->c0};
    for (size_t i = 0; i < sizeof dense / sizeof *dense; i++)
        if (*dense[i] && !(*dense[i] = in_c_order(f, *dense[i])))
            return -1;
    l->p.x[0] = PyArray_DIM(l->x, 2) * (l->batch_first ? l->p.steps : 1);
    l->p.x[1] = PyArray_DIM(l->x, 2) * (l->batch_first ? 1 : l->p.samples);
    return 0;
}

static double estimate(const struct cnn_recurrent *p)
{
    const double outputs = (double)(p->projected ? p->projected : p->units);
    return 1000 + (double)p->packed * (double)(gate_counts[p->cell] * p->units) * ((double)p->inputs + outputs + 40) / 40;
}

static void *data_of(PyArrayObject *a) { return a ? PyArray_DATA(a) : NULL; }

/* The array y of `directions` directions, of which this layer writes one; made here by the first. */
static PyArrayObject *find_y(struct frame *f, const char *name, PyObject *object, struct layer *l, long directions, long direction, char **start)
{
    const long outputs = l->p.projected ? l->p.projected : l->p.units;
    const npy_intp shape[] = {PyArray_DIM(l->x, 0), PyArray_DIM(l->x, 1), directions * outputs};
    PyArrayObject *y;
    if (object != Py_None) {
        if (!PyArray_CheckExact(object) || PyArray_TYPE((PyArrayObject *)object) != (f->dtype == CNN_F32 ? NPY_FLOAT : NPY_DOUBLE) ||
            !PyArray_IS_C_CONTIGUOUS((PyArrayObject *)object))
            return refuse(f, PyExc_TypeError, "%s is %.100s, expected a dense result of the other direction in the common dtype", name, Py_TYPE(object)->tp_name);
        y = (PyArrayObject *)object;
        if (check_shape(f, name, y, 3, shape) < 0)
            return NULL;
    } else {
        if (!(y = new_result(f, 3, shape, 0)))
            return NULL;
        if (l->p.packed < l->p.samples * l->p.steps)
            memset(PyArray_DATA(y), 0, (size_t)PyArray_NBYTES(y));
    }
    const long row = directions * outputs;
    l->p.y[0] = row * (l->batch_first ? l->p.steps : 1);
    l->p.y[1] = row * (l->batch_first ? 1 : l->p.samples);
    *start = PyArray_BYTES(y) + direction * outputs * PyArray_ITEMSIZE(y);
    return y;
}

/* recurrent_forward(function, <the layer>, directions, direction, y, keep) -> y, h_n, c_n, gates, cells */
static PyObject *recurrent_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "recurrent_forward"};
    struct layer l = {0};
    long directions, direction;
    int keep;
    char *y_data;
    PyArrayObject *y, *h_n, *c_n = NULL, *gates = NULL, *state = NULL;
    if (expect_arguments(&f, n, 1 + LAYER_ARGUMENTS + 4) < 0 || read_name(&f, args[0]) < 0 || read_layer(&f, args + 1, &l, NULL, 0) < 0 ||
        read_long(&f, "directions", args[14], 1, 2, &directions) < 0 || read_long(&f, "direction", args[15], 0, directions - 1, &direction) < 0 ||
        read_bool(&f, "keep", args[17], &keep) < 0 || !(y = find_y(&f, "y", args[16], &l, directions, direction, &y_data)))
        return frame_return(&f, NULL);
    const npy_intp hidden[] = {l.p.samples, l.p.projected ? l.p.projected : l.p.units}, cell[] = {l.p.samples, l.p.units};
    const npy_intp kept[] = {l.p.packed, 4, l.p.units}, kept_cells[] = {l.p.packed, l.p.units};
    const int is_lstm = l.p.cell == CNN_LSTM;
    if (!(h_n = new_result(&f, 2, hidden, 0)) || (is_lstm && !(c_n = new_result(&f, 2, cell, 0))) ||
        (keep && l.p.cell >= CNN_LSTM && !(gates = new_result(&f, 3, kept, 0))) || (keep && is_lstm && !(state = new_result(&f, 2, kept_cells, 0))))
        return frame_return(&f, NULL);
    void *const arrays[] = {data_of(l.x), data_of(l.w_ih), data_of(l.w_hh), data_of(l.b_ih), data_of(l.b_hh), data_of(l.w_hr), data_of(l.h0), data_of(l.c0),
                            data_of(l.order), data_of(l.length), y_data, data_of(h_n), data_of(c_n), data_of(gates), data_of(state)};
    if (l.p.samples > 0 && run_entry(&f, CNN_recurrent_forward, &l.p, arrays, estimate(&l.p)) < 0)
        return frame_return(&f, NULL);
#define OR_NONE(a) ((a) ? (PyObject *)(a) : Py_None)
    return frame_return(&f, PyTuple_Pack(5, (PyObject *)y, (PyObject *)h_n, OR_NONE(c_n), OR_NONE(gates), OR_NONE(state)));
}

/* recurrent_backward(function, <the layer>, directions, direction, dy, dh_n, dc_n, y, gates, cells, needs)
 * -> dx, dw_ih, dw_hh, db_ih, db_hh, dw_hr, dh0, dc0; needs: 1 x, 2 weights, 4 h0, 8 c0 */
static PyObject *recurrent_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "recurrent_backward"};
    struct layer l = {0};
    long directions, direction, needs;
    char *y_data, *dy_data;
    PyArrayObject *dy, *dh_n, *dc_n, *y, *gates, *state;
    if (expect_arguments(&f, n, 1 + LAYER_ARGUMENTS + 9) < 0 || read_name(&f, args[0]) < 0)
        return frame_return(&f, NULL);
    const struct array_row rows[] = {{"dy", args[16], &dy, 1}, {"dh_n", args[17], &dh_n, 1}, {"dc_n", args[18], &dc_n, 1},
                                     {"y", args[19], &y, 0},   {"gates", args[20], &gates, 1}, {"cells", args[21], &state, 1}};
    if (read_layer(&f, args + 1, &l, rows, 6) < 0 || read_long(&f, "directions", args[14], 1, 2, &directions) < 0 ||
        read_long(&f, "direction", args[15], 0, directions - 1, &direction) < 0 || read_long(&f, "needs", args[22], 0, 15, &needs) < 0 ||
        !(y = in_c_order(&f, y)) || (dy && !(dy = in_c_order(&f, dy))) || (dh_n && !(dh_n = in_c_order(&f, dh_n))) ||
        (dc_n && !(dc_n = in_c_order(&f, dc_n))) || (gates && !(gates = in_c_order(&f, gates))) || (state && !(state = in_c_order(&f, state))) ||
        !find_y(&f, "cache", (PyObject *)y, &l, directions, direction, &y_data) || (dy && !find_y(&f, "dy", (PyObject *)dy, &l, directions, direction, &dy_data)))
        return frame_return(&f, NULL);
    const int is_lstm = l.p.cell == CNN_LSTM;
    const npy_intp hidden[] = {l.p.samples, l.p.projected ? l.p.projected : l.p.units}, cell[] = {l.p.samples, l.p.units};
    const npy_intp kept[] = {l.p.packed, 4, l.p.units}, kept_cells[] = {l.p.packed, l.p.units};
    if ((dh_n && check_shape(&f, "dh_n", dh_n, 2, hidden) < 0) || (dc_n && check_shape(&f, "dc_n", dc_n, 2, cell) < 0))
        return frame_return(&f, NULL);
    if ((l.p.cell >= CNN_LSTM && (!gates || check_shape(&f, "gates", gates, 3, kept) < 0)) || (is_lstm && (!state || check_shape(&f, "cells", state, 2, kept_cells) < 0))) {
        if (!PyErr_Occurred())
            refuse(&f, PyExc_TypeError, "cache lacks what the forward call kept");
        return frame_return(&f, NULL);
    }
    PyArrayObject *dx = NULL, *dw_ih = NULL, *dw_hh = NULL, *db_ih = NULL, *db_hh = NULL, *dw_hr = NULL, *dh0 = NULL, *dc0 = NULL;
    if ((needs & 1 && !(dx = new_result(&f, 3, PyArray_DIMS(l.x), 0))) || (needs & 2 && !(dw_ih = new_result(&f, 2, PyArray_DIMS(l.w_ih), 0))) ||
        (needs & 2 && !(dw_hh = new_result(&f, 2, PyArray_DIMS(l.w_hh), 0))) ||
        (needs & 2 && l.b_ih && !(db_ih = new_result(&f, 1, PyArray_DIMS(l.b_ih), 0))) ||
        (needs & 2 && l.b_hh && !(db_hh = new_result(&f, 1, PyArray_DIMS(l.b_hh), 0))) ||
        (needs & 2 && l.w_hr && !(dw_hr = new_result(&f, 2, PyArray_DIMS(l.w_hr), 0))) || (needs & 4 && !(dh0 = new_result(&f, 2, hidden, 0))) ||
        (needs & 8 && is_lstm && !(dc0 = new_result(&f, 2, cell, 0))))
        return frame_return(&f, NULL);
    if (l.p.samples == 0) {
        record_failure(f.function, "an empty batch");
        PyArrayObject *const zero[] = {dw_ih, dw_hh, db_ih, db_hh, dw_hr};
        for (int i = 0; i < 5; i++)
            if (zero[i])
                memset(PyArray_DATA(zero[i]), 0, (size_t)PyArray_NBYTES(zero[i]));
    } else {
        if (dx && l.p.packed < l.p.samples * l.p.steps)
            memset(PyArray_DATA(dx), 0, (size_t)PyArray_NBYTES(dx));
        void *const arrays[] = {dy ? dy_data : NULL, data_of(dh_n), data_of(dc_n), data_of(l.x), data_of(l.w_ih), data_of(l.w_hh), data_of(l.w_hr),
                                data_of(l.h0), data_of(l.c0), data_of(l.order), data_of(l.length), y_data, data_of(gates), data_of(state), data_of(dx),
                                data_of(dw_ih), data_of(dw_hh), data_of(db_ih), data_of(db_hh), data_of(dw_hr), data_of(dh0), data_of(dc0)};
        if (run_entry(&f, CNN_recurrent_backward, &l.p, arrays, 3 * estimate(&l.p)) < 0)
            return frame_return(&f, NULL);
    }
    return frame_return(&f, PyTuple_Pack(8, OR_NONE(dx), OR_NONE(dw_ih), OR_NONE(dw_hh), OR_NONE(db_ih), OR_NONE(db_hh), OR_NONE(dw_hr),
                                         OR_NONE(dh0), OR_NONE(dc0)));
}

/* Blocks of gates a (N, 4 K, spatial) as [outer][4][inner], in the order of the arrays; c has K channels. */
static int gate_problem(struct frame *f, PyArrayObject *a, PyArrayObject *c, struct cnn_reduce *p, int *last)
{
    if (PyArray_NDIM(a) < 2 || PyArray_NDIM(c) != PyArray_NDIM(a) || PyArray_DIM(a, 0) != PyArray_DIM(c, 0) || PyArray_DIM(a, 1) != 4 * PyArray_DIM(c, 1) ||
        !PyArray_CompareLists(PyArray_DIMS(a) + 2, PyArray_DIMS(c) + 2, PyArray_NDIM(a) - 2)) {
        refuse(f, PyExc_ValueError, "c has shape %s, expected a quarter of the channels of the gates %s", shape_text(c), shape_text(a));
        return -1;
    }
    long cells = 1;
    for (int i = 2; i < PyArray_NDIM(a); i++)
        cells *= PyArray_DIM(a, i);
    *last = is_channels_last(a) && !PyArray_IS_C_CONTIGUOUS(a);
    *p = *last ? (struct cnn_reduce){PyArray_DIM(a, 0) * cells, 4, PyArray_DIM(c, 1)} : (struct cnn_reduce){PyArray_DIM(a, 0), 4, PyArray_DIM(c, 1) * cells};
    return 0;
}

/* lstm_gates_forward(function, a, q, c) -> h, c1, gates; a, q (N, 4 K, spatial), c (N, K, spatial) */
static PyObject *lstm_gates_forward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "lstm_gates_forward"};
    PyArrayObject *a, *q, *c, *h, *c1, *gates;
    struct cnn_reduce p;
    int last;
    const struct array_row rows[] = {{"a", args[1], &a, 0}, {"q", args[2], &q, 0}, {"c", args[3], &c, 0}};
    if (expect_arguments(&f, n, 4) < 0 || read_name(&f, args[0]) < 0 || read_arrays(&f, rows, 3) < 0)
        return frame_return(&f, NULL);
    if ((!is_dense(a) && !(a = in_c_order(&f, a))) || gate_problem(&f, a, c, &p, &last) < 0 ||
        check_shape(&f, "q", q, PyArray_NDIM(a), PyArray_DIMS(a)) < 0 || !(q = ordered_like(&f, q, a)) ||
        !(h = new_result(&f, PyArray_NDIM(c), PyArray_DIMS(c), last)) || !(c = ordered_like(&f, c, h)) ||
        !(c1 = new_result(&f, PyArray_NDIM(c), PyArray_DIMS(c), last)) || !(gates = new_result(&f, PyArray_NDIM(a), PyArray_DIMS(a), last)))
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(a), PyArray_DATA(q), PyArray_DATA(c), PyArray_DATA(h), PyArray_DATA(c1), PyArray_DATA(gates)};
    if (PyArray_SIZE(c) > 0 && run_entry(&f, CNN_lstm_gates_forward, &p, arrays, 8.0 * (double)PyArray_SIZE(c)) < 0)
        return frame_return(&f, NULL);
    return frame_return(&f, PyTuple_Pack(3, h, c1, gates));
}

/* lstm_gates_backward(function, dh, dc, c, c1, gates) -> da, dc */
static PyObject *lstm_gates_backward(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "lstm_gates_backward"};
    PyArrayObject *dh, *dc, *c, *c1, *gates, *da, *dc0;
    struct cnn_reduce p;
    int last;
    const struct array_row rows[] = {{"dh", args[1], &dh, 1}, {"dc", args[2], &dc, 1}, {"c", args[3], &c, 0}, {"cache", args[4], &c1, 0},
                                     {"cache", args[5], &gates, 0}};
    if (expect_arguments(&f, n, 6) < 0 || read_name(&f, args[0]) < 0 || read_arrays(&f, rows, 5) < 0)
        return frame_return(&f, NULL);
    if ((!is_dense(gates) && !(gates = in_c_order(&f, gates))) || gate_problem(&f, gates, c, &p, &last) < 0 ||
        check_shape(&f, "cache", c1, PyArray_NDIM(c), PyArray_DIMS(c)) < 0 || (dh && check_shape(&f, "dh", dh, PyArray_NDIM(c), PyArray_DIMS(c)) < 0) ||
        (dc && check_shape(&f, "dc", dc, PyArray_NDIM(c), PyArray_DIMS(c)) < 0) || !(dc0 = new_result(&f, PyArray_NDIM(c), PyArray_DIMS(c), last)) ||
        !(da = new_result(&f, PyArray_NDIM(gates), PyArray_DIMS(gates), last)) || !(c = ordered_like(&f, c, dc0)) || !(c1 = ordered_like(&f, c1, dc0)) ||
        (dh && !(dh = ordered_like(&f, dh, dc0))) || (dc && !(dc = ordered_like(&f, dc, dc0))))
        return frame_return(&f, NULL);
    void *const arrays[] = {data_of(dh), data_of(dc), PyArray_DATA(c), PyArray_DATA(c1), PyArray_DATA(gates), PyArray_DATA(da), PyArray_DATA(dc0)};
    if (PyArray_SIZE(c) > 0 && run_entry(&f, CNN_lstm_gates_backward, &p, arrays, 4.0 * (double)PyArray_SIZE(c)) < 0)
        return frame_return(&f, NULL);
    return frame_return(&f, PyTuple_Pack(2, da, dc0));
}

PyMethodDef recurrent_methods[] = {METHOD(recurrent_forward, "a layer in one direction -> y, h_n, c_n, gates, cells"),
                                   METHOD(recurrent_backward, "gradients of a layer in one direction"), METHOD(lstm_gates_forward, "function, a, q, c -> h, c1, gates"),
                                   METHOD(lstm_gates_backward, "function, dh, dc, c, c1, gates -> da, dc"), {NULL, NULL, 0, NULL}};
