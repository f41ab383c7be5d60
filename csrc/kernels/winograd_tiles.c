#include "winograd_tiles.h"

/* What phase `phase` of axis `axis` sees. */
static struct along see(const struct windows *w, int axis, long phase)
{
    const long spread = w->spread[axis], first = phase - w->before[axis], from = (first % spread + spread) % spread;
    const long out = w->out[axis] > phase ? divide_up(w->out[axis] - phase, spread) : 0;
    return (struct along){from, out && w->in[axis] > from ? divide_up(w->in[axis] - from, spread) : 0, (from - first) / spread, out};
}

enum { RUN = 28, RUN_CELLS = 112, RUN_CHANNELS = 64 }; /* tiles, cells of a row and channels that a copy holds at most */

static long tiles_of_run(const struct tiles *t) { return min_long(RUN, RUN_CELLS / (t->m * t->w.step[2])); }

struct tiles FN(cut_tiles)(const struct windows *w, int flat, enum kind kind)
{
    const struct scheme scheme = scheme_of(kind);
    const int gradient = w->taps[2] == 1, m = scheme.outputs;
    struct tiles t = {.w = *w, .kind = kind, .flat = flat, .m = m, .reach = gradient ? m : scheme.cells};
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
    const size_t copy = t->in_place ? 0 : (size_t)(t->tall * (t->reach + (tiles_of_run(t) - 1) * t->m * t->w.step[2]) * RUN_CHANNELS) * sizeof(real);
    return zero_bytes(t) + aligned(copy);
}

/* The cells under a tile: a pointer each, or, where all of them exist (pixel is NULL), the first one and the ways to the next. */
struct cells {
    const real *const *pixel;
    const real *first;
    long row, column;
};

/* B' d B of one vector of channels (or G g G' of gradients); kind, gradient and even are constants at every call. */
ALWAYS_INLINE void transform_vector(const enum kind kind, const int gradient, const int even, const struct cells *from, long c, real *to, long point_pitch)
{
    const struct scheme scheme = scheme_of(kind);
    const int n = scheme.points, reach = gradient ? scheme.outputs : scheme.cells;
    vec half[MOST_POINTS][MOST_POINTS];
    UNROLL for (int j = 0; j < reach; j++) {
        vec d[MOST_POINTS], v[MOST_POINTS];
        UNROLL for (int i = 0; i < reach; i++)
            d[i] = vec_load((even ? from->first + i * from->row + j * from->column : from->pixel[i * reach + j]) + c);
        if (gradient)
            gradient_points(kind, d, v);
        else
            input_points(kind, d, v);
        UNROLL for (int i = 0; i < n; i++)
            half[i][j] = v[i];
    }
    UNROLL for (int i = 0; i < n; i++) {
        vec v[MOST_POINTS];
        if (gradient)
            gradient_points(kind, half[i], v);
        else
            input_points(kind, half[i], v);
        UNROLL for (int j = 0; j < n; j++)
            vec_store(to + (i * n + j) * point_pitch, v[j]);
    }
}

/* The same along rows alone. */
ALWAYS_INLINE void transform_flat(const enum kind kind, const int gradient, const int even, const struct cells *from, long c, real *to, long point_pitch)
{
    const struct scheme scheme = scheme_of(kind);
    const int reach = gradient ? scheme.outputs : scheme.cells;
    vec d[MOST_POINTS], v[MOST_POINTS];
    UNROLL for (int j = 0; j < reach; j++)
        d[j] = vec_load((even ? from->first + j * from->column : from->pixel[j]) + c);
    if (gradient)
        gradient_points(kind, d, v);
    else
        input_points(kind, d, v);
    UNROLL for (int j = 0; j < scheme.points; j++)
        vec_store(to + j * point_pitch, v[j]);
}

#define TRANSFORM(name, function, kind, gradient)                                       \
    static void name(const struct cells *from, long channels, real *to, long point_pitch) \
    {                                                                                   \
        if (from->pixel)                                                                \
            for (long c = 0; c < channels; c += LANES)                                  \
                function(kind, gradient, 0, from, c, to + c, point_pitch);              \
        else                                                                            \
            for (long c = 0; c < channels; c += LANES)                                  \
                function(kind, gradient, 1, from, c, to + c, point_pitch);              \
    }
TRANSFORM(input_2_3, transform_vector, F2_3, 0) TRANSFORM(input_4_3, transform_vector, F4_3, 0) TRANSFORM(input_3_2, transform_vector, F3_2, 0)
TRANSFORM(input_2_3_strided, transform_vector, F2_3_STRIDED, 0) TRANSFORM(input_3_4_strided, transform_vector, F3_4_STRIDED, 0)
TRANSFORM(input_2_5, transform_vector, F2_5, 0) TRANSFORM(flat_input_2_5, transform_flat, F2_5, 0)
TRANSFORM(gradient_2_3, transform_vector, F2_3, 1) TRANSFORM(gradient_4_3, transform_vector, F4_3, 1)
TRANSFORM(flat_input_2_3, transform_flat, F2_3, 0) TRANSFORM(flat_input_4_3, transform_flat, F4_3, 0) TRANSFORM(flat_input_3_2, transform_flat, F3_2, 0)
TRANSFORM(flat_input_2_3_strided, transform_flat, F2_3_STRIDED, 0) TRANSFORM(flat_input_3_4_strided, transform_flat, F3_4_STRIDED, 0)
TRANSFORM(gradient_2_5, transform_vector, F2_5, 1) TRANSFORM(flat_gradient_2_5, transform_flat, F2_5, 1)
TRANSFORM(flat_gradient_2_3, transform_flat, F2_3, 1) TRANSFORM(flat_gradient_4_3, transform_flat, F4_3, 1)

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

/* Rows (axis 1) or columns (2), the zeros in front included, that some window reaches: others count as zeros. */
static long reached(const struct windows *w, int axis) { return (w->out[axis] - 1) * w->step[axis] + w->taps[axis]; }

/* Whether all cells under a tile are cells of the map that some window reaches. */
static int is_inside(const struct tiles *t, const struct windows *w, struct place at)
{
    const long row = at.row * w->step[1], column = at.column * w->step[2], above = w->before[1], left = w->before[2];
    return row >= above && column >= left && row - above + t->tall <= w->in[1] && column - left + t->reach <= w->in[2] &&
           row + t->tall <= reached(w, 1) && column + t->reach <= reached(w, 2);
}

/* Pointers to the cells under tile `at` of a map that is read in place; plane: its first cell, or NULL. */
static void find_cells(const struct tiles *t, const struct windows *w, const real *plane, struct place at, const real *zeros, const real **pixel)
{
    long column[MOST_POINTS];
    for (int j = 0; j < t->reach; j++) {
        const long i = at.column * w->step[2] + j;
        column[j] = i < reached(w, 2) ? cnn_source(w->mode, i - w->before[2], w->in[2]) : -1;
    }
    for (int i = 0; i < t->tall; i++) {
        const long h = at.row * w->step[1] + i, row = plane && h < reached(w, 1) ? cnn_source(w->mode, h - w->before[1], w->in[1]) : -1;
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
    const long height = empty ? 0 : box_extent(w, 1, box.size[1]), width = empty ? 0 : box_extent(w, 2, box.size[2]), next = t->m * w->step[2];
    for (long c = 0; c < channels; c += RUN_CHANNELS) {
        const long some = min_long(RUN_CHANNELS, channels - c), whole = round_up(some, LANES);
        const struct pitch p = FN(box_pitch)(w, 1, box.size, whole);
        if (whole != some)
            memset(copy, 0, (size_t)p.size * sizeof(real));
        if (!empty)
            FN(box_copy)(w, &box, map->x, channel + c, some, p, copy);
        for (long i = 0; i < count; i++) {
            if (t->tall <= height && i * next + t->reach <= width) {
                transform(&(struct cells){NULL, copy + i * next * p.pixel, p.row, p.pixel}, whole, to + i * pitch + c, point_pitch);
                continue;
            }
            const real *pixel[MOST_PIXELS];
            for (long h = 0; h < t->tall; h++)
                for (long j = 0; j < t->reach; j++)
                    pixel[h * t->reach + j] = h < height && i * next + j < width ? copy + h * p.row + (i * next + j) * p.pixel : zeros;
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
        from.first = plane + (at.row * w->step[1] - w->before[1]) * from.row + (at.column * w->step[2] - w->before[2]) * from.column;
    } else
        find_cells(t, w, plane, at, zeros, pixel);
    transform(&from, channels, to, point_pitch);
}

void FN(transform_tiles)(const struct tiles *t, const real *x, long first, long count, long tap, long channel, long channels, char *scratch, real *to,
                         long pitch, long point_pitch)
{
    static transform_function *const inputs[2][7] = {
        {NULL, input_2_3, input_4_3, input_3_2, input_2_3_strided, input_3_4_strided, input_2_5},
        {NULL, flat_input_2_3, flat_input_4_3, flat_input_3_2, flat_input_2_3_strided, flat_input_3_4_strided, flat_input_2_5}};
    static transform_function *const gradients[2][7] = {{NULL, gradient_2_3, gradient_4_3, NULL, NULL, NULL, gradient_2_5},
                                                        {NULL, flat_gradient_2_3, flat_gradient_4_3, NULL, NULL, NULL, flat_gradient_2_5}};
    transform_function *const transform = (t->reach == t->m ? gradients : inputs)[t->flat][t->kind];
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
        run = t->in_place ? 1 : min_long(min_long(count - i, tiles_of_run(t)), t->columns - (first + i) % t->columns);
        if (t->in_place)
            transform_in_place(t, &map, transform, at, channel, channels, zeros, to + i * pitch, point_pitch);
        else
            transform_run(t, &map, transform, at, run, channel, channels, zeros, (real *)(scratch + zero_bytes(t)), to + i * pitch, pitch, point_pitch);
    }
}
