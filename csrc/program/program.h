/* program.h: a compiled program: an array of lines, each a kernel entry with its problem and its arrays, run one after another. */
#ifndef CNN_PROGRAM_H
#define CNN_PROGRAM_H

#include "../base/variants.h"

enum { CNN_MOST_ARRAYS = 24 };

struct cnn_line {
    int entry;
    enum cnn_dtype dtype;
    int small; /* runs on the calling thread: waking others would cost more */
    const void *problem;
    void *array[CNN_MOST_ARRAYS];
    struct cnn_line *update; /* of a weight gradient: the line that updates the weights, which can be made together with it; or NULL */
    int updated;             /* such an update: what was made together is left out */
};

/* Runs lines[0..count): scratch must suit every line for run->workers. The first line that did not finish, or count.
 * together: a weight gradient and its update run as one, at the place of the gradient. seconds: where not NULL, what each line took is added there. */
long cnn_program_run(const struct cnn_line *lines, long count, int together, struct cnn_run *run, double *seconds);

/* The most scratch that any line needs. */
size_t cnn_program_scratch(const struct cnn_line *lines, long count, int workers);

#endif
