"""Formats numbers and times for all views."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"


def duration(seconds: float) -> str:
    """`0.4 s`, `48 s`, `2 min 05 s`, `1 h 04 min`."""
    whole = round(seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.05 else "0 s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def gib(size: float) -> str:
    """Bytes in powers of two: `80 KiB`, `512 MiB`, `15.2 GiB`."""
    if 0 < size < 2**20:
        return f"{max(1, size / 2**10):.0f} KiB"
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.0f} MiB"


def dollars(amount: float) -> str:
    """`0.42 USD`, `1,204 USD`: cents below a hundred."""
    return f"{amount:,.2f} USD" if amount < 100 else f"{amount:,.0f} USD"


def clock(seconds: float) -> str:
    """`0:48`, `12:05`, `1:04:10`: narrow, with a constant width."""
    whole = max(0, int(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def number(value: float) -> str:
    """Four significant digits: `4.213`, `0.01232`, `nan`."""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{value:.4g}"


STDERR = "_stderr"
"""The ending of a standard error, which is shown beside its score."""


def score_names(tables: Iterable[Mapping[str, float]]) -> list[str]:
    """The scores of several stages, in order, without standard errors."""
    names = dict.fromkeys(name for table in tables for name in table)
    return [name for name in names if not (name.endswith(STDERR) and name.removesuffix(STDERR) in names)]


def score(name: str, metrics: Mapping[str, float], missing: str = "") -> str:
    """A score with its standard error, where it has one: `0.6667 ± 0.33`."""
    if name not in metrics:
        return missing
    error = metrics.get(name + STDERR)
    return number(metrics[name]) + (f" ± {error:.2g}" if error is not None else "")


def steady(value: float) -> str:
    """A number of constant width, for a line that is redrawn."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.3f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.1e}"


def rate(value: float) -> str:
    """A learning rate: `2e-5`, `9.1e-5`, `0`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def sparkline(values: Sequence[float], width: int, bars: str = BARS) -> str:
    """A curve in at most `width` characters; `x` for values that are not finite."""
    means = [_mean(part) for part in _parts(values, width)]
    real = [mean for mean in means if math.isfinite(mean)]
    low, high = (min(real), max(real)) if real else (0.0, 0.0)
    return "".join(_bar(mean, low, high, bars) for mean in means)


def _parts(values: Sequence[float], width: int) -> list[Sequence[float]]:
    many = min(width, len(values))
    edges = [len(values) * at // many for at in range(many + 1)] if many else []
    return [values[start:end] for start, end in pairwise(edges)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _bar(value: float, low: float, high: float, bars: str) -> str:
    if not math.isfinite(value):
        return "x"
    # A flat curve is drawn in the middle: at the bottom it would look like a minimum.
    share = (value - low) / (high - low) if high > low else 0.5
    return bars[min(len(bars) - 1, int(share * len(bars)))]
