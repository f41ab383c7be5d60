/* record.c: recording calls, and the object that runs what was recorded. */
#include "record.h"

#include <stddef.h>

#include "../base/memory.h"
#include "../program/program.h"

/* ---- what ops.def says of every entry */

static const size_t problem_sizes[] = {
#define CNN_ENTRY(name, problem, arrays) sizeof(struct problem),
#include "../ops.def"
#undef CNN_ENTRY
};
static const char *const problem_names[] = {
#define CNN_ENTRY(name, problem, arrays) #problem,
#include "../ops.def"
#undef CNN_ENTRY
};
static const char *const signatures[] = {
#define CNN_ENTRY(name, problem, arrays) arrays,
#include "../ops.def"
#undef CNN_ENTRY
};

/* Arrays that entry `entry` takes; the first *read of them are read. */
static int array_count(int entry, int *read)
{
    int count = 0, word = 0;
    *read = 0;
    for (const char *at = signatures[entry]; *at; at++) {
        if (at[0] == '-' && at[1] == '>') {
            *read = count;
            at++;
        } else if (*at == ' ')
            word = 0;
        else if (!word)
            word = 1, count++;
    }
    return count;
}

/* The fields of the problem structs, for who reads a program: name, place, type ('i' int, 'l' long, 'd' double, 'u' unsigned long), how many. */
struct field {
    const char *problem, *name;
    size_t offset;
    char type;
    int count;
};
#define TYPE_OF(lvalue) _Generic((lvalue), int: 'i', long: 'l', unsigned long: 'u', double: 'd')
#define ONE(s, field) {#s, #field, offsetof(struct s, field), TYPE_OF(((struct s *)0)->field), 1}
#define MANY(s, field) {#s, #field, offsetof(struct s, field), TYPE_OF(((struct s *)0)->field[0]), (int)(sizeof ((struct s *)0)->field / sizeof ((struct s *)0)->field[0])}
static const struct field fields[] = {
    ONE(cnn_conv, n), ONE(cnn_conv, c), ONE(cnn_conv, k), ONE(cnn_conv, groups), MANY(cnn_conv, in), MANY(cnn_conv, out), MANY(cnn_conv, window), MANY(cnn_conv, stride),
    MANY(cnn_conv, dilation), MANY(cnn_conv, before), ONE(cnn_conv, padding_mode), ONE(cnn_conv, activation), ONE(cnn_conv, algorithm), MANY(cnn_conv, x), MANY(cnn_conv, w),
    MANY(cnn_conv, y),
    ONE(cnn_pad, n), ONE(cnn_pad, c), MANY(cnn_pad, in), MANY(cnn_pad, padded), MANY(cnn_pad, before),
    ONE(cnn_unfold, n), ONE(cnn_unfold, c), MANY(cnn_unfold, in), MANY(cnn_unfold, out), MANY(cnn_unfold, window),
    ONE(cnn_matmul, batch), ONE(cnn_matmul, m), ONE(cnn_matmul, n), ONE(cnn_matmul, k),
    ONE(cnn_pool, n), ONE(cnn_pool, c), MANY(cnn_pool, in), MANY(cnn_pool, out), MANY(cnn_pool, window), MANY(cnn_pool, stride),
    ONE(cnn_recurrent, cell), ONE(cnn_recurrent, samples), ONE(cnn_recurrent, steps), ONE(cnn_recurrent, inputs), ONE(cnn_recurrent, units), ONE(cnn_recurrent, projected),
    ONE(cnn_attention, batch), ONE(cnn_attention, heads), ONE(cnn_attention, l), ONE(cnn_attention, s), ONE(cnn_attention, e), ONE(cnn_attention, w),
    ONE(cnn_resize, n), ONE(cnn_resize, c), MANY(cnn_resize, in), MANY(cnn_resize, out),
    ONE(cnn_map, size), ONE(cnn_map, a), ONE(cnn_map, b),
    ONE(cnn_norm, n), ONE(cnn_norm, c), ONE(cnn_norm, s), ONE(cnn_norm, groups), ONE(cnn_norm, channels_last), ONE(cnn_norm, trained), ONE(cnn_norm, activation), ONE(cnn_norm, epsilon),
    ONE(cnn_lookup, rows), ONE(cnn_lookup, count), ONE(cnn_lookup, width),
    ONE(cnn_dropout, n), ONE(cnn_dropout, c), ONE(cnn_dropout, s), ONE(cnn_dropout, share), ONE(cnn_dropout, key),
    ONE(cnn_loss_map, size), ONE(cnn_array, rank), MANY(cnn_array, shape), MANY(cnn_array, x), MANY(cnn_array, y),
    ONE(cnn_binary, operator), ONE(cnn_binary, rank), MANY(cnn_binary, shape), MANY(cnn_binary, a), MANY(cnn_binary, b), MANY(cnn_binary, y), ONE(cnn_running, size),
    ONE(cnn_running, count), ONE(cnn_running, momentum), ONE(cnn_reduce, outer), ONE(cnn_reduce, axis), ONE(cnn_reduce, inner),
    ONE(cnn_cross_entropy, rows), ONE(cnn_cross_entropy, classes), ONE(cnn_cross_entropy, inner), ONE(cnn_cross_entropy, ignore_index), ONE(cnn_cross_entropy, probabilities),
    ONE(cnn_update, size), ONE(cnn_update, first), ONE(cnn_update, nesterov), ONE(cnn_update, decoupled), ONE(cnn_update, rate), ONE(cnn_update, momentum), ONE(cnn_update, weight_decay), ONE(cnn_update, beta1), ONE(cnn_update, beta2),
    ONE(cnn_update, epsilon), ONE(cnn_update, correction1), ONE(cnn_update, correction2),
};

/* program_entries() -> [(name, problem, bytes, arrays)], [(problem, field, offset, type, count)] */
static PyObject *program_entries(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module, (void)args, (void)n;
    PyObject *entries = PyList_New(0), *list = PyList_New(0);
    for (int i = 0; entries && i < CNN_ENTRIES; i++) {
        PyObject *row = Py_BuildValue("(ssns)", cnn_entry_name(i), problem_names[i], (Py_ssize_t)problem_sizes[i], signatures[i]);
        if (!row || PyList_Append(entries, row) < 0)
            Py_CLEAR(entries);
        Py_XDECREF(row);
    }
    for (size_t i = 0; list && i < sizeof fields / sizeof *fields; i++) {
        PyObject *row = Py_BuildValue("(ssnCi)", fields[i].problem, fields[i].name, (Py_ssize_t)fields[i].offset, fields[i].type, fields[i].count);
        if (!row || PyList_Append(list, row) < 0)
            Py_CLEAR(list);
        Py_XDECREF(row);
    }
    PyObject *result = entries && list ? PyTuple_Pack(2, entries, list) : NULL;
    Py_XDECREF(entries);
    Py_XDECREF(list);
    return result;
}

/* ---- the recorder */

struct buffer {
    char *start, *end;
    PyObject *owner;
};
struct recorder {
    struct buffer *buffers;
    long count, room;
    PyObject *lines; /* list of (entry, dtype, problem, ((buffer, offset) or None, ...), work) */
    char cause[256];
};
_Thread_local struct recorder *cnn_recorder;

void record_failure(const char *function, const char *cause)
{
    if (cnn_recorder && !*cnn_recorder->cause)
        snprintf(cnn_recorder->cause, sizeof cnn_recorder->cause, "%s: %s", function, cause);
}

/* The memory between the array's first and last element. */
static void find_extent(PyArrayObject *a, char **start, char **end)
{
    char *low = PyArray_BYTES(a), *high = low + PyArray_ITEMSIZE(a);
    for (int i = 0; i < PyArray_NDIM(a); i++) {
        const npy_intp reach = (PyArray_DIM(a, i) - 1) * PyArray_STRIDE(a, i);
        if (PyArray_DIM(a, i) == 0)
            high = low;
        else
            *(reach < 0 ? &low : &high) += reach;
    }
    *start = low, *end = high;
}

static long find_buffer(const struct recorder *r, const char *at)
{
    for (long i = r->count - 1; i >= 0; i--)
        if (at >= r->buffers[i].start && at < r->buffers[i].end)
            return i;
    return -1;
}

static long add_buffer(struct recorder *r, PyArrayObject *a)
{
    if (r->count == r->room) {
        const long room = 2 * r->room + 64;
        struct buffer *more = PyMem_Realloc(r->buffers, sizeof *more * (size_t)room);
        if (!more) {
            record_failure("recording", "out of memory");
            return -1;
        }
        r->buffers = more, r->room = room;
    }
    struct buffer *b = &r->buffers[r->count];
    find_extent(a, &b->start, &b->end);
    Py_INCREF(a);
    b->owner = (PyObject *)a;
    return r->count++;
}

void record_constant(PyArrayObject *array)
{
    if (cnn_recorder && PyArray_SIZE(array) > 0)
        add_buffer(cnn_recorder, array);
}

/* The array among the frame's own that holds the address. */
static PyArrayObject *find_owned(const struct frame *f, const char *at)
{
    for (int i = f->count - 1; i >= 0; i--) {
        char *start, *end;
        if (!PyArray_Check(f->owned[i]))
            continue;
        find_extent((PyArrayObject *)f->owned[i], &start, &end);
        if (at >= start && at < end)
            return (PyArrayObject *)f->owned[i];
    }
    return NULL;
}

void record_line(struct frame *f, enum cnn_entry_number entry, const void *problem, void *const *array, double work)
{
    struct recorder *r = cnn_recorder;
    if (!r || *r->cause)
        return;
    int read;
    const int count = array_count(entry, &read);
    PyObject *places = PyTuple_New(count);
    for (int i = 0; places && i < count; i++) {
        PyObject *place = Py_None;
        if (array[i]) {
            long b = find_buffer(r, array[i]);
            if (b < 0) {
                PyArrayObject *owner = find_owned(f, array[i]);
                if (i < read || !owner) {
                    record_failure(f->function, i < read ? "reads an array that no recorded operation made" : "writes an array that the program does not know");
                    Py_DECREF(places);
                    return;
                }
                b = add_buffer(r, owner);
            }
            place = b < 0 ? NULL : Py_BuildValue("(ln)", b, (Py_ssize_t)((char *)array[i] - r->buffers[b].start));
        } else
            Py_INCREF(place);
        if (place)
            PyTuple_SET_ITEM(places, i, place);
        else
            Py_CLEAR(places);
    }
    PyObject *row = places ? Py_BuildValue("(iiy#Nd)", (int)entry, (int)f->dtype, (const char *)problem, (Py_ssize_t)problem_sizes[entry], places, work) : NULL;
    if (!row || PyList_Append(r->lines, row) < 0) {
        PyErr_Clear();
        record_failure("recording", "out of memory");
    }
    Py_XDECREF(row);
}

static void release_recorder(struct recorder *r)
{
    for (long i = 0; i < r->count; i++)
        Py_DECREF(r->buffers[i].owner);
    PyMem_Free(r->buffers);
    Py_XDECREF(r->lines);
    PyMem_Free(r);
}

/* record_begin(arrays): the arrays that lines may read and write from the start; buffer i is arrays[i] */
static PyObject *record_begin(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    const struct frame f = {.function = "record_begin"};
    if (expect_arguments(&f, n, 1) < 0)
        return NULL;
    if (cnn_recorder)
        return refuse(&f, PyExc_RuntimeError, "this thread records already");
    PyObject *items = PySequence_Tuple(args[0]);
    struct recorder *r = items ? PyMem_Calloc(1, sizeof *r) : NULL;
    if (!r || !(r->lines = PyList_New(0))) {
        Py_XDECREF(items);
        PyMem_Free(r);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    cnn_recorder = r;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items); i++)
        add_buffer(r, (PyArrayObject *)PyTuple_GET_ITEM(items, i));
    Py_DECREF(items);
    Py_RETURN_NONE;
}

/* record_end() -> lines, owners of the buffers, cause of a failure or None */
static PyObject *record_end(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module, (void)args;
    const struct frame f = {.function = "record_end"};
    struct recorder *r = cnn_recorder;
    if (expect_arguments(&f, n, 0) < 0)
        return NULL;
    if (!r)
        return refuse(&f, PyExc_RuntimeError, "this thread does not record");
    cnn_recorder = NULL;
    PyObject *owners = PyTuple_New(r->count), *result = NULL;
    for (long i = 0; owners && i < r->count; i++) {
        Py_INCREF(r->buffers[i].owner);
        PyTuple_SET_ITEM(owners, i, r->buffers[i].owner);
    }
    if (owners)
        result = Py_BuildValue("(ONz)", r->lines, owners, *r->cause ? r->cause : NULL);
    release_recorder(r);
    return result;
}

/* record_new(array): one whose contents the next lines will write */
static PyObject *record_new(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    const struct frame f = {.function = "record_new"};
    if (expect_arguments(&f, n, 1) < 0)
        return NULL;
    if (!PyArray_Check(args[0]))
        return refuse(&f, PyExc_TypeError, "array is %.100s, expected a numpy.ndarray", Py_TYPE(args[0])->tp_name);
    record_constant((PyArrayObject *)args[0]);
    Py_RETURN_NONE;
}

/* recording() -> whether this thread records */
static PyObject *recording(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module, (void)args, (void)n;
    return PyBool_FromLong(cnn_recorder != NULL);
}

/* record_place(array) -> (buffer, offset) of its first element, or None: unknown, or nothing records */
static PyObject *record_place(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    const struct frame f = {.function = "record_place"};
    if (expect_arguments(&f, n, 1) < 0)
        return NULL;
    const long b = cnn_recorder && PyArray_Check(args[0]) ? find_buffer(cnn_recorder, PyArray_BYTES((PyArrayObject *)args[0])) : -1;
    if (b < 0)
        Py_RETURN_NONE;
    return Py_BuildValue("(ln)", b, (Py_ssize_t)(PyArray_BYTES((PyArrayObject *)args[0]) - cnn_recorder->buffers[b].start));
}

/* ---- the program */

/* Where a line's array lies: `offset` bytes into source `source`. */
struct place {
    long line;
    int slot;
    size_t offset;
};
struct program {
    long count, sources, places;
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
        const char *problem;
        Py_ssize_t bytes;
        PyObject *arrays;
        double work;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(lines, i), "iiy#O!d", &entry, &dtype, &problem, &bytes, &PyTuple_Type, &arrays, &work))
            return -1;
        if (entry < 0 || entry >= CNN_ENTRIES || dtype < 0 || dtype > 1 || (size_t)bytes != problem_sizes[entry] || PyTuple_GET_SIZE(arrays) != array_count(entry, &read)) {
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

/* program_new(lines, sources) -> program, its problems as bytes that may be changed; lines as record_end gives them, each array a (source, offset) */
static PyObject *program_new(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    const struct frame f = {.function = "program_new"};
    long sources;
    if (expect_arguments(&f, n, 2) < 0 || read_long(&f, "sources", args[1], 0, LARGEST_INT, &sources) < 0)
        return NULL;
    if (!PyList_CheckExact(args[0]))
        return refuse(&f, PyExc_TypeError, "lines is %.100s, expected a list", Py_TYPE(args[0])->tp_name);
    struct program *p = PyMem_Calloc(1, sizeof *p);
    PyObject *capsule = p ? PyCapsule_New(p, program_name, release_program) : NULL;
    if (!capsule) {
        PyMem_Free(p);
        return PyErr_NoMemory();
    }
    p->count = PyList_GET_SIZE(args[0]), p->sources = sources;
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

static int check_signals(void *context)
{
    (void)context;
    const PyGILState_STATE state = PyGILState_Ensure();
    const int stop = PyErr_CheckSignals() != 0;
    PyGILState_Release(state);
    return stop;
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

/* program_run(program, first, last, whole, seconds): runs lines first to last - 1; whole: Ctrl-C waits until they are done; seconds: None, or a
 * float64 array to which each line's time is added */
static PyObject *program_run(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    const struct frame f = {.function = "compiled program"};
    struct program *p;
    long first, last;
    int whole;
    if (expect_arguments(&f, n, 5) < 0 || !(p = as_program(&f, args[0])) || read_long(&f, "first", args[1], 0, p->count, &first) < 0 ||
        read_long(&f, "last", args[2], first, p->count, &last) < 0 || read_bool(&f, "whole", args[3], &whole) < 0)
        return NULL;
    double *seconds = NULL;
    if (args[4] != Py_None) {
        if (!PyArray_Check(args[4]) || PyArray_TYPE((PyArrayObject *)args[4]) != NPY_DOUBLE || PyArray_SIZE((PyArrayObject *)args[4]) != p->count ||
            !PyArray_ISCARRAY((PyArrayObject *)args[4]))
            return refuse(&f, PyExc_TypeError, "seconds is not a float64 array of a value a line");
        seconds = PyArray_DATA((PyArrayObject *)args[4]);
    }
    for (long i = 0; i < p->sources; i++)
        if (!p->bound[i] && p->first[i] < p->first[i + 1])
            return refuse(&f, PyExc_ValueError, "source %ld is not bound", i);
    if (p->running)
        return refuse(&f, PyExc_RuntimeError, "the program is running in another thread");
    const int workers = cnn_num_threads();
    if (prepare_scratch(&f, p, workers) < 0)
        return NULL;
    struct cnn_run run = {.workers = workers, .scratch = p->scratch};
    if (!whole) {
        run.poll = check_signals;
        run.polled = cnn_now();
    }
    p->running = 1;
    const unsigned long state = cnn_float_enter();
    Py_BEGIN_ALLOW_THREADS
    cnn_program_run(p->lines + first, last - first, &run, seconds ? seconds + first : NULL);
    Py_END_ALLOW_THREADS
    cnn_float_leave(state);
    p->running = 0;
    if (run.stopped)
        return NULL;
    Py_RETURN_NONE;
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

PyMethodDef record_methods[] = {
    METHOD(program_entries, "-> what ops.def says of the entries, and the fields of their problems"), METHOD(record_begin, "arrays"),
    METHOD(record_end, "-> lines, owners, cause"), METHOD(record_new, "array"), METHOD(recording, "-> bool"), METHOD(record_place, "array -> (buffer, offset) or None"), METHOD(program_new, "lines, sources -> program, problems"),
    METHOD(program_bind, "program, source, array"), METHOD(program_run, "program, first, last, whole, seconds"), METHOD(program_scratch, "program -> bytes"), {NULL, NULL, 0, NULL}};
