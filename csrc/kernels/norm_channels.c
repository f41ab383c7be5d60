/* norm_channels.c: batch norm, normalisation of every channel by its mean and variance over all images and cells.
 *
 *     y  = weight (x - m)/sqrt(v + eps) + bias, plus a residual, activated
 *     dx = r (t - mean(t) - xh mean(t xh)), t = dy weight;  dx = r t where m and v did not come from x
 *     dweight = sum of dy xh,  dbias = sum of dy
 *
 * Behind a ReLU dy counts where the result is not <= 0: the result is read, or where it has no residual made again from x. dresidual is what
 * then is left of dy; it may overwrite it, so may dx.
 *
 * Moments are deviations from the mean of some pixels that lie in the first cache, merged in order. x[n][c][s] in C order or
 * channels-last, the same bits for both. Backward needs x, m and v. Everything overwrites. Source: as norm.c. */
#include "norm.h"

#include "ops.h"
#include "planes.h"

enum { PIXELS = 1024, FEW = 64, NEAR = 16384, STRIPS_ROOM = 3 * PIXELS * LANES + BETWEEN_WORKERS / (int)sizeof(real) }; /* most and fewest pixels of a block; reals that stay in a near cache */

struct channels {
    const struct cnn_norm *p;
    const real *x, *dy, *weight, *bias, *mean, *variance, *residual, *result;
    real *y, *mean_out, *variance_out, *dw, *db, *dresidual;
    int gate; /* enum gate */
    double *part;  /* [block][2][c]: mean and M2, or the two sums */
    real *factors; /* [5][c]: mean, scale, shift; what the gradient subtracts */
    real *strips;  /* C order: a worker's [3][PIXELS][LANES] */
};

static long pixels_of(const struct cnn_norm *p) { return p->n * p->s; }
/* Small images have smaller blocks, so that there are enough of them to share. */
static long block_pixels(const struct cnn_norm *p) { return min_long(PIXELS, max_long(FEW, round_up(divide_up(pixels_of(p), 16), FEW))); }
static long blocks_of(const struct cnn_norm *p) { return divide_up(pixels_of(p), block_pixels(p)); }
/* A task is a block of pixels; in C order with a vector of channels, which are then turned to be neighbours, so that both memory
 * orders add the same numbers in the same order. */
static long tasks_of(const struct cnn_norm *p) { return blocks_of(p) * (p->channels_last ? 1 : divide_up(p->c, LANES)); }
static size_t part_bytes(const struct cnn_norm *p) { return aligned((size_t)(blocks_of(p) * 2 * p->c) * sizeof(double)); }
static size_t strip_bytes(const struct cnn_norm *p, int workers) { return p->channels_last ? 0 : (size_t)(workers * STRIPS_ROOM) * sizeof(real); }

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
        FN(gather_cells)(x + (n * p->c + s.channel) * p->s + i, p->s, 1, run, s.channels, s.channels, room + done * s.channels);
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
    const real *x = read_strip(p, s->x, strip, s->strips + (long)worker * STRIPS_ROOM);
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

ALWAYS_INLINE vec activated(vec v, int activation) { return activation == CNN_RELU ? vec_max((vec){0}, v) : v; }

/* n lanes at `at` of y = (x - f0) f1 + f2, plus the residual */
ALWAYS_INLINE void apply_vector(const struct channels *s, long at, long n, vec f0, vec f1, vec f2)
{
    vec v = vec_madd(vec_get(s->x + at, n) - f0, f1, f2);
    if (s->residual)
        v = v + vec_get(s->residual + at, n);
    vec_put(s->y + at, activated(v, s->p->activation), n);
}

enum { PAIR = 2 }; /* vectors of channels whose factors stay in registers */

ALWAYS_INLINE void apply_columns(const struct channels *s, long begin, long end, long c, int vectors, long n)
{
    vec f[PAIR][3];
    for (int k = 0; k < vectors; k++)
        for (int j = 0; j < 3; j++)
            f[k][j] = vec_get(s->factors + j * s->p->c + c + k * LANES, n);
    for (long i = begin; i < end; i++)
        UNROLL for (int k = 0; k < vectors; k++)
            apply_vector(s, i * s->p->c + c + k * LANES, n, f[k][0], f[k][1], f[k][2]);
}

static void apply_block(void *context, long block, int worker)
{
    (void)worker;
    const struct channels s = *(const struct channels *)context;
    const long channels = s.p->c;
    const real *f = s.factors;
    if (!s.p->channels_last) {
        const long c = block % channels, first = block * s.p->s;
        const vec mean = vec_fill(f[c]), scale = vec_fill(f[channels + c]), shift = vec_fill(f[2 * channels + c]);
        for (long i = 0; i < s.p->s; i += LANES)
            apply_vector(&s, first + i, min_long(LANES, s.p->s - i), mean, scale, shift);
        return;
    }
    const long first = block * block_pixels(s.p), last = min_long(pixels_of(s.p), first + block_pixels(s.p));
    for (long begin = first; begin < last; begin += near_of(s.p)) {
        const long end = min_long(last, begin + near_of(s.p));
        long c = 0;
        for (; c + PAIR * LANES <= channels; c += PAIR * LANES)
            apply_columns(&s, begin, end, c, PAIR, LANES);
        for (; c < channels; c += LANES)
            apply_columns(&s, begin, end, c, 1, min_long(LANES, channels - c));
    }
}

static double rstd_of(const struct cnn_norm *p, const real *variance, long c) { return 1 / __builtin_sqrt((double)variance[c] + p->epsilon); }

/* mean, scale and shift of channel c at f[0], f[c], f[2 c] */
static void forward_factors(const struct channels *s, long c, real *f)
{
    f[c] = s->mean[c];
    f[s->p->c + c] = (real)(rstd_of(s->p, s->variance, c) * (s->weight ? (double)s->weight[c] : 1));
    f[2 * s->p->c + c] = s->bias ? s->bias[c] : 0;
}

size_t FN(channel_norm_forward_scratch)(const void *problem, int workers)
{
    (void)workers;
    return aligned((size_t)(3 * ((const struct cnn_norm *)problem)->c) * sizeof(real));
}

void FN(channel_norm_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_norm *p = problem;
    struct channels s = {.p = p, .x = array[0], .weight = array[1], .bias = array[2], .mean = array[3], .variance = array[4], .residual = array[5], .y = array[6]};
    s.factors = (real *)run->scratch;
    for (long c = 0; c < p->c; c++)
        forward_factors(&s, c, s.factors);
    const long blocks = p->channels_last ? blocks_of(p) : p->n * p->c;
    cnn_parallel_for(run, blocks, (double)(p->n * p->c) * (double)p->s * 0.2, apply_block, &s);
}

/* Where dy counts: everywhere, where the result is positive or NaN, where the result made again from x is. */
enum gate { OPEN, BY_RESULT, BY_INPUT };

ALWAYS_INLINE vec gated(int gate, vec dy, vec x, vec result, vec mean, vec scale, vec shift)
{
    if (gate == OPEN)
        return dy;
    return vec_select((gate == BY_RESULT ? result : vec_madd(x - mean, scale, shift)) <= 0, (vec){0}, dy);
}

/* What the sums read: arrays of `pixels` pixels at pitch `pitch`, and the factors of the forward of each channel. */
struct columns {
    const real *dy, *x, *result, *f0, *f1, *f2;
    real *left; /* dy as it counts; may be NULL */
    long pixels, pitch;
};

/* The sums of dy and of dy (x - mean) over pixels are added to g and gd. */
ALWAYS_INLINE void sums_columns(int gate, int keep, const struct columns *s, long c, int vectors, long n, double *g, double *gd)
{
    vec mean[WIDE], scale[WIDE], shift[WIDE], g_sum[WIDE], gd_sum[WIDE];
    UNROLL for (int k = 0; k < vectors; k++) {
        mean[k] = vec_get(s->f0 + c + k * LANES, n);
        scale[k] = gate == BY_INPUT ? vec_get(s->f1 + c + k * LANES, n) : mean[k];
        shift[k] = gate == BY_INPUT ? vec_get(s->f2 + c + k * LANES, n) : mean[k];
        g_sum[k] = gd_sum[k] = (vec){0};
    }
    for (long i = 0; i < s->pixels; i++)
        UNROLL for (int k = 0; k < vectors; k++) {
            const long at = i * s->pitch + c + k * LANES;
            const vec x = vec_get(s->x + at, n), result = gate == BY_RESULT ? vec_get(s->result + at, n) : x;
            const vec v = gated(gate, vec_get(s->dy + at, n), x, result, mean[k], scale[k], shift[k]);
            if (keep)
                vec_put(s->left + at, v, n);
            g_sum[k] = g_sum[k] + v;
            gd_sum[k] = vec_madd(v, x - mean[k], gd_sum[k]);
        }
    UNROLL for (int k = 0; k < vectors; k++)
        for (long v = 0; v < n; v++)
            g[c + k * LANES + v] += (double)g_sum[k][v], gd[c + k * LANES + v] += (double)gd_sum[k][v];
}

ALWAYS_INLINE void sums_of(int gate, int keep, const struct columns *s, long channels, double *g, double *gd)
{
    long c = 0;
    for (; gate == OPEN && c + WIDE * LANES <= channels; c += WIDE * LANES)
        sums_columns(gate, keep, s, c, WIDE, LANES, g, gd);
    for (; c + 2 * LANES <= channels; c += 2 * LANES)
        sums_columns(gate, keep, s, c, 2, LANES, g, gd);
    for (; c < channels; c += LANES)
        sums_columns(gate, keep, s, c, 1, min_long(LANES, channels - c), g, gd);
}

static void sums_block(void *context, long task, int worker)
{
    const struct channels *s = context;
    const struct cnn_norm *p = s->p;
    const struct strip strip = strip_of(p, task);
    real *room = s->strips + (long)worker * STRIPS_ROOM;
    const real *f = s->factors + strip.channel;
    struct columns all = {.dy = read_strip(p, s->dy, strip, room), .x = read_strip(p, s->x, strip, room + PIXELS * LANES), .f0 = f, .f1 = f + p->c, .f2 = f + 2 * p->c,
                          .pitch = strip.pitch};
    if (s->gate == BY_RESULT)
        all.result = read_strip(p, s->result, strip, room + 2 * PIXELS * LANES);
    if (s->dresidual && p->channels_last)
        all.left = s->dresidual + strip.block * block_pixels(p) * p->c;
    double *g = s->part + strip.block * 2 * p->c + strip.channel, *gd = g + p->c;
    for (long c = 0; c < strip.channels; c++)
        g[c] = gd[c] = 0;
    for (long begin = 0; begin < strip.pixels; begin += near_of(p)) {
        struct columns near = all;
        const long at = begin * strip.pitch;
        near.pixels = min_long(near_of(p), strip.pixels - begin);
        near.dy += at, near.x += at;
        near.result = all.result ? all.result + at : NULL, near.left = all.left ? all.left + at : NULL;
        if (s->gate == BY_INPUT)
            sums_of(BY_INPUT, 0, &near, strip.channels, g, gd);
        else if (s->gate == BY_RESULT && near.left)
            sums_of(BY_RESULT, 1, &near, strip.channels, g, gd);
        else if (s->gate == BY_RESULT)
            sums_of(BY_RESULT, 0, &near, strip.channels, g, gd);
        else
            sums_of(OPEN, 0, &near, strip.channels, g, gd);
    }
}

/* n lanes at `at` of dx = dy f1 - f3 - (x - f0) f4; f2 is the forward's shift */
ALWAYS_INLINE void gradient_vector(int gate, const struct channels *s, long at, long n, const vec f[5])
{
    const vec x = vec_get(s->x + at, n), result = gate == BY_RESULT ? vec_get(s->result + at, n) : x;
    const vec dy = gated(gate, vec_get(s->dy + at, n), x, result, f[0], f[1], f[2]);
    if (s->dresidual && !s->p->channels_last)
        vec_put(s->dresidual + at, dy, n);
    if (s->y)
        vec_put(s->y + at, vec_madd(f[0] - x, f[4], vec_madd(dy, f[1], -f[3])), n);
}

ALWAYS_INLINE void gradient_columns(int gate, const struct channels *s, long begin, long end, long c, int vectors, long n)
{
    vec f[PAIR][5];
    for (int k = 0; k < vectors; k++)
        for (int j = 0; j < 5; j++)
            f[k][j] = vec_get(s->factors + j * s->p->c + c + k * LANES, n);
    for (long i = begin; i < end; i++)
        UNROLL for (int k = 0; k < vectors; k++)
            gradient_vector(gate, s, i * s->p->c + c + k * LANES, n, f[k]);
}

ALWAYS_INLINE void gradient_of(int gate, const struct channels *s, long block)
{
    const long channels = s->p->c;
    vec f[5];
    if (!s->p->channels_last) {
        const long first = block * s->p->s;
        for (int k = 0; k < 5; k++)
            f[k] = vec_fill(s->factors[k * channels + block % channels]);
        for (long i = 0; i < s->p->s; i += LANES)
            gradient_vector(gate, s, first + i, min_long(LANES, s->p->s - i), f);
        return;
    }
    const long first = block * block_pixels(s->p), last = min_long(pixels_of(s->p), first + block_pixels(s->p));
    for (long begin = first; begin < last; begin += near_of(s->p)) {
        const long end = min_long(last, begin + near_of(s->p));
        long c = 0;
        for (; c + PAIR * LANES <= channels; c += PAIR * LANES)
            gradient_columns(gate, s, begin, end, c, PAIR, LANES);
        for (; c < channels; c += LANES)
            gradient_columns(gate, s, begin, end, c, 1, min_long(LANES, channels - c));
    }
}

static void gradient_block(void *context, long block, int worker)
{
    (void)worker;
    const struct channels s = *(const struct channels *)context;
    if (s.gate == BY_INPUT)
        gradient_of(BY_INPUT, &s, block);
    else if (s.gate == BY_RESULT)
        gradient_of(BY_RESULT, &s, block);
    else
        gradient_of(OPEN, &s, block);
}

static size_t factor_bytes(const struct cnn_norm *p) { return aligned((size_t)(5 * p->c) * sizeof(real)); }

size_t FN(channel_norm_backward_scratch)(const void *problem, int workers) { return part_bytes(problem) + factor_bytes(problem) + strip_bytes(problem, workers); }

void FN(channel_norm_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_norm *p = problem;
    struct channels s = {.p = p, .dy = array[0], .x = array[1], .weight = array[2], .mean = array[3], .variance = array[4], .bias = array[5], .result = array[6], .y = array[7]};
    s.dw = array[8], s.db = array[9], s.dresidual = array[10], s.part = (double *)run->scratch;
    s.gate = p->activation == CNN_LINEAR ? OPEN : s.result ? BY_RESULT : BY_INPUT;
    s.factors = (real *)(run->scratch + part_bytes(p)), s.strips = (real *)(run->scratch + part_bytes(p) + factor_bytes(p));
    const double size = (double)(p->n * p->c) * (double)p->s;
    for (long c = 0; c < p->c; c++)
        forward_factors(&s, c, s.factors);
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
        s.factors[3 * p->c + c] = p->trained ? (real)(scale * g / count) : 0;
        s.factors[4 * p->c + c] = p->trained ? (real)(scale * rstd * rstd * gd / count) : 0;
    }
    if (s.dresidual && p->channels_last)
        s.dy = s.dresidual, s.gate = OPEN;
    if (s.y || (s.dresidual && !p->channels_last))
        cnn_parallel_for(run, p->channels_last ? blocks_of(p) : p->n * p->c, size * 0.3, gradient_block, &s);
}
