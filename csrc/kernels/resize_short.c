/* resize_short.c: resize.c's interpolation of images whose rows are contiguous and no longer than a vector, results than two, or the other way round: small planes
 * in C order above all. A row of results is the weighted sum of rows, then of its lanes as the taps name them; sums run in resize.c's order. */
#include "resize.h"
#include "transpose.h"

enum { CELLS = 4096 }; /* results of a block, about */

struct brief {
    const struct cnn_resize *p;
    const real *x;
    real *y;
    struct taps *table[3];
    int deep, tall, wide; /* taps */
    long many;            /* planes of a block */
    mask lane[2][MOST_TAPS];
    vec weight[2][MOST_TAPS];
};

int FN(resize_short_takes)(const struct cnn_resize *p)
{
    const int neighbours = p->x[1] == 1 && p->y[1] == 1 && p->c > 1, taps = FN(resize_tap_count)(p, 2);
    /* Many taps over few pixels, and few results: faster with channels in the lanes. Measured. */
    if ((taps > 2 && (p->out[2] < p->in[2] || 2 * p->in[2] <= LANES)) || (taps > 1 && p->out[2] < p->in[2] && 4 * p->out[2] < LANES))
        return 0;
    const int one = p->in[2] <= LANES && p->out[2] <= 2 * LANES, two = CNN_HAS_PERMUTE_TWO && p->in[2] <= 2 * LANES && p->out[2] <= LANES;
    return CNN_HAS_PERMUTE && p->x[4] == 1 && p->y[4] == 1 && !neighbours && (one || (two && taps <= 2));
}

size_t FN(resize_short_scratch)(const struct cnn_resize *p)
{
    return aligned((size_t)(p->out[0] + p->out[1] + p->out[2]) * sizeof(struct taps));
}

/* The same rows with the same weights: those of nearest neighbours repeat. */
static int same_rows(const struct taps *a, const struct taps *b, int count)
{
    for (int k = 0; k < count; k++)
        if (a->cell[k] != b->cell[k] || a->weight[k] != b->weight[k])
            return 0;
    return 1;
}

ALWAYS_INLINE void resize_plane(const struct brief *s, const real *x, const struct taps *td, const int rows, const int wide, const int two, real *y)
{
    const struct cnn_resize *p = s->p;
    const long in = min_long(p->in[2], LANES), beyond = p->in[2] - in, out = p->out[2], first = min_long(out, LANES), rest = out - first;
    vec lower = {0}, upper = {0}, weight[2][MOST_TAPS];
    mask lane[2][MOST_TAPS];
    UNROLL for (int v = 0; v < 2; v++)
        UNROLL for (int k = 0; k < wide; k++)
            weight[v][k] = s->weight[v][k], lane[v][k] = s->lane[v][k];
    const long down = p->x[3], below = p->y[3];
    const int tall = s->tall;
    for (long h = 0; h < p->out[1]; h++, y += below) {
        const struct taps *th = &s->table[1][h];
        if (h == 0 || !same_rows(th, th - 1, tall)) {
            vec sum = {0}, more = {0}; /* pixels beyond a vector */
            for (int r = 0; r < rows; r++) {
                const int i = rows == 2 && tall == 2 ? 0 : r / tall, j = rows == 2 && tall == 2 ? r : r % tall;
                const real *from = x + td->cell[i] * p->x[2] + th->cell[j] * down;
                const vec by = vec_fill(td->weight[i] * th->weight[j]);
                sum = r ? vec_madd(by, vec_get(from, in), sum) : vec_multiply(by, vec_get(from, in));
                if (two)
                    more = r ? vec_madd(by, vec_get(from + LANES, beyond), more) : vec_multiply(by, vec_get(from + LANES, beyond));
            }
            lower = vec_multiply(weight[0][0], two ? vec_permute_two(sum, more, lane[0][0]) : vec_permute(sum, lane[0][0]));
            UNROLL for (int k = 1; k < wide; k++)
                lower = vec_madd(weight[0][k], two ? vec_permute_two(sum, more, lane[0][k]) : vec_permute(sum, lane[0][k]), lower);
            if (rest > 0) {
                upper = vec_multiply(weight[1][0], vec_permute(sum, lane[1][0]));
                UNROLL for (int k = 1; k < wide; k++)
                    upper = vec_madd(weight[1][k], vec_permute(sum, lane[1][k]), upper);
            }
        }
        vec_put(y, lower, first);
        if (rest > 0)
            vec_put(y + LANES, upper, rest);
    }
}

static void resize_planes(void *context, long block, int worker)
{
    (void)worker;
    const struct brief *s = context;
    const struct cnn_resize *p = s->p;
    for (long plane = block * s->many; plane < min_long((block + 1) * s->many, p->n * p->c * p->out[0]); plane++) {
        const long d = plane % p->out[0], c = plane / p->out[0] % p->c, n = plane / p->out[0] / p->c;
        const real *x = s->x + n * p->x[0] + c * p->x[1];
        real *y = s->y + n * p->y[0] + c * p->y[1] + d * p->y[2];
        const struct taps *td = &s->table[0][d];
        const int rows = s->deep * s->tall, two = p->in[2] > LANES;
        if (s->wide == 1 && rows == 1)
            two ? resize_plane(s, x, td, 1, 1, 1, y) : resize_plane(s, x, td, 1, 1, 0, y);
        else if (s->wide == 1)
            two ? resize_plane(s, x, td, rows, 1, 1, y) : resize_plane(s, x, td, rows, 1, 0, y);
        else if (s->wide == 2 && rows == 2)
            two ? resize_plane(s, x, td, 2, 2, 1, y) : resize_plane(s, x, td, 2, 2, 0, y);
        else if (s->wide == 2)
            two ? resize_plane(s, x, td, rows, 2, 1, y) : resize_plane(s, x, td, rows, 2, 0, y);
        else
            resize_plane(s, x, td, rows, 4, 0, y);
    }
}

void FN(resize_short_forward)(const struct cnn_resize *p, const real *x, real *y, struct cnn_run *run)
{
    struct brief s = {.p = p, .x = x, .y = y};
    struct taps *room = (struct taps *)run->scratch;
    for (int a = 0; a < 3; a++) {
        s.table[a] = room;
        FN(resize_taps)(p, a, room);
        room += p->out[a];
    }
    s.deep = FN(resize_tap_count)(p, 0), s.tall = FN(resize_tap_count)(p, 1), s.wide = FN(resize_tap_count)(p, 2);
    for (long w = 0; w < p->out[2]; w++)
        for (int k = 0; k < s.wide; k++) {
            s.lane[w / LANES][k][w % LANES] = (bits)s.table[2][w].cell[k];
            s.weight[w / LANES][k][w % LANES] = s.table[2][w].weight[k];
        }
    const long planes = p->n * p->c * p->out[0], cells = p->out[1] * p->out[2];
    s.many = max_long(1, CELLS / max_long(1, cells));
    cnn_parallel_for(run, divide_up(planes, s.many), (double)planes * (double)p->out[1] * (2 + s.deep * s.tall + s.wide), resize_planes, &s);
}
