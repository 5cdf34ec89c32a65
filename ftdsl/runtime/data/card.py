"""card.html: the report as a page of its own, for people. Everything is worked out here; the template only prints."""

from __future__ import annotations

import json
import math
import os
from bisect import bisect_right
from functools import cache
from typing import Any

Facts = dict[str, Any]
BINS, WIDTH, HEIGHT = 48, 720, 150
MARKS = (50, 90, 99)
LONG = (512, 1024, 2048, 4096, 8192, 16384, 32768)
REASONS = {
    "bad_roles": "speakers do not take turns", "empty": "question or answer empty", "no_text": "no text at all",
    "broken": "not readable, or not of the format",
    "too_long": "longer than its reader takes", "tokens": "too short or too long", "languages": "in another language",
    "duplicates": "the same as another row", "near_duplicates": "almost the same as another row",
    "held_out": "held out for evaluation", "named": "named in the recipe",
}  # fmt: skip


def html(facts: Facts) -> str:
    """The page."""
    return str(_template().render(view(facts)))


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = os.path.dirname(os.path.abspath(__file__))
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("card.html.j2")


def view(facts: Facts) -> dict[str, Any]:
    """What the template prints."""
    stage, dropped = facts["stage"], facts["dropped"]
    rows = sum(facts["read"].values())
    return {
        "title": stage.partition("-")[2] or stage,
        "where": facts["where"],
        "format": facts["format"],
        "lead": _lead(facts, rows),
        "warnings": facts["warnings"],
        "tiles": _tiles(facts, rows),
        "flow": _flow(facts, rows),
        "lengths": [_lengths(facts["tokens"]), _lengths(facts["characters"])],
        "sources": [_source(source, rows) for source in facts["sources"]],
        "dropped": _dropped(facts),
        "dropped_note": _dropped_note(facts) if dropped else [],
        "samples": [_sample(sample) for sample in facts["samples"]],
        "parts": [
            part | {"rows": f"{part['rows']:,}", "bytes": size(part["bytes"])} for part in facts["parts"].values()
        ],
    }


def _lead(facts: Facts, rows: int) -> str:
    splits = facts["splits"]
    names = {"train": "to train on", "eval": "to evaluate with", "test": "to test with"}
    parts = ", ".join(f"{count:,} {names.get(name, name)}" for name, count in splits.items())
    files = len(facts["read"])
    return f"{rows:,} rows of {files:,} file{'s' * (files != 1)}: {parts}."


def _tiles(facts: Facts, rows: int) -> list[dict[str, str]]:
    dropped = sum(facts["dropped"].values())
    written = sum(facts["splits"].values())
    tiles = [
        {"name": name, "value": short(count), "note": f"{_share(count, written)} of what was written"}
        for name, count in facts["splits"].items()
    ]
    tiles.append({"name": "dropped", "value": short(dropped), "note": f"{_share(dropped, rows)} of what was read"})
    tiles.append({"name": "read", "value": size(sum(facts["sizes"].values())), "note": f"{rows:,} rows"})
    for lengths in (facts["tokens"], facts["characters"]):
        if lengths["quantiles"]:
            middle = lengths["quantiles"][len(lengths["quantiles"]) // 2]
            tiles.append({"name": f"median {lengths['unit']}", "value": f"{middle:,}", "note": "a row"})
            break
    return tiles


def _flow(facts: Facts, rows: int) -> list[dict[str, Any]]:
    """What became of the rows that were read, as shares of a bar."""
    kept = sum(source["kept"] for source in facts["sources"])
    spare = sum(source["not_sampled"] for source in facts["sources"])
    shares = [("kept", kept, "kept")]
    shares += [(REASONS.get(why, why), count, "drop") for why, count in facts["dropped"].items()]
    shares += [("not in the sample", spare, "spare")] if spare else []
    return [
        {"name": name, "count": f"{count:,}", "share": _share(count, rows), "width": f"{100 * count / max(1, rows):.3f}",
         "kind": kind, "shade": f"{max(0.5, 1.1 - 0.12 * at):.2f}"}
        for at, (name, count, kind) in enumerate(shares)
    ]  # fmt: skip


# --- lengths


def _lengths(lengths: Facts) -> dict[str, Any]:
    unit, table = lengths["unit"], lengths["quantiles"]
    if not table:
        return {"unit": unit, "note": f"Not counted: {lengths['why']}.", "pictures": [], "facts": [], "long": []}
    by = f" by the tokenizer of {lengths['by']}" if lengths.get("exact") else ""
    note = f"{lengths['of']:,} rows measured{by}."
    if unit == "tokens":
        guess = "" if lengths["exact"] else f" Estimated from bytes: {lengths['why']}."
        note += f"{guess} A chat template adds a few tokens a turn."
    named = [("shortest", 0), ("median", 500), ("90%", 900), ("95%", 950), ("99%", 990), ("longest", 1000)]
    return {
        "unit": unit,
        "note": note,
        "pictures": [_histogram(table)],
        "facts": [{"name": name, "value": f"{table[at]:,}"} for name, at in named],
        "long": _long(table) if unit == "tokens" else [],
    }


def above(table: list[int], length: int) -> float:
    """The share of rows longer than a length, to a thousandth."""
    return 1 - bisect_right(table, length) / len(table)


def _long(table: list[int]) -> list[dict[str, str]]:
    shares = [(length, above(table, length)) for length in LONG if length < table[-1] and length >= table[0]]
    return [
        {"length": f"{length:,}", "share": _percent(share), "width": f"{100 * share:.2f}"} for length, share in shares
    ]


def _histogram(table: list[int]) -> dict[str, Any]:
    """Bars over lengths; the axis is logarithmic where the longest rows would squeeze the rest."""
    low, high = table[0], max(table[-1], table[0] + 1)
    steep = high > 8 * max(1, table[len(table) // 2])
    at = (lambda value: math.log1p(value)) if steep else float
    first, span = at(low), at(high) - at(low)
    counts = [0] * BINS
    for value in table:
        counts[min(BINS - 1, int((at(value) - first) / span * BINS))] += 1
    tallest, step = max(counts), WIDTH / BINS
    bars = [
        {"x": f"{number * step + 1:.1f}", "width": f"{step - 2:.1f}", "y": f"{HEIGHT - HEIGHT * count / tallest:.1f}",
         "height": f"{HEIGHT * count / tallest:.1f}", "tip": f"{100 * count / len(table):.1f}% of the rows"}
        for number, count in enumerate(counts) if count
    ]  # fmt: skip
    marks = [
        _mark(number, table[part * 10], (at(table[part * 10]) - first) / span * WIDTH)
        for number, part in enumerate(MARKS)
    ]
    ticks = [_tick(number, first, span, steep) for number in range(5)]
    return {"bars": bars, "marks": marks, "ticks": ticks, "width": WIDTH, "height": HEIGHT, "axis": HEIGHT + 18}


def _mark(number: int, value: int, x: float) -> dict[str, Any]:
    """A line at a length; its label is on the side with room."""
    right = x > WIDTH * 0.8
    return {
        "x": f"{x:.1f}",
        "name": f"{MARKS[number]}%: {value:,}",
        "y": 12 + 14 * number,
        "anchor": "end" if right else "start",
        "text": f"{x + (-5 if right else 5):.1f}",
    }


def _tick(number: int, first: float, span: float, steep: bool) -> dict[str, Any]:
    value = first + span * number / 4
    value = math.expm1(value) if steep else value
    anchor = "start" if number == 0 else "end" if number == 4 else "middle"
    return {"x": f"{WIDTH * number / 4:.1f}", "name": f"{round(value):,}", "anchor": anchor}


# --- tables and samples


def _source(source: Facts, rows: int) -> dict[str, Any]:
    options = ", ".join(
        f"{word} {source[word]:,}" for word in ("limit", "sample", "repeat", "weight") if word in source
    )
    return {
        "name": source["name"],
        "where": source["where"],
        "files": f"{source['files']:,}",
        "rows": f"{source['rows']:,}",
        "kept": f"{source['kept']:,}",
        "dropped": f"{sum(source['dropped'].values()):,}",
        "characters": f"{source['characters']:,.0f}",
        "options": ", ".join(
            text for text in (f"held out as {source['part']}" if source["part"] else "", options) if text
        ),
        "width": f"{100 * source['rows'] / max(1, rows):.2f}",
    }


def _dropped(facts: Facts) -> list[dict[str, str]]:
    return [
        {"why": REASONS.get(why, why), "rule": why, "file": file["file"], "rows": f"{count:,}",
         "share": _share(count, file["rows"])}
        for why in facts["dropped"]
        for file in facts["files"]
        if (count := file["dropped"].get(why))
    ]  # fmt: skip


def _dropped_note(facts: Facts) -> list[str]:
    cap = facts["dropped_rows_cap"]
    most = max(facts["dropped"].values())
    some = f" (the first {cap:,} of each kind)" if most > cap else ""
    return [f"The rows themselves{some} are in {facts['dropped_rows']}."]


def _sample(sample: Facts) -> dict[str, Any]:
    return {"part": sample["part"], "where": sample["where"], "fields": list(_fields(sample["row"]))}


def _fields(row: Facts) -> list[dict[str, str]]:
    fields = []
    for name, value in row.items():
        if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
            for turn in value:
                role = str(turn.get("role") or turn.get("from") or name)
                text = turn.get("content") or turn.get("value")
                fields.append(
                    {"name": role, "text": text if isinstance(text, str) else _json(turn), "side": _side(role)}
                )
        elif value not in (None, "", []):
            fields.append(
                {"name": name, "text": value if isinstance(value, str) else _json(value), "side": _side(name)}
            )
    return fields


def _side(name: str) -> str:
    answers = ("assistant", "gpt", "output", "response", "answer", "chosen", "rejected", "completion")
    return "answer" if name in answers else "asked"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# --- numbers


def size(count: float) -> str:
    """`5.01 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"


def short(count: int) -> str:
    """`224,219`, `12.6 M`."""
    return f"{count:,}" if count < 1_000_000 else f"{count / 1e6:.3g} M" if count < 1e9 else f"{count / 1e9:.3g} G"


def _share(count: int, of: int) -> str:
    return _percent(count / of) if of else ""


def _percent(share: float) -> str:
    if 0 < share < 0.0005:
        return "< 0.1%"
    return "100%" if share == 1 else f"{100 * share:.1f}%"
