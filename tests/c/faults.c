/* faults.c: makes a chosen call of the system fail; preloaded into a Python process and armed from there.
 *
 *     fault_arm(kind, first, forever)   the call number `first` (1, 2, ...) of that kind from now on fails, and with `forever` all after it;
 *                                       of memory only requests of at least `fault_least` bytes count: an interpreter without any memory ends
 *     fault_disarm() -> calls of the kind since it was armed
 *     fault_main_thread()               only calls of the thread that says this count
 *
 * Kinds: 0 memory (malloc, calloc, realloc, aligned_alloc, posix_memalign, mmap without a file), 1 thread creation, 2 open, 3 write, 4 fsync, 5 rename, 6 link,
 * 7 unlink, 8 close, 9 a write that takes half, 10 a write that is interrupted (EINTR). `fault_error` is the errno of kinds 2 to 8. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/types.h>

enum { MEMORY, THREAD, OPEN, WRITE, FSYNC, RENAME, LINK, UNLINK, CLOSE, SHORT_WRITE, INTERRUPTED };

static int armed = -1, forever;
static long first, calls;
static __thread int counts; /* calls of this thread count */
int fault_error = ENOSPC;
size_t fault_least = 0;

void fault_main_thread(void) { counts = 1; }
void fault_arm(int kind, long number, int all)
{
    calls = 0, first = number, forever = all;
    armed = kind;
}
long fault_disarm(void)
{
    armed = -1;
    return calls;
}

static int fails(int kind)
{
    if (armed != kind || !counts)
        return 0;
    calls++;
    return calls == first || (forever && calls > first);
}

static int no_memory(size_t bytes) { return bytes >= fault_least && fails(MEMORY); }

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);

void *malloc(size_t n)
{
    if (no_memory(n)) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t size)
{
    if (no_memory(n * size)) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n)
{
    if (n && no_memory(n)) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_realloc(p, n);
}
void *aligned_alloc(size_t alignment, size_t n)
{
    if (no_memory(n)) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_memalign(alignment, n);
}
int posix_memalign(void **to, size_t alignment, size_t n)
{
    void *p = no_memory(n) ? NULL : __libc_memalign(alignment, n);
    if (!p)
        return ENOMEM;
    *to = p;
    return 0;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
    return fails(THREAD) ? EAGAIN : NEXT(pthread_create)(thread, attributes, start, argument);
}

void *mmap(void *at, size_t n, int protection, int flags, int file, off_t offset)
{
    if (flags & MAP_ANONYMOUS && no_memory(n)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return NEXT(mmap)(at, n, protection, flags, file, offset);
}

#define FAIL(kind)                \
    if (fails(kind)) {            \
        errno = fault_error;      \
        return -1;                \
    }

int open(const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;
    va_end(list);
    FAIL(OPEN)
    return NEXT(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;
    va_end(list);
    FAIL(OPEN)
    return NEXT(open64)(path, flags, mode);
}
ssize_t write(int fd, const void *data, size_t n)
{
    FAIL(WRITE)
    if (armed == INTERRUPTED && fails(INTERRUPTED)) {
        errno = EINTR;
        return -1;
    }
    return NEXT(write)(fd, data, n > 1 && fails(SHORT_WRITE) ? n / 2 : n);
}
int fsync(int fd)
{
    FAIL(FSYNC)
    return NEXT(fsync)(fd);
}
int rename(const char *from, const char *to)
{
    FAIL(RENAME)
    return NEXT(rename)(from, to);
}
int link(const char *from, const char *to)
{
    FAIL(LINK)
    return NEXT(link)(from, to);
}
int unlink(const char *path)
{
    FAIL(UNLINK)
    return NEXT(unlink)(path);
}
int close(int fd)
{
    if (fails(CLOSE)) {
        NEXT(close)(fd); /* as Linux does: the descriptor is gone */
        errno = fault_error;
        return -1;
    }
    return NEXT(close)(fd);
}
