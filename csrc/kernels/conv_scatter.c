/* conv_scatter.c: the input gradient of a convolution with few input channels (pictures have 3), where filters that lie in
 * the lanes of a vector would leave most of them empty.
 *
 *     t[q][r][c] = sum over k of dy[n][k][p][q] * w[k][c][r];   dx[n][c][p*stride + r*dilation - before] += t[p][r][c]
 *
 * A row of dy times the whole kernel is one product with full lanes, kept in the first caches; its runs of neighbouring taps
 * and channels are then added to a padded copy of dx in scan order of dy. A block makes a band of dx and visits every row
 * of dy that reaches it, so the order of the additions does not depend on the bands. */
#include "conv_scatter.h"

#include "box.h"
#include "planes.h"
#include "tile.h"

struct plan {
    const struct cnn_conv *p;
    const real *dy, *w, *bias;
    real *dx;
    long channels, filters;
    long run, run_taps, runs;   /* reals of a run, taps in it, runs of a window */
    long run_room, columns;     /* reals of a run in the product, all of them */
    long panels;
    int axis;                   /* that is cut into bands */
    long bands, band;           /* how many, cells of each */
    long size[3];               /* of the padded copy */
    long row_stride;            /* from cell to cell of a row of dy */
    int in_place;               /* filters are neighbours in dy */
    real *packed;
    char *worker;
    size_t worker_bytes, copy_bytes, product_bytes, target_bytes;
};

int FN(few_channels)(const struct cnn_conv *p)
{
    const long taps = p->window[0] * p->window[1] * p->window[2];
    return p->c / p->groups <= 8 && p->k / p->groups >= 4 && taps > 1 && taps <= 1024 && p->k / p->groups <= 4096;
}

static size_t make_plan(struct plan *s, const struct cnn_conv *p, int workers, char *scratch)
{
    *s = (struct plan){.p = p, .channels = p->c / p->groups, .filters = p->k / p->groups};
    s->run_taps = p->dilation[2] == 1 ? p->window[2] : 1;
    s->run = s->run_taps * s->channels;
    s->runs = p->window[0] * p->window[1] * p->window[2] / s->run_taps;
    s->run_room = round_up(s->run, LANES);
    s->columns = s->runs * s->run_room;
    s->panels = divide_up(s->columns, TILE_WIDTH);
    s->axis = p->in[0] > 1 || p->window[0] > 1 ? 0 : 1;
    const long blocks = p->n * p->groups, extent = (p->window[s->axis] - 1) * p->dilation[s->axis] + 1;
    s->bands = blocks >= 16 ? 1 : max_long(1, min_long(divide_up(16, max_long(1, blocks)), p->in[s->axis] / (2 * extent)));
    s->band = divide_up(p->in[s->axis], s->bands);
    s->bands = divide_up(p->in[s->axis], s->band);
    for (int a = 0; a < 3; a++)
        s->size[a] = max_long((p->out[a] - 1) * p->stride[a] + (p->window[a] - 1) * p->dilation[a] + 1, p->before[a] + p->in[a]);
    s->size[s->axis] = s->band;
    s->in_place = p->y[1] == 1;
    s->row_stride = s->in_place ? p->y[4] : s->filters;

    s->packed = (real *)scratch;
    const size_t packed = aligned((size_t)(p->groups * s->panels * s->filters * TILE_WIDTH) * sizeof(real));
    s->worker = scratch + packed;
    s->copy_bytes = s->in_place ? 0 : aligned((size_t)(p->out[2] * s->filters) * sizeof(real));
    s->product_bytes = aligned((size_t)(p->out[2] * s->panels * TILE_WIDTH) * sizeof(real));
    const size_t sums = aligned((size_t)(s->size[0] * s->size[1] * s->size[2] * s->channels + LANES) * sizeof(real));
    s->target_bytes = aligned((size_t)s->runs * sizeof(long));
    s->worker_bytes = spaced(s->copy_bytes + s->product_bytes + sums + s->target_bytes);
    return packed + (size_t)workers * s->worker_bytes;
}

/* Column j of the product: run j / run_room, element j % run_room of it. */
static void pack_group(void *context, long group, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const struct cnn_conv *p = s->p;
    const long across = p->window[2] / s->run_taps;
    for (long panel = 0; panel < s->panels; panel++)
        for (long j = 0; j < TILE_WIDTH; j++) {
            const long column = panel * TILE_WIDTH + j, run = column / s->run_room, element = column % s->run_room;
            real *to = s->packed + ((group * s->panels + panel) * s->filters) * TILE_WIDTH + j;
            const int exists = column < s->columns && element < s->run;
            const long d = run / across / p->window[1], h = run / across % p->window[1], r = run % across * s->run_taps + element / s->channels;
            const real *from = s->w + group * s->filters * p->w[0] +
                               (exists ? element % s->channels * p->w[1] + d * p->w[2] + h * p->w[3] + r * p->w[4] : 0);
            for (long k = 0; k < s->filters; k++)
                to[k * TILE_WIDTH] = exists ? from[k * p->w[0]] : 0;
        }
}

static void multiply_row(const struct plan *s, long group, const real *dy, real *product)
{
    static const long zero = 0;
    const struct cut cut = cut_rows(s->p->out[2]);
    struct tile t = {.parts = 1, .depth = s->filters, .offset = &zero, .valid = TILE_WIDTH, .a_apart = s->row_stride,
                     .c_apart = s->panels * TILE_WIDTH};
    for (long panel = 0; panel < s->panels; panel++) {
        t.b = s->packed + (group * s->panels + panel) * s->filters * TILE_WIDTH;
        for (long i = 0; i < cut.tiles; i++) {
            const long begin = cut_begin(cut, i), height = cut_height(cut, i);
            t.a[0] = dy + begin * s->row_stride;
            t.c[0] = product + (begin * s->panels + panel) * TILE_WIDTH;
            FN(tile_rows)(height, TILE_VECTORS)(&t);
        }
    }
}

/* Where the runs of dy's row (d, h) go, as offsets of `sums`; -1 for those outside the band. */
static void find_targets(const struct plan *s, long d, long h, long begin, long end, long *target)
{
    const struct cnn_conv *p = s->p;
    const long across = p->window[2] / s->run_taps;
    long *to = target;
    for (long i = 0; i < p->window[0]; i++)
        for (long j = 0; j < p->window[1]; j++) {
            long at[2] = {d * p->stride[0] + i * p->dilation[0], h * p->stride[1] + j * p->dilation[1]};
            const int inside = at[s->axis] >= begin && at[s->axis] < end;
            at[s->axis] -= begin;
            for (long k = 0; k < across; k++)
                *to++ = inside ? ((at[0] * s->size[1] + at[1]) * s->size[2] + k * p->dilation[2]) * s->channels : -1;
        }
}

/* Adds all runs of the row's cells; lanes beyond a run add nothing, whatever the product holds there. Cells so far apart
 * that their runs do not overlap go together: what was just written is not read at once. */
static void add_runs(const struct plan *s, const real *product, const long *target, real *sums)
{
    const long cell = s->p->stride[2] * s->channels, room = s->panels * TILE_WIDTH, whole = s->run / LANES * LANES;
    const long every = divide_up(s->run_room, cell), cells = s->p->out[2];
    mask inside;
    for (int v = 0; v < LANES; v++)
        inside[v] = v < s->run - whole ? -1 : 0;
    for (long first = 0; first < min_long(every, cells); first++)
        for (long run = 0; run < s->runs; run++) {
            if (target[run] < 0)
                continue;
            const real *from = product + first * room + run * s->run_room;
            real *to = sums + target[run] + first * cell;
            for (long q = first; q < cells; q += every, from += every * room, to += every * cell) {
                for (long i = 0; i < whole; i += LANES)
                    vec_store(to + i, vec_load(to + i) + vec_load(from + i));
                if (whole < s->run)
                    vec_store(to + whole, vec_load(to + whole) + vec_select(inside, vec_load(from + whole), (vec){0}));
            }
        }
}

static void make_band(void *context, long block, int worker)
{
    const struct plan *s = context;
    const struct cnn_conv *p = s->p;
    const long band = block % s->bands, group = block / s->bands % p->groups, n = block / s->bands / p->groups;
    const long begin = band * s->band + p->before[s->axis], end = min_long(begin + s->band, p->before[s->axis] + p->in[s->axis]);
    char *mine = s->worker + (size_t)worker * s->worker_bytes;
    real *copy = (real *)mine, *product = (real *)(mine + s->copy_bytes), *sums = (real *)(mine + s->copy_bytes + s->product_bytes);
    long *target = (long *)(mine + s->worker_bytes - s->target_bytes);
    memset(sums, 0, (size_t)(s->size[0] * s->size[1] * s->size[2] * s->channels + LANES) * sizeof(real));

    for (long d = 0; d < p->out[0]; d++)
        for (long h = 0; h < p->out[1]; h++) {
            const long first = (s->axis ? h : d) * p->stride[s->axis];
            if (first >= end || first + (p->window[s->axis] - 1) * p->dilation[s->axis] < begin)
                continue;
            const real *dy = s->dy + n * p->y[0] + group * s->filters * p->y[1] + d * p->y[2] + h * p->y[3];
            if (!s->in_place) {
                for (long q = 0; q < p->out[2]; q++)
                    for (long k = 0; k < s->filters; k++)
                        copy[q * s->filters + k] = dy[q * p->y[4] + k * p->y[1]];
                dy = copy;
            }
            multiply_row(s, group, dy, product);
            find_targets(s, d, h, begin, end, target);
            add_runs(s, product, target, sums);
        }

    long low[3] = {p->before[0], p->before[1], p->before[2]}, high[3];
    for (int a = 0; a < 3; a++)
        high[a] = low[a] + p->in[a];
    low[s->axis] = 0, high[s->axis] = end - begin;
    real *dx = s->dx + n * p->x[0] + group * s->channels * p->x[1] + band * s->band * p->x[2 + s->axis];
    for (long d = low[0]; d < high[0]; d++)
        for (long h = low[1]; h < high[1]; h++) {
            const real *from = sums + ((d * s->size[1] + h) * s->size[2] + low[2]) * s->channels;
            real *to = dx + (d - low[0]) * p->x[2] + (h - low[1]) * p->x[3];
            if (!s->bias && p->x[1] == 1 && p->x[4] == s->channels)
                memcpy(to, from, (size_t)(p->in[2] * s->channels) * sizeof(real));
            else if (!s->bias && p->x[4] == 1 && s->channels < LANES)
                FN(gather_few)(from, p->in[2], s->channels, p->x[1], to);
            else
                for (long i = 0; i < p->in[2]; i++)
                    for (long c = 0; c < s->channels; c++)
                        to[i * p->x[4] + c * p->x[1]] = from[i * s->channels + c] + (s->bias ? s->bias[group * s->channels + c] : 0);
        }
}

size_t FN(scatter_scratch)(const struct cnn_conv *p, int workers)
{
    struct plan s;
    return make_plan(&s, p, workers, cnn_no_scratch);
}

void FN(scatter_input)(const struct cnn_conv *p, const real *dy, const real *w, const real *bias, real *dx, struct cnn_run *run)
{
    struct plan s;
    make_plan(&s, p, run->workers, run->scratch);
    s.dy = dy, s.w = w, s.bias = bias, s.dx = dx;
    cnn_parallel_for(run, p->groups, (double)(p->groups * s.panels * s.filters) * TILE_WIDTH, pack_group, &s);
    const double rows = (double)(p->n * p->groups) * (double)(p->out[0] * p->out[1]);
    cnn_parallel_for(run, p->n * p->groups * s.bands, rows * (double)(p->out[2] * s.columns) * (double)s.filters / 50, make_band, &s);
}
