/* winograd_choice.c: which convolutions Winograd's algorithms know, and for which they are faster than the direct sum. */
#include "winograd.h"
#include "winograd_tiles.h"

/* Whether windows of a plane are `taps` in a square, or in one row, a step of `step` apart. */
static int has_taps(const struct windows *w, long taps, long step)
{
    return w->taps[2] == taps && (w->taps[1] == taps || w->taps[1] == 1) && w->step[2] == step && w->step[1] == (w->taps[1] == 1 ? 1 : step);
}

int FN(winograd_fits)(const struct windows *w)
{
    const int strided = w->step[2] == 2;
    if (!(has_taps(w, 3, 1) || has_taps(w, 2, 1) || has_taps(w, 5, 1) || has_taps(w, 3, 2) || has_taps(w, 4, 2)))
        return 0;
    if (w->spread[1] > (strided ? 1 : CNN_MOST_SPREAD) || w->spread[2] > (strided ? 1 : CNN_MOST_SPREAD))
        return 0;
    return (w->taps[0] == 1 || (w->taps[0] > 1 && w->channels % CNN_WHOLE_CHANNELS == 0)) && (w->spread[1] * w->spread[2] == 1 || w->mode == CNN_ZEROS);
}

/* Operations with the transforms, in direct multiply-adds that take as long. Constants: measured rates. */
static double cost(enum kind kind, const struct windows *w, long filters)
{
    const struct scheme scheme = scheme_of(kind);
    const int flat = w->taps[1] == 1;
    const double n = scheme.points, points = flat ? n : n * n, c = (double)(w->channels * w->taps[0]), k = (double)filters;
    double tiles = (double)(w->images * w->out[0]);
    for (int a = 1; a < 3; a++)
        tiles *= (double)(w->spread[a] * divide_up(divide_up(w->out[a], w->spread[a]), a == 1 && flat ? 1 : scheme.outputs));
    const double back = (flat ? 6 : 2.5) * (flat ? 1.0 * scheme.sums / n : scheme.sums * scheme.sums / (n * n));
    const double group = tiles < 112 ? tiles : 112, transforms = (flat ? 10 : 5) / k + back / c;
    return points * tiles * c * k * (1 + transforms + 2.2 / group) / 0.82;
}

/* Of two kinds the cheaper one, or the direct sum. */
static enum kind choose(const struct windows *w, long filters, int algorithm)
{
    if (algorithm == CNN_DIRECT || !FN(winograd_fits)(w))
        return NO_WINOGRAD;
    const int strided = w->step[2] == 2, three = w->taps[2] == 3;
    const enum kind other_taps = w->taps[2] == 5 ? F2_5 : F3_2;
    const enum kind large = strided ? (three ? F2_3_STRIDED : F3_4_STRIDED) : three ? F4_3 : other_taps, small = strided || !three ? large : F2_3;
    const double cells = (double)(w->images * w->out[0] * w->out[1] * w->out[2]), taps = (double)(w->taps[0] * w->taps[1] * w->taps[2]);
    const double direct = cells * (double)w->channels * taps * (double)filters / 0.92, least = cost(large, w, filters), other = cost(small, w, filters);
    const enum kind better = other < least ? small : large;
    if (algorithm == CNN_WINOGRAD)
        return better;
    if (sizeof(real) == 8 || w->channels < 16 || filters < 16 || (w->taps[1] == 1 && w->spread[2] > 1))
        return NO_WINOGRAD; /* the maps of a single row with gaps are copied cell by cell where pixels are far apart */
    return (other < least ? other : least) < 0.92 * direct ? better : NO_WINOGRAD;
}

int FN(winograd_kind)(const struct product *p)
{
    const struct windows *w = &p->in;
    const enum kind kind = choose(w, p->filters, p->algorithm);
    const int few = w->channels < 32 && w->images * w->out[0] * w->out[1] * w->out[2] < 2048; /* of 5 x 5 the direct sum is 10 % faster then */
    return kind == F2_5 && few && p->algorithm != CNN_WINOGRAD ? NO_WINOGRAD : kind;
}

/* The way back to 5 x 5 taps enlarges rounding errors most. Of fewer outputs than these the direct sum has an error less than a quarter as large: measured. */
enum { LEAST_OF_FIVE = 1536 };

int FN(winograd_weight_kind)(const struct cnn_conv *p)
{
    const struct windows w = FN(conv_windows)(p);
    const double outputs = (double)(p->n * p->out[0]) * (double)(p->out[1] * p->out[2]);
    if ((w.taps[2] != 3 && w.taps[2] != 5) || w.step[2] != 1 || (w.taps[1] == 5 && outputs < LEAST_OF_FIVE))
        return NO_WINOGRAD;
    return choose(&w, p->k / p->groups, p->algorithm);
}
