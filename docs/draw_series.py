"""`python docs/draw_series.py OUT.svg METRICS.jsonl NAME[=TITLE] …`: what a stage logged, a panel for each name, as SVG.

NAME is a series of `ftc diagnose` (`loss`, `reward`, `gate_entropy`, …); `NAME*` are all that begin so, in one panel. Thin: as
logged; thick: the mean of a tenth of the run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from ftdsl.diagnose.curves import Series
from ftdsl.diagnose.read import CurvesBuilder
from ftdsl.runtime import events

WIDTH, HEIGHT, LEFT, TOP, GAP = 620, 150, 70, 26, 46
COLOURS = ("#4269d0", "#ff725c", "#3ca951", "#a463f2", "#efb118", "#6cc5b0", "#9c6b4e", "#97bbf5")


def mean(values: Sequence[float]) -> list[float]:
    """The mean of the values around each, a tenth of all."""
    half = max(1, len(values) // 20)
    parts = [values[max(0, at - half) : at + half + 1] for at in range(len(values))]
    return [sum(part) / len(part) for part in parts]


def series_of(path: Path, name: str) -> dict[str, Series]:
    """The series by name. Raises: KeyError if there is none."""
    builder = CurvesBuilder()
    builder.add_events(events.read(path))
    known = {"loss": builder.loss, **builder.more}
    start = name.removesuffix("*")
    found = {key: known[key] for key in sorted(known) if (key.startswith(start) if start != name else key == name)}
    if not found:
        raise KeyError(f"{path} has no {name}; it has {', '.join(sorted(known))}")
    return found


def panel(found: dict[str, Series], title: str, top: int) -> list[str]:
    """Axes, a thin and a thick line for each series, and their names where there are several."""
    values = [value for series in found.values() for value in series.finite.values]
    last = max(series.steps[-1] for series in found.values())
    low, high = min(values), max(values)
    margin = (high - low or abs(high) or 1.0) * 0.06
    low, high = (0.0 if 0 <= low < 0.3 * high else low - margin), high + margin

    def points(steps: Sequence[int], of: Sequence[float]) -> str:
        return " ".join(
            f"{LEFT + WIDTH * step / last:.1f},{top + HEIGHT - HEIGHT * (value - low) / (high - low):.1f}"
            for step, value in zip(steps, of, strict=True)
        )

    lines = [f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{escape(title)}</text>',
             f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>']  # fmt: skip
    for part in (0, 0.5, 1):
        y, x = top + HEIGHT - HEIGHT * part, LEFT + WIDTH * part
        lines.append(f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{low + (high - low) * part:.3g}</text>')
        lines.append(f'<text x="{x:.0f}" y="{top + HEIGHT + 16}" text-anchor="middle">{round(last * part)}</text>')
    for at, (name, series) in enumerate(found.items()):
        colour, finite = COLOURS[at % len(COLOURS)], series.finite
        thin, thick = points(finite.steps, finite.values), points(finite.steps, mean(finite.values))
        lines.append(f'<polyline points="{thin}" fill="none" stroke="{colour}" stroke-opacity=".35"/>')
        lines.append(f'<polyline points="{thick}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(found) > 1:
            x = LEFT + WIDTH - 8 - 34 * (len(found) - 1 - at)
            short = escape(name.rpartition("/")[2])
            lines.append(f'<text x="{x}" y="{top + 14}" text-anchor="end" fill="{colour}">{short}</text>')
    return lines


def main(out: Path, path: Path, names: Sequence[str]) -> None:
    """Write the picture."""
    height = TOP + len(names) * (HEIGHT + GAP)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 30} {height}" font-family="sans-serif" '
             'font-size="12">', '<rect width="100%" height="100%" fill="white"/>']  # fmt: skip
    for at, name in enumerate(names):
        key, _, title = name.partition("=")
        lines += panel(series_of(path, key), title or key, TOP + at * (HEIGHT + GAP))
    out.write_text("\n".join([*lines, "</svg>"]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
