"""Data sets of the Hugging Face hub, through `datasets`: from the hub when it answers, else from its cache here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from .blocks import Block, CannotReadError, File
from .formats import BATCH, table_block


def data_set(source: dict[str, Any]) -> File:
    """A data set as a file of rows. Raises: CannotReadError."""
    name = _name(source)
    rows = _loaded(source, name)

    def blocks() -> Iterator[Block]:
        table = rows.with_format("arrow")
        for start in range(0, rows.num_rows, BATCH):
            block = table_block(table[start : start + BATCH].to_pylist(), start)
            block.read = min(start + BATCH, rows.num_rows)
            yield block

    return File(name, rows.num_rows, blocks, "row")


def _name(source: dict[str, Any]) -> str:
    options = [str(source[key]) for key in ("subset", "folder", "split") if source.get(key)]
    revision = f"@{source['revision']}" if source.get("revision") else ""
    return f"hf:{source['id']}{revision}" + (f" ({', '.join(options)})" if options else "")


def _loaded(source: dict[str, Any], name: str) -> Any:
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "10")
    try:
        import datasets
    except ImportError:
        raise CannotReadError(
            f"{name} is read with the package `datasets`, which this Python does not have; every LLaMA-Factory environment has it"
        ) from None
    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(
            source["id"],
            name=source.get("subset"),
            data_dir=source.get("folder"),
            revision=source.get("revision"),
            split=source.get("split") or "train",
        )
    except Exception as error:
        # `datasets` raises a dozen kinds, and what they say is for people already.
        why = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise CannotReadError(
            f"the data set can be had neither from the hub nor from the cache on this machine: {why}"
        ) from None
    _pinned(source, os.path.basename(os.path.dirname(rows.cache_files[0]["filename"])) if rows.cache_files else "")
    return rows


def _pinned(source: dict[str, Any], commit: str) -> None:
    """Hold what was loaded against `revision`: where the hub is out of reach, `datasets` takes what its cache has.

    Raises: CannotReadError.
    """
    revision = source.get("revision")
    if not revision or commit.startswith(revision):
        return
    from huggingface_hub import HfApi

    try:
        wanted = HfApi().dataset_info(source["id"], revision=revision, timeout=10).sha
    except Exception:  # any of a dozen kinds: the hub does not answer
        wanted = None
    if wanted != commit:
        text = f"the hub does not answer, and the cache on this machine has another revision ({commit[:12]}) than `{revision}`"
        raise CannotReadError(text if wanted is None else f"`{revision}` is {wanted}, and what was loaded is {commit}")
