/* parallel.c: the thread pool behind cnn_parallel_for.
 *
 * A loop is published as a ticket, (generation << 32 | next claim). A worker claims a block by compare-and-swap, which
 * fails once the ticket has moved on; the fields of the loop are only trusted after such a claim succeeded. Before the fields
 * of the next loop are written the ticket says that nothing is left (EXHAUSTED), so that a late worker can neither take a
 * block of a loop that is only half described nor count one as done. The caller works too and leaves when all blocks are done.
 * Workers spin briefly for the next loop, then sleep. A caller that finds the pool taken, or is itself inside a block, runs
 * its blocks alone. After fork the child starts with an empty pool. */
#define _GNU_SOURCE
#include "parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>

#include "machine.h"

char cnn_no_scratch[64];

static const double spin_seconds = 50e-6, poll_seconds = 20e-3;
static const double worth_waking = 20e3, worth_sharing = 3e3, claim_worth = 2e3; /* nanoseconds of work */

static struct {
    uint64_t ticket;
    int64_t claims, done; /* a claim is `grain` blocks: tiny blocks are not worth a claim each */
    int64_t blocks, grain;
    cnn_block *fn;
    void *context;
    int limit;    /* workers 1 .. limit-1 take part */
    int taken;    /* a loop is running */
    int started;  /* worker threads that exist */
    int sleeping;
    pthread_mutex_t lock;
    pthread_cond_t wake;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static int threads;
static __thread int inside;
static int fork_handler;

static int create_thread(void *(*start)(void *), void *argument)
{
    pthread_t thread;
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error)
        return error;
    pthread_attr_setstacksize(&attributes, 512 << 10);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    error = pthread_create(&thread, &attributes, start, argument);
    pthread_attr_destroy(&attributes);
    return error;
}
int (*cnn_thread_create)(void *(*)(void *), void *) = create_thread;

#define LOAD(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define PEEK(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define EXHAUSTED 0xffffffffu /* above every number of claims */

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Claims and runs blocks of the given generation until none is left. poll only on the calling thread (run != NULL). */
static void work(uint64_t generation, int worker, struct cnn_run *run)
{
    for (;;) {
        uint64_t ticket = LOAD(&pool.ticket);
        if (ticket >> 32 != generation)
            return;
        const int64_t claims = LOAD(&pool.claims), claim = (int64_t)(ticket & 0xffffffff);
        const int64_t blocks = LOAD(&pool.blocks), grain = LOAD(&pool.grain);
        cnn_block *fn = LOAD(&pool.fn);
        void *context = LOAD(&pool.context);
        if (claim >= claims)
            return;
        if (!__atomic_compare_exchange_n(&pool.ticket, &ticket, ticket + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            continue;
        for (int64_t block = claim * grain; block < blocks && block < (claim + 1) * grain; block++)
            fn(context, block, worker);
        __atomic_fetch_add(&pool.done, 1, __ATOMIC_RELEASE);
        if (run && run->poll && cnn_now() - run->polled > poll_seconds) {
            run->polled = cnn_now();
            if (run->poll(run->poll_context)) {
                run->stopped = 1;
                ticket = LOAD(&pool.ticket); /* claim all that is left, run none of it */
                while (!__atomic_compare_exchange_n(&pool.ticket, &ticket, (ticket & ~(uint64_t)0xffffffff) | (uint64_t)claims, 0,
                                                    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
                    ;
                __atomic_fetch_add(&pool.done, claims - (int64_t)(ticket & 0xffffffff), __ATOMIC_RELEASE);
                return;
            }
        }
    }
}

static void *worker_main(void *argument)
{
    const int worker = (int)(intptr_t)argument;
    cnn_float_enter();
    inside = 1;
    uint64_t seen = 0;
    for (;;) {
        double until = 0;
        int spins = 0;
        uint64_t generation;
        while ((generation = LOAD(&pool.ticket) >> 32) == seen) {
            relax();
            if (++spins % 64)
                continue;
            const double now = cnn_now();
            if (until == 0)
                until = now + spin_seconds;
            if (now < until)
                continue;
            pthread_mutex_lock(&pool.lock);
            __atomic_fetch_add(&pool.sleeping, 1, __ATOMIC_SEQ_CST);
            while (__atomic_load_n(&pool.ticket, __ATOMIC_SEQ_CST) >> 32 == seen)
                pthread_cond_wait(&pool.wake, &pool.lock);
            __atomic_fetch_sub(&pool.sleeping, 1, __ATOMIC_SEQ_CST);
            pthread_mutex_unlock(&pool.lock);
            until = 0;
        }
        seen = generation;
        if (worker < PEEK(&pool.limit))
            work(generation, worker, NULL);
    }
    return NULL;
}

/* The child has one thread and no worker: everything starts anew at first use. Only the pool's short lock is held over
 * fork; a loop running in another thread is not waited for. */
static void before_fork(void) { pthread_mutex_lock(&pool.lock); }
static void after_fork_parent(void) { pthread_mutex_unlock(&pool.lock); }
static void after_fork_child(void)
{
    pool.started = pool.sleeping = pool.taken = 0;
    pool.ticket += (uint64_t)1 << 32;
    pool.claims = pool.done = 0;
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
}

static void start_workers(int wanted)
{
    if (!fork_handler) {
        if (pthread_atfork(before_fork, after_fork_parent, after_fork_child))
            return;
        fork_handler = 1;
    }
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* workers inherit it: signals belong to the program's own threads */
    while (pool.started + 1 < wanted && cnn_thread_create(worker_main, (void *)(intptr_t)(pool.started + 1)) == 0)
        pool.started++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void serial(struct cnn_run *run, long blocks, long grain, cnn_block *fn, void *context)
{
    for (long block = 0; block < blocks; block++) {
        fn(context, block, 0);
        if (run->poll && (block + 1) % grain == 0 && cnn_now() - run->polled > poll_seconds) {
            run->polled = cnn_now();
            if (run->poll(run->poll_context)) {
                run->stopped = 1;
                return;
            }
        }
    }
}

void cnn_parallel_for(struct cnn_run *run, long blocks, double estimate, cnn_block *fn, void *context)
{
    if (run->stopped || blocks <= 0)
        return;
    const double worth = PEEK(&pool.sleeping) || !PEEK(&pool.started) ? worth_waking : worth_sharing;
    const double grains = claim_worth * (double)blocks / (estimate + 1);
    const long grain = grains < 1 ? 1 : grains > (double)blocks ? blocks : (long)grains, claims = (blocks + grain - 1) / grain;
    int free = 0;
    if (claims == 1 || claims > INT32_MAX || run->workers <= 1 || inside || estimate < worth ||
        !__atomic_compare_exchange_n(&pool.taken, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        serial(run, blocks, grain, fn, context);
        return;
    }
    if (pool.started + 1 < run->workers)
        start_workers(run->workers);
    const uint64_t generation = (PEEK(&pool.ticket) >> 32) + 1;
    __atomic_exchange_n(&pool.ticket, (generation - 1) << 32 | EXHAUSTED, __ATOMIC_SEQ_CST);
    STORE(&pool.claims, claims);
    STORE(&pool.blocks, blocks);
    STORE(&pool.grain, grain);
    STORE(&pool.done, 0);
    STORE(&pool.fn, fn);
    STORE(&pool.context, context);
    STORE(&pool.limit, run->workers);
    __atomic_store_n(&pool.ticket, (generation & 0xffffffff) << 32, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&pool.sleeping, __ATOMIC_SEQ_CST)) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.lock);
    }
    inside = 1;
    work(generation & 0xffffffff, 0, run);
    inside = 0;
    for (long spins = 1; LOAD(&pool.done) < claims; spins++) {
        relax();
        if (spins % 4096 == 0)
            sched_yield();
    }
    __atomic_store_n(&pool.taken, 0, __ATOMIC_RELEASE);
}

int cnn_num_threads(void)
{
    int n = PEEK(&threads);
    return n ? n : cnn_machine()->processors;
}

void cnn_set_num_threads(int n) { STORE(&threads, n < 1 ? 1 : n > CNN_MAX_THREADS ? CNN_MAX_THREADS : n); }
