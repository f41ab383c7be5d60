/* module.c: the extension cnnpy._core. No static Python state; one interpreter only, as NumPy's own state is. */
#define CNN_IMPORTS_NUMPY
#include "args.h"

static int execute(PyObject *module)
{
    if (PyArray_ImportNumPyAPI() < 0)
        return -1;
    PyMethodDef *const tables[] = {conv_methods, pool_methods, map_methods, pad_methods, resize_methods, transpose_methods, softmax_methods, dense_methods, array_methods, optimizer_methods, system_methods,
                                   norm_methods, loss_methods, recurrent_methods, attention_methods, record_methods, program_methods, entry_methods};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (PyModule_AddFunctions(module, tables[i]) < 0)
            return -1;
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "cnnpy._core", "The C core of cnnpy: every function checks its arguments, then runs a kernel.", 0, NULL, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
