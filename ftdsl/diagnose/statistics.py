"""Robust statistics of short series, in plain Python: medians, spreads, trends. Nothing here knows what a loss is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

MAD = 1.4826
"""Times the median absolute deviation: the standard deviation of normal values."""


def spread(values: Sequence[float]) -> float:
    """The standard deviation as the median absolute deviation estimates it; 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    middle = median(values)
    return MAD * median([abs(value - middle) for value in values])


def jitter(values: Sequence[float]) -> float:
    """The standard deviation around a slow trend, from second differences: a straight line has none. 0 for under four values.

    Var(x[i-1] - 2 x[i] + x[i+1]) is 6 times that of independent noise.
    """
    second = [a - 2 * b + c for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    return MAD * median([abs(value) for value in second]) / math.sqrt(6) if len(second) > 1 else 0.0


def smooth(values: Sequence[float], width: int) -> list[float]:
    """Medians of a window around each value (shorter at the ends). width: odd; 1 changes nothing."""
    half = width // 2
    return [median(values[max(0, at - half) : at + half + 1]) for at in range(len(values))]


def thinned(values: Sequence[float], most: int) -> list[float]:
    """At most `most` medians of neighbours, in order: the shape of a long series."""
    size = -(-len(values) // most)
    return list(values) if size < 2 else [median(values[at : at + size]) for at in range(0, len(values), size)]


def share(values: Sequence[float], start: float, end: float = 1.0) -> Sequence[float]:
    """A part of a series, by shares of its length; at least one value of a series that has any."""
    first = min(int(len(values) * start), len(values) - 1)
    return values[max(first, 0) : max(first + 1, math.ceil(len(values) * end))]


def slope(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Least squares: slope and its standard error; (0, inf) where there is no line."""
    count = len(xs)
    if count < 3:
        return 0.0, math.inf
    mean_x, mean_y = sum(xs) / count, sum(ys) / count
    square = sum((x - mean_x) ** 2 for x in xs)
    if square == 0:
        return 0.0, math.inf
    steepness = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / square
    rest = sum((y - mean_y - steepness * (x - mean_x)) ** 2 for x, y in zip(xs, ys, strict=True))
    return steepness, math.sqrt(rest / (count - 2) / square)


def least_squares(columns: Sequence[Sequence[float]], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """Several columns fitted to values: a coefficient for each, and its standard error; ([], []) where they are dependent or as
    many as the values.
    """
    many, count = len(columns), len(ys)
    if count <= many:
        return [], []
    table = [[sum(a * b for a, b in zip(first, second, strict=True)) for second in columns] for first in columns]
    inverse = _inverse(table)
    if not inverse:
        return [], []
    right = [sum(a * y for a, y in zip(column, ys, strict=True)) for column in columns]
    fitted = [sum(inverse[row][at] * right[at] for at in range(many)) for row in range(many)]
    rest = sum(
        (y - sum(factor * column[at] for factor, column in zip(fitted, columns, strict=True))) ** 2
        for at, y in enumerate(ys)
    )
    variance = rest / (count - many)
    return fitted, [math.sqrt(max(0.0, inverse[at][at] * variance)) for at in range(many)]


def f_score(between: float, within: float, groups: int, rest: int) -> float:
    """How many standard deviations of a normal distribution a ratio of variances is worth; 0 where there are too few values.

    between, within: sums of squares; groups, rest: their degrees of freedom. Wilson and Hilferty's cube root makes F normal.
    """
    if groups < 1 or rest < 3 or within <= 0:
        return 0.0
    root = math.cbrt(between / groups / (within / rest))
    a, b = 2 / (9 * groups), 2 / (9 * rest)
    return ((1 - b) * root - (1 - a)) / math.sqrt(b * root**2 + a)


def _inverse(table: Sequence[Sequence[float]]) -> list[list[float]]:
    """Of a small square matrix, by elimination with the largest pivot; [] where there is none."""
    many = len(table)
    rows = [[*row, *(float(at == own) for own in range(many))] for at, row in enumerate(table)]
    for at in range(many):
        pivot = max(range(at, many), key=lambda row: abs(rows[row][at]))
        if not abs(rows[pivot][at]) > 1e-12:
            return []
        rows[at], rows[pivot] = rows[pivot], rows[at]
        rows[at] = [value / rows[at][at] for value in rows[at]]
        for other in range(many):
            if other != at and rows[other][at]:
                factor = rows[other][at]
                rows[other] = [a - factor * b for a, b in zip(rows[other], rows[at], strict=True)]
    return [row[many:] for row in rows]


def correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's; 0 where one is constant."""
    count = len(first)
    if count < 3:
        return 0.0
    mean_a, mean_b = sum(first) / count, sum(second) / count
    a = [value - mean_a for value in first]
    b = [value - mean_b for value in second]
    below = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / below if below else 0.0
