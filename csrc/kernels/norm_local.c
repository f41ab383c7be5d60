/* norm_local.c: local response normalisation across neighbouring channels.
 *
 *     z_c = k + alpha/size * sum of x_j^2, j = c - floor(size/2) .. c + floor((size - 1)/2) inside [0, C);   y = x z^-beta
 *     dx_c = dy_c z_c^-beta - 2 alpha beta/size x_c * sum of dy_j x_j z_j^(-beta-1) over all j whose window holds c
 *
 * x[n][c][s] in C order or channels-last. A block is a run of cells with all their channels, [c][cells] in scratch, so that
 * lanes are cells. Backward needs x. Source: A. Krizhevsky, I. Sutskever, G. Hinton, 2012; mathematics 2.10. */
#include "ops.h"
#include "vecmath.h"

enum { CELLS = 64 };

struct local {
    const struct cnn_norm *p;
    const real *x, *dy;
    real *y, *scratch;
};

static long room(const struct cnn_norm *p) { return p->c * CELLS; }
static long worker_room(const struct cnn_norm *p) { return spaced_reals(3 * room(p)); }

static void read_cells(const struct cnn_norm *p, const real *x, long n, long first, long count, real *to)
{
    for (long c = 0; c < p->c; c++)
        for (long i = 0; i < CELLS; i++)
            to[c * CELLS + i] = i >= count ? 0 : p->channels_last ? x[(n * p->s + first + i) * p->c + c] : x[(n * p->c + c) * p->s + first + i];
}

static void write_cells(const struct cnn_norm *p, const real *from, long n, long first, long count, real *y)
{
    for (long c = 0; c < p->c; c++)
        for (long i = 0; i < count; i++)
            *(p->channels_last ? y + (n * p->s + first + i) * p->c + c : y + (n * p->c + c) * p->s + first + i) = from[c * CELLS + i];
}

/* z of channel c and a vector of cells; summed anew each time: a running sum would lose small terms behind large ones. */
static vec denominator(const struct cnn_norm *p, const real *x, long c)
{
    vec sum = {0};
    const long low = max_long(0, c - p->window / 2), high = min_long(p->c - 1, c + (p->window - 1) / 2);
    for (long j = low; j <= high; j++) {
        const vec v = vec_load(x + j * CELLS);
        sum = vec_madd(v, v, sum);
    }
    return vec_madd(sum, vec_fill((real)(p->alpha / (double)p->window)), vec_fill((real)p->k));
}

static vec power(vec z, double exponent) { return vec_exp(vec_log(z) * (real)exponent); }

static void local_block(void *context, long block, int worker)
{
    const struct local *s = context;
    const struct cnn_norm *p = s->p;
    const long runs = divide_up(p->s, CELLS), n = block / runs, first = block % runs * CELLS, count = min_long(CELLS, p->s - first);
    real *x = s->scratch + worker * worker_room(p), *dy = x + room(p), *ratio = dy + room(p);
    read_cells(p, s->x, n, first, count, x);
    if (s->dy)
        read_cells(p, s->dy, n, first, count, dy);
    for (long i = 0; i < CELLS; i += LANES)
        for (long c = 0; c < p->c; c++) {
            const vec z = denominator(p, x + i, c), scale = power(z, -p->beta), v = vec_load(x + c * CELLS + i);
            if (!s->dy) {
                vec_store(ratio + c * CELLS + i, v * scale);
                continue;
            }
            const vec g = vec_load(dy + c * CELLS + i);
            vec_store(ratio + c * CELLS + i, g * v * (scale / z)); /* dy_j x_j z_j^(-beta-1) */
            vec_store(dy + c * CELLS + i, g * scale);
        }
    if (!s->dy) {
        write_cells(p, ratio, n, first, count, s->y);
        return;
    }
    const vec factor = vec_fill((real)(2 * p->alpha * p->beta / (double)p->window));
    for (long i = 0; i < CELLS; i += LANES)
        for (long c = 0; c < p->c; c++) {
            const long low = max_long(0, c - (p->window - 1) / 2), high = min_long(p->c - 1, c + p->window / 2);
            vec sum = {0};
            for (long j = low; j <= high; j++)
                sum = sum + vec_load(ratio + j * CELLS + i);
            real *to = dy + c * CELLS + i;
            vec_store(to, vec_load(to) - factor * vec_load(x + c * CELLS + i) * sum);
        }
    write_cells(p, dy, n, first, count, s->y);
}

static size_t scratch(const void *problem, int workers) { return (size_t)(workers * worker_room(problem)) * sizeof(real); }
size_t FN(local_response_norm_forward_scratch)(const void *problem, int workers) { return scratch(problem, workers); }
size_t FN(local_response_norm_backward_scratch)(const void *problem, int workers) { return scratch(problem, workers); }

static void run_local(const struct cnn_norm *p, const real *dy, const real *x, real *y, struct cnn_run *run)
{
    struct local s = {p, x, dy, y, (real *)run->scratch};
    cnn_parallel_for(run, p->n * divide_up(p->s, CELLS), (double)(p->n * p->c) * (double)p->s * (double)(p->window + 4), local_block, &s);
}

void FN(local_response_norm_forward)(const void *problem, void *const *array, struct cnn_run *run) { run_local(problem, NULL, array[0], array[1], run); }
void FN(local_response_norm_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    run_local(problem, array[0], array[1], array[2], run);
}
