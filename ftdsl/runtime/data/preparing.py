"""The stage itself: survey, choose, write, report."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import Any

from . import card, facts, lengths
from .blocks import CannotReadError
from .checking import REASONS
from .choosing import PARTS, Choice, choose
from .named import leave_out
from .reporter import Reporter
from .surveying import Survey
from .table import Table
from .tokens import at_hand
from .writing import Part, Writer

PARTS_OF_ROWS = {"system": "system", "tools": "tools", "history": "history", "images": "images", "videos": "videos",
                 "audios": "audios"}  # fmt: skip
"""Columns that mean something to the engine by their usual names."""
BAD = ("broken", "bad_roles", "empty", "no_text")
"""Reasons to leave out a row that say something is wrong with it; a run reports them even if the recipe asked for it."""


def prepare(spec: dict[str, Any]) -> int:
    """0 when all is written; 1 with the errors on stderr, and nothing half-written. Raises: OSError."""
    folder = spec["stage"]
    os.makedirs(folder, exist_ok=True)
    spec = spec | {"sources": [*spec["sources"], *_held(spec)]}
    with Reporter(folder) as reporter, Table(folder) as table:
        try:
            survey = Survey(spec, table, reporter)
            survey.read()
            reasons = {} if reporter.errors else leave_out(spec, table, survey.spans, reporter)
            choice = None if reporter.errors else choose(spec, table, survey.spans)
            if choice is not None:
                names = _names(spec)
                _enough(spec, names, choice, survey)
            if choice is None or reporter.errors:
                reporter.end_of_errors()
                reporter.failed("source", help=_help(reporter), where=spec["where"])
                return 1
            _warn(spec, survey, choice)
            choice.reasons = reasons
            _write(spec, survey, choice, names)
        except CannotReadError as error:
            reporter.error(spec["where"], str(error), "files")
            reporter.failed("source", where=spec["where"])
            return 1
    return 0


def _help(reporter: Reporter) -> str:
    """What can be typed for the kind of error there is most of."""
    kind = reporter.kinds.most_common(1)[0][0]
    return {
        "missing": 'name the columns the rows have: columns { prompt = "…", response = "…" }',
        "roles": 'name the speakers the rows have: roles { user = "…" }, or write drop = [bad_roles]',
        "tools": 'write tools as JSON: [{"name": "…", "description": "…", "parameters": {…}}]',
        "empty": "drop = [empty] leaves such rows out",
        "json": "drop = [broken(1%)] leaves such rows out, 1 % of all at most",
        "held out": "which part a row goes to follows from its content: with so few rows name a file, holdout { eval = file(…) }",
        "parts": "keep out less, or read more rows",
        "dropped": "keep more: drop, dedupe, tokens and languages say what goes",
    }.get(kind, "")


def _held(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Parts that have files of their own, as sources of those parts."""
    holdout = spec.get("holdout") or {}
    return [
        source | {"part": name, "where": spec["where"]}
        for name in PARTS
        for source in holdout.get(name, {}).get("sources", ())
    ]


def _names(spec: dict[str, Any]) -> list[str]:
    return ["train", *(name for name in PARTS[1:] if name in (spec.get("holdout") or {}))]


def _enough(spec: dict[str, Any], names: list[str], choice: Choice, survey: Survey) -> None:
    """Every part needs a row: for an empty one, report what became of the rows."""
    table, reporter = survey.table, survey.reporter
    for part in ("system", "tools", "history"):
        if table.rows and (column := spec["columns"].get(part)) and not survey.columns[column]:
            reporter.error(spec["where"], f"no row has a column `{column}`", "missing")
    if not table.rows:
        where = ", ".join(dict.fromkeys(span.file.name for span in survey.spans))
        reporter.error(
            where, "there are no rows in it" if len(survey.spans) == 1 else "there are no rows in them", "files"
        )
        return
    why = _dropped(survey)
    for word, share in (spec.get("at_most") or {}).items():
        every = table.rows + survey.unreadable
        if why[word] > share * every:
            text = f"{why[word]:,} of {every:,} rows would be left out ({word}), more than {100 * share:g} %"
            reporter.error(spec["where"], text, "dropped")
    went = [f"{count:,} are dropped ({reason})" for reason, count in why.most_common()]
    went += [f"{len(kept):,} in `{name}`" for name in names if len(kept := choice.kept(PARTS.index(name)))]
    for name in names:
        if not len(choice.kept(PARTS.index(name))):
            message = f"no row is left for `{name}`: {table.rows:,} were read, {', '.join(went)}"
            reporter.error(spec["where"], message, "dropped" if why else "parts" if name == "train" else "held out")


def _dropped(survey: Survey) -> Counter[str]:
    """How many rows are left out, by reason."""
    why = Counter(REASONS[number] for number in survey.table.column("why").tolist() if number)
    if survey.unreadable:
        why["broken"] += survey.unreadable
    return why


def _warn(spec: dict[str, Any], survey: Survey, choice: Choice) -> None:
    reporter, where = survey.reporter, spec["where"]
    dropped = _dropped(survey)
    if bad := [f"{dropped[word]:,} {word}" for word in BAD if dropped[word]]:
        text = (
            f"{sum(dropped[word] for word in BAD):,} of {survey.table.rows + survey.unreadable:,} rows are left out: "
        )
        help = f"they are in {spec['stage']}/dropped.jsonl; fix them, or bound their share: drop = [{bad[0].split()[1]}(1%)]"
        reporter.warning(where, text + ", ".join(bad), "drop", "source", code="FT525", help=help)
    if (spec.get("tokens") or spec.get("longest")) and (why := at_hand(spec.get("tokenizer"))[1]):
        reporter.warning(where, f"lengths are judged by bytes, 4 a token: {why}", "tokens", "drop")
    for column, part in PARTS_OF_ROWS.items():
        if (row_count := survey.columns[column]) and column not in spec["columns"].values():
            text = f"{row_count} rows have `{column}`, which nothing reads: the first row, which determines the columns, has none"
            help = f'write columns {{ {part} = "{column}" }}'
            reporter.warning(where, text, "columns", "source", help=help)
    if choice.shared:
        text = f"{choice.shared} rows of `train` are in the held-out files too; `dedupe = exact` leaves them out"
        reporter.warning(where, text, "holdout.eval", "holdout.test", code="FT510")
    if survey.undetected:
        reporter.warning(
            where,
            f"{survey.undetected} rows have no reliably detected language (short, or code); they stay",
            "languages",
        )


def _write(spec: dict[str, Any], survey: Survey, choice: Choice, names: list[str]) -> None:
    folder, reporter, table = spec["stage"], survey.reporter, survey.table
    writer = Writer(spec, table, survey.spans, choice, reporter)
    shown = facts.to_show(table, choice, spec["seed"])
    counted = lengths.to_count(spec, table, choice)
    writer.wanted = counted | set(shown)
    parts: dict[str, Part] = writer.write(names)
    reporter.progress(0, None, "lengths", now=True)
    if not writer.dropped:
        os.remove(os.path.join(folder, "dropped.jsonl"))
    if survey.unreadable:
        writer.dropped["broken"] += survey.unreadable
    report = facts.facts(spec, survey, choice, writer, parts, shown, counted)
    _put(folder, "report.json", facts.text(report))
    _put(folder, "card.html", card.html(report))
    counts = {name: part.rows for name, part in parts.items()}
    result = {"kind": "dataset", "path": folder, "metrics": counts, "samples": []}
    _put(folder, "result.json", json.dumps(result, indent=1) + "\n")
    total = sum(counts.values())
    reporter.progress(total, total, "rows", now=True)
    parts_text = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    dropped = ", ".join(f"{count:,} {why}" for why, count in report["dropped"].items())
    print(f"rows: {parts_text}" + (f"; dropped: {dropped}" if dropped else ""))
    print(f"card: {folder}/card.html")


def _put(folder: str, name: str, text: str) -> None:
    """Beside, then renamed."""
    beside = os.path.join(folder, f".{name}")
    with open(beside, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
    os.replace(beside, os.path.join(folder, name))
