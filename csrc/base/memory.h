/* memory.h: buffers for scratch and for large results. 64-byte aligned, huge pages where the system grants them, kept for
 * reuse up to a cap: fresh pages cost as much as the convolution that fills them. */
#ifndef CNN_MEMORY_H
#define CNN_MEMORY_H

#include <stddef.h>

/* A buffer of at least `bytes`; *capacity is what it really has and what release wants back. NULL: out of memory, or above
 * the limit; nothing was allocated then. */
void *cnn_acquire(size_t bytes, size_t *capacity);
void cnn_release(void *buffer, size_t capacity);

/* Frees every kept buffer; returns the bytes freed. */
size_t cnn_trim(void);

/* Between a call with 1 and one with 0 released buffers are freed at once: for what happens once and takes much. */
void cnn_spare_memory(int more);

/* A single request above the limit is refused. 0: the machine's or the cgroup's memory. */
void cnn_set_memory_limit(size_t bytes);
size_t cnn_memory_limit(void);

size_t cnn_memory_kept(void); /* bytes in kept buffers now */
size_t cnn_memory_used(void); /* bytes handed out and not yet released */
size_t cnn_memory_peak(void); /* the most that was used since it was last asked */

/* Where buffers come from and go to; the size is that of the allocation. */
extern void *(*cnn_system_allocate)(size_t bytes);
extern void (*cnn_system_free)(void *buffer, size_t bytes);

#endif
