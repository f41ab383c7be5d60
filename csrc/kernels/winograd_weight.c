/* winograd_weight.c: the gradient of 3 x 3 weights by Winograd's F(3 x 3, 4 x 4) and F(3 x 3, 2 x 2), and of 5 x 5 weights by F(5 x 5, 2 x 2).
 *
 *     V[point][tile][c] = B' d B of the input, D[point][tile][k] = G g G' of the gradient of the result
 *     M[point][c][k]    = sum over tiles of V[point][tile][c] * D[point][tile][k]
 *     dw                = A' M A, once for a part of at most 256 tiles; series.h says how parts are added
 *
 * A task is a block of channels and of filters whose M lies in the second-level cache, and a series of parts: some tiles at a time are
 * transformed there, added to M and forgotten. Blocks of other tasks transform the same tiles once more: that costs less than to fetch them from another
 * core's cache or from the third level, and no thread reads what another one wrote. Groups, and planes of a window, are tasks of
 * their own.
 * Small images whose channels are not neighbours are copied first to memory where they are: tasks would each turn the same planes. */
#include "../base/machine.h"
#include "box.h"
#include "conv_bias.h"
#include "series.h"
#include "tile.h"
#include "winograd.h"
#include "winograd_tiles.h"

/* Tiles of a part; bytes of the sums of all series; parts of one between two looks for an interruption. */
enum { PART = 256, SUMS = 8 << 20, WAVE = 32 };

struct plan {
    const struct cnn_conv *p;
    struct cnn_conv one;          /* the convolution of a group by a plane of the window */
    const real *x, *dy;
    real *dw;
    enum kind kind;               /* of the convolution */
    int flat, points;
    long taps;                    /* of a plane */
    long jobs;                    /* groups and planes */
    long count, part;             /* tiles in all, and of a part */
    struct series series;
    long panels, filter_blocks, block_panels;      /* of filters */
    long channel_blocks, block_channels;           /* whole vectors */
    long tiles;                   /* that a task transforms at once */
    long v_row, v_pitch, d_pitch, d_panel, m_pitch; /* v_row: from a tile's channels to the next one's */
    real *sums;                   /* sums[series][job][panel][tap][channel][width] */
    long sum_reals;               /* of one job */
    long turn;                    /* the first part of the series in this wave */
    char *worker;
    size_t worker_bytes, tile_bytes, m_bytes, taps_bytes, v_bytes;
};

static long width_of(const struct plan *s, long panel) { return s->one.k - panel * TILE_WIDTH > LANES ? TILE_WIDTH : LANES; }

/* A number of parts that threads can share: a power of two, or a multiple of sixteen. */
static long even(long parts)
{
    long power = 1;
    while (power < 16 && power < parts)
        power *= 2;
    return round_up(parts, power);
}

/* The blocks of M: at most `cells` cells a point, few transforms, and enough tasks for all workers. */
static void cut_blocks(struct plan *s, long cells, int workers)
{
    const long vectors = divide_up(s->one.c, LANES), rest = s->jobs * s->series.count;
    double least = 0;
    for (long f = 1; f <= s->panels; f++) {
        const long width = divide_up(s->panels, f);
        for (long c = 1; c <= vectors; c++) {
            const long height = divide_up(vectors, c) * LANES;
            const long tasks = rest * divide_up(s->panels, width) * divide_up(vectors * LANES, height), turns = divide_up(tasks, workers);
            const int fits = height * width * TILE_WIDTH <= cells && tasks * 10 >= workers * turns * 9;
            const double work = (double)(f * vectors * LANES + c * s->panels * TILE_WIDTH);
            const int last = f == s->panels && c == vectors;
            if ((fits || (last && least == 0)) && (least == 0 || work < least)) {
                least = work;
                s->block_panels = width, s->block_channels = height;
            }
            if (fits)
                break;
        }
    }
    s->filter_blocks = divide_up(s->panels, s->block_panels);
    s->channel_blocks = divide_up(s->one.c, s->block_channels);
}

/* The convolution of a group by plane `d` of the window alone. */
static struct cnn_conv one_plane(const struct cnn_conv *p, long d)
{
    struct cnn_conv one = *p;
    one.c /= p->groups, one.k /= p->groups, one.groups = 1;
    one.window[0] = 1, one.before[0] -= d * p->dilation[0];
    return one;
}

static struct tiles tiles_of_input(const struct plan *s, const struct cnn_conv *one)
{
    const struct windows in = FN(conv_windows)(one);
    return FN(cut_tiles)(&in, s->flat, s->kind);
}

static struct tiles tiles_of_gradient(const struct plan *s)
{
    const struct cnn_conv *p = &s->one;
    struct windows out = {.images = p->n, .channels = p->k};
    for (int a = 0; a < 3; a++)
        out.in[a] = out.out[a] = p->out[a], out.taps[a] = out.step[a] = 1, out.spread[a] = a ? p->dilation[a] : 1;
    for (int i = 0; i < 5; i++)
        out.stride[i] = p->y[i];
    return FN(cut_tiles)(&out, s->flat, s->kind);
}

static size_t make_plan(struct plan *s, const struct cnn_conv *p, enum kind kind, int workers, char *scratch)
{
    const double l2 = (double)cnn_machine()->l2 / sizeof(real);
    const int flat = p->window[1] == 1;
    const struct scheme scheme = scheme_of(kind);
    const int n = scheme.points, taps = scheme.taps;
    *s = (struct plan){.p = p, .one = one_plane(p, 0), .kind = kind, .flat = flat, .points = flat ? n : n * n, .taps = flat ? taps : taps * taps,
                       .jobs = p->groups * p->window[0]};
    const struct tiles in = tiles_of_input(s, &s->one), out = tiles_of_gradient(s);
    s->count = in.count;
    s->part = divide_up(s->count, max_long(1, even(divide_up(s->count, PART))));
    s->panels = divide_up(s->one.k, TILE_WIDTH);
    s->sum_reals = s->panels * s->taps * s->one.c * TILE_WIDTH;
    s->series = cut_series(s->count > 0 ? divide_up(s->count, s->part) : 0, s->jobs * s->sum_reals, SUMS);
    cut_blocks(s, (long)(l2 * 2 / 5) / s->points, workers);
    const long filters = s->block_panels * TILE_WIDTH, channels = s->block_channels;
    s->m_pitch = point_pitch(channels * filters);
    s->tiles = max_long(TILE_ROWS, (long)(l2 * 1 / 2) / (s->points * (channels + filters)));
    s->tiles = divide_up(s->part, max_long(1, divide_up(s->part, s->tiles)));
    s->v_row = channels * (long)sizeof(real) % 1024 == 0 ? channels + LANES : channels;
    s->v_pitch = point_pitch(s->tiles * s->v_row + TILE_ROWS);
    s->d_panel = s->tiles * TILE_WIDTH;
    s->d_pitch = point_pitch(s->d_panel * s->block_panels);
    s->v_bytes = aligned((size_t)(s->points * s->v_pitch) * sizeof(real));
    s->m_bytes = aligned((size_t)(s->points * s->m_pitch) * sizeof(real));
    s->taps_bytes = s->series.parts == 1 ? aligned((size_t)(s->taps * channels * TILE_WIDTH) * sizeof(real)) : 0;
    const size_t in_bytes = FN(tiles_scratch)(&in), out_bytes = FN(tiles_scratch)(&out);
    s->tile_bytes = aligned(in_bytes > out_bytes ? in_bytes : out_bytes);
    s->worker_bytes = spaced(s->tile_bytes + s->m_bytes + s->taps_bytes + s->v_bytes + (size_t)(s->points * s->d_pitch) * sizeof(real));
    s->sums = (real *)scratch;
    s->worker = scratch + (s->series.parts > 1 ? aligned((size_t)(s->series.count * s->jobs * s->sum_reals) * sizeof(real)) : 0);
    return (size_t)(s->worker - scratch) + (size_t)workers * s->worker_bytes;
}

/* A' M A of one channel and vector of filters, to its taps, or added to them. */
ALWAYS_INLINE void tap_vector(const enum kind kind, const real *from, long point_pitch, real *to, long tap_pitch, int add)
{
    const int n = scheme_of(kind).points, taps = scheme_of(kind).taps;
    vec half[MOST_WINDOW][MOST_POINTS];
    UNROLL for (int j = 0; j < n; j++) {
        vec d[MOST_POINTS], v[MOST_WINDOW];
        UNROLL for (int i = 0; i < n; i++)
            d[i] = vec_load(from + (i * n + j) * point_pitch);
        tap_points(kind, d, v);
        UNROLL for (int i = 0; i < taps; i++)
            half[i][j] = v[i];
    }
    UNROLL for (int i = 0; i < taps; i++) {
        vec v[MOST_WINDOW];
        tap_points(kind, half[i], v);
        UNROLL for (int j = 0; j < taps; j++) {
            real *tap = to + (i * taps + j) * tap_pitch;
            if (add)
                v[j] = vec_load(tap) + v[j];
            vec_store(tap, v[j]);
        }
    }
}

/* A' M of a flat tile, to its taps. */
ALWAYS_INLINE void flat_tap_vector(const enum kind kind, const real *from, long point_pitch, real *to, long tap_pitch, int add)
{
    vec d[MOST_POINTS], v[MOST_WINDOW];
    UNROLL for (int i = 0; i < scheme_of(kind).points; i++)
        d[i] = vec_load(from + i * point_pitch);
    tap_points(kind, d, v);
    UNROLL for (int j = 0; j < scheme_of(kind).taps; j++) {
        if (add)
            v[j] = vec_load(to + j * tap_pitch) + v[j];
        vec_store(to + j * tap_pitch, v[j]);
    }
}

/* M of some rows of a panel to its taps, each `tap_pitch` apart. */
static void inverse(const struct plan *s, const real *m, long reals, real *sums, long tap_pitch, int add)
{
    for (long i = 0; i < reals; i += LANES)
        if (s->kind == F2_3)
            s->flat ? flat_tap_vector(F2_3, m + i, s->m_pitch, sums + i, tap_pitch, add) : tap_vector(F2_3, m + i, s->m_pitch, sums + i, tap_pitch, add);
        else if (s->kind == F4_3)
            s->flat ? flat_tap_vector(F4_3, m + i, s->m_pitch, sums + i, tap_pitch, add) : tap_vector(F4_3, m + i, s->m_pitch, sums + i, tap_pitch, add);
        else
            s->flat ? flat_tap_vector(F2_5, m + i, s->m_pitch, sums + i, tap_pitch, add) : tap_vector(F2_5, m + i, s->m_pitch, sums + i, tap_pitch, add);
}

/* One job's share of dw. */
static real *dw_of(const struct plan *s, long job)
{
    const long group = job / s->p->window[0], plane = job % s->p->window[0];
    return s->dw + group * s->one.k * s->p->w[0] + plane * s->p->w[2];
}

/* What a task works on. */
struct block {
    long job, panel, panels, channel, channels; /* from which on, and how many */
    const real *x, *dy;
    struct tiles in, out;
    struct cut cut;
    char *scratch;                              /* of transforms */
    real *m, *taps, *v, *d;
};

/* Adds tiles [first, first + count) to M, or writes it. */
static void add_tiles(const struct plan *s, const struct block *b, long first, long count, int join)
{
    const long zero = 0;
    FN(transform_tiles)(&b->in, b->x, first, count, 0, b->channel, b->channels, b->scratch, b->v, s->v_row, s->v_pitch);
    for (long panel = 0; panel < b->panels; panel++) {
        const long width = width_of(s, b->panel + panel), k = (b->panel + panel) * TILE_WIDTH;
        FN(transform_tiles)(&b->out, b->dy, first, count, 0, k, min_long(width, s->one.k - k), b->scratch, b->d + panel * s->d_panel, width, s->d_pitch);
    }
    struct tile t = {.parts = 1, .depth = count, .offset = &zero, .step = s->v_row, .join = join};
    for (long point = 0; point < s->points; point++)
        for (long panel = 0; panel < b->panels; panel++) {
            real *to = b->m + point * s->m_pitch + panel * TILE_WIDTH * b->channels;
            t.valid = t.c_apart = width_of(s, b->panel + panel);
            t.b = b->d + point * s->d_pitch + panel * s->d_panel;
            for (long i = 0; i < b->cut.tiles; i++) {
                const long row = cut_begin(b->cut, i), height = cut_height(b->cut, i);
                t.a[0] = b->v + point * s->v_pitch + row;
                t.c[0] = to + row * t.valid;
                FN(tile_columns)(height, (int)(t.valid / LANES))(&t);
            }
        }
}

/* M to the sums of its taps, or to dw where no other part follows. */
static void finish_part(const struct plan *s, const struct block *b, long series, int add)
{
    for (long panel = 0; panel < b->panels; panel++) {
        const long number = b->panel + panel, width = width_of(s, number), c = s->one.c;
        const real *m = b->m + panel * TILE_WIDTH * b->channels;
        if (s->series.parts == 1) {
            inverse(s, m, b->channels * width, b->taps, b->channels * width, 0);
            FN(unpack_weights)(&s->one, 0, number, b->channel, b->channels, b->taps, 1, dw_of(s, b->job));
        } else {
            real *sums = s->sums + (series * s->jobs + b->job) * s->sum_reals + number * s->taps * c * TILE_WIDTH;
            inverse(s, m, b->channels * width, sums + b->channel * width, c * width, add);
        }
    }
}

/* This wave of a series, for one block of one job. */
static void run_task(void *context, long task, int worker)
{
    const struct plan *s = context;
    const long blocks = s->filter_blocks * s->channel_blocks, block = task % blocks, series = task / blocks % s->series.count;
    struct block b = {.job = task / blocks / s->series.count, .panel = block / s->channel_blocks * s->block_panels, .channel = block % s->channel_blocks * s->block_channels};
    b.panels = min_long(s->block_panels, s->panels - b.panel), b.channels = min_long(s->block_channels, s->one.c - b.channel);
    b.cut = cut_rows(b.channels);
    const long group = b.job / s->p->window[0];
    const struct cnn_conv one = one_plane(s->p, b.job % s->p->window[0]);
    b.in = tiles_of_input(s, &one), b.out = tiles_of_gradient(s);
    b.x = s->x + group * one.c * s->p->x[1], b.dy = s->dy + group * one.k * s->p->y[1];
    b.scratch = s->worker + (size_t)worker * s->worker_bytes;
    b.m = (real *)(b.scratch + s->tile_bytes), b.taps = (real *)((char *)b.m + s->m_bytes);
    b.v = (real *)((char *)b.taps + s->taps_bytes), b.d = (real *)((char *)b.v + s->v_bytes);
    const long begin = series_begin(s->series, series), end = min_long(series_end(s->series, series), begin + s->turn + WAVE);
    for (long part = begin + s->turn; part < end; part++) {
        const long first = part * s->part, last = min_long(s->count, first + s->part);
        for (long i = first; i < last; i += s->tiles)
            add_tiles(s, &b, i, min_long(s->tiles, last - i), i > first ? CONTINUE : OVERWRITE);
        finish_part(s, &b, series, part > begin);
    }
}

/* The sums of a panel over all series, to dw. */
static void store_panel(void *context, long number, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const long job = number / s->panels, panel = number % s->panels, reals = s->taps * s->one.c * TILE_WIDTH, place = job * s->sum_reals + panel * reals;
    if (s->series.parts)
        join_series(s->series, s->sums + place, s->jobs * s->sum_reals, 0, s->taps * s->one.c * width_of(s, panel));
    FN(unpack_weights)(&s->one, 0, panel, 0, s->one.c, s->series.parts ? s->sums + place : NULL, 1, dw_of(s, job));
}

/* ---- images in another order ---- */

enum { TURNED = 4 << 20, TURN_CHANNELS = 64 }; /* bytes of both images that are copied, at most; channels of a block */

/* An image whose channels lie apart: its cells, its strides before, and how many reals a copy takes; 0 if it stays where it is. */
struct turned {
    struct windows w;
    const real *from;
    real *to;
    long reals, blocks;
};

/* Strides of an image of neighbouring channels. */
static void set_near(const long cells[3], long channels, long stride[5])
{
    stride[1] = 1, stride[4] = channels, stride[3] = stride[4] * cells[2], stride[2] = stride[3] * cells[1], stride[0] = stride[2] * cells[0];
}

static struct turned turned_image(long images, long channels, const long cells[3], long stride[5])
{
    struct turned t = {.w = {.images = images, .channels = channels}};
    for (int i = 0; i < 5; i++)
        t.w.stride[i] = stride[i];
    for (int a = 0; a < 3; a++)
        t.w.in[a] = t.w.out[a] = cells[a], t.w.taps[a] = t.w.step[a] = t.w.spread[a] = 1;
    if (stride[1] != 1 && channels > 1 && cells[2] <= LINE) /* longer rows are turned as fast as they are read */
        t.reals = images * channels * cells[0] * cells[1] * cells[2];
    t.blocks = divide_up(channels, TURN_CHANNELS);
    return t;
}

/* The same convolution over copies of its images, as far as these are small. */
static struct cnn_conv turn_small(const struct cnn_conv *p, struct turned image[2])
{
    struct cnn_conv q = *p;
    image[0] = turned_image(p->n, p->c, p->in, q.x), image[1] = turned_image(p->n, p->k, p->out, q.y);
    if ((image[0].reals + image[1].reals) * (long)sizeof(real) > TURNED)
        image[0].reals = image[1].reals = 0;
    if (image[0].reals)
        set_near(p->in, p->c, q.x);
    if (image[1].reals)
        set_near(p->out, p->k, q.y);
    return q;
}

static size_t turned_bytes(const struct turned image[2]) { return aligned((size_t)image[0].reals * sizeof(real)) + aligned((size_t)image[1].reals * sizeof(real)); }

/* Some channels of one image. */
static void turn_block(void *context, long block, int worker)
{
    (void)worker;
    const struct turned *t = context;
    const struct windows *w = &t->w;
    const long c = block % t->blocks * TURN_CHANNELS;
    const struct box box = {block / t->blocks, 1, {0, 0, 0}, {w->in[0], w->in[1], w->in[2]}};
    const struct pitch pitch = FN(box_pitch)(w, 1, box.size, w->channels);
    FN(box_copy)(w, &box, t->from, c, min_long(TURN_CHANNELS, w->channels - c), pitch, t->to + box.image * pitch.image + c);
}

/* Copies the image, if it is one that is copied, and returns where it lies then. */
static const real *turn(struct turned *t, const real *from, char *to, struct cnn_run *run)
{
    if (!t->reals)
        return from;
    t->from = from, t->to = (real *)to;
    cnn_parallel_for(run, t->w.images * t->blocks, (double)t->reals, turn_block, t);
    return t->to;
}

size_t FN(winograd_weight_scratch)(const struct cnn_conv *p, int kind, int workers)
{
    struct plan s;
    struct turned image[2];
    const struct cnn_conv q = turn_small(p, image);
    return turned_bytes(image) + make_plan(&s, &q, kind, workers, cnn_no_scratch);
}

void FN(winograd_weight)(const struct cnn_conv *p, int kind, const real *x, const real *dy, real *dw, real *db, struct cnn_run *run)
{
    struct plan s;
    struct turned image[2];
    const struct cnn_conv q = turn_small(p, image);
    make_plan(&s, &q, kind, run->workers, run->scratch + turned_bytes(image));
    s.x = turn(&image[0], x, run->scratch, run), s.dw = dw;
    s.dy = turn(&image[1], dy, run->scratch + aligned((size_t)image[0].reals * sizeof(real)), run);
    const double work = (double)(s.points * s.count * s.one.c) * (double)(s.jobs * s.panels * TILE_WIDTH) / 25;
    for (s.turn = 0; s.turn < s.series.length && s.series.parts && !run->stopped; s.turn += WAVE)
        cnn_parallel_for(run, s.jobs * s.series.count * s.filter_blocks * s.channel_blocks, work, run_task, &s);
    if (s.series.parts != 1)
        cnn_parallel_for(run, s.jobs * s.panels, (double)(s.series.count * s.jobs * s.sum_reals) / 2, store_panel, &s);
    if (db)
        FN(conv_bias)(p, dy, db, run);
}
