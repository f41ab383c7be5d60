/* pointwise_weight.c: the weight gradient of a convolution whose window is one cell.
 *
 *     dw[k][c] = sum over n, p of dy[n][k][p] * x[n][c][p*stride]
 *     db[k]    = sum over n, p of dy[n][k][p]
 *
 * A product of two matrices over their pixels. Where the general way (conv_weight.c) copies both sides before it computes, here the copies
 * would cost as much as the sums: dy is read where it lies, k along the rows of a tile, and only the channels of x that a thread works on
 * are copied, some pixels at a time, while the next ones are fetched. A tile stores into dw itself. Rows of dy come in groups that stay in the second
 * cache while all of the copy passes.
 * Few channels would leave most lanes of a tile empty: x and dy change their roles there, and so do channels and filters.
 * Pixels come in boxes of at most 1,024, cut by the shape alone; each is summed from zero; series.h says how boxes are added. A thread takes whole
 * series where there are enough of them: both sides are one stream of memory each then, fetched while tiles are computed. */
#include "pointwise_weight.h"

#include "../base/machine.h"
#include "coming.h"
#include "conv_bias.h"
#include "series.h"
#include "tile.h"
#include "transpose.h"

enum { CELLS = 512, SUMS = 1 << 20 }; /* pixels of a box; bytes of the sums of all series */

struct plan {
    const struct cnn_conv *p;
    int turned;                  /* channels are few: what follows calls dy x, and filters channels */
    long k, c;                   /* rows and columns of the product */
    const real *x, *dy;
    real *dw, *db;
    struct windows in, out;      /* both cell by cell: the stride of x is in its array's strides */
    struct boxes boxes;
    struct series series;
    int apart;                   /* threads take whole series */
    long sum_reals;              /* of a series; behind the rows one for db, where they are turned */
    real *sums;                  /* sums[series][k][c], where they are not dw itself */
    long cells;                  /* of the largest box */
    long panels, together, slices; /* of channels: all, those of a block, and blocks along them */
    struct cut cut;              /* of filters */
    long tiles, row_slices;      /* tiles of a block, and blocks along them */
    long near;                   /* tiles whose dy stays in the second cache while all panels of a block pass */
    enum { COLUMNS, ROWS, COPIED } kind; /* how a tile reads dy: filters are neighbours; pixels are; a copy in which they are */
    long copied_pitch;
    int fetch_dy;
    char *worker;
    size_t worker_bytes, x_bytes, dy_bytes;
};

static struct windows cell_by_cell(const struct cnn_conv *p, long channels, const long stride[5], int is_input)
{
    struct windows w = {.images = p->n, .channels = channels, .mode = CNN_ZEROS};
    for (int a = 0; a < 3; a++) {
        w.in[a] = w.out[a] = p->out[a];
        w.taps[a] = w.spread[a] = w.step[a] = 1;
        w.stride[2 + a] = stride[2 + a] * (is_input ? p->stride[a] : 1);
    }
    w.stride[0] = stride[0], w.stride[1] = stride[1];
    return w;
}

int FN(pointwise)(const struct cnn_conv *p)
{
    for (int a = 0; a < 3; a++)
        if (p->window[a] != 1 || p->before[a] != 0 || (p->out[a] - 1) * p->stride[a] >= p->in[a])
            return 0;
    return p->groups == 1 && p->k >= max_long(TILE_ROWS, LANES) && p->w[1] == 1 && p->n * p->out[0] * p->out[1] * p->out[2] > 0;
}

/* Whether sums are not dw itself. */
static int beside(const struct plan *s) { return s->turned || s->series.count > 1; }

static size_t make_plan(struct plan *s, const struct cnn_conv *p, int workers, char *scratch)
{
    *s = (struct plan){.p = p, .turned = p->c < LANES, .k = p->k, .c = p->c, .in = cell_by_cell(p, p->c, p->x, 1), .out = cell_by_cell(p, p->k, p->y, 0)};
    if (s->turned) {
        const struct windows in = s->in;
        s->in = s->out, s->out = in;
        s->k = p->c, s->c = p->k;
    }
    const long products = s->k * s->c; /* longer copies, or more panels of a large dw; whole planes where pixels are soon done */
    s->boxes = FN(cut_boxes)(&s->in, products <= 1 << 12 ? 2 * CELLS : products < 1 << 18 ? CELLS : CELLS / 2, 1, 1e18);
    s->cells = s->boxes.size[0] * s->boxes.size[1] * s->boxes.size[2] * s->boxes.size[3];
    s->panels = divide_up(s->c, TILE_WIDTH);
    s->cut = cut_rows(s->k);
    /* Pixels far apart are lines of their own, in few sets of the first cache; so are many rows that are half a page apart. */
    const int crowded = s->cut.height > 8 && s->out.stride[1] * (long)sizeof(real) % 2048 == 0;
    s->kind = s->out.stride[1] == 1 && s->out.stride[4] * (long)sizeof(real) <= 512 ? COLUMNS : s->out.stride[4] == 1 && !crowded ? ROWS : COPIED;
    /* A block's copy of x takes a half of the second cache; there are at least as many blocks as threads. */
    const long most = max_long(1, (long)(cnn_machine()->l2 / 2 / ((size_t)(s->cells * TILE_WIDTH) * sizeof(real))));
    long rows = 1, best = 0;
    s->sum_reals = (s->k + s->turned) * s->c;
    s->series = cut_series(s->boxes.total, s->sum_reals, SUMS);
    s->apart = enough_series(s->series, workers);
    const int sharing = s->apart ? 1 : workers; /* threads that share a series */
    for (long r = 1; r <= min_long(sharing, s->cut.tiles); r++) { /* every block along panels reads all of dy, every one along rows all of x */
        const long cost = divide_up(sharing, r) * s->k + r * s->c;
        if (!best || cost < best)
            best = cost, rows = r;
    }
    s->tiles = divide_up(s->cut.tiles, rows);
    s->row_slices = divide_up(s->cut.tiles, s->tiles);
    s->together = max_long(1, min_long(most, s->panels / divide_up(sharing, rows)));
    s->slices = divide_up(s->panels, s->together);
    const long channels = min_long(s->c, s->together * TILE_WIDTH), filters = min_long(s->k, s->tiles * (s->cut.height + 1));
    s->near = max_long(1, min_long(s->tiles, (long)(cnn_machine()->l2 / 4 / ((size_t)((s->cut.height + 1) * s->cells) * sizeof(real)))));
    s->fetch_dy = (size_t)(s->cells * (2 * channels + 2 * filters)) * sizeof(real) < cnn_machine()->l2;
    s->x_bytes = aligned((size_t)(s->together * s->cells * TILE_WIDTH) * sizeof(real));
    s->copied_pitch = round_up(s->cells, LINE) + LINE;
    s->dy_bytes = s->kind == COPIED ? aligned((size_t)(s->near * (s->cut.height + 1) * s->copied_pitch) * sizeof(real)) : 0;
    s->worker_bytes = spaced(s->x_bytes + s->dy_bytes + (size_t)s->cells * sizeof(long));
    s->sums = (real *)scratch;
    s->worker = scratch + (beside(s) ? aligned((size_t)(s->series.count * s->sum_reals) * sizeof(real)) : 0);
    return (size_t)(s->worker - scratch) + s->worker_bytes * (size_t)workers;
}

/* Where the cells of a box lie; neighbouring ones that are evenly spaced by `step` form runs. Returns their number. */
static long find_runs(const struct windows *w, const struct box *box, long *offset, long *depth)
{
    const long *size = box->size, *stride = w->stride, apart[3] = {stride[0], stride[2], stride[3]};
    long count[3] = {box->images, size[0], size[1]}, runs = 0;
    *depth = size[2];
    for (int i = 2; i >= 0; i--) {
        if (count[i] > 1 && apart[i] != *depth * stride[4])
            break;
        *depth *= count[i];
        count[i] = 1;
    }
    for (long n = 0; n < count[0]; n++)
        for (long d = 0; d < count[1]; d++)
            for (long h = 0; h < count[2]; h++)
                offset[runs++] = (box->image + n) * stride[0] + (box->begin[0] + d) * stride[2] + (box->begin[1] + h) * stride[3] + box->begin[2] * stride[4];
    return runs;
}

static void copy_panels(const struct plan *s, const struct box *box, long first, long count, real *to)
{
    for (long panel = first; panel < first + count; panel++) {
        const long c = panel * TILE_WIDTH, width = s->c - c > LANES ? TILE_WIDTH : LANES, valid = min_long(width, s->c - c);
        const struct pitch pitch = FN(box_pitch)(&s->in, box->images, box->size, width);
        real *mine = to + (panel - first) * s->cells * TILE_WIDTH;
        if (valid < width)
            memset(mine, 0, (size_t)pitch.size * sizeof(real));
        FN(box_copy)(&s->in, box, s->x, c, valid, pitch, mine);
    }
}

/* Cells of dy, some filters of them, to [filter][cell]: whole lines at a time. */
static void copy_dy(const real *from, long cells, long step, long filters, long apart, long pitch, real *to)
{
    if (step == 1) {
        for (long k = 0; k < filters; k++)
            memcpy(to + k * pitch, from + k * apart, (size_t)cells * sizeof(real));
        return;
    }
    for (long i = 0; i < cells; i += LINE)
        for (long k = 0; k < filters; k += LANES) {
            if (apart == 1 && i + LINE <= cells && k + LANES <= filters) {
                for (long half = i; half < i + LINE; half += LANES) {
                    vec v[LANES];
                    for (long j = 0; j < LANES; j++)
                        v[j] = vec_load(from + (half + j) * step + k);
                    transpose(v);
                    for (long j = 0; j < LANES; j++)
                        vec_store(to + (k + j) * pitch + half, v[j]);
                }
                continue;
            }
            for (long j = k; j < min_long(k + LANES, filters); j++)
                for (long cell = i; cell < min_long(i + LINE, cells); cell++)
                    to[j * pitch + cell] = from[cell * step + j * apart];
        }
}

/* The sums of a copied panel's columns: four chains, as one would wait for itself. */
static void add_cells(const real *from, long cells, long width, int add, long valid, real *to)
{
    for (long v = 0; v < width; v += LANES) {
        vec sum[4] = {{0}};
        long i = 0;
        for (; i + 4 <= cells; i += 4)
            UNROLL for (long j = 0; j < 4; j++)
                sum[j] = sum[j] + vec_load(from + (i + j) * width + v);
        for (; i < cells; i++)
            sum[0] = sum[0] + vec_load(from + i * width + v);
        sum[0] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        if (add)
            sum[0] = vec_get(to + v, min_long(LANES, valid - v)) + sum[0];
        vec_put(to + v, sum[0], min_long(LANES, valid - v));
    }
}

/* The sums of a series for a block of channels and filters. */
static void compute_series(const struct plan *s, long series, long block, int worker)
{
    const struct cnn_conv *p = s->p;
    const long first = block % s->slices * s->together, last = min_long(s->panels, first + s->together);
    const long first_tile = block / s->slices * s->tiles, last_tile = min_long(s->cut.tiles, first_tile + s->tiles);
    real *sums = beside(s) ? s->sums + series * s->sum_reals : s->dw;
    const long sums_row = beside(s) ? s->c : p->w[0], begin = series_begin(s->series, series), end = series_end(s->series, series);
    if (first >= last || first_tile >= last_tile)
        return;
    const long k0 = cut_begin(s->cut, first_tile), filters = cut_begin(s->cut, last_tile) - k0;
    const long c0 = first * TILE_WIDTH, channels = min_long(s->c, last * TILE_WIDTH) - c0, calls = (last - first) * (last_tile - first_tile);
    char *mine = s->worker + (size_t)worker * s->worker_bytes;
    real *x = (real *)mine, *dy = (real *)(mine + s->x_bytes);
    long *offset = (long *)(mine + s->x_bytes + s->dy_bytes);

    for (long number = begin; number < end; number++) {
        const struct box box = FN(box_at)(&s->in, &s->boxes, number), next = FN(box_at)(&s->in, &s->boxes, min_long(number + 1, s->boxes.total - 1));
        copy_panels(s, &box, first, last - first, x);
        for (long panel = first; s->turned && s->db && first_tile == 0 && panel < last; panel++) {
            const long c = panel * TILE_WIDTH, valid = min_long(TILE_WIDTH, s->c - c), width = valid > LANES ? TILE_WIDTH : LANES;
            add_cells(x + (panel - first) * s->cells * TILE_WIDTH, box.images * box.size[0] * box.size[1] * box.size[2], width, number > begin, valid, sums + s->k * sums_row + c);
        }
        struct tile t = {.offset = offset, .step = s->out.stride[4], .c_apart = sums_row, .join = number > begin ? ADD : OVERWRITE};
        t.parts = find_runs(&s->out, &box, offset, &t.depth);
        const long runs = t.parts, run_depth = t.depth;
        struct coming x_next = begin_coming(&s->in, &next, s->x + c0 * s->in.stride[1], channels);
        struct coming dy_next = begin_coming(&s->out, &next, s->dy + k0 * s->out.stride[1], filters);
        if (number + 1 == end)
            x_next.lines = dy_next.lines = 0;
        if (!s->fetch_dy)
            dy_next.lines = 0;
        const int streams = is_stream(&x_next) && is_stream(&dy_next);
        const long line = LINE * (long)sizeof(real);
        const struct runs coming = {{(const char *)x_next.at, (const char *)dy_next.at}, {x_next.lines * line, dy_next.lines * line},
                                    divide_up((x_next.lines + dy_next.lines) * line, calls)};
        long call = 0;
        for (long low = first_tile; low < last_tile; low += s->near) {
            const long high = min_long(last_tile, low + s->near), k_low = cut_begin(s->cut, low);
            const real *from = s->dy + k_low * s->out.stride[1];
            long apart = s->out.stride[1];
            if (s->kind == COPIED) {
                find_runs(&s->out, &box, offset, &t.depth);
                for (long run = 0; run < runs; run++)
                    copy_dy(from + offset[run], run_depth, s->out.stride[4], cut_begin(s->cut, high) - k_low, apart, s->copied_pitch, dy + run * run_depth);
                from = dy, apart = s->copied_pitch, t.depth = run_depth * runs, t.parts = 1, offset[0] = 0;
            }
            for (long panel = first; panel < last; panel++) {
                const long c = panel * TILE_WIDTH, width = s->c - c > LANES ? TILE_WIDTH : LANES;
                t.b = x + (panel - first) * s->cells * TILE_WIDTH;
                t.valid = min_long(width, s->c - c);
                for (long tile = low; tile < high; tile++, call++) {
                    if (streams)
                        t.next = share_at(&coming, call), t.next_step = divide_up(coming.share, t.parts * t.depth);
                    else {
                        fetch_coming(&x_next, x_next.lines * (call + 1) / calls);
                        fetch_coming(&dy_next, dy_next.lines * (call + 1) / calls);
                    }
                    const long k = cut_begin(s->cut, tile), height = cut_height(s->cut, tile);
                    t.a[0] = from + (k - k_low) * apart, t.a_apart = apart;
                    t.c[0] = sums + k * sums_row + c;
                    t.ahead = height * apart;
                    (s->kind != COLUMNS ? FN(tile_rows) : streams ? FN(tile_columns_fetching) : FN(tile_columns))(height, (int)(width / LANES))(&t);
                }
            }
        }
    }
}

/* A block of a series, or of all of them. */
static void compute_block(void *context, long block, int worker)
{
    const struct plan *s = context;
    const long blocks = s->slices * s->row_slices;
    for (long series = s->apart ? block / blocks : 0; series < (s->apart ? block / blocks + 1 : s->series.count); series++)
        compute_series(s, series, block % blocks, worker);
}

/* Adds a filter's sums of all series; those of a channel, where they are turned. */
static void join_filter(void *context, long k, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const long c = s->c;
    join_series(s->series, s->sums + k * c, s->sum_reals, 0, c);
    if (k == s->k) {
        memcpy(s->db, s->sums + k * c, (size_t)c * sizeof(real));
        return;
    }
    for (long i = 0; s->turned && i < c; i++)
        s->dw[i * s->p->w[0] + k] = s->sums[k * c + i];
    if (!s->turned)
        memcpy(s->dw + k * s->p->w[0], s->sums + k * c, (size_t)c * sizeof(real));
}

size_t FN(pointwise_weight_scratch)(const struct cnn_conv *p, int workers)
{
    struct plan s;
    return make_plan(&s, p, workers, cnn_no_scratch);
}

void FN(pointwise_weight)(const struct cnn_conv *p, const real *x, const real *dy, real *dw, real *db, struct cnn_run *run)
{
    struct plan s;
    make_plan(&s, p, run->workers, run->scratch);
    s.x = s.turned ? dy : x, s.dy = s.turned ? x : dy, s.dw = dw, s.db = db;
    const double work = (double)(p->n * p->out[0] * p->out[1] * p->out[2]) * (double)p->k * (double)p->c / 30;
    cnn_parallel_for(run, (s.apart ? s.series.count : 1) * s.slices * s.row_slices, work, compute_block, &s);
    if (beside(&s))
        cnn_parallel_for(run, s.k + (s.turned && db), (double)(s.series.count * p->k * p->c) / 4, join_filter, &s);
    if (db && !s.turned)
        FN(conv_bias)(p, dy, db, run);
}
