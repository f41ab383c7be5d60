/* attention.c: scaled dot-product attention and its gradients, blocked over keys.
 *
 *     S = scale q k' + mask,  A = softmax of each row,  y = A v
 *     dv = A' dy,  dA = dy v',  dS = A (dA - rowsum(dA A)),  dq = scale dS k,  dk = scale dS' q,  dmask = dS
 *
 * q[batch][heads][l][e], k[batch][heads][s][e], v[batch][heads][s][w], y[batch][heads][l][w], features side by side, the rest by strides; causal keeps the
 * keys j <= i. Forward walks over blocks of keys with a running maximum and sum of every row, so that no l x s array exists unless the weights are
 * asked for; it leaves log_sum[batch][heads][l] = log sum e^S, +Inf for a row whose keys are all masked, whose weights are 0. Backward makes the weights
 * again from it. rowsum(dA A) = dy . y. Everything is overwritten.
 * Source: mathematics 2.9; A. Vaswani et al. 2017; M. Milakov, N. Gimelshein 2018 (the running sum); T. Dao et al. 2022 (the blocks). */
#include "ops.h"
#include "panel.h"
#include "softmax.h"
#include "transpose.h"

enum { FORWARD_KEYS = 256, FORWARD_ROWS = ROW_BLOCK, FORWARD_CHUNK = 8 * ROW_BLOCK, BACKWARD_KEYS = 128, BACKWARD_ROWS = 96, FEW_HEADS = 8 };

struct plan {
    const struct cnn_attention *p;
    const real *q, *k, *v, *mask;
    const int64_t *place;       /* where the mask of a head begins */
    real *y, *log_sum, *weights;
    const real *dy, *saved_y, *saved_log_sum;
    real *dq, *dk, *dv, *dmask;
    int with_keys, with_queries; /* gradients of k and v, of q, that this pass makes */
    long chunks;                /* of rows, or of keys, that are blocks of their own */
    real *scratch;
    long worker_reals;
};

static const real minus_infinity = -REAL(1.0) / REAL(0.0);

static long wide(long columns) { return round_up(columns, TILE_WIDTH); }
static long offset(const long stride[3], const struct cnn_attention *p, long head)
{
    return head / p->heads * stride[0] + head % p->heads * stride[1];
}

/* Rows [first, first + rows) of a matrix as panels of its columns: [panel][row][width]; and its transpose: [panel of rows][column][width]. */
static void pack_rows(const real *m, long stride, long rows, long columns, real *to)
{
    for (long panel = 0; panel < panels_count(columns); panel++)
        pack_panel_of(m, columns, rows, 1, stride, panel, to + panel * rows * TILE_WIDTH);
}
static void pack_transposed(const real *m, long stride, long rows, long columns, real *to)
{
    for (long panel = 0; panel < panels_count(rows); panel++)
        pack_panel_of(m, rows, columns, stride, 1, panel, to + panel * columns * TILE_WIDTH);
}

/* Keys of a block that some of the rows up to `end` sees, in whole panels. */
static long seen_keys(const struct cnn_attention *p, long end, long first, long keys)
{
    return p->causal ? max_long(0, min_long(keys, round_up(end - first, TILE_WIDTH))) : keys;
}

/* c[m][pitch] (+)= a times the panels of `columns` columns, the first `depth` of their `packed` rows. */
static void multiply(const real *const *a, long m, long depth, long packed, const real *panels, long columns, real *c, long pitch, int add)
{
    real *rows[BACKWARD_ROWS];
    for (long panel = 0; panel < panels_count(columns); panel++) {
        for (long i = 0; i < m; i++)
            rows[i] = c + i * pitch + panel * TILE_WIDTH;
        panel_product(a, m, depth, panels + panel * packed * TILE_WIDTH, panels_width(columns, panel), rows, add, NULL);
    }
}

/* c[m][pitch] += a' times the panels: a[depth][a_pitch], of which m columns are the rows of the product. */
static void multiply_columns(const real *a, long a_pitch, long m, long depth, const real *panels, long columns, real *c, long pitch)
{
    const long zero = 0;
    const struct cut cut = cut_rows(m);
    struct tile t = {.parts = 1, .depth = depth, .offset = &zero, .step = a_pitch, .c_apart = pitch, .join = CONTINUE};
    for (long panel = 0; panel < panels_count(columns); panel++) {
        t.b = panels + panel * depth * TILE_WIDTH;
        t.valid = panels_width(columns, panel);
        for (long i = 0; i < cut.tiles; i++) {
            const long begin = cut_begin(cut, i), height = cut_height(cut, i);
            t.a[0] = a + begin;
            t.c[0] = c + begin * pitch + panel * TILE_WIDTH;
            FN(tile_columns)(height, (int)(t.valid / LANES))(&t);
        }
    }
}

/* Products of row `row` with `keys` keys from `first` on become scores; those beyond a multiple of LANES, or masked, -Inf. Returns the largest by lane. */
static vec score_row(const struct plan *s, long head, long row, long first, long keys, real *x)
{
    const struct cnn_attention *p = s->p;
    const vec scale = vec_fill((real)p->scale), low = vec_fill(minus_infinity);
    const long visible = p->causal ? max_long(0, min_long(keys, row + 1 - first)) : keys, whole = round_up(keys, LANES);
    const real *mask = s->mask ? s->mask + s->place[head] + row * p->mask[0] + first * p->mask[1] : NULL;
    for (long j = visible; j < whole; j++)
        x[j] = minus_infinity;
    vec best = low;
    for (long j = 0; j < visible; j += LANES) {
        vec value = vec_load(x + j) * scale;
        const long lanes = min_long(LANES, visible - j);
        if (mask && p->mask[1] == 1)
            value = value + vec_get(mask + j, lanes);
        else if (mask)
            for (long i = 0; i < lanes; i++)
                value[i] += mask[(j + i) * p->mask[1]];
        for (long i = lanes; i < LANES; i++)
            value[i] = minus_infinity;
        vec_store(x + j, value);
        best = vec_larger(best, value);
    }
    return best;
}

/* ---- forward ---- */

static size_t plan_forward(struct plan *s, const struct cnn_attention *p, int workers)
{
    s->p = p;
    s->chunks = divide_up(p->l, FORWARD_CHUNK);
    const long e = wide(p->e), w = wide(p->w);
    s->worker_reals = spaced_reals(FORWARD_KEYS * (e + w) + FORWARD_ROWS * FORWARD_KEYS + FORWARD_CHUNK * (w + 2));
    return (size_t)(workers * s->worker_reals) * sizeof(real);
}

/* Scores of up to LANES rows from `row` on become weights, not yet divided by their sums; the running maxima `top`, sums `total` and results `out` follow.
 * What a row needs once is done for all rows in the lanes of a vector. */
static void weigh_rows(const struct plan *s, long head, long row, long rows, long first, long keys, real *scores, real *out, long pitch, real *top, real *total)
{
    vec best[LANES], sums[LANES];
    for (long i = 0; i < rows; i++)
        best[i] = score_row(s, head, row + i, first, keys, scores + i * FORWARD_KEYS);
    for (long i = rows; i < LANES; i++)
        best[i] = vec_fill(minus_infinity), sums[i] = (vec){0};
    transpose(best);
    vec largest = best[0];
    for (int j = 1; j < LANES; j++)
        largest = vec_larger(largest, best[j]);
    const vec old = vec_get(top, rows), next = vec_select((largest > old) | (largest != largest), largest, old);
    const vec shift = vec_select(next == minus_infinity, (vec){0}, next); /* all masked so far: the weights are 0 */
    const vec factor = vec_exp_negative(old - shift);
    for (long i = 0; i < rows; i++) {
        real *x = scores + i * FORWARD_KEYS;
        const vec less = vec_fill(shift[i]);
        sums[i] = (vec){0};
        for (long j = 0; j < keys; j += LANES) {
            const vec value = vec_exp_negative(vec_load(x + j) - less);
            sums[i] = sums[i] + value;
            vec_store(x + j, value);
        }
        if (next[i] != old[i])
            for (long c = 0; c < pitch; c += LANES)
                vec_store(out + i * pitch + c, vec_load(out + i * pitch + c) * factor[i]);
    }
    transpose(sums);
    vec sum = sums[0];
    for (int j = 1; j < LANES; j++)
        sum = sum + sums[j];
    vec_put(total, vec_madd(vec_get(total, rows), factor, sum), rows);
    vec_put(top, next, rows);
}

static void forward_chunk(void *context, long block, int worker)
{
    const struct plan *s = context;
    const struct cnn_attention *p = s->p;
    const long head = block / s->chunks, begin = block % s->chunks * FORWARD_CHUNK, end = min_long(p->l, begin + FORWARD_CHUNK);
    const long pitch = wide(p->w), reach = p->causal ? min_long(p->s, end) : p->s;
    const real *q = s->q + offset(p->q, p, head), *k = s->k + offset(p->k, p, head), *v = s->v + offset(p->v, p, head);
    real *k_panels = s->scratch + worker * s->worker_reals, *v_panels = k_panels + FORWARD_KEYS * wide(p->e);
    real *scores = v_panels + FORWARD_KEYS * pitch, *sums = scores + FORWARD_ROWS * FORWARD_KEYS;
    real *top = sums + FORWARD_CHUNK * pitch, *total = top + FORWARD_CHUNK;
    const real *a[FORWARD_ROWS];

    for (long i = 0; i < end - begin; i++)
        top[i] = minus_infinity, total[i] = 0;
    memset(sums, 0, (size_t)((end - begin) * pitch) * sizeof(real));
    for (long first = 0; first < reach; first += FORWARD_KEYS) {
        const long keys = min_long(FORWARD_KEYS, reach - first);
        pack_transposed(k + first * p->k[2], p->k[2], keys, p->e, k_panels);
        pack_rows(v + first * p->v[2], p->v[2], keys, p->w, v_panels);
        for (long row = begin; row < end; row += FORWARD_ROWS) {
            const long rows = min_long(FORWARD_ROWS, end - row);
            const long seen = seen_keys(p, row + rows, first, keys);
            if (!seen)
                continue;
            for (long i = 0; i < rows; i++)
                a[i] = q + (row + i) * p->q[2];
            multiply(a, rows, p->e, p->e, k_panels, seen, scores, FORWARD_KEYS, 0);
            for (long i = 0; i < rows; i += LANES)
                weigh_rows(s, head, row + i, min_long(LANES, rows - i), first, seen, scores + i * FORWARD_KEYS, sums + (row - begin + i) * pitch, pitch,
                           top + (row - begin + i), total + (row - begin + i));
            for (long i = 0; i < rows; i++)
                a[i] = scores + i * FORWARD_KEYS;
            multiply(a, rows, seen, keys, v_panels, p->w, sums + (row - begin) * pitch, pitch, 1);
        }
    }
    for (long i = 0; i < end - begin; i++) {
        const real sum = total[i];
        real *y = s->y + offset(p->y, p, head) + (begin + i) * p->y[2];
        for (long c = 0; c < p->w; c++)
            y[c] = sum == 0 ? 0 : sums[i * pitch + c] / sum;
        total[i] = sum == 0 ? -minus_infinity : top[i] + logarithm(sum);
        if (s->log_sum)
            s->log_sum[head * p->l + begin + i] = total[i];
    }
    for (long first = 0; s->weights && first < p->s; first += FORWARD_KEYS) {
        const long keys = min_long(FORWARD_KEYS, p->s - first);
        pack_transposed(k + first * p->k[2], p->k[2], keys, p->e, k_panels);
        for (long row = begin; row < end; row += FORWARD_ROWS) {
            const long rows = min_long(FORWARD_ROWS, end - row);
            for (long i = 0; i < rows; i++)
                a[i] = q + (row + i) * p->q[2];
            multiply(a, rows, p->e, p->e, k_panels, keys, scores, FORWARD_KEYS, 0);
            for (long i = 0; i < rows; i++) {
                real *x = scores + i * FORWARD_KEYS, *to = s->weights + (head * p->l + row + i) * p->s + first;
                score_row(s, head, row + i, first, keys, x);
                for (long j = 0; j < keys; j += LANES)
                    vec_put(to + j, vec_exp(vec_load(x + j) - total[row - begin + i]), min_long(LANES, keys - j));
            }
        }
    }
}

size_t FN(attention_forward_scratch)(const void *problem, int workers)
{
    struct plan s;
    return plan_forward(&s, problem, workers);
}

void FN(attention_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_attention *p = problem;
    struct plan s = {.q = array[0], .k = array[1], .v = array[2], .mask = array[3], .place = array[4], .y = array[5], .log_sum = array[6], .weights = array[7]};
    plan_forward(&s, p, run->workers);
    s.scratch = (real *)run->scratch;
    const long heads = p->batch * p->heads;
    const double work = (double)(heads * p->l) * (double)p->s * ((double)(p->e + p->w) / 40 + 1);
    cnn_parallel_for(run, heads * s.chunks, work, forward_chunk, &s);
}

/* ---- backward ---- */

static size_t plan_backward(struct plan *s, const struct cnn_attention *p, int workers)
{
    const long e = wide(p->e), w = wide(p->w);
    s->p = p;
    s->worker_reals = spaced_reals(BACKWARD_KEYS * (4 * e + 3 * w) + BACKWARD_ROWS * (2 * BACKWARD_KEYS + 2 * e + w) + round_up(p->l, LANES));
    return (size_t)(workers * s->worker_reals) * sizeof(real);
}

/* The gradients that come from rows [row, row_end) and keys [key, key_end) of one head. */
static void backward_part(const struct plan *s, long head, long row_begin, long row_end, long key_begin, long key_end, real *scratch)
{
    const struct cnn_attention *p = s->p;
    const long e = wide(p->e), w = wide(p->w);
    const real *q = s->q + offset(p->q, p, head), *k = s->k + offset(p->k, p, head), *v = s->v + offset(p->v, p, head);
    const real *dy = s->dy + offset(p->y, p, head), *y = s->saved_y + offset(p->y, p, head), *log_sum = s->saved_log_sum + head * p->l;
    real *dq = s->dq ? s->dq + offset(p->q, p, head) : NULL, *dk = s->dk ? s->dk + offset(p->k, p, head) : NULL;
    real *dv = s->dv ? s->dv + offset(p->v, p, head) : NULL;
    real *k_across = scratch, *k_panels = k_across + BACKWARD_KEYS * e, *dk_sums = k_panels + BACKWARD_KEYS * e;
    real *v_across = dk_sums + BACKWARD_KEYS * e, *dv_sums = v_across + BACKWARD_KEYS * w;
    real *weights = dv_sums + BACKWARD_KEYS * w, *errors = weights + BACKWARD_ROWS * BACKWARD_KEYS;
    real *q_panels = errors + BACKWARD_ROWS * BACKWARD_KEYS, *dy_panels = q_panels + BACKWARD_ROWS * e, *dq_sums = dy_panels + BACKWARD_ROWS * w;
    real *dots = dq_sums + BACKWARD_ROWS * e;
    const real *a[BACKWARD_ROWS];

    for (long i = row_begin; i < row_end; i++) {
        vec sum = {0};
        for (long c = 0; c < p->w; c += LANES) {
            const long lanes = min_long(LANES, p->w - c);
            sum = vec_madd(vec_get(dy + i * p->y[2] + c, lanes), vec_get(y + i * p->y[2] + c, lanes), sum);
        }
        dots[i] = lanes_sum(sum);
        for (long c = 0; s->with_queries && dq && c < p->e; c++)
            dq[i * p->q[2] + c] = 0;
    }
    for (long first = key_begin; first < key_end; first += BACKWARD_KEYS) {
        const long keys = min_long(BACKWARD_KEYS, key_end - first);
        pack_transposed(k + first * p->k[2], p->k[2], keys, p->e, k_across);
        pack_transposed(v + first * p->v[2], p->v[2], keys, p->w, v_across);
        if (s->with_queries && dq)
            pack_rows(k + first * p->k[2], p->k[2], keys, p->e, k_panels);
        memset(dk_sums, 0, (size_t)(keys * e) * sizeof(real));
        memset(dv_sums, 0, (size_t)(keys * w) * sizeof(real));
        for (long row = row_begin; row < row_end; row += BACKWARD_ROWS) {
            const long rows = min_long(BACKWARD_ROWS, row_end - row);
            const long seen = s->dmask ? keys : seen_keys(p, row + rows, first, keys);
            if (!seen)
                continue;
            for (long i = 0; i < rows; i++)
                a[i] = q + (row + i) * p->q[2];
            multiply(a, rows, p->e, p->e, k_across, seen, weights, BACKWARD_KEYS, 0);
            for (long i = 0; i < rows; i++)
                a[i] = dy + (row + i) * p->y[2];
            multiply(a, rows, p->w, p->w, v_across, seen, errors, BACKWARD_KEYS, 0);
            for (long i = 0; i < rows; i++) {
                real *x = weights + i * BACKWARD_KEYS, *d = errors + i * BACKWARD_KEYS;
                score_row(s, head, row + i, first, seen, x);
                const vec dot = vec_fill(dots[row + i]), shift = vec_fill(log_sum[row + i]), scale = vec_fill((real)p->scale);
                for (long j = 0; j < seen; j += LANES) {
                    const vec weight = vec_exp(vec_load(x + j) - shift), error = weight * (vec_load(d + j) - dot);
                    vec_store(x + j, weight);
                    vec_store(d + j, error * scale);
                    if (s->dmask && s->with_keys)
                        vec_put(s->dmask + (head * p->l + row + i) * p->s + first + j, error, min_long(LANES, seen - j));
                }
                a[i] = d;
            }
            if (s->with_keys && dv) {
                pack_rows(dy + row * p->y[2], p->y[2], rows, p->w, dy_panels);
                multiply_columns(weights, BACKWARD_KEYS, seen, rows, dy_panels, p->w, dv_sums, w);
            }
            if (s->with_keys && dk) {
                pack_rows(q + row * p->q[2], p->q[2], rows, p->e, q_panels);
                multiply_columns(errors, BACKWARD_KEYS, seen, rows, q_panels, p->e, dk_sums, e);
            }
            if (s->with_queries && dq) {
                multiply(a, rows, seen, keys, k_panels, p->e, dq_sums, e, 0);
                for (long i = 0; i < rows; i++)
                    for (long c = 0; c < p->e; c++)
                        dq[(row + i) * p->q[2] + c] += dq_sums[i * e + c];
            }
        }
        for (long j = 0; s->with_keys && j < keys; j++) {
            if (dk)
                memcpy(dk + (first + j) * p->k[2], dk_sums + j * e, (size_t)p->e * sizeof(real));
            if (dv)
                memcpy(dv + (first + j) * p->v[2], dv_sums + j * w, (size_t)p->w * sizeof(real));
        }
    }
}

/* A whole head, or where heads are few a part of its keys (for dk, dv) or of its rows (for dq). */
static void backward_block(void *context, long block, int worker)
{
    const struct plan *s = context;
    const struct cnn_attention *p = s->p;
    const long head = block / s->chunks, part = block % s->chunks;
    real *scratch = s->scratch + worker * s->worker_reals;
    if (s->with_keys && s->with_queries)
        backward_part(s, head, 0, p->l, 0, p->s, scratch);
    else if (s->with_keys)
        backward_part(s, head, 0, p->l, part * BACKWARD_KEYS, min_long(p->s, (part + 1) * BACKWARD_KEYS), scratch);
    else
        backward_part(s, head, part * BACKWARD_ROWS, min_long(p->l, (part + 1) * BACKWARD_ROWS), 0, p->s, scratch);
}

size_t FN(attention_backward_scratch)(const void *problem, int workers)
{
    struct plan s;
    return plan_backward(&s, problem, workers);
}

void FN(attention_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_attention *p = problem;
    struct plan s = {.dy = array[0], .q = array[1], .k = array[2], .v = array[3], .mask = array[4], .place = array[5], .saved_y = array[6],
                     .saved_log_sum = array[7], .dq = array[8], .dk = array[9], .dv = array[10], .dmask = array[11]};
    plan_backward(&s, p, run->workers);
    s.scratch = (real *)run->scratch;
    const long heads = p->batch * p->heads;
    const double work = (double)(heads * p->l) * (double)p->s * ((double)(3 * p->e + 2 * p->w) / 40 + 1);
    s.with_keys = s.with_queries = 1;
    s.chunks = 1;
    if (heads >= FEW_HEADS) {
        cnn_parallel_for(run, heads, work, backward_block, &s);
        return;
    }
    s.with_queries = 0;
    s.chunks = divide_up(p->s, BACKWARD_KEYS);
    if (s.dk || s.dv || s.dmask)
        cnn_parallel_for(run, heads * s.chunks, work, backward_block, &s);
    s.with_keys = 0, s.with_queries = 1;
    s.chunks = divide_up(p->l, BACKWARD_ROWS);
    if (s.dq)
        cnn_parallel_for(run, heads * s.chunks, work, backward_block, &s);
}
