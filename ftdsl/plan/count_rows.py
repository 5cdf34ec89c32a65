"""Rows and bytes of a recipe's data, from local files, and the number of optimizer steps that follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftdsl.language.values import Amount, StageRef, Term
from ftdsl.plan.plan import PlannedStage
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.recipe.rules.data import named
from ftdsl.recipe.shape import files_of, local_path
from ftdsl.record import replace
from ftdsl.runtime import ramp
from ftdsl.session import Files

ARRAY = 64 << 20
"""Size in bytes up to which the rows of a JSON array are counted; lines are counted in files of any size."""


def steps_of(planned: PlannedStage, recipe: Recipe, files: Files) -> tuple[int, str]:
    """(optimizer steps of a stage, ""); (0, reason) if the number is not known."""
    duration, batch = planned.stage.settings.get("duration"), planned.batch
    if not isinstance(duration, Amount) or batch is None:
        return 0, "it has no duration"
    if duration.unit == "steps":
        return int(duration.number), ""
    if duration.unit == "tokens":
        rows = duration.number / int(planned.stage.settings.get("max_len"))
        if planned.ramp:
            return ramp.steps_of(planned.ramp, rows, batch.data_parallel), ""
        return math.ceil(rows / batch.total), ""
    if duration.unit != "epochs":
        return 0, "its duration is a time"
    if planned.stage.settings.get("packing"):
        return 0, "packing decides how many rows there are"
    counted = [rows_of(item, recipe, files) for item in named(planned.stage.settings, "data")]
    if not counted or any(count is None for count in counted):
        return 0, "its rows are not on this machine"
    rows = sum(count or 0 for count in counted)
    limit = planned.stage.settings.get("limit")
    rows = min(rows, limit) if isinstance(limit, int) else rows
    if planned.ramp:  # epochs follow each other as one stream of rows
        return ramp.steps_of(planned.ramp, rows * duration.number, batch.data_parallel), ""
    return max(1, math.ceil(rows / batch.total)) * math.ceil(duration.number), ""


def rows_of(item: Term | StageRef, recipe: Recipe, files: Files) -> int | None:
    """Rows of a source, None if its files are not local; rows that checks and deduplication will drop are included."""
    if isinstance(item, Term):
        return _of_files(item, recipe.folder, files)
    stage = recipe.find(item.key)
    if stage is None or stage.kind != "data":
        return None
    shared = {word: stage.settings.get(word) for word in ("limit", "sample", "repeat")}
    counted = [
        rows_of(
            replace(source, options={**shared, **source.options}) if isinstance(source, Term) else source, recipe, files
        )
        for source in named(stage.settings, "source")
    ]
    if not counted or any(count is None for count in counted):
        return None
    total = sum(count or 0 for count in counted)
    held = {part: _held(stage, part, total) for part in ("eval", "test")}
    return held[item.part] if item.part in held else total - sum(held.values())


def _held(stage: Stage, part: str, total: int) -> int:
    value = stage.settings.get(f"holdout.{part}")
    number = getattr(value, "number", value)
    if not isinstance(number, int | float) or isinstance(number, bool):
        return 0
    return round(total * number) if number < 1 else int(number)


def source_path(item: Term, folder: Path, files: Files) -> Path | None:
    """The local file of a source; of an entry of a dataset_info.json the file that the entry names."""
    path = local_path(item, folder)
    if path is None or "entry" not in item.options:
        return path
    name = _entry(item, folder, files).get("file_name")
    return path.parent / name if isinstance(name, str) else None


def _entry(item: Term, folder: Path, files: Files) -> Mapping[str, Any]:
    """The entry of a dataset_info.json that a source names; {} for any other source."""
    path = local_path(item, folder)
    if path is None or "entry" not in item.options:
        return {}
    try:
        entry = files.json(path)[item.options["entry"]]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return entry if isinstance(entry, Mapping) else {}


def _of_files(item: Term, folder: Path, files: Files) -> int | None:
    path = source_path(item, folder, files)
    paths = files_of(path, folder, files) if path is not None else []
    counted = [_rows(file, files) for file in paths]
    if not counted or any(count is None for count in counted):
        return None
    total = sum(count or 0 for count in counted)
    if isinstance(most := _entry(item, folder, files).get("num_samples"), int) and not isinstance(most, bool):
        total = most  # the engine takes so many, some of them again (llamafactory/data/loader.py, num_samples)
    for option in ("limit", "sample"):
        if isinstance(most := item.options.get(option), int):
            total = min(total, most) if option == "limit" else most
    return total * int(item.options.get("repeat") or 1)


def _rows(path: Path, files: Files) -> int | None:
    try:
        if path.suffix == ".jsonl" or (path.suffix == ".json" and not files.head(path, 64).lstrip().startswith(b"[")):
            return files.lines(path)
        if path.suffix == ".csv":
            return max(0, files.lines(path) - 1)
        if path.suffix == ".json":
            array = files.json(path, ARRAY)
            return len(array) if isinstance(array, list) else None
    except (OSError, ValueError):
        return None
    return None


def size_of(item: Term | StageRef, recipe: Recipe, files: Files) -> int:
    """Bytes of a source's local files."""
    path = source_path(item, recipe.folder, files) if isinstance(item, Term) else None
    return sum(files.size(file) for file in files_of(path, recipe.folder, files)) if path is not None else 0


MEASURED = 16 << 20
"""Size in bytes up to which a file is searched for its longest row."""

BYTES_A_TOKEN = 2.0
"""Below the average of usual tokenizers over a row: 3 to 4.5 for English, 2 to 3 for Chinese."""

TEMPLATE = 64
"""Approximate maximum number of tokens that a chat template adds to a row."""


USUAL_BYTES_A_TOKEN = 3.5
"""Of rows as a whole, in JSON."""


def mean_row(stage: Stage, recipe: Recipe, files: Files) -> int:
    """Tokens of a stage's rows on average, about; 0 where the data are not local files whose rows can be counted."""
    paths: list[Path] = []
    for item in named(stage.settings, "data"):
        path = local_path(item, recipe.folder) if isinstance(item, Term) else None
        if path is None:
            return 0
        paths += files_of(path, recipe.folder, files)
    counts = [_rows(path, files) or 0 for path in paths]
    if not counts or min(counts) < 1:
        return 0
    return math.ceil(sum(map(files.size, paths)) / sum(counts) / USUAL_BYTES_A_TOKEN) + TEMPLATE


def longest_row(stage: Stage, recipe: Recipe, files: Files) -> int:
    """An upper bound of the tokens of the longest row of a stage's data; 0 if the data are not local JSON Lines."""
    sources = named(stage.settings, "data")
    lengths = [_longest(item, recipe, files) for item in sources]
    return max(lengths) if lengths and all(lengths) else 0


def _longest(item: Term | StageRef, recipe: Recipe, files: Files) -> int:
    path = source_path(item, recipe.folder, files) if isinstance(item, Term) else None
    paths = files_of(path, recipe.folder, files) if path is not None else []
    longest = 0
    for file in paths:
        if file.suffix != ".jsonl":
            return 0
        try:
            if files.size(file) > MEASURED:
                return 0
            longest = max([longest, *(len(line.encode()) for line in files.text(file).splitlines())])
        except (OSError, UnicodeDecodeError):
            return 0
    return math.ceil(longest / BYTES_A_TOKEN) + TEMPLATE if longest else 0
