"""Data that a stage reads: whether it exists, and whether its shape fits the stage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.diagnostics import Edit, Fix
from ftdsl.diagnostics.suggest import closest
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.recipe.settings import Settings
from ftdsl.recipe.shape import first_row, settings_of, shape_of, with_own_options
from ftdsl.session import Session
from ftdsl.source import Span

SOURCES = ("data", "source", "calibrate", "evaluate.data", "holdout.eval", "holdout.test")
"""Keys whose values name data."""

BESIDE = ("tokenizer.special",)
"""Keys whose values may name files beside the recipe."""


def sources(stage: Stage) -> Iterator[tuple[str, Term | StageRef]]:
    """(dotted key, source) of all sources that a stage names."""
    settings = stage.settings
    for key in SOURCES:
        for item in named(settings, key):
            yield key, item


def named(settings: Settings, key: str) -> Iterator[Term | StageRef]:
    """The sources that a key names, without shares and counts."""
    return (item for item in settings.items(key) if isinstance(item, Term | StageRef))


def files_exist(recipe: Recipe, session: Session) -> None:
    """A named file must exist; one with an absolute path may be on another machine (`session.elsewhere`: all data may)."""
    for stage in recipe.stages:
        data = () if session.elsewhere else sources(stage)
        beside = ((key, item) for key in BESIDE for item in named(stage.settings, key))
        for key, item in (*data, *beside):
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
        exists = bool(session.files.glob(folder, pattern))
    else:
        exists = session.files.exists(path)
    if exists and not any(char in written for char in "*?["):
        is_usable = session.files.is_file(path) or session.files.is_dir(path)
        if not is_usable:  # a pipe can be read once only, and a device has no end
            session.sink.error("FT501", f"`{written}` is neither a file nor a folder", _inside(span, written))
    if exists:
        return
    if Path(written).is_absolute():
        session.sink.warning("FT501", f"`{written}` is not on this machine", span)
    else:
        sibling = closest(path.name, [sibling.name for sibling in session.files.glob(path.parent, "*")])
        guess = str(Path(written).with_name(sibling)) if sibling else ""
        own_span = _inside(span, written)
        session.sink.error(
            "FT501",
            f"no such file: `{written}`",
            own_span,
            label=f"did you mean `{guess}`?" if guess else "",
            help="paths are relative to the recipe's folder",
            fix=Fix(f"write `{guess}`", (Edit(own_span, own_span.text.replace(written, guess)),), safe=False)
            if guess and not _ESCAPED.search(guess)
            else None,
        )


_ESCAPED = re.compile(r"[\"'\\\\{}\x00-\x1f\x7f]")
"""Characters that need an escape in a quoted text."""


def _inside(span: Span, written: str) -> Span:
    """The span of the path within the value, if it occurs literally."""
    at = span.text.find(written)
    return Span(span.source, span.start + at, span.start + at + len(written)) if at >= 0 else span


def right_data_for_stage(recipe: Recipe, session: Session) -> None:
    """A stage that trains needs data, with rows of the right shape."""
    for stage in recipe.stages:
        if stage.kind == "data":
            _check_unread(recipe, stage, session)
        if stage.kind not in TRAINING:
            continue
        if not stage.settings.get("data") and "data" not in stage.unknown:
            text = f"`{stage.name}` has no training data"
            session.sink.error("FT011", text, stage.span, help='write `data = file("data.jsonl")`')
        for key, item in sources(stage):
            _check_shape(recipe, stage, key, item, session)


def _check_shape(recipe: Recipe, stage: Stage, key: str, item: Term | StageRef, session: Session) -> None:
    """Check the first row: pairs for dpo and reward, labels for kto, plain text for pretrain."""
    span = stage.spans.get(key, stage.span)
    settings, origin = _settings(recipe, item)
    if settings is None or origin is None:
        return
    shape = shape_of(settings, first_row(origin, recipe.folder, session.files), stage.kind)
    if stage.kind == "pretrain" and shape.format != "text" and shape.row is not None:
        text = f"`{stage.name}` needs plain text, but these rows are {shape.format}"
        help = 'write rows as {"text": "…"}, or use an `sft` stage for answers'
        session.sink.error("FT502", text, span, help=help)
    elif stage.kind != "pretrain" and shape.format == "text" and shape.row is not None:
        text = f"`{stage.name}` needs prompts and answers, but these rows are plain text"
        session.sink.error("FT502", text, span, help="use a `pretrain` stage for text")
    elif shape.missing and shape.row is not None:
        wanted = ", ".join(f"`{column}`" for column in shape.missing)
        label = f"they have {', '.join(f'`{name}`' for name in list(shape.row)[:8])}"
        help = f'map the columns in a `data` stage: columns {{ {_part(shape.missing[0])} = "…" }}'
        text = f"`{stage.name}` needs rows with {wanted}"
        session.sink.error("FT502", text, span, label=label, help=help)


def _check_unread(recipe: Recipe, stage: Stage, session: Session) -> None:
    """Report a data stage that no stage reads, if its columns do not determine the format."""
    settings = stage.settings
    origin = next(named(settings, "source"), None)
    if recipe.read_by(stage) or origin is None or settings.inside("columns"):
        return
    row = first_row(origin, recipe.folder, session.files)
    shape = shape_of(settings, row, "sft")
    if row is not None and shape.format == "alpaca" and len(shape.missing) > 1:
        label = f"they have {', '.join(f'`{name}`' for name in list(row)[:8])}"
        text = f"no stage reads `{stage.name}`, and its columns match no format"
        help = 'map them: columns { prompt = "…", response = "…" }'
        session.sink.warning("FT502", text, stage.spans.get("source", stage.span), label=label, help=help)


def _part(column: str) -> str:
    return {"instruction": "prompt", "output": "response", "conversations": "messages"}.get(column, column)


def _settings(recipe: Recipe, item: Term | StageRef) -> tuple[Settings | None, Term | StageRef | None]:
    """(settings, source) of a source: for a data stage its settings and first source."""
    if isinstance(item, Term):
        return (settings_of(item), item) if "entry" not in item.options else (None, None)
    stage = recipe.find(item.key)
    if stage is None or stage.kind != "data":
        return None, None
    return with_own_options(stage.settings), next(named(stage.settings, "source"), None)
