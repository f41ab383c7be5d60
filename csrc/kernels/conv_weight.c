/* conv_weight.c: the gradients of a convolution's weight and bias.
 *
 *     dw[k][c][r] = sum over n, p of  dy[n][k][p] * xp[n][g*C/G + c][p*stride + r*dilation - before]
 *     db[k]       = sum over n, p of  dy[n][k][p]
 *
 * x[N][C][in], dy[N][K][out], dw[K][C/G][window], db[K] or NULL; both are overwritten. Source: mathematics 2.3.
 *
 * The reduction runs over pixels. Parts of at most 2,048 output pixels, fewer where a pixel is large, are summed from zero, a series
 * of neighbouring parts is added in order, and so are the series: all cut by the shape alone, so that the result depends on no
 * thread; rounding grows with the part, not with the batch. A part's dy is
 * copied to [pixel][filters of a panel], its x to [pixel][channels of a tile], or, where windows do not overlap and pixels are
 * small, to whole pixels, which may lie in x already; all taps and panels then use the copies, some pixels at a time, so that
 * those of dy stay in the first cache while tile after tile of x passes by.
 * A thread takes whole series: what it copies is read by no other, whose cache would have to ask for it. Where that would leave threads
 * without work, or the sums of series would be too many, the threads share the tiles of one part after the other: the same additions. */
#include "../base/machine.h"
#include "box.h"
#include "conv_narrow.h"
#include "depthwise.h"
#include "few_rows.h"
#include "ops.h"
#include "planes.h"
#include "pointwise_weight.h"
#include "series.h"
#include "tile.h"
#include "winograd.h"

/* Output pixels of a part, fewest and most, and bytes of its copies; panels of x that are copied together; slices of a part's rows that may
 * be copied by different threads; bytes from pixel to pixel of a sum up to which they may stay whole: farther apart they share sets of the
 * first cache. */
enum { FEWEST = 512, MOST = 2048, COPIES = 2 << 20, TOGETHER = 16, SLICES = 8, NEIGHBOURS = 512 };

/* Bytes of the sums of all series; tiles of a part that are too few to be shared; tiles of a block of a series; its parts between two looks for an
 * interruption; sums that are joined at once. */
enum { SUMS = 8 << 20, FEW = 64, BLOCK = 64, WAVE = 8, JOINED = 4096 };

/* The part at work and the copies that belong to it. */
struct part {
    struct box box;
    struct pitch pitch;          /* of its input, in units: pixels of a panel, or reals where pixels are whole */
    const real *x;               /* its first pixel, where whole pixels lie in x */
    long parts, depth;           /* the tile's view: runs of evenly spaced pixels, and their length */
    long *offset[2];             /* where the runs begin: in whole pixels; in panels of x_cut.height and of one channel more */
    real *x_panels, *dy_panels;
    real *sums, *bias_sums;      /* where its sums go */
    int add;                     /* to what is there, or over it */
};

struct plan {
    const struct cnn_conv *p;
    const real *x, *dy;
    real *dw, *db;
    struct windows in, out;      /* out reads dy cell by cell */
    long channels, filters;      /* of a group */
    long taps_run;               /* taps of a row that are rows of one tile: channels are few and taps neighbours in memory */
    long taps, rows;             /* taps that are walked one by one; rows of the product: taps_run * channels */
    struct cut x_cut, row_cut;   /* channels of the x panels, rows of the tiles: the same unless taps_run > 1 */
    long pixel;                  /* reals from one whole pixel to the next; 0: x is dealt to panels */
    int in_place;                /* whole pixels are those of x itself */
    int stream;                  /* which are read once, all of them one after another: the next ones are fetched while tiles are computed */
    long panels;                 /* of filters */
    struct boxes boxes;
    long cells, pixels;          /* output cells and input pixels of the largest part */
    long units, block_units;     /* tiles of a part, and how many make a block */
    long sum_reals, bias_reals;  /* of one part */
    struct series series;
    int apart;                   /* threads take whole series */
    long turn;                   /* the first of their parts in this wave */
    struct part part;            /* the only one, or the pattern of every worker's */
    char *parts;                 /* the copies of one part, or of one a worker */
    size_t part_bytes;
    char *worker;                /* a worker's row of pixels and its sums of a block of tiles */
    size_t worker_bytes, row_bytes;
    long near;                   /* pixels of dy that stay in the first cache */
    real *sums, *bias_sums;      /* of part 0, the others behind it */
};

/* Hands out the memory of a part's copies. */
static size_t place_part(const struct plan *s, struct part *part, char *memory)
{
    part->x_panels = (real *)memory;
    size_t bytes = s->in_place ? 0 : aligned((size_t)(s->p->groups * (s->pixel ? s->pixel : s->channels) * s->pixels + TILE_ROWS) * sizeof(real));
    part->dy_panels = (real *)(memory + bytes);
    bytes += aligned((size_t)(s->p->groups * s->panels * s->cells * TILE_WIDTH) * sizeof(real));
    for (int i = 0; i < 2; i++) {
        part->offset[i] = (long *)(memory + bytes);
        bytes += aligned((size_t)s->cells * sizeof(long));
    }
    return bytes;
}

/* Rows of x in a worker's buffer, TURNED_AT_ONCE pixels or one row, and reals of a pixel: the channels of TOGETHER panels. */
static long rows_at_once(long width) { return max_long(1, TURNED_AT_ONCE / max_long(1, width)); }
static long row_room(const struct plan *s) { return min_long(TOGETHER * (s->x_cut.height + 1), round_up(s->channels, LANES)); }

/* Decides whether pixels stay whole, where, and whether they are fetched ahead. */
static void choose_pixels(struct plan *s)
{
    const struct cnn_conv *p = s->p;
    int padded = 0, overlap = 0;
    for (int a = 0; a < 3; a++) {
        padded |= p->before[a] != 0 || (p->out[a] - 1) * p->stride[a] + (p->window[a] - 1) * p->dilation[a] >= p->in[a];
        overlap |= p->window[a] > p->stride[a];
    }
    const long most = NEIGHBOURS / (long)sizeof(real) / s->in.step[2];
    s->in_place = !padded && !overlap && p->x[1] == 1 && p->x[4] > 0 && p->x[4] <= most && (s->taps_run == 1 || p->x[4] == s->channels);
    s->stream = s->in_place && p->groups == 1 && p->x[4] == s->channels;
    for (int a = 0; a < 3; a++)
        s->stream &= p->window[a] == p->stride[a] && (a == 0 || p->in[a] == p->out[a] * p->stride[a]);
    if (s->in_place)
        s->pixel = p->x[4];
    else if (s->x_cut.tiles == 1 || (!overlap && s->channels <= most))
        s->pixel = s->channels;
}

/* Output pixels of a part: as many as leave its copies in the second cache of most machines. */
static long part_cells(const struct plan *s)
{
    const long pixel = s->p->groups * (s->channels * s->in.step[0] * s->in.step[1] * s->in.step[2] + s->filters) * (long)sizeof(real);
    return max_long(FEWEST, min_long(MOST, COPIES / pixel));
}

static size_t make_plan(struct plan *s, const struct cnn_conv *p, int workers, char *scratch)
{
    *s = (struct plan){.p = p, .in = FN(conv_windows)(p)};
    s->channels = p->c / p->groups;
    s->filters = p->k / p->groups;
    s->out = (struct windows){.images = p->n, .channels = s->filters};
    for (int a = 0; a < 3; a++)
        s->out.in[a] = s->out.out[a] = p->out[a], s->out.taps[a] = s->out.spread[a] = s->out.step[a] = 1;
    for (int i = 0; i < 5; i++)
        s->out.stride[i] = p->y[i];
    s->taps_run = s->channels < TILE_ROWS && p->dilation[2] == 1 ? p->window[2] : 1;
    s->taps = p->window[0] * p->window[1] * p->window[2] / s->taps_run;
    s->rows = s->taps_run * s->channels;
    s->x_cut = cut_rows(s->channels);
    s->row_cut = cut_rows(s->rows);
    choose_pixels(s);
    s->panels = divide_up(s->filters, TILE_WIDTH);
    s->boxes = FN(cut_boxes)(&s->in, part_cells(s), 1, 1e18);
    s->cells = s->boxes.size[0] * s->boxes.size[1] * s->boxes.size[2] * s->boxes.size[3];
    s->pixels = FN(box_pitch)(&s->in, s->boxes.size[0], s->boxes.size + 1, 1).size;
    s->units = p->groups * s->panels * (s->row_cut.tiles * s->taps + 1);
    const double unit_work = (double)(s->cells * TILE_ROWS) * TILE_WIDTH / 50;
    s->block_units = max_long(1, min_long(s->units / 32, (long)(200e3 / unit_work)));

    s->sum_reals = p->groups * s->panels * s->taps * s->rows * TILE_WIDTH;
    s->bias_reals = p->groups * s->panels * TILE_WIDTH;
    s->series = cut_series(s->boxes.total, s->sum_reals, SUMS);
    s->apart = enough_series(s->series, workers) || (s->series.count > 1 && s->units < FEW);
    s->near = max_long(16, (long)(cnn_machine()->l1 / 2 / (TILE_WIDTH * sizeof(real))));
    if (s->apart)
        s->block_units = min_long(s->units, BLOCK);
    else if (s->series.length > 1)
        s->block_units = min_long(s->block_units, BLOCK);
    s->sums = (real *)scratch;
    size_t bytes = aligned((size_t)(max_long(1, s->series.count) * s->sum_reals) * sizeof(real));
    s->bias_sums = (real *)(scratch + bytes);
    bytes += aligned((size_t)(max_long(1, s->series.count) * s->bias_reals) * sizeof(real));
    s->row_bytes = s->pixel ? 0 : aligned((size_t)(max_long(TURNED_AT_ONCE, box_extent(&s->in, 2, s->boxes.size[3])) * row_room(s) + LANES) * sizeof(real));
    s->worker = scratch + bytes;
    s->worker_bytes = spaced(s->row_bytes + (s->series.length > 1 ? (size_t)s->block_units * TILE_ROWS * TILE_WIDTH * sizeof(real) : 0));
    bytes += s->worker_bytes * (size_t)workers;
    s->parts = scratch + bytes;
    s->part_bytes = place_part(s, &s->part, s->parts);
    return bytes + s->part_bytes * (size_t)(s->apart ? workers : 1);
}

static long panel_vectors(const struct plan *s, long panel) { return s->filters - panel * TILE_WIDTH > LANES ? TILE_VECTORS : 1; }

/* Rows [first, last) of the part, all channels of the group. */
static void copy_whole(const struct plan *s, const struct part *part, long group, long first, long last)
{
    const real *x = s->x + group * s->channels * s->p->x[1];
    real *to = part->x_panels + group * s->pixel * s->pixels;
    FN(box_copy_rows)(&s->in, &part->box, x, 0, s->channels, first, last, part->pitch, to + first * part->pitch.row);
}

/* Rows [begin, end) of some panels of x, from the one numbered `first`: a few at a time through a buffer, whose pixels are then dealt out. */
static void copy_channels(const struct plan *s, const struct part *part, long group, long first, long begin, long end, real *buffer)
{
    const long last = min_long(first + TOGETHER, s->x_cut.tiles), c0 = cut_begin(s->x_cut, first);
    const long channels = cut_begin(s->x_cut, last) - c0, room = row_room(s);
    const real *x = s->x + group * s->channels * s->p->x[1];
    real *to = part->x_panels + (group * s->channels + c0) * s->pixels;
    const long width = part->pitch.row, high = rows_at_once(width);
    for (long number = begin; number < end; number++) {
        const long at = number * width;
        real *row = buffer + (number - begin) % high * width * room;
        if (row == buffer)
            FN(box_copy_rows)(&s->in, &part->box, x, c0, channels, number, min_long(end, number + high), (struct pitch){.pixel = room, .row = width * room}, row);
        for (long panel = first; panel < last; panel++) {
            const long c = cut_begin(s->x_cut, panel) - c0, height = cut_height(s->x_cut, panel);
            const real *from = row + c;
            real *next = to + c * s->pixels + at * height;
            /* Whole vectors reach into the next pixels, which are written later; the last ones of these rows must not. */
            const long beyond = divide_up(round_up(height, LANES) - height, height), vectors = min_long(width, max_long(0, end * width - beyond - at));
            for (long i = 0; i < vectors; i++, from += room, next += height)
                for (long j = 0; j < height; j += LANES)
                    vec_store(next + j, vec_load(from + j));
            for (long i = vectors; i < width; i++, from += room, next += height)
                for (long j = 0; j < height; j++)
                    next[j] = from[j];
        }
    }
}

/* Pieces of x that are copied one by one: slices of rows; where they are dealt, of TOGETHER panels each. */
static long x_pieces(const struct plan *s) { return s->in_place ? 0 : s->pixel ? SLICES : SLICES * divide_up(s->x_cut.tiles, TOGETHER); }
static long panels_of(const struct plan *s) { return x_pieces(s) + s->panels; }

/* Copies what belongs to the part: first pieces of x, then panels of dy, group by group. */
static void copy_panel(const struct plan *s, const struct part *part, long block, int worker)
{
    const long group = block / panels_of(s), index = block % panels_of(s), panel = index - x_pieces(s);
    if (panel < 0) {
        const long rows = part->box.images * (part->pitch.image / part->pitch.row), first = rows * (index % SLICES) / SLICES, last = rows * (index % SLICES + 1) / SLICES;
        if (s->pixel)
            copy_whole(s, part, group, first, last);
        else
            copy_channels(s, part, group, index / SLICES * TOGETHER, first, last, (real *)(s->worker + (size_t)worker * s->worker_bytes));
        return;
    }
    const long width = panel_vectors(s, panel) * LANES, valid = min_long(width, s->filters - panel * TILE_WIDTH);
    const struct pitch pitch = FN(box_pitch)(&s->out, part->box.images, part->box.size, width);
    real *to = part->dy_panels + (group * s->panels + panel) * s->cells * TILE_WIDTH;
    if (valid < width)
        memset(to, 0, (size_t)pitch.size * sizeof(real));
    FN(box_copy)(&s->out, &part->box, s->dy + group * s->filters * s->p->y[1], panel * TILE_WIDTH, valid, pitch, to);
}

static void sum_bias(const struct part *part, const real *dy, long vectors, long cells, real *to)
{
    vec sum[TILE_VECTORS] = {{0}};
    for (long i = 0; i < cells; i++)
        for (long v = 0; v < vectors; v++)
            sum[v] = sum[v] + vec_load(dy + (i * vectors + v) * LANES);
    for (long v = 0; v < vectors; v++) {
        if (part->add)
            sum[v] = vec_load(to + v * LANES) + sum[v];
        vec_store(to + v * LANES, sum[v]);
    }
}

/* Some evenly spaced pixels of a part: `depth` from pixel `first` on of each of `runs` runs. */
struct span {
    long run, runs, first, depth;
};

/* The sums of one tile over a span, in call number `call` of `calls` for it; index: its tile of rows and tap. sums: where they go, rows of `width`. */
static void compute_tile(const struct plan *s, const struct part *part, long number, long index, struct span span, int join, long call, long calls, real *sums)
{
    const long group = number / s->panels, vectors = panel_vectors(s, number % s->panels), width = vectors * LANES;
    const long tile = index / s->taps, tap = index % s->taps, begin = cut_begin(s->row_cut, tile), height = cut_height(s->row_cut, tile);
    const long unit = s->pixel ? 1 : height; /* reals */
    const long across = s->p->window[2] / s->taps_run, step = part->pitch.pixel * unit * s->in.step[2];
    const long r[3] = {tap / across / s->p->window[1], tap / across % s->p->window[1], tap % across};
    const long *d = s->p->dilation;
    struct tile t = {.parts = span.runs, .depth = span.depth, .offset = part->offset[s->pixel ? 0 : height - s->x_cut.height] + span.run, .step = step,
                     .b = part->dy_panels + number * s->cells * TILE_WIDTH + (span.run * part->depth + span.first) * width, .valid = width, .c_apart = width,
                     .join = join};
    t.a[0] = (s->in_place ? part->x + group * s->channels + begin
              : s->pixel  ? part->x_panels + group * s->pixel * s->pixels + begin
                          : part->x_panels + (group * s->channels + begin) * s->pixels) +
             (r[0] * d[0] * part->pitch.plane + r[1] * d[1] * part->pitch.row + r[2] * d[2] * part->pitch.pixel) * unit + span.first * step;
    t.c[0] = sums;
    if (s->stream) {
        const long area = s->in.taps[0] * s->in.taps[1], bytes = span.runs * span.depth * step * area * (long)sizeof(real);
        t.next = (const char *)(part->x + part->offset[0][span.run] + span.first * step) + bytes + bytes * call / calls;
        t.next_step = divide_up(bytes, calls * span.runs * span.depth);
    }
    (s->stream ? FN(tile_columns_fetching) : FN(tile_columns))(height, (int)vectors)(&t);
}

/* Tiles [first, last) of panel `number`, all pixels: span after span. beside: memory for their sums where the part's total has to be
 * added to those of earlier parts. */
static void compute_tiles(const struct plan *s, const struct part *part, long number, long first, long last, real *beside)
{
    const long width = panel_vectors(s, number % s->panels) * LANES, pieces = divide_up(part->depth, s->near);
    const long depth = pieces ? divide_up(part->depth, pieces) : 0, runs = pieces > 1 ? 1 : max_long(1, s->near / max_long(1, depth));
    struct span span = {0};
    for (; span.run < part->parts; span.run += runs)
        for (span.first = 0; span.first < part->depth; span.first += depth) {
            const int join = span.run + span.first ? CONTINUE : OVERWRITE;
            span.runs = min_long(runs, part->parts - span.run), span.depth = min_long(depth, part->depth - span.first);
            for (long index = first; index < last; index++) {
                const long place = (index % s->taps * s->rows + cut_begin(s->row_cut, index / s->taps)) * width;
                real *sums = part->add ? beside + (index - first) * TILE_ROWS * TILE_WIDTH : part->sums + number * s->taps * s->rows * TILE_WIDTH + place;
                compute_tile(s, part, number, index, span, join, index - first, last - first, sums);
            }
        }
    for (long index = first; part->add && index < last; index++) {
        const real *from = beside + (index - first) * TILE_ROWS * TILE_WIDTH;
        real *to = part->sums + number * s->taps * s->rows * TILE_WIDTH + (index % s->taps * s->rows + cut_begin(s->row_cut, index / s->taps)) * width;
        for (long i = 0; i < cut_height(s->row_cut, index / s->taps) * width; i += LANES)
            vec_store(to + i, vec_load(to + i) + vec_load(from + i));
    }
}

/* Units [first, last): of every panel the sums of dy, then its tiles. */
static void compute_units(const struct plan *s, const struct part *part, long first, long last, int worker)
{
    const long per_panel = s->row_cut.tiles * s->taps + 1;
    real *beside = (real *)(s->worker + (size_t)worker * s->worker_bytes + s->row_bytes);
    while (first < last) {
        const long number = first / per_panel, begin = first % per_panel, end = min_long(per_panel, begin + last - first);
        if (begin == 0) {
            const long cells = part->box.images * part->box.size[0] * part->box.size[1] * part->box.size[2];
            sum_bias(part, part->dy_panels + number * s->cells * TILE_WIDTH, panel_vectors(s, number % s->panels), cells,
                     part->bias_sums + number * TILE_WIDTH);
        }
        compute_tiles(s, part, number, max_long(0, begin - 1), end - 1, beside);
        first += end - begin;
    }
}

/* Neighbouring rows, planes and images of the part join into one run where their pixels are evenly spaced. */
static void find_runs(const struct plan *s, struct part *part)
{
    const long *size = part->box.size, *step = s->in.step;
    part->pitch = FN(box_pitch)(&s->in, part->box.images, size, s->pixel ? s->pixel : 1);
    if (s->in_place) {
        const long *stride = s->in.stride, *begin = part->box.begin;
        part->pitch = (struct pitch){stride[4], stride[3], stride[2], stride[0], 0};
        part->x = s->x + part->box.image * stride[0];
        for (int a = 0; a < 3; a++)
            part->x += begin[a] * step[a] * stride[2 + a];
    }
    const long apart[3] = {part->pitch.image, step[0] * part->pitch.plane, step[1] * part->pitch.row};
    long count[3] = {part->box.images, size[0], size[1]};
    part->depth = size[2];
    for (int i = 2; i >= 0; i--) {
        if (count[i] > 1 && apart[i] != part->depth * step[2] * part->pitch.pixel)
            break;
        part->depth *= count[i];
        count[i] = 1;
    }
    part->parts = 0;
    for (long n = 0; n < count[0]; n++)
        for (long d = 0; d < count[1]; d++)
            for (long h = 0; h < count[2]; h++, part->parts++) {
                const long offset = n * apart[0] + d * apart[1] + h * apart[2];
                part->offset[0][part->parts] = s->pixel ? offset : offset * s->x_cut.height;
                part->offset[1][part->parts] = offset * (s->x_cut.height + 1);
            }
}

static void begin_part(const struct plan *s, struct part *part, long number)
{
    part->box = FN(box_at)(&s->in, &s->boxes, number);
    const long series = series_of(s->series, number);
    part->sums = s->sums + series * s->sum_reals;
    part->bias_sums = s->bias_sums + series * s->bias_reals;
    part->add = number > series_begin(s->series, series);
    find_runs(s, part);
}

static void copy_block(void *context, long block, int worker)
{
    const struct plan *s = context;
    copy_panel(s, &s->part, block, worker);
}

static void compute_block(void *context, long block, int worker)
{
    const struct plan *s = context;
    compute_units(s, &s->part, block * s->block_units, min_long(s->units, (block + 1) * s->block_units), worker);
}

/* What this wave computes of a series, on one thread. */
static void series_wave(void *context, long series, int worker)
{
    const struct plan *s = context;
    struct part part;
    place_part(s, &part, s->parts + (size_t)worker * s->part_bytes);
    const long begin = series_begin(s->series, series) + s->turn, end = min_long(series_end(s->series, series), begin + WAVE);
    for (long number = begin; number < end; number++) {
        begin_part(s, &part, number);
        for (long i = 0; i < s->p->groups * panels_of(s); i++)
            copy_panel(s, &part, i, worker);
        for (long first = 0; first < s->units; first += s->block_units)
            compute_units(s, &part, first, min_long(s->units, first + s->block_units), worker);
    }
}

/* Adds the sums of all series to those of the first, in order: a block of them, or those of the bias. */
static void join_block(void *context, long block, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const long first = block * JOINED;
    if (first < s->sum_reals)
        join_series(s->series, s->sums, s->sum_reals, first, min_long(s->sum_reals, first + JOINED));
    else
        join_series(s->series, s->bias_sums, s->bias_reals, 0, s->bias_reals);
}

/* The finished sums of a panel, [tap][row][width], to the caller's order. */
static void store_panel(void *context, long number, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const long group = number / s->panels, panel = number % s->panels, first = group * s->filters + panel * TILE_WIDTH;
    const real *sums = s->boxes.total ? s->sums + number * s->taps * s->rows * TILE_WIDTH : NULL;
    FN(unpack_weights)(s->p, group, panel, 0, s->channels, sums, s->taps_run, s->dw);
    for (long j = 0; s->db && j < min_long(TILE_WIDTH, s->filters - panel * TILE_WIDTH); j++)
        s->db[first + j] = s->boxes.total ? s->bias_sums[number * TILE_WIDTH + j] : 0;
}

size_t FN(conv_backward_weight_scratch)(const void *problem, int workers)
{
    const struct cnn_conv *p = problem;
    if (FN(few_rows)(p))
        return FN(few_rows_weight_scratch)(p, workers);
    if (FN(is_depthwise)(p->groups, p->c, p->k))
        return FN(depthwise_weight_scratch)(p, workers);
    if (FN(few_filters)(problem))
        return FN(narrow_weight_scratch)(problem, workers);
    if (FN(pointwise)(problem))
        return FN(pointwise_weight_scratch)(problem, workers);
    const int kind = FN(winograd_weight_kind)(problem);
    if (kind)
        return FN(winograd_weight_scratch)(problem, kind, workers);
    struct plan s;
    return make_plan(&s, problem, workers, cnn_no_scratch);
}

void FN(conv_backward_weight)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_conv *p = problem;
    if (FN(few_rows)(p)) {
        FN(few_rows_weight)(p, array[0], array[1], array[2], array[3], NULL, run);
        return;
    }
    if (FN(is_depthwise)(p->groups, p->c, p->k)) {
        FN(depthwise_weight)(p, array[0], array[1], array[2], array[3], run);
        return;
    }
    if (FN(few_filters)(p)) {
        FN(narrow_weight)(p, array[0], array[1], array[2], array[3], run);
        return;
    }
    if (FN(pointwise)(p)) {
        FN(pointwise_weight)(p, array[0], array[1], array[2], array[3], run);
        return;
    }
    const int kind = FN(winograd_weight_kind)(p);
    if (kind) {
        FN(winograd_weight)(p, kind, array[0], array[1], array[2], array[3], run);
        return;
    }
    struct plan s;
    make_plan(&s, p, run->workers, run->scratch);
    s.x = array[0], s.dy = array[1], s.dw = array[2], s.db = array[3];
    const double products = (double)(p->groups * s.filters * s.rows) * (double)(s.taps * s.cells) / 30;
    const double copies = (double)(p->groups * (s.channels * s.pixels + s.filters * s.cells)) / 4;
    for (s.turn = 0; s.apart && s.turn < s.series.length && !run->stopped; s.turn += WAVE)
        cnn_parallel_for(run, s.series.count, (products + copies) * (double)(s.series.count * min_long(WAVE, s.series.length - s.turn)), series_wave, &s);
    for (long number = 0; !s.apart && number < s.boxes.total && !run->stopped; number++) {
        begin_part(&s, &s.part, number);
        cnn_parallel_for(run, p->groups * panels_of(&s), copies, copy_block, &s);
        cnn_parallel_for(run, divide_up(s.units, s.block_units), products, compute_block, &s);
    }
    if (s.series.count > 1)
        cnn_parallel_for(run, divide_up(s.sum_reals, JOINED) + 1, (double)(s.series.count * s.sum_reals) / 4, join_block, &s);
    cnn_parallel_for(run, p->groups * s.panels, (double)(p->k * s.rows * s.taps), store_panel, &s);
}

void FN(update_weight)(const struct cnn_conv *p, void *const *array, int update, const struct cnn_update *rule, void *const *state, struct cnn_run *run)
{
    const struct few_rows_update then = {update, FN(update_arrays)(update), rule, state};
    FN(few_rows_weight)(p, array[0], array[1], array[2], array[3], &then, run);
}
