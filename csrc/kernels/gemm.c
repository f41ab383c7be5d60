/* gemm.c: batches of plain matrix products, c[i] = a[i] b[i], through the convolution's engine: a row of a is a cell with K
 * channels, a column of b a filter with one tap, a batch entry a group. Any strides, so transposes cost nothing.
 *
 *     c[batch][m][n] = sum over k of a[batch][m][k] * b[batch][k][n]
 *
 * Overwrites c. Its gradients are products of the same kind: da = dc b', db = a' dc. */
#include "ops.h"
#include "product.h"

static struct product matrix_product(const struct cnn_matmul *p)
{
    struct product q = {.groups = p->batch, .filters = p->n, .x_group = p->a[0], .w_group = p->b[0], .y_group = p->c[0]};
    q.in = (struct windows){.images = 1, .channels = p->k, .in = {1, 1, p->m}, .out = {1, 1, p->m}, .taps = {1, 1, 1},
                            .spread = {1, 1, 1}, .step = {1, 1, 1}, .stride = {0, p->a[2], 0, 0, p->a[1]}};
    q.w[0] = p->b[2], q.w[1] = p->b[1];
    q.y[1] = p->c[2], q.y[4] = p->c[1];
    return q;
}

size_t FN(matmul_scratch)(const void *problem, int workers)
{
    const struct product q = matrix_product(problem);
    return FN(product_scratch)(&q, workers);
}

void FN(matmul)(const void *problem, void *const *array, struct cnn_run *run)
{
    const struct product q = matrix_product(problem);
    FN(product_run)(&q, array[0], array[1], NULL, array[2], run);
}
