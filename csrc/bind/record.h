/* record.h: what a call of bindings did, as lines of a program: entries, problems, arrays by buffer and offset.
 *
 * While a thread records, run_entry notes every entry that it runs. Arrays are known by their addresses: what the recorder was given at
 * the start, and what the lines wrote. Large results tell the recorder when they go, others it keeps alive, so an address means one buffer at a
 * time. A line that reads any other memory depends on
 * something that was computed elsewhere; the recording then has failed, and says why. */
#ifndef CNN_RECORD_H
#define CNN_RECORD_H

#include "args.h"

extern _Thread_local struct recorder *cnn_recorder; /* NULL: this thread does not record */

/* A large result lives in a buffer of ours; a capsule of this name is its owner. */
struct owner {
    void *buffer;
    size_t capacity;
    unsigned long recording; /* which recording knows the buffer, 0: none; its number there */
    long number;
};
extern const char owner_name[];
void record_release(const struct owner *o);

void record_line(struct frame *f, enum cnn_entry_number entry, const void *problem, void *const *array, double work);
void record_failure(const char *function, const char *cause);
void record_constant(PyArrayObject *array); /* its contents follow from shapes and options alone */

/* What ops.def says: bytes of an entry's problem; how many arrays it takes, the first *read of which it reads. */
extern const size_t cnn_problem_sizes[];
int cnn_array_count(int entry, int *read);

/* The memory between the array's first and last element. */
void find_extent(PyArrayObject *a, char **start, char **end);

#endif
