/* lookup.c: rows of a table by number, and dropout.
 *
 *     embedding  y[i] = table[index[i]];   dtable[v] = sum of dy[i] over index[i] = v, in order of i
 *     dropout    y = x/(1 - p) where the random number of the element is at least p, else 0; its own gradient with the same key
 *
 * A random number is a function of the key and of the element's place in C order (or of its sample and channel), so threads,
 * memory order and repetition do not change a mask. Embedding: index[count] int64, checked; rows of `width`. Both overwrite.
 * Sources: mathematics 2.12; the integer hash with its constants: C. Wellons, 2018 (triple32). */
#include "ops.h"

struct lookup {
    const struct cnn_lookup *p;
    const int64_t *index;
    const real *from;
    real *to;
};

enum { ROWS = 64, COLUMNS = 64 };

static void copy_rows(void *context, long block, int worker)
{
    (void)worker;
    const struct lookup *s = context;
    const long width = s->p->width;
    for (long i = block * ROWS; i < min_long(s->p->count, (block + 1) * ROWS); i++)
        memcpy(s->to + i * width, s->from + s->index[i] * width, (size_t)width * sizeof(real));
}

/* Some columns of all rows: every sum runs in order of position. */
static void add_columns(void *context, long block, int worker)
{
    (void)worker;
    const struct lookup *s = context;
    const long width = s->p->width, begin = block * COLUMNS, count = min_long(COLUMNS, width - begin);
    for (long v = 0; v < s->p->rows; v++)
        memset(s->to + v * width + begin, 0, (size_t)count * sizeof(real));
    for (long i = 0; i < s->p->count; i++) {
        const real *from = s->from + i * width + begin;
        real *to = s->to + s->index[i] * width + begin;
        for (long j = 0; j < count; j++)
            to[j] += from[j];
    }
}

static size_t none(const void *problem, int workers)
{
    (void)problem, (void)workers;
    return 0;
}
size_t FN(embedding_forward_scratch)(const void *problem, int workers) { return none(problem, workers); }
size_t FN(embedding_backward_scratch)(const void *problem, int workers) { return none(problem, workers); }
size_t FN(dropout_scratch)(const void *problem, int workers) { return none(problem, workers); }

void FN(embedding_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct lookup s = {problem, array[0], array[1], array[2]};
    cnn_parallel_for(run, divide_up(s.p->count, ROWS), (double)s.p->count * (double)s.p->width * 0.2, copy_rows, &s);
}

void FN(embedding_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct lookup s = {problem, array[0], array[1], array[2]};
    cnn_parallel_for(run, divide_up(s.p->width, COLUMNS), (double)(s.p->count + s.p->rows) * (double)s.p->width * 0.3, add_columns, &s);
}

struct dropout {
    const struct cnn_dropout *p;
    const real *x;
    real *y;
    real scale;
    uint32_t limit; /* numbers below it are dropped */
};

ALWAYS_INLINE uint32_t hash(uint32_t x)
{
    x ^= x >> 17;
    x *= 0xed5ad4bbu;
    x ^= x >> 11;
    x *= 0xac4c1b51u;
    x ^= x >> 15;
    x *= 0x31848babu;
    return x ^ x >> 14;
}

/* 24 random bits of place `at` */
ALWAYS_INLINE uint32_t number(unsigned long key, unsigned long at)
{
    const uint32_t high = (uint32_t)(at >> 32), low = (uint32_t)at;
    return hash(hash(low + (uint32_t)key) ^ ((uint32_t)(key >> 32) + high * 0x9e3779b9u)) >> 8;
}

/* A run of cells: in C order of one channel, channels-last of one pixel's channels. */
static void drop_block(void *context, long block, int worker)
{
    (void)worker;
    const struct dropout *s = context;
    const struct cnn_dropout *p = s->p;
    const long run = p->channels_last ? p->c : p->s, first = block * run;
    const real *x = s->x + first;
    real *y = s->y + first;
    unsigned long at, step;
    if (p->channels_last) {
        const unsigned long n = (unsigned long)(block / p->s), i = (unsigned long)(block % p->s);
        at = p->whole_channels ? n * (unsigned long)p->c : n * (unsigned long)(p->c * p->s) + i;
        step = p->whole_channels ? 1 : (unsigned long)p->s;
    } else {
        at = p->whole_channels ? (unsigned long)block : (unsigned long)first;
        step = p->whole_channels ? 0 : 1;
    }
    for (long i = 0; i < run; i++)
        y[i] = number(p->key, at + (unsigned long)i * step) >= s->limit ? x[i] * s->scale : 0;
}

void FN(dropout)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_dropout *p = problem;
    const struct dropout s = {p, array[0], array[1], p->share < 1 ? (real)(1 / (1 - p->share)) : 0, (uint32_t)(p->share * 16777216.0 + 0.5)};
    const long blocks = p->channels_last ? p->n * p->s : p->n * p->c;
    cnn_parallel_for(run, blocks, (double)(p->n * p->c) * (double)p->s, drop_block, (void *)&s);
}
