/* conv_weight.c: the gradients of a convolution's weight and bias.
 *
 *     dw[k][c][r] = sum over n, p of  dy[n][k][p] * xp[n][g*C/G + c][p*stride + r*dilation - before]
 *     db[k]       = sum over n, p of  dy[n][k][p]
 *
 * x[N][C][in], dy[N][K][out], dw[K][C/G][window], db[K] or NULL; both are overwritten. Source: mathematics 2.3.
 *
 * The reduction runs over pixels. Parts of at most 2,048 output pixels, cut by the shape alone, are summed from zero and
 * added in order: the result depends on no thread, and rounding grows with the part, not with the batch. A part's dy is
 * copied to [pixel][filters of a panel], its x to [pixel][channels of a tile]; all taps and panels then use the copies.
 * The threads share the tiles of one part after the other; where a part has few, each takes whole parts instead, and the
 * parts' sums are added in order at the end: the same additions. */
#include "box.h"
#include "conv_narrow.h"
#include "depthwise.h"
#include "ops.h"
#include "tile.h"
#include "winograd.h"

enum { PART = 2048 };

/* The part at work and the copies that belong to it. */
struct part {
    struct box box;
    struct pitch pixel;          /* of its input, in pixels */
    long parts, depth;           /* the tile's view: runs of evenly spaced pixels, and their length */
    long *offset[2];             /* where the runs begin, for panels of x_cut.height and of one channel more */
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
    long panels;                 /* of filters */
    struct boxes boxes;
    long cells, pixels;          /* output cells and input pixels of the largest part */
    long units, block_units;     /* tiles of a part, and how many make a block */
    long sum_reals, bias_reals;  /* of one part */
    int whole_parts;             /* threads take whole parts */
    struct part part;            /* the only one, or the pattern of every worker's */
    char *worker;
    size_t worker_bytes;         /* of a part's copies */
    real *sums, *bias_sums;      /* of part 0, the others behind it */
};

static size_t aligned(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* Hands out the memory of a part's copies. */
static size_t place_part(const struct plan *s, struct part *part, char *memory)
{
    part->x_panels = (real *)memory;
    size_t bytes = aligned((size_t)(s->p->groups * s->channels * s->pixels + TILE_ROWS) * sizeof(real));
    part->dy_panels = (real *)(memory + bytes);
    bytes += aligned((size_t)(s->p->groups * s->panels * s->cells * TILE_WIDTH) * sizeof(real));
    for (int i = 0; i < 2; i++) {
        part->offset[i] = (long *)(memory + bytes);
        bytes += aligned((size_t)s->cells * sizeof(long));
    }
    return bytes;
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
    s->panels = divide_up(s->filters, TILE_WIDTH);
    s->boxes = FN(cut_boxes)(&s->in, PART, 1, 1e18);
    s->cells = s->boxes.size[0] * s->boxes.size[1] * s->boxes.size[2] * s->boxes.size[3];
    s->pixels = FN(box_pitch)(&s->in, s->boxes.size[0], s->boxes.size + 1, 1).size;
    s->units = p->groups * s->panels * (s->row_cut.tiles * s->taps + 1);
    const double unit_work = (double)(s->cells * TILE_ROWS) * TILE_WIDTH / 50;
    s->block_units = max_long(1, min_long(s->units / 32, (long)(200e3 / unit_work)));

    s->sum_reals = p->groups * s->panels * s->taps * s->rows * TILE_WIDTH;
    s->bias_reals = p->groups * s->panels * TILE_WIDTH;
    s->whole_parts = s->units < 64 && s->boxes.total > 1 && (double)s->boxes.total * (double)s->sum_reals * sizeof(real) < 8e6;
    const long kept = s->whole_parts ? s->boxes.total : 1;
    s->sums = (real *)scratch;
    size_t bytes = aligned((size_t)(kept * s->sum_reals) * sizeof(real));
    s->bias_sums = (real *)(scratch + bytes);
    bytes += aligned((size_t)(kept * s->bias_reals) * sizeof(real));
    s->worker = scratch + bytes;
    s->worker_bytes = place_part(s, &s->part, s->worker);
    return bytes + s->worker_bytes * (size_t)(s->whole_parts ? workers : 1);
}

static long panel_vectors(const struct plan *s, long panel) { return s->filters - panel * TILE_WIDTH > LANES ? TILE_VECTORS : 1; }

/* Copies one panel of the part: first all those of x, then all of dy. */
static void copy_panel(const struct plan *s, const struct part *part, long block)
{
    const long group = block / (s->x_cut.tiles + s->panels), index = block % (s->x_cut.tiles + s->panels);
    if (index < s->x_cut.tiles) {
        const long begin = cut_begin(s->x_cut, index), height = cut_height(s->x_cut, index);
        const struct pitch pitch = FN(box_pitch)(&s->in, part->box.images, part->box.size, height);
        FN(box_copy)(&s->in, &part->box, s->x + group * s->channels * s->p->x[1], begin, height, pitch,
                     part->x_panels + (group * s->channels + begin) * s->pixels);
        return;
    }
    const long panel = index - s->x_cut.tiles, width = panel_vectors(s, panel) * LANES;
    const long valid = min_long(width, s->filters - panel * TILE_WIDTH);
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

static void compute_unit(const struct plan *s, const struct part *part, long unit)
{
    const long per_panel = s->row_cut.tiles * s->taps + 1;
    const long number = unit / per_panel, group = number / s->panels, vectors = panel_vectors(s, number % s->panels);
    const long index = unit % per_panel - 1, width = vectors * LANES;
    const real *dy = part->dy_panels + number * s->cells * TILE_WIDTH;
    const long cells = part->box.images * part->box.size[0] * part->box.size[1] * part->box.size[2];
    if (index < 0) {
        sum_bias(part, dy, vectors, cells, part->bias_sums + number * TILE_WIDTH);
        return;
    }
    const long tile = index / s->taps, tap = index % s->taps;
    const long begin = cut_begin(s->row_cut, tile), height = cut_height(s->row_cut, tile);
    const long pitch = s->taps_run > 1 ? s->channels : height; /* reals from pixel to pixel of this panel of x */
    const long across = s->p->window[2] / s->taps_run;
    const long r[3] = {tap / across / s->p->window[1], tap / across % s->p->window[1], tap % across};
    const long *d = s->p->dilation;
    struct tile t = {.parts = part->parts, .depth = part->depth, .offset = part->offset[pitch - s->x_cut.height], .step = pitch * s->in.step[2],
                     .b = dy, .valid = width, .join = part->add ? ADD : OVERWRITE};
    t.a[0] = part->x_panels + (s->taps_run > 1 ? group * s->channels * s->pixels + begin : (group * s->channels + begin) * s->pixels) +
             (r[0] * d[0] * part->pixel.plane + r[1] * d[1] * part->pixel.row + r[2] * d[2]) * pitch;
    real *to = part->sums + number * s->taps * s->rows * TILE_WIDTH + (tap * s->rows + begin) * width;
    for (long i = 0; i < height; i++)
        t.c[i] = to + i * width;
    FN(tile_columns)(height, (int)vectors)(&t);
}

/* Neighbouring rows, planes and images of the part join into one run where their pixels are evenly spaced. */
static void find_runs(const struct plan *s, struct part *part)
{
    const long *size = part->box.size, *step = s->in.step;
    part->pixel = FN(box_pitch)(&s->in, part->box.images, size, 1);
    const long apart[3] = {part->pixel.image, step[0] * part->pixel.plane, step[1] * part->pixel.row};
    long count[3] = {part->box.images, size[0], size[1]};
    part->depth = size[2];
    for (int i = 2; i >= 0; i--) {
        if (count[i] > 1 && apart[i] != part->depth * step[2])
            break;
        part->depth *= count[i];
        count[i] = 1;
    }
    part->parts = 0;
    for (long n = 0; n < count[0]; n++)
        for (long d = 0; d < count[1]; d++)
            for (long h = 0; h < count[2]; h++, part->parts++) {
                const long offset = n * apart[0] + d * apart[1] + h * apart[2];
                part->offset[0][part->parts] = offset * s->x_cut.height;
                part->offset[1][part->parts] = offset * (s->x_cut.height + 1);
            }
}

static void begin_part(const struct plan *s, struct part *part, long number)
{
    part->box = FN(box_at)(&s->in, &s->boxes, number);
    const long place = s->whole_parts ? number : 0;
    part->sums = s->sums + place * s->sum_reals;
    part->bias_sums = s->bias_sums + place * s->bias_reals;
    part->add = !s->whole_parts && number > 0;
    find_runs(s, part);
}

static long panels_of(const struct plan *s) { return s->p->groups * (s->x_cut.tiles + s->panels); }

static void copy_block(void *context, long block, int worker)
{
    (void)worker;
    const struct plan *s = context;
    copy_panel(s, &s->part, block);
}

static void compute_block(void *context, long block, int worker)
{
    (void)worker;
    const struct plan *s = context;
    for (long unit = block * s->block_units; unit < min_long(s->units, (block + 1) * s->block_units); unit++)
        compute_unit(s, &s->part, unit);
}

static void whole_part(void *context, long number, int worker)
{
    const struct plan *s = context;
    struct part part;
    place_part(s, &part, s->worker + (size_t)worker * s->worker_bytes);
    begin_part(s, &part, number);
    for (long i = 0; i < panels_of(s); i++)
        copy_panel(s, &part, i);
    for (long unit = 0; unit < s->units; unit++)
        compute_unit(s, &part, unit);
}

/* Adds the sums of all parts to those of the first, in order. */
static void join_parts(const struct plan *s)
{
    for (long number = 1; number < s->boxes.total; number++) {
        for (long i = 0; i < s->sum_reals; i += LANES)
            vec_store(s->sums + i, vec_load(s->sums + i) + vec_load(s->sums + number * s->sum_reals + i));
        for (long i = 0; i < s->bias_reals; i += LANES)
            vec_store(s->bias_sums + i, vec_load(s->bias_sums + i) + vec_load(s->bias_sums + number * s->bias_reals + i));
    }
}

/* The finished sums of a panel, [tap][row][width], to the caller's order. */
static void store_panel(void *context, long number, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const long group = number / s->panels, panel = number % s->panels, first = group * s->filters + panel * TILE_WIDTH;
    const real *sums = s->boxes.total ? s->sums + number * s->taps * s->rows * TILE_WIDTH : NULL;
    FN(unpack_weights)(s->p, group, panel, sums, s->taps_run, s->dw);
    for (long j = 0; s->db && j < min_long(TILE_WIDTH, s->filters - panel * TILE_WIDTH); j++)
        s->db[first + j] = s->boxes.total ? s->bias_sums[number * TILE_WIDTH + j] : 0;
}

size_t FN(conv_backward_weight_scratch)(const void *problem, int workers)
{
    const struct cnn_conv *p = problem;
    if (FN(is_depthwise)(p->groups, p->c, p->k))
        return FN(depthwise_weight_scratch)(p, workers);
    if (FN(few_filters)(problem))
        return FN(narrow_weight_scratch)(problem, workers);
    const int m = FN(winograd_weight_tile)(problem);
    if (m)
        return FN(winograd_weight_scratch)(problem, m, workers);
    struct plan s;
    return make_plan(&s, problem, workers, NULL);
}

void FN(conv_backward_weight)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_conv *p = problem;
    if (FN(is_depthwise)(p->groups, p->c, p->k)) {
        FN(depthwise_weight)(p, array[0], array[1], array[2], array[3], run);
        return;
    }
    if (FN(few_filters)(p)) {
        FN(narrow_weight)(p, array[0], array[1], array[2], array[3], run);
        return;
    }
    const int m = FN(winograd_weight_tile)(p);
    if (m) {
        FN(winograd_weight)(p, m, array[0], array[1], array[2], array[3], run);
        return;
    }
    struct plan s;
    make_plan(&s, p, run->workers, run->scratch);
    s.x = array[0], s.dy = array[1], s.dw = array[2], s.db = array[3];
    const double products = (double)(p->groups * s.filters * s.rows) * (double)(s.taps * s.cells) / 30;
    const double copies = (double)(p->groups * (s.channels * s.pixels + s.filters * s.cells)) / 4;
    if (s.whole_parts) {
        cnn_parallel_for(run, s.boxes.total, (products + copies) * (double)s.boxes.total, whole_part, &s);
        join_parts(&s);
    }
    for (long number = 0; !s.whole_parts && number < s.boxes.total; number++) {
        begin_part(&s, &s.part, number);
        cnn_parallel_for(run, panels_of(&s), copies, copy_block, &s);
        cnn_parallel_for(run, divide_up(s.units, s.block_units), products, compute_block, &s);
    }
    cnn_parallel_for(run, p->groups * s.panels, (double)(p->k * s.rows * s.taps), store_panel, &s);
}
