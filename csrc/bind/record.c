/* record.c: recording calls. */
#include "record.h"

#include "../base/memory.h"

struct buffer {
    char *start, *end; /* nowhere once it is gone */
    size_t bytes;
    PyObject *owner;   /* NULL: it may go, and tells us when */
};
struct recorder {
    unsigned long serial;
    struct recorder *next;
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

void find_extent(PyArrayObject *a, char **start, char **end)
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

const char owner_name[] = "cnnpy buffer";
static struct recorder *all; /* of all threads; changed with the GIL held */

void record_release(const struct owner *o)
{
    for (struct recorder *r = all; r; r = r->next)
        if (r->serial == o->recording)
            r->buffers[o->number].start = r->buffers[o->number].end = NULL;
}

/* The owner of an array whose memory is a buffer of ours, or NULL. */
static struct owner *owner_of(PyArrayObject *a)
{
    PyObject *base = PyArray_BASE(a);
    while (base && PyArray_Check(base))
        base = PyArray_BASE((PyArrayObject *)base);
    return base && PyCapsule_IsValid(base, owner_name) ? PyCapsule_GetPointer(base, owner_name) : NULL;
}

/* keep: whether the array stays alive as long as the recorder. */
static long add_buffer(struct recorder *r, PyArrayObject *a, int keep)
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
    b->bytes = (size_t)(b->end - b->start);
    struct owner *o = keep ? NULL : owner_of(a);
    b->owner = NULL;
    if (o)
        o->recording = r->serial, o->number = r->count;
    else {
        Py_INCREF(a);
        b->owner = (PyObject *)a;
    }
    return r->count++;
}

void record_constant(PyArrayObject *array)
{
    if (cnn_recorder && PyArray_SIZE(array) > 0)
        add_buffer(cnn_recorder, array, 1);
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
    const int count = cnn_array_count(entry, &read);
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
                b = add_buffer(r, owner, 0);
            }
            place = b < 0 ? NULL : Py_BuildValue("(ln)", b, (Py_ssize_t)((char *)array[i] - r->buffers[b].start));
        } else
            Py_INCREF(place);
        if (place)
            PyTuple_SET_ITEM(places, i, place);
        else
            Py_CLEAR(places);
    }
    PyObject *row = places ? Py_BuildValue("(iiy#Nd)", (int)entry, (int)f->dtype, (const char *)problem, (Py_ssize_t)cnn_problem_sizes[entry], places, work) : NULL;
    if (!row || PyList_Append(r->lines, row) < 0) {
        PyErr_Clear();
        record_failure("recording", "out of memory");
    }
    Py_XDECREF(row);
}

static void release_recorder(struct recorder *r)
{
    for (struct recorder **at = &all; *at; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            break;
        }
    for (long i = 0; i < r->count; i++)
        Py_XDECREF(r->buffers[i].owner);
    PyMem_Free(r->buffers);
    Py_XDECREF(r->lines);
    PyMem_Free(r);
    cnn_spare_memory(0);
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
    static unsigned long serial;
    r->serial = ++serial, r->next = all;
    all = cnn_recorder = r;
    cnn_spare_memory(1); /* a program has memory of its own */
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items); i++)
        add_buffer(r, (PyArrayObject *)PyTuple_GET_ITEM(items, i), 1);
    Py_DECREF(items);
    Py_RETURN_NONE;
}

/* record_end() -> lines, owners of the buffers (None where one may go), their bytes, cause of a failure or None */
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
    PyObject *owners = PyTuple_New(r->count), *sizes = PyTuple_New(r->count), *result = NULL;
    for (long i = 0; owners && sizes && i < r->count; i++) {
        PyObject *owner = r->buffers[i].owner ? r->buffers[i].owner : Py_None, *size = PyLong_FromSize_t(r->buffers[i].bytes);
        Py_INCREF(owner);
        PyTuple_SET_ITEM(owners, i, owner);
        if (size)
            PyTuple_SET_ITEM(sizes, i, size);
        else
            Py_CLEAR(sizes);
    }
    if (owners && sizes)
        result = Py_BuildValue("(OOOz)", r->lines, owners, sizes, *r->cause ? r->cause : NULL);
    Py_XDECREF(owners);
    Py_XDECREF(sizes);
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

PyMethodDef record_methods[] = {METHOD(record_begin, "arrays"), METHOD(record_end, "-> lines, owners, sizes, cause"), METHOD(record_new, "array"),
                                METHOD(recording, "-> bool"), METHOD(record_place, "array -> (buffer, offset) or None"), {NULL, NULL, 0, NULL}};
