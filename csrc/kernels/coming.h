/* coming.h: the lines of memory of the box that comes next, asked for little by little while the one before is computed.
 *
 * A box whose cells or channels lie far apart is nothing that the hardware sees coming, and a core waits longer for main memory than it
 * takes to compute what it reads there. */
#ifndef CNN_COMING_H
#define CNN_COMING_H

#include "box.h"

struct coming {
    const real *at;
    long lines, done;                /* in all */
    long line, along;                /* of what is one run in memory: a cell's channels, or a channel's cells of a row */
    long inner, count, apart;        /* of those within a row */
    long place[3], size[3], next[3]; /* rows, planes, images: where we are, how many, and the way to the next */
};

/* The part of the box's input that exists, `channels` channels from `base` on. Nothing, if neither channels nor cells are neighbours. */
ALWAYS_INLINE struct coming begin_coming(const struct windows *w, const struct box *b, const real *base, long channels)
{
    struct coming c = {.at = base + b->image * w->stride[0], .size = {0, 0, b->images}, .next = {w->stride[3], w->stride[2], w->stride[0]}};
    long cells[3];
    for (int a = 0; a < 3; a++) {
        const long begin = b->begin[a] * w->step[a] - w->before[a], end = min_long(w->in[a], begin + box_extent(w, a, b->size[a]));
        cells[a] = max_long(0, end - max_long(0, begin));
        c.at += max_long(0, begin) * w->stride[2 + a];
    }
    if (cells[2] == w->in[2] && w->stride[3] == w->in[2] * w->stride[4]) /* whole rows, one after another */
        cells[2] *= cells[1], cells[1] = min_long(1, cells[1]);
    const int across = w->stride[1] == 1;
    c.size[0] = cells[1], c.size[1] = cells[0];
    c.along = divide_up(across ? channels : cells[2], LINE);
    c.count = across ? cells[2] : channels;
    c.apart = across ? w->stride[4] : w->stride[1];
    c.lines = across || w->stride[4] == 1 ? b->images * cells[0] * cells[1] * c.count * c.along : 0;
    return c;
}

/* Whether the lines follow each other in memory. */
ALWAYS_INLINE int is_stream(const struct coming *c)
{
    const int rows = c->size[0] <= 1 && (c->size[1] <= 1 || c->next[1] == c->count * c->apart) && (c->size[2] <= 1 || c->next[2] == max_long(1, c->size[1]) * c->count * c->apart);
    return !c->lines || (rows && c->apart == c->along * LINE);
}

/* Two runs of memory that come next, one after the other, of which each of some tiles fetches `share` bytes while it computes. */
struct runs {
    const char *at[2];
    long bytes[2], share;
};

/* Where the share of tile number `tile` begins. */
ALWAYS_INLINE const char *share_at(const struct runs *r, long tile)
{
    const long from = r->share * tile;
    return from < r->bytes[0] ? r->at[0] + from : r->at[1] + (from - r->bytes[0]);
}

/* Asks for all lines up to number `to`. */
ALWAYS_INLINE void fetch_coming(struct coming *c, long to)
{
    for (; c->done < to; c->done++) {
        __builtin_prefetch(c->at + c->line * LINE, 0, 2);
        if (++c->line < c->along)
            continue;
        c->line = 0;
        c->at += c->apart;
        if (++c->inner < c->count)
            continue;
        c->inner = 0;
        c->at -= c->count * c->apart;
        for (int a = 0; a < 3; a++) {
            c->at += c->next[a];
            if (++c->place[a] < c->size[a] || a == 2)
                break;
            c->at -= c->size[a] * c->next[a];
            c->place[a] = 0;
        }
    }
}

#endif
