/* resize.h: which cells an interpolated one reads. */
#ifndef CNN_RESIZE_H
#define CNN_RESIZE_H

#include "../base/parallel.h"
#include "../base/problem.h"
#include "../base/real.h"

enum { MOST_TAPS = 4 };

/* Where an output cell of one axis reads, and with what weight. */
struct taps {
    long cell[MOST_TAPS];
    real weight[MOST_TAPS];
};

/* Taps of an axis; one that keeps a size of 1 (the missing ones of lower ranks among them) reads one cell. */
int FN(resize_tap_count)(const struct cnn_resize *p, int axis);

/* Those of every output cell of an axis. */
void FN(resize_taps)(const struct cnn_resize *p, int axis, struct taps *to);

/* Who reads a cell of an axis: entries [begin[cell], begin[cell + 1]), in order; room for out * taps of them. */
struct reader {
    long cell; /* of the output */
    real weight;
};
void FN(resize_readers)(const struct cnn_resize *p, int axis, const struct taps *table, long *begin, struct reader *readers);

/* Rows and their weights, summed in order. */
enum { MOST_ROWS = 16 };
struct weighted {
    int count;
    const real *row[MOST_ROWS];
    real weight[MOST_ROWS];
};
ALWAYS_INLINE vec sum_of(const struct weighted *r, const int count, long i)
{
    vec sum = vec_multiply(vec_fill(r->weight[0]), vec_load(r->row[0] + i));
    for (int k = 1; k < count; k++)
        sum = vec_madd(vec_fill(r->weight[k]), vec_load(r->row[k] + i), sum);
    return sum;
}

/* The same for images whose rows are contiguous and whose channels are not neighbours, doubled in width. */
int FN(resize_rows_take)(const struct cnn_resize *p);
size_t FN(resize_rows_scratch)(const struct cnn_resize *p, int workers);
void FN(resize_rows_forward)(const struct cnn_resize *p, const real *x, real *y, struct cnn_run *run);
void FN(resize_rows_backward)(const struct cnn_resize *p, const real *dy, real *dx, struct cnn_run *run);

/* The same for images whose rows are contiguous and short. */
int FN(resize_short_takes)(const struct cnn_resize *p);
size_t FN(resize_short_scratch)(const struct cnn_resize *p);
void FN(resize_short_forward)(const struct cnn_resize *p, const real *x, real *y, struct cnn_run *run);

#endif
