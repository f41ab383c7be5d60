/* pointwise.c: a product with windows of one cell, over planes.
 *
 *     y[n][g*F + f][p] = activation(bias[g*F + f] + sum over c < C of w[g][f][c] * x[n][g*C + c][p])
 *
 * Both images have their pixels side by side, so the lanes of a tile are pixels and its rows are filters: nothing is turned on the way in,
 * nothing on the way out, and the weights are read where they lie. Why a kernel of its own: in product.c the lanes are filters.
 * A block takes some panels of TILE_WIDTH pixels, none of which crosses images; 256 channels of them are copied side by side and stay in
 * the second cache, while the weights of tile after tile stay in the first. Filters that are neighbours (an input gradient) lie a channel apart,
 * too far for the caches to follow: those of a tile are copied together. */
#include "pointwise.h"

#include "../base/machine.h"
#include "tile.h"

enum { PANELS = 16 }; /* of a block, at most */

struct plan {
    const struct product *p;
    const real *x, *w, *bias;
    real *y;
    long pixels, across;    /* of a plane, and its panels */
    long panels, together;  /* of all images, and of a block */
    struct cut cut;         /* of filters */
    long tiles, slices;     /* tiles of a block, and blocks that share their pixels */
    long pitch;             /* of copied panels, in reals */
    char *worker;
    size_t worker_bytes, copy_bytes;
};

static int one_plane(const long cells[3], const long stride[3])
{
    return (stride[2] == 1 || cells[2] == 1) && (stride[1] == cells[2] || cells[1] == 1) && (stride[0] == cells[1] * cells[2] || cells[0] == 1);
}

int FN(pointwise_planes)(const struct product *p)
{
    const struct windows *w = &p->in;
    for (int a = 0; a < 3; a++)
        if (w->taps[a] != 1 || w->before[a] != 0 || w->step[a] != 1 || w->in[a] != w->out[a])
            return 0;
    const long cells = w->out[0] * w->out[1] * w->out[2];
    if (cells < 2 * LANES || p->filters < 1 || w->channels < 1 || p->packed || p->accumulate)
        return 0;
    if (!one_plane(w->in, w->stride + 2) || !one_plane(w->out, p->y + 2))
        return 0;
    /* Pixels that leave a tenth of the lanes empty, or sums that come back to y often, cost more than turning the planes. */
    return (p->w[1] == 1 || p->w[0] == 1) && w->channels <= 2 * CHUNK && 10 * cells >= 9 * round_up(cells, LANES);
}

/* Panels of a block: nearly `most`, so many that the worker with the most blocks has few more panels than the others. */
static long even_share(long panels, long most, long workers)
{
    long best = most;
    for (long size = most; size > 0 && 2 * size > most; size--)
        if (divide_up(divide_up(panels, size), workers) * size < divide_up(divide_up(panels, best), workers) * best)
            best = size;
    return best;
}

static size_t make_plan(struct plan *s, const struct product *p, int workers, char *scratch)
{
    const struct windows *w = &p->in;
    *s = (struct plan){.p = p, .pixels = w->out[0] * w->out[1] * w->out[2], .cut = cut_rows(p->filters), .worker = scratch};
    s->across = divide_up(s->pixels, TILE_WIDTH);
    s->panels = w->images * s->across;
    const long chunk = min_long(CHUNK, w->channels);
    const long most = (long)(cnn_machine()->l2 / 4 / ((size_t)(chunk * TILE_WIDTH) * sizeof(real)));
    s->together = even_share(s->panels, max_long(1, min_long(s->panels, min_long(PANELS, most))), workers);
    const long blocks = max_long(1, divide_up(s->panels, s->together) * p->groups);
    s->slices = min_long(s->cut.tiles, divide_up(16, blocks));
    const double work = 2.0 * (double)(s->together * TILE_WIDTH * w->channels) * (double)p->filters;
    while (s->slices > 1 && work / (double)s->slices < 1e6)
        s->slices--;
    s->tiles = divide_up(s->cut.tiles, s->slices);
    s->slices = divide_up(s->cut.tiles, s->tiles);
    s->pitch = chunk * TILE_WIDTH + 64 / (long)sizeof(real); /* not a large power of two: copies would share sets of the caches */
    s->copy_bytes = aligned((size_t)(s->together * s->pitch) * sizeof(real));
    s->worker_bytes = spaced(s->copy_bytes + (size_t)(chunk * TILE_ROWS + LANES) * sizeof(real));
    return (size_t)workers * s->worker_bytes;
}

/* A panel's pixels: the image, the first one, how many, and the lanes for them. */
struct place { long image, first, valid, width; };

static struct place place_of(const struct plan *s, long panel)
{
    struct place at = {.image = panel / s->across, .first = panel % s->across * TILE_WIDTH};
    at.valid = min_long(TILE_WIDTH, s->pixels - at.first);
    at.width = at.valid > LANES ? TILE_WIDTH : LANES;
    return at;
}

/* `channels` channels of the panels from `first` on to copies s->pitch apart, zeros beyond the last pixel. Panels that follow each other in an
 * image are copied together, so that memory is read in long runs. */
static void copy_panels(const struct plan *s, const real *x, long first, long count, long channels, real *to)
{
    const long *stride = s->p->in.stride;
    for (long i = 0; i < count;) {
        const struct place at = place_of(s, first + i), last = place_of(s, first + count - 1);
        const long run = at.image == last.image ? count - i : s->across - (first + i) % s->across;
        const long whole = min_long(run, (s->pixels - at.first) / TILE_WIDTH);
        const real *from = x + at.image * stride[0] + at.first;
        for (long c = 0; c < channels; c++, from += stride[1]) {
            real *row = to + i * s->pitch + c * TILE_WIDTH;
            for (long j = 0; j < whole; j++, row += s->pitch)
                UNROLL for (int v = 0; v < TILE_VECTORS; v++)
                    vec_store(row + v * LANES, vec_load(from + j * TILE_WIDTH + v * LANES));
            if (whole == run)
                continue;
            const struct place edge = place_of(s, first + i + whole);
            row = to + (i + whole) * s->pitch + c * edge.width;
            for (long j = 0; j < edge.width; j += LANES)
                vec_store(row + j, vec_get(from + whole * TILE_WIDTH + j, min_long(LANES, edge.valid - j)));
        }
        i += run;
    }
}

/* The weights of `height` filters that are neighbours, [channel][height]. What is written beyond a channel's is overwritten, or nobody's. */
static void copy_weights(const real *w, long apart, long channels, long height, real *to)
{
    for (long c = 0; c < channels; c++, w += apart, to += height)
        for (long r = 0; r < height; r += LANES)
            vec_store(to + r, vec_get(w + r, min_long(LANES, height - r)));
}

static void compute_block(void *context, long block, int worker)
{
    const struct plan *s = context;
    const struct product *p = s->p;
    const struct windows *in = &p->in;
    const long slice = block % s->slices, group = block / s->slices % p->groups, first = block / s->slices / p->groups * s->together;
    const long count = min_long(s->together, s->panels - first), first_tile = slice * s->tiles, last_tile = min_long(s->cut.tiles, first_tile + s->tiles);
    const real *x = s->x + group * p->x_group, *w = s->w + group * p->w_group, *bias = s->bias ? s->bias + group * p->filters : NULL;
    real *y = s->y + group * p->y_group, *copy = (real *)(s->worker + (size_t)worker * s->worker_bytes);
    real *near = (real *)((char *)copy + s->copy_bytes);
    const int rows = p->w[1] == 1;
    const long zero = 0;

    for (long c0 = 0; c0 < in->channels; c0 += CHUNK) {
        const long channels = min_long(CHUNK, in->channels - c0);
        const int is_last = c0 + channels == in->channels;
        copy_panels(s, x + c0 * in->stride[1], first, count, channels, copy);
        struct tile t = {.parts = 1, .offset = &zero, .depth = channels, .a_apart = p->w[0], .c_apart = p->y[1], .join = c0 ? CONTINUE : OVERWRITE};
        t.activation = is_last ? p->activation : CNN_LINEAR;
        for (long tile = first_tile; tile < last_tile; tile++) {
            const long f = cut_begin(s->cut, tile), height = cut_height(s->cut, tile);
            t.a[0] = rows ? w + f * p->w[0] + c0 : near;
            t.step = height;
            if (!rows)
                copy_weights(w + f + c0 * p->w[1], p->w[1], channels, height, near);
            t.row_bias = is_last && bias ? bias + f : NULL;
            for (long i = 0; i < count; i++) {
                const struct place at = place_of(s, first + i);
                t.b = copy + i * s->pitch;
                t.valid = at.valid;
                t.ahead = i + 1 < count ? 0 : height * p->w[0];
                t.c[0] = y + at.image * p->y[0] + f * p->y[1] + at.first;
                (rows ? FN(tile_rows) : FN(tile_columns))(height, (int)(at.width / LANES))(&t);
            }
        }
    }
}

size_t FN(pointwise_scratch)(const struct product *p, int workers)
{
    struct plan s;
    return make_plan(&s, p, workers, cnn_no_scratch);
}

void FN(pointwise_run)(const struct product *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run)
{
    struct plan s;
    make_plan(&s, p, run->workers, run->scratch);
    s.x = x, s.w = w, s.bias = bias, s.y = y;
    const double work = (double)(s.panels * TILE_WIDTH * p->in.channels) * (double)(p->groups * p->filters) / 50;
    cnn_parallel_for(run, divide_up(s.panels, s.together) * p->groups * s.slices, work, compute_block, &s);
}
