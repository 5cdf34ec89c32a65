"""Calibration data of a quantisation: engines and tools read only a file with a `text` column of long rows.

Plain text goes to them unchanged; `runtime/calibrate.py` first writes chats and answers as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftdsl.engines.jobs import Command, Document
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.run_paths import seen_from_run
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.settings import Settings
from ftdsl.recipe.shape import first_row, settings_of, shape_of
from ftdsl.record import frozen

ROWS = 128
READ = (".json", ".jsonl", ".csv", ".parquet", ".txt")
"""File formats that LLaMA-Factory and `datasets` read (llamafactory/extras/constants.py, FILEEXT2TYPE)."""


@frozen
class Calibration:
    """The rows of `calibrate`. dataset: a file seen from the run folder, or a data set's name on the Hub, with a column `text`;
    rows: how many are read; documents, commands: what is to be written and run first; inputs: files of the recipe that are read.
    """

    dataset: str
    rows: int = ROWS
    documents: tuple[Document, ...] = ()
    commands: tuple[Command, ...] = ()
    inputs: tuple[str, ...] = ()


def calibration(context: StageContext) -> Calibration | None:
    """The rows of `calibrate`; None and an error where there is not exactly one source."""
    items = context.stage.settings.items("calibrate")
    if len(items) != 1:
        help = 'write `calibrate = file("texts.jsonl", sample = 128)`'
        context.refuse("calibrate", f"`{context.stage.name}` needs exactly one source of calibration rows", help)
        return None
    item = items[0]
    if isinstance(item, StageRef):
        return _written_out(context, item)
    return _as_it_is(context, item, int(item.options.get("sample") or ROWS))


def _as_it_is(context: StageContext, item: Term, rows: int) -> Calibration:
    settings = settings_of(item)
    shape = shape_of(settings, first_row(item, context.plan.recipe.folder, context.session.files), "pretrain")
    if shape.format != "text" or shape.columns.get("prompt") != "text":
        why = "calibration reads a column called `text`"
        context.refuse("calibrate", why, "read these rows in a `data` stage, and name that: it is written out as text")
    for word in item.options:
        if word not in ("id", "path", "sample", "format"):
            help = "read these rows in a `data` stage, and name that"
            context.refuse("calibrate", f"calibration reads a source as it is, and has no `{word}`", help)
    if item.name == "hf":
        return Calibration(str(item.options["id"]), rows)
    path = str(item.options.get("path", ""))
    if not path.endswith(READ):
        context.refuse("calibrate", f"calibration rows are read from {', '.join(READ)} files", "name such a file")
    return Calibration(seen_from_run(path), rows, inputs=(path,))


def _written_out(context: StageContext, ref: StageRef) -> Calibration:
    source = context.plan.stage(ref.key).stage
    shape = shape_of(source.settings, _row(context, source.settings), context.plan.recipe.reader(source))
    spec = {
        "stage": context.folder,
        "rows": context.paths.rows(ref),
        "columns": dict(shape.columns),
        "roles": dict(shape.roles),
        "characters": 8 * int(context.get("max_len") or 1024),
    }
    document = Document(f"{context.folder}/calibrate.json", "json", spec)
    command = Command(
        (PYTHON, "runtime/calibrate.py", document.path), comment="writes the rows as long texts, which GPTQ reads"
    )
    return Calibration(f"{context.folder}/calibrate.jsonl", documents=(document,), commands=(command,))


def _row(context: StageContext, settings: Settings) -> Mapping[str, Any] | None:
    source = next(iter(settings.items("source")), None)
    return first_row(source, context.plan.recipe.folder, context.session.files) if source is not None else None
