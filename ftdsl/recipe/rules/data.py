"""Data a stage reads: that it is there, and that its shape fits the stage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ftdsl.diagnostics import Edit, Fix
from ftdsl.diagnostics.suggest import closest
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.lineage import TRAINING
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.recipe.settings import Settings
from ftdsl.recipe.shape import first_row, settings_of, shape_of, with_own_options
from ftdsl.session import Session
from ftdsl.source import Span

SOURCES = ("data", "source", "calibrate", "evaluate.data", "holdout.eval", "holdout.test")
"""Keys whose values name data."""

BESIDE = ("tokenizer.special",)
"""Keys whose values may name files that belong to the recipe itself."""


def sources(stage: Stage) -> Iterator[tuple[str, Term | StageRef]]:
    """Every source a stage names, with the dotted key it stands at."""
    settings = stage.settings
    for key in SOURCES:
        for item in named(settings, key):
            yield key, item


def named(settings: Settings, key: str) -> Iterator[Term | StageRef]:
    """The sources a key names, less shares and counts."""
    return (item for item in settings.items(key) if isinstance(item, Term | StageRef))


def files_exist(recipe: Recipe, session: Session) -> None:
    """A file that is named must be there; one with an absolute path may lie on another machine (`elsewhere`: all data may)."""
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
        there = bool(session.files.glob(folder, pattern))
    else:
        there = session.files.exists(path)
    if there and not any(char in written for char in "*?["):
        what = session.files.is_file(path) or session.files.is_dir(path)
        if not what:  # a pipe is empty when it is read again, and a device never ends
            session.sink.error("FT501", f"`{written}` is neither a file nor a folder", _inside(span, written))
    if there:
        return
    if Path(written).is_absolute():
        session.sink.warning("FT501", f"`{written}` is not on this machine", span)
    else:
        near = closest(path.name, [sibling.name for sibling in session.files.glob(path.parent, "*")])
        guess = str(Path(written).with_name(near)) if near else ""
        own_span = _inside(span, written)
        session.sink.error(
            "FT501",
            f"there is no file `{written}`",
            own_span,
            label=f"did you mean `{guess}`?" if guess else "",
            help="paths are seen from the recipe's folder",
            fix=Fix(f"write `{guess}`", (Edit(own_span, own_span.text.replace(written, guess)),), safe=False)
            if guess and not _ESCAPED.search(guess)
            else None,
        )


_ESCAPED = re.compile(r"[\"'\\\\{}\x00-\x1f\x7f]")
"""What a text in quotes would have to write otherwise."""


def _inside(span: Span, written: str) -> Span:
    """The path's own place within the value, where it stands there as written."""
    at = span.text.find(written)
    return Span(span.source, span.start + at, span.start + at + len(written)) if at >= 0 else span


def right_data_for_stage(recipe: Recipe, session: Session) -> None:
    """A stage that learns needs data, and rows of the shape it learns from."""
    for stage in recipe.stages:
        if stage.kind == "data":
            _check_unread(recipe, stage, session)
        if stage.kind not in TRAINING:
            continue
        if not stage.settings.get("data") and "data" not in stage.unknown:
            text = f"`{stage.name}` has nothing to learn from"
            session.sink.error("FT011", text, stage.span, help='write `data = file("data.jsonl")`')
        for key, item in sources(stage):
            _check_shape(recipe, stage, key, item, session)


def _check_shape(recipe: Recipe, stage: Stage, key: str, item: Term | StageRef, session: Session) -> None:
    """The first row tells: pairs for dpo and reward, labels for kto, plain text for pretrain."""
    span = stage.spans.get(key, stage.span)
    settings, origin = _settings(recipe, item)
    if settings is None or origin is None:
        return
    shape = shape_of(settings, first_row(origin, recipe.folder, session.files), stage.kind)
    if stage.kind == "pretrain" and shape.format != "text" and shape.row is not None:
        text = f"`{stage.name}` learns from plain text, and these rows are {shape.format}"
        help = 'rows for it look like {"text": "…"}; to learn answers, use an `sft` stage'
        session.sink.error("FT502", text, span, help=help)
    elif stage.kind != "pretrain" and shape.format == "text" and shape.row is not None:
        text = f"`{stage.name}` learns from questions and answers, and these rows are plain text"
        session.sink.error("FT502", text, span, help="use a `pretrain` stage for text")
    elif shape.missing and shape.row is not None:
        wanted = ", ".join(f"`{column}`" for column in shape.missing)
        label = f"they have {', '.join(f'`{name}`' for name in list(shape.row)[:8])}"
        help = f'name the columns in a `data` stage: columns {{ {_part(shape.missing[0])} = "…" }}'
        text = f"`{stage.name}` needs {wanted} in its rows"
        session.sink.error("FT502", text, span, label=label, help=help)


def _check_unread(recipe: Recipe, stage: Stage, session: Session) -> None:
    """Rows that no stage reads are held against no format where their columns tell none."""
    settings = stage.settings
    origin = next(named(settings, "source"), None)
    if recipe.read_by(stage) or origin is None or settings.inside("columns"):
        return
    row = first_row(origin, recipe.folder, session.files)
    shape = shape_of(settings, row, "sft")
    if row is not None and shape.format == "alpaca" and len(shape.missing) > 1:
        label = f"they have {', '.join(f'`{name}`' for name in list(row)[:8])}"
        text = f"no stage reads the rows of `{stage.name}`, and their columns do not tell what they are"
        help = 'name them: columns { prompt = "…", response = "…" }'
        session.sink.warning("FT502", text, stage.spans.get("source", stage.span), label=label, help=help)


def _part(column: str) -> str:
    return {"instruction": "prompt", "output": "response", "conversations": "messages"}.get(column, column)


def _settings(recipe: Recipe, item: Term | StageRef) -> tuple[Settings | None, Term | StageRef | None]:
    """What is known of a source: of a data stage its settings, with the first file it reads."""
    if isinstance(item, Term):
        return (settings_of(item), item) if "entry" not in item.options else (None, None)
    stage = recipe.find(item.key)
    if stage is None or stage.kind != "data":
        return None, None
    return with_own_options(stage.settings), next(named(stage.settings, "source"), None)
