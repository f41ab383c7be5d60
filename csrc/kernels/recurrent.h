/* recurrent.h: a layer of a recurrent network in one direction: what follows from its problem, its arrays, its scratch. */
#ifndef CNN_RECURRENT_H
#define CNN_RECURRENT_H

#include "cell.h"
#include "ops.h"
#include "panel.h"

enum { AHEAD = 256 }; /* rows of x that are multiplied together */

/* Rows of a tile at a large power of two apart would share one set of the first cache. */
ALWAYS_INLINE long roomy(long reals) { return reals * (long)sizeof(real) % 1024 == 0 ? reals + 64 / (long)sizeof(real) : reals; }

/* Scratch is laid out twice, once to measure it. */
struct layout {
    char *base;
    size_t used;
};
ALWAYS_INLINE void *take(struct layout *l, long reals, size_t item)
{
    void *at = l->base + l->used;
    l->used += aligned((size_t)reals * item);
    return at;
}
ALWAYS_INLINE real *take_reals(struct layout *l, long reals) { return take(l, reals, sizeof(real)); }

/* Both directions of a layer: what follows from the problem, the arrays, the scratch. */
struct recurrent {
    const struct cnn_recurrent *p;
    long gates, kept, errors, outputs;
    long slices, row_blocks;   /* panels of units; blocks of samples */
    long out_slices;           /* panels of outputs */
    long ahead;                /* steps whose products of x are made together */
    int uniform;               /* all samples have all steps */
    const real *x, *w_ih, *w_hh, *b_ih, *b_hh, *w_hr, *h0, *c0;
    const int64_t *order, *length;
    real *y, *h_n, *c_n, *gate, *cell; /* gate[packed][kept][units], cell[packed][units] or NULL */
    const real *dy, *dh_n, *dc_n, *saved_y, *saved_gate, *saved_cell;
    real *dh0, *dc0;
    long *start;               /* [steps + 1] packed rows before a step */
    long step;                 /* at work */
    real *panels_ih, *panels_hh, *panels_hr, *bias, *bias_n;
    real *products;            /* of x, [slice][row block][step ahead][row][gate][TILE_WIDTH] */
    real *state[2], *memory, *cell_state; /* h of the last and this step; m of a projection; c where nobody keeps it */
    long state_pitch, memory_pitch;
    real *errors_all, *dh_all, *m_all, *h_before, *x_rows, *dc, *carry;
    long errors_pitch;
    real *worker;
    long worker_reals;
};

ALWAYS_INLINE long count_at(const struct recurrent *s, long step) { return s->start[step + 1] - s->start[step]; }
ALWAYS_INLINE long time_of(const struct recurrent *s, long i, long step) { return s->p->reverse ? s->length[i] - 1 - step : step; }
ALWAYS_INLINE long width_at(const struct recurrent *s, long slice) { return panels_width(s->p->units, slice); }

/* From the errors of all steps, after the walk back: dx, dw and db, each a product over all rows. Entries may be NULL. */
struct recurrent_gradients {
    real *dx, *dw_ih, *dw_hh, *db_ih, *db_hh, *dw_hr;
};
size_t FN(recurrent_gradients_scratch)(const struct recurrent *s, int workers);
void FN(recurrent_gradients_run)(const struct recurrent *s, const struct recurrent_gradients *g, struct cnn_run *run);

#endif
