/* run.c: the call of one kernel entry. */
#include "record.h"

#include "../base/memory.h"

int check_signals(void *context)
{
    (void)context;
    const PyGILState_STATE state = PyGILState_Ensure();
    const int stop = PyErr_CheckSignals() != 0;
    PyGILState_Release(state);
    return stop;
}

static const double worth_releasing = 20e3; /* nanoseconds */

int run_entry(struct frame *f, enum cnn_entry_number entry, const void *problem, void *const *array, double work)
{
    const struct cnn_variant *variant = cnn_variant(f->dtype);
    struct cnn_run run = {.workers = work < worth_releasing ? 1 : cnn_num_threads()};
    size_t capacity = 0;
    const size_t bytes = variant->scratch[entry](problem, run.workers);
    if (bytes) {
        run.scratch = cnn_acquire(bytes, &capacity);
        if (!run.scratch) {
            refuse(f, PyExc_MemoryError, "no memory for %zu bytes of scratch", bytes);
            return -1;
        }
    }
    const unsigned long state = cnn_float_enter();
    if (work < worth_releasing) {
        variant->entry[entry](problem, array, &run);
    } else {
        run.poll = check_signals;
        run.polled = cnn_now();
        Py_BEGIN_ALLOW_THREADS
        variant->entry[entry](problem, array, &run);
        Py_END_ALLOW_THREADS
    }
    cnn_float_leave(state);
    cnn_release(run.scratch, capacity);
    if (cnn_recorder)
        record_line(f, entry, problem, array, work);
    return run.stopped ? -1 : 0;
}
