/* series.h: how the parts of a long reduction are added.
 *
 * A reduction over pixels is cut to parts by the shape alone, and some neighbouring parts are a series. Parts of a series are added in
 * order, then the series in order: threads that take whole series, or share one part after the other, do the same additions. */
#ifndef CNN_SERIES_H
#define CNN_SERIES_H

#include "../base/real.h"

/* length: parts of the longest series. */
struct series { long parts, count, length; };

/* At most 16 series, whose sums have at most `most` bytes. */
ALWAYS_INLINE struct series cut_series(long parts, long sum_reals, long most)
{
    const long room = most / max_long(1, sum_reals * (long)sizeof(real)), count = max_long(1, min_long(min_long(parts, 16), room));
    return (struct series){parts, count, divide_up(parts, count)};
}

ALWAYS_INLINE long series_begin(struct series s, long number) { return number * s.parts / s.count; }
ALWAYS_INLINE long series_end(struct series s, long number) { return series_begin(s, number + 1); }
ALWAYS_INLINE long series_of(struct series s, long part) { return ((part + 1) * s.count - 1) / s.parts; }

/* Whether threads that take whole series all have work nearly to the end. */
ALWAYS_INLINE int enough_series(struct series s, int workers)
{
    const long longest = divide_up(divide_up(s.count, workers) * s.parts, s.count); /* parts of one thread */
    return s.count > 1 && s.parts * 20 >= workers * longest * 17;
}

/* Adds reals [first, last) of all series' sums, `apart` reals from one series to the next, to those of the first. */
ALWAYS_INLINE void join_series(struct series s, real *sums, long apart, long first, long last)
{
    for (long i = first; i + LANES <= last; i += LANES) {
        vec sum = vec_load(sums + i);
        for (long number = 1; number < s.count; number++)
            sum = sum + vec_load(sums + number * apart + i);
        vec_store(sums + i, sum);
    }
    for (long i = last - (last - first) % LANES; i < last; i++)
        for (long number = 1; number < s.count; number++)
            sums[i] = sums[i] + sums[number * apart + i];
}

#endif
