/* pool.c: many short loops on more threads than cores. Every block of every loop must run exactly once, with its own loop's context,
 * and before its loop returns. Built and run by tests/reliability/test_pool.py; also a plain program for the race detector. */
#include <stdio.h>
#include <stdlib.h>

#include "../../csrc/base/parallel.h"

enum { MOST = 64, MAGIC = 0x5ca1ab1e };

struct loop {
    int magic;
    long runs[MOST];
};

static long wrong;

static void block(void *context, long number, int worker)
{
    struct loop *loop = context;
    (void)worker;
    if (loop->magic != MAGIC || number < 0 || number >= MOST)
        __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
    else
        __atomic_fetch_add(&loop->runs[number], 1, __ATOMIC_RELAXED);
}

int main(int argc, char **argv)
{
    const long loops = argc > 1 ? atol(argv[1]) : 200000;
    const int threads = argc > 2 ? atoi(argv[2]) : 8;
    long done = 0;
    for (long i = 0; i < loops && !wrong; i++, done++) {
        struct loop loop = {.magic = MAGIC};
        struct cnn_run run = {.workers = threads};
        const long blocks = 2 + i % (MOST - 1);
        cnn_parallel_for(&run, blocks, 1e9, block, &loop);
        for (long b = 0; b < MOST; b++)
            if (loop.runs[b] != (b < blocks))
                wrong++;
        loop.magic = 0; /* a block that runs from now on is found out */
    }
    printf("%ld loops, %ld wrong\n", done, wrong);
    return wrong != 0;
}
