/* pack.c: weights of a product in the order in which a tile reads them, and their gradients back in the caller's. */
#include "product.h"
#include "transpose.h"

/* Whether the taps are neighbours in memory, in scan order (direction 1) or against it (-1). An axis of one tap has any stride. */
static int run_of_taps(const long t[3], const long w[5], long direction)
{
    return (t[2] == 1 || w[4] == direction) && (t[1] == 1 || w[3] == direction * t[2]) && (t[0] == 1 || w[2] == direction * t[1] * t[2]);
}

/* The two common orders of weights are packed in squares of LANES filters. `to`: the chunk's part of the panel, [tap][channel][width];
 * `from`: its first filter and channel; `behind`: filters from there to the group's end. Only whole groups of LANES filters; returns how many filters are done. */
static long pack_squares(const struct product *p, const real *from, long channels, long valid, long behind, long width, real *to)
{
    const long *t = p->in.taps, taps = t[0] * t[1] * t[2];
    const int forward = run_of_taps(t, p->w, 1) && p->w[1] == taps;
    const int backward = run_of_taps(t, p->w, -1) && p->w[0] == taps && taps <= LANES && taps > 1;
    long j = 0;
    if (forward) /* a filter's channels and taps are one run */
        for (; j + LANES <= valid; j += LANES) {
            const long run = channels * taps;
            long c = 0, tap = 0;
            for (long u = 0; u < run; u += LANES) {
                vec v[LANES];
                const long count = min_long(LANES, run - u);
                for (int i = 0; i < LANES; i++) /* LANES streams are more than the hardware follows */
                    __builtin_prefetch(from + (j + i) * p->w[0] + min_long(u + 8 * LANES, run - 1));
                for (int i = 0; i < LANES; i++)
                    v[i] = count == LANES ? vec_load(from + (j + i) * p->w[0] + u) : vec_load_part(from + (j + i) * p->w[0] + u, count);
                transpose(v);
                for (long i = 0; i < count; i++) {
                    vec_store(to + (tap * channels + c) * width + j, v[i]);
                    if (++tap == taps)
                        tap = 0, c++;
                }
            }
        }
    else if (backward) /* a channel's filters and taps are one run, the taps backwards */
        for (; j + LANES <= valid; j += LANES)
            for (long c = 0; c < channels; c++) {
                vec v[LANES];
                const real *row = from + c * p->w[1] + j * taps - (taps - 1), *later = row + (min_long(c + 4, channels - 1) - c) * p->w[1];
                for (int i = 0; i < (int)taps; i++) /* rows are far apart: the hardware does not see them coming */
                    __builtin_prefetch(later + i * LANES);
                /* A vector reaches beyond its taps, but never beyond the run: behind the last one may be no memory. */
                const long run = (behind - j) * taps;
                for (int i = 0; i < LANES; i++)
                    v[i] = i * taps + LANES <= run ? vec_load(row + i * taps) : vec_load_part(row + i * taps, taps);
                transpose(v);
                for (long i = 0; i < taps; i++)
                    vec_store(to + ((taps - 1 - i) * channels + c) * width + j, v[i]);
            }
    return j;
}

void FN(pack_weights)(const struct product *p, const real *w, long group, long panel, long c0, long channels, real *to)
{
    const long width = panel_width(p, panel), valid = min_long(width, p->filters - panel * TILE_WIDTH), dc = p->w[1];
    const real *from = w + group * p->w_group + panel * TILE_WIDTH * p->w[0] + c0 * dc;
    const long done = pack_squares(p, from, channels, valid, p->filters - panel * TILE_WIDTH, width, to);
    if (done == width)
        return;
    for (long d = 0; d < p->in.taps[0]; d++)
        for (long h = 0; h < p->in.taps[1]; h++)
            for (long r = 0; r < p->in.taps[2]; r++, to += channels * width) {
                const real *tap = from + d * p->w[2] + h * p->w[3] + r * p->w[4];
                if (p->w[0] == 1 && valid == width) {
                    for (long c = 0; c < channels; c++)
                        for (long j = 0; j < width; j += LANES)
                            vec_store(to + c * width + j, vec_load(tap + c * dc + j));
                    continue;
                }
                for (long c = 0; valid < width && c < channels; c++)
                    for (long j = valid; j < width; j++)
                        to[c * width + j] = 0;
                for (long b = 0; b < channels; b += 32) { /* short runs: source lines are used up before they leave */
                    const long end = min_long(channels, b + 32);
                    for (long j = done; j < valid; j++)
                        for (long c = b; c < end; c++)
                            to[c * width + j] = tap[j * p->w[0] + c * dc];
                }
            }
}

void FN(unpack_weights)(const struct cnn_conv *p, long group, long panel, long c0, long channels, const real *from, long taps_run, real *dw)
{
    const long filters = p->k / p->groups, *window = p->window;
    const long width = filters - panel * TILE_WIDTH > LANES ? TILE_WIDTH : LANES, valid = min_long(width, filters - panel * TILE_WIDTH);
    const long all = window[0] * window[1] * window[2], rows = taps_run * channels;
    long done = 0, tap = 0;
    dw += (group * filters + panel * TILE_WIDTH) * p->w[0] + c0 * p->w[1];
    /* The common order: a filter's channels and taps are one run. Squares of LANES filters and LANES reals of their runs. */
    enum { MOST = 512 };
    if (from && all <= MOST && run_of_taps(window, p->w, 1) && p->w[1] == all) {
        long offset[MOST]; /* of the taps */
        for (long t = 0; t < all; t++)
            offset[t] = (t / taps_run * rows + t % taps_run * channels) * width;
        for (; done + LANES <= valid; done += LANES) {
            const long run = channels * all;
            const real *channel = from + done;
            for (long u = 0, t = 0; u < run; u += LANES) {
                vec v[LANES];
                const long count = min_long(LANES, run - u);
                for (int i = 0; i < LANES; i++) {
                    v[i] = i < count ? vec_load(channel + offset[t]) : (vec){0};
                    if (++t == all)
                        t = 0, channel += i < count ? width : 0;
                }
                transpose(v);
                for (int i = 0; i < LANES; i++) {
                    real *to = dw + (done + i) * p->w[0] + u;
                    if (count == LANES)
                        vec_store(to, v[i]);
                    else
                        vec_store_part(to, v[i], count);
                }
            }
        }
    }
    for (long d = 0; d < window[0]; d++)
        for (long h = 0; h < window[1]; h++, tap += window[2] / taps_run)
            for (long r = 0; r < window[2]; r++) {
                const real *sums = from + ((tap + r / taps_run) * rows + r % taps_run * channels) * width;
                real *to = dw + d * p->w[2] + h * p->w[3] + r * p->w[4];
                for (long b = 0; b < channels; b += 32) /* short runs: lines of the sums are used up before they leave */
                    for (long j = done; j < valid; j++)
                        for (long c = b; c < min_long(channels, b + 32); c++)
                            to[j * p->w[0] + c * p->w[1]] = from ? sums[c * width + j] : 0;
            }
}

/* ---- for any number of calls ---- */

size_t FN(product_packed)(const struct product *p)
{
    const struct windows *w = &p->in;
    return (size_t)(p->groups * divide_up(p->filters, TILE_WIDTH) * w->taps[0] * w->taps[1] * w->taps[2] * w->channels * TILE_WIDTH) * sizeof(real);
}

struct packing {
    const struct product *p;
    const real *w;
    real *to;
    long panels, panel_size;
};

static void pack_block(void *context, long block, int worker)
{
    (void)worker;
    const struct packing *s = context;
    const struct windows *w = &s->p->in;
    const long panel = block % s->panels, width = panel_width(s->p, panel), taps = w->taps[0] * w->taps[1] * w->taps[2];
    for (long c0 = 0; c0 < w->channels; c0 += CHUNK)
        FN(pack_weights)(s->p, s->w, block / s->panels, panel, c0, min_long(CHUNK, w->channels - c0), s->to + block * s->panel_size + c0 * taps * width);
}

void FN(product_pack)(const struct product *p, const real *w, real *packed, struct cnn_run *run)
{
    struct packing s = {.p = p, .w = w, .to = packed, .panels = divide_up(p->filters, TILE_WIDTH)};
    s.panel_size = p->in.taps[0] * p->in.taps[1] * p->in.taps[2] * p->in.channels * TILE_WIDTH;
    cnn_parallel_for(run, p->groups * s.panels, (double)(p->groups * s.panels * s.panel_size), pack_block, &s);
}
