#include "planes.h"

#include "transpose.h"

/* How far cells follow each other at one distance: the row, or the whole plane. */
static void find_rows(struct plane_image image, long *rows_d, long *rows_h, long *cells)
{
    const long *size = image.size, *stride = image.stride;
    *rows_d = size[0], *rows_h = size[1], *cells = size[2];
    if (*rows_h == 1 || stride[3] == size[2] * stride[4])
        *cells *= *rows_h, *rows_h = 1;
    if (*rows_h == 1 && (*rows_d == 1 || stride[2] == *cells * stride[4]))
        *cells *= *rows_d, *rows_d = 1;
}

/* A square of LANES planes, dc apart, and `valid` of their cells. */
ALWAYS_INLINE void gather_square(const real *x, long dc, long valid, long channels, real *to)
{
    vec v[LANES];
    for (int c = 0; c < LANES; c++)
        v[c] = vec_get(x + c * dc, valid);
    transpose(v);
    for (long j = 0; j < valid; j++)
        vec_store(to + j * channels, v[j]);
}

ALWAYS_INLINE void scatter_square(const real *from, long channels, long dc, long valid, real *y)
{
    vec v[LANES];
    for (long j = 0; j < LANES; j++)
        v[j] = vec_load(from + min_long(j, valid - 1) * channels);
    transpose(v);
    for (int c = 0; c < LANES; c++)
        vec_put(y + c * dc, v[c], valid);
}

/* Planes whose distance is a multiple of this have their lines at the same places of a first cache, which holds fewer of them than there are lanes: a line
 * that two squares share would have left in between. Runs of such planes are copied one after the other before they are turned. */
enum { ALIASED = 4096 / (int)sizeof(real), RUN_APART = TURNED_AT_ONCE + LINE };
static int aliased(long dc, long cells) { return LANES > 8 && dc % ALIASED == 0 && cells > LANES; }

/* Where the square or run at i begins: the last one of a row begins early. */
ALWAYS_INLINE long begin_of(long i, long cells) { return min_long(i, cells - LANES); }

/* LANES planes, cells >= LANES. */
static void gather_squares(const real *x, long dc, long cells, long pitch, real *to)
{
    for (long i = 0; i < cells; i += LANES)
        gather_square(x + begin_of(i, cells), dc, LANES, pitch, to + begin_of(i, cells) * pitch);
}

/* `rows` rows, dh apart, of LANES planes; results row_pitch apart. */
static void gather_aliased(const real *x, long dc, long dh, long rows, long cells, long pitch, long row_pitch, real *to)
{
    real run[LANES * RUN_APART] __attribute__((aligned(64)));
    const long together = max_long(1, TURNED_AT_ONCE / cells), next = cells > TURNED_AT_ONCE ? TURNED_AT_ONCE : together * dh; /* to what follows */
    for (long h = 0; h < rows; h += together)
        for (long i = 0, high = min_long(together, rows - h); i < cells; i += TURNED_AT_ONCE) {
            const long at = begin_of(i, cells), size = min_long(TURNED_AT_ONCE, cells - at);
            for (long c = 0; c < LANES; c++)
                for (long r = 0; r < high; r++)
                    for (long j = 0; j < size; j += LANES) {
                        const real *from = x + c * dc + (h + r) * dh + at + begin_of(j, size);
                        __builtin_prefetch(from + next);
                        vec_store(run + c * RUN_APART + r * size + begin_of(j, size), vec_load(from));
                    }
            for (long r = 0; r < high; r++)
                gather_squares(run + r * size, RUN_APART, size, pitch, to + (h + r) * row_pitch + at * pitch);
        }
}

static void scatter_squares(const real *from, long pitch, long dc, long cells, real *y)
{
    for (long i = 0; i < cells; i += LANES)
        scatter_square(from + begin_of(i, cells) * pitch, pitch, dc, LANES, y + begin_of(i, cells));
}

static void scatter_aliased(const real *from, long pitch, long dc, long cells, real *y)
{
    real run[LANES * RUN_APART] __attribute__((aligned(64)));
    for (long i = 0; i < cells; i += TURNED_AT_ONCE) {
        const long at = begin_of(i, cells), size = min_long(TURNED_AT_ONCE, cells - at);
        scatter_squares(from + at * pitch, pitch, RUN_APART, size, run);
        for (long c = 0; c < LANES; c++)
            for (long j = 0; j < size; j += LANES)
                vec_store(y + c * dc + at + begin_of(j, size), vec_load(run + c * RUN_APART + begin_of(j, size)));
    }
}

/* Fewer planes than lanes, whose cells are neighbours. */
static void gather_rest(const real *x, long dc, long cells, long channels, long pitch, real *to)
{
#if CNN_HAS_TRANSPOSE && CNN_HAS_MASKED_MOVES
    for (long i = 0; channels > 1 && i < cells; i += LANES) {
        const long at = max_long(0, begin_of(i, cells)), valid = min_long(LANES, cells - at);
        vec v[LANES];
        for (long c = 0; c < LANES; c++)
            v[c] = c < channels ? vec_get(x + c * dc + at, valid) : (vec){0};
        transpose(v);
        for (long j = 0; j < valid; j++)
            vec_store_part(to + (at + j) * pitch, v[j], channels);
    }
    if (channels > 1)
        return;
#endif
    for (long i = 0; i < cells; i++)
        for (long c = 0; c < channels; c++)
            to[i * pitch + c] = x[c * dc + i];
}

void FN(gather_rows)(const real *x, long dc, long dh, long rows, long cells, long channels, long pitch, long row_pitch, real *to)
{
    const long whole = aliased(dc, cells) ? channels / LANES * LANES : 0;
    for (long c = 0; c < whole; c += LANES)
        gather_aliased(x + c * dc, dc, dh, rows, cells, pitch, row_pitch, to + c);
    for (long h = 0; whole < channels && h < rows; h++)
        FN(gather_cells)(x + whole * dc + h * dh, dc, 1, cells, channels - whole, pitch, to + h * row_pitch + whole);
}

void FN(gather_cells)(const real *x, long dc, long dw, long cells, long channels, long pitch, real *to)
{
    const long whole = dw == 1 && cells > 0 ? channels / LANES * LANES : 0;
    for (long c = 0; c < whole; c += LANES)
        if (cells < LANES)
            gather_square(x + c * dc, dc, cells, pitch, to + c);
        else if (aliased(dc, cells))
            gather_aliased(x + c * dc, dc, 0, 1, cells, pitch, 0, to + c);
        else
            gather_squares(x + c * dc, dc, cells, pitch, to + c);
    if (whole < channels && dw == 1)
        gather_rest(x + whole * dc, dc, cells, channels - whole, pitch, to + whole);
    else
        for (long i = 0; whole < channels && i < cells; i++)
            for (long c = whole; c < channels; c++)
                to[i * pitch + c] = x[c * dc + i * dw];
}

static void scatter_rest(const real *from, long pitch, long dc, long cells, long channels, real *y)
{
#if CNN_HAS_TRANSPOSE && CNN_HAS_MASKED_MOVES
    for (long i = 0; channels > 1 && i < cells; i += LANES) {
        const long at = max_long(0, begin_of(i, cells)), valid = min_long(LANES, cells - at);
        vec v[LANES];
        for (long j = 0; j < LANES; j++)
            v[j] = vec_load_part(from + (at + min_long(j, valid - 1)) * pitch, channels);
        transpose(v);
        for (long c = 0; c < channels; c++)
            vec_put(y + c * dc + at, v[c], valid);
    }
    if (channels > 1)
        return;
#endif
    for (long i = 0; i < cells; i++)
        for (long c = 0; c < channels; c++)
            y[c * dc + i] = from[i * pitch + c];
}

static void scatter_row(const real *from, long dc, long dw, long cells, long channels, real *y)
{
    const long whole = dw == 1 && cells > 0 ? channels / LANES * LANES : 0;
    for (long c = 0; c < whole; c += LANES)
        if (cells < LANES)
            scatter_square(from + c, channels, dc, cells, y + c * dc);
        else if (aliased(dc, cells))
            scatter_aliased(from + c, channels, dc, cells, y + c * dc);
        else
            scatter_squares(from + c, channels, dc, cells, y + c * dc);
    if (whole < channels && dw == 1)
        scatter_rest(from + whole, channels, dc, cells, channels - whole, y + whole * dc);
    else
        for (long i = 0; whole < channels && i < cells; i++)
            for (long c = whole; c < channels; c++)
                y[c * dc + i * dw] = from[i * channels + c];
}

void FN(scatter_cells)(const real *from, long dc, long dw, long cells, long channels, real *y) { scatter_row(from, dc, dw, cells, channels, y); }

#if CNN_HAS_TRANSPOSE
/* A square of LANES pixels: vectors begin at their pixels and reach into the next ones; at the end of a row they may not. */
ALWAYS_INLINE void gather_few_square(const real *x, long channels, long apart, const int end, real *to)
{
    vec v[LANES];
    for (int j = 0; j < LANES; j++)
        v[j] = end ? vec_load_part(x + j * channels, channels) : vec_load(x + j * channels);
    if (channels <= LANES / 2)
        transpose_half(v);
    else
        transpose(v);
    UNROLL for (int c = 0; c < CNN_FEW_CHANNELS && c < LANES; c++)
        if (c < channels)
            vec_store(to + c * apart, v[c]);
}

/* What a vector writes behind its pixel is written again by the next ones; `end`: the first `whole` may reach there. */
ALWAYS_INLINE void scatter_few_square(const real *from, long channels, long apart, const int end, long whole, real *y)
{
    vec v[LANES];
    for (int c = 0; c < LANES; c++)
        v[c] = vec_load(from + min_long(c, channels - 1) * apart);
    if (channels <= LANES / 2) {
        transpose_pairs(v);
        UNROLL for (int j = LANES / 2 - 1; j >= 0; j--)
            v[2 * j + 1] = __builtin_shufflevector(v[j], v[j], SWAPPED_INDICES), v[2 * j] = v[j];
    } else
        transpose(v);
    for (int j = 0; j < LANES; j++)
        if (!end || j < whole)
            vec_store(y + j * channels, v[j]);
        else
            vec_store_part(y + j * channels, v[j], channels);
}

/* Pixels of a square that reach beyond the last of them. */
ALWAYS_INLINE long reaching(long channels) { return divide_up(LANES, channels) - 1; }
#endif

/* The last square of a row begins early. */
void FN(gather_few)(const real *x, long cells, long channels, long apart, real *to)
{
    long i = 0;
#if CNN_HAS_TRANSPOSE
    for (; i + LANES + reaching(channels) <= cells; i += LANES)
        gather_few_square(x + i * channels, channels, apart, 0, to + i);
    if (i < cells && cells >= LANES && (CNN_HAS_MASKED_MOVES || cells - i > LANES / 2)) {
        if (i + LANES <= cells && cells - i > LANES)
            gather_few_square(x + i * channels, channels, apart, 1, to + i);
        gather_few_square(x + (cells - LANES) * channels, channels, apart, 1, to + cells - LANES);
        return;
    }
#endif
    for (; i < cells; i++)
        for (long c = 0; c < channels; c++)
            to[c * apart + i] = x[i * channels + c];
}

void FN(scatter_few)(const real *from, long cells, long channels, long apart, real *y)
{
    long i = 0;
#if CNN_HAS_TRANSPOSE
    for (; i + LANES + reaching(channels) <= cells; i += LANES)
        scatter_few_square(from + i, channels, apart, 0, 0, y + i * channels);
    if (i < cells && cells >= LANES && (CNN_HAS_MASKED_MOVES || cells - i > LANES / 2)) {
        if (i + LANES <= cells && cells - i > LANES)
            scatter_few_square(from + i, channels, apart, 1, cells - i - reaching(channels), y + i * channels);
        scatter_few_square(from + cells - LANES, channels, apart, 1, LANES - reaching(channels), y + (cells - LANES) * channels);
        return;
    }
#endif
    for (; i < cells; i++)
        for (long c = 0; c < channels; c++)
            y[i * channels + c] = from[c * apart + i];
}

static void gather_image(struct plane_image image, const real *x, long channels, real *to)
{
    long planes, rows, cells;
    find_rows(image, &planes, &rows, &cells);
    for (long d = 0; d < planes; d++)
        for (long h = 0; h < rows; h++, to += cells)
            FN(gather_few)(x + d * image.stride[2] + h * image.stride[3], cells, channels, plane_cells(image.size), to);
}

static void scatter_image(struct plane_image image, const real *from, long channels, real *y)
{
    long planes, rows, cells;
    find_rows(image, &planes, &rows, &cells);
    for (long d = 0; d < planes; d++)
        for (long h = 0; h < rows; h++, from += cells)
            FN(scatter_few)(from, cells, channels, plane_cells(image.size), y + d * image.stride[2] + h * image.stride[3]);
}

void FN(gather_planes)(struct plane_image image, const real *x, long n, long c, long channels, real *to)
{
    const long *stride = image.stride;
    long planes, rows, cells;
    find_rows(image, &planes, &rows, &cells);
    x += n * stride[0] + c * stride[1];
    for (long d = 0; d < planes; d++)
        for (long h = 0; h < rows; h++, to += cells * channels)
            FN(gather_cells)(x + d * stride[2] + h * stride[3], stride[1], stride[4], cells, channels, channels, to);
}

void FN(scatter_planes)(struct plane_image image, const real *from, long n, long c, long channels, real *y)
{
    const long *stride = image.stride;
    long planes, rows, cells;
    find_rows(image, &planes, &rows, &cells);
    y += n * stride[0] + c * stride[1];
    for (long d = 0; d < planes; d++)
        for (long h = 0; h < rows; h++, from += cells * channels)
            scatter_row(from, stride[1], stride[4], cells, channels, y + d * stride[2] + h * stride[3]);
}

static size_t side_bytes(const struct planes *s, struct plane_image image) { return aligned((size_t)(plane_cells(image.size) * s->together) * sizeof(real)); }
static size_t worker_bytes(const struct planes *s) { return spaced(side_bytes(s, s->in) + side_bytes(s, s->out) + s->scratch); }

size_t FN(planes_scratch)(const struct planes *s, int workers) { return (size_t)workers * worker_bytes(s); }

struct job {
    const struct planes *s;
    char *scratch;
};

static void run_block(void *context, long block, int worker)
{
    const struct job *job = context;
    const struct planes *s = job->s;
    const long groups = divide_up(s->c, s->together), n = block / groups, c = block % groups * s->together, channels = min_long(s->together, s->c - c);
    char *mine = job->scratch + (size_t)worker * worker_bytes(s);
    real *from = (real *)mine, *to = (real *)(mine + side_bytes(s, s->in));
    struct cnn_run run = {.workers = 1, .scratch = mine + side_bytes(s, s->in) + side_bytes(s, s->out)};
    if (s->few)
        gather_image(s->in, s->x + n * s->in.stride[0], channels, from);
    else
        FN(gather_planes)(s->in, s->x, n, c, channels, from);
    s->compute(s, n, c, channels, from, to, &run);
    if (s->few)
        scatter_image(s->out, to, channels, s->y + n * s->out.stride[0]);
    else
        FN(scatter_planes)(s->out, to, n, c, channels, s->y);
}

void FN(planes_run)(const struct planes *s, struct cnn_run *run)
{
    struct job job = {s, run->scratch};
    cnn_parallel_for(run, s->n * divide_up(s->c, s->together), s->work, run_block, &job);
}
