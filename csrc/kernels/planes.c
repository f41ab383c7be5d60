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

void FN(gather_cells)(const real *x, long dc, long dw, long cells, long channels, real *to)
{
    long i = 0;
    if (dw == 1 && channels == LANES)
        for (; i + LANES <= cells; i += LANES) {
            vec v[LANES];
            for (int c = 0; c < LANES; c++)
                v[c] = vec_load(x + c * dc + i);
            transpose(v);
            for (int j = 0; j < LANES; j++)
                vec_store(to + (i + j) * LANES, v[j]);
        }
    for (; i < cells; i++)
        for (long c = 0; c < channels; c++)
            to[i * channels + c] = x[c * dc + i * dw];
}

static void scatter_row(const real *from, long dc, long dw, long cells, long channels, real *y)
{
    long i = 0;
    if (dw == 1 && channels == LANES)
        for (; i + LANES <= cells; i += LANES) {
            vec v[LANES];
            for (int j = 0; j < LANES; j++)
                v[j] = vec_load(from + (i + j) * LANES);
            transpose(v);
            for (int c = 0; c < LANES; c++)
                vec_store(y + c * dc + i, v[c]);
        }
    for (; i < cells; i++)
        for (long c = 0; c < channels; c++)
            y[c * dc + i * dw] = from[i * channels + c];
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

static long lanes_of(const struct planes *s) { return min_long(s->c, LANES); }
static size_t side_bytes(const struct planes *s, struct plane_image image) { return aligned((size_t)(plane_cells(image.size) * lanes_of(s)) * sizeof(real)); }
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
    const long groups = divide_up(s->c, LANES), n = block / groups, c = block % groups * LANES, channels = min_long(LANES, s->c - c);
    char *mine = job->scratch + (size_t)worker * worker_bytes(s);
    real *from = (real *)mine, *to = (real *)(mine + side_bytes(s, s->in));
    struct cnn_run run = {.workers = 1, .scratch = mine + side_bytes(s, s->in) + side_bytes(s, s->out)};
    FN(gather_planes)(s->in, s->x, n, c, channels, from);
    s->compute(s, n, c, channels, from, to, &run);
    FN(scatter_planes)(s->out, to, n, c, channels, s->y);
}

void FN(planes_run)(const struct planes *s, struct cnn_run *run)
{
    struct job job = {s, run->scratch};
    cnn_parallel_for(run, s->n * divide_up(s->c, LANES), s->work, run_block, &job);
}
