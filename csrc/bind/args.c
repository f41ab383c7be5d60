#include "args.h"

#include <math.h>
#include <stdarg.h>

#include "../base/memory.h"
#include "record.h"

PyObject *frame_keep(struct frame *f, PyObject *object)
{
    if (object) {
        assert(f->count < MOST_OWNED);
        f->owned[f->count++] = object;
    }
    return object;
}

PyObject *frame_return(struct frame *f, PyObject *result)
{
    while (f->count > 0)
        Py_DECREF(f->owned[--f->count]);
    return result;
}

void *refuse(const struct frame *f, PyObject *type, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    PyObject *text = PyUnicode_FromFormatV(format, values);
    va_end(values);
    if (text)
        PyErr_Format(type, "%s: %U", f->function, text);
    Py_XDECREF(text);
    return NULL;
}

static char *next_buffer(void)
{
    static _Thread_local char buffers[8][640];
    static _Thread_local int next;
    return buffers[next++ % 8];
}

const char *list_text(const npy_intp *values, int count)
{
    char *text = next_buffer(), *at = text;
    *at++ = '(';
    for (int i = 0; i < count && at < text + 600; i++)
        at += sprintf(at, i ? ", %lld" : "%lld", (long long)values[i]);
    sprintf(at, count == 1 ? ",)" : ")");
    return text;
}
const char *shape_text(PyArrayObject *a) { return list_text(PyArray_DIMS(a), PyArray_NDIM(a)); }
const char *longs_text(const long *values, int count)
{
    npy_intp copy[NPY_MAXDIMS];
    for (int i = 0; i < count; i++)
        copy[i] = values[i];
    return list_text(copy, count);
}

/* An exception of the object's own __array__, __index__ ... is chained behind ours; MemoryError and the like pass as they are. */
int explain(const struct frame *f, PyObject *type, const char *name, const char *expected, PyObject *object)
{
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_ValueError) && !PyErr_ExceptionMatches(PyExc_TypeError) &&
        !PyErr_ExceptionMatches(PyExc_OverflowError))
        return -1;
    PyErr_Clear();
    refuse(f, type, "%s is %.100s, expected %s", name, Py_TYPE(object)->tp_name, expected);
    return -1;
}

int is_masked(PyObject *object)
{
    for (PyTypeObject *t = Py_TYPE(object); t; t = t->tp_base)
        if (!strcmp(t->tp_name, "MaskedArray") || !strcmp(t->tp_name, "numpy.ma.MaskedArray") || !strcmp(t->tp_name, "numpy.ma.core.MaskedArray"))
            return 1;
    return 0;
}

/* The object as a base-class ndarray; a new reference. */
static PyArrayObject *as_ndarray(const struct frame *f, const char *name, PyObject *object)
{
    if (PyArray_CheckExact(object)) {
        Py_INCREF(object);
        return (PyArrayObject *)object;
    }
    if (is_masked(object))
        return refuse(f, PyExc_TypeError, "%s is a MaskedArray, whose mask would be lost; pass its .filled(value)", name);
    PyObject *array = PyArray_FromAny(object, NULL, 0, 0, NPY_ARRAY_ENSUREARRAY, NULL);
    if (array && PyArray_TYPE((PyArrayObject *)array) == NPY_OBJECT && PyObject_HasAttrString(object, "__dlpack__")) {
        PyObject *numpy = PyImport_ImportModule("numpy");
        PyObject *shared = numpy ? PyObject_CallMethod(numpy, "from_dlpack", "O", object) : NULL;
        Py_XDECREF(numpy);
        Py_SETREF(array, shared);
    }
    if (!array)
        explain(f, PyExc_TypeError, name, "an array of numbers", object);
    return (PyArrayObject *)array;
}

static int is_real_type(int type)
{
    return PyTypeNum_ISBOOL(type) || PyTypeNum_ISINTEGER(type) || type == NPY_HALF || type == NPY_FLOAT || type == NPY_DOUBLE;
}

/* Copies are NumPy's, but an absurd size is refused before the system is asked: it might say yes and fail at first touch. */
static int may_copy(const struct frame *f, PyArrayObject *a, npy_intp item)
{
    if (!PyArray_SIZE(a) || (size_t)PyArray_SIZE(a) <= cnn_memory_limit() / (size_t)item)
        return 1;
    refuse(f, PyExc_MemoryError, "a copy of an array of shape %s needs more than the memory limit of %zu bytes", shape_text(a), cnn_memory_limit());
    return 0;
}

/* NumPy's conversion; the core's while a program is recorded. */
static int convert_into(struct frame *f, PyArrayObject *to, PyArrayObject *from)
{
    static const signed char kinds[] = {[NPY_BOOL] = CNN_UINT8, [NPY_BYTE] = CNN_INT8, [NPY_UBYTE] = CNN_UINT8, [NPY_SHORT] = CNN_INT16, [NPY_USHORT] = CNN_UINT16,
                                        [NPY_INT] = CNN_INT32, [NPY_UINT] = CNN_UINT32, [NPY_LONG] = CNN_INT64, [NPY_ULONG] = CNN_UINT64, [NPY_LONGLONG] = CNN_INT64,
                                        [NPY_ULONGLONG] = CNN_UINT64, [NPY_FLOAT] = CNN_FLOAT32, [NPY_DOUBLE] = CNN_FLOAT64};
    if (!cnn_recorder || PyArray_SIZE(to) == 0)
        return PyArray_CopyInto(to, from);
    if (PyArray_TYPE(from) > NPY_DOUBLE || !PyArray_ISONESEGMENT(from) || !PyArray_ISALIGNED(from) || !PyArray_ISNOTSWAPPED(from)) {
        record_failure(f->function, "an array is converted at every call");
        return PyArray_CopyInto(to, from);
    }
    const struct cnn_convert p = {.size = PyArray_SIZE(to), .source = kinds[PyArray_TYPE(from)]};
    void *const arrays[] = {PyArray_DATA(from), PyArray_DATA(to)};
    return run_entry(f, CNN_convert, &p, arrays, (double)p.size * 0.3);
}

int read_arrays(struct frame *f, const struct array_row *rows, int count)
{
    PyArrayObject *given[16];
    npy_intp n = 0;
    int kinds = 0;
    for (int i = 0; i < count; i++) {
        *rows[i].to = NULL;
        if (rows[i].object == Py_None) {
            if (rows[i].optional)
                continue;
            refuse(f, PyExc_TypeError, "%s is None, expected an array of numbers", rows[i].name);
            return -1;
        }
        PyArrayObject *a = as_ndarray(f, rows[i].name, rows[i].object);
        if (!frame_keep(f, (PyObject *)a))
            return -1;
        if (!is_real_type(PyArray_TYPE(a))) {
            refuse(f, PyExc_TypeError, "%s has dtype %S, expected a real number type up to float64", rows[i].name, (PyObject *)PyArray_DESCR(a));
            return -1;
        }
        if (PyArray_NDIM(a) > 16) {
            refuse(f, PyExc_ValueError, "%s has %d dimensions, expected at most 16", rows[i].name, PyArray_NDIM(a));
            return -1;
        }
        *rows[i].to = a;
        kinds |= PyArray_TYPE(a) == NPY_FLOAT ? 1 : 2;
        given[n++] = a;
    }
    f->dtype = CNN_F32;
    if (kinds & 2) {
        PyArray_Descr *single = PyArray_DescrFromType(NPY_FLOAT);
        PyArray_Descr *common = PyArray_ResultType(n, given, 1, &single);
        Py_DECREF(single);
        if (!common)
            return -1;
        f->dtype = common->type_num == NPY_FLOAT ? CNN_F32 : CNN_F64;
        Py_DECREF(common);
    }
    const int type = f->dtype == CNN_F32 ? NPY_FLOAT : NPY_DOUBLE;
    for (int i = 0; i < count; i++) {
        PyArrayObject *a = *rows[i].to;
        if (!a || (PyArray_TYPE(a) == type && PyArray_ISALIGNED(a) && PyArray_ISNOTSWAPPED(a)))
            continue;
        if (!may_copy(f, a, type == NPY_FLOAT ? 4 : 8))
            return -1;
        PyArrayObject *copy = (PyArrayObject *)PyArray_NewLikeArray(a, NPY_KEEPORDER, PyArray_DescrFromType(type), 0);
        if (!frame_keep(f, (PyObject *)copy) || convert_into(f, copy, a) < 0)
            return -1;
        *rows[i].to = copy;
    }
    return 0;
}

int read_integers_array(struct frame *f, const char *name, PyObject *object, PyArrayObject **to)
{
    PyArrayObject *a = as_ndarray(f, name, object);
    if (!frame_keep(f, (PyObject *)a))
        return -1;
    if (!PyTypeNum_ISINTEGER(PyArray_TYPE(a)) && PyArray_SIZE(a) > 0) {
        refuse(f, PyExc_TypeError, "%s has dtype %S, expected integers", name, (PyObject *)PyArray_DESCR(a));
        return -1;
    }
    if (cnn_recorder && PyArray_TYPE(a) == NPY_INT64 && PyArray_ISBEHAVED_RO(a) && !PyArray_IS_C_CONTIGUOUS(a) && PyArray_NDIM(a) <= 8) {
        *to = (PyArrayObject *)frame_keep(f, PyArray_NewLikeArray(a, NPY_CORDER, NULL, 0));
        const enum cnn_dtype dtype = f->dtype;
        f->dtype = CNN_F64; /* words of 64 bits, moved as they are */
        const int done = *to ? copy_into(f, *to, a) : -1;
        f->dtype = dtype;
        return done;
    }
    *to = (PyArrayObject *)frame_keep(f, PyArray_FromArray(a, PyArray_DescrFromType(NPY_INT64), NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST));
    return *to ? 0 : -1;
}

int read_long(const struct frame *f, const char *name, PyObject *object, long low, long high, long *to)
{
    if (PyBool_Check(object) || PyFloat_Check(object) || PyArray_IsScalar(object, Bool) || !PyIndex_Check(object))
        return explain(f, PyExc_TypeError, name, "an integer", object);
    PyObject *index = PyNumber_Index(object);
    if (!index)
        return explain(f, PyExc_TypeError, name, "an integer", object);
    int overflow;
    const long value = PyLong_AsLongAndOverflow(index, &overflow);
    if (overflow || value < low || value > high) {
        if (!overflow && low > -LARGEST_INT && value < low)
            refuse(f, PyExc_ValueError, "%s is %S, expected at least %ld", name, index, low);
        else
            refuse(f, PyExc_ValueError, "%s is out of range, expected an integer from %ld to %ld", name, low, high);
        Py_DECREF(index);
        return -1;
    }
    Py_DECREF(index);
    *to = value;
    return 0;
}

int read_longs(const struct frame *f, const char *name, PyObject *object, int rank, long low, long high, long *to)
{
    if (PyIndex_Check(object) && !PyBool_Check(object)) {
        if (read_long(f, name, object, low, high, to) < 0)
            return -1;
        for (int i = 1; i < rank; i++)
            to[i] = to[0];
        return 0;
    }
    if (PyUnicode_Check(object) || PyBytes_Check(object) || !PySequence_Check(object) || PyBool_Check(object))
        return explain(f, PyExc_TypeError, name, "an integer or one integer an axis", object);
    PyObject *items = PySequence_Tuple(object);
    if (!items)
        return explain(f, PyExc_TypeError, name, "an integer or one integer an axis", object);
    int ok = 0;
    if (PyTuple_GET_SIZE(items) != rank)
        refuse(f, PyExc_ValueError, "%s has %zd values, expected one or %d, one an axis", name, PyTuple_GET_SIZE(items), rank);
    else
        for (ok = 1; ok <= rank && read_long(f, name, PyTuple_GET_ITEM(items, ok - 1), low, high, &to[ok - 1]) == 0; ok++)
            ;
    Py_DECREF(items);
    return ok == rank + 1 ? 0 : -1;
}

int read_number(const struct frame *f, const char *name, PyObject *object, double *to)
{
    if (PyBool_Check(object) || !(PyFloat_Check(object) || PyIndex_Check(object) || PyArray_IsScalar(object, Number)))
        return explain(f, PyExc_TypeError, name, "a real number", object);
    const double value = PyFloat_AsDouble(object);
    if (value == -1 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError))
            return explain(f, PyExc_TypeError, name, "a real number", object);
        PyErr_Clear();
        refuse(f, PyExc_ValueError, "%s is out of the range of a float64", name);
        return -1;
    }
    *to = value;
    return 0;
}

int read_double(const struct frame *f, const char *name, PyObject *object, double low, double high, double *to)
{
    double value;
    if (read_number(f, name, object, &value) < 0)
        return -1;
    if (!(value >= low && value <= high)) {
        PyObject *a = PyFloat_FromDouble(low), *b = PyFloat_FromDouble(high);
        if (a && b)
            refuse(f, PyExc_ValueError, "%s is %R, expected a number from %R to %R", name, object, a, b);
        Py_XDECREF(a);
        Py_XDECREF(b);
        return -1;
    }
    *to = value;
    return 0;
}

int read_bool(const struct frame *f, const char *name, PyObject *object, int *to)
{
    if (!PyBool_Check(object) && !PyArray_IsScalar(object, Bool))
        return explain(f, PyExc_TypeError, name, "True or False", object);
    *to = PyObject_IsTrue(object);
    return *to < 0 ? -1 : 0;
}

int read_choice(const struct frame *f, const char *name, PyObject *object, const char *const *choices, int *to)
{
    if (!PyUnicode_Check(object))
        return explain(f, PyExc_TypeError, name, "a string", object);
    for (int i = 0; choices[i]; i++)
        if (PyUnicode_CompareWithASCIIString(object, choices[i]) == 0) {
            *to = i;
            return 0;
        }
    char list[256] = "";
    for (int i = 0; choices[i]; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s'%s'", i ? ", " : "", choices[i]);
    refuse(f, PyExc_ValueError, "%s is %R, expected one of %s", name, object, list);
    return -1;
}

static void release_owner(PyObject *capsule)
{
    struct owner *o = PyCapsule_GetPointer(capsule, owner_name);
    if (o->recording)
        record_release(o);
    cnn_release(o->buffer, o->capacity);
    PyMem_RawFree(o);
}

enum { LARGE_RESULT = 1 << 16 }; /* above this the system's allocator would fault in fresh pages */

void result_strides(int rank, const npy_intp *shape, int channels_last, npy_intp item, npy_intp *strides)
{
    npy_intp step = item;
    if (channels_last) {
        strides[1] = step;
        step *= shape[1];
    }
    for (int i = rank - 1; i >= 0; i--)
        if (!channels_last || i != 1) {
            strides[i] = step;
            step *= shape[i] ? shape[i] : 1;
        }
}

PyArrayObject *new_result(struct frame *f, int rank, const npy_intp *shape, int channels_last)
{
    const int type = f->dtype == CNN_F32 ? NPY_FLOAT : NPY_DOUBLE;
    const npy_intp item = f->dtype == CNN_F32 ? 4 : 8;
    npy_intp strides[NPY_MAXDIMS], bytes = item;
    for (int i = 0; i < rank; i++)
        if (__builtin_mul_overflow(bytes, shape[i] ? shape[i] : 1, &bytes))
            return refuse(f, PyExc_MemoryError, "the result of shape %s is too large", list_text(shape, rank));
    if ((size_t)bytes > cnn_memory_limit())
        return refuse(f, PyExc_MemoryError, "the result of shape %s needs %zd bytes, more than the memory limit of %zu", list_text(shape, rank),
                      (Py_ssize_t)bytes, cnn_memory_limit());
    result_strides(rank, shape, channels_last, item, strides);
    if (bytes < LARGE_RESULT) {
        PyObject *a = PyArray_New(&PyArray_Type, rank, shape, type, channels_last ? strides : NULL, NULL, 0, 0, NULL);
        return (PyArrayObject *)frame_keep(f, a);
    }
    struct owner *o = PyMem_RawCalloc(1, sizeof *o);
    if (!o)
        return refuse(f, PyExc_MemoryError, "out of memory");
    o->buffer = cnn_acquire((size_t)bytes, &o->capacity);
    PyObject *capsule = o->buffer ? PyCapsule_New(o, owner_name, release_owner) : NULL;
    if (!capsule) {
        cnn_release(o->buffer, o->capacity);
        PyMem_RawFree(o);
        PyErr_Clear();
        return refuse(f, PyExc_MemoryError, "no memory for a result of shape %s, %zd bytes", list_text(shape, rank), (Py_ssize_t)bytes);
    }
    PyObject *a = PyArray_New(&PyArray_Type, rank, shape, type, strides, o->buffer, 0, NPY_ARRAY_WRITEABLE | NPY_ARRAY_ALIGNED, NULL);
    if (!a) {
        Py_DECREF(capsule);
        return NULL;
    }
    frame_keep(f, a);
    return PyArray_SetBaseObject((PyArrayObject *)a, capsule) < 0 ? NULL : (PyArrayObject *)a;
}

PyArrayObject *new_int64(struct frame *f, int rank, const npy_intp *shape)
{
    return (PyArrayObject *)frame_keep(f, PyArray_SimpleNew(rank, shape, NPY_INT64));
}

long element_stride(PyArrayObject *a, int axis) { return PyArray_STRIDE(a, axis) / PyArray_ITEMSIZE(a); }

int is_channels_last(PyArrayObject *a)
{
    const int rank = PyArray_NDIM(a);
    if (rank < 3 || PyArray_STRIDE(a, 1) != PyArray_ITEMSIZE(a))
        return 0;
    npy_intp step = PyArray_ITEMSIZE(a) * PyArray_DIM(a, 1);
    for (int i = rank - 1; i >= 0; i--)
        if (i != 1) {
            if (PyArray_STRIDE(a, i) != step && (i > 0 || PyArray_DIM(a, 0) > 1))
                return 0;
            step *= PyArray_DIM(a, i);
        }
    return PyArray_SIZE(a) > 0;
}

int is_dense(PyArrayObject *a) { return PyArray_IS_C_CONTIGUOUS(a) || is_channels_last(a); }

/* NumPy's copy; the core's while a program is recorded. */
int copy_into(struct frame *f, PyArrayObject *to, PyArrayObject *from)
{
    if (!cnn_recorder || PyArray_NDIM(to) > 8 || PyArray_SIZE(to) == 0)
        return PyArray_CopyInto(to, from);
    struct cnn_array p = {.rank = PyArray_NDIM(to)};
    for (int i = 0; i < p.rank; i++)
        p.shape[i] = PyArray_DIM(to, i), p.x[i] = element_stride(from, i), p.y[i] = element_stride(to, i);
    void *const arrays[] = {PyArray_DATA(from), PyArray_DATA(to)};
    return run_entry(f, CNN_array_copy, &p, arrays, (double)PyArray_SIZE(to));
}

PyArrayObject *in_c_order(struct frame *f, PyArrayObject *a)
{
    if (PyArray_IS_C_CONTIGUOUS(a))
        return a;
    if (!may_copy(f, a, PyArray_ITEMSIZE(a)))
        return NULL;
    PyArrayObject *copy = (PyArrayObject *)frame_keep(f, PyArray_NewLikeArray(a, NPY_CORDER, NULL, 0));
    return copy && copy_into(f, copy, a) == 0 ? copy : NULL;
}

PyArrayObject *ordered_like(struct frame *f, PyArrayObject *a, PyArrayObject *like)
{
    int same = PyArray_NDIM(a) == PyArray_NDIM(like);
    for (int i = 0; same && i < PyArray_NDIM(a); i++)
        same = PyArray_DIM(a, i) <= 1 || PyArray_STRIDE(a, i) == PyArray_STRIDE(like, i);
    if (same)
        return a;
    if (!may_copy(f, a, PyArray_ITEMSIZE(a)))
        return NULL;
    PyArrayObject *copy = (PyArrayObject *)PyArray_NewLikeArray(like, NPY_KEEPORDER, PyArray_DescrFromType(PyArray_TYPE(a)), 0);
    return frame_keep(f, (PyObject *)copy) && copy_into(f, copy, a) == 0 ? copy : NULL;
}

int check_shape(const struct frame *f, const char *name, PyArrayObject *a, int rank, const npy_intp *shape)
{
    if (PyArray_NDIM(a) == rank && PyArray_CompareLists(PyArray_DIMS(a), shape, rank))
        return 0;
    refuse(f, PyExc_ValueError, "%s has shape %s, expected %s", name, shape_text(a), list_text(shape, rank));
    return -1;
}

int read_name(struct frame *f, PyObject *name)
{
    const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
    if (text) {
        f->function = text;
        return 0;
    }
    if (!PyErr_Occurred())
        refuse(f, PyExc_TypeError, "the function's name is %.100s, expected str", Py_TYPE(name)->tp_name);
    return -1;
}

int expect_arguments(const struct frame *f, Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted)
        return 0;
    refuse(f, PyExc_TypeError, "%zd arguments given, expected %zd", given, wanted);
    return -1;
}
