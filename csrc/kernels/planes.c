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

void FN(scatter_cells)(const real *from, long dc, long dw, long cells, long channels, real *y)
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

/* Squares of LANES pixels, the last of which begins early: vectors begin at their pixels and reach into the next ones, but for the row's last ones. */
void FN(gather_few)(const real *x, long cells, long channels, long apart, real *to)
{
#if CNN_HAS_TRANSPOSE
    for (long i = 0; cells >= LANES; i = min_long(i + LANES, cells - LANES)) {
        const real *from = x + i * channels;
        const long room = (cells - i) * channels;
        vec v[LANES];
        if (room >= (LANES - 1) * channels + LANES)
            for (int j = 0; j < LANES; j++)
                v[j] = vec_load(from + j * channels);
        else
            for (int j = 0; j < LANES; j++)
                v[j] = vec_load_part(from + j * channels, channels);
        if (channels <= LANES / 2)
            transpose_half(v);
        else
            transpose(v);
        UNROLL for (int c = 0; c < CNN_FEW_CHANNELS && c < LANES; c++)
            if (c < channels)
                vec_store(to + c * apart + i, v[c]);
        if (i + LANES >= cells)
            return;
    }
#endif
    for (long i = 0; i < cells; i++)
        for (long c = 0; c < channels; c++)
            to[c * apart + i] = x[i * channels + c];
}

/* What a vector writes behind its pixel is written again by the next ones. */
void FN(scatter_few)(const real *from, long cells, long channels, long apart, real *y)
{
#if CNN_HAS_TRANSPOSE
    for (long i = 0; cells >= LANES; i = min_long(i + LANES, cells - LANES)) {
        vec v[LANES];
        for (int c = 0; c < LANES; c++)
            v[c] = vec_load(from + min_long(c, channels - 1) * apart + i);
        if (channels <= LANES / 2) {
            transpose_pairs(v);
            UNROLL for (int j = LANES / 2 - 1; j >= 0; j--)
                v[2 * j + 1] = __builtin_shufflevector(v[j], v[j], SWAPPED_INDICES), v[2 * j] = v[j];
        } else
            transpose(v);
        const long whole = cells - i - divide_up(LANES, channels); /* pixels with room for a vector, counted from 0 */
        for (long j = 0; j < LANES; j++)
            if (j <= whole)
                vec_store(y + (i + j) * channels, v[j]);
            else
                vec_store_part(y + (i + j) * channels, v[j], channels);
        if (i + LANES >= cells)
            return;
    }
#endif
    for (long i = 0; i < cells; i++)
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
            FN(scatter_cells)(from, stride[1], stride[4], cells, channels, y + d * stride[2] + h * stride[3]);
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
