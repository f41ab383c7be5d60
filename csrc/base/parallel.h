/* parallel.h: one parallel loop. cnn_parallel_for(run, blocks, ...) means
 *
 *     for (long block = 0; block < blocks && !run->stopped; block++)
 *         fn(context, block, 0);
 *
 * in any order and on any thread. Blocks are cut by the problem alone and write disjoint results, so the number of threads
 * decides only who takes a block, never a bit of the result. `worker` < run->workers names a slot of per-worker scratch. */
#ifndef CNN_PARALLEL_H
#define CNN_PARALLEL_H

#include <stddef.h>

/* What one call brings along: threads, scratch, and a way to notice Ctrl-C. Filled by the caller (the binding, a driver). */
struct cnn_run {
    int workers;
    int stopped;                /* set when poll asked for an end: no further block starts, results are incomplete */
    char *scratch;              /* as many bytes as the entry's scratch function said */
    int (*poll)(void *context); /* called between blocks on the calling thread about every 20 ms; nonzero stops. May be NULL */
    void *poll_context;
    double polled;              /* when poll was last called */
};

/* Stands for scratch where its size is only asked for: places are counted from here, nothing is read or written. (C forbids to count from NULL.) */
extern char cnn_no_scratch[];

typedef void cnn_block(void *context, long block, int worker);

/* `work`: estimated nanoseconds of the whole loop on one thread; short loops are not worth waking anybody for. */
void cnn_parallel_for(struct cnn_run *run, long blocks, double work, cnn_block *fn, void *context);

/* Blocks that keep every worker busy to the end: a few are a multiple of the workers. Only where blocks add nothing up: sums must not know the workers. */
static inline long cnn_even_blocks(long blocks, long workers) { return blocks < 1 || blocks > 8 * workers ? blocks : (blocks + workers - 1) / workers * workers; }

/* Threads a call may use from now on, the caller included; 1 .. CNN_MAX_THREADS. */
enum { CNN_MAX_THREADS = 256 };
int cnn_num_threads(void);
void cnn_set_num_threads(int threads);

/* Thread creation, replaceable by fault tests: 0, or an error number. The pool then runs with fewer workers, or serially. */
extern int (*cnn_thread_create)(void *(*start)(void *), void *argument);

#endif
