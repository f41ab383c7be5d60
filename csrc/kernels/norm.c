/* norm.c: normalisation by the mean and variance of rows.
 *
 *     m, v = mean and variance of x over a set (root mean square: m = 0);  r = 1/sqrt(v + eps);  xh = (x - m) r
 *     y  = weight xh + bias
 *     dx = r (t - mean(t) - xh mean(t xh)), t = dy weight, means over the set (root mean square: without mean(t));
 *          dx = r t where m and v did not come from x
 *     dweight = sum of dy xh,  dbias = sum of dy, over the axes that the weight lacks
 *
 * A set is `c / groups` channels of one image and their cells: layer, group, instance and root mean square norms. Batch norm,
 * whose sets are channels, is norm_channels.c. x[n][c][s] in C order or channels-last. Backward needs x and mean and r of the
 * forward. Everything overwrites.
 *
 * Moments are deviations from the mean of a block that lies in the first cache; blocks are merged by (count, mean, M2), in
 * order: never E[x^2] - E[x]^2. Sources: T. Chan, G. Golub, R. LeVeque, 1983; S. Ioffe, C. Szegedy, 2015; mathematics 2.10. */
#include "norm.h"

#include "ops.h"
#include "transpose.h"

enum { TERMS = 4096 };

/* Moments of n neighbours; about 0 instead of the mean where not centred. */
static struct moments moments_of(const real *x, long n, int centred)
{
    struct moments all = {0, 0, 0};
    for (long begin = 0; begin < n; begin += TERMS) {
        const long count = min_long(TERMS, n - begin), whole = count / LANES * LANES;
        const real *from = x + begin;
        double mean = 0;
        if (centred) {
            vec sum = {0};
            for (long i = 0; i < whole; i += LANES)
                sum = sum + vec_load(from + i);
            mean = sum_lanes(sum);
            for (long i = whole; i < count; i++)
                mean += (double)from[i];
            mean /= (double)count;
        }
        /* Deviations from the rounded mean; their own mean is what rounding and the order of the sum left. */
        vec squares = {0}, rest = {0};
        const vec m = vec_fill((real)mean);
        for (long i = 0; i < whole; i += LANES) {
            const vec d = vec_load(from + i) - m;
            rest = rest + d;
            squares = vec_madd(d, d, squares);
        }
        double m2 = sum_lanes(squares), off = sum_lanes(rest);
        for (long i = whole; i < count; i++) {
            const double d = (double)from[i] - (double)m[0];
            off += d, m2 += d * d;
        }
        off /= (double)count;
        if (centred)
            merge(&all, (double)count, (double)m[0] + off, m2 - off * off * (double)count);
        else
            merge(&all, (double)count, 0, m2);
    }
    return all;
}

struct rows {
    const struct cnn_norm *p;
    const real *x, *dy, *weight, *bias, *mean, *rstd;
    real *y, *mean_out, *rstd_out, *dw, *db;
    long channels, length; /* of a set */
    long together, blocks; /* sets of a block */
    long turned;           /* sets of a block that are read and written together, because their channels are neighbours; 0: a set is one run */
    double *part;          /* [block of single cells, else set][2][channels] */
    char *worker;
    size_t row_bytes;
};

enum { SETS = 64 };

/* Whether the gradients of weight and bias are summed over the sets of a block: they have the same channels. */
static int by_block(const struct rows *s) { return s->p->groups == 1 && s->p->s == 1; }

static size_t plan_rows(struct rows *s, const struct cnn_norm *p, int workers, char *scratch, int backward)
{
    *s = (struct rows){.p = p, .channels = p->c / p->groups};
    s->length = s->channels * p->s;
    const long sets = p->n * p->groups;
    s->together = p->groups == 1 && p->s == 1 ? SETS : 1;
    if (p->channels_last && p->s > 1 && p->c > 1) {
        for (s->turned = 1; s->turned * s->channels < LANES && p->groups % (2 * s->turned) == 0; s->turned *= 2)
            ;
        s->together = s->turned;
    }
    s->blocks = divide_up(sets, s->together);
    s->part = (double *)scratch;
    const size_t bytes = backward ? aligned((size_t)((by_block(s) ? s->blocks : sets) * 2 * s->channels) * sizeof(double)) : 0;
    s->worker = scratch + bytes;
    s->row_bytes = spaced((size_t)(max_long(1, s->turned) * s->length) * sizeof(real));
    return bytes + (size_t)workers * 3 * s->row_bytes;
}

static long first_of(const struct rows *s, long set)
{
    const long n = set / s->p->groups, g = set % s->p->groups;
    return s->turned ? n * s->p->c * s->p->s + g * s->channels : set * s->length;
}

/* to[c * to_step + r] = from[r * from_step + c] */
static void turn(const real *from, long from_step, long rows, long columns, real *to, long to_step)
{
    for (long c0 = 0; c0 < columns; c0 += LANES) {
        long r = 0;
        for (; c0 + LANES <= columns && r + LANES <= rows; r += LANES) {
            vec v[LANES];
            for (int j = 0; j < LANES; j++)
                v[j] = vec_load(from + (r + j) * from_step + c0);
            transpose(v);
            for (int j = 0; j < LANES; j++)
                vec_store(to + (c0 + j) * to_step + r, v[j]);
        }
        for (; r < rows; r++)
            for (long c = c0; c < min_long(columns, c0 + LANES); c++)
                to[c * to_step + r] = from[r * from_step + c];
    }
}

/* The sets of a block from `set` on, each as one run: where they lie, or turned into `room`. */
static const real *read_sets(const struct rows *s, const real *x, long set, real *room)
{
    const real *from = x + first_of(s, set);
    if (!s->turned)
        return from;
    turn(from, s->p->c, s->p->s, s->turned * s->channels, room, s->p->s);
    return room;
}

static void write_sets(const struct rows *s, const real *from, long set, real *y)
{
    if (s->turned)
        turn(from, s->p->s, s->turned * s->channels, s->p->s, y + first_of(s, set), s->p->c);
}

/* y = (x - mean) scale weight + bias over a set; runs of s cells share a channel. */
static void apply_set(const struct rows *s, const real *x, long group, real mean, real rstd, real *y)
{
    const real *weight = s->weight ? s->weight + group * s->channels : NULL, *bias = s->bias ? s->bias + group * s->channels : NULL;
    if (s->p->s == 1) {
        for (long i = 0; i < s->channels; i += LANES) {
            const long n = min_long(LANES, s->channels - i);
            vec v = (vec_get(x + i, n) - mean) * rstd;
            if (weight)
                v = v * vec_get(weight + i, n);
            if (bias)
                v = v + vec_get(bias + i, n);
            vec_put(y + i, v, n);
        }
        return;
    }
    for (long c = 0; c < s->channels; c++, x += s->p->s, y += s->p->s) {
        const real w = weight ? weight[c] : 1, b = bias ? bias[c] : 0;
        for (long i = 0; i < s->p->s; i++)
            y[i] = (x[i] - mean) * rstd * w + b;
    }
}

static void forward_block(void *context, long block, int worker)
{
    const struct rows *s = context;
    const struct cnn_norm *p = s->p;
    real *room = (real *)(s->worker + (size_t)worker * 3 * s->row_bytes), *result = (real *)((char *)room + s->row_bytes);
    const long first = block * s->together, last = min_long(p->n * p->groups, first + s->together);
    const real *x = read_sets(s, s->x, first, room);
    real *y = s->turned ? result : s->y + first_of(s, first);
    for (long set = first; set < last; set++, x += s->length, y += s->length) {
        const struct moments m = moments_of(x, s->length, p->centred);
        s->mean_out[set] = (real)m.mean;
        s->rstd_out[set] = (real)(1 / __builtin_sqrt(m.m2 / (double)s->length + p->epsilon));
        apply_set(s, x, set % p->groups, s->mean_out[set], s->rstd_out[set], y);
    }
    write_sets(s, result, first, s->y);
}

size_t FN(row_norm_forward_scratch)(const void *problem, int workers)
{
    struct rows s;
    return plan_rows(&s, problem, workers, cnn_no_scratch, 0);
}

void FN(row_norm_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct rows s;
    plan_rows(&s, problem, run->workers, run->scratch, 0);
    s.x = array[0], s.weight = array[1], s.bias = array[2], s.y = array[3], s.mean_out = array[4], s.rstd_out = array[5];
    cnn_parallel_for(run, s.blocks, (double)(s.p->n * s.p->c) * (double)s.p->s * 0.5, forward_block, &s);
}

/* dweight and dbias of a set are added to `part`; of single cells, a vector at a time, to `near`. */
static void backward_set(const struct rows *s, const real *dy, const real *x, long set, double *part, real *near, real *dx)
{
    const struct cnn_norm *p = s->p;
    const real *weight = s->weight ? s->weight + set % p->groups * s->channels : NULL;
    const real mean = s->mean[set], rstd = s->rstd[set];
    double t_sum = 0, txh_sum = 0;
    if (p->s == 1) {
        vec t_lanes = {0}, txh_lanes = {0};
        for (long i = 0; i < s->channels; i += LANES) {
            const long n = min_long(LANES, s->channels - i);
            const vec g = vec_get(dy + i, n), xh = (vec_get(x + i, n) - mean) * rstd, gxh = g * xh;
            const vec w = weight ? vec_get(weight + i, n) : vec_fill(1);
            vec_put(near + i, vec_get(near + i, n) + gxh, n);
            vec_put(near + s->channels + i, vec_get(near + s->channels + i, n) + g, n);
            if (n == LANES)
                t_lanes = vec_madd(g, w, t_lanes), txh_lanes = vec_madd(gxh, w, txh_lanes);
            else
                for (long v = 0; v < n; v++)
                    t_sum += (double)(g[v] * w[v]), txh_sum += (double)(gxh[v] * w[v]);
        }
        t_sum += sum_lanes(t_lanes), txh_sum += sum_lanes(txh_lanes);
    } else
        for (long c = 0; c < s->channels; c++) {
            const real *g = dy + c * p->s, *at = x + c * p->s;
            double g_sum = 0, gxh_sum = 0;
            for (long begin = 0; begin < p->s; begin += TERMS) {
                const long count = min_long(TERMS, p->s - begin), whole = count / LANES * LANES;
                vec g_lanes = {0}, gxh_lanes = {0};
                for (long i = 0; i < whole; i += LANES) {
                    const vec v = vec_load(g + begin + i);
                    g_lanes = g_lanes + v;
                    gxh_lanes = vec_madd(v, (vec_load(at + begin + i) - mean) * rstd, gxh_lanes);
                }
                g_sum += sum_lanes(g_lanes), gxh_sum += sum_lanes(gxh_lanes);
                for (long i = whole; i < count; i++) {
                    g_sum += (double)g[begin + i];
                    gxh_sum += (double)(g[begin + i] * ((at[begin + i] - mean) * rstd));
                }
            }
            part[c] += gxh_sum, part[s->channels + c] += g_sum;
            const double w = weight ? (double)weight[c] : 1;
            t_sum += w * g_sum, txh_sum += w * gxh_sum;
        }
    const real t_mean = p->centred ? (real)(t_sum / (double)s->length) : 0, txh_mean = (real)(txh_sum / (double)s->length);
    if (p->s == 1)
        for (long i = 0; i < s->channels; i += LANES) {
            const long n = min_long(LANES, s->channels - i);
            const vec xh = (vec_get(x + i, n) - mean) * rstd;
            vec t = vec_get(dy + i, n);
            if (weight)
                t = t * vec_get(weight + i, n);
            vec_put(dx + i, (t - t_mean - xh * txh_mean) * rstd, n);
        }
    else
        for (long c = 0; c < s->channels; c++) {
            const real w = weight ? weight[c] : 1;
            for (long i = c * p->s; i < (c + 1) * p->s; i++)
                dx[i] = (dy[i] * w - t_mean - (x[i] - mean) * rstd * txh_mean) * rstd;
        }
}

static void backward_block(void *context, long block, int worker)
{
    const struct rows *s = context;
    const struct cnn_norm *p = s->p;
    real *room = (real *)(s->worker + (size_t)worker * 3 * s->row_bytes), *more = (real *)((char *)room + s->row_bytes);
    real *result = (real *)((char *)more + s->row_bytes);
    const long first = block * s->together, last = min_long(p->n * p->groups, first + s->together);
    double *part = s->part + (by_block(s) ? block : first) * 2 * s->channels;
    for (long c = 0; c < (by_block(s) ? 1 : last - first) * 2 * s->channels; c++)
        part[c] = 0;
    if (p->s == 1) /* no set is turned: `room` and `more`, which are neighbours, are free */
        memset(room, 0, (size_t)(2 * s->channels) * sizeof(real));
    const real *dy = read_sets(s, s->dy, first, room), *x = read_sets(s, s->x, first, more);
    real *dx = s->turned ? result : s->y + first_of(s, first);
    for (long set = first; set < last; set++, dy += s->length, x += s->length, dx += s->length)
        backward_set(s, dy, x, set, part + (by_block(s) ? 0 : (set - first) * 2 * s->channels), room, dx);
    write_sets(s, result, first, s->y);
    for (long c = 0; p->s == 1 && c < 2 * s->channels; c++)
        part[c] = (double)room[c];
}

size_t FN(row_norm_backward_scratch)(const void *problem, int workers)
{
    struct rows s;
    return plan_rows(&s, problem, workers, cnn_no_scratch, 1);
}

void FN(row_norm_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    struct rows s;
    plan_rows(&s, problem, run->workers, run->scratch, 1);
    s.dy = array[0], s.x = array[1], s.weight = array[2], s.mean = array[3], s.rstd = array[4];
    s.y = array[5], s.dw = array[6], s.db = array[7];
    cnn_parallel_for(run, s.blocks, (double)(s.p->n * s.p->c) * (double)s.p->s, backward_block, &s);
    const long parts = by_block(&s) ? s.blocks : s.p->n * s.p->groups, step = by_block(&s) ? 1 : s.p->groups; /* parts between two that share channels */
    for (long c = 0; (s.dw || s.db) && !run->stopped && c < s.p->c; c++) {
        double w = 0, b = 0;
        for (long part = c / s.channels; part < parts; part += step) {
            w += s.part[part * 2 * s.channels + c % s.channels];
            b += s.part[part * 2 * s.channels + s.channels + c % s.channels];
        }
        if (s.dw)
            s.dw[c] = (real)w;
        if (s.db)
            s.db[c] = (real)b;
    }
}
