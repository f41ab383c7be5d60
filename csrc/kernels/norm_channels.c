/* norm_channels.c: batch norm, normalisation of every channel by its mean and variance over all images and cells.
 *
 *     y  = weight (x - m)/sqrt(v + eps) + bias, activated
 *     dx = r (t - mean(t) - xh mean(t xh)), t = dy weight;  dx = r t where m and v did not come from x
 *     dweight = sum of dy xh,  dbias = sum of dy
 *
 * Moments are deviations from the mean of some pixels that lie in the first cache, merged in order. x[n][c][s] in C order or
 * channels-last, the same bits for both. Backward needs x, m and v. Everything overwrites. Source: as norm.c. */
#include "norm.h"

#include "ops.h"
#include "planes.h"

enum { PIXELS = 1024, FEW = 64, NEAR = 16384 }; /* most and fewest pixels of a block; reals that stay in a near cache */

struct channels {
    const struct cnn_norm *p;
    const real *x, *dy, *weight, *bias, *mean, *variance;
    real *y, *mean_out, *variance_out, *dw, *db;
    double *part;  /* [block][2][c]: mean and M2, or the two sums */
    real *factors; /* [4][c], see below */
    real *strips;  /* C order: a worker's [2][PIXELS][LANES] */
};

static long pixels_of(const struct cnn_norm *p) { return p->n * p->s; }
/* Small images have smaller blocks, so that there are enough of them to share. */
static long block_pixels(const struct cnn_norm *p) { return min_long(PIXELS, max_long(FEW, round_up(divide_up(pixels_of(p), 16), FEW))); }
static long blocks_of(const struct cnn_norm *p) { return divide_up(pixels_of(p), block_pixels(p)); }
/* A task is a block of pixels; in C order with a vector of channels, which are then turned to be neighbours, so that both memory
 * orders add the same numbers in the same order. */
static long tasks_of(const struct cnn_norm *p) { return blocks_of(p) * (p->channels_last ? 1 : divide_up(p->c, LANES)); }
static size_t part_bytes(const struct cnn_norm *p) { return aligned((size_t)(blocks_of(p) * 2 * p->c) * sizeof(double)); }
static size_t strip_bytes(const struct cnn_norm *p, int workers) { return p->channels_last ? 0 : (size_t)(2 * workers * PIXELS * LANES) * sizeof(real); }

struct strip {
    long block, channel, channels, pixels, pitch;
};

static struct strip strip_of(const struct cnn_norm *p, long task)
{
    const long groups = p->channels_last ? 1 : divide_up(p->c, LANES);
    struct strip s = {.block = task / groups, .channel = task % groups * LANES};
    s.channels = p->channels_last ? p->c : min_long(LANES, p->c - s.channel);
    s.pixels = min_long(block_pixels(p), pixels_of(p) - s.block * block_pixels(p));
    s.pitch = s.channels;
    return s;
}

static const real *read_strip(const struct cnn_norm *p, const real *x, struct strip s, real *room)
{
    if (p->channels_last)
        return x + s.block * block_pixels(p) * p->c;
    for (long done = 0; done < s.pixels;) {
        const long pixel = s.block * block_pixels(p) + done, n = pixel / p->s, i = pixel % p->s, run = min_long(s.pixels - done, p->s - i);
        FN(gather_cells)(x + (n * p->c + s.channel) * p->s + i, p->s, 1, run, s.channels, room + done * s.channels);
        done += run;
    }
    return room;
}

static long near_of(const struct cnn_norm *p) { return max_long(8, NEAR / p->c); }

/* Vectors of channels taken at once: whole cache lines of every pixel. */
enum { WIDE = 4 };

/* Mean and M2 of `pixels` pixels of `vectors` vectors of channels (of one, the first n lanes) join those of the `begin` before. */
ALWAYS_INLINE void moments_columns(const real *x, long pixels, long pitch, int vectors, long n, long begin, double *m, double *m2)
{
    const double before = (double)begin, count = (double)pixels, all = before + count, one = 1 / count, share = count / all, both = before * share;
    vec mean[WIDE], rest[WIDE], squares[WIDE];
    UNROLL for (int k = 0; k < vectors; k++)
        mean[k] = rest[k] = squares[k] = (vec){0};
    for (long i = 0; i < pixels; i++)
        UNROLL for (int k = 0; k < vectors; k++)
            mean[k] = mean[k] + vec_get(x + i * pitch + k * LANES, n);
    UNROLL for (int k = 0; k < vectors; k++)
        mean[k] = mean[k] / (real)count;
    for (long i = 0; i < pixels; i++)
        UNROLL for (int k = 0; k < vectors; k++) {
            const vec d = vec_get(x + i * pitch + k * LANES, n) - mean[k];
            rest[k] = rest[k] + d; /* what rounding and the order of the sum left of the mean */
            squares[k] = vec_madd(d, d, squares[k]);
        }
    UNROLL for (int k = 0; k < vectors; k++)
        for (long v = 0; v < n; v++) {
            const long c = k * LANES + v;
            const double off = (double)rest[k][v] * one, exact = (double)mean[k][v] + off, square = (double)squares[k][v] - off * off * count;
            const double away = before > 0 ? exact - m[c] : 0;
            m[c] = before > 0 ? m[c] + away * share : exact;
            m2[c] = before > 0 ? m2[c] + square + away * away * both : square;
        }
}

static void moments_block(void *context, long task, int worker)
{
    const struct channels *s = context;
    const struct cnn_norm *p = s->p;
    const struct strip strip = strip_of(p, task);
    const real *x = read_strip(p, s->x, strip, s->strips + (long)worker * 2 * PIXELS * LANES);
    double *m = s->part + strip.block * 2 * p->c + strip.channel, *m2 = m + p->c;
    for (long begin = 0; begin < strip.pixels; begin += near_of(p)) {
        const long pixels = min_long(near_of(p), strip.pixels - begin);
        const real *from = x + begin * strip.pitch;
        long c = 0;
        for (; c + WIDE * LANES <= strip.channels; c += WIDE * LANES)
            moments_columns(from + c, pixels, strip.pitch, WIDE, LANES, begin, m + c, m2 + c);
        for (; c < strip.channels; c += LANES)
            moments_columns(from + c, pixels, strip.pitch, 1, min_long(LANES, strip.channels - c), begin, m + c, m2 + c);
    }
}

size_t FN(channel_moments_scratch)(const void *problem, int workers) { return part_bytes(problem) + strip_bytes(problem, workers); }

void FN(channel_moments)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_norm *p = problem;
    struct channels s = {.p = p, .x = array[0], .mean_out = array[1], .variance_out = array[2], .part = (double *)run->scratch};
    s.strips = (real *)(run->scratch + part_bytes(p));
    cnn_parallel_for(run, tasks_of(p), (double)(p->n * p->c) * (double)p->s * 0.3, moments_block, &s);
    for (long c = 0; c < p->c && !run->stopped; c++) {
        struct moments all = {0, 0, 0};
        for (long b = 0; b < blocks_of(p); b++)
            merge(&all, (double)min_long(block_pixels(p), pixels_of(p) - b * block_pixels(p)), s.part[b * 2 * p->c + c], s.part[b * 2 * p->c + p->c + c]);
        s.mean_out[c] = (real)all.mean;
        s.variance_out[c] = (real)(all.m2 / all.count);
    }
}

ALWAYS_INLINE vec activated(vec v, int activation) { return activation == CNN_RELU ? vec_select(v < 0, (vec){0}, v) : v; }

/* y = (x - f0) f1 + f2 for the factors of each channel */
static void apply_block(void *context, long block, int worker)
{
    (void)worker;
    const struct channels *s = context;
    const struct cnn_norm *p = s->p;
    const real *f = s->factors;
    if (!p->channels_last) {
        const long c = block % p->c;
        const real *x = s->x + block * p->s;
        real *y = s->y + block * p->s;
        const vec mean = vec_fill(f[c]), scale = vec_fill(f[p->c + c]), shift = vec_fill(f[2 * p->c + c]);
        for (long i = 0; i < p->s; i += LANES) {
            const long n = min_long(LANES, p->s - i);
            vec_put(y + i, activated(vec_madd(vec_get(x + i, n) - mean, scale, shift), p->activation), n);
        }
        return;
    }
    const long first = block * block_pixels(p), last = min_long(pixels_of(p), first + block_pixels(p));
    for (long i = first; i < last; i++)
        for (long c = 0; c < p->c; c += LANES) {
            const long n = min_long(LANES, p->c - c);
            const vec v = vec_get(s->x + i * p->c + c, n) - vec_get(f + c, n);
            vec_put(s->y + i * p->c + c, activated(vec_madd(v, vec_get(f + p->c + c, n), vec_get(f + 2 * p->c + c, n)), p->activation), n);
        }
}

static double rstd_of(const struct cnn_norm *p, const real *variance, long c) { return 1 / __builtin_sqrt((double)variance[c] + p->epsilon); }

size_t FN(channel_norm_forward_scratch)(const void *problem, int workers)
{
    (void)workers;
    return aligned((size_t)(3 * ((const struct cnn_norm *)problem)->c) * sizeof(real));
}

void FN(channel_norm_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_norm *p = problem;
    struct channels s = {.p = p, .x = array[0], .weight = array[1], .bias = array[2], .mean = array[3], .variance = array[4], .y = array[5]};
    s.factors = (real *)run->scratch;
    for (long c = 0; c < p->c; c++) {
        s.factors[c] = s.mean[c];
        s.factors[p->c + c] = (real)(rstd_of(p, s.variance, c) * (s.weight ? (double)s.weight[c] : 1));
        s.factors[2 * p->c + c] = s.bias ? s.bias[c] : 0;
    }
    const long blocks = p->channels_last ? blocks_of(p) : p->n * p->c;
    cnn_parallel_for(run, blocks, (double)(p->n * p->c) * (double)p->s * 0.2, apply_block, &s);
}

/* The sums of dy and of dy (x - mean) over pixels are added to g and gd. */
ALWAYS_INLINE void sums_columns(const real *dy, const real *x, const real *means, long pixels, long pitch, int vectors, long n, double *g, double *gd)
{
    vec mean[WIDE], g_sum[WIDE], gd_sum[WIDE];
    UNROLL for (int k = 0; k < vectors; k++) {
        mean[k] = vec_get(means + k * LANES, n);
        g_sum[k] = gd_sum[k] = (vec){0};
    }
    for (long i = 0; i < pixels; i++)
        UNROLL for (int k = 0; k < vectors; k++) {
            const vec v = vec_get(dy + i * pitch + k * LANES, n);
            g_sum[k] = g_sum[k] + v;
            gd_sum[k] = vec_madd(v, vec_get(x + i * pitch + k * LANES, n) - mean[k], gd_sum[k]);
        }
    UNROLL for (int k = 0; k < vectors; k++)
        for (long v = 0; v < n; v++)
            g[k * LANES + v] += (double)g_sum[k][v], gd[k * LANES + v] += (double)gd_sum[k][v];
}

static void sums_block(void *context, long task, int worker)
{
    const struct channels *s = context;
    const struct cnn_norm *p = s->p;
    const struct strip strip = strip_of(p, task);
    real *room = s->strips + (long)worker * 2 * PIXELS * LANES;
    const real *dy = read_strip(p, s->dy, strip, room), *x = read_strip(p, s->x, strip, room + PIXELS * LANES), *mean = s->mean + strip.channel;
    double *g = s->part + strip.block * 2 * p->c + strip.channel, *gd = g + p->c;
    for (long c = 0; c < strip.channels; c++)
        g[c] = gd[c] = 0;
    for (long begin = 0; begin < strip.pixels; begin += near_of(p)) {
        const long pixels = min_long(near_of(p), strip.pixels - begin), at = begin * strip.pitch;
        long c = 0;
        for (; c + WIDE * LANES <= strip.channels; c += WIDE * LANES)
            sums_columns(dy + at + c, x + at + c, mean + c, pixels, strip.pitch, WIDE, LANES, g + c, gd + c);
        for (; c < strip.channels; c += LANES)
            sums_columns(dy + at + c, x + at + c, mean + c, pixels, strip.pitch, 1, min_long(LANES, strip.channels - c), g + c, gd + c);
    }
}

ALWAYS_INLINE vec gradient(vec dy, vec x, const vec f0, const vec f1, const vec f2, const vec f3) { return vec_madd(f0 - x, f3, vec_madd(dy, f1, -f2)); }

/* dx = dy f1 - f2 - (x - f0) f3 */
static void gradient_block(void *context, long block, int worker)
{
    (void)worker;
    const struct channels *s = context;
    const struct cnn_norm *p = s->p;
    const real *f = s->factors;
    if (!p->channels_last) {
        const real *dy = s->dy + block * p->s, *x = s->x + block * p->s, *at = f + block % p->c;
        real *dx = s->y + block * p->s;
        for (long i = 0; i < p->s; i += LANES) {
            const long n = min_long(LANES, p->s - i);
            vec_put(dx + i, gradient(vec_get(dy + i, n), vec_get(x + i, n), vec_fill(at[0]), vec_fill(at[p->c]), vec_fill(at[2 * p->c]), vec_fill(at[3 * p->c])), n);
        }
        return;
    }
    const long first = block * block_pixels(p), last = min_long(pixels_of(p), first + block_pixels(p));
    for (long i = first; i < last; i++)
        for (long c = 0; c < p->c; c += LANES) {
            const long n = min_long(LANES, p->c - c), at = i * p->c + c;
            vec_put(s->y + at, gradient(vec_get(s->dy + at, n), vec_get(s->x + at, n), vec_get(f + c, n), vec_get(f + p->c + c, n), vec_get(f + 2 * p->c + c, n), vec_get(f + 3 * p->c + c, n)), n);
        }
}

static size_t factor_bytes(const struct cnn_norm *p) { return aligned((size_t)(4 * p->c) * sizeof(real)); }

size_t FN(channel_norm_backward_scratch)(const void *problem, int workers) { return part_bytes(problem) + factor_bytes(problem) + strip_bytes(problem, workers); }

void FN(channel_norm_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_norm *p = problem;
    struct channels s = {.p = p, .dy = array[0], .x = array[1], .weight = array[2], .mean = array[3], .variance = array[4], .y = array[5]};
    s.dw = array[6], s.db = array[7], s.part = (double *)run->scratch;
    s.factors = (real *)(run->scratch + part_bytes(p)), s.strips = (real *)(run->scratch + part_bytes(p) + factor_bytes(p));
    const double size = (double)(p->n * p->c) * (double)p->s;
    cnn_parallel_for(run, tasks_of(p), size * 0.3, sums_block, &s);
    for (long c = 0; c < p->c && !run->stopped; c++) {
        double g = 0, gd = 0;
        for (long b = 0; b < blocks_of(p); b++)
            g += s.part[b * 2 * p->c + c], gd += s.part[b * 2 * p->c + p->c + c];
        const double rstd = rstd_of(p, s.variance, c), scale = rstd * (s.weight ? (double)s.weight[c] : 1), count = (double)pixels_of(p);
        if (s.dw)
            s.dw[c] = (real)(gd * rstd);
        if (s.db)
            s.db[c] = (real)g;
        s.factors[c] = s.mean[c];
        s.factors[p->c + c] = (real)scale;
        s.factors[2 * p->c + c] = p->trained ? (real)(scale * g / count) : 0;
        s.factors[3 * p->c + c] = p->trained ? (real)(scale * rstd * rstd * gd / count) : 0;
    }
    if (s.y)
        cnn_parallel_for(run, p->channels_last ? blocks_of(p) : p->n * p->c, size * 0.3, gradient_block, &s);
}
