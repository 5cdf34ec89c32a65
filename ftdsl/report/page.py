"""A run, or several, as one page of HTML that opens without a network. plotly draws (its script is in the page).

Whatever comes from a run is text: it is escaped here, and nowhere becomes markup or code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any

from ftdsl.diagnose.examined import Training
from ftdsl.observe.progress import Status
from ftdsl.observe.table import result_text
from ftdsl.observe.text import duration, number, score, score_names
from ftdsl.plan.graph import Node, drawn
from ftdsl.report.figures import figure
from ftdsl.report.gather import RunReport, StageReport, differences
from ftdsl.report.style import CSS, SCRIPT

SAMPLES = 8
"""Answers that are shown of a stage."""


class NoPlotlyError(Exception):
    """The package that draws is not installed."""


def page(reports: Sequence[RunReport]) -> str:
    """The whole page. Raises: NoPlotlyError."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise NoPlotlyError from None
    figures: list[dict[str, Any]] = []
    title = " and ".join(report.label for report in reports)
    body = "\n".join(_run(reports[0], figures) if len(reports) == 1 else _several(reports, figures))
    data = "\n".join(
        f'<script type="application/json" id="f{at}">{_json(made)}</script>' for at, made in enumerate(figures)
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n{body}\n</main>\n"
        f"{data}\n<script>{get_plotlyjs()}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _json(value: object) -> str:
    """JSON that ends no script."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _figure(figures: list[dict[str, Any]], trainings: Sequence[tuple[str, Training]]) -> str:
    made = figure(trainings)
    if not made["data"]:
        return ""
    figures.append(made)
    return f'<div data-figure="f{len(figures) - 1}" style="min-height:{made["layout"]["height"]}px"></div>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are text."""
    body = "".join("<tr>" + "".join(f'<td class="break">{escape(cell)}</td>' for cell in row) + "</tr>" for row in rows)
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return (
        f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>' if body else ""
    )


# --- one run


def _run(report: RunReport, figures: list[dict[str, Any]]) -> Iterator[str]:
    parts = {
        "Diagnosis": "\n".join(_diagnosis(report)),
        "Stages": _graph(report) + _stages(report.stages),
        "Curves": "\n".join(_curves(report, figures)),
        "Planned and measured": _table(
            ("stage", "what", "planned", "measured"),
            [(stage.progress.key, *row) for stage in report.stages for row in stage.planned],
        ),
        "Metrics and gates": _metrics(report),
        "Answers": "\n".join(_answers(report)),
        "Data": _data(report),
        "Lineage": _table(("what", "value"), report.lineage),
        "Settings": "\n".join(_settings(report)),
        "Compiled files": "\n".join(_files(report)),
    }
    smoke = ": a smoke run, whose numbers mean nothing" if report.run.smoke else ""
    yield f'<p class="dim">{escape(report.run.folder.as_posix())}, {duration(report.seconds())}{smoke}</p>'
    names = {name: name.lower().replace(" ", "-") for name, text in parts.items() if text}
    yield "<nav>" + "".join(f'<a href="#{anchor}">{name}</a>' for name, anchor in names.items()) + "</nav>"
    for name, anchor in names.items():
        yield f'<h2 id="{anchor}">{name}</h2>\n{parts[name]}'


def _diagnosis(report: RunReport) -> Iterator[str]:
    trainings = report.examined.trainings if report.examined else ()
    for training in trainings:
        if training.cause is not None:
            yield f'<div class="finding"><p><b>{escape(training.key)}</b>: {escape(training.cause.message)}</p>'
            yield f"<p>{escape(training.cause.help)}</p></div>"
        if not training.findings and training.cause is None and training.enough:
            yield f'<p><b>{escape(training.key)}</b>: <span class="good">healthy</span></p>'
        for finding in training.findings:
            changes = report.remedies.changes(training, finding)
            line = report.remedies.line(training.key, finding.keys)
            yield (
                f'<div class="finding"><p><b>{escape(training.key)}</b>: {escape(finding.message)} '
                f'<span class="dim">{finding.code} {finding.name}, {100 * finding.confidence:.0f} % sure</span></p><ul>'
            )
            yield "".join(f"<li>{escape(text)}</li>" for text in finding.evidence) + "</ul>"
            yield f"<pre>{escape(line)}</pre>" if line else ""
            yield f"<p>{escape(training.remedy(finding))}</p>"
            yield "<ol>" + "".join(f"<li>{escape(change.text)}</li>" for change in changes) + "</ol>" if changes else ""
            yield "</div>"


MARKS = {Status.DONE: "✓", Status.CACHED: "✓ cached", Status.FAILED: "✗", Status.REFUSED: "✗ refused"}


def _graph(report: RunReport) -> str:
    nodes = [
        Node(stage.progress.key, stage.progress.kind, _state(stage), stage.needs, stage.needs)
        for stage in report.stages
    ]
    known = {node.key for node in nodes}
    return f'<div class="wide">{drawn(nodes)}</div>' if all(set(node.needs) <= known for node in nodes) else ""


def _state(stage: StageReport) -> str:
    progress = stage.progress
    spent = duration(progress.elapsed(0)) if progress.started and progress.ended else ""
    return " ".join(part for part in (MARKS.get(progress.status, progress.status.value), spent) if part)


def _stages(stages: Sequence[StageReport]) -> str:
    rows = [
        (
            stage.progress.folder,
            stage.progress.title,
            _state(stage),
            stage.batch,
            result_text(stage.progress),
            stage.progress.where,
        )
        for stage in stages
    ]
    return _table(("stage", "what", "state", "batch", "result", "recipe"), rows)


def _curves(report: RunReport, figures: list[dict[str, Any]]) -> Iterator[str]:
    for stage in report.stages:
        if stage.training is not None and len(stage.training.curves.loss) > 1:
            yield f"<h3>{escape(stage.progress.key)}</h3>"
            yield _figure(figures, [(stage.progress.key, stage.training)])


def _metrics(report: RunReport) -> str:
    scored = [stage for stage in report.stages if stage.metrics]
    names = score_names(stage.metrics for stage in scored)
    rows = [(name, *(score(name, stage.metrics) for stage in scored)) for name in names]
    gates = [(stage.progress.key, gate) for stage in report.stages for gate in stage.gates]
    lines = "".join(
        f'<p><span class="{"good" if gate.holds else "bad"}">{"holds" if gate.holds else "refused"}</span> '
        f"{escape(key)}: {escape(gate.message)}</p>"
        for key, gate in gates
    )
    return _table(("metric", *(stage.progress.key for stage in scored)), rows) + lines


def _answers(report: RunReport) -> Iterator[str]:
    """The same questions to each model, before and after."""
    with_samples = [stage for stage in report.stages if stage.samples]
    if not with_samples:
        return
    tables = [{sample.prompt: sample for sample in stage.samples} for stage in with_samples]
    prompts = [prompt for prompt in tables[-1] if all(prompt in table for table in tables)][:SAMPLES]
    rows = [(prompt, tables[-1][prompt].label, *(table[prompt].predict for table in tables)) for prompt in prompts]
    yield _table(("prompt", "wanted", *(stage.progress.key for stage in with_samples)), rows)


def _data(report: RunReport) -> str:
    rows = []
    for stage in report.stages:
        splits, dropped = stage.data.get("splits"), stage.data.get("dropped")
        if isinstance(splits, dict):
            lost = ", ".join(f"{why} {count}" for why, count in dropped.items()) if isinstance(dropped, dict) else ""
            rows.append(
                (
                    stage.progress.key,
                    str(stage.data.get("format", "")),
                    ", ".join(f"{name} {count}" for name, count in splits.items()),
                    lost,
                )
            )
    return _table(("data", "format", "rows", "dropped"), rows)


def _settings(report: RunReport) -> Iterator[str]:
    for stage in report.stages:
        if stage.settings:
            yield f"<details><summary>{escape(stage.progress.key)}</summary>"
            yield _table(("key", "value"), sorted(stage.settings.items())) + "</details>"


def _files(report: RunReport) -> Iterator[str]:
    for name, text in report.files.items():
        yield f"<details><summary><code>{escape(name)}</code></summary><pre>{escape(text)}</pre></details>"


# --- several


def _several(reports: Sequence[RunReport], figures: list[dict[str, Any]]) -> Iterator[str]:
    """Curves over each other, metrics side by side, and what differs."""
    labels = [report.label for report in reports]
    yield "<h2>What differs</h2>"
    rows = [(key, *values) for key, values in differences(list(reports))]
    yield _table(("key", *labels), rows) or '<p class="dim">No setting differs.</p>'
    yield "<h2>Curves</h2>"
    for key in dict.fromkeys(stage.progress.key for report in reports for stage in report.stages):
        lines = [
            (report.label, stage.training)
            for report in reports
            for stage in report.stages
            if stage.progress.key == key and stage.training is not None and len(stage.training.curves.loss) > 1
        ]
        if lines:
            yield f"<h3>{escape(key)}</h3>" + _figure(figures, lines)
    yield "<h2>Metrics</h2>"
    metrics = [{f"{stage.progress.key}.{name}": value for stage in report.stages for name, value in stage.metrics.items()}
               for report in reports]  # fmt: skip
    names = dict.fromkeys(name for table in metrics for name in table)
    yield _table(
        ("metric", *labels), [(name, *(number(t[name]) if name in t else "" for t in metrics)) for name in names]
    )
    for report in reports:
        yield f"<h2>Diagnosis: {escape(report.label)}</h2>"
        yield from _diagnosis(report)
