/* resize_rows.c: resize.c's interpolation of images whose rows are contiguous, to twice their width. Lanes are neighbouring columns: the
 * cells 2i and 2i + 1 of a row read with the same weights for every i but those at its ends, so two vectors of results are shuffled
 * into each other, and gradients come from the even and the odd ones. Ends are computed cell by cell. */
#include "resize.h"
#include "transpose.h"

struct rows {
    const struct cnn_resize *p;
    const real *from;
    real *to;
    struct taps *table[3];
    long *begin[3]; /* of gradients */
    struct reader *readers[3];
    int count[3];         /* taps */
    long low, high;       /* pairs of results whose taps are those of the middle */
    long away[2][MOST_TAPS]; /* their cells, from i */
    char *worker;
    size_t worker_bytes;
    long room, pitch;     /* of a row of the output; from one weighted row of the input to the next */
};

/* Weighted rows that are made one after another: before a vector across two vectors just stored is read they have reached the cache. */
enum { TOGETHER = 4 };

int FN(resize_rows_take)(const struct cnn_resize *p)
{
    const int neighbours = p->x[1] == 1 && p->y[1] == 1 && p->c > 1;
    return CNN_HAS_TRANSPOSE && p->x[4] == 1 && p->y[4] == 1 && !neighbours && p->out[2] == 2 * p->in[2] && p->in[2] >= LANES + MOST_TAPS;
}

static size_t place(struct rows *s, const struct cnn_resize *p, char *scratch, int workers)
{
    size_t bytes = 0;
    for (int a = 0; a < 3; a++) {
        s->table[a] = (struct taps *)(scratch + bytes);
        bytes += aligned((size_t)p->out[a] * sizeof(struct taps));
        s->begin[a] = (long *)(scratch + bytes);
        bytes += aligned((size_t)(p->in[a] + 1) * sizeof(long));
        s->readers[a] = (struct reader *)(scratch + bytes);
        bytes += aligned((size_t)(p->out[a] * MOST_TAPS) * sizeof(struct reader));
    }
    s->room = round_up(p->out[2], LANES) + LANES;
    s->worker = scratch + bytes;
    s->pitch = round_up(p->in[2], LANES) + LANES;
    /* A kilobyte apart: what the processor fetches ahead of a worker's last row must not be what the next worker writes. */
    s->worker_bytes = spaced((size_t)max_long(2 * s->room, TOGETHER * s->pitch) * sizeof(real));
    return bytes + (size_t)workers * s->worker_bytes;
}

size_t FN(resize_rows_scratch)(const struct cnn_resize *p, int workers)
{
    struct rows s;
    return place(&s, p, cnn_no_scratch, workers);
}

static int alike(const struct taps *a, const struct taps *b, long cells, int count)
{
    for (int k = 0; k < count; k++)
        if (a->cell[k] != b->cell[k] + cells || a->weight[k] != b->weight[k])
            return 0;
    return 1;
}

static struct rows start(const struct cnn_resize *p, const real *from, real *to, struct cnn_run *run)
{
    struct rows s = {.p = p, .from = from, .to = to};
    place(&s, p, run->scratch, run->workers);
    for (int a = 0; a < 3; a++) {
        s.count[a] = FN(resize_tap_count)(p, a);
        FN(resize_taps)(p, a, s.table[a]);
    }
    const long middle = p->in[2] / 2;
    const int count = FN(resize_tap_count)(p, 2);
    const struct taps *t = s.table[2], *m = t + 2 * middle;
    for (int f = 0; f < 2; f++)
        for (int k = 0; k < count; k++)
            s.away[f][k] = m[f].cell[k] - middle;
    for (s.low = middle; s.low > 0 && alike(&t[2 * s.low - 2], m, s.low - 1 - middle, count) && alike(&t[2 * s.low - 1], m + 1, s.low - 1 - middle, count);)
        s.low--;
    for (s.high = middle; s.high < p->in[2] && alike(&t[2 * s.high], m, s.high - middle, count) && alike(&t[2 * s.high + 1], m + 1, s.high - middle, count);)
        s.high++;
    return s;
}

static double work_of(const struct cnn_resize *p)
{
    return (double)(p->n * p->c) * (double)(p->out[0] * p->out[1] * p->out[2]) * (FN(resize_tap_count)(p, 2) + 1) * 0.15;
}

ALWAYS_INLINE void double_cells(const struct rows *s, const real *rows, const int count, long begin, long end, real *y)
{
    for (long w = 2 * begin; w < 2 * end; w++) {
        const struct taps *t = &s->table[2][w];
        real sum = real_multiply(t->weight[0], rows[t->cell[0]]);
        for (int k = 1; k < count; k++)
            sum = real_madd(t->weight[k], rows[t->cell[k]], sum);
        y[w] = sum;
    }
}

/* A row of results from the weighted rows. */
ALWAYS_INLINE void double_row(const struct rows *s, const real *rows, const int count, real *y)
{
#if CNN_HAS_TRANSPOSE
    const struct taps *m = s->table[2] + s->p->in[2] / 2 * 2;
    if (s->high - s->low >= LANES) {
        const long high = s->high;
        vec weight[2][MOST_TAPS];
        const real *at[2][MOST_TAPS];
        UNROLL for (int f = 0; f < 2; f++)
            UNROLL for (int k = 0; k < count; k++)
                weight[f][k] = vec_fill(m[f].weight[k]), at[f][k] = rows + s->away[f][k];
        for (long i = s->low;; i = min_long(i + LANES, high - LANES)) {
            vec v[2];
            UNROLL for (int f = 0; f < 2; f++) {
                v[f] = vec_multiply(weight[f][0], vec_load(at[f][0] + i));
                UNROLL for (int k = 1; k < count; k++)
                    v[f] = vec_madd(weight[f][k], vec_load(at[f][k] + i), v[f]);
            }
            vec_store(y + 2 * i, __builtin_shufflevector(v[0], v[1], LOWER_INDICES));
            vec_store(y + 2 * i + LANES, __builtin_shufflevector(v[0], v[1], UPPER_INDICES));
            if (i + LANES >= high)
                break;
        }
        double_cells(s, rows, count, 0, s->low, y);
        double_cells(s, rows, count, s->high, s->p->in[2], y);
        return;
    }
#endif
    double_cells(s, rows, count, 0, s->p->in[2], y);
}

/* The last vector begins early. */
ALWAYS_INLINE void sum_vectors(const struct weighted *r, const int count, long n, real *to)
{
    for (long i = 0;; i = min_long(i + LANES, n - LANES)) {
        vec_store(to + i, sum_of(r, count, i));
        if (i + LANES >= n)
            return;
    }
}

static void sum_weighted(const struct weighted *r, long n, int add, real *to)
{
    if (!add && n >= LANES) {
        if (r->count == 2)
            sum_vectors(r, 2, n, to);
        else if (r->count == 4)
            sum_vectors(r, 4, n, to);
        else
            sum_vectors(r, r->count, n, to);
        return;
    }
    for (long i = 0; i < n; i++) {
        real sum = add ? to[i] : real_multiply(r->weight[0], r->row[0][i]);
        for (int k = add ? 0 : 1; k < r->count; k++)
            sum = real_madd(r->weight[k], r->row[k][i], sum);
        to[i] = sum;
    }
}

/* Rows of a plane [c][d] of results that are one block: enough of them to keep finding the plane cheap. */
enum { BLOCK_ROWS = 16 };
static long blocks_of(const struct cnn_resize *p, const long cells[3]) { return p->n * p->c * cells[0] * divide_up(cells[1], BLOCK_ROWS); }

struct plane {
    long n, c, d, first, end;
};
static struct plane plane_of(const struct cnn_resize *p, const long cells[3], long block)
{
    const long parts = divide_up(cells[1], BLOCK_ROWS), plane = block / parts, image = plane / cells[0], first = block % parts * BLOCK_ROWS;
    return (struct plane){image / p->c, image % p->c, plane % cells[0], first, min_long(first + BLOCK_ROWS, cells[1])};
}

/* Doubles the rows of a block. deep, tall, count: taps along each axis, constants where they are the usual ones. */
ALWAYS_INLINE void forward_plane(const struct rows *s, struct plane at, const int deep, const int tall, const int count, real *sums)
{
    const struct cnn_resize *p = s->p;
    const struct taps *td = &s->table[0][at.d];
    const real *x = s->from + at.n * p->x[0] + at.c * p->x[1];
    real *y = s->to + at.n * p->y[0] + at.c * p->y[1] + at.d * p->y[2];
    for (long first = at.first; first < at.end; first += TOGETHER) {
        const long end = min_long(at.end, first + TOGETHER);
        const real *rows[TOGETHER];
        for (long h = first; h < end; h++) {
            const struct taps *th = &s->table[1][h];
            real *to = sums + (h - first) * s->pitch;
            struct weighted r;
            for (int i = 0; i < deep; i++)
                for (int j = 0; j < tall; j++)
                    r.row[i * tall + j] = x + td->cell[i] * p->x[2] + th->cell[j] * p->x[3], r.weight[i * tall + j] = td->weight[i] * th->weight[j];
            rows[h - first] = deep * tall > 1 ? to : r.row[0];
            if (deep * tall > 1)
                sum_vectors(&r, deep * tall, p->in[2], to);
        }
        for (long h = first; h < end; h++)
            double_row(s, rows[h - first], count, y + h * p->y[3]);
    }
}

static void forward_rows(void *context, long block, int worker)
{
    const struct rows *s = context;
    const struct plane at = plane_of(s->p, s->p->out, block);
    real *sums = (real *)(s->worker + (size_t)worker * s->worker_bytes);
    const int deep = s->count[0], tall = s->count[1], count = s->count[2];
    if (count == 1)
        forward_plane(s, at, deep, tall, 1, sums);
    else if (count == 2 && deep == 1 && tall == 2)
        forward_plane(s, at, 1, 2, 2, sums);
    else if (count == 2 && deep == 2 && tall == 2)
        forward_plane(s, at, 2, 2, 2, sums);
    else if (count == 2)
        forward_plane(s, at, deep, tall, 2, sums);
    else if (deep == 1 && tall == 4)
        forward_plane(s, at, 1, 4, 4, sums);
    else
        forward_plane(s, at, deep, tall, 4, sums);
}

void FN(resize_rows_forward)(const struct cnn_resize *p, const real *x, real *y, struct cnn_run *run)
{
    struct rows s = start(p, x, y, run);
    cnn_parallel_for(run, blocks_of(p, p->out), work_of(p), forward_rows, &s);
}

static void halve_cells(const struct rows *s, const real *sums, long begin, long end, real *dx)
{
    for (long i = begin; i < end; i++) {
        real sum = 0;
        for (long e = s->begin[2][i]; e < s->begin[2][i + 1]; e++)
            sum = real_madd(s->readers[2][e].weight, sums[s->readers[2][e].cell], sum);
        dx[i] = sum;
    }
}

/* A row of dx from the weighted rows of dy. Cells whose readers are all among the pairs alike read the even ones and the odd ones. */
ALWAYS_INLINE void halve_row(const struct rows *s, const real *sums, const int count, real *halves, real *dx)
{
    const long in = s->p->in[2];
    long low = s->low, high = s->high;
    for (int f = 0; f < 2; f++)
        for (int k = 0; k < count; k++)
            low = max_long(low, s->low + s->away[f][k]), high = min_long(high, s->high + s->away[f][k]);
    /* a clamped end reads the same cell more often */
    while (low < high && s->begin[2][low + 1] - s->begin[2][low] != 2 * count)
        low++;
    while (low < high && s->begin[2][high] - s->begin[2][high - 1] != 2 * count)
        high--;
    if (high - low < LANES) {
        halve_cells(s, sums, 0, in, dx);
        return;
    }
    real *half[2] = {halves, halves + round_up(in, LANES)};
    for (int f = 0; f < 2; f++) {
        long i = 0;
        for (; i + LANES <= in; i += LANES)
            vec_store(half[f] + i, vec_load_apart(sums + f + 2 * i, 2));
        for (; i < in; i++)
            half[f][i] = sums[f + 2 * i];
    }
    const struct taps *m = s->table[2] + in / 2 * 2;
    vec weight[2][MOST_TAPS];
    const real *at[2][MOST_TAPS];
    const int odd_first = s->away[1][0] > s->away[0][0]; /* in the order of the cells that read */
    UNROLL for (int f = 0; f < 2; f++) {
        const int from = f ^ odd_first;
        UNROLL for (int k = 0; k < count; k++)
            weight[f][k] = vec_fill(m[from].weight[k]), at[f][k] = half[from] - s->away[from][k];
    }
    for (long i = low;; i = min_long(i + LANES, high - LANES)) {
        vec sum = {0};
        UNROLL for (int k = count - 1; k >= 0; k--)
            UNROLL for (int f = 0; f < 2; f++)
                sum = vec_madd(weight[f][k], vec_load(at[f][k] + i), sum);
        vec_store(dx + i, sum);
        if (i + LANES >= high)
            break;
    }
    halve_cells(s, sums, 0, low, dx);
    halve_cells(s, sums, high, in, dx);
}

static void backward_rows(void *context, long block, int worker)
{
    const struct rows *s = context;
    const struct cnn_resize *p = s->p;
    const struct plane at = plane_of(p, p->in, block);
    real *sums = (real *)(s->worker + (size_t)worker * s->worker_bytes), *halves = sums + s->room;
    const real *dy = s->from + at.n * p->y[0] + at.c * p->y[1];
    for (long h = at.first; h < at.end; h++) {
        real *dx = s->to + at.n * p->x[0] + at.c * p->x[1] + at.d * p->x[2] + h * p->x[3];
        int add = 0;
        struct weighted r;
        r.count = 0;
        for (long i = s->begin[0][at.d]; i < s->begin[0][at.d + 1]; i++)
            for (long j = s->begin[1][h]; j < s->begin[1][h + 1]; j++) {
                const struct reader *a = &s->readers[0][i], *b = &s->readers[1][j];
                if (r.count == MOST_ROWS) {
                    sum_weighted(&r, p->out[2], add, sums);
                    r.count = 0, add = 1;
                }
                r.row[r.count] = dy + a->cell * p->y[2] + b->cell * p->y[3], r.weight[r.count++] = a->weight * b->weight;
            }
        if (r.count) {
            sum_weighted(&r, p->out[2], add, sums);
            add = 1;
        }
        const int count = s->count[2];
        if (!add)
            memset(dx, 0, (size_t)p->in[2] * sizeof(real));
        else if (count == 1)
            halve_row(s, sums, 1, halves, dx);
        else if (count == 2)
            halve_row(s, sums, 2, halves, dx);
        else
            halve_row(s, sums, 4, halves, dx);
    }
}

void FN(resize_rows_backward)(const struct cnn_resize *p, const real *dy, real *dx, struct cnn_run *run)
{
    struct rows s = start(p, dy, dx, run);
    for (int a = 0; a < 3; a++)
        FN(resize_readers)(p, a, s.table[a], s.begin[a], s.readers[a]);
    cnn_parallel_for(run, blocks_of(p, p->in), work_of(p), backward_rows, &s);
}
