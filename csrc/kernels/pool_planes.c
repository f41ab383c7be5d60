/* pool_planes.c: pools of images whose channels are not neighbours in memory. */
#include "planes.h"
#include "pool.h"

struct pool_planes {
    const struct cnn_pool *p;
    struct pool_ways ways;
    struct winners won;
};

/* Planes that lie one after another are channels of one image, whose lanes are full however few channels an image has; `planar` says how
 * the bytes of their winners lie, if there are any. */
static struct cnn_pool as_one_image(const struct cnn_pool *p, int planar)
{
    struct cnn_pool one = *p;
    if (planar && p->x[0] == p->c * p->x[1] && p->y[0] == p->c * p->y[1])
        one.n = 1, one.c = p->n * p->c;
    return one;
}

/* The pool of a few channels of one image. */
static struct cnn_pool part_of(const struct cnn_pool *p, long channels)
{
    struct cnn_pool part = *p;
    part.n = 1, part.c = channels;
    dense_strides(p->in, channels, part.x);
    dense_strides(p->out, channels, part.y);
    return part;
}

/* An image of few channels that are neighbours, as rows. */
static struct cnn_pool few_of(const struct cnn_pool *p)
{
    struct cnn_pool part = *p;
    part.n = 1;
    row_strides(p->in, p->c, part.x);
    row_strides(p->out, p->c, part.y);
    return part;
}

static int few(const struct cnn_pool *p, struct pool_ways ways)
{
    if (!ways.rows || !few_planes((struct plane_image){p->in, p->x}, (struct plane_image){p->out, p->y}, p->c))
        return 0;
    if (ways.run == FN(average_forward) && p->out[2] < LANES) /* whose pixels fill the lanes better than short rows do */
        return 0;
    const struct cnn_pool part = few_of(p);
    return ways.rows->takes(&part);
}

static void compute(const struct planes *s, long n, long c, long channels, const real *from, real *to, struct cnn_run *run)
{
    const struct pool_planes *q = s->context;
    const struct cnn_pool part = s->few ? few_of(q->p) : part_of(q->p, channels);
    const long cells = plane_cells(q->p->out);
    struct winners won = q->won;
    if (won.index)
        won.index += (n * s->c + c) * cells;
    if (won.tap)
        won.tap += n * won.image + c * won.channel;
    if (won.tap && !s->few && won.channel != 1) { /* the bytes are turned like the planes */
        uint8_t *turned = (uint8_t *)run->scratch, *rows = won.tap;
        struct cnn_run rest = {.workers = 1, .scratch = run->scratch + aligned((size_t)(channels * cells))};
        if (!q->ways.from_input)
            for (long i = 0; i < cells; i++)
                for (long k = 0; k < channels; k++)
                    turned[i * channels + k] = rows[k * won.channel + i * won.apart];
        q->ways.run(&part, from, to, (struct winners){.tap = turned, .image = 0, .apart = channels, .channel = 1}, &rest);
        if (q->ways.from_input)
            for (long k = 0; k < channels; k++)
                for (long i = 0; i < cells; i++)
                    rows[k * won.channel + i * won.apart] = turned[i * channels + k];
        return;
    }
    (s->few ? q->ways.rows->run : q->ways.run)(&part, from, to, won, run);
}

static struct planes describe(const struct pool_planes *q, int as_rows)
{
    const struct cnn_pool *p = q->p;
    const long together = as_rows ? p->c : planes_together(p->in, p->out, p->c);
    const struct cnn_pool part = as_rows ? few_of(p) : part_of(p, together);
    const struct plane_image x = {p->in, p->x}, y = {p->out, p->y};
    struct planes s = {.n = p->n, .c = p->c, .few = as_rows, .together = together, .in = q->ways.from_input ? x : y, .out = q->ways.from_input ? y : x, .compute = compute, .context = q};
    s.scratch = (as_rows ? q->ways.rows->scratch : q->ways.scratch)(&part, 1) + aligned((size_t)(together * plane_cells(p->out)));
    s.work = (double)(p->n * p->c) * (double)(plane_cells(p->in) + plane_cells(p->out)) * 1.5;
    return s;
}

static int neighbours(const struct cnn_pool *p) { return p->x[1] == 1 && p->y[1] == 1 && p->c > 1; }
static int by_rows(const struct cnn_pool *p, struct pool_ways ways) { return ways.rows && (!neighbours(p) || p->c <= ways.rows->neighbours) && ways.rows->takes(p); }

size_t FN(pool_scratch)(const struct cnn_pool *p, struct pool_ways ways, int workers)
{
    if (by_rows(p, ways))
        return ways.rows->scratch(p, workers);
    const int turned = few(p, ways);
    const struct cnn_pool one = turned ? *p : as_one_image(p, 1);
    const size_t whole = neighbours(p) || p->c == 1 ? ways.scratch(p, workers) : 0;
    if (!turned && (neighbours(p) || one.c == 1))
        return whole;
    const struct pool_planes q = {.p = &one, .ways = ways};
    const struct planes s = describe(&q, turned);
    const size_t planes = FN(planes_scratch)(&s, workers);
    return whole > planes ? whole : planes;
}

void FN(pool_run)(const struct cnn_pool *p, struct pool_ways ways, const real *from, real *to, struct winners won, struct cnn_run *run)
{
    if (by_rows(p, ways)) {
        ways.rows->run(p, from, to, won, run);
        return;
    }
    const int turned = few(p, ways);
    const struct cnn_pool one = turned ? *p : as_one_image(p, !won.tap || won.channel != 1);
    if (!turned && (neighbours(p) || one.c == 1)) {
        ways.run(p, from, to, won, run);
        return;
    }
    const struct pool_planes q = {&one, ways, won};
    struct planes s = describe(&q, turned);
    s.x = from, s.y = to;
    FN(planes_run)(&s, run);
}
