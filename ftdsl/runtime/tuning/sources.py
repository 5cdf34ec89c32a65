"""The document's `data` block to data sets of token ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..report import StageError
from . import on_policy, tokens
from .formats import Format
from .rows import Row, Shape

PACKED = "wrapped"


def load(data: dict[str, Any], key: str, kind: str) -> Any:
    """The rows at `data.train` or `data.eval`, mixed, as an Arrow table. Raises: StageError."""
    from datasets import concatenate_datasets, interleave_datasets

    parts = []
    for source in data[key]:
        parts += [_limited(_source(source), source, data.get("limit"))] * source.get("repeat", 1)
    parts = [part.map(_marked, fn_kwargs={"at": at}) for at, part in enumerate(parts)] if len(parts) > 1 else parts
    if len(parts) == 1:
        return parts[0]
    if mix := data.get("mix") if key == "train" else None:
        strategy = {"first": "first_exhausted", "all": "all_exhausted", "once": "all_exhausted_without_replacement"}
        weights = data.get("weights")
        return interleave_datasets(parts, weights, seed=data["seed"], stopping_strategy=strategy[mix])
    return concatenate_datasets(parts)


def _marked(row: dict[str, Any], at: int) -> dict[str, Any]:
    return row | {"_source": at}


def _source(source: dict[str, Any]) -> Any:
    """A source's rows as they are. Raises: StageError for what cannot be read."""
    import datasets

    split = source.get("split", "train")
    try:
        if "hub" in source:
            options = {name: source[name] for name in ("revision",) if name in source}
            return datasets.load_dataset(
                source["hub"], source.get("subset"), data_dir=source.get("folder"), split=split, **options
            )
        path = Path(source["file"])
        files = sorted(str(file) for file in path.iterdir() if file.is_file()) if path.is_dir() else [str(path)]
        kind = Path(files[0]).suffix.lstrip(".").replace("jsonl", "json")
        return datasets.load_dataset(kind, data_files=files, split=split)
    except (OSError, ValueError, KeyError) as error:
        raise StageError(f"{source.get('file') or source.get('hub')} cannot be read: {error}", "data") from error


def _limited(rows: Any, source: dict[str, Any], limit: int | None) -> Any:
    if number := source.get("sample"):
        rows = rows.shuffle(seed=source.get("seed", 42)).select(range(min(number, len(rows))))
    return rows.select(range(min(limit, len(rows)))) if limit else rows


def tokenise(rows: Any, data: dict[str, Any], key: str, kind: str, tokenizer: Any, format: Format, limit: int) -> Any:
    """Columns of ids by the kind of stage; malformed rows are left out. Raises: StageError when none is left."""
    shapes = [shape_of(source, kind) for source in data[key] for _ in range(source.get("repeat", 1))]
    encode = encoder(kind, data, tokenizer, format, limit)

    def encoded(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        names = list(batch)
        raw = [dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        return _columns(encode([shapes[row.get("_source", 0)] for row in raw], raw))

    made = rows.map(encoded, batched=True, remove_columns=rows.column_names, num_proc=_processes(data, len(rows)))
    if not len(made):
        raise StageError(
            "no row of the data has turns in order and an answer", "data", help="look at `columns` and `roles`"
        )
    return made


def shape_of(source: dict[str, Any], kind: str) -> Shape:
    """How the rows of a source are read for a kind of stage."""
    return Shape(
        source["format"],
        source["columns"],
        source.get("roles", {}),
        kind in ("dpo", "reward"),
        kind == "kto",
        kind == "prompt",
    )


def _processes(data: dict[str, Any], rows: int) -> int | None:
    number = min(int(data.get("processes", 1)), max(1, rows // 64))
    return number if number > 1 else None


def _columns(records: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = records[0] if records else {}
    return {name: [record[name] for record in records] for name in names}


def encoder(
    kind: str, data: dict[str, Any], tokenizer: Any, format: Format, limit: int
) -> Callable[[list[Shape], list[dict[str, Any]]], list[dict[str, Any]]]:
    """A function from rows with their shapes to records of ids."""
    if kind == "pretrain":
        packed = data.get("packing") == PACKED
        end = "<|end_of_text|>" if format.name == "llama3" else ""

        def texts(shapes: list[Shape], raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
            parts = [shape.text(row) for shape, row in zip(shapes, raw, strict=True)]
            blocks = tokens.plain(tokenizer, parts, limit, packed=packed, end=end)
            return [{"input_ids": ids, "labels": list(ids)} for ids in blocks]

        return texts
    readers: dict[str, Callable[[Row], dict[str, Any]]] = {
        "sft": lambda row: tokens.supervised(format, tokenizer, row, limit, data.get("train_on", "responses")),
        "dpo": lambda row: tokens.preference(format, tokenizer, row, limit),
        "reward": lambda row: tokens.scored(format, tokenizer, row, limit),
        "kto": lambda row: tokens.feedback(format, tokenizer, row, limit),
    }

    if kind == "prompt":

        def prompts(shapes: list[Shape], raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
            read = [(on_policy.read(shape, row), row) for shape, row in zip(shapes, raw, strict=True)]
            return [on_policy.record(row, columns) for row, columns in read if row is not None]

        return prompts

    def rows(shapes: list[Shape], raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
        read = (shape.read(row) for shape, row in zip(shapes, raw, strict=True))
        return [readers[kind](row) for row in read if row is not None]

    return rows


def split(rows: Any, held_out: float, seed: int) -> tuple[Any, Any]:
    """(training, evaluation) rows. held_out: a share below 1, or a number of rows."""
    parts = rows.train_test_split(test_size=int(held_out) if held_out > 1 else held_out, seed=seed)
    return parts["train"], parts["test"]
