/* cell.h: the arithmetic of one step of one unit, on vectors of units; a = x W_ih' + b_ih and q = h W_hh' + b_hh are there already.
 *
 *     RNN   h1 = f(a + q)
 *     LSTM  i, f, o = sg(a + q), g = tanh(a + q);  c1 = f c + i g;  m = o tanh(c1), the new h or what is projected to it
 *     GRU   r, z = sg(a + q);  n = tanh(a_n + r q_n);  h1 = (1 - z) n + z h
 *
 * Blocks in the order i, f, g, o and r, z, n. Backward reads what forward keeps: i, f, g, o; r, z, n, q_n; nothing for an RNN, whose h says
 * all. Errors are the gradients of a (and q, the same but for a GRU's n): i, f, g, o; r q's n, r, z, a's n, so that the three of q and the
 * three of a are neighbours. Source: mathematics 2.8; S. Hochreiter, J. Schmidhuber 1997; F. Gers et al. 2000; K. Cho et al. 2014. */
#ifndef CNN_CELL_H
#define CNN_CELL_H

#include "../base/problem.h"
#include "vecmath.h"

ALWAYS_INLINE long cell_gates(int cell) { return cell == CNN_LSTM ? 4 : cell == CNN_GRU ? 3 : 1; }
ALWAYS_INLINE long cell_kept(int cell) { return cell == CNN_LSTM || cell == CNN_GRU ? 4 : 0; }
ALWAYS_INLINE long cell_errors(int cell) { return cell == CNN_LSTM || cell == CNN_GRU ? 4 : 1; }

/* The lanes to store, as a number that the compiler does not know to be that of the lanes loaded: else it would make a second copy of the
 * arithmetic for tails, and might fuse another multiplication in it. */
ALWAYS_INLINE long lanes_stored(long lanes)
{
    __asm__("" : "+r"(lanes));
    return lanes;
}

struct cell {
    vec h, c;    /* before and after; of backward: before */
    vec kept[4];
    vec error[4];
    vec dh, dc;  /* of this step; after backward what goes to the step before it, without the products */
    vec m;       /* of an LSTM, backward */
};

/* The gates, and what the cell state or the new value of a GRU needs; then h, which waits for them. Two halves, so that a caller with several vectors
 * gives the processor the first halves of all before it waits. */
ALWAYS_INLINE void cell_forward_gates(struct cell *s, const int cell, const vec *a, const vec *q, vec q_bias)
{
    if (cell == CNN_LSTM) {
        const vec i = vec_sigmoid(a[0] + q[0]), f = vec_sigmoid(a[1] + q[1]), g = vec_tanh(a[2] + q[2]), o = vec_sigmoid(a[3] + q[3]);
        s->kept[0] = i, s->kept[1] = f, s->kept[2] = g, s->kept[3] = o;
        s->c = vec_madd(f, s->c, i * g);
    } else if (cell == CNN_GRU) {
        s->kept[0] = vec_sigmoid(a[0] + q[0]), s->kept[1] = vec_sigmoid(a[1] + q[1]), s->kept[3] = q[2] + q_bias;
        s->kept[2] = vec_madd(s->kept[0], s->kept[3], a[2]);
    } else
        s->kept[0] = a[0] + q[0];
}

ALWAYS_INLINE void cell_forward_output(struct cell *s, const int cell)
{
    if (cell == CNN_LSTM)
        s->h = s->kept[3] * vec_tanh(s->c);
    else if (cell == CNN_GRU) {
        const vec z = s->kept[1], n = s->kept[2] = vec_tanh(s->kept[2]);
        s->h = vec_madd(REAL(1.0) - z, n, z * s->h);
    } else if (cell == CNN_RNN_TANH)
        s->h = vec_tanh(s->kept[0]);
    else
        s->h = vec_select(s->kept[0] < 0, (vec){0}, s->kept[0]);
}

ALWAYS_INLINE void cell_forward(struct cell *s, const int cell, const vec *a, const vec *q, vec q_bias)
{
    cell_forward_gates(s, cell, a, q, q_bias);
    cell_forward_output(s, cell);
}

/* `after`: the step's own h of an RNN, c of an LSTM. */
ALWAYS_INLINE void cell_backward(struct cell *s, const int cell, vec after)
{
    const vec one = vec_fill(REAL(1.0)), dh = s->dh;
    if (cell == CNN_LSTM) {
        const vec i = s->kept[0], f = s->kept[1], g = s->kept[2], o = s->kept[3], t = vec_tanh(after);
        const vec dc = vec_madd(dh * o, one - t * t, s->dc);
        s->error[0] = dc * g * i * (one - i);
        s->error[1] = dc * s->c * f * (one - f);
        s->error[2] = dc * i * (one - g * g);
        s->error[3] = dh * t * o * (one - o);
        s->dc = dc * f;
        s->dh = (vec){0};
        s->m = o * t;
    } else if (cell == CNN_GRU) {
        const vec r = s->kept[0], z = s->kept[1], n = s->kept[2], qn = s->kept[3];
        const vec en = dh * (one - z) * (one - n * n);
        s->error[0] = en * r;
        s->error[1] = en * qn * r * (one - r);
        s->error[2] = dh * (s->h - n) * z * (one - z);
        s->error[3] = en;
        s->dh = dh * z;
    } else {
        if (cell == CNN_RNN_TANH)
            s->error[0] = dh * (one - after * after);
        else
            s->error[0] = vec_select(after <= 0, (vec){0}, dh);
        s->dh = (vec){0};
    }
}

#endif
