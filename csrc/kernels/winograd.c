/* winograd.c: convolution forward and input gradient by Winograd's algorithms (winograd_tiles.h).
 *
 *     V[point][tile][c]  = B' d B      of every tile of the input
 *     U[point][c][k]     = G g G'      of the weights
 *     M[sum][tile][k]    = sum over c, points of the sum, of V[point][tile][c] * U[point][c][k]      products in the register tile
 *     y                  = A' M A + bias, activation
 *
 * But for strides a sum has one point.
 * Windows of T planes are longer sums: in place of c stands (slice of channels, plane of the window, channel of the slice), and V has the tiles of T planes.
 *
 * Two schedules with the same sums in the same order. Where the transformed weights are small they are made once, and a block
 * takes some tiles through all of it in its second-level cache ("whole weights"). Else the transformed input of a group of
 * tiles lies in the third-level cache and a block makes one panel of the weights, a chunk of channels at a time, just before
 * it is used: transformed weights never travel through memory. x, y in any memory order; borders by the padding's rule. */
#include "winograd.h"

#include "../base/machine.h"
#include "tile.h"
#include "transpose.h"
#include "winograd_points.h"

#include <stdint.h>

enum { SLICE = 64 }; /* terms of a sum for which U is made at a time, if a window has few planes */

struct plan {
    const struct product *p;
    const real *x, *w, *bias;
    real *y;
    struct tiles tiles;
    enum kind kind;
    int flat, taps;                  /* taps of a plane */
    long points, sums, most_parts;   /* most_parts: points of a sum */
    struct part { long first, count, offset[4]; } part_of[MOST_SUMS * MOST_SUMS]; /* points of a sum, offsets in V */
    long planes, slice;              /* of a window; channels of a slice */
    long channels, pitch;            /* of the input, for every plane; reals from tile to tile of V */
    long y_row, y_column;            /* to the next row and column of a map, in y */
    long panels;
    int whole_weights;
    long group, part;                /* tiles whose V lies in memory at once; tiles of a block */
    long parts;                      /* blocks of a group */
    long first, count;               /* the group at work */
    long v_pitch, u_pitch, m_pitch;  /* from point to point */
    real *u, *v;                     /* all of U, or the V of a group */
    char *worker;
    size_t worker_bytes, tile_bytes, pack_bytes, u_bytes, v_bytes;
};

/* Which points add up to which sum. */
static void find_parts(struct plan *s)
{
    const struct scheme scheme = scheme_of(s->kind);
    const int sums = scheme.sums, n = scheme.points;
    for (int a = 0; a < (s->flat ? 1 : sums); a++)
        for (int b = 0; b < sums; b++) {
            const int top = s->flat ? 0 : first_point(s->kind, a), bottom = s->flat ? 1 : first_point(s->kind, a + 1);
            const int left = first_point(s->kind, b), right = first_point(s->kind, b + 1);
            struct part part = {.first = top * n + (bottom - top) * left};
            for (int i = top; i < bottom; i++)
                for (int j = left; j < right; j++)
                    part.offset[part.count++] = (i * n + j) * s->v_pitch;
            s->part_of[a * sums + b] = part;
        }
}

static size_t make_plan(struct plan *s, const struct product *p, enum kind kind, int workers, char *scratch)
{
    const double l2 = (double)cnn_machine()->l2 / sizeof(real), l3 = (double)cnn_machine()->l3 / sizeof(real);
    const int flat = p->in.taps[1] == 1;
    const struct scheme scheme = scheme_of(kind);
    const int n = scheme.points, sums = scheme.sums, taps = scheme.taps;
    *s = (struct plan){.p = p, .kind = kind, .flat = flat, .planes = p->in.taps[0]};
    s->points = flat ? n : n * n, s->sums = flat ? sums : sums * sums, s->taps = flat ? taps : taps * taps;
    s->channels = p->in.channels * s->planes;
    s->slice = s->planes == 1 ? SLICE : max_long(CNN_WHOLE_CHANNELS, SLICE / s->planes / CNN_WHOLE_CHANNELS * CNN_WHOLE_CHANNELS);
    s->y_row = p->y[3] * p->in.spread[1], s->y_column = p->y[4] * p->in.spread[2];
    s->tiles = FN(cut_tiles)(&p->in, flat, kind);
    s->pitch = round_up(s->channels, LANES);
    if (s->pitch * (long)sizeof(real) % 1024 == 0)
        s->pitch += 64 / (long)sizeof(real);
    s->panels = divide_up(p->filters, TILE_WIDTH);
    const long least = 2 * TILE_ROWS;
    const double whole = (double)s->points * (double)(s->channels * s->panels * TILE_WIDTH);
    const long fit = (long)(0.65 * l2 / (double)(s->points * s->pitch + s->sums * TILE_WIDTH)); /* tiles with V and M in the cache */
    s->whole_weights = fit >= least && whole <= l3 / 4 && s->tiles.count >= 8 * least;
    if (s->whole_weights) {
        s->group = s->tiles.count;
        s->part = min_long(fit / TILE_ROWS * TILE_ROWS, (s->channels < 32 ? 2 : 4) * (flat ? 2 : 1) * TILE_ROWS);
    } else {
        const long most = max_long(TILE_ROWS, (long)(l3 / 4 / (double)(s->points * s->pitch)));
        const long groups = divide_up(s->tiles.count, most);
        s->group = divide_up(s->tiles.count, max_long(1, groups));
        const long largest = max_long(TILE_ROWS, (long)(l2 / 2 / (double)(s->sums * TILE_WIDTH)) / TILE_ROWS * TILE_ROWS);
        s->part = divide_up(s->group, max_long(1, divide_up(s->group, largest)));
    }
    s->parts = divide_up(s->group, max_long(1, s->part));
    const long blocks = s->whole_weights ? s->parts : s->panels * s->parts, even = cnn_even_blocks(blocks, workers);
    if (even > blocks && s->group > even) {
        s->part = divide_up(s->group, s->whole_weights ? even : divide_up(even, s->panels));
        s->parts = divide_up(s->group, s->part);
    }
    s->v_pitch = point_pitch((s->whole_weights ? s->part : s->group) * s->pitch);
    s->u_pitch = point_pitch((s->whole_weights ? s->channels : s->slice * s->planes) * TILE_WIDTH);
    s->m_pitch = point_pitch(s->part * TILE_WIDTH);
    find_parts(s);
    const size_t v_bytes = aligned((size_t)(s->points * s->v_pitch) * sizeof(real));
    const size_t panel_bytes = aligned((size_t)(s->points * s->u_pitch) * sizeof(real));
    s->u = s->v = (real *)scratch;
    const size_t bytes = s->whole_weights ? (p->packed ? 0 : (size_t)s->panels * panel_bytes) : v_bytes;
    s->tile_bytes = aligned(FN(tiles_scratch)(&s->tiles));
    s->pack_bytes = aligned((size_t)(s->taps * s->slice * s->planes * TILE_WIDTH) * sizeof(real));
    s->u_bytes = panel_bytes;
    s->v_bytes = s->whole_weights ? v_bytes : 0;
    s->worker = scratch + bytes;
    s->worker_bytes = spaced(s->tile_bytes + s->pack_bytes + (s->whole_weights ? 0 : panel_bytes) + s->v_bytes +
                      (size_t)(s->sums * s->m_pitch) * sizeof(real));
    return bytes + (size_t)workers * s->worker_bytes;
}

/* A worker's own memory. */
struct mine {
    char *tiles;
    real *packed, *u, *v, *m;
};
static struct mine memory_of(const struct plan *s, int worker)
{
    struct mine mine = {.tiles = s->worker + (size_t)worker * s->worker_bytes};
    char *next = mine.tiles + s->tile_bytes;
    mine.packed = (real *)next, next += s->pack_bytes;
    mine.u = (real *)next, next += s->whole_weights ? 0 : s->u_bytes;
    mine.v = (real *)next, next += s->v_bytes;
    mine.m = (real *)next;
    return mine;
}

/* Where packed weights hold the terms from c0 on of a panel, [tap][channel][width]: reals from their start. */
static long packed_slice(const struct plan *s, long panel, long c0)
{
    return s->taps * (panel * s->channels * TILE_WIDTH + c0 * panel_width(s->p, panel));
}

/* Terms of the slice from c0 on. */
static long slice_at(const struct plan *s, long c0) { return min_long(s->slice * s->planes, s->channels - c0); }

/* The slice from c0 on of a panel: to[point * u_pitch + c * width + k] where a sum has one point. */
static void make_weights(const struct plan *s, long panel, long c0, real *packed, real *to)
{
    const long width = panel_width(s->p, panel), terms = slice_at(s, c0), plane = terms / s->planes * width;
    if (s->p->packed) {
        packed = (real *)(uintptr_t)s->w + packed_slice(s, panel, c0); /* only read */
        const real *next = packed + s->taps * terms * width; /* the next slice is on its way while this one is used */
        for (long i = 0; i < s->taps * min_long(terms * width, SLICE * TILE_WIDTH); i += 64 / (long)sizeof(real))
            __builtin_prefetch(next + i, 0, 2);
    } else
        FN(pack_weights)(s->p, s->w, 0, panel, c0 / s->planes, terms / s->planes, packed);
    const struct places at = {s->u_pitch, (s->whole_weights ? s->channels : terms) * width};
    for (long d = 0; d < s->planes; d++, packed += s->taps * plane, to += plane)
        weights_to_points(s->kind, s->flat, packed, plane, to, at);
}

/* V of some tiles. */
static void transform(const struct plan *s, long first, long count, char *scratch, real *v)
{
    if (s->planes == 1) {
        FN(transform_tiles)(&s->tiles, s->x, first, count, 0, 0, s->channels, scratch, v, s->pitch, s->v_pitch);
        return;
    }
    for (long c0 = 0; c0 < s->channels; c0 += slice_at(s, c0)) {
        const long channels = slice_at(s, c0) / s->planes;
        for (long d = 0; d < s->planes; d++)
            FN(transform_tiles)(&s->tiles, s->x, first, count, d, c0 / s->planes, channels, scratch, v + c0 + d * channels, s->pitch, s->v_pitch);
    }
}

/* The rounding error of a short sum over channels weighs most, because the way back enlarges it: then the sum is two halves, side by side
 * in registers. `rows` tiles of a point, `vectors` of filters; both are constants at every call. */
ALWAYS_INLINE void short_rows(const real *v, const int rows, long pitch, long channels, const real *u, const int vectors, real *m)
{
    const long half = divide_up(channels, 2);
    vec low[3][TILE_VECTORS], high[3][TILE_VECTORS];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++)
            low[i][j] = high[i][j] = (vec){0};
    const real *other = u + half * vectors * LANES;
    for (long c = 0; c < channels - half; c++, v++, u += vectors * LANES, other += vectors * LANES) {
        vec b[TILE_VECTORS];
        UNROLL for (int j = 0; j < vectors; j++)
            b[j] = vec_load(u + j * LANES);
        UNROLL for (int i = 0; i < rows; i++) {
            const vec a = vec_fill(v[i * pitch]);
            UNROLL for (int j = 0; j < vectors; j++)
                low[i][j] = vec_madd(a, b[j], low[i][j]);
        }
        RELOAD;
        UNROLL for (int j = 0; j < vectors; j++)
            b[j] = vec_load(other + j * LANES);
        UNROLL for (int i = 0; i < rows; i++) {
            const vec a = vec_fill(v[i * pitch + half]);
            UNROLL for (int j = 0; j < vectors; j++)
                high[i][j] = vec_madd(a, b[j], high[i][j]);
        }
        RELOAD;
    }
    if (channels % 2)
        UNROLL for (int j = 0; j < vectors; j++) {
            const vec a = vec_load(u + j * LANES);
            UNROLL for (int i = 0; i < rows; i++)
                low[i][j] = vec_madd(vec_fill(v[i * pitch]), a, low[i][j]);
        }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++)
            vec_store(m + (i * vectors + j) * LANES, low[i][j] + high[i][j]);
}

ALWAYS_INLINE void short_product(const struct plan *s, const real *v, long tiles, long channels, const real *u, const int vectors, real *m)
{
    for (long point = 0; point < s->points; point++, v += s->v_pitch, u += s->u_pitch, m += s->m_pitch) {
        long i = 0;
        for (; i + 3 <= tiles; i += 3)
            short_rows(v + i * s->pitch, 3, s->pitch, channels, u, vectors, m + i * vectors * LANES);
        for (; i < tiles; i++)
            short_rows(v + i * s->pitch, 1, s->pitch, channels, u, vectors, m + i * vectors * LANES);
    }
}

static void multiply(const struct plan *s, const real *v, long tiles, long c0, long channels, const real *u, long width, real *m)
{
    if (s->channels < 32 && s->points == s->sums) {
        if (width == LANES)
            short_product(s, v, tiles, channels, u, 1, m);
        else
            short_product(s, v, tiles, channels, u, 2, m);
        return;
    }
    const struct cut cut = cut_rows(tiles);
    struct tile t = {.depth = channels, .valid = width, .a_apart = s->pitch, .c_apart = width, .join = c0 ? CONTINUE : OVERWRITE};
    for (long sum = 0; sum < s->sums; sum++, m += s->m_pitch) {
        const struct part *part = &s->part_of[sum];
        t.parts = part->count, t.offset = part->offset, t.b = u + part->first * s->u_pitch;
        for (long i = 0; i < cut.tiles; i++) {
            const long begin = cut_begin(cut, i), height = cut_height(cut, i);
            t.ahead = height * s->pitch;
            t.a[0] = v + begin * s->pitch + c0, t.c[0] = m + begin * width;
            FN(tile_rows)(height, (int)(width / LANES))(&t);
        }
    }
}

/* Outputs of tiles side by side, a vector of filters a pixel, to y where filters are not neighbours. */
static void scatter(const struct plan *s, vec *block, long rows, long columns, long valid, real *y)
{
    /* Without masks cells between are written again: those of another product may be, those that another thread computes may not. */
    const int alternates = s->y_column == 2 && (CNN_HAS_MASKED_MOVES || s->p->in.spread[2] == 1);
    for (long h = 0; h < rows; h++)
        for (long j = 0; j < columns; j += LANES) {
            vec *square = block + h * ACROSS + j;
            const long some = min_long(LANES, columns - j);
            transpose(square);
            real *to = y + h * s->y_row + j * s->y_column;
            for (long k = 0; k < valid; k++, to += s->p->y[1])
                if (s->y_column == 1)
                    vec_put(to, square[k], some);
                else if (alternates)
                    vec_store_every_other(to, square[k], some);
                else
                    for (long i = 0; i < some; i++)
                        to[i * s->y_column] = square[k][i];
        }
}

/* The tiles [first, first + count) of a panel, from M to y. */
static void store(const struct plan *s, long first, long count, long panel, const real *sums)
{
    const struct product *p = s->p;
    const long width = panel_width(p, panel), m = s->tiles.m, together = s->flat || p->y[1] != 1 ? ACROSS / m : 1, across = together > 1 ? ACROSS : m;
    for (long v = 0; v < width; v += LANES) {
        const long filter = panel * TILE_WIDTH + v, valid = min_long(LANES, p->filters - filter);
        if (valid <= 0)
            break;
        const vec bias = s->bias ? vec_load_part(s->bias + filter, valid) : (vec){0};
        vec block[MOST_OUTPUTS] = {{0}};
        for (long i = 0, tiles; i < count; i += tiles) {
            const struct place at = place_of(&s->tiles, first + i);
            tiles = min_long(min_long(together, count - i), s->tiles.columns - at.column / m);
            const long rows = min_long(s->tiles.high, s->tiles.along[0][at.phase[0]].out - at.row);
            const long columns = min_long(tiles * m, s->tiles.along[1][at.phase[1]].out - at.column);
            real *y = s->y + at.image * p->y[0] + filter * p->y[1] + at.plane * p->y[2] + at.phase[0] * p->y[3] + at.phase[1] * p->y[4] + at.row * s->y_row +
                      at.column * s->y_column;
            sums_to_outputs(s->kind, s->flat, sums + i * width + v, tiles, width, s->m_pitch, bias, across, block);
            if (p->accumulate)
                for (long h = 0; h < rows; h++)
                    for (long j = 0; j < columns; j++)
                        block[h * across + j] = vec_get(y + h * s->y_row + j * s->y_column, valid) + block[h * across + j];
            if (p->activation == CNN_RELU)
                for (long h = 0; h < s->tiles.high; h++)
                    for (long j = h * across; j < h * across + tiles * m; j++)
                        block[j] = vec_max((vec){0}, block[j]);
            if (p->y[1] == 1 && valid == LANES)
                for (long h = 0; h < rows; h++)
                    for (long j = 0; j < columns; j++)
                        vec_store(y + h * s->y_row + j * s->y_column, block[h * across + j]);
            else if (p->y[1] == 1)
                for (long h = 0; h < rows; h++)
                    for (long j = 0; j < columns; j++)
                        vec_store_part(y + h * s->y_row + j * s->y_column, block[h * across + j], valid);
            else
                scatter(s, block, rows, columns, valid, y);
        }
    }
}

static void prepare_panel(void *context, long panel, int worker)
{
    const struct plan *s = context;
    const struct mine mine = memory_of(s, worker);
    const long width = panel_width(s->p, panel);
    real *u = (real *)((char *)s->u + (size_t)panel * s->u_bytes);
    for (long c0 = 0; c0 < s->channels; c0 += slice_at(s, c0))
        make_weights(s, panel, c0, mine.packed, u + c0 * width);
}

static void whole_block(void *context, long block, int worker)
{
    const struct plan *s = context;
    const struct mine mine = memory_of(s, worker);
    const long first = block * s->part, count = min_long(s->part, s->tiles.count - first);
    transform(s, first, count, mine.tiles, mine.v);
    for (long panel = 0; panel < s->panels; panel++) {
        const real *u = (const real *)((const char *)s->u + (size_t)panel * s->u_bytes);
        multiply(s, mine.v, count, 0, s->channels, u, panel_width(s->p, panel), mine.m);
        store(s, first, count, panel, mine.m);
    }
}

enum { STRIP = 8 }; /* tiles that a block transforms */

static void transform_block(void *context, long block, int worker)
{
    const struct plan *s = context;
    const struct mine mine = memory_of(s, worker);
    const long first = block * STRIP, count = min_long(STRIP, s->count - first);
    transform(s, s->first + first, count, mine.tiles, s->v + first * s->pitch);
}

static void slice_block(void *context, long block, int worker)
{
    const struct plan *s = context;
    const struct mine mine = memory_of(s, worker);
    const long panel = block / s->parts, first = block % s->parts * s->part, count = min_long(s->part, s->count - first);
    const long width = panel_width(s->p, panel);
    if (count <= 0)
        return;
    for (long c0 = 0; c0 < s->channels; c0 += slice_at(s, c0)) {
        make_weights(s, panel, c0, mine.packed, mine.u);
        multiply(s, s->v + first * s->pitch, count, c0, slice_at(s, c0), mine.u, width, mine.m);
    }
    store(s, s->first + first, count, panel, mine.m);
}

/* Packed weights of one group. */
static size_t group_packed(const struct product *p, int kind)
{
    struct plan s;
    make_plan(&s, p, kind, 1, cnn_no_scratch);
    return s.whole_weights ? (size_t)s.panels * s.u_bytes : (size_t)(s.taps * s.panels * s.channels * TILE_WIDTH) * sizeof(real);
}

size_t FN(winograd_packed)(const struct product *p, int kind) { return (size_t)p->groups * group_packed(p, kind); }

static void pack_panel(void *context, long panel, int worker)
{
    (void)worker;
    const struct plan *s = context;
    for (long c0 = 0; c0 < s->channels; c0 += slice_at(s, c0))
        FN(pack_weights)(s->p, s->w, 0, panel, c0 / s->planes, slice_at(s, c0) / s->planes, s->u + packed_slice(s, panel, c0));
}

void FN(winograd_pack)(const struct product *p, int kind, const real *w, real *packed, struct cnn_run *run)
{
    struct plan s;
    make_plan(&s, p, kind, run->workers, run->scratch);
    for (long g = 0; g < p->groups; g++) {
        s.w = w + g * p->w_group, s.u = (real *)((char *)packed + (size_t)g * group_packed(p, kind));
        cnn_parallel_for(run, s.panels, (double)(s.panels * s.channels * TILE_WIDTH), s.whole_weights ? prepare_panel : pack_panel, &s);
    }
}

size_t FN(winograd_scratch)(const struct product *p, int kind, int workers)
{
    struct plan s;
    return make_plan(&s, p, kind, workers, cnn_no_scratch);
}

static void run_group(const struct product *p, int kind, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run)
{
    struct plan s;
    make_plan(&s, p, kind, run->workers, run->scratch);
    s.x = x, s.w = w, s.bias = bias, s.y = y;
    if (p->packed && s.whole_weights)
        s.u = (real *)(uintptr_t)w; /* only read */
    const double tile_work = (double)(s.points * s.channels) * (double)(s.panels * TILE_WIDTH) / 25; /* nanoseconds */
    if (s.whole_weights) {
        if (!p->packed)
            cnn_parallel_for(run, s.panels, (double)(s.panels * s.channels * TILE_WIDTH), prepare_panel, &s);
        cnn_parallel_for(run, s.parts, tile_work * (double)s.tiles.count, whole_block, &s);
        return;
    }
    for (s.first = 0; s.first < s.tiles.count && !run->stopped; s.first += s.group) {
        s.count = min_long(s.group, s.tiles.count - s.first);
        cnn_parallel_for(run, divide_up(s.count, STRIP), (double)(s.count * s.points * s.channels) / 4, transform_block, &s);
        cnn_parallel_for(run, s.panels * s.parts, tile_work * (double)s.count, slice_block, &s);
    }
}

void FN(winograd_run)(const struct product *p, int kind, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run)
{
    const long next = p->packed ? (long)(group_packed(p, kind) / sizeof(real)) : p->w_group;
    for (long g = 0; g < p->groups && !run->stopped; g++)
        run_group(p, kind, x + g * p->x_group, w + g * next, bias ? bias + g * p->filters : NULL, y + g * p->y_group, run);
}
