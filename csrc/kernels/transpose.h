/* transpose.h: moves between lanes: LANES vectors seen as a square, rows become columns; and reals that lie apart. */
#ifndef CNN_TRANSPOSE_H
#define CNN_TRANSPOSE_H

#include "../base/real.h"

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define CNN_HAS_TRANSPOSE 1
#endif
#endif
#ifndef CNN_HAS_TRANSPOSE
#define CNN_HAS_TRANSPOSE 0
#endif

#if CNN_HAS_TRANSPOSE
/* The lower and upper halves of two vectors, element by element in turn. */
#if CNN_VECTOR_BYTES == 64 && !CNN_DOUBLE
#define LOWER_INDICES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define UPPER_INDICES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif CNN_VECTOR_BYTES == 64 || (CNN_VECTOR_BYTES == 32 && !CNN_DOUBLE)
#define LOWER_INDICES 0, 8, 1, 9, 2, 10, 3, 11
#define UPPER_INDICES 4, 12, 5, 13, 6, 14, 7, 15
#elif CNN_VECTOR_BYTES == 32 || !CNN_DOUBLE
#define LOWER_INDICES 0, 4, 1, 5
#define UPPER_INDICES 2, 6, 3, 7
#else
#define LOWER_INDICES 0, 2
#define UPPER_INDICES 1, 3
#endif

/* Every other real of two vectors, one behind the other. */
#if CNN_VECTOR_BYTES == 64 && !CNN_DOUBLE
#define EVEN_INDICES 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD_INDICES 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif CNN_VECTOR_BYTES == 64 || (CNN_VECTOR_BYTES == 32 && !CNN_DOUBLE)
#define EVEN_INDICES 0, 2, 4, 6, 8, 10, 12, 14
#define ODD_INDICES 1, 3, 5, 7, 9, 11, 13, 15
#elif CNN_VECTOR_BYTES == 32 || !CNN_DOUBLE
#define EVEN_INDICES 0, 2, 4, 6
#define ODD_INDICES 1, 3, 5, 7
#else
#define EVEN_INDICES 0, 2
#define ODD_INDICES 1, 3
#endif

/* Of two vectors, the second of which begins one real before the first one's end: every other real of the run. */
#if CNN_VECTOR_BYTES == 64 && !CNN_DOUBLE
#define EVEN_ODD_INDICES 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31
#elif CNN_VECTOR_BYTES == 64 || (CNN_VECTOR_BYTES == 32 && !CNN_DOUBLE)
#define EVEN_ODD_INDICES 0, 2, 4, 6, 9, 11, 13, 15
#elif CNN_VECTOR_BYTES == 32 || !CNN_DOUBLE
#define EVEN_ODD_INDICES 0, 2, 5, 7
#else
#define EVEN_ODD_INDICES 0, 3
#endif

/* The halves of a vector, swapped. */
#if CNN_VECTOR_BYTES == 64 && !CNN_DOUBLE
#define SWAPPED_INDICES 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7
#elif CNN_VECTOR_BYTES == 64 || (CNN_VECTOR_BYTES == 32 && !CNN_DOUBLE)
#define SWAPPED_INDICES 4, 5, 6, 7, 0, 1, 2, 3
#elif CNN_VECTOR_BYTES == 32 || !CNN_DOUBLE
#define SWAPPED_INDICES 2, 3, 0, 1
#else
#define SWAPPED_INDICES 1, 0
#endif
ALWAYS_INLINE vec even_odd(vec a, vec b) { return __builtin_shufflevector(a, b, EVEN_ODD_INDICES); }

/* Of two vectors: reals in turn, and pairs of them, from the lower or upper halves of every 16 bytes; and every other 16 bytes. These stay within 16
 * bytes or move them whole, which costs processors least. */
#if CNN_VECTOR_BYTES == 64 && !CNN_DOUBLE
#define LOW_REALS 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define HIGH_REALS 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define LOW_PAIRS 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define HIGH_PAIRS 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define EVEN_PARTS 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27
#define ODD_PARTS 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31
#elif CNN_VECTOR_BYTES == 64
#define LOW_REALS 0, 8, 2, 10, 4, 12, 6, 14
#define HIGH_REALS 1, 9, 3, 11, 5, 13, 7, 15
#define EVEN_PARTS 0, 1, 4, 5, 8, 9, 12, 13
#define ODD_PARTS 2, 3, 6, 7, 10, 11, 14, 15
#elif CNN_VECTOR_BYTES == 32 && !CNN_DOUBLE
#define LOW_REALS 0, 8, 1, 9, 4, 12, 5, 13
#define HIGH_REALS 2, 10, 3, 11, 6, 14, 7, 15
#define LOW_PAIRS 0, 1, 8, 9, 4, 5, 12, 13
#define HIGH_PAIRS 2, 3, 10, 11, 6, 7, 14, 15
#define EVEN_PARTS 0, 1, 2, 3, 8, 9, 10, 11
#define ODD_PARTS 4, 5, 6, 7, 12, 13, 14, 15
#elif CNN_VECTOR_BYTES == 32
#define LOW_REALS 0, 4, 2, 6
#define HIGH_REALS 1, 5, 3, 7
#define EVEN_PARTS 0, 1, 4, 5
#define ODD_PARTS 2, 3, 6, 7
#elif !CNN_DOUBLE
#define LOW_REALS LOWER_INDICES
#define HIGH_REALS UPPER_INDICES
#define LOW_PAIRS 0, 1, 4, 5
#define HIGH_PAIRS 2, 3, 6, 7
#else
#define LOW_REALS LOWER_INDICES
#define HIGH_REALS UPPER_INDICES
#endif

/* Squares within 16 bytes first, then the square of those squares. */
ALWAYS_INLINE void transpose(vec v[LANES])
{
    enum { PART = 16 / (int)sizeof(real), PARTS = LANES / PART };
    vec next[LANES];
    UNROLL for (int i = 0; i < LANES; i += 2) {
        next[i] = __builtin_shufflevector(v[i], v[i + 1], LOW_REALS);
        next[i + 1] = __builtin_shufflevector(v[i], v[i + 1], HIGH_REALS);
    }
#if CNN_DOUBLE
    UNROLL for (int i = 0; i < LANES; i++)
        v[i] = next[i];
#else
    UNROLL for (int i = 0; i < LANES; i += 4)
        UNROLL for (int j = 0; j < 2; j++) {
            v[i + 2 * j] = __builtin_shufflevector(next[i + j], next[i + 2 + j], LOW_PAIRS);
            v[i + 2 * j + 1] = __builtin_shufflevector(next[i + j], next[i + 2 + j], HIGH_PAIRS);
        }
#endif
    /* now part p of vector PART * g + k is column PART * p + k of the rows from PART * g on */
#if CNN_VECTOR_BYTES > 16
    UNROLL for (int round = PARTS; round > 1; round /= 2) {
        UNROLL for (int i = 0; i < LANES / 2; i++) {
            const int at = i / PART * 2 * PART + i % PART;
            next[i] = __builtin_shufflevector(v[at], v[at + PART], EVEN_PARTS);
            next[LANES / 2 + i] = __builtin_shufflevector(v[at], v[at + PART], ODD_PARTS);
        }
        UNROLL for (int i = 0; i < LANES; i++)
            v[i] = next[i];
    }
#endif
}

/* Columns of LANES / 2 rows one behind the other: vector i gets column 2i, then column 2i + 1. */
ALWAYS_INLINE void transpose_pairs(vec v[LANES / 2])
{
    UNROLL for (int width = 1; width < LANES / 2; width *= 2) {
        vec next[LANES / 2];
        UNROLL for (int i = 0; i < LANES / 4; i++) {
            next[2 * i] = __builtin_shufflevector(v[i], v[i + LANES / 4], LOWER_INDICES);
            next[2 * i + 1] = __builtin_shufflevector(v[i], v[i + LANES / 4], UPPER_INDICES);
        }
        UNROLL for (int i = 0; i < LANES / 2; i++)
            v[i] = next[i];
    }
}

/* The first half of the rows of the transpose, which half of the shuffles give. */
ALWAYS_INLINE void transpose_half(vec v[LANES])
{
    UNROLL for (int i = 0; i < LANES / 2; i++)
        v[i] = __builtin_shufflevector(v[i], v[i + LANES / 2], LOWER_INDICES);
    transpose_pairs(v);
}
#else
ALWAYS_INLINE void transpose_half(vec v[LANES])
{
    for (int i = 0; i < LANES / 2; i++) {
        const vec row = v[i];
        for (int j = 0; j < LANES; j++)
            if (j > i)
                v[i][j] = v[j][i], v[j][i] = row[j];
    }
}

ALWAYS_INLINE void transpose(vec v[LANES])
{
    for (int i = 0; i < LANES; i++)
        for (int j = i + 1; j < LANES; j++) {
            const real a = v[i][j];
            v[i][j] = v[j][i];
            v[j][i] = a;
        }
}
#endif

/* The first n reals of v to every other real of p. Those between may be written by nobody else now; behind the last one nothing is touched. */
ALWAYS_INLINE void vec_store_every_other(real *p, vec v, long n)
{
#if CNN_HAS_TRANSPOSE && CNN_HAS_MASKED_MOVES
    const unsigned some = (unsigned)((UINT64_C(1) << 2 * n) - 1) & 0x55555555u; /* two bits a real */
    vec_store_masked(p, __builtin_shufflevector(v, v, LOWER_INDICES), some);
    vec_store_masked(p + LANES, __builtin_shufflevector(v, v, UPPER_INDICES), some >> LANES);
#else
#if CNN_HAS_TRANSPOSE
    if (n == LANES) {
        mask even;
        for (int i = 0; i < LANES; i++)
            even[i] = i % 2 ? 0 : -1;
        const vec low = vec_load(p), high = vec_load(p + LANES - 1); /* they share a neighbour */
        vec_store(p, vec_select(even, __builtin_shufflevector(v, v, LOWER_INDICES), low));
        vec_store(p + LANES - 1, vec_select(even, high, __builtin_shufflevector(v, v, UPPER_INDICES)));
        return;
    }
#endif
    for (long i = 0; i < n; i++)
        p[2 * i] = v[i];
#endif
}

#if CNN_HAS_TRANSPOSE
/* a[0], b[0], a[1], b[1] ...: n reals of each. */
ALWAYS_INLINE void vec_put_alternating(real *p, vec a, vec b, long n)
{
    vec_put(p, __builtin_shufflevector(a, b, LOWER_INDICES), min_long(LANES, 2 * n));
    if (2 * n > LANES)
        vec_put(p + LANES, __builtin_shufflevector(a, b, UPPER_INDICES), 2 * n - LANES);
}
#else
ALWAYS_INLINE void vec_put_alternating(real *p, vec a, vec b, long n)
{
    for (long i = 0; i < n; i++)
        p[2 * i] = a[i], p[2 * i + 1] = b[i];
}
#endif

/* LANES reals, `step` apart. Nothing beyond the last one is read. */
ALWAYS_INLINE vec vec_load_apart(const real *p, const long step)
{
    if (step == 1)
        return vec_load(p);
#if CNN_HAS_TRANSPOSE
    if (step == 2)
        return even_odd(vec_load(p), vec_load(p + LANES - 1));
    if (step == 4)
        return even_odd(even_odd(vec_load(p), vec_load(p + LANES - 1)), even_odd(vec_load(p + 2 * LANES - 2), vec_load(p + 3 * LANES - 3)));
#endif
    vec v;
    UNROLL for (int i = 0; i < LANES; i++)
        v[i] = p[i * step];
    return v;
}

#endif
