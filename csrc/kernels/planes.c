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

/* The last square of a row begins early, or has fewer cells. */
void FN(gather_cells)(const real *x, long dc, long dw, long cells, long channels, real *to)
{
    const long whole = dw == 1 && cells > 0 ? channels / LANES * LANES : 0;
    for (long c = 0; c < whole; c += LANES) {
        if (cells < LANES)
            gather_square(x + c * dc, dc, cells, channels, to + c);
        for (long i = 0; i < cells && cells >= LANES; i += LANES) {
            const long at = min_long(i, cells - LANES);
            gather_square(x + c * dc + at, dc, LANES, channels, to + at * channels + c);
        }
    }
    for (long i = 0; whole < channels && i < cells; i++)
        for (long c = whole; c < channels; c++)
            to[i * channels + c] = x[c * dc + i * dw];
}

static void scatter_row(const real *from, long dc, long dw, long cells, long channels, real *y)
{
    const long whole = dw == 1 && cells > 0 ? channels / LANES * LANES : 0;
    for (long c = 0; c < whole; c += LANES) {
        if (cells < LANES)
            scatter_square(from + c, channels, dc, cells, y + c * dc);
        for (long i = 0; i < cells && cells >= LANES; i += LANES) {
            const long at = min_long(i, cells - LANES);
            scatter_square(from + at * channels + c, channels, dc, LANES, y + c * dc + at);
        }
    }
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
            FN(gather_cells)(x + d * stride[2] + h * stride[3], stride[1], stride[4], cells, channels, to);
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
