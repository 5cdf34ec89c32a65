"""A run, or several, in Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ftdsl.observe.table import result_text
from ftdsl.observe.text import duration, score, score_names, sparkline
from ftdsl.report.gather import RunReport, differences


def markdown(reports: Sequence[RunReport]) -> str:
    """The whole text."""
    lines: list[str] = []
    for report in reports:
        lines += _run(report)
    if len(reports) > 1:
        rows = [(key, *values) for key, values in differences(list(reports))]
        lines += ["## What differs", "", *table(("key", *(report.label for report in reports)), rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _run(report: RunReport) -> Iterator[str]:
    yield f"## {cell(report.label)}"
    yield ""
    rows = [
        (stage.progress.folder, stage.progress.status.value,
         duration(stage.progress.elapsed(0)) if stage.progress.ended else "", result_text(stage.progress))
        for stage in report.stages
    ]  # fmt: skip
    yield from table(("stage", "state", "time", "result"), rows)
    yield ""
    for stage in report.stages:
        if stage.training is not None and len(stage.training.curves.loss.finite) > 1:
            yield f"- {cell(stage.progress.key)}: `{sparkline(stage.training.curves.loss.finite.values, 40)}`"
        for gate in stage.gates:
            yield f"- {'holds' if gate.holds else '**refused**'}: {cell(gate.message)}"
    yield ""
    yield from _diagnosis(report)
    scored = [stage for stage in report.stages if stage.metrics and stage.progress.kind == "eval"]
    if scored:
        names = score_names(stage.metrics for stage in scored)
        cells = [(name, *(score(name, stage.metrics) for stage in scored)) for name in names]
        yield from table(("metric", *(stage.progress.key for stage in scored)), cells)
        yield ""
    if report.lineage:
        yield "<details><summary>Lineage</summary>"
        yield ""
        yield from table(("what", "value"), report.lineage)
        yield ""
        yield "</details>"
        yield ""


def _diagnosis(report: RunReport) -> Iterator[str]:
    for training in report.examined.trainings if report.examined else ():
        if training.cause is not None:
            yield f"- **{cell(training.key)}**: {cell(training.cause.message)}"
        elif not training.findings and training.enough:
            yield f"- {cell(training.key)}: healthy"
        for finding in training.findings:
            yield f"- **{cell(training.key)}**: {cell(finding.message)} ({finding.code}); {cell('; '.join(finding.evidence))}"
            for change in report.remedies.changes(training, finding):
                yield f"  - {cell(change.text)}"
    yield ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if rows:
        yield f"| {' | '.join(map(cell, head))} |"
        yield f"|{'---|' * len(head)}"
        yield from (f"| {' | '.join(map(cell, row))} |" for row in rows)


def cell(text: str) -> str:
    """Text in which nothing is markup."""
    flat = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
    return flat.replace("<", "&lt;").replace("`", "\\`").replace("*", "\\*").replace("[", "\\[")
