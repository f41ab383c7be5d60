/* parallel.c: the thread pool behind cnn_parallel_for.
 *
 * The blocks of a loop are dealt out in equal ranges of neighbours, one a worker: what a loop of the same cut did before, or the step before of a
 * recurrent network, still lies in that worker's caches. Who is done with his range takes blocks from the far ends of others'. A range is one word,
 * (generation << 32 | end << 16 | next), and a block is claimed by compare-and-swap of it, which fails once a new loop has been published; the fields
 * of the loop are read after such a claim succeeded: then the loop cannot end before the block is done. The caller works too and leaves when all
 * blocks are done. Workers spin briefly for the next loop, then sleep. A caller that finds the pool taken, or is itself inside a block, runs its
 * blocks alone. After fork the child starts with an empty pool. */
#define _GNU_SOURCE
#include "parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>

#include "machine.h"

char cnn_no_scratch[64];

static const double spin_seconds = 50e-6, poll_seconds = 20e-3;
static const double worth_waking = 20e3, worth_sharing = 3e3, claim_worth = 2e3, look_worth = 500e3, alone_worth = 200e3; /* nanoseconds of work */
enum { MOST_UNSEEN = 16 }; /* claims after which a loop looks at the clock, whatever they were estimated at */

static struct {
    uint32_t generation; /* of the latest loop; workers wait for it to change */
    int64_t done;        /* claims; a claim is `grain` blocks: tiny blocks are not worth a claim each */
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

enum { MOST_CLAIMS = 0xffff };
static struct {
    uint64_t claims;
    char apart[64 - sizeof(uint64_t)]; /* a cache line each */
} range[CNN_MAX_THREADS] __attribute__((aligned(64)));

static uint64_t range_of(uint32_t generation, int64_t next, int64_t end) { return (uint64_t)generation << 32 | (uint64_t)end << 16 | (uint64_t)next; }
static int64_t next_of(uint64_t claims) { return (int64_t)(claims & MOST_CLAIMS); }
static int64_t end_of(uint64_t claims) { return (int64_t)(claims >> 16 & MOST_CLAIMS); }

static int threads;
static __thread int inside;
static __thread double alone; /* work of loops that were too short to wake anybody for, one after the other: many of them are worth it */
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

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Takes a claim of the range: the first one left where it is the worker's own, else the last. -1: nothing is left of that generation. */
static int64_t take_claim(uint32_t generation, int part, int own)
{
    uint64_t *at = &range[part].claims, now = LOAD(at);
    while (now >> 32 == generation && next_of(now) < end_of(now)) {
        const int64_t claim = own ? next_of(now) : end_of(now) - 1;
        if (__atomic_compare_exchange_n(at, &now, own ? now + 1 : now - (1 << 16), 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            return claim;
    }
    return -1;
}

/* Claims all that is left, to run none of it. */
static void drop_claims(uint32_t generation, int parts)
{
    for (int part = 0; part < parts; part++)
        while (take_claim(generation, part, 1) >= 0)
            __atomic_fetch_add(&pool.done, 1, __ATOMIC_RELEASE);
}

/* After another claim of so much work: whether it is time to poll. Looking at the clock after each would take longer than tiny claims do. */
struct since {
    double work;
    int claims;
};
static int time_to_poll(struct cnn_run *run, struct since *since, double claim)
{
    since->work += claim;
    if (!run || !run->poll || (since->work < look_worth && ++since->claims < MOST_UNSEEN))
        return 0;
    *since = (struct since){0, 0};
    const double now = cnn_now();
    if (now - run->polled <= poll_seconds)
        return 0;
    run->polled = now;
    return 1;
}

/* Runs blocks of the given generation until none is left; claims are counted as done together, at the end. each: work of a claim.
 * poll only on the calling thread (run != NULL). */
static void work(uint32_t generation, int worker, struct cnn_run *run, double each)
{
    const int parts = LOAD(&pool.limit);
    struct since since = {0, 0};
    int64_t done = 0;
    for (int tried = 0, part = worker; tried < parts;) {
        const int64_t claim = take_claim(generation, part, part == worker);
        if (claim < 0) {
            tried++;
            part = part + 1 < parts ? part + 1 : 0;
            continue;
        }
        const int64_t blocks = LOAD(&pool.blocks), grain = LOAD(&pool.grain);
        cnn_block *fn = LOAD(&pool.fn);
        void *context = LOAD(&pool.context);
        for (int64_t block = claim * grain; block < blocks && block < (claim + 1) * grain; block++)
            fn(context, block, worker);
        done++;
        if (time_to_poll(run, &since, each) && run->poll(run->poll_context)) {
            run->stopped = 1;
            drop_claims(generation, parts);
            break;
        }
    }
    if (done)
        __atomic_fetch_add(&pool.done, done, __ATOMIC_RELEASE);
}

static void *worker_main(void *argument)
{
    const int worker = (int)(intptr_t)argument;
    cnn_float_enter();
    inside = 1;
    uint32_t seen = 0;
    for (;;) {
        double until = 0;
        int spins = 0;
        uint32_t generation;
        while ((generation = LOAD(&pool.generation)) == seen) {
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
            while (__atomic_load_n(&pool.generation, __ATOMIC_SEQ_CST) == seen)
                pthread_cond_wait(&pool.wake, &pool.lock);
            __atomic_fetch_sub(&pool.sleeping, 1, __ATOMIC_SEQ_CST);
            pthread_mutex_unlock(&pool.lock);
            until = 0;
        }
        seen = generation;
        if (worker < PEEK(&pool.limit))
            work(generation, worker, NULL, 0);
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
    pool.generation++;
    pool.done = 0;
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
        STORE(&pool.started, pool.started + 1);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void serial(struct cnn_run *run, long blocks, long grain, double each, cnn_block *fn, void *context)
{
    struct since since = {0, 0};
    for (long block = 0; block < blocks; block++) {
        fn(context, block, 0);
        if ((block + 1) % grain == 0 && time_to_poll(run, &since, each) && run->poll(run->poll_context)) {
            run->stopped = 1;
            return;
        }
    }
}

void cnn_parallel_for(struct cnn_run *run, long blocks, double estimate, cnn_block *fn, void *context)
{
    if (run->stopped || blocks <= 0)
        return;
    const int asleep = PEEK(&pool.sleeping) || !PEEK(&pool.started);
    const double worth = asleep && alone < alone_worth ? worth_waking : worth_sharing;
    alone = asleep && estimate < worth ? alone + (estimate < worth_sharing ? 0 : estimate) : 0;
    const double grains = claim_worth * (double)blocks / (estimate + 1);
    const long fine = grains < 1 ? 1 : grains > (double)blocks ? blocks : (long)grains, coarse = (blocks + MOST_CLAIMS - 1) / MOST_CLAIMS;
    const long grain = fine > coarse ? fine : coarse, claims = (blocks + grain - 1) / grain;
    int free = 0;
    if (claims == 1 || run->workers <= 1 || inside || estimate < worth ||
        !__atomic_compare_exchange_n(&pool.taken, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        serial(run, blocks, grain, estimate / (double)claims, fn, context);
        return;
    }
    if (pool.started + 1 < run->workers)
        start_workers(run->workers);
    const int parts = run->workers < CNN_MAX_THREADS ? run->workers : CNN_MAX_THREADS;
    const uint32_t generation = PEEK(&pool.generation) + 1;
    STORE(&pool.blocks, blocks);
    STORE(&pool.grain, grain);
    STORE(&pool.done, 0);
    STORE(&pool.fn, fn);
    STORE(&pool.context, context);
    STORE(&pool.limit, parts);
    for (int part = 0; part < parts; part++)
        STORE(&range[part].claims, range_of(generation, (claims * part + parts - 1) / parts, (claims * (part + 1) + parts - 1) / parts));
    __atomic_store_n(&pool.generation, generation, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&pool.sleeping, __ATOMIC_SEQ_CST)) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.lock);
    }
    inside = 1;
    work(generation, 0, run, estimate / (double)claims);
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
