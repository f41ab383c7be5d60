#define _GNU_SOURCE
#include "memory.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "machine.h"

enum { CACHE_LINE = 64, HUGE_PAGE = 2 << 20, CLASSES = 4 * 48, LARGEST_CAP = 1 << 30 };

struct kept {
    struct kept *next;
};

static struct kept *free_list[CLASSES];
static size_t kept_bytes, used_bytes, peak_bytes, limit_bytes;
static int sparing; /* how many want nothing kept */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

#if defined(MADV_HUGEPAGE) && !defined(__SANITIZE_ADDRESS__)
/* Large buffers are mappings of their own: freed, they leave the process, where malloc would keep them between others. */
enum { MAPPED = HUGE_PAGE };

static void *map(size_t bytes)
{
    char *whole = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (whole == MAP_FAILED)
        return NULL;
    const size_t before = -(uintptr_t)whole % HUGE_PAGE;
    if (before)
        munmap(whole, before);
    munmap(whole + before + bytes, HUGE_PAGE - before);
    madvise(whole + before, bytes, MADV_HUGEPAGE);
    return whole + before;
}
static void unmap(void *buffer, size_t bytes) { munmap(buffer, bytes); }
#else
static const size_t MAPPED = SIZE_MAX;
static void *map(size_t bytes) { return (void)bytes, NULL; }
static void unmap(void *buffer, size_t bytes) { (void)buffer, (void)bytes; }
#endif

static void *allocate(size_t bytes)
{
    if (bytes >= MAPPED)
        return map(bytes);
    void *buffer;
    return posix_memalign(&buffer, bytes >= HUGE_PAGE ? HUGE_PAGE : CACHE_LINE, bytes) ? NULL : buffer;
}

static void give_back(void *buffer, size_t bytes)
{
    if (bytes >= MAPPED)
        unmap(buffer, bytes);
    else
        free(buffer);
}
void *(*cnn_system_allocate)(size_t) = allocate;
void (*cnn_system_free)(void *, size_t) = give_back;

static void hold(void) { pthread_mutex_lock(&lock); }
static void let_go(void) { pthread_mutex_unlock(&lock); }
static void install_fork_handlers(void) { pthread_atfork(hold, let_go, let_go); }

/* Capacities are 4, 5, 6, 7 times a power of two, from 4 KB: at most a quarter is wasted and a retired buffer fits its like. */
static int class_of(size_t bytes, size_t *capacity)
{
    int power = 10;
    size_t quarter = 1024;
    while (quarter * 7 < bytes) {
        quarter <<= 1;
        power++;
    }
    size_t quarters = bytes <= quarter * 4 ? 4 : (bytes + quarter - 1) / quarter;
    *capacity = quarter * quarters;
    return (power - 10) * 4 + (int)quarters - 4;
}

static void use(size_t bytes) /* while the lock is held */
{
    used_bytes += bytes;
    peak_bytes = used_bytes > peak_bytes ? used_bytes : peak_bytes;
}

static size_t cap(void)
{
    const size_t quarter = cnn_machine()->memory / 4;
    return quarter < LARGEST_CAP ? quarter : LARGEST_CAP;
}

size_t cnn_memory_limit(void)
{
    const size_t limit = __atomic_load_n(&limit_bytes, __ATOMIC_RELAXED);
    return limit ? limit : cnn_machine()->memory;
}

void cnn_set_memory_limit(size_t bytes) { __atomic_store_n(&limit_bytes, bytes, __ATOMIC_RELAXED); }

void *cnn_acquire(size_t bytes, size_t *capacity)
{
    if (bytes > cnn_memory_limit() || bytes > (size_t)1 << 55)
        return NULL;
    pthread_once(&fork_once, install_fork_handlers);
    const int class = class_of(bytes, capacity);
    hold();
    struct kept *buffer = free_list[class];
    if (buffer) {
        free_list[class] = buffer->next;
        kept_bytes -= *capacity;
        use(*capacity);
    }
    let_go();
    if (buffer)
        return buffer;
    buffer = cnn_system_allocate(*capacity);
    if (!buffer && cnn_trim())
        buffer = cnn_system_allocate(*capacity);
    if (buffer) {
        hold();
        use(*capacity);
        let_go();
    }
    return buffer;
}

void cnn_release(void *buffer, size_t capacity)
{
    if (!buffer)
        return;
    size_t same;
    const int class = class_of(capacity, &same);
    hold();
    used_bytes -= capacity;
    const int keep = !sparing && kept_bytes + capacity <= cap();
    if (keep) {
        struct kept *head = buffer;
        head->next = free_list[class];
        free_list[class] = head;
        kept_bytes += capacity;
    }
    let_go();
    if (!keep)
        cnn_system_free(buffer, capacity);
}

void cnn_spare_memory(int more)
{
    hold();
    sparing += more ? 1 : -1;
    let_go();
}

size_t cnn_trim(void)
{
    size_t freed = 0;
    for (int class = 0; class < CLASSES; class++) {
        hold();
        struct kept *head = free_list[class];
        free_list[class] = NULL;
        const size_t capacity = ((size_t)1024 << class / 4) * (size_t)(class % 4 + 4);
        for (struct kept *b = head; b; b = b->next) {
            kept_bytes -= capacity;
            freed += capacity;
        }
        let_go();
        while (head) {
            struct kept *next = head->next;
            cnn_system_free(head, capacity);
            head = next;
        }
    }
    return freed;
}

static size_t read_locked(const size_t *value)
{
    hold();
    const size_t now = *value;
    let_go();
    return now;
}

size_t cnn_memory_kept(void) { return read_locked(&kept_bytes); }
size_t cnn_memory_used(void) { return read_locked(&used_bytes); }

size_t cnn_memory_peak(void)
{
    hold();
    const size_t peak = peak_bytes;
    peak_bytes = used_bytes;
    let_go();
    return peak;
}
