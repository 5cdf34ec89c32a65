"""`python -m benchmarks.plot MEMORY.csv THROUGHPUT.csv OUT.svg`: estimated against measured, both axes logarithmic, as SVG."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from benchmarks.memory import estimate as gib
from benchmarks.rows import read
from benchmarks.scoring import Scored, score
from benchmarks.throughput import estimate as rate

SIZE, GAP = 380, 70
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2")


def panel(scored: list[Scored], title: str, unit: str, left: int) -> list[str]:
    """One square of points, with the diagonal and 10 % to either side."""
    points = [one for one in scored if one.estimated]
    values = [v for one in points for v in (one.measured, one.estimated or one.measured)]
    low, high = math.log10(min(values)) - 0.05, math.log10(max(values)) + 0.05

    def at(value: float) -> float:
        return SIZE * (math.log10(value) - low) / (high - low)

    shapes = [
        f'<g transform="translate({left},40)">',
        f'<rect width="{SIZE}" height="{SIZE}" fill="none" stroke="#999"/>',
    ]
    shapes.append(f'<text x="{SIZE / 2}" y="-14" text-anchor="middle" font-weight="bold">{title}</text>')
    shapes.append(f'<text x="{SIZE / 2}" y="{SIZE + 38}" text-anchor="middle">measured, {unit}</text>')
    shapes.append(
        f'<text transform="translate(-42,{SIZE / 2}) rotate(-90)" text-anchor="middle">estimated, {unit}</text>'
    )
    for tick in ticks(10**low, 10**high):
        x = at(tick)
        shapes.append(f'<text x="{x:.0f}" y="{SIZE + 16}" text-anchor="middle">{tick:g}</text>')
        shapes.append(f'<text x="-6" y="{SIZE - x + 4:.0f}" text-anchor="end">{tick:g}</text>')
        shapes.append(f'<path d="M{x:.1f} 0V{SIZE}M0 {SIZE - x:.1f}H{SIZE}" stroke="#eee"/>')
    band = SIZE * math.log10(1.1) / (high - low)
    for shift, dash in ((0.0, ""), (band, ' stroke-dasharray="4 4"'), (-band, ' stroke-dasharray="4 4"')):
        a, b = max(0.0, -shift), min(SIZE, SIZE - shift)
        shapes.append(f'<path d="M{a:.1f} {SIZE - a - shift:.1f}L{b:.1f} {SIZE - b - shift:.1f}" stroke="#bbb"{dash}/>')
    sources = sorted({one.row.source for one in points})
    for one in points:
        colour = COLOURS[sources.index(one.row.source) % len(COLOURS)]
        x, y = at(one.measured), SIZE - at(one.estimated or one.measured)
        shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}" fill-opacity=".55"/>')
    for place, source in enumerate(sources):
        colour = COLOURS[place % len(COLOURS)]
        shapes.append(f'<circle cx="12" cy="{16 + 16 * place}" r="4" fill="{colour}"/>')
        shapes.append(f'<text x="22" y="{20 + 16 * place}">{source}</text>')
    return [*shapes, "</g>"]


def ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 of each decade in between, or only 1 where there are many decades."""
    steps = (1, 2, 5) if high / low < 200 else (1,)
    found = [step * 10.0**power for power in range(-3, 8) for step in steps]
    return [value for value in found if low <= value <= high]


def main(memory_csv: str, throughput_csv: str, out: str) -> int:
    memory = score(read(Path(memory_csv)), "eval_mem", "mem_gib", "mem_kind", gib)
    speed = score(read(Path(throughput_csv)), "eval_tput", "tok_s_gpu", "tput_unit", rate)
    width, height = 2 * (SIZE + GAP) + 30, SIZE + 100
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *panel(memory, "peak memory of a card", "GiB", GAP),
        *panel(speed, "throughput of a card", "tokens/s", SIZE + 2 * GAP + 10),
        "</svg>",
    ]
    Path(out).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python -m benchmarks.plot MEMORY.csv THROUGHPUT.csv OUT.svg")
    sys.exit(main(*sys.argv[1:]))
