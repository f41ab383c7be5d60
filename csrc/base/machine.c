#define _GNU_SOURCE
#include "machine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <sched.h>
#endif
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

static struct cnn_machine machine;
static pthread_once_t once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
/* What the operating system saves at a task switch: bits of XCR0. */
static unsigned long saved_state(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low | (unsigned long)high << 32;
}

static enum cnn_isa detect_isa(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return CNN_BASE;
    const unsigned osxsave = 1u << 27, avx = 1u << 28, fma = 1u << 12;
    if ((c & (osxsave | avx | fma)) != (osxsave | avx | fma))
        return CNN_BASE;
    const unsigned long saved = saved_state();
    if ((saved & 6) != 6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1u << 5))
        return CNN_BASE;
    const unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    if ((b & avx512) == avx512 && (saved & 0xe6) == 0xe6)
        return CNN_AVX512;
    return CNN_AVX2;
}

/* Intel's leaf 4 and AMD's leaf 0x8000001D describe the caches in one format. */
static void detect_caches(struct cnn_machine *m)
{
    static const unsigned leaves[] = {4, 0x8000001D};
    for (int i = 0; i < 2 && !m->l1; i++) {
        unsigned a, b, c, d;
        if ((unsigned)__get_cpuid_max(leaves[i] & 0x80000000u, NULL) < leaves[i])
            continue;
        for (unsigned n = 0; n < 16; n++) {
            __cpuid_count(leaves[i], n, a, b, c, d);
            const unsigned type = a & 31, level = a >> 5 & 7;
            if (type == 0)
                break;
            const size_t size = (size_t)((b >> 22) + 1) * ((b >> 12 & 1023) + 1) * ((b & 4095) + 1) * ((size_t)c + 1);
            if (level == 1 && type == 1)
                m->l1 = size;
            else if (level == 2)
                m->l2 = size;
            else if (level == 3)
                m->l3 = size;
        }
    }
}
#else
static enum cnn_isa detect_isa(void) { return CNN_BASE; }
static void detect_caches(struct cnn_machine *m)
{
#ifdef __APPLE__
    size_t length = sizeof(size_t);
    sysctlbyname("hw.l1dcachesize", &m->l1, &length, NULL, 0);
    length = sizeof(size_t);
    sysctlbyname("hw.l2cachesize", &m->l2, &length, NULL, 0);
#else
    (void)m;
#endif
}
#endif

static size_t or_else(size_t value, size_t otherwise) { return value ? value : otherwise; }

static void detect_caches_from_system(struct cnn_machine *m)
{
#ifdef _SC_LEVEL1_DCACHE_SIZE
    long l1 = sysconf(_SC_LEVEL1_DCACHE_SIZE), l2 = sysconf(_SC_LEVEL2_CACHE_SIZE), l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
    m->l1 = or_else(m->l1, l1 > 0 ? (size_t)l1 : 0);
    m->l2 = or_else(m->l2, l2 > 0 ? (size_t)l2 : 0);
    m->l3 = or_else(m->l3, l3 > 0 ? (size_t)l3 : 0);
#endif
    m->l1 = or_else(m->l1, 32 << 10);
    m->l2 = or_else(m->l2, 512 << 10);
    m->l3 = or_else(m->l3, 8 << 20);
    if (m->l3 > 16 << 20)
        m->l3 = 16 << 20;
}

#ifdef __linux__
/* Reads the first line of a control file of this process's own cgroup, or of one above it, version 2. */
static int read_cgroup(const char *path, const char *file, char *line, int size)
{
    char name[4300];
    snprintf(name, sizeof name, "/sys/fs/cgroup%s/%s", path, file);
    FILE *f = fopen(name, "re");
    if (!f)
        return 0;
    int ok = fgets(line, size, f) != NULL;
    fclose(f);
    return ok;
}

static void apply_cgroup(struct cnn_machine *m)
{
    char path[4200] = "", line[4200];
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (f) {
        while (fgets(line, sizeof line, f))
            if (!strncmp(line, "0::", 3)) {
                line[strcspn(line, "\n")] = 0;
                memcpy(path, line + 3, strlen(line + 3) + 1);
            }
        fclose(f);
    }
    for (;;) {
        double quota, period;
        if (read_cgroup(path, "cpu.max", line, sizeof line) && sscanf(line, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0) {
            int allowed = (int)(quota / period + 0.5);
            if (allowed < m->processors)
                m->processors = allowed < 1 ? 1 : allowed;
        }
        unsigned long bytes;
        if (read_cgroup(path, "memory.max", line, sizeof line) && sscanf(line, "%lu", &bytes) == 1 && bytes < m->memory)
            m->memory = bytes;
        char *slash = strrchr(path, '/');
        if (!slash)
            break;
        *slash = 0;
    }
    double quota = 0, period = 0; /* version 1 */
    if (read_cgroup("/cpu", "cpu.cfs_quota_us", line, sizeof line) && sscanf(line, "%lf", &quota) == 1 && quota > 0 &&
        read_cgroup("/cpu", "cpu.cfs_period_us", line, sizeof line) && sscanf(line, "%lf", &period) == 1 && period > 0) {
        int allowed = (int)(quota / period + 0.5);
        if (allowed < m->processors)
            m->processors = allowed < 1 ? 1 : allowed;
    }
}
#endif

static void detect(void)
{
    machine.isa = detect_isa();
    detect_caches(&machine);
    detect_caches_from_system(&machine);
    long processors = sysconf(_SC_NPROCESSORS_ONLN), pages = sysconf(_SC_PHYS_PAGES);
    machine.processors = processors > 0 ? (int)processors : 1;
    machine.memory = pages > 0 ? (size_t)pages * (size_t)sysconf(_SC_PAGESIZE) : (size_t)1 << 62;
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        machine.processors = CPU_COUNT(&set);
    apply_cgroup(&machine);
#endif
}

const struct cnn_machine *cnn_machine(void)
{
    pthread_once(&once, detect);
    return &machine;
}

const char *cnn_isa_name(enum cnn_isa isa)
{
    static const char *const names[] = {"base", "avx2", "avx512"};
    return names[isa];
}

#if defined(__x86_64__)
unsigned long cnn_float_enter(void)
{
    unsigned state = _mm_getcsr();
    if (state != 0x1f80)
        _mm_setcsr(0x1f80);
    return state;
}
void cnn_float_leave(unsigned long state) { _mm_setcsr((unsigned)state); }
#elif defined(__aarch64__)
unsigned long cnn_float_enter(void)
{
    unsigned long state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    __asm__ volatile("msr fpcr, %0" : : "r"(0ul));
    return state;
}
void cnn_float_leave(unsigned long state) { __asm__ volatile("msr fpcr, %0" : : "r"(state)); }
#else
unsigned long cnn_float_enter(void) { return 0; }
void cnn_float_leave(unsigned long state) { (void)state; }
#endif

double cnn_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
