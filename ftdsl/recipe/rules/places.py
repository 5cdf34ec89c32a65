"""Where results go: what lies there already; and where a training resumes from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from ftdsl.language.values import Amount, Term
from ftdsl.recipe.lineage import TRAINING
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.session import Session


def destination_is_a_folder(recipe: Recipe, session: Session) -> None:
    """A result is a folder: a file of that name, or a file where a folder above should be, would end the stage at its end."""
    for stage in recipe.stages:
        written = stage.settings.get("to")
        if not isinstance(written, str):
            continue
        place = recipe.folder / written
        above = [folder for folder in place.parents if folder.is_relative_to(recipe.folder)]
        file = next((path for path in (place, *above) if session.files.is_file(path)), None)
        if file is not None:
            text = (
                f"`{file.relative_to(recipe.folder).as_posix() if file != place else written}` is a file, not a folder"
            )
            help = "name another folder in `to`, or move the file away"
            session.sink.error("FT956", text, stage.spans.get("to", stage.span), help=help)


def destination_is_its_own(recipe: Recipe, session: Session) -> None:
    """No stage writes over what the recipe is made from, nor into a folder around it."""
    read = {os.path.normpath(recipe.folder / path): path for stage in recipe.stages for path in _read(stage)}
    folder = os.path.normpath(recipe.folder)
    for stage in recipe.stages:
        written = stage.settings.get("to")
        if not isinstance(written, str) or "://" in written or written.startswith("~"):  # FT059 reports that
            continue
        span = stage.spans.get("to", stage.span)
        place = os.path.normpath(recipe.folder / written)
        taken = next((name for path, name in read.items() if _within(path, place)), None)
        if taken is not None:
            help = "name a folder of its own"
            session.sink.error(
                "FT957", f"`{stage.name}` would be written over `{taken}`, which is read", span, help=help
            )
        elif _within(folder, place):
            text = f"`{stage.name}` would be written over the recipe's own folder"
            session.sink.error("FT957", text, span, help='name a folder in it: `to = "out/{name}"`')


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip(os.sep)}{os.sep}")


def _read(stage: Stage) -> Iterator[str]:
    start = stage.start
    yield from _files([*((start.base, *start.adapters) if start else ()), *stage.settings.values.values()])


def _files(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, Term) and value.name == "file" and isinstance(path := value.options.get("path"), str):
            if "://" not in path:
                yield path.partition("*")[0]
        elif isinstance(value, Term):
            yield from _files(value.options.values())
        elif isinstance(value, list | tuple):
            yield from _files(value)


ABSENT = "is not there"


def can_resume(recipe: Recipe, session: Session) -> None:
    """A checkpoint that `resume` names is there, of the stage's method, and has steps left."""
    for stage in recipe.stages:
        value = stage.settings.get("resume")
        if stage.kind not in TRAINING or not isinstance(value, Term) or value.name != "file":
            continue
        written = value.options.get("path")
        if not isinstance(written, str) or "://" in written or (written.startswith("/") and session.elsewhere):
            continue
        if why := _cannot_resume(stage, recipe, written, session):
            span = stage.spans.get("resume", stage.span)
            # Results are seldom checked in: where one is not here, the run will look.
            report = session.sink.warning if why == ABSENT else session.sink.error
            report("FT806", f"`{written}` {why}", span, help="name a checkpoint of this stage, or drop `resume`")


def _cannot_resume(stage: Stage, recipe: Recipe, written: str, session: Session) -> str:
    """Why; "" where it can, as far as its files say."""
    place = recipe.folder / written
    if not session.files.is_dir(place):
        return "is no folder" if session.files.exists(place) else ABSENT
    try:
        state = session.files.json(place / "trainer_state.json")
    except (OSError, ValueError):
        return "is no checkpoint: it holds no trainer_state.json that can be read"
    adapter = session.files.exists(place / "adapter_config.json")
    lora = stage.settings.has("lora") or stage.settings.has("oft")
    full = stage.settings.has("full") or stage.settings.has("freeze")
    if (adapter and full) or (lora and not adapter):
        return f"is a checkpoint of {'adapters' if adapter else 'a whole model'}, and the stage trains the other"
    step, duration = state.get("global_step") if isinstance(state, dict) else None, stage.settings.get("duration")
    if isinstance(step, int) and isinstance(duration, Amount) and duration.unit == "steps" and step >= duration.number:
        return f"is at step {step:,} already, and the stage has {int(duration.number):,}: nothing is left to train"
    return ""
