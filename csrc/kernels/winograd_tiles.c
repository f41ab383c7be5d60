#include "winograd_tiles.h"

/* What phase `phase` of axis `axis` sees. */
static struct along see(const struct windows *w, int axis, long phase)
{
    const long spread = w->spread[axis], first = phase - w->before[axis], from = (first % spread + spread) % spread;
    const long out = w->out[axis] > phase ? divide_up(w->out[axis] - phase, spread) : 0;
    return (struct along){from, out && w->in[axis] > from ? divide_up(w->in[axis] - from, spread) : 0, (from - first) / spread, out};
}

struct tiles FN(cut_tiles)(const struct windows *w, int flat, int m)
{
    struct tiles t = {.w = *w, .flat = flat, .m = m, .reach = m + (int)w->taps[2] - 1};
    t.high = flat ? 1 : t.m, t.tall = flat ? 1 : t.reach;
    for (int i = 0; i < 2; i++)
        for (long phase = 0; phase < w->spread[1 + i]; phase++)
            t.along[i][phase] = see(w, 1 + i, phase);
    t.rows = divide_up(t.along[0][0].out, t.high);
    t.columns = divide_up(t.along[1][0].out, m);
    t.count = w->images * w->out[0] * w->spread[1] * w->spread[2] * t.rows * t.columns;
    t.in_place = w->stride[1] == 1 && w->channels % LANES == 0;
    return t;
}

static size_t zero_bytes(const struct tiles *t) { return aligned((size_t)round_up(t->w.channels, LANES) * sizeof(real)); }

size_t FN(tiles_scratch)(const struct tiles *t)
{
    const size_t copy = t->in_place ? 0 : (size_t)(t->tall * (t->reach + (RUN - 1) * t->m) * RUN_CHANNELS) * sizeof(real);
    return zero_bytes(t) + aligned(copy);
}

/* The cells under a tile: a pointer each, or, where all of them exist (pixel is NULL), the first one and the ways to the next. */
struct cells {
    const real *const *pixel;
    const real *first;
    long row, column;
};

/* B' d B of one vector of channels (or G g G' of gradients); m, gradient and even are constants at every call. */
ALWAYS_INLINE void transform_vector(const int m, const int gradient, const int even, const struct cells *from, long c, real *to, long point_pitch)
{
    const int n = m + 2, reach = gradient ? m : n;
    vec half[MOST_POINTS][MOST_POINTS];
    UNROLL for (int j = 0; j < reach; j++) {
        vec d[MOST_POINTS], v[MOST_POINTS];
        UNROLL for (int i = 0; i < reach; i++)
            d[i] = vec_load((even ? from->first + i * from->row + j * from->column : from->pixel[i * reach + j]) + c);
        if (gradient)
            gradient_points(m, d, v);
        else
            input_points(m, d, v);
        UNROLL for (int i = 0; i < n; i++)
            half[i][j] = v[i];
    }
    UNROLL for (int i = 0; i < n; i++) {
        vec v[MOST_POINTS];
        if (gradient)
            gradient_points(m, half[i], v);
        else
            input_points(m, half[i], v);
        UNROLL for (int j = 0; j < n; j++)
            vec_store(to + (i * n + j) * point_pitch, v[j]);
    }
}

/* The same along rows alone. */
ALWAYS_INLINE void transform_flat(const int m, const int gradient, const int even, const struct cells *from, long c, real *to, long point_pitch)
{
    const int n = m + 2, reach = gradient ? m : n;
    vec d[MOST_POINTS], v[MOST_POINTS];
    UNROLL for (int j = 0; j < reach; j++)
        d[j] = vec_load((even ? from->first + j * from->column : from->pixel[j]) + c);
    if (gradient)
        gradient_points(m, d, v);
    else
        input_points(m, d, v);
    UNROLL for (int j = 0; j < n; j++)
        vec_store(to + j * point_pitch, v[j]);
}

#define TRANSFORM(name, function, m, gradient)                                          \
    static void name(const struct cells *from, long channels, real *to, long point_pitch) \
    {                                                                                   \
        if (from->pixel)                                                                \
            for (long c = 0; c < channels; c += LANES)                                  \
                function(m, gradient, 0, from, c, to + c, point_pitch);                 \
        else                                                                            \
            for (long c = 0; c < channels; c += LANES)                                  \
                function(m, gradient, 1, from, c, to + c, point_pitch);                 \
    }
TRANSFORM(input_2, transform_vector, 2, 0) TRANSFORM(input_4, transform_vector, 4, 0)
TRANSFORM(gradient_2, transform_vector, 2, 1) TRANSFORM(gradient_4, transform_vector, 4, 1)
TRANSFORM(flat_input_2, transform_flat, 2, 0) TRANSFORM(flat_input_4, transform_flat, 4, 0)
TRANSFORM(flat_gradient_2, transform_flat, 2, 1) TRANSFORM(flat_gradient_4, transform_flat, 4, 1)

/* One map of the planes that one tap of the first axis sees, as windows without gaps. */
struct map {
    struct windows w;
    const real *x; /* its first cell */
};

static struct map map_of(const struct tiles *t, const real *x, const long phase[2], long tap)
{
    struct map map = {t->w, x};
    map.w.taps[0] = 1, map.w.before[0] -= tap * map.w.spread[0];
    for (int i = 0; i < 2; i++) {
        const struct along *along = &t->along[i][phase[i]];
        map.x += along->from * map.w.stride[3 + i];
        map.w.in[1 + i] = along->in, map.w.out[1 + i] = along->out, map.w.before[1 + i] = along->before;
        map.w.stride[3 + i] *= map.w.spread[1 + i], map.w.spread[1 + i] = 1;
    }
    return map;
}

/* The plane of the map under output plane `at`, or -1: zeros. */
static long plane_under(const struct windows *w, long at) { return cnn_source(w->mode, at * w->step[0] - w->before[0], w->in[0]); }

/* Whether all cells under a tile are cells of the map that some window reaches: others count as zeros. */
static int is_inside(const struct tiles *t, const struct windows *w, struct place at)
{
    const long row = at.row - w->before[1], column = at.column - w->before[2];
    return row >= 0 && column >= 0 && row + t->tall <= w->in[1] && column + t->reach <= w->in[2] &&
           at.row + t->tall <= w->out[1] + w->taps[1] - 1 && at.column + t->reach <= w->out[2] + w->taps[2] - 1;
}

/* Pointers to the cells under tile `at` of a map that is read in place; plane: its first cell, or NULL. */
static void find_cells(const struct tiles *t, const struct windows *w, const real *plane, struct place at, const real *zeros, const real **pixel)
{
    long column[MOST_POINTS];
    for (int j = 0; j < t->reach; j++) {
        const long i = at.column + j;
        column[j] = i < w->out[2] + w->taps[2] - 1 ? cnn_source(w->mode, i - w->before[2], w->in[2]) : -1;
    }
    for (int i = 0; i < t->tall; i++) {
        const long h = at.row + i, row = plane && h < w->out[1] + w->taps[1] - 1 ? cnn_source(w->mode, h - w->before[1], w->in[1]) : -1;
        for (int j = 0; j < t->reach; j++)
            pixel[i * t->reach + j] = row < 0 || column[j] < 0 ? zeros : plane + row * w->stride[3] + column[j] * w->stride[4];
    }
}

typedef void transform_function(const struct cells *from, long channels, real *to, long point_pitch);

/* A run of neighbouring tiles through a copy, some channels at a time. */
static void transform_run(const struct tiles *t, const struct map *map, transform_function *transform, struct place at, long count, long channel,
                          long channels, const real *zeros, real *copy, real *to, long pitch, long point_pitch)
{
    const struct windows *w = &map->w;
    const struct box box = {at.image, 1, {at.plane, at.row, at.column},
                            {1, min_long(t->high, w->out[1] - at.row), min_long(count * t->m, w->out[2] - at.column)}};
    const int empty = box.size[1] <= 0 || box.size[2] <= 0; /* a phase of fewer cells */
    const long height = empty ? 0 : box.size[1] + w->taps[1] - 1, width = empty ? 0 : box.size[2] + w->taps[2] - 1;
    for (long c = 0; c < channels; c += RUN_CHANNELS) {
        const long some = min_long(RUN_CHANNELS, channels - c), whole = round_up(some, LANES);
        const struct pitch p = FN(box_pitch)(w, 1, box.size, whole);
        if (whole != some)
            memset(copy, 0, (size_t)p.size * sizeof(real));
        if (!empty)
            FN(box_copy)(w, &box, map->x, channel + c, some, p, copy);
        for (long i = 0; i < count; i++) {
            if (t->tall <= height && i * t->m + t->reach <= width) {
                transform(&(struct cells){NULL, copy + i * t->m * p.pixel, p.row, p.pixel}, whole, to + i * pitch + c, point_pitch);
                continue;
            }
            const real *pixel[MOST_PIXELS];
            for (long h = 0; h < t->tall; h++)
                for (long j = 0; j < t->reach; j++)
                    pixel[h * t->reach + j] = h < height && i * t->m + j < width ? copy + h * p.row + (i * t->m + j) * p.pixel : zeros;
            transform(&(struct cells){.pixel = pixel}, whole, to + i * pitch + c, point_pitch);
        }
    }
}

/* A tile that is read where it lies. */
static void transform_in_place(const struct tiles *t, const struct map *map, transform_function *transform, struct place at, long channel, long channels,
                               const real *zeros, real *to, long point_pitch)
{
    const struct windows *w = &map->w;
    const long under = plane_under(w, at.plane);
    const real *plane = under < 0 ? NULL : map->x + channel + at.image * w->stride[0] + under * w->stride[2];
    const real *pixel[MOST_PIXELS];
    struct cells from = {.pixel = pixel, .row = w->stride[3], .column = w->stride[4]};
    if (plane && is_inside(t, w, at)) {
        from.pixel = NULL;
        from.first = plane + (at.row - w->before[1]) * from.row + (at.column - w->before[2]) * from.column;
    } else
        find_cells(t, w, plane, at, zeros, pixel);
    transform(&from, channels, to, point_pitch);
}

void FN(transform_tiles)(const struct tiles *t, const real *x, long first, long count, long tap, long channel, long channels, char *scratch, real *to,
                         long pitch, long point_pitch)
{
    const int gradient = t->reach == t->m;
    static transform_function *const table[2][2][2] = {{{input_2, gradient_2}, {input_4, gradient_4}},
                                                       {{flat_input_2, flat_gradient_2}, {flat_input_4, flat_gradient_4}}};
    transform_function *const transform = table[t->flat][t->m == 4][gradient];
    memset(scratch, 0, zero_bytes(t));
    const real *zeros = (const real *)scratch;
    long known[2] = {-1, -1}; /* the phase of the map */
    struct map map = {.x = x};
    for (long i = 0, run; i < count; i += run) {
        const struct place at = place_of(t, first + i);
        if (at.phase[0] != known[0] || at.phase[1] != known[1]) {
            map = map_of(t, x, at.phase, tap);
            known[0] = at.phase[0], known[1] = at.phase[1];
        }
        run = t->in_place ? 1 : min_long(min_long(count - i, RUN), t->columns - (first + i) % t->columns);
        if (t->in_place)
            transform_in_place(t, &map, transform, at, channel, channels, zeros, to + i * pitch, point_pitch);
        else
            transform_run(t, &map, transform, at, run, channel, channels, zeros, (real *)(scratch + zero_bytes(t)), to + i * pitch, pitch, point_pitch);
    }
}
