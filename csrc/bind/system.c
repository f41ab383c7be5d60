/* system.c: bindings of what is not arithmetic: threads, instruction sets, memory. */
#include "args.h"

#include "../base/memory.h"

static PyObject *num_threads(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module, (void)args, (void)n;
    return PyLong_FromLong(cnn_num_threads());
}

static PyObject *set_num_threads(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    const struct frame f = {.function = "set_num_threads"};
    long threads;
    if (expect_arguments(&f, n, 1) < 0 || read_long(&f, "n", args[0], 1, CNN_MAX_THREADS, &threads) < 0)
        return NULL;
    cnn_set_num_threads((int)threads);
    Py_RETURN_NONE;
}

static PyObject *isa_names(int (*has)(enum cnn_isa))
{
    PyObject *list = PyList_New(0);
    for (int isa = 0; list && isa < CNN_ISA_COUNT; isa++) {
        PyObject *name = has((enum cnn_isa)isa) ? PyUnicode_FromString(cnn_isa_name((enum cnn_isa)isa)) : NULL;
        if (name && PyList_Append(list, name) < 0)
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

/* configuration() -> dict of what was compiled, what the machine has and what is in use */
static PyObject *configuration(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module, (void)args, (void)n;
    const struct cnn_machine *m = cnn_machine();
    return Py_BuildValue("{s:N,s:N,s:s,s:i,s:i,s:n,s:n,s:n,s:n,s:n,s:n,s:n}", "compiled", isa_names(cnn_compiled), "supported", isa_names(cnn_has), "isa",
                         cnn_isa_name(cnn_chosen()), "threads", cnn_num_threads(), "processors", m->processors, "l1", (Py_ssize_t)m->l1, "l2",
                         (Py_ssize_t)m->l2, "l3", (Py_ssize_t)m->l3, "memory", (Py_ssize_t)m->memory, "memory_limit", (Py_ssize_t)cnn_memory_limit(),
                         "memory_kept", (Py_ssize_t)cnn_memory_kept(), "memory_used", (Py_ssize_t)cnn_memory_used());
}

static PyObject *choose_isa(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    const struct frame f = {.function = "CNNPY_ISA"};
    static const char *const names[] = {"base", "avx2", "avx512", NULL};
    int isa;
    if (expect_arguments(&f, n, 1) < 0 || read_choice(&f, "value", args[0], names, &isa) < 0)
        return NULL;
    if (!cnn_choose((enum cnn_isa)isa))
        return refuse(&f, PyExc_ValueError, "this %s lacks '%s'", cnn_compiled((enum cnn_isa)isa) ? "machine" : "build", names[isa]);
    Py_RETURN_NONE;
}

static PyObject *set_memory_limit(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    const struct frame f = {.function = "set_memory_limit"};
    long bytes = 0;
    if (expect_arguments(&f, n, 1) < 0 || (args[0] != Py_None && read_long(&f, "bytes", args[0], 1, 1l << 55, &bytes) < 0))
        return NULL;
    cnn_set_memory_limit((size_t)bytes);
    Py_RETURN_NONE;
}

/* memory_peak() -> the most bytes in use since the last call of this */
static PyObject *memory_peak(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module, (void)args, (void)n;
    return PyLong_FromSize_t(cnn_memory_peak());
}

static PyObject *trim_memory(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module, (void)args, (void)n;
    return PyLong_FromSize_t(cnn_trim());
}

static PyObject *entry_names(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module, (void)args, (void)n;
    PyObject *list = PyList_New(CNN_ENTRIES);
    for (int i = 0; list && i < CNN_ENTRIES; i++) {
        PyObject *name = PyUnicode_FromString(cnn_entry_name(i));
        if (name)
            PyList_SET_ITEM(list, i, name);
        else
            Py_CLEAR(list);
    }
    return list;
}

/* probe(rounds) -> multiply-adds done in float32 by all threads together */
static PyObject *probe(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct frame f = {.function = "probe"};
    struct cnn_map p;
    static const int lanes[] = {4, 8, 16};
    const npy_intp size = CNN_MAX_THREADS;
    PyArrayObject *y;
    if (expect_arguments(&f, n, 1) < 0 || read_long(&f, "rounds", args[0], 1, LARGEST_INT, &p.size) < 0 || !(y = new_result(&f, 1, &size, 0)))
        return frame_return(&f, NULL);
    void *const arrays[] = {PyArray_DATA(y)};
    if (run_entry(&f, CNN_probe, &p, arrays, 1e6) < 0)
        return frame_return(&f, NULL);
    return frame_return(&f, PyFloat_FromDouble((double)p.size * CNN_CHAINS * lanes[cnn_chosen()] * cnn_num_threads()));
}

PyMethodDef system_methods[] = {
    METHOD(num_threads, "-> threads a call may use"), METHOD(set_num_threads, "n"), METHOD(configuration, "-> dict"),
    METHOD(choose_isa, "name"), METHOD(set_memory_limit, "bytes or None"), METHOD(memory_peak, "-> most bytes in use since the last call"), METHOD(trim_memory, "-> bytes freed"),
    METHOD(probe, "rounds -> multiply-adds done"),
    METHOD(entry_names, "-> the kernel entries of ops.def"), {NULL, NULL, 0, NULL}};
