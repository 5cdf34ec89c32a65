"""Calibration data of a quantisation: the engine reads only a file with a `text` column of long rows.

Plain text goes to the engine unchanged; `runtime/calibrate.py` first writes chats and answers as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftdsl.engines.jobs import Command, Document
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.run_paths import seen_from_run
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.settings import Settings
from ftdsl.recipe.shape import first_row, settings_of, shape_of

ROWS = 128
READ = (".json", ".jsonl", ".csv", ".parquet", ".txt")
"""File formats that the engine reads (llamafactory/extras/constants.py, FILEEXT2TYPE)."""

Prepared = tuple[Params, list[Document], list[Command], list[str]]
"""Parameters, documents, commands to run first, and files of the recipe to read."""


def calibration(context: StageContext) -> Prepared:
    """The rows of `calibrate`, without which the engine cannot quantise."""
    items = context.stage.settings.items("calibrate")
    if len(items) != 1:
        help = 'write `calibrate = file("texts.jsonl", sample = 128)`'
        context.refuse("calibrate", f"`{context.stage.name}` needs exactly one source of calibration rows", help)
        return {}, [], [], []
    item = items[0]
    params: Params = {"export_quantization_nsamples": ROWS}
    if isinstance(item, StageRef):
        return _written_out(context, item, params)
    if count := item.options.get("sample"):
        params["export_quantization_nsamples"] = count
    return _as_it_is(context, item, params)


def _as_it_is(context: StageContext, item: Term, params: Params) -> Prepared:
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
        return {**params, "export_quantization_dataset": str(item.options["id"])}, [], [], []
    path = str(item.options.get("path", ""))
    if not path.endswith(READ):
        context.refuse("calibrate", f"calibration rows are read from {', '.join(READ)} files", "name such a file")
    return {**params, "export_quantization_dataset": seen_from_run(path)}, [], [], [path]


def _written_out(context: StageContext, ref: StageRef, params: Params) -> Prepared:
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
    return {**params, "export_quantization_dataset": f"{context.folder}/calibrate.jsonl"}, [document], [command], []


def _row(context: StageContext, settings: Settings) -> Mapping[str, Any] | None:
    source = next(iter(settings.items("source")), None)
    return first_row(source, context.plan.recipe.folder, context.session.files) if source is not None else None
