/* pool_planes.c: pools of images whose channels are not neighbours in memory. */
#include "planes.h"
#include "pool.h"

struct pool_planes {
    const struct cnn_pool *p;
    struct pool_ways ways;
    struct winners won;
};

/* Planes that lie one after another are channels of one image, whose lanes are full however few channels an image has. */
static struct cnn_pool as_one_image(const struct cnn_pool *p)
{
    struct cnn_pool one = *p;
    if (p->x[0] == p->c * p->x[1] && p->y[0] == p->c * p->y[1])
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

static void compute(const struct planes *s, long n, long c, long channels, const real *from, real *to, struct cnn_run *run)
{
    const struct pool_planes *q = s->context;
    const struct cnn_pool part = part_of(q->p, channels);
    const long cells = plane_cells(q->p->out);
    struct winners won = q->won;
    if (won.index)
        won.index += (n * s->c + c) * cells;
    if (won.tap)
        won.tap += n * won.image + c * won.channel;
    q->ways.run(&part, from, to, won, run);
}

static struct planes describe(const struct pool_planes *q)
{
    const struct cnn_pool *p = q->p, part = part_of(p, min_long(p->c, LANES));
    const struct plane_image x = {p->in, p->x}, y = {p->out, p->y};
    struct planes s = {.n = p->n, .c = p->c, .in = q->ways.from_input ? x : y, .out = q->ways.from_input ? y : x, .compute = compute, .context = q};
    s.scratch = q->ways.scratch(&part, 1);
    s.work = (double)(p->n * p->c) * (double)(plane_cells(p->in) + plane_cells(p->out)) * 1.5;
    return s;
}

static int neighbours(const struct cnn_pool *p) { return p->x[1] == 1 && p->y[1] == 1 && p->c > 1; }
static int by_rows(const struct cnn_pool *p, struct pool_ways ways) { return ways.rows && !neighbours(p) && ways.rows->takes(p); }

size_t FN(pool_scratch)(const struct cnn_pool *p, struct pool_ways ways, int workers)
{
    if (by_rows(p, ways))
        return ways.rows->scratch(p, workers);
    const struct cnn_pool one = as_one_image(p);
    const size_t whole = neighbours(p) || p->c == 1 ? ways.scratch(p, workers) : 0;
    if (neighbours(p) || one.c == 1)
        return whole;
    const struct pool_planes q = {.p = &one, .ways = ways};
    const struct planes s = describe(&q);
    const size_t planes = FN(planes_scratch)(&s, workers);
    return whole > planes ? whole : planes;
}

void FN(pool_run)(const struct cnn_pool *p, struct pool_ways ways, const real *from, real *to, struct winners won, struct cnn_run *run)
{
    if (by_rows(p, ways)) {
        ways.rows->run(p, from, to, won, run);
        return;
    }
    const struct cnn_pool one = won.index || won.tap ? *p : as_one_image(p);
    if (neighbours(p) || one.c == 1) {
        ways.run(p, from, to, won, run);
        return;
    }
    const struct pool_planes q = {&one, ways, won};
    struct planes s = describe(&q);
    s.x = from, s.y = to;
    FN(planes_run)(&s, run);
}
