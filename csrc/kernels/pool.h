/* pool.h: which cells a pool's window has. */
#ifndef CNN_POOL_H
#define CNN_POOL_H

#include <limits.h>

#include "../base/parallel.h"
#include "../base/problem.h"
#include "../base/real.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

/* Which cell of its window was the largest, a byte an output: LANES of them, from and to memory. Compilers turn the plain conversions of vectors into
 * moves of single lanes. */
typedef uint8_t tap_bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

ALWAYS_INLINE mask taps_load(const uint8_t *tap)
{
#ifdef __AVX2__
    __m128i bytes = _mm_setzero_si128();
    __builtin_memcpy(&bytes, tap, LANES);
#if defined(__AVX512F__) && CNN_DOUBLE
    return (mask)_mm512_cvtepu8_epi64(bytes);
#elif defined(__AVX512F__)
    return (mask)_mm512_cvtepu8_epi32(bytes);
#elif CNN_DOUBLE
    return (mask)_mm256_cvtepu8_epi64(bytes);
#else
    return (mask)_mm256_cvtepu8_epi32(bytes);
#endif
#else
    return __builtin_convertvector(*(const tap_bytes *)tap, mask);
#endif
}

ALWAYS_INLINE void taps_store(uint8_t *tap, mask which)
{
#if defined(__AVX512F__) && CNN_DOUBLE
    const __m128i bytes = _mm512_cvtepi64_epi8((__m512i)which);
    __builtin_memcpy(tap, &bytes, LANES);
#elif defined(__AVX512F__)
    const __m128i bytes = _mm512_cvtepi32_epi8((__m512i)which);
    __builtin_memcpy(tap, &bytes, LANES);
#else
    *(tap_bytes *)tap = __builtin_convertvector(which, tap_bytes);
#endif
}

/* A later value wins where it is larger, or the first NaN: `numbers` are the lanes that have met none. Only one comparison waits for the last winner. */
ALWAYS_INLINE mask beats(vec x, vec best, mask *numbers)
{
    const mask better = ~(x <= best) & *numbers;
    *numbers &= x == x;
    return better;
}

/* dy where the cell's tap is `name`, else 0. */
ALWAYS_INLINE vec share_of(const real *dy, const uint8_t *tap, bits name)
{
#if CNN_VECTOR_BYTES == 64 && defined(__AVX512BW__) && defined(__AVX512VL__)
    __m128i bytes = _mm_setzero_si128();
    __builtin_memcpy(&bytes, tap, LANES);
    return vec_load_masked(dy, _mm_cmpeq_epi8_mask(bytes, _mm_set1_epi8((char)name)));
#else
    return (vec)((taps_load(tap) == (mask){0} + name) & (mask)vec_load(dy));
#endif
}

/* Taps of a window that lie inside the image, [begin, end), at output cell `cell` of axis a. */
struct range {
    long begin, end, first; /* first: input cell of tap 0, perhaps negative */
};
ALWAYS_INLINE struct range taps_inside(const struct cnn_pool *p, int a, long cell)
{
    if (p->adaptive) {
        const long first = cell * p->in[a] / p->out[a];
        return (struct range){0, divide_up((cell + 1) * p->in[a], p->out[a]) - first, first};
    }
    const long first = cell * p->stride[a] - p->before[a], d = p->dilation[a];
    struct range r = {.first = first};
    r.begin = first < 0 ? divide_up(-first, d) : 0;
    r.end = first < p->in[a] ? min_long(p->window[a], (p->in[a] - 1 - first) / d + 1) : 0;
    return r;
}

/* The average's divisor along one axis; axes multiply. */
ALWAYS_INLINE long divisor(const struct cnn_pool *p, int a, long cell)
{
    if (p->adaptive)
        return taps_inside(p, a, cell).end;
    const long first = cell * p->stride[a] - p->before[a], low = p->count_include_pad ? -p->before[a] : 0;
    const long high = p->count_include_pad ? p->in[a] + p->after[a] : p->in[a];
    return min_long(first + p->window[a], high) - max_long(first, low);
}

/* The windows, low to high, that may hold an input cell (dilation 1). */
ALWAYS_INLINE void windows_over(const struct cnn_pool *p, int a, long cell, long *low, long *high)
{
    if (p->adaptive) {
        *low = cell * p->out[a] / p->in[a];
        *high = min_long(p->out[a] - 1, divide_up((cell + 1) * p->out[a], p->in[a]) - 1);
        return;
    }
    const long reach = cell + p->before[a] - (p->window[a] - 1);
    *low = reach > 0 ? divide_up(reach, p->stride[a]) : 0;
    *high = min_long(p->out[a] - 1, (cell + p->before[a]) / p->stride[a]);
}


/* Of the taps that a byte can name: how far each lies from a window's first cell, and where in the window. Those that windows lack, which no forward
 * writes, lie at no cell. */
enum { ALL_TAPS = 256 };
struct tap_table {
    struct {
        long at;
        uint64_t place; /* d, h and w in fields of FIELD bits, whose highest is free */
    } tap[ALL_TAPS];
};
enum { FIELD = 16 };
#define FIELD_TOPS 0x800080008000ull

/* named: the window whose cells taps number, of which p->window is a part; cell: from a cell to its neighbour along each axis. */
ALWAYS_INLINE void fill_taps(const struct cnn_pool *p, const long *named, const long cell[3], struct tap_table *table)
{
    for (long t = 0; t < ALL_TAPS; t++)
        table->tap[t].at = LONG_MIN / 2, table->tap[t].place = 0;
    for (long i = 0; i < p->window[0]; i++)
        for (long j = 0; j < p->window[1]; j++)
            for (long k = 0; k < p->window[2]; k++) {
                const long t = (i * named[1] + j) * named[2] + k;
                if (t >= ALL_TAPS)
                    return;
                table->tap[t].at = i * p->dilation[0] * cell[0] + j * p->dilation[1] * cell[1] + k * p->dilation[2] * cell[2];
                table->tap[t].place = (uint64_t)(i | j << FIELD | k << 2 * FIELD);
            }
}

/* The taps of a window that lie inside, as fields: their first and last places along each axis. */
struct tap_bounds {
    uint64_t low, high;
};
ALWAYS_INLINE struct tap_bounds bounds_along(struct range r, int axis)
{
    const long none = (1 << (FIELD - 1)) - 1;
    return (struct tap_bounds){(uint64_t)(r.end > r.begin ? r.begin : none) << axis * FIELD, (uint64_t)(r.end > r.begin ? r.end - 1 : 0) << axis * FIELD};
}

ALWAYS_INLINE struct tap_bounds both_bounds(struct tap_bounds a, struct tap_bounds b) { return (struct tap_bounds){a.low | b.low, a.high | b.high}; }

/* Whether a place lies in all three ranges: no field of a difference borrows. */
ALWAYS_INLINE int tap_inside(uint64_t place, struct tap_bounds b) { return (((place | FIELD_TOPS) - b.low) & ((b.high | FIELD_TOPS) - place) & FIELD_TOPS) == FIELD_TOPS; }

enum { SHARE = 64 }; /* channels of an image whose gradients go back in one block */

/* Of the flat plane's cell i: where its channels begin. dense: cells follow each other at one distance. */
ALWAYS_INLINE long place_of(const struct cnn_pool *p, int dense, long i)
{
    return dense ? i * p->x[4] : i / p->in[2] / p->in[1] * p->x[2] + i / p->in[2] % p->in[1] * p->x[3] + i % p->in[2] * p->x[4];
}

ALWAYS_INLINE void zero_cells(const struct cnn_pool *p, int dense, long first, long last, long channels, real *image)
{
    if (dense && channels == p->x[4] && first < last)
        memset(image + first * channels, 0, (size_t)((last - first) * channels) * sizeof(real));
    else
        for (long i = first; i < last; i++)
            memset(image + place_of(p, dense, i), 0, (size_t)channels * sizeof(real));
}

/* Cells of a plane follow each other at one distance. */
ALWAYS_INLINE int dense_plane(const struct cnn_pool *p)
{
    return (p->in[1] == 1 || p->x[3] == p->in[2] * p->x[4]) && (p->in[0] == 1 || p->x[2] == p->in[1] * p->in[2] * p->x[4]);
}

/* The flat plane's cells before this one have got all that windows of output row (d, h) and earlier ones reach. */
ALWAYS_INLINE long reach_of(const struct cnn_pool *p, const struct range r[3])
{
    return ((r[0].first + (r[0].end - 1) * p->dilation[0]) * p->in[1] + r[1].first + (r[1].end - 1) * p->dilation[1] + 1) * p->in[2];
}

/* Where the cell that won stands. index[N][C][out], flat in the input's plane; or its number in the window at
 * tap[n * image + cell * apart + c * channel]. One of them, or none. */
struct winners {
    int64_t *index;
    uint8_t *tap;
    long image, apart, channel;
};

/* The same for every row: where the windows of an output row begin and end, and their divisors. */
struct column {
    struct range taps;
    long cells;
};

struct pool {
    const struct cnn_pool *p;
    const real *x;
    real *y;
    struct winners won;
    const struct column *columns;
    real *scratch; /* of averages: two rows a worker */
};

ALWAYS_INLINE size_t columns_bytes(const struct cnn_pool *p) { return (size_t)round_up(p->out[2] * (long)sizeof(struct column), 64); }

ALWAYS_INLINE struct pool start_pool(const struct cnn_pool *p, const real *x, real *y, struct winners won, char *scratch)
{
    struct column *columns = (struct column *)scratch;
    for (long w = 0; w < p->out[2]; w++)
        columns[w] = (struct column){taps_inside(p, 2, w), divisor(p, 2, w)};
    return (struct pool){p, x, y, won, columns, (real *)(scratch + columns_bytes(p))};
}

ALWAYS_INLINE long rows_of(const struct cnn_pool *p, const long cells[3]) { return p->n * cells[0] * cells[1]; }
ALWAYS_INLINE double work_of_pool(const struct cnn_pool *p)
{
    return (double)(p->n * p->c) * (double)(p->out[0] * p->out[1] * p->out[2]) * (double)(p->window[0] * p->window[1] * p->window[2]) * 0.3;
}

/* A pool, or its gradient, over channels that are neighbours in memory, and its scratch. */
typedef void pool_function(const struct cnn_pool *p, const real *from, real *to, struct winners won, struct cnn_run *run);
typedef size_t pool_scratch_function(const struct cnn_pool *p, int workers);

/* Averages over channels that are neighbours. */
size_t FN(average_scratch)(const struct cnn_pool *p, int workers);
void FN(average_forward)(const struct cnn_pool *p, const real *x, real *y, struct winners won, struct cnn_run *run);
void FN(average_backward)(const struct cnn_pool *p, const real *dy, real *dx, struct winners won, struct cnn_run *run);

/* Gradients of maxima from taps, over channels that are neighbours. */
size_t FN(taps_scratch)(const struct cnn_pool *p, int workers);
void FN(taps_backward)(const struct cnn_pool *p, const real *dy, real *dx, struct winners won, struct cnn_run *run);

/* Averages over whole planes, for any memory order; without scratch. */
int FN(whole_planes)(const struct cnn_pool *p);
void FN(average_whole)(const struct cnn_pool *p, const real *x, real *y, struct cnn_run *run);

/* A way of computing: which problems it takes, how; up to how many channels it takes also where these are neighbours. */
struct pool_way {
    int (*takes)(const struct cnn_pool *p);
    pool_scratch_function *scratch;
    pool_function *run;
    long neighbours;
};

/* Of images whose rows are contiguous. */
extern const struct pool_way FN(max_of_rows), FN(max_of_rows_back), FN(average_of_rows), FN(average_of_rows_back);

/* Runs a pool for any memory order: by rows where that way, which may be NULL, takes it, else over channels. from_input: x to y, else dy to dx. */
struct pool_ways {
    const struct pool_way *rows;
    pool_scratch_function *scratch;
    pool_function *run;
    int from_input;
};
size_t FN(pool_scratch)(const struct cnn_pool *p, struct pool_ways ways, int workers);
void FN(pool_run)(const struct cnn_pool *p, struct pool_ways ways, const real *from, real *to, struct winners won, struct cnn_run *run);

#endif
