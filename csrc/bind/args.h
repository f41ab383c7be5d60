/* args.h: what every binding shares: arguments in, results out, errors in one sentence, the call of a kernel entry.
 *
 * A binding is four steps: read the arguments -> convert the arrays and check the shapes -> make results -> run the entry.
 * Owned references sit in one `struct frame`, released at the binding's single exit. Nothing is computed or changed before
 * everything has been checked. */
#ifndef CNN_ARGS_H
#define CNN_ARGS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL cnnpy_array_api
#ifndef CNN_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include "../base/parallel.h"
#include "../base/problem.h"
#include "../base/variants.h"

enum { MOST_OWNED = 64 };

/* The references that a binding owns, and the name it gives itself in errors. */
struct frame {
    const char *function;
    PyObject *owned[MOST_OWNED];
    int count;
    enum cnn_dtype dtype;
};

PyObject *frame_keep(struct frame *f, PyObject *object);             /* takes the reference; passes NULL on */
PyObject *frame_return(struct frame *f, PyObject *result);           /* releases all that is kept; result is the caller's */

/* Raises `type` with "function: ..." and returns NULL. */
void *refuse(const struct frame *f, PyObject *type, const char *format, ...);
/* "(2, 3, 5)" in one of a few rotating buffers. */
const char *shape_text(PyArrayObject *a);
const char *list_text(const npy_intp *values, int count);
/* Raises "{name} is {type of object}, expected {expected}"; -1. */
int explain(const struct frame *f, PyObject *type, const char *name, const char *expected, PyObject *object);
int is_masked(PyObject *object); /* a numpy.ma array */
const char *longs_text(const long *values, int count);

/* Arrays. An argument becomes an ndarray of numbers (kept in the frame), NULL if it is None and may be; then all of a call
 * are brought to the common dtype, f->dtype. Rows: name for errors, the object, where it goes. */
struct array_row {
    const char *name;
    PyObject *object;
    PyArrayObject **to;
    int optional;
};
int read_arrays(struct frame *f, const struct array_row *rows, int count);
/* read_arrays filled it: the row is not optional. Static analysis, which looks at one file, takes it from here. */
static inline void is_given(const PyArrayObject *array)
{
    if (!array)
        __builtin_unreachable();
}
int read_integers_array(struct frame *f, const char *name, PyObject *object, PyArrayObject **to); /* C order int64, any integer dtype */

/* Integers: bool, float and str are refused, so is what lies outside [low, high]. */
int read_long(const struct frame *f, const char *name, PyObject *object, long low, long high, long *to);
int read_longs(const struct frame *f, const char *name, PyObject *object, int rank, long low, long high, long *to); /* one, or one an axis */
int read_double(const struct frame *f, const char *name, PyObject *object, double low, double high, double *to);
int read_number(const struct frame *f, const char *name, PyObject *object, double *to); /* any, NaN and infinity too */
int read_bool(const struct frame *f, const char *name, PyObject *object, int *to);
int read_choice(const struct frame *f, const char *name, PyObject *object, const char *const *choices, int *to);
enum { LARGEST_INT = 2147483647 };

/* The array must have exactly this shape: dy that of the result, for instance. */
int check_shape(const struct frame *f, const char *name, PyArrayObject *a, int rank, const npy_intp *shape);

/* Results. channels_last: (N, C, spatial) with channels neighbours in memory; C order otherwise. */
void result_strides(int rank, const npy_intp *shape, int channels_last, npy_intp item, npy_intp *strides); /* that it has, in bytes */
PyArrayObject *new_result(struct frame *f, int rank, const npy_intp *shape, int channels_last);
PyArrayObject *new_int64(struct frame *f, int rank, const npy_intp *shape);
int is_channels_last(PyArrayObject *a);
int is_dense(PyArrayObject *a); /* C order or channels-last, no gaps */
/* The array itself if its strides are those of `like`, else a copy in that order. */
PyArrayObject *ordered_like(struct frame *f, PyArrayObject *a, PyArrayObject *like);
PyArrayObject *in_c_order(struct frame *f, PyArrayObject *a);
int copy_into(struct frame *f, PyArrayObject *to, PyArrayObject *from); /* arrays of one shape and of the common dtype */
long element_stride(PyArrayObject *a, int axis);

/* `out=`: checked before anything is computed. Where a kernel writes: `out` itself if it has the order of a new result and lies apart from what is
 * read, else a new array that is copied to it at the end. */
int check_out(const struct frame *f, PyObject *out, int rank, const npy_intp *shape);
PyArrayObject *result_for(struct frame *f, PyObject *out, int rank, const npy_intp *shape, int channels_last, PyArrayObject *const *read, int count);
PyObject *deliver(struct frame *f, PyArrayObject *result, PyObject *out);

/* Runs an entry with scratch, threads and the GIL released where the work (nanoseconds) is worth it. 0, or -1 and an exception. */
int run_entry(struct frame *f, enum cnn_entry_number entry, const void *problem, void *const *array, double work);

int check_signals(void *context); /* whether Ctrl-C came; runs with the GIL released and takes it for the moment */

/* The function that refusals shall name: the first argument of cores that serve several. */
int read_name(struct frame *f, PyObject *name);
int expect_arguments(const struct frame *f, Py_ssize_t given, Py_ssize_t wanted);

/* Method tables of the families, joined in module.c. */
extern PyMethodDef conv_methods[], pool_methods[], map_methods[], pad_methods[], resize_methods[], transpose_methods[], softmax_methods[], dense_methods[], array_methods[], optimizer_methods[], system_methods[],
    norm_methods[], loss_methods[], recurrent_methods[], attention_methods[], record_methods[], program_methods[], entry_methods[];
#define METHOD(name, doc) {#name, (PyCFunction)(void (*)(void))(name), METH_FASTCALL, doc}

#endif
