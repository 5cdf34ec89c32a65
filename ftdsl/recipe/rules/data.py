"""Data a stage reads: that it is there, and that its shape fits the stage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.session import Session
from ftdsl.source import Span


def sources(stage: Stage) -> Iterator[tuple[str, Term | StageRef]]:
    """Every source a stage names, with the dotted key it stands at."""
    settings = stage.settings
    for key in ("data", "source", "calibrate"):
        for item in _items(getattr(settings, key, None)):
            yield key, item
    for block, names in (("evaluate", ("data",)), ("holdout", ("eval", "test"))):
        inner = getattr(settings, block, None)
        for name in names:
            for item in _items(getattr(inner, name, None)):
                yield f"{block}.{name}", item


def _items(value: Any) -> Iterator[Term | StageRef]:
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, Term | StageRef):
            yield item


def files_exist(recipe: Recipe, session: Session) -> None:
    """A data file that is named must be there; one with an absolute path may lie on another machine."""
    for stage in recipe.stages:
        for key, item in sources(stage):
            if isinstance(item, Term) and item.name == "file":
                _check_file(recipe, item, stage.spans.get(key, stage.span), session)


def _check_file(recipe: Recipe, item: Term, span: Span, session: Session) -> None:
    written = item.options.get("path")
    if not isinstance(written, str) or "://" in written:
        return
    path = recipe.folder / written
    if any(char in written for char in "*?["):
        folder = recipe.folder if not Path(written).is_absolute() else Path(Path(written).anchor)
        pattern = str(Path(written).relative_to(folder)) if Path(written).is_absolute() else written
        there = bool(session.files.glob(folder, pattern))
    else:
        there = session.files.exists(path)
    if there:
        return
    if Path(written).is_absolute():
        session.sink.warning("FT501", f"`{written}` is not on this machine", span)
    else:
        help = "paths are seen from the recipe's folder"
        session.sink.error("FT501", f"there is no file `{written}`", _inside(span, written), help=help)


def _inside(span: Span, written: str) -> Span:
    """The path's own place within the value, where it stands there as written."""
    at = span.text.find(written)
    return Span(span.source, span.start + at, span.start + at + len(written)) if at >= 0 else span


_TEXT_ONLY = ("pretrain",)
_NEEDS_DATA = ("pretrain", "sft", "reward", "dpo", "kto", "ppo")


def right_data_for_stage(recipe: Recipe, session: Session) -> None:
    """A stage that learns needs data; mixtures have weights for all sources or for none."""
    for stage in recipe.stages:
        if stage.kind in _NEEDS_DATA and not stage.settings.data:
            text = f"`{stage.name}` has nothing to learn from"
            session.sink.error("FT011", text, stage.span, help='write `data = file("data.jsonl")`')
