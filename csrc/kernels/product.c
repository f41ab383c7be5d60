#include "product.h"

#include "../base/machine.h"
#include "coming.h"
#include "tile.h"
#include "transpose.h"

#include <stdint.h>

/* Everything that follows from the problem: how it is cut and where its scratch lies. */
struct plan {
    const struct product *p;
    struct product joined;     /* what p points to */
    const real *x, *w, *bias;
    real *y;
    long chunk;                /* channels of a chunk */
    long taps, terms;          /* terms = taps * channels: length of a sum */
    long phases, panels;       /* panels of TILE_WIDTH filters, the last one perhaps of LANES, those of all phases beside each other; a group */
    long panel_size;           /* reals of a full panel: terms * TILE_WIDTH */
    struct boxes boxes;
    long cells;                /* output cells of the largest box */
    long together, slices;     /* panels a block computes; blocks that share a box */
    long kept;                 /* panels whose sums are kept aside at a time, where y has another order */
    int in_place;              /* x itself serves as the box */
    int zero_rows;             /* some rows or planes of windows lie in zeros around the image */
    int one_run;               /* a row of taps is one run of channels in memory */
    int direct;                /* filters are neighbours in y: tiles store there */
    int pair;                  /* cells of two phases alternate in y */
    int pack_late;             /* one box: a panel serves once, and is packed in a cache just before */
    long pass_groups, pass_panels; /* that are packed at once; the rest follows in further passes */
    long first_group, groups, first_panel, count; /* of the pass at work */
    struct pitch pitch;        /* of the box of a full chunk */
    real *packed, *bias_packed;
    char *worker;              /* per-worker scratch */
    size_t worker_bytes, box_bytes, cell_bytes, offset_bytes, slice_bytes;
};

/* Rows of a tile lie one pixel apart. A pitch of a large power of two would put them all into one set of the first cache. */
static long roomy_pixel(long channels)
{
    const long bytes = channels * (long)sizeof(real);
    return bytes % 1024 == 0 ? channels + 64 / (long)sizeof(real) : channels;
}

/* Cells of a long row in a box, at most, and those that a deep chunk leaves room for: whole tiles of AVX-512. Panels that may read pixels where they lie,
 * a power of two apart. */
enum { MANY_CELLS = 448, FEW_CELLS = 126, FEW_PANELS = 16 };

enum { WORTH_CUTTING = 1000000 }; /* products that take longer than to wake a worker */

/* Channels of a chunk. Where the window is one cell the sum has the same order whatever a chunk is, and every chunk reads and writes y once more: there a
 * chunk takes as many channels as leave room for a few cells in half the second cache. */
static long chunk_of(const struct windows *w, long taps)
{
    if (taps > 1)
        return min_long(w->channels, CHUNK);
    const long most = max_long(CHUNK, (long)(cnn_machine()->l2 / 2 / sizeof(real)) / FEW_CELLS), chunks = max_long(1, divide_up(w->channels, most));
    return min_long(w->channels, round_up(divide_up(w->channels, chunks), LINE));
}

/* At most 512 output cells in a box. One long row is cut into as many boxes as keep all workers busy to the end, if it can be
 * of whole tiles. */
static long cells_of_box(const struct windows *w, long taps, long chunk, double room, long workers)
{
    const long cells = w->out[2], most = min_long(MANY_CELLS, (long)room / max_long(1, chunk));
    if (taps > 1 || w->images * w->out[0] * w->out[1] > 1 || most < TILE_ROWS || cells <= most)
        return 512;
    const long fewest = round_up(divide_up(cells, most), workers);
    for (long count = fewest; count < fewest + 4 * workers; count += workers) {
        const long size = round_up(divide_up(cells, count), TILE_ROWS);
        if (size <= most && divide_up(cells, size) == count)
            return size;
    }
    return divide_up(cells, fewest);
}

/* Windows of one cell do not see where a row, a plane or an image ends: where the next one follows in x and y, both are one long row. */
static struct product joined(const struct product *p)
{
    struct product q = *p;
    struct windows *w = &q.in;
    for (int a = 0; a < 3; a++)
        if (w->taps[a] != 1 || w->step[a] != 1 || w->before[a] != 0 || w->in[a] != w->out[a])
            return q;
    long *const count[] = {&w->images, &w->out[0], &w->out[1]};
    for (int i = 2; i >= 0; i--) {
        const long cells = w->out[2], at = i ? i + 1 : 0;
        if (*count[i] > 1 && (w->stride[at] != cells * w->stride[4] || q.y[at] != cells * q.y[4]))
            break;
        w->out[2] = cells * *count[i], *count[i] = 1;
    }
    for (int a = 0; a < 3; a++)
        w->in[a] = w->out[a];
    return q;
}

static size_t make_plan(struct plan *s, const struct product *problem, int workers, char *scratch)
{
    s->joined = joined(problem);
    const struct product *p = s->p = &s->joined;
    const struct windows *w = &p->in;
    s->taps = w->taps[0] * w->taps[1] * w->taps[2];
    const long chunk = s->chunk = chunk_of(w, s->taps);
    s->terms = s->taps * w->channels;
    s->phases = phases_of(p);
    s->panels = divide_up(p->filters, TILE_WIDTH) * s->phases;
    s->panel_size = s->terms * TILE_WIDTH;
    s->direct = p->y[1] == 1;
    s->pair = CNN_HAS_TRANSPOSE && !s->direct && p->phases.count[2] == 2 && p->phases.y[2] == 1 && p->y[4] == 2;

    const double room = (double)cnn_machine()->l2 / 2 / sizeof(real);
    s->boxes = FN(cut_boxes)(w, cells_of_box(w, s->taps, chunk, room, workers), chunk, room);
    /* One box, or a few that the workers cannot share evenly, are cut once more; panels of a single box are shared below. */
    const long all = w->images * w->out[0] * w->out[1] * w->out[2], even = cnn_even_blocks(s->boxes.total * p->groups, workers);
    if (even > s->boxes.total * p->groups && (s->boxes.total > 1 || s->panels < workers) && all > even && (double)(all * s->terms) * (double)p->filters > WORTH_CUTTING)
        s->boxes = FN(cut_boxes)(w, divide_up(all, divide_up(even, p->groups)), chunk, room);
    s->cells = s->boxes.size[0] * s->boxes.size[1] * s->boxes.size[2] * s->boxes.size[3];
    /* Packed weights take at most PACKED bytes: some panels, or some groups, at a time. */
    const long panel_bytes = max_long(1, s->panel_size * (long)sizeof(real)), most = max_long(1, PACKED / panel_bytes);
    s->pack_late = s->boxes.total == 1 && !p->packed;
    s->pass_panels = p->groups > 1 || s->pack_late || p->packed ? s->panels : divide_up(s->panels, max_long(1, divide_up(s->panels, most)));
    s->pass_panels = round_up(s->pass_panels, 1 + s->pair);
    s->pass_groups = s->pack_late || p->packed ? p->groups : min_long(p->groups, max_long(1, most / max_long(1, s->panels)));
    int padded = 0;
    for (int a = 0; a < 3; a++) {
        padded |= w->before[a] != 0 || (w->out[a] - 1) * w->step[a] + (w->taps[a] - 1) * w->spread[a] >= w->in[a];
        if (a < 2)
            s->zero_rows = padded && w->mode == CNN_ZEROS;
    }
    /* Pixels a large power of two apart share sets of the caches. That is borne where each is read a few times and few of them are used at a time. */
    const long cells = w->images * w->out[0] * w->out[1] * w->out[2], pixel = w->stride[4] * (long)sizeof(real);
    s->one_run = w->channels <= CHUNK && w->spread[2] == 1 && w->taps[2] > 1;
    s->in_place = !padded && w->stride[1] == 1 && (!s->one_run || w->stride[4] == w->channels) &&
                  (pixel % 2048 != 0 || (s->taps == 1 && ((pixel == 2048 && s->panels <= FEW_PANELS) || (double)(cells * pixel) <= 2 * (double)cnn_machine()->l2)));
    if (s->one_run && !s->in_place && roomy_pixel(w->channels) != w->channels)
        s->one_run = 0;
    s->pitch = FN(box_pitch)(w, s->boxes.size[0], s->boxes.size + 1, s->one_run ? chunk : roomy_pixel(chunk));

    /* Boxes alone may be too few to keep every core busy: then several blocks share a box, each with some of the panels. A box that is copied is
     * copied by each of them. */
    const long spatial = max_long(1, s->boxes.total * p->groups), wanted = s->in_place ? 16 : workers > 1 ? 2 * workers : 1;
    const double panel_work = 2.0 * (double)(s->cells * s->terms) * TILE_WIDTH;
    s->slices = min_long(s->pass_panels, max_long(1, divide_up(wanted, spatial)));
    while (s->slices > 1 && panel_work * (double)(s->pass_panels / s->slices) < 1e6)
        s->slices--;
    s->together = s->panels ? round_up(divide_up(s->pass_panels, max_long(1, s->slices)), 1 + s->pair) : 0;
    s->slices = s->panels ? divide_up(s->pass_panels, s->together) : 0;

    s->slice_bytes = s->pack_late ? aligned((size_t)(s->taps * chunk * TILE_WIDTH) * sizeof(real)) : 0;
    s->packed = (real *)scratch;
    size_t bytes = s->pack_late || p->packed ? 0 : aligned((size_t)(s->pass_groups * s->pass_panels * s->panel_size) * sizeof(real));
    s->bias_packed = (real *)(scratch + bytes);
    bytes += aligned((size_t)(p->groups * s->panels * TILE_WIDTH) * sizeof(real));
    s->worker = scratch + bytes;
    s->box_bytes = s->in_place ? 0 : aligned((size_t)s->pitch.size * sizeof(real));
    s->cell_bytes = aligned((size_t)s->cells * sizeof(long));
    s->offset_bytes = aligned((size_t)s->taps * sizeof(long));
    s->kept = w->channels > chunk ? s->together : 1 + s->pair;
    const size_t out_bytes = s->direct ? 0 : aligned((size_t)(s->kept * s->cells * TILE_WIDTH) * sizeof(real));
    s->worker_bytes = spaced(s->slice_bytes + s->box_bytes + 2 * s->cell_bytes + s->offset_bytes + out_bytes);
    return bytes + (size_t)workers * s->worker_bytes;
}

/* What a panel computes: some filters of a phase. */
struct view {
    long place, width, valid; /* the panel among those of its phase, filters it has room for, and has */
    long first[3], taps[3];   /* of the windows */
    long w, y;                /* where its weights and results begin */
};

static struct view view_panel(const struct plan *s, long group, long panel)
{
    const struct product *p = s->p;
    struct view v = {.place = panel / s->phases};
    v.width = panel_width(p, v.place), v.valid = min_long(v.width, p->filters - v.place * TILE_WIDTH);
    v.y = group * p->y_group + v.place * TILE_WIDTH * p->y[1];
    long phase = panel % s->phases;
    for (int a = 2; a >= 0; a--) {
        const long count = p->phases.count[a], i = count ? phase % count : 0;
        v.taps[a] = p->in.taps[a];
        if (!count)
            continue;
        v.first[a] = p->phases.axis[a][i].first, v.taps[a] = p->phases.axis[a][i].taps;
        v.w += p->phases.axis[a][i].w, v.y += i * p->phases.y[a];
        phase /= count;
    }
    return v;
}

static long taps_of(const struct view *v) { return v->taps[0] * v->taps[1] * v->taps[2]; }

static void pack_view(const struct plan *s, const struct view *v, long group, long c0, long channels, real *to)
{
    struct product q = *s->p;
    for (int a = 0; a < 3; a++)
        q.in.taps[a] = v->taps[a];
    FN(pack_weights)(&q, s->w + v->w, group, v->place, c0, channels, to);
}

/* Where panel `panel` of `group` stands among those packed for this pass. */
static real *packed_panel(const struct plan *s, long group, long panel)
{
    return s->packed + ((group - s->first_group) * s->count + panel - s->first_panel) * s->panel_size;
}

/* Packs panel `block` of the pass, chunk after chunk, and its bias. */
static void pack_panel(void *context, long block, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const struct product *p = s->p;
    const long group = s->first_group + block / s->count, panel = s->first_panel + block % s->count;
    const struct view v = view_panel(s, group, panel);
    for (long c0 = 0; !s->pack_late && !p->packed && c0 < p->in.channels; c0 += CHUNK)
        pack_view(s, &v, group, c0, min_long(CHUNK, p->in.channels - c0), packed_panel(s, group, panel) + c0 * taps_of(&v) * v.width);
    real *bias = s->bias_packed + (group * s->panels + panel) * TILE_WIDTH;
    for (long j = 0; j < v.width; j++)
        bias[j] = s->bias && j < v.valid ? s->bias[group * p->filters + v.place * TILE_WIDTH + j] : 0;
}

/* Offsets of every output cell of the box: into the input box, and into y. */
static void find_cells(const struct plan *s, const struct box *b, struct pitch pitch, long *in, long *out)
{
    const struct windows *w = &s->p->in;
    for (long n = 0; n < b->images; n++)
        for (long d = 0; d < b->size[0]; d++)
            for (long h = 0; h < b->size[1]; h++) {
                const long in_row = n * pitch.image + d * w->step[0] * pitch.plane + h * w->step[1] * pitch.row;
                const long out_row = (b->image + n) * s->p->y[0] + (b->begin[0] + d) * s->p->y[2] +
                                     (b->begin[1] + h) * s->p->y[3] + b->begin[2] * s->p->y[4];
                for (long i = 0; i < b->size[2]; i++) {
                    *in++ = in_row + i * w->step[2] * pitch.pixel;
                    *out++ = out_row + i * s->p->y[4];
                }
            }
}

static long find_taps(const struct plan *s, const struct view *v, struct pitch pitch, long *offset)
{
    const long *spread = s->p->in.spread, *first = v->first;
    long parts = 0;
    for (long d = first[0]; d < first[0] + v->taps[0]; d++)
        for (long h = first[1]; h < first[1] + v->taps[1]; h++)
            for (long r = first[2]; r < first[2] + (s->one_run ? 1 : v->taps[2]); r++)
                offset[parts++] = d * spread[0] * pitch.plane + h * spread[1] * pitch.row + r * spread[2] * pitch.pixel;
    return parts;
}

/* The taps [first, last) of an axis that reach into the image from output cell number `at`; of those that `v` has, counted from its first. */
struct reach { long first, last; };

static struct reach find_reach(const struct windows *w, const struct view *v, int axis, long at)
{
    const long from = at * w->step[axis] - w->before[axis] + v->first[axis] * w->spread[axis], beyond = w->in[axis] - from;
    return (struct reach){from < 0 ? divide_up(-from, w->spread[axis]) : 0, beyond > 0 ? min_long(v->taps[axis], divide_up(beyond, w->spread[axis])) : 0};
}

/* The planes and rows of taps that reach into the image from any of `height` cells of the box, from number `begin` on. */
static void reach_of_cells(const struct plan *s, const struct box *b, const struct view *v, long begin, long height, struct reach reach[2])
{
    const long *size = b->size;
    reach[0] = (struct reach){v->taps[0], 0}, reach[1] = (struct reach){v->taps[1], 0};
    for (long row = begin / size[2]; row <= (begin + height - 1) / size[2]; row++) {
        const long at[2] = {b->begin[0] + row / size[1] % size[0], b->begin[1] + row % size[1]};
        const struct reach own[2] = {find_reach(&s->p->in, v, 0, at[0]), find_reach(&s->p->in, v, 1, at[1])};
        if (own[0].first >= own[0].last || own[1].first >= own[1].last)
            continue;
        for (int a = 0; a < 2; a++)
            reach[a] = (struct reach){min_long(reach[a].first, own[a].first), max_long(reach[a].last, own[a].last)};
    }
}

/* Whether the rows and planes of all taps reach into the image from all cells of the box. */
static int reaches_whole(const struct plan *s, const struct box *b, const struct view *v)
{
    for (int a = 0; a < 2; a++)
        if (find_reach(&s->p->in, v, a, b->begin[a]).first > 0 || find_reach(&s->p->in, v, a, b->begin[a] + b->size[a] - 1).last < v->taps[a])
            return 0;
    return 1;
}

/* The tile without the taps that meet nothing but zeros: they would add nothing. parts: taps of a row. */
static void run_reached(tile_function *run, struct tile t, const struct view *v, const struct reach reach[2], long width, long parts)
{
    const struct reach rows = reach[1];
    const int whole = rows.first == 0 && rows.last == v->taps[1];
    const struct tile all = t;
    for (long d = reach[0].first, next; d < reach[0].last || d == reach[0].first; d = next) {
        next = whole ? max_long(d + 1, reach[0].last) : d + 1;
        const long skipped = (d * v->taps[1] + rows.first) * parts;
        const int is_last = next >= reach[0].last;
        t.parts = max_long(0, rows.last - rows.first) * (min_long(next, reach[0].last) - d) * parts;
        t.offset = all.offset + skipped, t.b = all.b + skipped * t.depth * width;
        t.bias = is_last ? all.bias : NULL;
        t.activation = is_last ? all.activation : CNN_LINEAR;
        run(&t);
        t.join = CONTINUE;
    }
}

/* A square of LANES cells, or of the first `count`, and LANES filters is turned. */
ALWAYS_INLINE void load_square(const real *from, long count, long width, vec v[LANES])
{
    for (int i = 0; i < LANES; i++)
        v[i] = vec_load(from + min_long(i, count - 1) * width);
    transpose(v);
}

/* Cells [begin, end), `step` apart in y: squares of LANES cells and LANES filters, the last ones of the cells begin early, or end late where they
 * are few. Cells between belong to another phase of a transposed convolution, which no thread computes now; or to `odd`, if it is given. */
ALWAYS_INLINE void scatter_run(const struct plan *s, const real *from, const real *odd, long begin, long end, const long *out, long squares, const int step,
                               long width, real *y)
{
    const long df = s->p->y[1], count = min_long(LANES, end - begin);
    for (long j = 0; j < squares; j += LANES)
        for (long m = begin;; m = min_long(m + LANES, end - LANES)) {
            vec v[LANES], u[LANES];
            load_square(from + m * width + j, count, width, v);
            if (odd)
                load_square(odd + m * width + j, count, width, u);
            real *to = y + out[m] + j * df;
            for (int i = 0; i < LANES; i++, to += df)
                if (odd)
                    vec_put_alternating(to, v[i], u[i], count);
                else if (step == 2)
                    vec_store_every_other(to, v[i], count);
                else
                    vec_put(to, v[i], count);
            if (m + LANES >= end)
                break;
        }
}

/* Results of a panel, [cell][width], to their places in y. odd: those of the cells between, or NULL. */
static void scatter(const struct plan *s, const real *from, const real *odd, long cells, const long *out, long valid, long width, real *y)
{
    const long df = s->p->y[1], step = s->p->y[4], turns = step == 1 || step == 2;
    for (long begin = 0, end; begin < cells; begin = end) { /* some lines of each plane at a time */
        const long most = min_long(cells, begin + 64);
        for (end = begin + 1; end < most && (!turns || out[end] == out[end - 1] + step);)
            end++;
        const long squares = turns && 2 * (end - begin) >= LANES ? valid / LANES * LANES : 0;
        if (step == 1)
            scatter_run(s, from, NULL, begin, end, out, squares, 1, width, y);
        else if (odd)
            scatter_run(s, from, odd, begin, end, out, squares, 2, width, y);
        else
            scatter_run(s, from, NULL, begin, end, out, squares, 2, width, y);
        for (long j = squares; j < valid; j++)
            for (long m = begin; m < end; m++) {
                y[out[m] + j * df] = from[m * width + j];
                if (odd)
                    y[out[m] + 1 + j * df] = odd[m * width + j];
            }
    }
}

/* The input that is read after the chunk of a block from c0 on: the next chunk, or the first one of the next box. */
static struct coming next_input(const struct plan *s, long block, const struct box *box, long c0)
{
    const struct windows *w = &s->p->in;
    const long later = block + s->slices * s->groups, same = c0 + s->chunk < w->channels;
    if (!same && later >= s->boxes.total * s->slices * s->groups)
        return (struct coming){0};
    const struct box next = same ? *box : FN(box_at)(w, &s->boxes, later / s->slices / s->groups);
    const long c = same ? c0 + s->chunk : 0, group = s->first_group + block / s->slices % s->groups;
    return begin_coming(w, &next, s->x + group * s->p->x_group + c * w->stride[1], min_long(s->chunk, w->channels - c));
}

/* What a block reads and writes next: `input`, and the results of the box behind `box`, the one at work, if this is its last chunk of channels. Nothing
 * where the input is not one run of memory. */
static struct runs next_runs(const struct plan *s, const struct coming *input, const struct box *box, int last, long tiles)
{
    const struct product *p = s->p;
    const struct windows *w = &p->in;
    if (!input->lines || !is_stream(input) || s->zero_rows)
        return (struct runs){0};
    struct runs runs = {{(const char *)input->at}, {input->lines * LINE * (long)sizeof(real)}, 0};
    const int row = w->images * w->out[0] * w->out[1] == 1, all = s->slices == 1 && p->groups == 1 && s->phases == 1;
    if (last && s->direct && row && all && p->y[4] == p->filters) {
        const long begin = box->begin[2] + box->size[2], cells = min_long(box->size[2], w->out[2] - begin);
        runs.at[1] = (const char *)(s->y + begin * p->y[4]), runs.bytes[1] = cells * p->y[4] * (long)sizeof(real);
    }
    runs.share = divide_up(runs.bytes[0] + runs.bytes[1], tiles);
    return runs;
}

/* How the cells of a box are cut into tiles: all of them, or row after row of the image if that takes hardly more tiles; up to twice as many where a tile is
 * one vector wide, because a pointer a cell would be as many loads again as its products have. */
struct cells { long rows; struct cut cut; };

static struct cells cut_cells(const struct box *b, int narrow)
{
    const long rows = b->images * b->size[0] * b->size[1], width = b->size[2];
    if (rows * divide_up(width, TILE_ROWS) * 12 <= divide_up(rows * width, TILE_ROWS) * (narrow ? 24 : 13))
        return (struct cells){rows, cut_rows(width)};
    return (struct cells){1, cut_rows(rows * width)};
}

static void compute_block(void *context, long block, int worker)
{
    const struct plan *s = context;
    const struct product *p = s->p;
    const struct windows *w = &p->in;
    const long slice = block % s->slices, group = s->first_group + block / s->slices % s->groups;
    const struct box box = FN(box_at)(w, &s->boxes, block / s->slices / s->groups);
    const long cells = box.images * box.size[0] * box.size[1] * box.size[2];
    const long first = s->first_panel + slice * s->together, last = min_long(s->first_panel + s->count, first + s->together);
    if (first >= last)
        return;
    const struct cells cut = cut_cells(&box, p->filters <= LANES);
    const long tiles = cut.rows * cut.cut.tiles;

    char *mine = s->worker + (size_t)worker * s->worker_bytes;
    real *packed = (real *)mine, *copy = (real *)(mine + s->slice_bytes);
    long *in = (long *)(mine + s->slice_bytes + s->box_bytes), *out = (long *)((char *)in + s->cell_bytes);
    long *offset = (long *)((char *)out + s->cell_bytes);
    real *aside = (real *)((char *)offset + s->offset_bytes); /* [panel][cell][width], where y has another order */

    struct tile t = {.offset = offset};
    for (long c0 = 0; c0 < w->channels; c0 += s->chunk) {
        const long channels = min_long(s->chunk, w->channels - c0);
        const int is_last = c0 + channels == w->channels;
        const real *a = copy;
        struct pitch pitch = s->pitch;
        if (s->in_place) {
            pitch = (struct pitch){w->stride[4], w->stride[3], w->stride[2], w->stride[0], 0};
            a = s->x + group * p->x_group + box.image * w->stride[0] + c0;
            for (int i = 0; i < 3; i++)
                a += box.begin[i] * w->step[i] * w->stride[2 + i];
        } else {
            pitch = FN(box_pitch)(w, box.images, box.size, s->one_run ? channels : roomy_pixel(channels));
            FN(box_copy)(w, &box, s->x + group * p->x_group, c0, channels, pitch, copy);
        }
        if (c0 == 0 || !s->in_place)
            find_cells(s, &box, pitch, in, out);
        t.join = c0 || p->accumulate ? CONTINUE : OVERWRITE;
        struct coming input = next_input(s, block, &box, c0);
        const long calls = (last - first) * tiles;
        const struct runs runs = next_runs(s, &input, &box, is_last, calls);
        if (runs.share || s->in_place)
            input.lines = 0;
        long call = 0;
        for (long panel = first; panel < last; panel++) {
            const struct view v = view_panel(s, group, panel);
            const long width = v.width;
            real *beside = aside + (panel - first) % s->kept * s->cells * TILE_WIDTH, *y = s->y + v.y;
            if (s->pack_late)
                pack_view(s, &v, group, c0, channels, packed);
            t.b = s->pack_late ? packed : packed_panel(s, group, panel) + c0 * taps_of(&v) * width;
            if (panel == first || s->phases > 1) {
                t.parts = find_taps(s, &v, pitch, offset);
                t.depth = s->one_run ? channels * v.taps[2] : channels;
            }
            const int whole = !s->zero_rows || reaches_whole(s, &box, &v);
            t.next_step = divide_up(runs.share, t.parts * t.depth);
            t.a_apart = w->step[2] * pitch.pixel, t.c_apart = s->direct ? p->y[4] : width;
            t.valid = s->direct ? v.valid : width;
            t.bias = is_last && s->bias ? s->bias_packed + (group * s->panels + panel) * TILE_WIDTH : NULL;
            t.activation = is_last ? p->activation : CNN_LINEAR;
            for (long i = 0, row = 0, next = 0; i < tiles; i++, call++) {
                if (runs.share)
                    t.next = share_at(&runs, call);
                else if (input.lines)
                    fetch_coming(&input, input.lines * (call + 1) / calls);
                const long begin = next, tile = i - row * cut.cut.tiles, height = cut_height(cut.cut, tile);
                row += tile + 1 == cut.cut.tiles;
                next = i + 1 < tiles ? begin + height : 0;
                t.ahead = in[next] - in[begin];
                const int one_row = begin % box.size[2] + height <= box.size[2];
                for (long r = 0; r < (one_row ? 1 : height); r++) {
                    t.a[r] = a + in[begin + r];
                    t.c[r] = s->direct ? y + out[begin + r] : beside + (begin + r) * width;
                }
                tile_function *run = (one_row ? FN(tile_rows) : FN(tile_cells))(height, (int)(width / LANES));
                if (whole)
                    run(&t);
                else {
                    struct reach reach[2];
                    reach_of_cells(s, &box, &v, begin, height, reach);
                    run_reached(run, t, &v, reach, width, t.parts / (v.taps[0] * v.taps[1]));
                }
            }
            if (is_last && !s->direct && !s->pair)
                scatter(s, beside, NULL, cells, out, v.valid, width, y);
            else if (is_last && s->pair && panel % 2)
                scatter(s, beside - s->cells * TILE_WIDTH, beside, cells, out, v.valid, width, y - 1);
        }
    }
}

size_t FN(product_scratch)(const struct product *p, int workers)
{
    struct plan s;
    return make_plan(&s, p, workers, cnn_no_scratch);
}

void FN(product_run)(const struct product *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run)
{
    struct plan s;
    make_plan(&s, p, run->workers, run->scratch);
    s.x = x, s.w = w, s.bias = bias, s.y = y;
    if (p->packed)
        s.packed = (real *)(uintptr_t)w; /* only read */
    for (s.first_group = 0; s.first_group < p->groups; s.first_group += s.pass_groups)
        for (s.first_panel = 0; s.first_panel < s.panels; s.first_panel += s.pass_panels) {
            s.groups = min_long(s.pass_groups, p->groups - s.first_group);
            s.count = min_long(s.pass_panels, s.panels - s.first_panel);
            const double weights = (double)(s.groups * s.count) * (double)s.panel_size;
            cnn_parallel_for(run, s.groups * s.count, s.pack_late || p->packed ? (double)(s.groups * p->filters) : weights, pack_panel, &s);
            cnn_parallel_for(run, s.boxes.total * s.slices * s.groups, weights * (double)(s.boxes.total * s.cells) / 50, compute_block, &s);
        }
}
