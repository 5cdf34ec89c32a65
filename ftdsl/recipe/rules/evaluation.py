"""Evaluation: the metric that selects the best checkpoint, and the rows held out from training."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ftdsl.diagnostics import guessed
from ftdsl.diagnostics.suggest import closest
from ftdsl.language.values import Amount, StageRef, Term
from ftdsl.recipe.heads import head_of
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.recipe.rules.data import named
from ftdsl.recipe.settings import Settings
from ftdsl.recipe.shape import files_of, local_path
from ftdsl.record import frozen
from ftdsl.session import Session
from ftdsl.source import Span

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


def held_out_shares(recipe: Recipe, session: Session) -> None:
    """Parts of a data stage that are held out together leave rows for its train part."""
    for stage in recipe.stages:
        parts = [stage.settings.get(key) for key in ("holdout.eval", "holdout.test")]
        numbers = [part for part in parts if isinstance(part, Amount)]
        if len(numbers) < 2 or not all(
            part.number < 1 if part.unit == "share" else part.number >= 1 for part in numbers
        ):
            continue
        span = stage.spans.get("holdout.test", stage.span)
        if all(part.unit == "share" for part in numbers):
            share = sum(part.number for part in numbers)
            if share >= 0.9999:
                text = f"`eval` and `test` together hold out {share * 100:.4g}% of the rows"
                session.sink.error("FT069", text, span, help="hold out less: what is left is trained on")
            continue
        total = None if session.elsewhere else _count_rows(stage, "source", recipe, session)
        held = sum(part.number * (total or 0) if part.unit == "share" else part.number for part in numbers)
        if total and held >= total and not any(part.unit == "count" and part.number >= total for part in numbers):
            text = f"`eval` and `test` together hold out {held:g} rows of {total}"
            session.sink.error("FT069", text, span, help="hold out less: what is left is trained on")


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


# --- benchmarks and functions of the author's own


@frozen
class TaskFile:
    """A task file of lm-eval. name: its `task`; files: those that it names and that lie beside it, seen from the recipe;
    missing: of those that it must have, the ones that do not.
    """

    name: str
    files: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def task_file(path: str, folder: Path, session: Session) -> TaskFile | None:
    """What a task file names; None where it cannot be read, or is none. Its functions are not run."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Keeps a function as its name."""

    Loader.add_multi_constructor("!", lambda loader, tag, node: f"!{tag} {getattr(node, 'value', '')}")
    try:
        config = yaml.load(session.files.text(folder / path), Loader)
    except (OSError, ValueError, yaml.YAMLError):
        return None
    if not isinstance(config, dict) or not isinstance(config.get("task"), str):
        return None
    beside = PurePosixPath(path).parent
    names = [text for text in _texts(config.get("dataset_kwargs")) if "." in text and "://" not in text]
    names += [
        f"{text.split()[-1].rpartition('.')[0].replace('.', '/')}.py"
        for text in _texts(config)
        if text.startswith("!function ")
    ]
    names += [name for name in [config.get("include")] if isinstance(name, str)]
    files = [str(beside / name) for name in dict.fromkeys(names) if not name.startswith("/")]
    there = tuple(file for file in files if session.files.exists(folder / file))
    needed = [str(beside / name) for name in _data_files(config) if not re.search(r"[*?\[]|^/|^~|://", name)]
    return TaskFile(config["task"], there, tuple(file for file in needed if not session.files.exists(folder / file)))


def _data_files(config: Mapping[str, Any]) -> list[str]:
    """Files of rows: `dataset_path: json` reads them from beside the task, and from nowhere else."""
    options = config.get("dataset_kwargs")
    if config.get("dataset_path") not in ("json", "csv", "parquet", "text", "arrow") or not isinstance(options, dict):
        return []
    return [*_texts(options.get("data_files"))] if not options.get("data_dir") else []


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def own_scorers(settings: Settings) -> list[str]:
    """Functions of the author's own in `metrics`: `score.py:exact`."""
    return [
        str(item.options["path"])
        for item in settings.items("metrics")
        if isinstance(item, Term) and item.name == "file"
    ]


def own_files_are_there(recipe: Recipe, session: Session) -> None:
    """Task files are tasks, and scorers name a file and a function of it, before hours of training."""
    for stage in recipe.stages:
        if stage.kind != "eval":
            continue
        for term in stage.settings.items("tasks"):
            if isinstance(term, Term) and term.name == "file":
                _check_task(stage, str(term.options["path"]), recipe, session)
        for path in own_scorers(stage.settings):
            _check_scorer(stage, path, recipe, session)


def _check_task(stage: Stage, path: str, recipe: Recipe, session: Session) -> None:
    span = stage.spans.get("tasks", stage.span)
    if not session.files.exists(recipe.folder / path):
        if not session.elsewhere:
            session.sink.error("FT501", f"`{path}` is not there", span)
        return
    known = task_file(path, recipe.folder, session)
    if known is None:
        help = "a task of lm-eval is YAML with a `task`: its name"
        session.sink.error("FT974", f"`{path}` is no task file of lm-eval", span, help=help)
    elif known.missing and not session.elsewhere:
        help = "`data_files` are seen from the folder of the task file"
        session.sink.error("FT501", f"`{known.missing[0]}`, which `{path}` reads, is not there", span, help=help)


def _check_scorer(stage: Stage, path: str, recipe: Recipe, session: Session) -> None:
    span = stage.spans.get("metrics", stage.span)
    file, _, function = path.rpartition(":")
    if not file.endswith(".py") or not function.isidentifier():
        help = 'write `file("score.py:exact")`: a Python file, and a function in it'
        session.sink.error("FT974", f"`{path}` names no function", span, help=help)
    elif not session.files.exists(recipe.folder / file):
        if not session.elsewhere:
            session.sink.error("FT501", f"`{file}` is not there", span)
    elif not re.search(rf"^(?:async )?(?:def\s+{function}\b|{function}\s*[:=]|(?:from|import)\b.*\b{function}\b)",
                       session.files.text(recipe.folder / file), re.MULTILINE):  # fmt: skip
        session.sink.error("FT974", f"`{file}` has no function `{function}`", span)


def tasks_have_own_names(recipe: Recipe, session: Session) -> None:
    """Each benchmark gives a metric of its name, which no other one, and no score of the rows, may have."""
    for stage in recipe.stages:
        if stage.kind != "eval" or "tasks" in stage.unknown:
            continue
        span = stage.spans.get("tasks", stage.span)
        others = {*_row_scores(stage), *(path.rpartition(":")[2] for path in own_scorers(stage.settings))}
        names: set[str] = set()
        for name in task_names(stage, recipe, session):
            if name in names:
                help = "measure it once, or write another stage for it"
                session.sink.error("FT006", f"the benchmark `{name}` is named twice", span, help=help)
            elif name in others:
                text = f"the benchmark `{name}` has the name of another score of `{stage.name}`"
                session.sink.error(
                    "FT006", text, span, help="give its file another `task`, or measure it in a stage of its own"
                )
            names.add(name)


def gates_are_measured(recipe: Recipe, session: Session) -> None:
    """A gate on a score that is not measured, here or where it is compared, would refuse whatever the model is."""
    for stage in recipe.stages:
        if stage.kind != "eval":
            continue
        for metric, bound in stage.settings.inside("gate").items():
            span = stage.keys.get(f"gate.{metric}") or stage.spans.get(f"gate.{metric}", stage.span)
            if f"gate.{metric}" in stage.unknown:
                continue
            if _is_measured(stage, metric, span, recipe, session):
                _is_comparable(stage, metric, bound, recipe, session)


def _is_measured(stage: Stage, metric: str, span: Span, recipe: Recipe, session: Session) -> bool:
    if gives(stage, metric, recipe, session):
        return True
    scores = set(measured_scores(stage, recipe, session))
    guess = closest(metric, scores)
    help = f"did you mean `{guess}`?" if guess else f"scores here: {', '.join(sorted(scores))}"
    if metric.replace("bleu_4", "bleu") in scores:
        help = f"did you mean `{metric.replace('bleu_4', 'bleu')}`?"
    elif member := next((member for member, names in SCORES.items() if metric in names), None):
        help = f"write `metrics = [{member}]`" if stage.settings.get("data") is not None else "it is a score of `data`"
    session.sink.error("FT068", f"`{stage.name}` does not measure `{metric}`", span, help=help)
    return False


def _is_comparable(stage: Stage, metric: str, bound: Any, recipe: Recipe, session: Session) -> None:
    """The other side of `no_worse`, and the standard errors that it is compared by."""
    if not isinstance(bound, Term) or bound.name != "no_worse":
        return
    than, by = bound.options.get("than"), bound.options.get("by")
    other = recipe.find(than.key) if isinstance(than, StageRef) else None
    span = stage.spans.get(f"gate.{metric}", stage.span)
    compared = other is not None and other.kind == "eval" and than != stage.settings.get("against")
    if other is not None and compared and not gives(other, metric, recipe, session):
        help = f"measure it in `{other.name}` too, or write `against` in `{stage.name}`"
        session.sink.error(
            "FT068", f"`{other.name}`, which it is compared with, does not measure `{metric}`", span, help=help
        )
        return
    if isinstance(by, Amount) and by.unit == "stderrs" and not _has_error(stage, metric, recipe, session):
        help = "write a share or a number, such as `by = 0.5%`"
        session.sink.error(
            "FT068", f"`{metric}` has no standard error: benchmarks and functions of your own have one", span, help=help
        )


def _has_error(stage: Stage, metric: str, recipe: Recipe, session: Session) -> bool:
    own = [path.rpartition(":")[2] for path in own_scorers(stage.settings)]
    names = list(task_names(stage, recipe, session))
    return metric in own or any(metric == name or metric.startswith(f"{name}_") for name in names)


def gives(stage: Stage, metric: str, recipe: Recipe, session: Session) -> bool:
    """Whether an `eval` stage measures a score; those of a benchmark may have an ending."""
    endings = tuple(f"{name}_" for name in task_names(stage, recipe, session))
    own = [f"{path.rpartition(':')[2]}_stderr" for path in own_scorers(stage.settings)]
    return metric in (*measured_scores(stage, recipe, session), *own) or metric.startswith(endings)


def measured_scores(stage: Stage, recipe: Recipe, session: Session) -> Iterator[str]:
    """The scores of an `eval` stage."""
    if stage.settings.get("serve") is not None:
        yield from ("prompts_equal", "answers_equal")
        return
    yield from _row_scores(stage)
    if stage.settings.get("data") is not None:
        yield from (path.rpartition(":")[2] for path in own_scorers(stage.settings))
    yield from task_names(stage, recipe, session)


def _row_scores(stage: Stage) -> list[str]:
    """What the engine measures on rows: the loss where it is asked for or nothing is, answers where they are compared."""
    if stage.settings.get("data") is None or stage.settings.get("serve") is not None:
        return []
    members = stage.settings.names("metrics") or ["loss"]
    scores = ["loss", "perplexity"] if {"loss", "accuracy"} & {*members} else []
    scores += [name.replace("bleu_4", "bleu") for member in members for name in SCORES.get(member, ())]
    return list(dict.fromkeys(scores))


def task_names(stage: Stage, recipe: Recipe, session: Session) -> Iterator[str]:
    """The benchmarks of a stage, by the names of their metrics."""
    for term in stage.settings.items("tasks"):
        if isinstance(term, Term) and term.name != "file":
            yield term.name
        elif isinstance(term, Term):
            path = str(term.options["path"])
            known = task_file(path, recipe.folder, session)
            yield known.name if known else PurePosixPath(path).stem


__all__ = [
    "best_by_is_measured",
    "gates_are_measured",
    "gives",
    "held_out_is_there",
    "held_out_shares",
    "measured_scores",
    "own_files_are_there",
    "own_scorers",
    "task_file",
    "task_names",
    "tasks_have_own_names",
]
