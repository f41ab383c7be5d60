/* winograd_choice.c: which convolutions Winograd's algorithm knows, and for which it is faster than the direct sum. */
#include "winograd.h"
#include "winograd_tiles.h"

int FN(winograd_fits)(const struct windows *w)
{
    if ((w->taps[1] != 3 && w->taps[1] != 1) || w->taps[2] != 3 || w->step[1] != 1 || w->step[2] != 1 || w->spread[1] > CNN_MOST_SPREAD || w->spread[2] > CNN_MOST_SPREAD)
        return 0;
    return (w->taps[0] == 1 || (w->taps[0] > 1 && w->channels % CNN_WHOLE_CHANNELS == 0)) && (w->spread[1] * w->spread[2] == 1 || w->mode == CNN_ZEROS);
}

/* Operations of F(m x m, 3 x 3) with its transforms, in direct multiply-adds that take as long. Constants: measured rates. */
static double cost(int m, const struct windows *w, long filters)
{
    const int flat = w->taps[1] == 1;
    const double points = flat ? m + 2 : (m + 2) * (m + 2), c = (double)(w->channels * w->taps[0]), k = (double)filters;
    double tiles = (double)(w->images * w->out[0]);
    for (int a = 1; a < 3; a++)
        tiles *= (double)(w->spread[a] * divide_up(divide_up(w->out[a], w->spread[a]), a == 1 && flat ? 1 : m));
    const double group = tiles < 112 ? tiles : 112, transforms = flat ? 10 / k + 6 / c : 5 / k + 2.5 / c;
    return points * tiles * c * k * (1 + transforms + 2.2 / group) / 0.82;
}

static int choose(const struct windows *w, long filters, int algorithm)
{
    if (algorithm == CNN_DIRECT || !FN(winograd_fits)(w))
        return 0;
    const double cells = (double)(w->images * w->out[0] * w->out[1] * w->out[2]);
    const double four = cost(4, w, filters), two = cost(2, w, filters), direct = cells * (double)(w->channels * w->taps[0] * w->taps[1] * w->taps[2]) * (double)filters / 0.92;
    const int better = two < four ? 2 : 4;
    if (algorithm == CNN_WINOGRAD)
        return better;
    if (sizeof(real) == 8 || w->channels < 16 || filters < 16 || (w->taps[1] == 1 && w->spread[2] > 1))
        return 0; /* the maps of a single row with gaps are copied cell by cell where pixels are far apart */
    return (better == 2 ? two : four) < 0.9 * direct ? better : 0;
}

int FN(winograd_tile)(const struct product *p) { return choose(&p->in, p->filters, p->algorithm); }

int FN(winograd_weight_tile)(const struct cnn_conv *p)
{
    const struct windows w = FN(conv_windows)(p);
    return choose(&w, p->k / p->groups, p->algorithm);
}
