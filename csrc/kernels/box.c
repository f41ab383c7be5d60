#include "box.h"
#include "planes.h"

struct windows FN(conv_windows)(const struct cnn_conv *p)
{
    struct windows w = {.images = p->n, .channels = p->c / p->groups, .mode = p->padding_mode};
    for (int a = 0; a < 3; a++) {
        w.in[a] = p->in[a], w.out[a] = p->out[a], w.taps[a] = p->window[a];
        w.spread[a] = p->dilation[a], w.step[a] = p->stride[a], w.before[a] = p->before[a];
    }
    for (int i = 0; i < 5; i++)
        w.stride[i] = p->x[i];
    return w;
}

struct boxes FN(cut_boxes)(const struct windows *w, long cells, long channels, double reals)
{
    const long whole[4] = {w->images, w->out[0], w->out[1], w->out[2]};
    struct boxes b = {.total = 1};
    long size[4] = {1, 1, 1, 1};
    double input = (double)channels; /* reals under the box so far: grows axis by axis, the innermost first */
    long outputs = 1;
    for (int axis = 0; axis < 3; axis++)
        input *= (double)box_extent(w, axis, 1);
    for (int i = 3; i >= 0; i--) {
        const double one = i ? (double)box_extent(w, i - 1, 1) : 1, more = i ? (double)w->step[i - 1] : 1;
        const double room = (reals / (input / one) - one) / more + 1;
        long most = max_long(1, cells / outputs);
        if (room < (double)most)
            most = max_long(i == 3 ? min_long(whole[3], 2 * TILE_ROWS) : 1, (long)room);
        most = max_long(1, min_long(most, whole[i]));
        const long count = max_long(1, divide_up(whole[i], most));
        size[i] = max_long(1, divide_up(whole[i], count));
        outputs *= size[i];
        input = input / one * (one + (double)(size[i] - 1) * more);
        if (size[i] < whole[i])
            break;
    }
    for (int i = 0; i < 4; i++) {
        b.size[i] = size[i];
        b.count[i] = whole[i] > 0 ? divide_up(whole[i], size[i]) : 0;
        b.total *= b.count[i];
    }
    return b;
}

struct box FN(box_at)(const struct windows *w, const struct boxes *b, long index)
{
    const long whole[4] = {w->images, w->out[0], w->out[1], w->out[2]};
    long begin[4], size[4];
    for (int i = 3; i >= 0; i--) {
        begin[i] = index % b->count[i] * b->size[i];
        size[i] = min_long(b->size[i], whole[i] - begin[i]);
        index /= b->count[i];
    }
    return (struct box){begin[0], size[0], {begin[1], begin[2], begin[3]}, {size[1], size[2], size[3]}};
}

struct pitch FN(box_pitch)(const struct windows *w, long images, const long size[3], long pixel)
{
    struct pitch p = {.pixel = pixel};
    p.row = pixel * box_extent(w, 2, size[2]);
    p.plane = p.row * box_extent(w, 1, size[1]);
    p.image = p.plane * box_extent(w, 0, size[0]);
    p.size = p.image * images;
    return p;
}

enum { FETCH = 16 * LINE }; /* reals that are asked for ahead of a copy */

/* The last vector begins early. */
static void copy_reals(const real *from, long n, real *to)
{
    for (long i = 0; i + LANES <= n; i += LANES)
        vec_store(to + i, vec_load(from + i));
    if (n < LANES)
        for (long i = 0; i < n; i++)
            to[i] = from[i];
    else if (n % LANES)
        vec_store(to + n - LANES, vec_load(from + n - LANES));
}

static void zero_pixels(real *to, long pixels, long pitch, long channels)
{
    if (pitch == channels) {
        memset(to, 0, (size_t)(pixels * channels) * sizeof(real));
        return;
    }
    for (long i = 0; i < pixels; i++)
        memset(to + i * pitch, 0, (size_t)channels * sizeof(real));
}

/* `pixels` neighbouring cells of a row that lie inside the image. */
static void copy_pixels(const struct windows *w, const real *from, long pixels, long channels, long pitch, real *to)
{
    const long dc = w->stride[1], dw = w->stride[4];
    if (dc == 1 && dw == channels && pitch == channels)
        copy_reals(from, pixels * channels, to);
    else if (channels == 1 && pitch == 1 && dw == 1)
        copy_reals(from, pixels, to);
    else if (channels == 1)
        for (long i = 0; i < pixels; i++)
            to[i * pitch] = from[i * dw];
    else if (dc == 1 && channels >= LANES) {
        const long ahead = max_long(1, FETCH / channels) * dw; /* jumps that the hardware does not follow */
        for (long i = 0; i < pixels; i++) {
            for (long c = 0; c < channels; c += LINE)
                __builtin_prefetch(from + i * dw + ahead + c);
            copy_reals(from + i * dw, channels, to + i * pitch);
        }
    } else if (dc == 1)
        for (long i = 0; i < pixels; i++)
            vec_store_part(to + i * pitch, vec_load_part(from + i * dw, channels), channels);
    else
        FN(gather_cells)(from, dc, dw, pixels, channels, pitch, to);
}

static void copy_row(const struct windows *w, const real *row, long first, long pixels, long channels, long pitch, real *to)
{
    if (w->mode != CNN_ZEROS) {
        for (long i = 0; i < pixels;) {
            const long source = cnn_source(w->mode, first + i, w->in[2]);
            long run = 1;
            if (first + i == source)
                run = min_long(pixels - i, w->in[2] - source);
            copy_pixels(w, row + source * w->stride[4], run, channels, pitch, to + i * pitch);
            i += run;
        }
        return;
    }
    const long left = min_long(pixels, max_long(0, -first));
    const long inside = max_long(0, min_long(pixels - left, w->in[2] - (first + left)));
    zero_pixels(to, left, pitch, channels);
    copy_pixels(w, row + (first + left) * w->stride[4], inside, channels, pitch, to + left * pitch);
    zero_pixels(to + (left + inside) * pitch, pixels - left - inside, pitch, channels);
}

/* Row h of a plane that lies at `plane`; it is NULL outside the image. */
static void copy_box_row(const struct windows *w, const struct box *b, const real *plane, long channels, long h, long pitch, real *to)
{
    const long row = cnn_source(w->mode, b->begin[1] * w->step[1] - w->before[1] + h, w->in[1]), pixels = box_extent(w, 2, b->size[2]);
    if (!plane || row < 0)
        zero_pixels(to, pixels, pitch, channels);
    else
        copy_row(w, plane + row * w->stride[3], b->begin[2] * w->step[2] - w->before[2], pixels, channels, pitch, to);
}

/* Rows [top, bottom) of a plane whose rows are contiguous and whose channels are not neighbours, filled with zeros. */
static void copy_contiguous(const struct windows *w, const struct box *b, const real *plane, long channels, long top, long bottom, struct pitch p, real *to)
{
    const long first[2] = {b->begin[1] * w->step[1] - w->before[1] + top, b->begin[2] * w->step[2] - w->before[2]};
    const long size[2] = {bottom - top, box_extent(w, 2, b->size[2])};
    long begin[2], count[2]; /* what is inside */
    for (int a = 0; a < 2; a++) {
        begin[a] = min_long(size[a], max_long(0, -first[a]));
        count[a] = max_long(0, min_long(size[a] - begin[a], w->in[1 + a] - (first[a] + begin[a])));
    }
    const long right = begin[1] + count[1];
    for (long h = 0; h < size[0]; h++)
        if (h < begin[0] || h >= begin[0] + count[0])
            zero_pixels(to + h * p.row, size[1], p.pixel, channels);
        else {
            zero_pixels(to + h * p.row, begin[1], p.pixel, channels);
            zero_pixels(to + h * p.row + right * p.pixel, size[1] - right, p.pixel, channels);
        }
    if (count[0] > 0 && count[1] > 0)
        FN(gather_rows)(plane + (first[0] + begin[0]) * w->stride[3] + first[1] + begin[1], w->stride[1], w->stride[3], count[0], count[1], channels, p.pixel,
                        p.row, to + begin[0] * p.row + begin[1] * p.pixel);
}

/* Rows [top, bottom) of plane d of image n. */
static void copy_plane(const struct windows *w, const struct box *b, const real *x, long channels, long n, long d, long top, long bottom, struct pitch p, real *to)
{
    const long from = cnn_source(w->mode, b->begin[0] * w->step[0] - w->before[0] + d, w->in[0]);
    const real *plane = from < 0 ? NULL : x + (b->image + n) * w->stride[0] + from * w->stride[2];
    if (plane && w->mode == CNN_ZEROS && w->stride[4] == 1 && w->stride[1] != 1 && channels >= LANES)
        copy_contiguous(w, b, plane, channels, top, bottom, p, to);
    else
        for (long h = top; h < bottom; h++)
            copy_box_row(w, b, plane, channels, h, p.pixel, to + (h - top) * p.row);
}

void FN(box_copy_rows)(const struct windows *w, const struct box *b, const real *x, long channel, long channels, long first, long last, struct pitch p,
                       real *to)
{
    const long planes = box_extent(w, 0, b->size[0]), rows = box_extent(w, 1, b->size[1]);
    for (long i = first, end; i < last; i = end) {
        const long plane = i / rows;
        end = min_long(last, (plane + 1) * rows);
        copy_plane(w, b, x + channel * w->stride[1], channels, plane / planes, plane % planes, i - plane * rows, end - plane * rows, p, to + (i - first) * p.row);
    }
}

void FN(box_copy)(const struct windows *w, const struct box *b, const real *x, long channel, long channels, struct pitch p, real *to)
{
    const long planes = box_extent(w, 0, b->size[0]), rows = box_extent(w, 1, b->size[1]);
    for (long n = 0; n < b->images; n++)
        for (long d = 0; d < planes; d++)
            copy_plane(w, b, x + channel * w->stride[1], channels, n, d, 0, rows, p, to + n * p.image + d * p.plane);
}
