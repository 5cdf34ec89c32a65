"""The summary of a run: a table of stages, scores side by side, and sample answers of each model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ftdsl.observe.metrics import Result, Sample
from ftdsl.observe.progress import RunProgress, StageProgress, Status
from ftdsl.observe.sweep import rows as sweep_rows
from ftdsl.observe.sweep import spent, sweeps
from ftdsl.observe.text import number, score, score_names
from ftdsl.printable import printable, shortened

MARKS = {
    Status.DONE: "done", Status.CACHED: "done before", Status.FAILED: "FAILED", Status.REFUSED: "REFUSED",
    Status.SKIPPED: "skipped", Status.STOPPED: "stopped", Status.WAITING: "waiting", Status.RUNNING: "running",
}  # fmt: skip
SAMPLES = 5
ENTRIES = 8
"""Entries of a stage's ledger that are shown; all are in its metrics.jsonl."""
FAILED = 60
"""Maximum length of a failure in the table."""


def summary(run: RunProgress, *, smoke: bool = False) -> list[str]:
    """The lines of the summary. Of a smoke run only what was tried, since its numbers mean nothing."""
    if smoke:
        return columns([("stage", "", "time", "what was tried"), *(_tried(stage) for stage in run.stages)])
    lines = columns([("stage", "", "time", "result", "where"), *(_row(stage, run) for stage in run.stages)])
    for sweep in sweeps(run):
        lines += ["", *columns(sweep_rows(sweep)), *([sweep.note] if sweep.note else [])]
    lines += ledger(run)
    scored = [
        stage for stage in run.stages if stage.result and stage.result.kind == "metrics" and stage.kind != "scores"
    ]
    if scored:
        lines += ["", *_scores(scored)]
    if answered := [stage for stage in scored if stage.result and stage.result.samples]:
        lines += ["", *_answers(answered)]
    return lines


def before_output(stage: StageProgress) -> str:
    """What a stage does that has printed nothing yet: an author's own script may never."""
    return "no output yet" if stage.kind == "shell" else "starting"


def ledger(run: RunProgress) -> list[str]:
    """What guards detected in trainings and did, also of stages that are taken from an earlier run; empty where nothing was."""
    lines: list[str] = []
    for stage in run.stages:
        kept = stage.result.ledger if stage.result else ()
        messages = [str(entry["message"]) for entry in stage.ledger] or list(kept)
        if messages:
            lines += [
                "",
                f"{stage.key}: what its guard saw and did",
                *(f"  {' '.join(printable(text).split())}" for text in messages[:ENTRIES]),
            ]
        if len(messages) > ENTRIES:
            lines.append(
                f"  and {len(messages) - ENTRIES} more in {run.folder.as_posix()}/{stage.folder}/metrics.jsonl"
            )
    return lines


def _tried(stage: StageProgress) -> tuple[str, ...]:
    steps = [f"{stage.step} steps"] if stage.status.ok and stage.what == "steps" else []
    parts = [part for part in (_cell_text(stage), *steps, *stage.notes) if part]
    return stage.key, MARKS[stage.status], spent(stage), ", ".join(parts)


def _row(stage: StageProgress, run: RunProgress) -> tuple[str, ...]:
    where = f"{run.folder.as_posix()}/{stage.folder}" if stage.status is not Status.SKIPPED else ""
    if stage.result and stage.status.ok and stage.result.path and stage.result.path != stage.folder:
        where = result_path(run.folder, stage.result.path)
    if stage.status is Status.FAILED:
        where = f"{run.folder.as_posix()}/{stage.folder}/log.txt"
    return stage.key, MARKS[stage.status], spent(stage), _cell_text(stage), where


def _cell_text(stage: StageProgress) -> str:
    """The result, or the reason of a failure in short; the caller prints it in full below the table."""
    text = result_text(stage)
    return _short(text, FAILED) if stage.status is Status.FAILED else text


def result_path(run: Path, path: str) -> str:
    """A result's path, relative to the current folder if it is below the recipe's inputs."""
    whole = run / path
    if path.startswith("inputs/"):
        try:
            return whole.resolve().relative_to(Path.cwd()).as_posix()
        except ValueError:
            return whole.resolve().as_posix()
    return whole.as_posix()


def result_text(stage: StageProgress) -> str:
    """The result as a short text."""
    if not stage.status.ok:
        return stage.message
    result = stage.result
    if result is None:
        return ""
    metrics = result.metrics
    if result.kind == "dataset":
        return ", ".join(f"{number(value)} {name}" for name, value in metrics.items())
    if "first_reward" in metrics and "reward" in metrics:
        return f"reward {number(metrics['first_reward'])} -> {number(metrics['reward'])}"
    if "first_loss" in metrics and "last_loss" in metrics:
        return f"loss {number(metrics['first_loss'])} -> {number(metrics['last_loss'])}"
    if result.kind == "metrics":
        return ", ".join(f"{name} {score(name, metrics)}" for name in score_names([metrics]))
    if "parameters" in metrics:
        return f"{number(metrics['parameters'])} parameters"
    return f"{metrics['bytes'] / 1e6:,.1f} MB" if "bytes" in metrics else result.kind


def _scores(stages: Sequence[StageProgress]) -> list[str]:
    """A table: one row per metric, one column per stage."""
    tables: list[Mapping[str, float]] = [stage.result.metrics for stage in stages if stage.result]
    rows = [("metric", *(stage.key for stage in stages))]
    for name in score_names(tables):
        rows.append((name, *(score(name, table, "-") for table in tables)))
    return columns(rows, right=True)


def _answers(stages: Sequence[StageProgress]) -> Iterator[str]:
    """Answers of all models to the questions that they share."""
    tables = [{sample.prompt: sample for sample in _samples(stage.result)} for stage in stages]
    prompts = [prompt for prompt in tables[-1] if all(prompt in table for table in tables)][:SAMPLES]
    width = max(len("wanted"), *(len(stage.key) for stage in stages))
    for prompt in prompts:
        yield _short(_question(prompt))
        yield f"  {'wanted':{width}}  {_short(tables[-1][prompt].label)}"
        for stage, table in zip(stages, tables, strict=True):
            yield f"  {stage.key:{width}}  {_short(table[prompt].predict)}"


def _samples(result: Result | None) -> tuple[Sample, ...]:
    return result.samples if result else ()


def _question(prompt: str) -> str:
    """The last question, without the markers of the chat template."""
    lines = [
        line for line in prompt.replace("<|im_end|>", "").split("\n") if line.strip() and not line.startswith("<|")
    ]
    return lines[-1] if lines else prompt


def _short(text: str, width: int = 100) -> str:
    return shortened(" ".join(text.split()), width)


def columns(rows: Sequence[Sequence[str]], *, right: bool = False) -> list[str]:
    """Rows as aligned lines, by display width; nothing is wrapped."""
    rows = [[printable(cell.replace("\n", " ")) for cell in row] for row in rows]
    grid = Table.grid(padding=(0, 2))
    for at in range(len(rows[0])):
        grid.add_column(justify="right" if right and at else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    console = Console(file=StringIO(), width=sum(max(map(cell_len, column)) + 2 for column in zip(*rows, strict=True)))
    with console.capture() as capture:
        console.print(grid)
    return [line.rstrip() for line in capture.get().splitlines()]
