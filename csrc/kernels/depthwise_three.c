/* depthwise_three.c: depthwise.c's product for windows of 3 x 3 neighbours, a step of one or two, channels side by side in x and y.
 *
 * Lanes are channels. A few outputs of one or two rows are computed at once: the weights of all taps stay in registers, every pixel that they see is read
 * once, from x itself; windows that reach over a border, and channels that fill no vector, come from a small copy. Sums run in depthwise.c's order. */
#include "depthwise.h"

#include "../base/problem.h"

enum { ACROSS = 4, DOWN = TILE_ROWS > 6 ? 2 : 1 }; /* outputs at once, of a row and in rows: as many as registers allow */
enum { BAND = 8, SLICE = 16 * LINE, TAPS = 9 };    /* rows and channels of a block */

struct plan {
    const struct product *p;
    const real *x, *bias;
    real *y, *packed; /* packed[vector of channels][tap, the last for the bias][LANES] */
    long bands, slices;
};

static size_t packed_bytes(const struct product *p) { return (size_t)(divide_up(p->groups, LANES) * (TAPS + 1) * LANES) * sizeof(real); }

int FN(depthwise_three_take)(const struct product *p)
{
    const struct windows *v = &p->in;
    return p->x_group == 1 && p->y_group == 1 && v->taps[0] == 1 && v->taps[1] == 3 && v->taps[2] == 3 && v->spread[1] == 1 && v->spread[2] == 1 &&
           v->step[1] == v->step[2] && v->step[2] <= 2;
}

size_t FN(depthwise_three_scratch)(const struct product *p) { return packed_bytes(p); }

static void pack(const struct plan *s, const real *w)
{
    const struct product *p = s->p;
    for (long c = 0; c < round_up(p->groups, LANES); c++) {
        real *to = s->packed + c / LANES * (TAPS + 1) * LANES + c % LANES;
        for (int t = 0; t < TAPS; t++)
            to[t * LANES] = c < p->groups ? w[c * p->w_group + t / 3 * p->w[3] + t % 3 * p->w[4]] : 0;
        to[TAPS * LANES] = s->bias && c < p->groups ? s->bias[c] : 0;
    }
}

/* Compilers would keep a pointer to every pixel of a window, on the stack. */
#define KEEP_ONE_POINTER(p) __asm__("" : "+r"(p))

/* Where a window's first pixel lies, and its neighbours. */
struct pixels {
    const real *first;
    long row, pixel;
};

/* rows x outputs sums of a vector of channels, to y. */
ALWAYS_INLINE void compute_cells(struct pixels in, const real *w, const int rows, const int outputs, const int step, const int biased, const int relu,
                                 real *y, long y_row, long y_pixel, long valid)
{
    vec sum[DOWN * ACROSS], weight[TAPS];
    UNROLL for (int t = 0; t < TAPS; t++)
        weight[t] = vec_load(w + t * LANES);
    UNROLL for (int q = 0; q < rows * outputs; q++)
        sum[q] = (vec){0};
    UNROLL for (int i = 0; i < (rows - 1) * step + 3; i++, in.first += in.row) {
        KEEP_ONE_POINTER(in.first);
        UNROLL for (int j = 0; j < (outputs - 1) * step + 3; j++) {
            const vec x = vec_load(in.first + j * in.pixel);
            UNROLL for (int q = 0; q < rows * outputs; q++) {
                const int h = i - q / outputs * step, r = j - q % outputs * step;
                if (h >= 0 && h < 3 && r >= 0 && r < 3)
                    sum[q] = vec_madd(weight[h * 3 + r], x, sum[q]);
            }
        }
    }
    const vec bias = vec_load(w + TAPS * LANES);
    UNROLL for (int q = 0; q < rows * outputs; q++) {
        vec v = sum[q];
        if (biased)
            v = v + bias;
        if (relu)
            v = vec_max((vec){0}, v);
        if (q && q % outputs == 0)
            y += y_row;
        KEEP_ONE_POINTER(y);
        vec_put(y + q % outputs * y_pixel, v, valid);
    }
}

/* Where the pixels of windows lie in a plane that begin at pixel (h, q): -1 where there is none. */
static void find_pixels(const struct windows *v, int plane, long h, long q, int rows, int columns, long *at)
{
    for (int i = 0; i < rows; i++) {
        const long row = plane ? cnn_source(v->mode, h + i, v->in[1]) : -1;
        for (int j = 0; j < columns; j++) {
            const long pixel = cnn_source(v->mode, q + j, v->in[2]);
            *at++ = row < 0 || pixel < 0 ? -1 : row * v->stride[3] + pixel * v->stride[4];
        }
    }
}

/* rows x outputs cells of all channels of a slice, the first one at (h, q). */
ALWAYS_INLINE void compute_slice(const struct plan *s, const real *plane, long channels, const real *w, long h, long q, const int rows, const int outputs,
                                 const int step, real *y)
{
    const struct windows *v = &s->p->in;
    const int high = (rows - 1) * step + 3, wide = (outputs - 1) * step + 3, biased = s->bias != NULL, relu = s->p->activation == CNN_RELU;
    const long top = h * step - v->before[1], left = q * step - v->before[2], y_row = s->p->y[3], y_pixel = s->p->y[4];
    const int inside = plane && top >= 0 && top + high <= v->in[1] && left >= 0 && left + wide <= v->in[2];
    struct pixels in = {.row = v->stride[3], .pixel = v->stride[4]};
    long c = 0;
    if (inside)
        for (in.first = plane + top * in.row + left * in.pixel; c + LANES <= channels; c += LANES, in.first += LANES, w += (TAPS + 1) * LANES) {
            compute_cells(in, w, rows, outputs, step, biased, relu, y + c, y_row, y_pixel, LANES);
            if (step == 1 && (LANES == LINE || c % LINE == 0))
                for (int i = 0; i < rows; i++)
                    for (int j = 1; j <= outputs; j++)
                        __builtin_prefetch(in.first + (high + i) * in.row + j * in.pixel, 0, 2); /* of the rows below, that come next */
        }
    if (c >= channels)
        return;
    enum { MOST = (2 * (DOWN - 1) + 3) * (2 * (ACROSS - 1) + 3) };
    real copy[MOST * LANES] __attribute__((aligned(64)));
    long at[MOST];
    find_pixels(v, plane != NULL, top, left, high, wide, at);
    for (; c < channels; c += LANES, w += (TAPS + 1) * LANES) {
        const long valid = min_long(LANES, channels - c);
        if (valid == LANES)
            for (int i = 0; i < high * wide; i++)
                vec_store(copy + i * LANES, at[i] < 0 ? (vec){0} : vec_load(plane + at[i] + c));
        else
            for (int i = 0; i < high * wide; i++)
                vec_store(copy + i * LANES, at[i] < 0 ? (vec){0} : vec_load_part(plane + at[i] + c, valid));
        compute_cells((struct pixels){copy, wide * LANES, LANES}, w, rows, outputs, step, biased, relu, y + c, y_row, y_pixel, valid);
    }
}

ALWAYS_INLINE void compute_rows(const struct plan *s, const real *plane, long channels, const real *w, long h, const int rows, const int step, real *y)
{
    const long columns = s->p->in.out[2];
    for (long q = 0; q < columns; q += ACROSS)
        if (columns >= ACROSS) {
            q = min_long(q, columns - ACROSS); /* cells that are written again get the same */
            compute_slice(s, plane, channels, w, h, q, rows, ACROSS, step, y + q * s->p->y[4]);
        } else
            for (long i = 0; i < rows; i++)
                for (q = 0; q < columns; q++)
                    compute_slice(s, plane, channels, w, h + i, q, 1, 1, step, y + i * s->p->y[3] + q * s->p->y[4]);
}

ALWAYS_INLINE void compute_band(const struct plan *s, const real *plane, long channels, const real *w, long begin, long end, const int step, real *y)
{
    for (long h = begin; h < end; h += DOWN) {
        real *row = y + h * s->p->y[3];
        if (h + DOWN <= end)
            compute_rows(s, plane, channels, w, h, DOWN, step, row);
        else
            compute_rows(s, plane, channels, w, h, 1, step, row);
    }
}

static void compute_block(void *context, long number, int worker)
{
    (void)worker;
    const struct plan *s = context;
    const struct windows *v = &s->p->in;
    const long first = number % s->slices * SLICE, band = number / s->slices % s->bands;
    const long d = number / s->slices / s->bands % v->out[0], image = number / s->slices / s->bands / v->out[0];
    const long from = cnn_source(v->mode, d * v->step[0] - v->before[0], v->in[0]), channels = min_long(SLICE, s->p->groups - first);
    const real *plane = from < 0 ? NULL : s->x + image * v->stride[0] + from * v->stride[2] + first;
    real *y = s->y + image * s->p->y[0] + d * s->p->y[2] + first;
    const real *w = s->packed + first * (TAPS + 1);
    const long begin = band * BAND, end = min_long(v->out[1], begin + BAND);
    if (v->step[2] == 1)
        compute_band(s, plane, channels, w, begin, end, 1, y);
    else
        compute_band(s, plane, channels, w, begin, end, 2, y);
}

void FN(depthwise_three)(const struct product *p, const real *x, const real *w, const real *bias, real *y, struct cnn_run *run)
{
    const struct windows *v = &p->in;
    struct plan s = {.p = p, .x = x, .bias = bias, .y = y, .packed = (real *)run->scratch};
    s.bands = divide_up(v->out[1], BAND), s.slices = divide_up(p->groups, SLICE);
    pack(&s, w);
    const double cells = (double)(v->images * v->out[0]) * (double)(v->out[1] * v->out[2]);
    cnn_parallel_for(run, v->images * v->out[0] * s.bands * s.slices, cells * (double)(p->groups * (TAPS + 4)) / 50, compute_block, &s);
}
