#include "problem.h"

static long modulo(long i, long m)
{
    long r = i % m;
    return r < 0 ? r + m : r;
}

long cnn_source(int mode, long i, long m)
{
    if (i >= 0 && i < m)
        return i;
    if (mode == CNN_ZEROS || m == 0)
        return -1;
    if (mode == CNN_REPLICATE)
        return i < 0 ? 0 : m - 1;
    if (mode == CNN_CIRCULAR)
        return modulo(i, m);
    if (mode == CNN_SYMMETRIC) {
        long q = modulo(i, 2 * m);
        return q < m ? q : 2 * m - 1 - q;
    }
    if (m == 1)
        return 0;
    long q = modulo(i, 2 * (m - 1));
    return q < m ? q : 2 * (m - 1) - q;
}
