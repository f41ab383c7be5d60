/* real.h: the only file that knows what a variant is.
 *
 * Every file of kernels/ is compiled once per row of setup.py's variant table, each time with another CNN_DTYPE (f32, f64),
 * CNN_ISA (base, avx2, avx512) and CNN_VECTOR_BYTES, and names none of them: it computes in `real`, moves `vec` of LANES
 * reals, and calls itself FN(name). Compiled alone, without these definitions, a kernel file is the f32 base variant. */
#ifndef CNN_REAL_H
#define CNN_REAL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

#ifndef CNN_DTYPE
#define CNN_DTYPE f32
#endif
#ifndef CNN_DOUBLE
#define CNN_DOUBLE 0
#endif
#ifndef CNN_ISA
#define CNN_ISA base
#endif
#ifndef CNN_VECTOR_BYTES
#define CNN_VECTOR_BYTES 16
#endif

#define CNN_JOIN_(name, dtype, isa) name##_##dtype##_##isa
#define CNN_JOIN(name, dtype, isa) CNN_JOIN_(name, dtype, isa)
#define FN(name) CNN_JOIN(name, CNN_DTYPE, CNN_ISA)

#if CNN_DOUBLE
typedef double real;
typedef int64_t bits; /* an integer of real's width */
#define REAL(literal) literal
#else
typedef float real;
typedef int32_t bits;
#define REAL(literal) literal##f
#endif

/* Element-aligned and may-alias: a vec may be read from and written to any array of reals, at any position. */
typedef real vec __attribute__((vector_size(CNN_VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef bits mask __attribute__((vector_size(CNN_VECTOR_BYTES), aligned(sizeof(real)), may_alias));

enum { LANES = CNN_VECTOR_BYTES / (int)sizeof(real), LINE = 64 / (int)sizeof(real) /* reals of a cache line */ };

/* The register tile of the instruction set: rows x two vectors, with room for the two vectors of B and one of A. */
#if CNN_VECTOR_BYTES == 64 || defined(__aarch64__)
enum { TILE_ROWS = 14 }; /* 32 registers */
#else
enum { TILE_ROWS = 6 }; /* 16 registers */
#endif
enum { TILE_VECTORS = 2, TILE_WIDTH = TILE_VECTORS * LANES };

#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
/* Values in memory are read again after this point. */
#define RELOAD __asm__ volatile("" ::: "memory")

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE vec vec_load(const real *p) { return *(const vec *)p; }
ALWAYS_INLINE void vec_store(real *p, vec v) { *(vec *)p = v; }
ALWAYS_INLINE vec vec_fill(real value) { return value - (vec){0}; } /* -0 - 0 is -0 */

/* The multiply-add of the library. Contraction is on for every variant that has a fused multiply-add, so full tiles, edge
 * tiles and scalar remainders round alike. */
ALWAYS_INLINE vec vec_madd(vec a, vec b, vec c) { return a * b + c; }

/* The same of single reals. A plain sum of products in a loop is made into vectors whose products are rounded before they are added in order. */
#if (!defined(__FMA__) && !defined(__aarch64__)) || defined(CNN_WITHOUT_ASSEMBLY) /* builds that do not optimise do not fuse vec_madd either */
ALWAYS_INLINE real real_madd(real a, real b, real c) { return a * b + c; }
#elif CNN_DOUBLE
ALWAYS_INLINE real real_madd(real a, real b, real c) { return __builtin_fma(a, b, c); }
#else
ALWAYS_INLINE real real_madd(real a, real b, real c) { return __builtin_fmaf(a, b, c); }
#endif

/* The first product of a sum, whose arguments and value compilers do not see through: a plain one they fuse with the second instead, here and not there,
 * or share with the sum of another branch, whose product is rounded then. */
#ifdef __x86_64__
#define UNSEEN(v) __asm__("" : "+v"(v))
#elif defined(__aarch64__)
#define UNSEEN(v) __asm__("" : "+w"(v))
#else
#define UNSEEN(v) RELOAD
#endif
ALWAYS_INLINE vec vec_multiply(vec a, vec b)
{
    UNSEEN(a);
    vec product = a * b;
    UNSEEN(product);
    return product;
}
ALWAYS_INLINE real real_multiply(real a, real b)
{
    UNSEEN(a);
    real product = a * b;
    UNSEEN(product);
    return product;
}

/* Lane-wise m ? a : b. A vector `?:` is not C; clang makes one masked move of this form, gcc two operations. */
ALWAYS_INLINE vec vec_select(mask m, vec a, vec b) { return (vec)((m & (mask)a) | (~m & (mask)b)); }

/* Lane-wise a > b ? a : b and a < b ? a : b, so b where either is NaN or both are zero: what the instructions of x86-64 do. */
#if CNN_VECTOR_BYTES == 64 && defined(__AVX512F__)
#define CNN_EXTREME(name) CNN_EXTREME_(_mm512_##name##_, __m512)
#elif CNN_VECTOR_BYTES == 32 && defined(__AVX__)
#define CNN_EXTREME(name) CNN_EXTREME_(_mm256_##name##_, __m256)
#elif CNN_VECTOR_BYTES == 16 && defined(__SSE2__)
#define CNN_EXTREME(name) CNN_EXTREME_(_mm_##name##_, __m128)
#endif
#if defined(CNN_EXTREME) && CNN_DOUBLE
#define CNN_EXTREME_(function, type) (vec) function##pd((type##d)a, (type##d)b)
#elif defined(CNN_EXTREME)
#define CNN_EXTREME_(function, type) (vec) function##ps((type)a, (type)b)
#endif
#ifdef CNN_EXTREME
ALWAYS_INLINE vec vec_max(vec a, vec b) { return CNN_EXTREME(max); }
ALWAYS_INLINE vec vec_min(vec a, vec b) { return CNN_EXTREME(min); }
#else
ALWAYS_INLINE vec vec_max(vec a, vec b) { return vec_select(a > b, a, b); }
ALWAYS_INLINE vec vec_min(vec a, vec b) { return vec_select(a < b, a, b); }
#endif

/* The lanes whose bits are set; what lies at the others is not touched. Vectors of the language have no such moves. */
#if CNN_VECTOR_BYTES == 64 && defined(__AVX512F__)
#define CNN_HAS_MASKED_MOVES 1
#if CNN_DOUBLE
ALWAYS_INLINE vec vec_load_masked(const real *p, unsigned lanes) { return (vec)_mm512_maskz_loadu_pd((__mmask8)lanes, p); }
ALWAYS_INLINE void vec_store_masked(real *p, vec v, unsigned lanes) { _mm512_mask_storeu_pd(p, (__mmask8)lanes, (__m512d)v); }
#else
ALWAYS_INLINE vec vec_load_masked(const real *p, unsigned lanes) { return (vec)_mm512_maskz_loadu_ps((__mmask16)lanes, p); }
ALWAYS_INLINE void vec_store_masked(real *p, vec v, unsigned lanes) { _mm512_mask_storeu_ps(p, (__mmask16)lanes, (__m512)v); }
#endif
#else
#define CNN_HAS_MASKED_MOVES 0
#endif

/* p * 2^n, rounded once, of whole n. */
#if CNN_VECTOR_BYTES == 64 && defined(__AVX512F__)
#define CNN_HAS_SCALING 1
#if CNN_DOUBLE
ALWAYS_INLINE vec vec_times_power(vec p, vec n) { return (vec)_mm512_scalef_pd((__m512d)p, (__m512d)n); }
#else
ALWAYS_INLINE vec vec_times_power(vec p, vec n) { return (vec)_mm512_scalef_ps((__m512)p, (__m512)n); }
#endif
#else
#define CNN_HAS_SCALING 0
#endif

/* The lanes of v that `lane` names. */
#if defined(__AVX512F__) && CNN_VECTOR_BYTES == 64
#define CNN_HAS_PERMUTE 1
#define CNN_HAS_PERMUTE_TWO 1
#if CNN_DOUBLE
ALWAYS_INLINE vec vec_permute_two(vec v, vec w, mask lane) { return (vec)_mm512_permutex2var_pd((__m512d)v, (__m512i)lane, (__m512d)w); }
ALWAYS_INLINE vec vec_permute(vec v, mask lane) { return (vec)_mm512_permutexvar_pd((__m512i)lane, (__m512d)v); }
#else
ALWAYS_INLINE vec vec_permute_two(vec v, vec w, mask lane) { return (vec)_mm512_permutex2var_ps((__m512)v, (__m512i)lane, (__m512)w); }
ALWAYS_INLINE vec vec_permute(vec v, mask lane) { return (vec)_mm512_permutexvar_ps((__m512i)lane, (__m512)v); }
#endif
#elif defined(__AVX2__) && CNN_VECTOR_BYTES == 32 && !CNN_DOUBLE
#define CNN_HAS_PERMUTE 1
ALWAYS_INLINE vec vec_permute(vec v, mask lane) { return (vec)_mm256_permutevar8x32_ps((__m256)v, (__m256i)lane); }
#else
#define CNN_HAS_PERMUTE 0
ALWAYS_INLINE vec vec_permute(vec v, mask lane)
{
    vec to;
    for (int i = 0; i < LANES; i++)
        to[i] = v[lane[i]];
    return to;
}
#endif

/* Lanes of two vectors, those of w from LANES on. */
#ifndef CNN_HAS_PERMUTE_TWO
#define CNN_HAS_PERMUTE_TWO 0
ALWAYS_INLINE vec vec_permute_two(vec v, vec w, mask lane)
{
    vec to;
    for (int i = 0; i < LANES; i++)
        to[i] = lane[i] < LANES ? v[lane[i]] : w[lane[i] - LANES];
    return to;
}
#endif

/* The first n < LANES reals of p, zeros above; and their store. */
#if CNN_HAS_MASKED_MOVES
ALWAYS_INLINE vec vec_load_part(const real *p, long n) { return vec_load_masked(p, (1u << n) - 1); }
ALWAYS_INLINE void vec_store_part(real *p, vec v, long n) { vec_store_masked(p, v, (1u << n) - 1); }
#else
ALWAYS_INLINE vec vec_load_part(const real *p, long n)
{
    vec v = {0};
    for (long i = 0; i < n; i++)
        v[i] = p[i];
    return v;
}
ALWAYS_INLINE void vec_store_part(real *p, vec v, long n)
{
    for (long i = 0; i < n; i++)
        p[i] = v[i];
}
#endif

/* n lanes: all, or the first n. */
ALWAYS_INLINE vec vec_get(const real *p, long n) { return n == LANES ? vec_load(p) : vec_load_part(p, n); }
ALWAYS_INLINE void vec_put(real *p, vec v, long n)
{
    if (n == LANES)
        vec_store(p, v);
    else
        vec_store_part(p, v, n);
}

/* Stores past the caches where the processor can, p a multiple of a vector; another thread may read what is there after vec_stream_end. */
ALWAYS_INLINE void vec_stream(real *p, vec v)
{
#if CNN_VECTOR_BYTES == 64 && defined(__AVX512F__)
    _mm512_stream_si512((__m512i *)p, (__m512i)v);
#elif CNN_VECTOR_BYTES == 32 && defined(__AVX__)
    _mm256_stream_si256((__m256i *)p, (__m256i)v);
#else
    vec_store(p, v);
#endif
}
ALWAYS_INLINE void vec_stream_end(void)
{
#if CNN_VECTOR_BYTES >= 32 && defined(__AVX__)
    _mm_sfence();
#endif
}

ALWAYS_INLINE vec vec_sqrt(vec x)
{
    vec y;
    for (int i = 0; i < LANES; i++)
        y[i] = CNN_DOUBLE ? (real)__builtin_sqrt((double)x[i]) : (real)__builtin_sqrtf((float)x[i]);
    return y;
}

ALWAYS_INLINE long min_long(long a, long b) { return a < b ? a : b; }
ALWAYS_INLINE long max_long(long a, long b) { return a > b ? a : b; }
ALWAYS_INLINE long divide_up(long a, long b) { return (a + b - 1) / b; }
ALWAYS_INLINE long round_up(long a, long b) { return divide_up(a, b) * b; }

/* Room in scratch: whole cache lines. */
ALWAYS_INLINE size_t aligned(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* One worker's part of a scratch, with room behind it: the lines that the hardware fetches ahead of what one worker reads are not
 * those that the next one writes. */
enum { BETWEEN_WORKERS = 1024 };
ALWAYS_INLINE size_t spaced(size_t bytes) { return aligned(bytes) + BETWEEN_WORKERS; }
ALWAYS_INLINE long spaced_reals(long reals) { return (long)(spaced((size_t)reals * sizeof(real)) / sizeof(real)); }

#endif
