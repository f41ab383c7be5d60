/* winograd_weight.c: the gradient of 3 x 3 weights by Winograd's F(3 x 3, 4 x 4) and F(3 x 3, 2 x 2).
 *
 *     V[point][tile][c] = B' d B of the input, D[point][tile][k] = G g G' of the gradient of the result
 *     M[point][c][k]    = sum over tiles of V[point][tile][c] * D[point][tile][k]
 *     dw                = A' M A, once for a part of 256 tiles; the parts are added in order
 *
 * Two schedules with the same sums in the same order. Where M is small a block is a whole part: V and D of some tiles at a time
 * and all of M lie in its second-level cache. Else a part's V and D lie in the third-level cache for as many channels and
 * filters as fit; an item, some rows of tiles of M times some panels of filters, has its M in the second-level cache for all
 * points, so that the way back costs no traffic. The larger an item, the less often V and D are read. Groups, and planes of a window,
 * follow one another. */
#include "../base/machine.h"
#include "conv_bias.h"
#include "tile.h"
#include "winograd.h"
#include "winograd_tiles.h"

enum { PART = 256, WAVE = 32 };

struct plan {
    const struct cnn_conv *p;
    const real *x, *dy;
    real *dw;
    struct tiles in, out;
    int m, flat, points;
    long taps;                    /* of a plane */
    int whole_parts;
    int one_part;                 /* an item's taps are final, and go to dw at once */
    long tiles;                   /* of the largest part, or of those that a block holds at once */
    long filters, channels;       /* of a block of D and of V: whole panels, whole vectors */
    long panels;                  /* of all filters */
    long item_tiles, item_panels; /* of an item: rows of tiles, panels */
    long v_row, v_pitch, d_pitch, d_panel, m_pitch; /* v_row: from a tile's channels to the next one's */
    real *v, *d, *sums;           /* sums[panel][tap][channel][width] */
    char *worker;
    size_t worker_bytes, tile_bytes, m_bytes, v_bytes, d_bytes;
    long sum_reals;               /* of one part */
    long first, count, k0, c0;    /* the part and the blocks at work */
    long block_panels;            /* of the block at work, and the rows of its M */
    struct cut cut;
};

static long width_of(const struct plan *s, long panel) { return s->p->k - panel * TILE_WIDTH > LANES ? TILE_WIDTH : LANES; }

/* Items whose M has `cells` cells a point: nearly as many rows as filters, but enough items for all workers. */
static void cut_items(struct plan *s, long cells, int workers)
{
    const long panels = s->filters / TILE_WIDTH, tiles = cut_rows(s->channels).tiles;
    long width = 1;
    while (width < panels && (width + 1) * TILE_WIDTH * (width + 1) * TILE_WIDTH <= cells + cells / 4)
        width++;
    long height = max_long(1, min_long(tiles, cells / (width * TILE_WIDTH * TILE_ROWS)));
    while (divide_up(panels, width) * divide_up(tiles, height) < (workers > 1 ? 2 * workers : 1) && width * height > 1)
        if (height > 1 && height * TILE_ROWS >= width * TILE_WIDTH)
            height--;
        else if (width > 1)
            width--;
        else
            height--;
    s->item_tiles = divide_up(tiles, divide_up(tiles, height)), s->item_panels = divide_up(panels, divide_up(panels, width));
}

static size_t make_plan(struct plan *s, const struct cnn_conv *p, int m, int workers, char *scratch)
{
    const double l3 = (double)cnn_machine()->l3 / sizeof(real);
    const struct windows in = FN(conv_windows)(p);
    struct windows out = {.images = p->n, .channels = p->k};
    for (int a = 0; a < 3; a++)
        out.in[a] = out.out[a] = p->out[a], out.taps[a] = out.step[a] = 1, out.spread[a] = a ? p->dilation[a] : 1;
    for (int i = 0; i < 5; i++)
        out.stride[i] = p->y[i];
    const int flat = p->window[1] == 1;
    *s = (struct plan){.p = p, .m = m, .flat = flat, .points = flat ? m + 2 : (m + 2) * (m + 2), .taps = flat ? 3 : 9,
                       .in = FN(cut_tiles)(&in, flat, m), .out = FN(cut_tiles)(&out, flat, m)};
    s->panels = divide_up(p->k, TILE_WIDTH);
    s->sum_reals = s->panels * s->taps * p->c * TILE_WIDTH;
    const double l2 = (double)cnn_machine()->l2 / sizeof(real), all = (double)s->points * (double)(p->c * s->panels) * TILE_WIDTH;
    s->whole_parts = all < l2 * 3 / 5 && s->in.count >= PART * workers;
    if (s->whole_parts) {
        s->filters = s->panels * TILE_WIDTH;
        s->channels = round_up(p->c, LANES);
        s->tiles = min_long(PART, max_long(TILE_ROWS, (long)((l2 * 5 / 6 - all) / (double)(s->points * (s->channels + s->filters)))));
        s->m_pitch = point_pitch(p->c * s->filters);
    } else { /* each side has three tenths of the cache, evenly cut */
        s->tiles = min_long(s->in.count, PART);
        const long room = max_long(2 * TILE_WIDTH, (long)(l3 * 3 / 10 / (double)(s->points * max_long(1, s->tiles))));
        const long filter_blocks = divide_up(s->panels, max_long(1, room / TILE_WIDTH)), channel_blocks = divide_up(p->c, room);
        s->filters = divide_up(s->panels, filter_blocks) * TILE_WIDTH;
        s->channels = round_up(divide_up(p->c, channel_blocks), LANES);
        cut_items(s, (long)(l2 / 2) / s->points, workers);
        s->m_pitch = point_pitch(s->item_tiles * TILE_ROWS * s->item_panels * TILE_WIDTH);
    }
    s->v_row = s->channels * (long)sizeof(real) % 1024 == 0 ? s->channels + LANES : s->channels;
    s->v_pitch = point_pitch(s->tiles * s->v_row + TILE_ROWS);
    s->d_panel = s->tiles * TILE_WIDTH;
    s->d_pitch = point_pitch(s->d_panel * (s->filters / TILE_WIDTH));
    s->v_bytes = aligned((size_t)(s->points * s->v_pitch) * sizeof(real));
    s->d_bytes = aligned((size_t)(s->points * s->d_pitch) * sizeof(real));
    const size_t in_bytes = FN(tiles_scratch)(&s->in), out_bytes = FN(tiles_scratch)(&s->out);
    s->m_bytes = aligned((size_t)(s->points * s->m_pitch) * sizeof(real));
    s->one_part = !s->whole_parts && s->in.count > 0 && s->in.count <= PART;
    const size_t taps_bytes = s->one_part ? aligned((size_t)(s->taps * s->item_tiles * TILE_ROWS * TILE_WIDTH) * sizeof(real)) : 0;
    s->tile_bytes = aligned(in_bytes > out_bytes ? in_bytes : out_bytes);
    s->worker_bytes = spaced(s->tile_bytes + s->m_bytes + taps_bytes + (s->whole_parts ? s->v_bytes + s->d_bytes : 0));
    s->sums = (real *)scratch;
    size_t bytes = aligned((size_t)((s->whole_parts ? WAVE + 1 : s->one_part ? 0 : 1) * s->sum_reals) * sizeof(real));
    if (!s->whole_parts) {
        s->v = (real *)(scratch + bytes), bytes += s->v_bytes;
        s->d = (real *)(scratch + bytes), bytes += s->d_bytes;
    }
    s->worker = scratch + bytes;
    return bytes + (size_t)workers * s->worker_bytes;
}

enum { STRIP = 16 }; /* tiles that a block transforms */

static void transform_input(void *context, long block, int worker)
{
    const struct plan *s = context;
    const long first = block * STRIP, count = min_long(STRIP, s->count - first), channels = min_long(s->channels, s->p->c - s->c0);
    FN(transform_tiles)(&s->in, s->x, s->first + first, count, 0, s->c0, channels, s->worker + (size_t)worker * s->worker_bytes,
                        s->v + first * s->v_row, s->v_row, s->v_pitch);
}

/* Of tiles from `first` on; d: where the first of them goes. */
static void transform_panels(const struct plan *s, long first, long count, char *scratch, real *d)
{
    for (long panel = 0; panel * TILE_WIDTH < s->filters && s->k0 + panel * TILE_WIDTH < s->p->k; panel++) {
        const long k = s->k0 + panel * TILE_WIDTH, width = width_of(s, k / TILE_WIDTH), filters = min_long(width, s->p->k - k);
        FN(transform_tiles)(&s->out, s->dy, s->first + first, count, 0, k, filters, scratch, d + panel * s->d_panel + first * width, width,
                            s->d_pitch);
    }
}

static void transform_gradient(void *context, long block, int worker)
{
    const struct plan *s = context;
    const long first = block * STRIP;
    transform_panels(s, first, min_long(STRIP, s->count - first), s->worker + (size_t)worker * s->worker_bytes, s->d);
}

/* A' M A of one channel and vector of filters, to its nine taps, or added to them. */
ALWAYS_INLINE void tap_vector(const int m, const real *from, long point_pitch, real *to, long tap_pitch, int add)
{
    const int n = m + 2;
    vec half[3][MOST_POINTS];
    UNROLL for (int j = 0; j < n; j++) {
        vec d[MOST_POINTS], v[3];
        UNROLL for (int i = 0; i < n; i++)
            d[i] = vec_load(from + (i * n + j) * point_pitch);
        tap_points(m, d, v);
        UNROLL for (int i = 0; i < 3; i++)
            half[i][j] = v[i];
    }
    UNROLL for (int i = 0; i < 3; i++) {
        vec v[3];
        tap_points(m, half[i], v);
        UNROLL for (int j = 0; j < 3; j++) {
            real *tap = to + (i * 3 + j) * tap_pitch;
            if (add)
                v[j] = vec_load(tap) + v[j];
            vec_store(tap, v[j]);
        }
    }
}

/* A' M of a flat tile, to its three taps. */
ALWAYS_INLINE void flat_tap_vector(const int m, const real *from, long point_pitch, real *to, long tap_pitch, int add)
{
    vec d[MOST_POINTS], v[3];
    UNROLL for (int i = 0; i < m + 2; i++)
        d[i] = vec_load(from + i * point_pitch);
    tap_points(m, d, v);
    UNROLL for (int j = 0; j < 3; j++) {
        if (add)
            v[j] = vec_load(to + j * tap_pitch) + v[j];
        vec_store(to + j * tap_pitch, v[j]);
    }
}

/* M of some rows of a panel to its taps, each `tap_pitch` apart. */
static void inverse(const struct plan *s, const real *m, long reals, real *sums, long tap_pitch, int add)
{
    for (long i = 0; i < reals; i += LANES)
        if (s->flat && s->m == 2)
            flat_tap_vector(2, m + i, s->m_pitch, sums + i, tap_pitch, add);
        else if (s->flat)
            flat_tap_vector(4, m + i, s->m_pitch, sums + i, tap_pitch, add);
        else if (s->m == 2)
            tap_vector(2, m + i, s->m_pitch, sums + i, tap_pitch, add);
        else
            tap_vector(4, m + i, s->m_pitch, sums + i, tap_pitch, add);
}

static void compute_item(void *context, long item, int worker)
{
    const struct plan *s = context;
    const long across = divide_up(s->cut.tiles, s->item_tiles), begin_panel = s->k0 / TILE_WIDTH;
    const long first_panel = item / across * s->item_panels, last_panel = min_long(s->block_panels, first_panel + s->item_panels);
    const long first = item % across * s->item_tiles, last = min_long(s->cut.tiles, first + s->item_tiles);
    const long begin = cut_begin(s->cut, first), rows = cut_begin(s->cut, last) - begin, zero = 0;
    real *m = (real *)(s->worker + (size_t)worker * s->worker_bytes + s->tile_bytes);
    struct tile t = {.parts = 1, .depth = s->count, .offset = &zero, .step = s->v_row, .join = OVERWRITE};
    for (long point = 0; point < s->points; point++)
        for (long panel = first_panel; panel < last_panel; panel++) {
            real *to = m + point * s->m_pitch + (panel - first_panel) * rows * TILE_WIDTH;
            t.valid = width_of(s, begin_panel + panel);
            t.b = s->d + point * s->d_pitch + panel * s->d_panel;
            for (long i = first; i < last; i++) {
                const long row = cut_begin(s->cut, i), height = cut_height(s->cut, i);
                t.a[0] = s->v + point * s->v_pitch + row;
                for (long r = 0; r < height; r++)
                    t.c[r] = to + (row - begin + r) * t.valid;
                FN(tile_columns)(height, (int)(t.valid / LANES))(&t);
            }
        }
    for (long panel = first_panel; panel < last_panel; panel++) {
        const long width = width_of(s, begin_panel + panel), c = s->c0 + begin;
        const real *from = m + (panel - first_panel) * rows * TILE_WIDTH;
        if (s->one_part) {
            real *taps = (real *)(s->worker + (size_t)worker * s->worker_bytes + s->tile_bytes + s->m_bytes);
            inverse(s, from, rows * width, taps, rows * width, 0);
            FN(unpack_weights)(s->p, 0, begin_panel + panel, c, rows, taps, 1, s->dw);
        } else
            inverse(s, from, rows * width, s->sums + (begin_panel + panel) * s->taps * s->p->c * TILE_WIDTH + c * width, s->p->c * width, s->first > 0);
    }
}

/* A part by itself: its sums go to its own place. */
static void whole_part(void *context, long block, int worker)
{
    const struct plan *s = context;
    char *mine = s->worker + (size_t)worker * s->worker_bytes;
    real *v = (real *)(mine + s->tile_bytes), *d = (real *)((char *)v + s->v_bytes), *m = (real *)((char *)d + s->d_bytes);
    const long begin = block * PART, end = min_long(begin + PART, s->count), channels = s->p->c, zero = 0;
    const struct cut cut = cut_rows(channels);
    for (long first = begin; first < end; first += s->tiles) {
        const long count = min_long(s->tiles, end - first);
        FN(transform_tiles)(&s->in, s->x, s->first + first, count, 0, 0, channels, mine, v, s->v_row, s->v_pitch);
        for (long panel = 0; panel < s->panels; panel++) {
            const long width = width_of(s, panel), k = panel * TILE_WIDTH;
            FN(transform_tiles)(&s->out, s->dy, s->first + first, count, 0, k, min_long(width, s->p->k - k), mine, d + panel * s->d_panel, width, s->d_pitch);
        }
        struct tile t = {.parts = 1, .depth = count, .offset = &zero, .step = s->v_row, .join = first > begin ? CONTINUE : OVERWRITE};
        for (long point = 0; point < s->points; point++)
            for (long panel = 0; panel < s->panels; panel++) {
                t.valid = width_of(s, panel);
                t.b = d + point * s->d_pitch + panel * s->d_panel;
                for (long i = 0; i < cut.tiles; i++) {
                    const long row = cut_begin(cut, i), height = cut_height(cut, i);
                    t.a[0] = v + point * s->v_pitch + row;
                    for (long r = 0; r < height; r++)
                        t.c[r] = m + point * s->m_pitch + panel * TILE_WIDTH * channels + (row + r) * t.valid;
                    FN(tile_columns)(height, (int)(t.valid / LANES))(&t);
                }
            }
    }
    for (long panel = 0; panel < s->panels; panel++)
        inverse(s, m + panel * TILE_WIDTH * channels, channels * width_of(s, panel), s->sums + (1 + block) * s->sum_reals + panel * s->taps * channels * TILE_WIDTH,
                channels * width_of(s, panel), 0);
}

/* Adds the sums of `parts` parts, in order, to those of the parts before. */
static void join_parts(const struct plan *s, long parts)
{
    for (long part = 1; part <= parts; part++)
        for (long i = 0; i < s->sum_reals; i += LANES) {
            vec v = vec_load(s->sums + part * s->sum_reals + i);
            if (s->first > 0 || part > 1)
                v = vec_load(s->sums + i) + v;
            vec_store(s->sums + i, v);
        }
}

static void store_panel(void *context, long panel, int worker)
{
    (void)worker;
    const struct plan *s = context;
    FN(unpack_weights)(s->p, 0, panel, 0, s->p->c, s->sums + panel * s->taps * s->p->c * TILE_WIDTH, 1, s->dw);
}

/* The convolution of a group by plane `d` of the window alone. */
static struct cnn_conv one_plane(const struct cnn_conv *p, long d)
{
    struct cnn_conv one = *p;
    one.c /= p->groups, one.k /= p->groups, one.groups = 1;
    one.window[0] = 1, one.before[0] -= d * p->dilation[0];
    return one;
}

size_t FN(winograd_weight_scratch)(const struct cnn_conv *p, int m, int workers)
{
    struct plan s;
    const struct cnn_conv one = one_plane(p, 0);
    return make_plan(&s, &one, m, workers, cnn_no_scratch);
}

static void run_plane(const struct cnn_conv *p, int m, const real *x, const real *dy, real *dw, struct cnn_run *run)
{
    struct plan s;
    make_plan(&s, p, m, run->workers, run->scratch);
    s.x = x, s.dy = dy, s.dw = dw;
    const double vector_work = (double)s.points / LANES; /* nanoseconds a tile and channel */
    for (s.first = 0; s.whole_parts && s.first < s.in.count && !run->stopped; s.first += WAVE * PART) {
        s.count = min_long(WAVE * PART, s.in.count - s.first);
        const long parts = divide_up(s.count, PART);
        cnn_parallel_for(run, parts, (double)(s.points * s.count * p->c) * (double)s.filters / 25, whole_part, &s);
        join_parts(&s, parts);
    }
    for (s.first = 0; !s.whole_parts && s.first < s.in.count && !run->stopped; s.first += PART) {
        s.count = min_long(PART, s.in.count - s.first);
        const long strips = divide_up(s.count, STRIP);
        for (s.k0 = 0; s.k0 < p->k; s.k0 += s.filters) {
            const long filters = min_long(s.filters, p->k - s.k0), panels = divide_up(filters, TILE_WIDTH);
            cnn_parallel_for(run, strips, vector_work * (double)(s.count * filters), transform_gradient, &s);
            for (s.c0 = 0; s.c0 < p->c; s.c0 += s.channels) {
                const long channels = min_long(s.channels, p->c - s.c0);
                s.cut = cut_rows(channels);
                cnn_parallel_for(run, strips, vector_work * (double)(s.count * channels), transform_input, &s);
                s.block_panels = panels;
                cnn_parallel_for(run, divide_up(panels, s.item_panels) * divide_up(s.cut.tiles, s.item_tiles),
                                 (double)(s.points * s.count * channels) * (double)(panels * TILE_WIDTH) / 25, compute_item, &s);
            }
        }
    }
    if (!s.one_part)
        cnn_parallel_for(run, s.panels, (double)(p->k * p->c * s.taps), store_panel, &s);
}

void FN(winograd_weight)(const struct cnn_conv *p, int m, const real *x, const real *dy, real *dw, real *db, struct cnn_run *run)
{
    for (long g = 0; g < p->groups; g++)
        for (long d = 0; d < p->window[0] && !run->stopped; d++) {
            const struct cnn_conv one = one_plane(p, d);
            run_plane(&one, m, x + g * one.c * p->x[1], dy + g * one.k * p->y[1], dw + g * one.k * p->w[0] + d * p->w[2], run);
        }
    if (db)
        FN(conv_bias)(p, dy, db, run);
}
