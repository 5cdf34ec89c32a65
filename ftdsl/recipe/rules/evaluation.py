"""Evaluation: the metric that selects the best checkpoint, and the rows held out from training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftdsl.diagnostics import guessed
from ftdsl.diagnostics.suggest import closest
from ftdsl.language.values import Amount, Term
from ftdsl.recipe.heads import head_of
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.recipe.rules.data import named
from ftdsl.recipe.settings import Settings
from ftdsl.recipe.shape import files_of, local_path
from ftdsl.session import Session

SCORES = {"loss": ("loss",), "accuracy": ("accuracy",), "rouge": ("rouge_1", "rouge_2", "rouge_l", "bleu_4"),
          "bleu": ("rouge_1", "rouge_2", "rouge_l", "bleu_4")}  # fmt: skip
"""Member of `evaluate.metrics` -> its scores; the loss is always measured (llamafactory/train/sft/metric.py)."""

COUNTED = 1 << 23
"""Maximum size in bytes of a file whose lines are counted, since a check must be fast."""


def best_by_is_measured(recipe: Recipe, session: Session) -> None:
    """`save.best_by` must be a score that the evaluation measures; the engine needs it at the first checkpoint."""
    for stage in recipe.stages:
        value = stage.settings.get("save.best_by")
        metric = value.options.get("metric") if isinstance(value, Term) else value
        if not isinstance(metric, str) or stage.settings.get("evaluate.each"):
            continue
        score = metric.removeprefix("eval_")
        members = [*stage.settings.names("evaluate.metrics"), "loss"]
        if score in {name for member in members for name in SCORES.get(member, ())}:
            continue
        _not_measured(stage, metric, score, session)


def _not_measured(stage: Stage, metric: str, score: str, session: Session) -> None:
    span = stage.spans.get("save.best_by", stage.span)
    member = next((member for member, names in SCORES.items() if score in names), None)
    if member is not None:
        text = f"`{metric}` is not measured: `evaluate.metrics` lacks `{member}`"
        session.sink.error("FT068", text, span, help=f"write `evaluate {{ metrics = [loss, {member}] }}`")
        return
    scores = sorted({name for names in SCORES.values() for name in names})
    guess = closest(score, scores)
    label = f"did you mean `eval_{guess}`?" if guess else ""
    fix = guessed(span, f"eval_{guess}") if guess and span.text == metric else None
    help = f"scores: {', '.join(f'eval_{name}' for name in scores)}"
    session.sink.error("FT068", f"unknown score `{metric}`", span, label=label, help=help, fix=fix)


def held_out_is_there(recipe: Recipe, session: Session) -> None:
    """Held-out rows must leave some rows to train on."""
    if session.elsewhere:
        return
    for stage in recipe.stages:
        for key, sources in (("evaluate.data", "data"), ("holdout.eval", "source"), ("holdout.test", "source")):
            count = _count(stage.settings, key)
            total = _count_rows(stage, sources, recipe, session) if count else None
            if total and count >= total:  # an empty file is FT527
                text = f"cannot hold out {count} rows of {total}"
                session.sink.error(
                    "FT069", text, stage.spans.get(key, stage.span), help="hold out a share, such as `5%`"
                )


def _count(settings: Settings, key: str) -> int:
    value: Any = settings.get(key)
    return int(value.number) if isinstance(value, Amount) and value.unit == "count" and value.number >= 1 else 0


def _count_rows(stage: Stage, key: str, recipe: Recipe, session: Session) -> int | None:
    """The number of rows of the sources; None unless all are small local JSON Lines files."""
    total = 0
    for count in _counted(stage, key, recipe, session):
        if count is None:
            return None
        total += count
    return total


def _counted(stage: Stage, key: str, recipe: Recipe, session: Session) -> Iterator[int | None]:
    if len(list(named(stage.settings, key))) != len(stage.settings.items(key)):
        yield None
    for item in named(stage.settings, key):
        if isinstance(item, Term) and "entry" in item.options:  # the file describes the rows
            yield None
            continue
        source_path = local_path(item, recipe.folder)
        paths = files_of(source_path, recipe.folder, session.files) if source_path is not None else []
        if not paths:
            yield None
        for path in paths:
            try:
                head = head_of(path, session.files)
                small = path.suffix == ".jsonl" and session.files.size(path) <= COUNTED
                yield len(head.rows) if head.is_all else session.files.lines(path) if small else None
            except OSError:
                yield None


__all__ = ["best_by_is_measured", "held_out_is_there"]
