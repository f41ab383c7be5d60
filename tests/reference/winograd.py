"""Winograd's minimal filtering from its points, in exact fractions: which matrices there are and why they are right.

Two polynomials of degrees m-1 and r-1 are multiplied by their values at m+r-2 points and their leading coefficient (the point infinity);
transposing that bilinear form gives the correlation F(m, r): m outputs of r taps from m+r-2+1 inputs by as many products.
"""

from fractions import Fraction

POINTS = {1: [0, 1], 2: [0, 1, -1], 4: [0, 1, -1, Fraction(1, 2), -2]}


def _coefficients(roots):
    """Of the product of (x - root), lowest power first."""
    c = [Fraction(1)]
    for root in roots:
        c = [(c[i - 1] if i else 0) - (root * c[i] if i < len(c) else 0) for i in range(len(c) + 1)]
    return c


def matrices(points, m, r):
    """(A', G, B') of F(m, r): y = A' [(G g) . (B' d)], n = m + r - 1 = len(points) + 1 rows."""
    n = m + r - 1
    assert len(points) == n - 1
    others = [[p for p in points if p is not q] for q in points]
    scale = []
    for q, rest in zip(points, others, strict=True):
        value = Fraction(1)
        for p in rest:
            value *= q - p
        scale.append(value)
    output = [[Fraction(p) ** i for p in points] + [Fraction(int(i == m - 1))] for i in range(m)]
    taps = [[Fraction(p) ** j / s for j in range(r)] for p, s in zip(points, scale, strict=True)] + [
        [Fraction(int(j == r - 1)) for j in range(r)]
    ]
    data = [(_coefficients(rest) + [Fraction(0)] * n)[:n] for rest in others] + [_coefficients(points)]
    return output, taps, data


def correlate(points, m, r, d, g):
    """One row of outputs by the matrices."""
    output, taps, data = matrices(points, m, r)
    products = [
        sum(t * v for t, v in zip(u, g, strict=True)) * sum(b * v for b, v in zip(w, d, strict=True))
        for u, w in zip(taps, data, strict=True)
    ]
    return [sum(a * s for a, s in zip(row, products, strict=True)) for row in output]
