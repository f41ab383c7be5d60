/* program.c: the object that runs what was recorded. */
#include "record.h"

#include "../base/memory.h"
#include "../program/program.h"

/* Where a line's array lies: `offset` bytes into source `source`. */
struct place {
    long line;
    int slot;
    size_t offset;
};
struct program {
    long count, sources, places;
    long packs; /* lines at the start that run when weights changed, not with the others */
    int packed_isa, preparing_isa;
    struct cnn_line *lines;
    char *problems; /* those of all lines, one behind another */
    size_t problem_bytes;
    struct place *place; /* by source */
    long *first;         /* of the places of each source; one more at the end */
    PyArrayObject **bound;
    char *scratch;
    size_t scratch_bytes, scratch_capacity;
    int scratch_workers, scratch_isa;
    int running;
};
static const char *const program_name = "cnnpy program";

static void release_program(PyObject *capsule)
{
    struct program *p = PyCapsule_GetPointer(capsule, program_name);
    for (long i = 0; p->bound && i < p->sources; i++)
        Py_XDECREF(p->bound[i]);
    cnn_release(p->scratch, p->scratch_capacity);
    PyMem_Free(p->lines), PyMem_Free(p->problems), PyMem_Free(p->place), PyMem_Free(p->first), PyMem_Free(p->bound);
    PyMem_Free(p);
}

static struct program *as_program(const struct frame *f, PyObject *object)
{
    if (PyCapsule_IsValid(object, program_name))
        return PyCapsule_GetPointer(object, program_name);
    return refuse(f, PyExc_TypeError, "program is %.100s, expected a program", Py_TYPE(object)->tp_name);
}

static size_t aligned(size_t bytes) { return (bytes + 15) / 16 * 16; }

/* Checks lines and copies them. -1: an exception is set. */
static int fill_program(const struct frame *f, struct program *p, PyObject *lines)
{
    long places = 0;
    for (long i = 0; i < p->count; i++) {
        int entry, dtype, read;
        PyObject *line = PyList_GET_ITEM(lines, i), *problem, *arrays;
        double work;
        if (!PyTuple_Check(line)) {
            refuse(f, PyExc_TypeError, "line %ld is %.100s, expected tuple", i, Py_TYPE(line)->tp_name);
            return -1;
        }
        if (!PyArg_ParseTuple(line, "iiO!O!d", &entry, &dtype, &PyBytes_Type, &problem, &PyTuple_Type, &arrays, &work))
            return -1;
        const Py_ssize_t bytes = PyBytes_GET_SIZE(problem);
        if (entry < 0 || entry >= CNN_ENTRIES || dtype < 0 || dtype > 1 || (size_t)bytes != cnn_problem_sizes[entry] || PyTuple_GET_SIZE(arrays) != cnn_array_count(entry, &read)) {
            refuse(f, PyExc_ValueError, "line %ld is not as ops.def says", i);
            return -1;
        }
        p->problem_bytes += aligned((size_t)bytes);
        for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(arrays); k++)
            places += PyTuple_GET_ITEM(arrays, k) != Py_None;
    }
    p->places = places;
    p->lines = PyMem_Calloc((size_t)p->count + 1, sizeof *p->lines);
    p->problems = PyMem_Calloc(1, p->problem_bytes + 16);
    p->place = PyMem_Calloc((size_t)places + 1, sizeof *p->place);
    p->first = PyMem_Calloc((size_t)p->sources + 2, sizeof *p->first);
    p->bound = PyMem_Calloc((size_t)p->sources + 1, sizeof *p->bound);
    if (!p->lines || !p->problems || !p->place || !p->first || !p->bound) {
        PyErr_NoMemory();
        return -1;
    }
    size_t at = 0;
    for (int pass = 0; pass < 2; pass++) { /* count the places of each source, then sort them */
        for (long i = 0; i < p->count; i++) {
            PyObject *row = PyList_GET_ITEM(lines, i), *arrays = PyTuple_GET_ITEM(row, 3);
            struct cnn_line *line = &p->lines[i];
            if (pass == 0) {
                char *bytes;
                Py_ssize_t size;
                line->entry = (int)PyLong_AsLong(PyTuple_GET_ITEM(row, 0));
                line->dtype = PyLong_AsLong(PyTuple_GET_ITEM(row, 1)) ? CNN_F64 : CNN_F32;
                line->small = PyFloat_AsDouble(PyTuple_GET_ITEM(row, 4)) < 20e3;
                PyBytes_AsStringAndSize(PyTuple_GET_ITEM(row, 2), &bytes, &size);
                memcpy(p->problems + at, bytes, (size_t)size);
                line->problem = p->problems + at;
                at += aligned((size_t)size);
            }
            for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(arrays); k++) {
                long source;
                Py_ssize_t offset;
                if (PyTuple_GET_ITEM(arrays, k) == Py_None)
                    continue;
                if (!PyTuple_Check(PyTuple_GET_ITEM(arrays, k))) {
                    refuse(f, PyExc_TypeError, "array %zd of line %ld is %.100s, expected tuple", k, i, Py_TYPE(PyTuple_GET_ITEM(arrays, k))->tp_name);
                    return -1;
                }
                if (!PyArg_ParseTuple(PyTuple_GET_ITEM(arrays, k), "ln", &source, &offset))
                    return -1;
                if (source < 0 || source >= p->sources || offset < 0) {
                    refuse(f, PyExc_ValueError, "line %ld reads source %ld of %ld", i, source, p->sources);
                    return -1;
                }
                if (pass == 0)
                    p->first[source + 2]++;
                else
                    p->place[p->first[source + 1]++] = (struct place){i, (int)k, (size_t)offset};
            }
        }
        for (long s = 2; pass == 0 && s < p->sources + 2; s++)
            p->first[s] += p->first[s - 1];
    }
    return 0;
}

/* program_new(lines, sources, packs) -> program, its problems as bytes that may be changed; lines as record_end gives them, each array a (source, offset) */
static PyObject *program_new(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    const struct frame f = {.function = "program_new"};
    long sources, packs;
    if (expect_arguments(&f, n, 3) < 0 || read_long(&f, "sources", args[1], 0, LARGEST_INT, &sources) < 0 || read_long(&f, "packs", args[2], 0, LARGEST_INT, &packs) < 0)
        return NULL;
    if (!PyList_CheckExact(args[0]))
        return refuse(&f, PyExc_TypeError, "lines is %.100s, expected a list", Py_TYPE(args[0])->tp_name);
    struct program *p = PyMem_Calloc(1, sizeof *p);
    PyObject *capsule = p ? PyCapsule_New(p, program_name, release_program) : NULL;
    if (!capsule) {
        PyMem_Free(p);
        return PyErr_NoMemory();
    }
    p->count = PyList_GET_SIZE(args[0]), p->sources = sources, p->packs = packs < p->count ? packs : p->count, p->packed_isa = -1;
    if (fill_program(&f, p, args[0]) < 0) {
        Py_DECREF(capsule);
        return NULL;
    }
    npy_intp bytes = (npy_intp)p->problem_bytes;
    PyObject *problems = PyArray_New(&PyArray_Type, 1, &bytes, NPY_UINT8, NULL, p->problems, 0, NPY_ARRAY_CARRAY, NULL);
    Py_INCREF(capsule);
    if (!problems || PyArray_SetBaseObject((PyArrayObject *)problems, capsule) < 0) {
        Py_XDECREF(problems);
        Py_DECREF(capsule);
        return NULL;
    }
    return Py_BuildValue("(NN)", capsule, problems);
}

/* program_bind(program, source, array): lines use its memory from now on */
static PyObject *program_bind(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    const struct frame f = {.function = "program_bind"};
    struct program *p;
    long source;
    if (expect_arguments(&f, n, 3) < 0 || !(p = as_program(&f, args[0])) || read_long(&f, "source", args[1], 0, p->sources - 1, &source) < 0)
        return NULL;
    if (!PyArray_Check(args[2]))
        return refuse(&f, PyExc_TypeError, "array is %.100s, expected a numpy.ndarray", Py_TYPE(args[2])->tp_name);
    if (p->running)
        return refuse(&f, PyExc_RuntimeError, "the program is running");
    char *start, *end;
    find_extent((PyArrayObject *)args[2], &start, &end);
    for (long i = p->first[source]; i < p->first[source + 1]; i++)
        if (p->place[i].offset >= (size_t)(end - start))
            return refuse(&f, PyExc_ValueError, "array has %zd bytes, expected more than %zu", (Py_ssize_t)(end - start), p->place[i].offset);
    for (long i = p->first[source]; i < p->first[source + 1]; i++)
        p->lines[p->place[i].line].array[p->place[i].slot] = start + p->place[i].offset;
    Py_INCREF(args[2]);
    Py_XSETREF(p->bound[source], (PyArrayObject *)args[2]);
    Py_RETURN_NONE;
}

static int prepare_scratch(const struct frame *f, struct program *p, int workers)
{
    const int isa = (int)cnn_chosen();
    if (p->scratch_workers == workers && p->scratch_isa == isa)
        return 0;
    const size_t bytes = cnn_program_scratch(p->lines, p->count, workers);
    if (bytes > p->scratch_capacity) {
        size_t capacity;
        char *scratch = cnn_acquire(bytes, &capacity);
        if (!scratch) {
            refuse(f, PyExc_MemoryError, "no memory for %zu bytes of scratch", bytes);
            return -1;
        }
        cnn_release(p->scratch, p->scratch_capacity);
        p->scratch = scratch, p->scratch_capacity = capacity;
    }
    p->scratch_bytes = bytes, p->scratch_workers = workers, p->scratch_isa = isa;
    return 0;
}

static PyObject *run_lines(const struct frame *f, struct program *p, long first, long last, int whole, int together, double *seconds)
{
    for (long i = 0; i < p->sources; i++)
        if (!p->bound[i] && p->first[i] < p->first[i + 1])
            return refuse(f, PyExc_ValueError, "source %ld is not bound", i);
    if (p->running)
        return refuse(f, PyExc_RuntimeError, "the program is running in another thread");
    const int workers = cnn_num_threads();
    if (prepare_scratch(f, p, workers) < 0)
        return NULL;
    struct cnn_run run = {.workers = workers, .scratch = p->scratch};
    if (!whole) {
        run.poll = check_signals;
        run.polled = cnn_now();
    }
    p->running = 1;
    const unsigned long state = cnn_float_enter();
    Py_BEGIN_ALLOW_THREADS
    cnn_program_run(p->lines + first, last - first, together, &run, seconds);
    Py_END_ALLOW_THREADS
    cnn_float_leave(state);
    p->running = 0;
    if (run.stopped)
        return NULL;
    Py_RETURN_NONE;
}

/* program_pair(program, gradient, update): line `gradient`, a weight gradient, and line `update`, which alone reads it, may run together */
static PyObject *program_pair(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    const struct frame f = {.function = "program_pair"};
    struct program *p;
    long at, to;
    if (expect_arguments(&f, n, 3) < 0 || !(p = as_program(&f, args[0])) || read_long(&f, "gradient", args[1], 0, p->count - p->packs - 1, &at) < 0 ||
        read_long(&f, "update", args[2], at + 1, p->count - p->packs - 1, &to) < 0)
        return NULL;
    struct cnn_line *gradient = &p->lines[p->packs + at], *update = &p->lines[p->packs + to];
    const struct cnn_conv *conv = gradient->problem;
    if (gradient->entry != CNN_conv_backward_weight || update->entry < CNN_sgd_update || update->entry > CNN_adadelta_update || gradient->dtype != update->dtype ||
        !cnn_variant(gradient->dtype)->conv_traits(conv).weight_updates || ((const struct cnn_update *)update->problem)->size != conv->c * conv->k)
        return refuse(&f, PyExc_ValueError, "lines %ld and %ld are not a weight gradient and its update that can run together", at, to);
    gradient->update = update;
    update->updated = 1;
    Py_RETURN_NONE;
}

/* program_run(program, first, last, whole, together, seconds): runs lines first to last - 1; whole: Ctrl-C waits until they are done; together: pairs
 * run together, at the place of the gradient; seconds: None, or a float64 array to which each line's time is added */
static PyObject *program_run(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    const struct frame f = {.function = "compiled program"};
    struct program *p;
    long first, last;
    int whole, together;
    if (expect_arguments(&f, n, 6) < 0 || !(p = as_program(&f, args[0])) || read_long(&f, "first", args[1], 0, p->count - p->packs, &first) < 0 ||
        read_long(&f, "last", args[2], first, p->count - p->packs, &last) < 0 || read_bool(&f, "whole", args[3], &whole) < 0 ||
        read_bool(&f, "together", args[4], &together) < 0)
        return NULL;
    if (p->packs && p->packed_isa != (int)cnn_chosen())
        return refuse(&f, PyExc_RuntimeError, "its weights are not packed for this instruction set; refresh() packs them anew");
    double *seconds = NULL;
    if (args[5] != Py_None) {
        if (!PyArray_Check(args[5]) || PyArray_TYPE((PyArrayObject *)args[5]) != NPY_DOUBLE || PyArray_SIZE((PyArrayObject *)args[5]) != p->count - p->packs ||
            !PyArray_ISCARRAY((PyArrayObject *)args[5]))
            return refuse(&f, PyExc_TypeError, "seconds is not a float64 array of a value a line");
        seconds = PyArray_DATA((PyArrayObject *)args[5]);
    }
    return run_lines(&f, p, p->packs + first, p->packs + last, whole, together, seconds ? seconds + first : NULL);
}

/* program_prepare(program, first, last): packs the weights that its other lines read packed, those of pack lines first to last - 1; in parts, because
 * what they are packed from may come and go. The last part makes the program ready. */
static PyObject *program_prepare(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    const struct frame f = {.function = "compiled program"};
    struct program *p;
    long first, last;
    if (expect_arguments(&f, n, 3) < 0 || !(p = as_program(&f, args[0])) || read_long(&f, "first", args[1], 0, p->packs, &first) < 0 ||
        read_long(&f, "last", args[2], first, p->packs, &last) < 0)
        return NULL;
    const int isa = (int)cnn_chosen();
    if (first && p->preparing_isa != isa)
        return refuse(&f, PyExc_RuntimeError, "the instruction set was changed while its weights were packed");
    p->packed_isa = -1; /* what a failure leaves is not run */
    p->preparing_isa = isa;
    PyObject *done = run_lines(&f, p, first, last, 1, 0, NULL);
    if (done && last == p->packs)
        p->packed_isa = isa;
    return done;
}

/* program_scratch(program) -> bytes of scratch that a run with the threads of now takes */
static PyObject *program_scratch(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    const struct frame f = {.function = "program_scratch"};
    struct program *p;
    if (expect_arguments(&f, n, 1) < 0 || !(p = as_program(&f, args[0])))
        return NULL;
    return PyLong_FromSize_t(cnn_program_scratch(p->lines, p->count, cnn_num_threads()));
}

PyMethodDef program_methods[] = {
    METHOD(program_new, "lines, sources, packs -> program, problems"), METHOD(program_bind, "program, source, array"),
    METHOD(program_prepare, "program, first, last"), METHOD(program_pair, "program, gradient, update"),
    METHOD(program_run, "program, first, last, whole, together, seconds"), METHOD(program_scratch, "program -> bytes"), {NULL, NULL, 0, NULL}};
