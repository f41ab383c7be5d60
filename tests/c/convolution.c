/* convolution.c: convolutions whose geometry is read from bytes, against naive loops, without Python.
 *
 *     convolution PROBLEMS THREADS [SEED]   random problems; prints how many were tried and how many were wrong
 *
 * Or, compiled with FUZZER defined and clang's -fsanitize=fuzzer, the target that the fuzzer feeds. Operands are small whole numbers, so
 * every sum that is no Winograd transform is exact. Arrays have exactly their size: a sanitizer sees each read or write beyond, and what is not
 * written stays NaN. The kernels are those of one variant (real.h: float, base), compiled beside this file, and parallel.c with its loop renamed:
 * the one below takes its place and lets threads share the shortest loops, so that a race detector sees them. PLANTED: one result is wrong. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../csrc/kernels/ops.h"

void pool_parallel_for(struct cnn_run *run, long blocks, double work, cnn_block *fn, void *context);
void cnn_parallel_for(struct cnn_run *run, long blocks, double work, cnn_block *fn, void *context)
{
    (void)work;
    pool_parallel_for(run, blocks, 1e9, fn, context);
}

static const uint8_t *input, *input_end;
static int threads = 2;

/* A number of 0 .. most from the input; 0 when it is used up. */
static long take(long most) { return input < input_end ? *input++ % (most + 1) : 0; }

static double number(void) { return (double)(take(8) - 4); }

static long volume(const long *size, int count)
{
    long all = 1;
    for (int i = 0; i < count; i++)
        all *= size[i];
    return all;
}

/* An array of five axes in C order, or with the second axis last; its strides. */
static float *array_of(const long size[5], long stride[5], int second_last, int filled)
{
    static const int orders[2][5] = {{4, 3, 2, 1, 0}, {1, 4, 3, 2, 0}};
    long step = 1;
    for (int i = 0; i < 5; i++) {
        stride[orders[second_last][i]] = step;
        step *= size[orders[second_last][i]];
    }
    float *array = malloc((size_t)step * sizeof(float));
    for (long i = 0; array && i < step; i++)
        array[i] = filled ? (float)number() : NAN;
    return array;
}

static long at(const long stride[5], long a, long b, const long cell[3])
{
    return a * stride[0] + b * stride[1] + cell[0] * stride[2] + cell[1] * stride[3] + cell[2] * stride[4];
}

/* The next cell of a box, in scan order; 0 after the last. */
static int next(long cell[3], const long size[3])
{
    for (int a = 2; a >= 0; a--) {
        if (++cell[a] < size[a])
            return 1;
        cell[a] = 0;
    }
    return 0;
}

struct wanted { double *y, *dx, *dw, *db, *size; }; /* in C order; size: the largest sum of absolute products that enters a cell */

static void naive(const struct cnn_conv *p, const float *x, const float *w, const float *b, const float *dy, struct wanted *want)
{
    const long cg = p->c / p->groups, kg = p->k / p->groups, out_cells = volume(p->out, 3), in_cells = volume(p->in, 3), taps = volume(p->window, 3);
    for (long n = 0; n < p->n; n++)
        for (long k = 0; k < p->k; k++) {
            long o[3] = {0};
            do {
                const long out = (o[0] * p->out[1] + o[1]) * p->out[2] + o[2];
                const double g = dy[at(p->y, n, k, o)];
                double sum = b ? b[k] : 0, size = 0;
                want->db[k] += g;
                for (long c = 0; c < cg; c++) {
                    long r[3] = {0};
                    do {
                        long cell[3];
                        int inside = 1, real = 1;
                        for (int a = 0; a < 3; a++) {
                            const long i = o[a] * p->stride[a] + r[a] * p->dilation[a] - p->before[a];
                            inside &= i >= 0 && i < p->in[a];
                            cell[a] = cnn_source(p->padding_mode, i, p->in[a]);
                            real &= cell[a] >= 0;
                        }
                        const long channel = k / kg * cg + c, tap = (r[0] * p->window[1] + r[1]) * p->window[2] + r[2];
                        const double weight = w[at(p->w, k, c, r)], value = real ? x[at(p->x, n, channel, cell)] : 0;
                        sum += weight * value, size += fabs(weight * value);
                        want->dw[(k * cg + c) * taps + tap] += g * value;
                        if (inside)
                            want->dx[(n * p->c + channel) * in_cells + (cell[0] * p->in[1] + cell[1]) * p->in[2] + cell[2]] += g * weight;
                    } while (next(r, p->window));
                }
                want->y[(n * p->k + k) * out_cells + out] = p->activation == CNN_RELU && sum < 0 ? 0 : sum;
                *want->size = fmax(*want->size, size);
            } while (next(o, p->out));
        }
}

static long differing(const float *ours, const long stride[5], const double *right, long first, long second, const long size[3], double bound)
{
    long wrong = 0, i = 0;
    for (long a = 0; a < first; a++)
        for (long b = 0; b < second; b++) {
            long cell[3] = {0};
            do {
                wrong += !(fabs((double)ours[at(stride, a, b, cell)] - right[i++]) <= bound);
            } while (next(cell, size));
        }
    return wrong;
}

static void call(cnn_entry *entry, cnn_scratch *scratch, const struct cnn_conv *p, void *const *arrays)
{
    const size_t bytes = scratch(p, threads);
    char *memory = bytes ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
    if (bytes && !memory)
        abort();
    struct cnn_run run = {.workers = threads, .scratch = memory ? memory : cnn_no_scratch};
    entry(p, arrays, &run);
    free(memory);
}

/* One problem from the input: the number of wrong cells, or -1 where the bytes describe none. */
static long try_one(void)
{
    struct cnn_conv p = {.groups = 1 + take(2), .n = 1 + take(2)};
    const long wide = take(15) == 0 ? 40 : 6; /* more than a vector of channels, seldom: the naive loops take their time */
    p.c = p.groups * (1 + take(wide)), p.k = p.groups * (1 + take(wide));
    if (take(7) == 0)
        p.groups = p.k = p.c; /* depthwise */
    const long flat = 1 + take(1); /* axes in front that have one cell */
    for (int a = 0; a < 3; a++) {
        const int used = a >= flat;
        p.window[a] = used ? 1 + take(3) : 1, p.stride[a] = used ? 1 + take(2) : 1, p.dilation[a] = used ? 1 + take(1) : 1;
        const long extent = (p.window[a] - 1) * p.dilation[a] + 1, after = used ? take(extent) : 0;
        p.in[a] = used ? 1 + take(19) : 1;
        p.before[a] = used ? take(extent) : 0;
        if (p.in[a] + p.before[a] + after < extent)
            return -1;
        p.out[a] = (p.in[a] + p.before[a] + after - extent) / p.stride[a] + 1;
    }
    p.padding_mode = take(1) ? CNN_ZEROS : (int)take(4);
    p.algorithm = (int)take(2);
    const int relu = (int)take(1), with_bias = (int)take(1), orders = (int)take(7);
    const long x_size[5] = {p.n, p.c, p.in[0], p.in[1], p.in[2]}, y_size[5] = {p.n, p.k, p.out[0], p.out[1], p.out[2]};
    const long w_size[5] = {p.k, p.c / p.groups, p.window[0], p.window[1], p.window[2]}, one[3] = {1, 1, 1}, line[5] = {1, 0, 0, 0, 0};
    float *x = array_of(x_size, p.x, orders & 1, 1), *w = array_of(w_size, p.w, orders >> 2, 1), *dy = array_of(y_size, p.y, orders >> 1 & 1, 1);
    long ignored[5];
    float *y = array_of(y_size, ignored, 0, 0), *dx = array_of(x_size, ignored, 0, 0), *dw = array_of(w_size, ignored, 0, 0);
    const long filters[5] = {p.k, 1, 1, 1, 1};
    float *bias = array_of(filters, ignored, 0, 1), *db = array_of(filters, ignored, 0, 0);
    double size = 0;
    struct wanted want = {.size = &size};
    want.y = calloc((size_t)volume(y_size, 5), sizeof(double)), want.dx = calloc((size_t)volume(x_size, 5), sizeof(double));
    want.dw = calloc((size_t)volume(w_size, 5), sizeof(double)), want.db = calloc((size_t)p.k, sizeof(double));

    p.activation = relu ? CNN_RELU : CNN_LINEAR;
    naive(&p, x, w, with_bias ? bias : NULL, dy, &want);
    call(FN(conv_forward), FN(conv_forward_scratch), &p, (void *[]){x, w, with_bias ? bias : NULL, y});
#ifdef PLANTED
    want.dw[0] += 1;
#endif
    p.activation = CNN_LINEAR;
    call(FN(conv_backward_weight), FN(conv_backward_weight_scratch), &p, (void *[]){x, dy, dw, db});
    const int zeros = p.padding_mode == CNN_ZEROS;
    if (zeros)
        call(FN(conv_backward_input), FN(conv_backward_input_scratch), &p, (void *[]){dy, w, NULL, dx});
    /* Whole numbers below 2^24 are exact; transforms round, by at most a few times the unit roundoff of the largest sum of products. */
    const double cells = (double)volume(y_size, 5), bound = p.algorithm == CNN_DIRECT ? 0 : 1e-4 * (1 + fmax(size, 16 * cells));
    long wrong = differing(y, p.y, want.y, p.n, p.k, p.out, bound);
    wrong += differing(dw, p.w, want.dw, p.k, p.c / p.groups, p.window, bound);
    wrong += differing(db, line, want.db, p.k, 1, one, 0);
    if (zeros)
        wrong += differing(dx, p.x, want.dx, p.n, p.c, p.in, bound);
    void *all[] = {x, w, dy, y, dx, dw, bias, db, want.y, want.dx, want.dw, want.db};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    if (wrong)
        fprintf(stderr, "%ld wrong: n %ld c %ld k %ld groups %ld, in %ldx%ldx%ld, window %ldx%ldx%ld, stride %ldx%ldx%ld, before %ldx%ldx%ld, mode %d, algorithm %d\n",
                wrong, p.n, p.c, p.k, p.groups, p.in[0], p.in[1], p.in[2], p.window[0], p.window[1], p.window[2], p.stride[0], p.stride[1],
                p.stride[2], p.before[0], p.before[1], p.before[2], p.padding_mode, p.algorithm);
    return wrong;
}

#ifdef FUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    input = data, input_end = data + bytes;
    if (try_one() > 0)
        abort();
    return 0;
}
#else
/* Eight bytes that say nothing about their neighbours: the finaliser of splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t mixed(uint64_t number)
{
    number *= 0x9e3779b97f4a7c15u;
    number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9u;
    number = (number ^ number >> 27) * 0x94d049bb133111ebu;
    return number ^ number >> 31;
}

int main(int argc, char **argv)
{
    const long problems = argc > 1 ? atol(argv[1]) : 1000;
    threads = argc > 2 ? atoi(argv[2]) : 2;
    uint64_t state = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    long tried = 0, wrong = 0;
    static uint64_t words[1 << 13];
    while (tried < problems) {
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            words[i] = mixed(state++);
        input = (const uint8_t *)words, input_end = input + sizeof words;
        const long result = try_one();
        tried += result >= 0, wrong += result > 0;
    }
    printf("%ld problems, %ld wrong\n", tried, wrong);
    return wrong != 0;
}
#endif
