"""Contour lines of values on a rectangular grid, by marching squares: polylines whose vertices lie on grid lines."""

import numpy as np


def contour_lines(x: np.ndarray, y: np.ndarray, z: np.ndarray, level: float) -> list[np.ndarray]:
    """Lines z = level of z (len(y), len(x)), each (m, 2); a closed line ends where it begins.

    z may be ∞ but not NaN. In a saddle cell the two corners above the level are joined if the cell's mean is above it.
    """
    above = z > level
    spots: dict[tuple[int, int, int], tuple[float, float]] = {}
    ends: dict[tuple[int, int, int], list[tuple[int, int, int]]] = {}
    for i, j in zip(*np.nonzero(_mixed(above)), strict=True):
        for pair in _segments(above, z, int(i), int(j), level):
            for edge in pair:
                spots.setdefault(edge, _crossing(x, y, z, edge, level))
            ends.setdefault(pair[0], []).append(pair[1])
            ends.setdefault(pair[1], []).append(pair[0])
    lines = []
    while ends:  # open lines first, from an end; then closed ones
        start = next((e for e, to in ends.items() if len(to) == 1), next(iter(ends)))
        line, here = [spots[start]], start
        while ends.get(here):
            there = ends[here].pop()
            ends[there].remove(here)
            if not ends[here]:
                del ends[here]
            line.append(spots[there])
            here = there
        ends.pop(here, None)
        lines.append(np.array(line))
    return lines


def _mixed(above: np.ndarray) -> np.ndarray:
    """Cells with corners on both sides."""
    corners = above[:-1, :-1].astype(int) + above[:-1, 1:] + above[1:, :-1] + above[1:, 1:]
    return (corners > 0) & (corners < 4)


def _segments(above: np.ndarray, z: np.ndarray, i: int, j: int, level: float) -> list[tuple]:
    """Pairs of crossed edges of a cell; an edge is (0, i, j) from (i, j) to (i, j+1) or (1, i, j) to (i+1, j)."""
    bottom, top, left, right = (0, i, j), (0, i + 1, j), (1, i, j), (1, i, j + 1)
    a, b, c, d = above[i, j], above[i, j + 1], above[i + 1, j + 1], above[i + 1, j]
    crossed = [e for e, one, two in ((bottom, a, b), (right, b, c), (top, d, c), (left, a, d)) if one != two]
    if len(crossed) == 2:
        return [(crossed[0], crossed[1])]
    middle = z[i : i + 2, j : j + 2].mean() > level
    return [(bottom, right), (top, left)] if middle == a else [(bottom, left), (top, right)]


def _crossing(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, edge: tuple[int, int, int], level: float
) -> tuple[float, float]:
    """Where the level lies on an edge, by linear interpolation; at the finite end of one that goes to ∞."""
    side, i, j = edge
    k, m = (i, j + 1) if side == 0 else (i + 1, j)
    one, two = z[i, j], z[k, m]
    share = 1.0 if np.isinf(one) else 0.0 if np.isinf(two) else (level - one) / (two - one)
    return float(x[j] + share * (x[m] - x[j])), float(y[i] + share * (y[k] - y[i]))
