/* conv_weight.c: the gradients of a convolution's weight and bias.
 *
 *     dw[k][c][r] = sum over n, p of  dy[n][k][p] * xp[n][g*C/G + c][p*stride + r*dilation - before]
 *     db[k]       = sum over n, p of  dy[n][k][p]
 *
 * x[N][C][in], dy[N][K][out], dw[K][C/G][window], db[K] or NULL; both are overwritten. Source: mathematics 2.3.
 *
 * The reduction runs over pixels. Parts of at most 2,048 output pixels, cut by the shape alone, are summed from zero and
 * added in order: the result depends on no thread, and rounding grows with the part, not with the batch. A part's dy is
 * copied to [pixel][filters of a panel], its x to [pixel][channels of a tile]; all taps and panels then use the copies. */
#include "box.h"
#include "ops.h"
#include "tile.h"

enum { PART = 2048 };

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
    struct box box;              /* the part at work */
    long part;                   /* its number */
    long cells, pixels;          /* output cells and input pixels of the largest part */
    struct pitch pixel;          /* of the part's input, in pixels */
    long parts, depth;           /* the tile's view of the part: runs of evenly spaced pixels, and their length */
    long units, block_units;     /* tiles of a part, and how many make a block */
    real *x_panels, *dy_panels, *sums, *bias_sums;
    long *offset[2];             /* where the runs begin, for panels of x_cut.height and of one channel more */
};

static size_t aligned(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

static size_t make_plan(struct plan *s, const struct cnn_conv *p, char *scratch)
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

    s->x_panels = (real *)scratch;
    size_t bytes = aligned((size_t)(p->groups * s->channels * s->pixels + TILE_ROWS) * sizeof(real));
    s->dy_panels = (real *)(scratch + bytes);
    bytes += aligned((size_t)(p->groups * s->panels * s->cells * TILE_WIDTH) * sizeof(real));
    s->sums = (real *)(scratch + bytes);
    bytes += aligned((size_t)(p->groups * s->panels * s->taps * s->rows * TILE_WIDTH) * sizeof(real));
    s->bias_sums = (real *)(scratch + bytes);
    bytes += aligned((size_t)(p->groups * s->panels * TILE_WIDTH) * sizeof(real));
    for (int i = 0; i < 2; i++) {
        s->offset[i] = (long *)(scratch + bytes);
        bytes += aligned((size_t)s->cells * sizeof(long));
    }
    return bytes;
}

static long panel_vectors(const struct plan *s, long panel) { return s->filters - panel * TILE_WIDTH > LANES ? TILE_VECTORS : 1; }

/* Copies one panel of the part: first all those of x, then all of dy. */
static void copy_panel(void *context, long block, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const long group = block / (s->x_cut.tiles + s->panels), index = block % (s->x_cut.tiles + s->panels);
    if (index < s->x_cut.tiles) {
        const long begin = cut_begin(s->x_cut, index), height = cut_height(s->x_cut, index);
        const struct pitch pitch = FN(box_pitch)(&s->in, s->box.images, s->box.size, height);
        FN(box_copy)(&s->in, &s->box, s->x + group * s->channels * s->p->x[1], begin, height, pitch,
                     s->x_panels + (group * s->channels + begin) * s->pixels);
        return;
    }
    const long panel = index - s->x_cut.tiles, width = panel_vectors(s, panel) * LANES;
    const long valid = min_long(width, s->filters - panel * TILE_WIDTH);
    const struct pitch pitch = FN(box_pitch)(&s->out, s->box.images, s->box.size, width);
    real *to = s->dy_panels + (group * s->panels + panel) * s->cells * TILE_WIDTH;
    if (valid < width)
        memset(to, 0, (size_t)pitch.size * sizeof(real));
    FN(box_copy)(&s->out, &s->box, s->dy + group * s->filters * s->p->y[1], panel * TILE_WIDTH, valid, pitch, to);
}

static void sum_bias(const struct plan *s, const real *dy, long vectors, long cells, real *to)
{
    vec sum[TILE_VECTORS] = {{0}};
    for (long i = 0; i < cells; i++)
        for (long v = 0; v < vectors; v++)
            sum[v] = sum[v] + vec_load(dy + (i * vectors + v) * LANES);
    for (long v = 0; v < vectors; v++) {
        if (s->part)
            sum[v] = vec_load(to + v * LANES) + sum[v];
        vec_store(to + v * LANES, sum[v]);
    }
}

static void compute_unit(const struct plan *s, long unit)
{
    const long per_panel = s->row_cut.tiles * s->taps + 1;
    const long number = unit / per_panel, group = number / s->panels, vectors = panel_vectors(s, number % s->panels);
    const long index = unit % per_panel - 1, width = vectors * LANES;
    const real *dy = s->dy_panels + number * s->cells * TILE_WIDTH;
    const long cells = s->box.images * s->box.size[0] * s->box.size[1] * s->box.size[2];
    if (index < 0) {
        sum_bias(s, dy, vectors, cells, s->bias_sums + number * TILE_WIDTH);
        return;
    }
    const long tile = index / s->taps, tap = index % s->taps;
    const long begin = cut_begin(s->row_cut, tile), height = cut_height(s->row_cut, tile);
    const long pitch = s->taps_run > 1 ? s->channels : height; /* reals from pixel to pixel of this panel of x */
    const long across = s->p->window[2] / s->taps_run;
    const long r[3] = {tap / across / s->p->window[1], tap / across % s->p->window[1], tap % across};
    const long *d = s->p->dilation;
    struct tile t = {.parts = s->parts, .depth = s->depth, .offset = s->offset[pitch - s->x_cut.height], .step = pitch * s->in.step[2],
                     .b = dy, .valid = width, .join = s->part ? ADD : OVERWRITE};
    t.a[0] = s->x_panels + (s->taps_run > 1 ? group * s->channels * s->pixels + begin : (group * s->channels + begin) * s->pixels) +
             (r[0] * d[0] * s->pixel.plane + r[1] * d[1] * s->pixel.row + r[2] * d[2]) * pitch;
    real *to = s->sums + number * s->taps * s->rows * TILE_WIDTH + (tap * s->rows + begin) * width;
    for (long i = 0; i < height; i++)
        t.c[i] = to + i * width;
    FN(tile_columns)(height, (int)vectors)(&t);
}

static void compute_block(void *context, long block, int worker)
{
    (void)worker;
    const struct plan *s = context;
    for (long unit = block * s->block_units; unit < min_long(s->units, (block + 1) * s->block_units); unit++)
        compute_unit(s, unit);
}

/* Neighbouring rows, planes and images of the part join into one run where their pixels are evenly spaced. */
static void find_runs(struct plan *s)
{
    const long *size = s->box.size, *step = s->in.step;
    s->pixel = FN(box_pitch)(&s->in, s->box.images, size, 1);
    const long apart[3] = {s->pixel.image, step[0] * s->pixel.plane, step[1] * s->pixel.row};
    long count[3] = {s->box.images, size[0], size[1]};
    s->depth = size[2];
    for (int i = 2; i >= 0; i--) {
        if (count[i] > 1 && apart[i] != s->depth * step[2])
            break;
        s->depth *= count[i];
        count[i] = 1;
    }
    s->parts = 0;
    for (long n = 0; n < count[0]; n++)
        for (long d = 0; d < count[1]; d++)
            for (long h = 0; h < count[2]; h++, s->parts++) {
                const long offset = n * apart[0] + d * apart[1] + h * apart[2];
                s->offset[0][s->parts] = offset * s->x_cut.height;
                s->offset[1][s->parts] = offset * (s->x_cut.height + 1);
            }
}

/* The finished sums of a panel, [tap][row][width], to the caller's order. */
static void store_panel(void *context, long number, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const struct cnn_conv *p = s->p;
    const long group = number / s->panels, panel = number % s->panels, width = panel_vectors(s, panel) * LANES;
    const long valid = min_long(width, s->filters - panel * TILE_WIDTH), first = group * s->filters + panel * TILE_WIDTH;
    const real *from = s->sums + number * s->taps * s->rows * TILE_WIDTH;
    real *dw = s->dw + first * p->w[0];
    long tap = 0;
    for (long d = 0; d < p->window[0]; d++)
        for (long h = 0; h < p->window[1]; h++)
            for (long r = 0; r < p->window[2] / s->taps_run; r++, tap++)
                for (long b = 0; b < s->rows; b += 32)
                    for (long j = 0; j < valid; j++)
                        for (long i = b; i < min_long(s->rows, b + 32); i++)
                            dw[j * p->w[0] + i % s->channels * p->w[1] + d * p->w[2] + h * p->w[3] + (r + i / s->channels) * p->w[4]] =
                                s->part ? from[(tap * s->rows + i) * width + j] : 0;
    for (long j = 0; s->db && j < valid; j++)
        s->db[first + j] = s->part ? s->bias_sums[number * TILE_WIDTH + j] : 0;
}

size_t FN(conv_backward_weight_scratch)(const void *problem, int workers)
{
    (void)workers;
    struct plan s;
    return make_plan(&s, problem, NULL);
}

void FN(conv_backward_weight)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_conv *p = problem;
    struct plan s;
    make_plan(&s, p, run->scratch);
    s.x = array[0], s.dy = array[1], s.dw = array[2], s.db = array[3];
    const long blocks = divide_up(s.units, s.block_units);
    for (; s.part < s.boxes.total; s.part++) {
        s.box = FN(box_at)(&s.in, &s.boxes, s.part);
        find_runs(&s);
        const double copies = (double)(p->groups * (s.channels * s.pixels + s.filters * s.cells)) / 4;
        cnn_parallel_for(run, p->groups * (s.x_cut.tiles + s.panels), copies, copy_panel, &s);
        const double products = (double)(p->groups * s.filters * s.rows) * (double)(s.taps * s.cells) / 30;
        cnn_parallel_for(run, blocks, products, compute_block, &s);
    }
    cnn_parallel_for(run, p->groups * s.panels, (double)(p->k * s.rows * s.taps), store_panel, &s);
}
