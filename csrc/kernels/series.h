/* series.h: how the parts of a long reduction are added.
 *
 * A reduction over pixels is cut to parts by the shape alone, and some neighbouring parts are a series. Parts of a series are added in
 * order, then the series in order: threads that take whole series, or share one part after the other, do the same additions. */
#ifndef CNN_SERIES_H
#define CNN_SERIES_H

#include "../base/real.h"

/* series; parts of one, but for the last. */
struct series { long parts, length, count; };

/* At most 16 series, whose sums have at most 8 MB. */
ALWAYS_INLINE struct series cut_series(long parts, long sum_reals)
{
    const long most = max_long(1, min_long(16, (8L << 20) / max_long(1, sum_reals * (long)sizeof(real)))), length = max_long(1, divide_up(parts, most));
    return (struct series){parts, length, divide_up(parts, length)};
}

ALWAYS_INLINE long series_begin(struct series s, long number) { return number * s.length; }
ALWAYS_INLINE long series_end(struct series s, long number) { return min_long(s.parts, (number + 1) * s.length); }

/* Adds reals [first, last) of all series' sums, `apart` reals from one series to the next, to those of the first. */
ALWAYS_INLINE void join_series(struct series s, real *sums, long apart, long first, long last)
{
    for (long i = first; i < last; i += LANES) {
        vec sum = vec_load(sums + i);
        for (long number = 1; number < s.count; number++)
            sum = sum + vec_load(sums + number * apart + i);
        vec_store(sums + i, sum);
    }
}

#endif
