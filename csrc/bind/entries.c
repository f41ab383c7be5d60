/* entries.c: what ops.def says of every entry, and the fields of the problems, for who records, rewrites and reads programs. */
#include "record.h"

#include <stddef.h>

const size_t cnn_problem_sizes[] = {
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

int cnn_array_count(int entry, int *read)
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
    MANY(cnn_conv, dilation), MANY(cnn_conv, before), ONE(cnn_conv, padding_mode), ONE(cnn_conv, activation), ONE(cnn_conv, algorithm), ONE(cnn_conv, packed), ONE(cnn_conv, accumulate), MANY(cnn_conv, x), MANY(cnn_conv, w),
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
    ONE(cnn_binary, operator), ONE(cnn_binary, rank), MANY(cnn_binary, shape), MANY(cnn_binary, a), MANY(cnn_binary, b), MANY(cnn_binary, y), ONE(cnn_running, size), ONE(cnn_convert, size), ONE(cnn_convert, source),
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
        PyObject *row = Py_BuildValue("(ssns)", cnn_entry_name(i), problem_names[i], (Py_ssize_t)cnn_problem_sizes[i], signatures[i]);
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

/* conv_traits(problem, dtype) -> (bytes of packed weights or 0, whether the forward adds to its result, whether the input gradient does, whether the
 * weight gradient can be made together with its update) */
static PyObject *conv_traits(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    const struct frame f = {.function = "conv_traits"};
    long dtype;
    char *bytes;
    Py_ssize_t size;
    struct cnn_conv p;
    if (expect_arguments(&f, n, 2) < 0 || PyBytes_AsStringAndSize(args[0], &bytes, &size) < 0 || read_long(&f, "dtype", args[1], 0, 1, &dtype) < 0)
        return NULL;
    if ((size_t)size != cnn_problem_sizes[CNN_conv_pack])
        return refuse(&f, PyExc_ValueError, "problem has %zd bytes, expected %zu", size, cnn_problem_sizes[CNN_conv_pack]);
    memcpy(&p, bytes, sizeof p);
    const struct cnn_conv_traits traits = cnn_variant(dtype ? CNN_F64 : CNN_F32)->conv_traits(&p);
    return Py_BuildValue("(nNNN)", (Py_ssize_t)traits.packed_bytes, PyBool_FromLong(traits.forward_accumulates), PyBool_FromLong(traits.input_accumulates),
                         PyBool_FromLong(traits.weight_updates));
}

PyMethodDef entry_methods[] = {METHOD(conv_traits, "problem, dtype -> packed bytes, forward adds, input gradient adds, weight gradient updates"),
                               METHOD(program_entries, "-> what ops.def says of the entries, and the fields of their problems"), {NULL, NULL, 0, NULL}};
