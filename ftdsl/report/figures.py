"""Curves as figures of plotly's JSON (https://plotly.com/javascript/reference): one training, or several over each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from ftdsl.diagnose.curves import Curves, Series
from ftdsl.diagnose.examined import Training

POINTS = 2000
"""Points of a line: of longer ones each piece is drawn by its lowest and highest, so that no spike is lost."""
COLORS = ("#2f6fde", "#e8590c", "#2b8a3e", "#9c36b5", "#c92a2a", "#0b7285")
GAP = 0.06
PANELS = (
    ("loss", "loss"),
    ("grad_norm", "gradient norm"),
    ("learning_rate", "learning rate"),
    ("seconds", "s a step"),
    ("speed", "tokens/s"),
    ("memory", "memory, GiB"),
    ("rewards/margins", "margin"),
    ("reward", "reward"),
    ("reward_std", "spread of rewards"),
    ("kl", "KL from the reference"),
    ("entropy", "entropy, nats"),
    ("answer_tokens", "tokens of an answer"),
    ("gate_entropy", "gate entropy"),
    ("expert_load/max", "highest expert load"),
    ("average_rank", "average rank"),
)
"""Series, and what their axis is called, from top to bottom."""


def figure(trainings: Sequence[tuple[str, Training]]) -> dict[str, Any]:
    """`data` and `layout` of one figure: a panel a series, steps below each other. label, training: one a line."""
    panels = [
        panel for panel in PANELS if any(len(_series(training.curves, panel[0])) > 1 for _, training in trainings)
    ]
    height = (1 - GAP * max(0, len(panels) - 1)) / max(1, len(panels))
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "height": 140 + 170 * len(panels), "margin": {"l": 70, "r": 20, "t": 30, "b": 50}, "hovermode": "x unified",
        "showlegend": True, "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "shapes": [], "annotations": [],
        "xaxis": {"title": {"text": "step"}, "anchor": f"y{len(panels)}" if len(panels) > 1 else "y"},
    }  # fmt: skip
    for at, (name, title) in enumerate(panels):
        axis = f"y{at + 1}" if at else "y"
        top = 1 - at * (height + GAP)
        layout[f"yaxis{at + 1}" if at else "yaxis"] = {
            "title": {"text": title},
            "domain": [max(0.0, top - height), top],
        }
        for number, (label, training) in enumerate(trainings):
            data += _lines(name, label, training.curves, axis, COLORS[number % len(COLORS)], first=not at)
    for _, training in trainings if len(trainings) == 1 else ():
        layout["shapes"], layout["annotations"] = _marks(training)
    return {"data": data, "layout": layout}


def _lines(name: str, label: str, curves: Curves, axis: str, color: str, *, first: bool) -> Iterator[dict[str, Any]]:
    series = _series(curves, name)
    if len(series) > 1:
        xs, ys = _drawn(series)
        yield {"type": "scatter", "mode": "lines", "x": xs, "y": ys, "yaxis": axis, "name": label if first else name,
               "legendgroup": label, "showlegend": first, "line": {"color": color, "width": 1.4}}  # fmt: skip
    if name == "loss" and len(curves.evals.finite):
        evals = curves.evals.finite
        dotted = {"color": color, "width": 1.4, "dash": "dot"}
        yield {"type": "scatter", "mode": "lines+markers", "x": evals.steps, "y": evals.values, "yaxis": axis,
               "name": f"{label}, held out", "legendgroup": label, "line": dotted}  # fmt: skip


def _series(curves: Curves, name: str) -> Series:
    if name == "loss":
        return curves.loss
    if name == "memory":
        series = curves.series(name)
        return Series(series.steps, [value / 2**30 for value in series.values])
    if name == "speed":
        return _speed(curves)
    if name == "seconds":
        elapsed = curves.series("elapsed").finite
        pairs = list(zip(elapsed.steps, elapsed.values, strict=True))
        paces = [(step, (now - then) / (step - last)) for (last, then), (step, now) in pairwise(pairs)]
        return Series([step for step, _ in paces], [seconds for _, seconds in paces])
    return curves.series(name)


def _speed(curves: Curves) -> Series:
    """Tokens a second between logged steps: of our runs from their number, else as they were logged."""
    tokens, elapsed = curves.series("tokens").finite, curves.series("elapsed").finite
    seconds = dict(zip(elapsed.steps, elapsed.values, strict=True))
    counted = [
        (step, value, seconds[step]) for step, value in zip(tokens.steps, tokens.values, strict=True) if step in seconds
    ]
    speeds = [
        (step, (after - before) / (now - then))
        for (_, before, then), (step, after, now) in pairwise(counted)
        if now > then and after > before
    ]
    return (
        Series([step for step, _ in speeds], [speed for _, speed in speeds]) if speeds else curves.series("throughput")
    )


def _drawn(series: Series) -> tuple[list[int], list[float | None]]:
    """At most `POINTS` points; what is no number is a gap in the line."""
    steps, values = series.steps, series.values
    if len(steps) > POINTS:
        size = -(-len(steps) * 2 // POINTS)
        kept: list[int] = []
        for start in range(0, len(steps), size):
            piece = [at for at in range(start, min(start + size, len(steps))) if math.isfinite(values[at])]
            kept += (
                sorted({min(piece, key=values.__getitem__), max(piece, key=values.__getitem__)}) if piece else [start]
            )
        steps, values = [steps[at] for at in kept], [values[at] for at in kept]
    return list(steps), [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]


def _marks(training: Training) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Where findings begin: a line through all panels, and the name above."""
    shapes, annotations = [], []
    for at, finding in enumerate(finding for finding in training.findings if finding.step):
        shapes.append({"type": "line", "x0": finding.step, "x1": finding.step, "y0": 0, "y1": 1, "yref": "paper",
                       "line": {"color": "#c92a2a", "width": 1, "dash": "dash"}})  # fmt: skip
        annotations.append({"x": finding.step, "y": 1 - 0.03 * at, "yref": "paper", "text": finding.name, "showarrow": False,
                            "xanchor": "left", "font": {"color": "#c92a2a", "size": 12}})  # fmt: skip
    return shapes, annotations
