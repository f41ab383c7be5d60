/* program.c: the loop of compiled programs. */
#include "program.h"

#include "../base/machine.h"

long cnn_program_run(const struct cnn_line *lines, long count, int together, struct cnn_run *run, double *seconds)
{
    const int workers = run->workers;
    for (long i = 0; i < count; i++) {
        const struct cnn_line *line = &lines[i];
        if (together && line->updated)
            continue;
        const struct cnn_variant *variant = cnn_variant(line->dtype);
        const double begin = seconds ? cnn_now() : 0;
        run->workers = line->small ? 1 : workers;
        if (together && line->update)
            variant->update_weight(line->problem, line->array, line->update->entry, line->update->problem, line->update->array + 1, run);
        else
            variant->entry[line->entry](line->problem, line->array, run);
        run->workers = workers;
        if (run->stopped)
            return i;
        if (seconds)
            seconds[i] += cnn_now() - begin;
    }
    return count;
}

size_t cnn_program_scratch(const struct cnn_line *lines, long count, int workers)
{
    size_t most = 0;
    for (long i = 0; i < count; i++) {
        const size_t bytes = cnn_variant(lines[i].dtype)->scratch[lines[i].entry](lines[i].problem, lines[i].small ? 1 : workers);
        most = bytes > most ? bytes : most;
    }
    return most;
}
