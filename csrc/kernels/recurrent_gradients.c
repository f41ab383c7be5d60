/* recurrent_gradients.c: the gradients of a recurrent layer that are single products over all steps: with the errors da and dq of every row,
 *
 *     dx = da W_ih,   dW_ih = da' x,   dW_hh = dq' h_before,   db_ih, db_hh = column sums of da, dq;   a projection's dW_hr = dh' m
 *
 * da and dq are one array but for a GRU, and so are their sums. */
#include "recurrent.h"

/* The products over all rows, each by the engine that is best at it. Rows are packed; without lengths x stays where it is. */
static struct cnn_conv weight_problem(const struct recurrent *s, long depth, long filters, long pitch)
{
    struct cnn_conv q = {.n = 1, .c = depth, .k = filters, .groups = 1, .in = {1, 1, s->p->packed}, .out = {1, 1, s->p->packed}};
    for (int a = 0; a < 3; a++)
        q.window[a] = q.stride[a] = q.dilation[a] = 1;
    q.x[1] = 1, q.x[4] = depth;
    q.y[1] = 1, q.y[4] = pitch;
    q.w[0] = depth, q.w[1] = 1;
    return q;
}
static struct cnn_conv input_weight_problem(const struct recurrent *s)
{
    const struct cnn_recurrent *p = s->p;
    struct cnn_conv q = weight_problem(s, p->inputs, s->gates * p->units, s->errors_pitch);
    if (s->uniform) {
        q.n = p->steps;
        q.in[2] = q.out[2] = p->samples;
        q.x[0] = p->reverse ? -p->x[1] : p->x[1], q.x[4] = p->x[0];
        q.y[0] = p->samples * s->errors_pitch;
    }
    return q;
}
static struct product input_product(const struct recurrent *s)
{
    const struct cnn_recurrent *p = s->p;
    struct product q = {.groups = 1, .filters = p->inputs, .w = {1, p->inputs}, .y = {0, 1, 0, 0, p->inputs}};
    q.in = (struct windows){.images = 1, .channels = s->gates * p->units, .in = {1, 1, p->packed}, .out = {1, 1, p->packed}, .taps = {1, 1, 1},
                            .spread = {1, 1, 1}, .step = {1, 1, 1}, .stride = {0, 1, 0, 0, s->errors_pitch}};
    if (s->uniform) {
        q.in.images = p->steps;
        q.in.in[2] = q.in.out[2] = p->samples;
        q.in.stride[0] = p->samples * s->errors_pitch;
        q.y[0] = p->reverse ? -p->x[1] : p->x[1], q.y[4] = p->x[0];
    }
    return q;
}

/* Gradients of x without lengths are written in place; with lengths they come packed and are spread here. */
struct spread {
    const struct recurrent *s;
    const real *rows;
    real *dx;
};
static void spread_step(void *context, long t, int worker)
{
    (void)worker;
    const struct spread *f = context;
    const struct recurrent *s = f->s;
    const struct cnn_recurrent *p = s->p;
    for (long i = 0; i < count_at(s, t); i++)
        memcpy(f->dx + s->order[i] * p->x[0] + time_of(s, i, t) * p->x[1], f->rows + (s->start[t] + i) * p->inputs, (size_t)p->inputs * sizeof(real));
}

static void weight_product(const struct cnn_conv *q, const real *x, const real *dy, real *dw, real *db, struct cnn_run *run)
{
    void *const arrays[] = {(void *)x, (void *)dy, dw, db};
    FN(conv_backward_weight)(q, arrays, run);
}

size_t FN(recurrent_gradients_scratch)(const struct recurrent *s, int workers)
{
    const struct cnn_recurrent *p = s->p;
    const long together = p->cell == CNN_GRU ? 2 : s->gates; /* gates whose errors of q are neighbours */
    const struct cnn_conv weights[] = {
        input_weight_problem(s), weight_problem(s, s->outputs, together * p->units, s->errors_pitch),
        weight_problem(s, s->outputs, p->units, s->errors_pitch), weight_problem(s, p->units, s->outputs, s->outputs)};
    const struct product dx = input_product(s);
    size_t most = FN(product_scratch)(&dx, workers);
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        const size_t bytes = FN(conv_backward_weight_scratch)(&weights[i], workers);
        most = bytes > most ? bytes : most;
    }
    return most;
}

void FN(recurrent_gradients_run)(const struct recurrent *s, const struct recurrent_gradients *g, struct cnn_run *run)
{
    const struct cnn_recurrent *p = s->p;
    const long units = p->units, pitch = s->errors_pitch;
    const real *errors_a = s->errors_all + (p->cell == CNN_GRU ? units : 0);
    const real *x = s->uniform ? s->x + (p->reverse ? (p->steps - 1) * p->x[1] : 0) : s->x_rows;
    if (g->dw_ih) {
        struct cnn_conv q = input_weight_problem(s);
        weight_product(&q, x, errors_a, g->dw_ih, g->db_ih, run);
        if (p->cell == CNN_GRU) {
            q = weight_problem(s, s->outputs, 2 * units, pitch);
            weight_product(&q, s->h_before, s->errors_all + units, g->dw_hh, g->db_hh, run);
            q = weight_problem(s, s->outputs, units, pitch);
            weight_product(&q, s->h_before, s->errors_all, g->dw_hh + 2 * units * s->outputs, g->db_hh ? g->db_hh + 2 * units : NULL, run);
        } else {
            q = weight_problem(s, s->outputs, s->gates * units, pitch);
            weight_product(&q, s->h_before, s->errors_all, g->dw_hh, g->db_ih ? NULL : g->db_hh, run);
            if (g->db_ih && g->db_hh)
                memcpy(g->db_hh, g->db_ih, (size_t)(s->gates * units) * sizeof(real));
        }
        if (p->projected) {
            q = weight_problem(s, units, s->outputs, s->outputs);
            weight_product(&q, s->m_all, s->dh_all, g->dw_hr, NULL, run);
        }
    }
    if (g->dx) {
        const struct product q = input_product(s);
        real *to = s->uniform ? g->dx + (p->reverse ? (p->steps - 1) * p->x[1] : 0) : s->x_rows;
        FN(product_run)(&q, errors_a, s->w_ih, NULL, to, run);
        struct spread f = {s, s->x_rows, g->dx};
        if (!s->uniform)
            cnn_parallel_for(run, p->steps, (double)(p->packed * p->inputs) / 4, spread_step, &f);
    }
}
