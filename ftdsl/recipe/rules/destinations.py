"""Destinations of results, and checkpoints to resume from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.diagnostics import Label
from ftdsl.language.values import Amount, Term
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.record import frozen
from ftdsl.session import Session

RUNS_OWNER = ".recipe"
"""The file in a folder of runs that says whose they are (run/project.py)."""


def destination_is_a_folder(recipe: Recipe, session: Session) -> None:
    """The destination, and each folder above it, must not be a file: the stage would fail after training."""
    for stage in recipe.stages:
        written = stage.settings.get("to")
        if not isinstance(written, str):
            continue
        folder = recipe.folder / written
        above = [parent for parent in folder.parents if parent.is_relative_to(recipe.folder)]
        file = next((path for path in (folder, *above) if session.files.is_file(path)), None)
        if file is not None:
            text = (
                f"`{file.relative_to(recipe.folder).as_posix() if file != folder else written}` is a file, not a folder"
            )
            help = "set another folder in `to`, or move the file"
            session.sink.error("FT956", text, stage.spans.get("to", stage.span), help=help)


@frozen
class _Input:
    """An input of a stage: the path as written, the real path (of a pattern: its fixed part), and whether it is a folder."""

    stage: Stage
    key: str
    written: str
    path: str
    folder: bool


def destination_is_its_own(recipe: Recipe, session: Session) -> None:
    """A destination must not be, contain, or be inside an input of the recipe; links are resolved.

    Exceptions: a folder that an earlier stage writes, and a checkpoint inside the destination from which the stage resumes.
    """
    inputs = [source for stage in recipe.stages for source in _inputs(stage, recipe, session)]
    recipe_folder = os.path.realpath(recipe.folder)
    for stage, written in _written(recipe):
        span = stage.spans.get("to", stage.span)
        destination = os.path.realpath(recipe.folder / written)
        conflict = next((source for source in inputs if _in_the_way(source, destination, stage, recipe)), None)
        if conflict is not None:
            over = "over" if _within(conflict.path, destination) else "into"
            text = f"`{stage.name}` would be written {over} `{conflict.written}`, which is read"
            session.sink.error("FT957", text, span, help="set another folder in `to`")
        elif _within(recipe_folder, destination):
            text = f"`{stage.name}` would be written over the recipe's own folder"
            session.sink.error("FT957", text, span, help='set a folder inside it: `to = "out/{name}"`')


def destinations_are_apart(recipe: Recipe, session: Session) -> None:
    """No destination is that of another stage, or inside of it, however it is written; links are resolved. What a later stage
    writes into the result of an earlier one is fine. None is inside a folder that ftc or git keeps.
    """
    writers = {_real(recipe, written): stage for stage, written in reversed([*_written(recipe)])}
    for stage, written in _written(recipe):
        destination = _real(recipe, written)
        span = stage.spans.get("to", stage.span)
        if kept := next((text for path in _above(destination) if (text := _kept(path, session))), None):
            text = f"`{stage.name}` would be written into {kept}"
            session.sink.error("FT957", text, span, help='set a folder of its own: `to = "out/{name}"`')
            continue
        outer = next((other for path in _above(destination) if (other := writers.get(path, stage)) is not stage), None)
        if outer is None or _same_text(written, str(outer.settings.get("to"))) or outer.key in _before(stage, recipe):
            continue
        text = f"`{stage.name}` would be written into the destination of `{outer.name}`, `{outer.settings.get('to')}`"
        labels = (Label(outer.spans.get("to", outer.span), "its destination"),)
        session.sink.error("FT082", text, span, labels=labels, help="set folders that lie side by side")


def _written(recipe: Recipe) -> Iterator[tuple[Stage, str]]:
    """The stages whose destination is a folder here, with the path as written (other paths are reported as FT059)."""
    for stage in recipe.stages:
        written = stage.settings.get("to")
        if isinstance(written, str) and "://" not in written and not written.startswith("~"):
            yield stage, written


def _same_text(first: str, second: str) -> bool:
    """Whether both are written alike, which is reported without a look at any disk."""
    return os.path.normpath(first) == os.path.normpath(second)


def _real(recipe: Recipe, written: str) -> Path:
    return Path(os.path.realpath(recipe.folder / written))


def _above(path: Path) -> tuple[Path, ...]:
    """A path and the folders above it."""
    return (path, *path.parents)


def _kept(path: Path, session: Session) -> str:
    """What is kept in a folder, where no stage may write by itself; "" for any other folder."""
    if path.name == ".git":
        return "the repository's own data"
    if path.parent.name == "runs" and session.files.exists(path / RUNS_OWNER):
        return f"the runs of a recipe (`runs/{path.name}`)"
    if path.parent.name == "build" and session.files.exists(path / "manifest.json"):
        return f"a build (`build/{path.name}`)"
    return ""


def _in_the_way(source: _Input, destination: str, writer: Stage, recipe: Recipe) -> bool:
    if _within(source.path, destination):
        if writer.key in _before(source.stage, recipe):
            return False
        return not (source.stage is writer and source.key == "resume" and source.path != destination)
    return source.folder and _within(destination, source.path)


def _before(stage: Stage, recipe: Recipe) -> set[str]:
    """The keys of all stages that run before this one."""
    keys: set[str] = set()
    pending = list(stage.needs)
    while pending:
        key = pending.pop()
        if key not in keys:
            keys.add(key)
            pending += recipe.stage(key).needs if recipe.find(key) else ()
    return keys


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip(os.sep)}{os.sep}")


def _inputs(stage: Stage, recipe: Recipe, session: Session) -> Iterator[_Input]:
    start = stage.start
    values = [("model", where) for where in ((start.base, *start.adapters) if start else ())]
    for key, value in (*values, *stage.settings.values.items()):
        for written in _files([value]):
            whole = re.split(r"[*?\[]", written)[0]
            path = os.path.realpath(recipe.folder / whole)
            yield _Input(stage, key, written, path, whole == written and session.files.is_dir(recipe.folder / written))


def _files(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, Term) and value.name == "file" and isinstance(path := value.options.get("path"), str):
            if "://" not in path:
                yield path
        elif isinstance(value, Term):
            yield from _files(value.options.values())
        elif isinstance(value, list | tuple):
            yield from _files(value)


ABSENT = "does not exist"


def can_resume(recipe: Recipe, session: Session) -> None:
    """The checkpoint in `resume` must exist, be of the stage's method, and have steps left."""
    for stage in recipe.stages:
        value = stage.settings.get("resume")
        if stage.kind not in TRAINING or not isinstance(value, Term) or value.name != "file":
            continue
        written = value.options.get("path")
        if not isinstance(written, str) or "://" in written or (written.startswith("/") and session.elsewhere):
            continue
        if why := _cannot_resume(stage, recipe, written, session):
            span = stage.spans.get("resume", stage.span)
            # A checkpoint is rarely in the repository: if it is missing here, the run checks again.
            report = session.sink.warning if why == ABSENT else session.sink.error
            report("FT806", f"`{written}` {why}", span, help="set a checkpoint of this stage, or remove `resume`")


def _cannot_resume(stage: Stage, recipe: Recipe, written: str, session: Session) -> str:
    """Why the stage cannot resume from it; "" if it can, judged by the checkpoint's files."""
    checkpoint = recipe.folder / written
    if not session.files.is_dir(checkpoint):
        return "is not a folder" if session.files.exists(checkpoint) else ABSENT
    try:
        state = session.files.json(checkpoint / "trainer_state.json")
    except (OSError, ValueError):
        return "is not a checkpoint: it has no readable trainer_state.json"
    adapter = session.files.exists(checkpoint / "adapter_config.json")
    lora = stage.settings.has("lora") or stage.settings.has("oft")
    full = stage.settings.has("full") or stage.settings.has("freeze")
    if (adapter and full) or (lora and not adapter):
        return f"is a checkpoint of {'an adapter' if adapter else 'a full model'}, which the stage does not train"
    step, duration = state.get("global_step") if isinstance(state, dict) else None, stage.settings.get("duration")
    if isinstance(step, int) and isinstance(duration, Amount) and duration.unit == "steps" and step >= duration.number:
        return f"is at step {step:,}, and the stage has only {int(duration.number):,} steps"
    return ""
