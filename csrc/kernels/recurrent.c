/* recurrent.c: a layer of a recurrent network in one direction, and its gradients. What a step computes: cell.h.
 *
 * Forward walks the steps with one parallel loop a step. A block is one panel of units and up to ROW_BLOCK samples: it multiplies h by the
 * panels of all gates and finishes the units' arithmetic while the products are in the first cache. The products of x do not depend on the
 * state: every few steps a block makes them for the steps ahead, so that W_ih is read once for many rows.
 * Backward walks back: dh = dy + errors W_hh of the step after, and from it the step's errors; then dx, dw and db are single products over
 * all rows (recurrent_gradients.c). The errors of all steps are scratch; what forward keeps is in cell.h. Both overwrite. */
#include "recurrent.h"

static void describe(struct recurrent *s, const struct cnn_recurrent *p)
{
    s->p = p;
    s->gates = cell_gates(p->cell), s->kept = cell_kept(p->cell), s->errors = cell_errors(p->cell);
    s->outputs = p->projected ? p->projected : p->units;
    s->slices = panels_count(p->units), s->out_slices = panels_count(s->outputs);
    s->row_blocks = divide_up(p->samples, ROW_BLOCK);
    s->ahead = max_long(1, min_long(p->steps, AHEAD / max_long(1, p->samples)));
    s->uniform = p->packed == p->samples * p->steps;
}

static void find_starts(struct recurrent *s)
{
    long count = s->p->samples;
    s->start[0] = 0;
    for (long t = 0; t < s->p->steps; t++) {
        while (count > 0 && s->length[count - 1] <= t)
            count--;
        s->start[t + 1] = s->start[t] + count;
    }
}

/* Nanoseconds of a step's products on one thread: arithmetic, or with few rows the panels on their way from the second cache. */
static double step_work(double rows, double filters, double depth)
{
    const double weights = filters * depth;
    return weights * (rows < 4 ? 0.08 : rows / 50) + rows * filters * 2;
}

/* ---- forward ---- */

static size_t plan_forward(struct recurrent *s, const struct cnn_recurrent *p, int workers, char *scratch)
{
    struct layout l = {scratch, 0};
    describe(s, p);
    s->start = take(&l, p->steps + 1, sizeof(long));
    s->panels_ih = take_reals(&l, s->slices * s->gates * p->inputs * TILE_WIDTH);
    s->panels_hh = take_reals(&l, s->slices * s->gates * s->outputs * TILE_WIDTH);
    s->panels_hr = take_reals(&l, p->projected ? s->out_slices * p->units * TILE_WIDTH : 0);
    s->bias = take_reals(&l, s->slices * (s->gates + 1) * TILE_WIDTH);
    s->products = take_reals(&l, s->slices * s->row_blocks * s->ahead * min_long(ROW_BLOCK, p->samples) * s->gates * TILE_WIDTH);
    s->state_pitch = roomy(round_up(s->outputs, LANES)), s->memory_pitch = roomy(round_up(p->units, LANES));
    for (int i = 0; i < 2; i++)
        s->state[i] = take_reals(&l, p->samples * s->state_pitch);
    s->memory = take_reals(&l, p->projected ? p->samples * s->memory_pitch : 0);
    s->cell_state = take_reals(&l, p->cell == CNN_LSTM ? p->samples * p->units : 0);
    s->worker_reals = spaced_reals(ROW_BLOCK * s->gates * TILE_WIDTH);
    s->worker = take_reals(&l, workers * s->worker_reals);
    return l.used;
}

static void pack_slice(void *context, long slice, int worker)
{
    (void)worker;
    const struct recurrent *s = context;
    const struct cnn_recurrent *p = s->p;
    const long width = slice < s->slices ? width_at(s, slice) : 0;
    for (long g = 0; width && g < s->gates; g++) {
        const long row = g * p->units;
        pack_panel_of(s->w_ih + row * p->inputs, p->units, p->inputs, p->inputs, 1, slice,
                      s->panels_ih + (slice * s->gates + g) * p->inputs * TILE_WIDTH);
        pack_panel_of(s->w_hh + row * s->outputs, p->units, s->outputs, s->outputs, 1, slice,
                      s->panels_hh + (slice * s->gates + g) * s->outputs * TILE_WIDTH);
        /* a GRU's n takes the bias of q inside its bracket */
        const int apart = p->cell == CNN_GRU && g == 2;
        real *bias = s->bias + (slice * (s->gates + 1) + g) * TILE_WIDTH;
        for (long j = 0; j < TILE_WIDTH; j++) {
            const long unit = slice * TILE_WIDTH + j;
            const real a = s->b_ih && unit < p->units ? s->b_ih[row + unit] : 0, q = s->b_hh && unit < p->units ? s->b_hh[row + unit] : 0;
            bias[j] = apart ? a : a + q;
            if (apart)
                bias[TILE_WIDTH + j] = q;
        }
    }
    if (p->projected && slice < s->out_slices)
        pack_panel_of(s->w_hr, s->outputs, p->units, p->units, 1, slice, s->panels_hr + slice * p->units * TILE_WIDTH);
}

static void start_states(void *context, long i, int worker)
{
    (void)worker;
    const struct recurrent *s = context;
    const long units = s->p->units;
    for (long j = 0; j < s->outputs; j++)
        s->state[0][i * s->state_pitch + j] = s->h0 ? s->h0[s->order[i] * s->outputs + j] : 0;
    for (long j = 0; s->p->cell == CNN_LSTM && j < units; j++)
        s->cell_state[i * units + j] = s->c0 ? s->c0[s->order[i] * units + j] : 0;
}

/* Where the products of x for row i of a step lie, i counted within the row block. */
static real *product_at(const struct recurrent *s, long slice, long row_block, long ahead, long i)
{
    const long rows = min_long(ROW_BLOCK, s->p->samples);
    return s->products + (((slice * s->row_blocks + row_block) * s->ahead + ahead) * rows + i) * s->gates * TILE_WIDTH;
}

/* a = x W_ih' + b for the steps ahead. */
static void multiply_inputs(const struct recurrent *s, long slice, long row_block)
{
    const struct cnn_recurrent *p = s->p;
    const long first = row_block * ROW_BLOCK, width = width_at(s, slice), last = min_long(p->steps, s->step + s->ahead);
    const real *a[ROW_BLOCK];
    real *c[ROW_BLOCK], *to[ROW_BLOCK];
    long m = 0;
    for (long t = s->step; t < last; t++) {
        const long rows = min_long(ROW_BLOCK, count_at(s, t) - first);
        for (long i = 0; i < rows; i++) {
            a[m] = s->x + s->order[first + i] * p->x[0] + time_of(s, first + i, t) * p->x[1];
            to[m++] = product_at(s, slice, row_block, t - s->step, i);
            if (m < ROW_BLOCK && (i + 1 < rows || (t + 1 < last && count_at(s, t + 1) > first)))
                continue;
            for (long g = 0; g < s->gates; g++) {
                const real *bias = s->bias + (slice * (s->gates + 1) + g) * TILE_WIDTH;
                for (long r = 0; r < m; r++)
                    c[r] = to[r] + g * TILE_WIDTH;
                panel_product(a, m, p->inputs, s->panels_ih + (slice * s->gates + g) * p->inputs * TILE_WIDTH, width, c, 0, bias);
            }
            m = 0;
        }
    }
}

/* The arithmetic of `vectors` vectors of units for `rows` samples from `first` on, q[row][gate][TILE_WIDTH]. */
ALWAYS_INLINE void finish_vectors(const struct recurrent *s, const int cell, const int vectors, long slice, long row_block, long rows, const real *q)
{
    const struct cnn_recurrent *p = s->p;
    const long units = p->units, gates = cell_gates(cell), kept = cell_kept(cell), first = row_block * ROW_BLOCK, at = slice * TILE_WIDTH;
    const real *bias_n = s->bias + (slice * (gates + 1) + gates) * TILE_WIDTH;
    const real *a = product_at(s, slice, row_block, s->step % s->ahead, 0);
    for (long i = first; i < first + rows; i++, a += gates * TILE_WIDTH, q += gates * TILE_WIDTH) {
        const long row = s->start[s->step] + i, n = s->order[i];
        const int last = s->step == s->length[i] - 1;
        const real *before = s->state[s->step & 1] + i * s->state_pitch + at;
        real *after = (p->projected ? s->memory + i * s->memory_pitch : s->state[~s->step & 1] + i * s->state_pitch) + at;
        real *y = p->projected ? NULL : s->y + n * p->y[0] + time_of(s, i, s->step) * p->y[1] + at, *c = s->cell_state + i * units + at;
        real *kept_cell = s->cell ? s->cell + row * units + at : NULL, *kept_gate = s->gate ? s->gate + row * kept * units + at : NULL;
        struct cell x[TILE_VECTORS];
        UNROLL for (int j = 0; j < vectors; j++) {
            const long v = j * LANES, lanes = min_long(LANES, units - at - v);
            vec av[4], qv[4];
            UNROLL for (long g = 0; g < gates; g++)
                av[g] = vec_load(a + g * TILE_WIDTH + v), qv[g] = vec_load(q + g * TILE_WIDTH + v);
            if (cell == CNN_LSTM)
                x[j].c = vec_get(c + v, lanes);
            if (cell == CNN_GRU)
                x[j].h = vec_get(before + v, lanes);
            cell_forward_gates(&x[j], cell, av, qv, cell == CNN_GRU ? vec_load(bias_n + v) : (vec){0});
        }
        UNROLL for (int j = 0; j < vectors; j++)
            cell_forward_output(&x[j], cell);
        UNROLL for (int j = 0; j < vectors; j++) {
            const long v = j * LANES, stored = lanes_stored(min_long(LANES, units - at - v));
            vec_put(after + v, x[j].h, stored);
            if (y)
                vec_put(y + v, x[j].h, stored);
            if (y && last)
                vec_put(s->h_n + n * units + at + v, x[j].h, stored);
            if (cell == CNN_LSTM) {
                vec_put(c + v, x[j].c, stored);
                if (last)
                    vec_put(s->c_n + n * units + at + v, x[j].c, stored);
                if (kept_cell)
                    vec_put(kept_cell + v, x[j].c, stored);
            }
            if (kept && kept_gate)
                UNROLL for (long k = 0; k < kept; k++)
                    vec_put(kept_gate + k * units + v, x[j].kept[k], stored);
        }
    }
}

ALWAYS_INLINE void finish_units(const struct recurrent *s, const int cell, long slice, long row_block, long rows, const real *q)
{
    if (s->p->units - slice * TILE_WIDTH > LANES)
        finish_vectors(s, cell, TILE_VECTORS, slice, row_block, rows, q);
    else
        finish_vectors(s, cell, 1, slice, row_block, rows, q);
}
/* One function a kind: its constants stay in registers over all rows. */
#define FINISH_UNITS(name, cell)                                                                                                        \
    static __attribute__((noinline)) void units_##name(const struct recurrent *s, long slice, long row_block, long rows, const real *q) \
    {                                                                                                                                   \
        finish_units(s, cell, slice, row_block, rows, q);                                                                               \
    }
FINISH_UNITS(tanh, CNN_RNN_TANH)
FINISH_UNITS(relu, CNN_RNN_RELU)
FINISH_UNITS(lstm, CNN_LSTM)
FINISH_UNITS(gru, CNN_GRU)

static void step_block(void *context, long block, int worker)
{
    const struct recurrent *s = context;
    const struct cnn_recurrent *p = s->p;
    const long slice = block / s->row_blocks, row_block = block % s->row_blocks, first = row_block * ROW_BLOCK;
    const long rows = min_long(ROW_BLOCK, count_at(s, s->step) - first), width = width_at(s, slice), stride = s->gates * TILE_WIDTH;
    if (rows <= 0)
        return;
    if (s->step % s->ahead == 0)
        multiply_inputs(s, slice, row_block);
    real *q = s->worker + worker * s->worker_reals;
    const real *a[ROW_BLOCK];
    real *c[ROW_BLOCK];
    for (long i = 0; i < rows; i++)
        a[i] = s->state[s->step & 1] + (first + i) * s->state_pitch;
    for (long g = 0; g < s->gates; g++) {
        for (long i = 0; i < rows; i++)
            c[i] = q + i * stride + g * TILE_WIDTH;
        panel_product(a, rows, s->outputs, s->panels_hh + (slice * s->gates + g) * s->outputs * TILE_WIDTH, width, c, 0, NULL);
    }
    switch (p->cell) {
    case CNN_LSTM: units_lstm(s, slice, row_block, rows, q); break;
    case CNN_GRU: units_gru(s, slice, row_block, rows, q); break;
    case CNN_RNN_RELU: units_relu(s, slice, row_block, rows, q); break;
    default: units_tanh(s, slice, row_block, rows, q);
    }
}

/* h = m W_hr' */
static void project_block(void *context, long block, int worker)
{
    const struct recurrent *s = context;
    const struct cnn_recurrent *p = s->p;
    const long slice = block / s->row_blocks, first = block % s->row_blocks * ROW_BLOCK, rows = min_long(ROW_BLOCK, count_at(s, s->step) - first);
    const long width = panels_width(s->outputs, slice), valid = min_long(width, s->outputs - slice * TILE_WIDTH);
    if (rows <= 0)
        return;
    real *q = s->worker + worker * s->worker_reals;
    const real *a[ROW_BLOCK];
    real *c[ROW_BLOCK];
    for (long i = 0; i < rows; i++)
        a[i] = s->memory + (first + i) * s->memory_pitch, c[i] = q + i * TILE_WIDTH;
    panel_product(a, rows, p->units, s->panels_hr + slice * p->units * TILE_WIDTH, width, c, 0, NULL);
    for (long r = 0; r < rows; r++) {
        const long i = first + r, n = s->order[i], at = slice * TILE_WIDTH;
        memcpy(s->state[~s->step & 1] + i * s->state_pitch + at, c[r], (size_t)valid * sizeof(real));
        memcpy(s->y + n * p->y[0] + time_of(s, i, s->step) * p->y[1] + at, c[r], (size_t)valid * sizeof(real));
        if (s->step == s->length[i] - 1)
            memcpy(s->h_n + n * s->outputs + at, c[r], (size_t)valid * sizeof(real));
    }
}

size_t FN(recurrent_forward_scratch)(const void *problem, int workers)
{
    struct recurrent s;
    return plan_forward(&s, problem, workers, cnn_no_scratch);
}

void FN(recurrent_forward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_recurrent *p = problem;
    struct recurrent s = {0};
    plan_forward(&s, p, run->workers, run->scratch);
    s.x = array[0], s.w_ih = array[1], s.w_hh = array[2], s.b_ih = array[3], s.b_hh = array[4], s.w_hr = array[5], s.h0 = array[6], s.c0 = array[7];
    s.order = array[8], s.length = array[9], s.y = array[10], s.h_n = array[11], s.c_n = array[12], s.gate = array[13], s.cell = array[14];
    find_starts(&s);
    const double weights = (double)(s.gates * p->units) * (double)(p->inputs + s.outputs);
    cnn_parallel_for(run, max_long(s.slices, s.out_slices), weights / 4, pack_slice, &s);
    cnn_parallel_for(run, p->samples, (double)(p->samples * (s.outputs + p->units)) / 4, start_states, &s);
    for (s.step = 0; s.step < p->steps && !run->stopped; s.step++) {
        const double count = (double)count_at(&s, s.step), ahead = s.step % s.ahead ? 0 : (double)s.ahead;
        const double work = step_work(count, (double)(s.gates * p->units), (double)s.outputs) +
                            count * ahead * (double)(s.gates * p->units) * (double)p->inputs / 50;
        cnn_parallel_for(run, s.slices * s.row_blocks, work, step_block, &s);
        if (p->projected)
            cnn_parallel_for(run, s.out_slices * s.row_blocks, step_work(count, (double)s.outputs, (double)p->units), project_block, &s);
    }
}

/* ---- backward ---- */

/* Returns the scratch without that of the products over all rows, which begins at *engine. */
static size_t plan_backward(struct recurrent *s, const struct cnn_recurrent *p, int workers, char *scratch, size_t *engine)
{
    struct layout l = {scratch, 0};
    describe(s, p);
    s->start = take(&l, p->steps + 1, sizeof(long));
    s->panels_hh = take_reals(&l, s->out_slices * s->gates * p->units * TILE_WIDTH);
    s->panels_hr = take_reals(&l, p->projected ? s->slices * s->outputs * TILE_WIDTH : 0);
    s->errors_pitch = roomy(s->errors * p->units);
    s->errors_all = take_reals(&l, p->packed * s->errors_pitch);
    s->h_before = take_reals(&l, p->packed * s->outputs);
    s->x_rows = take_reals(&l, s->uniform ? 0 : p->packed * p->inputs);
    s->dh_all = take_reals(&l, p->projected ? p->packed * s->outputs : 0);
    s->m_all = take_reals(&l, p->projected ? p->packed * p->units : 0);
    s->dc = take_reals(&l, p->cell == CNN_LSTM ? p->samples * p->units : 0);
    s->carry = take_reals(&l, p->cell == CNN_GRU ? p->samples * p->units : 0);
    s->worker_reals = spaced_reals(ROW_BLOCK * TILE_WIDTH);
    s->worker = take_reals(&l, workers * s->worker_reals);
    *engine = l.used;
    return *engine + FN(recurrent_gradients_scratch)(s, workers);
}

/* W_hh with the units of the outputs as filters, gates in the order of the errors. */
static void pack_slice_backward(void *context, long slice, int worker)
{
    (void)worker;
    const struct recurrent *s = context;
    const struct cnn_recurrent *p = s->p;
    if (slice < s->out_slices) {
        const long width = panels_width(s->outputs, slice);
        for (long g = 0; g < s->gates; g++) {
            const long place = p->cell == CNN_GRU ? (g + 1) % 3 : g;
            pack_panel_of(s->w_hh + g * p->units * s->outputs, s->outputs, p->units, 1, s->outputs, slice,
                          s->panels_hh + slice * s->gates * p->units * TILE_WIDTH + place * p->units * width);
        }
    }
    if (p->projected && slice < s->slices)
        pack_panel_of(s->w_hr, p->units, s->outputs, 1, p->units, slice, s->panels_hr + slice * s->outputs * TILE_WIDTH);
}

/* h before every packed row, and x where rows have lengths. */
static void gather_step(void *context, long t, int worker)
{
    (void)worker;
    const struct recurrent *s = context;
    const struct cnn_recurrent *p = s->p;
    for (long i = 0; i < count_at(s, t); i++) {
        const long row = s->start[t] + i, n = s->order[i];
        real *h = s->h_before + row * s->outputs;
        if (t > 0)
            memcpy(h, s->saved_y + n * p->y[0] + time_of(s, i, t - 1) * p->y[1], (size_t)s->outputs * sizeof(real));
        else if (s->h0)
            memcpy(h, s->h0 + n * s->outputs, (size_t)s->outputs * sizeof(real));
        else
            memset(h, 0, (size_t)s->outputs * sizeof(real));
        if (!s->uniform)
            memcpy(s->x_rows + row * p->inputs, s->x + n * p->x[0] + time_of(s, i, t) * p->x[1], (size_t)p->inputs * sizeof(real));
    }
}

/* The errors of a panel of units for `rows` samples from `first` on, dh[row][TILE_WIDTH]. */
ALWAYS_INLINE void finish_errors(const struct recurrent *s, const int cell, long slice, long first, long rows, const real *dh)
{
    const struct cnn_recurrent *p = s->p;
    const long units = p->units, kept = cell_kept(cell), errors = cell_errors(cell), at = slice * TILE_WIDTH;
    const long vectors = divide_up(min_long(TILE_WIDTH, units - at), LANES);
    for (long i = first; i < first + rows; i++, dh += TILE_WIDTH) {
        const long row = s->start[s->step] + i, n = s->order[i];
        const int last = s->step == s->length[i] - 1;
        const real *y = s->saved_y + n * p->y[0] + time_of(s, i, s->step) * p->y[1] + at, *gate = s->saved_gate + row * kept * units + at;
        const real *cells = s->saved_cell + row * units + at, *h = s->h_before + row * units + at;
        const real *before = s->step > 0 ? s->saved_cell + (s->start[s->step - 1] + i) * units + at : s->c0 ? s->c0 + n * units + at : NULL;
        const real *dc = !last ? s->dc + i * units + at : s->dc_n ? s->dc_n + n * units + at : NULL;
        real *to = s->errors_all + row * s->errors_pitch + at;
        for (long v = 0; v < vectors * LANES; v += LANES) {
            const long lanes = min_long(LANES, units - at - v);
            struct cell x;
            vec after = {0};
            x.dh = vec_load(dh + v);
            UNROLL for (long k = 0; k < kept; k++)
                x.kept[k] = vec_get(gate + k * units + v, lanes);
            if (cell == CNN_LSTM) {
                after = vec_get(cells + v, lanes);
                x.c = before ? vec_get(before + v, lanes) : (vec){0};
                x.dc = dc ? vec_get(dc + v, lanes) : (vec){0};
            } else if (cell == CNN_GRU)
                x.h = vec_get(h + v, lanes);
            else
                after = vec_get(y + v, lanes);
            cell_backward(&x, cell, after);
            const long stored = lanes_stored(lanes);
            UNROLL for (long e = 0; e < errors; e++)
                vec_put(to + e * units + v, x.error[e], stored);
            if (cell == CNN_LSTM)
                vec_put(s->dc + i * units + at + v, x.dc, stored);
            if (cell == CNN_GRU)
                vec_put(s->carry + i * units + at + v, x.dh, stored);
            if (cell == CNN_LSTM && p->projected)
                vec_put(s->m_all + row * units + at + v, x.m, stored);
        }
    }
}
#define FINISH_ERRORS(name, cell)                                                                                                      \
    static __attribute__((noinline)) void errors_##name(const struct recurrent *s, long slice, long first, long rows, const real *dh)  \
    {                                                                                                                                  \
        finish_errors(s, cell, slice, first, rows, dh);                                                                                \
    }
FINISH_ERRORS(tanh, CNN_RNN_TANH)
FINISH_ERRORS(relu, CNN_RNN_RELU)
FINISH_ERRORS(lstm, CNN_LSTM)
FINISH_ERRORS(gru, CNN_GRU)

static void finish_block(const struct recurrent *s, long slice, long first, long rows, const real *dh)
{
    switch (s->p->cell) {
    case CNN_LSTM: errors_lstm(s, slice, first, rows, dh); break;
    case CNN_GRU: errors_gru(s, slice, first, rows, dh); break;
    case CNN_RNN_RELU: errors_relu(s, slice, first, rows, dh); break;
    default: errors_tanh(s, slice, first, rows, dh);
    }
}

/* dh of a panel of outputs, and without a projection the errors of the same units. Step -1 is the initial state. */
static void back_block(void *context, long block, int worker)
{
    const struct recurrent *s = context;
    const struct cnn_recurrent *p = s->p;
    const long slice = block / s->row_blocks, first = block % s->row_blocks * ROW_BLOCK, t = s->step, at = slice * TILE_WIDTH;
    const long rows = min_long(ROW_BLOCK, (t < 0 ? p->samples : count_at(s, t)) - first);
    const long later = t + 1 < p->steps ? max_long(0, min_long(rows, count_at(s, t + 1) - first)) : 0; /* rows that have a step after this */
    const long width = panels_width(s->outputs, slice), valid = min_long(width, s->outputs - at);
    if (rows <= 0)
        return;
    real *dh = s->worker + worker * s->worker_reals;
    const real *a[ROW_BLOCK];
    real *c[ROW_BLOCK];
    for (long r = 0; r < rows; r++) {
        const long i = first + r, n = s->order[i];
        a[r] = s->errors_all + ((t + 1 < p->steps ? s->start[t + 1] : 0) + i) * s->errors_pitch;
        c[r] = dh + r * TILE_WIDTH;
        const real *from = t < 0 || !s->dy ? NULL : s->dy + n * p->y[0] + time_of(s, i, t) * p->y[1];
        const real *more = r < later ? (s->p->cell == CNN_GRU ? s->carry + i * p->units : NULL) : s->dh_n ? s->dh_n + n * s->outputs : NULL;
        for (long v = 0; v < valid; v += LANES) {
            const long lanes = min_long(LANES, valid - v);
            vec sum = from ? vec_get(from + at + v, lanes) : (vec){0};
            if (more)
                sum = sum + vec_get(more + at + v, lanes);
            vec_store(c[r] + v, sum);
        }
    }
    panel_product(a, later, s->gates * p->units, s->panels_hh + slice * s->gates * p->units * TILE_WIDTH, width, c, 1, NULL);
    if (t < 0 || p->projected)
        for (long r = 0; r < rows; r++)
            memcpy(t < 0 ? s->dh0 + s->order[first + r] * s->outputs + at : s->dh_all + (s->start[t] + first + r) * s->outputs + at, c[r],
                   (size_t)valid * sizeof(real));
    else
        finish_block(s, slice, first, rows, dh);
}

/* dm = dh W_hr, then the errors. */
static void unproject_block(void *context, long block, int worker)
{
    const struct recurrent *s = context;
    const long slice = block / s->row_blocks, first = block % s->row_blocks * ROW_BLOCK, rows = min_long(ROW_BLOCK, count_at(s, s->step) - first);
    if (rows <= 0)
        return;
    real *dm = s->worker + worker * s->worker_reals;
    const real *a[ROW_BLOCK];
    real *c[ROW_BLOCK];
    for (long r = 0; r < rows; r++)
        a[r] = s->dh_all + (s->start[s->step] + first + r) * s->outputs, c[r] = dm + r * TILE_WIDTH;
    panel_product(a, rows, s->outputs, s->panels_hr + slice * s->outputs * TILE_WIDTH, width_at(s, slice), c, 0, NULL);
    finish_block(s, slice, first, rows, dm);
}

size_t FN(recurrent_backward_scratch)(const void *problem, int workers)
{
    struct recurrent s;
    size_t engine;
    return plan_backward(&s, problem, workers, cnn_no_scratch, &engine);
}

void FN(recurrent_backward)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct cnn_recurrent *p = problem;
    struct recurrent s = {0};
    size_t engine;
    plan_backward(&s, p, run->workers, run->scratch, &engine);
    s.dy = array[0], s.dh_n = array[1], s.dc_n = array[2], s.x = array[3], s.w_ih = array[4], s.w_hh = array[5], s.w_hr = array[6];
    s.h0 = array[7], s.c0 = array[8], s.order = array[9], s.length = array[10], s.saved_y = array[11], s.saved_gate = array[12], s.saved_cell = array[13];
    s.dh0 = array[20], s.dc0 = array[21];
    find_starts(&s);
    const long units = p->units;
    const double width = (double)(s.gates * units);
    cnn_parallel_for(run, max_long(s.slices, s.out_slices), width * (double)s.outputs / 4, pack_slice_backward, &s);
    cnn_parallel_for(run, p->steps, (double)(p->packed * (s.outputs + (s.uniform ? 0 : p->inputs))) / 4, gather_step, &s);
    for (s.step = p->steps - 1; s.step >= (s.dh0 ? -1 : 0) && !run->stopped; s.step--) {
        const double count = s.step < 0 ? (double)p->samples : (double)count_at(&s, s.step);
        cnn_parallel_for(run, s.out_slices * s.row_blocks, step_work(count, (double)s.outputs, width) + count * width * 2, back_block, &s);
        if (p->projected && s.step >= 0)
            cnn_parallel_for(run, s.slices * s.row_blocks, step_work(count, (double)units, (double)s.outputs) + count * width * 2, unproject_block, &s);
    }
    if (s.dc0)
        for (long i = 0; i < p->samples; i++)
            memcpy(s.dc0 + s.order[i] * units, s.dc + i * units, (size_t)units * sizeof(real));

    char *whole = run->scratch;
    run->scratch += engine;
    const struct recurrent_gradients g = {array[14], array[15], array[16], array[17], array[18], array[19]};
    FN(recurrent_gradients_run)(&s, &g, run);
    run->scratch = whole;
}
