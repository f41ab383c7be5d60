/* norm.h: what normalisation by rows and by channels share. */
#ifndef CNN_NORM_H
#define CNN_NORM_H

#include "../base/real.h"

/* Mean and M2 (sum of squared deviations) of what was seen so far. */
struct moments {
    double count, mean, m2;
};

ALWAYS_INLINE void merge(struct moments *all, double count, double mean, double m2)
{
    const double total = all->count + count, away = mean - all->mean;
    if (count == 0)
        return;
    all->mean += away * (count / total);
    all->m2 += m2 + away * away * (all->count * count / total);
    all->count = total;
}

ALWAYS_INLINE double sum_lanes(vec v)
{
    double sum = 0;
    for (int i = 0; i < LANES; i++)
        sum += (double)v[i];
    return sum;
}

#endif
