"""The inverse of a TRL stage's rows: `dataset_name` with its splits, or `datasets` (trl/scripts/utils.py)."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ftdsl.importers.draft import StageDraft
from ftdsl.importers.trl.adapter import bf16
from ftdsl.language.values import Amount, Term
from ftdsl.recipe.shape import first_row

SCRIPT = ("dataset_name", "dataset_config", "dataset_train_split", "dataset_test_split", "dataset_streaming",
          "ignore_bias_buffers", "datasets", "streaming", "test_split_size")  # fmt: skip
"""Arguments of TRL's scripts about rows."""
_MIXED = ("path", "name", "data_dir", "data_files", "split", "columns", "fraction")
"""Fields of an entry of `datasets` (DatasetConfig)."""
STREAMED = "a recipe's TRL stages read all rows before they train"
NOTHING = "there is nothing to evaluate on: no data is named"
PROMPT_COMPLETION = {"prompt", "completion"}


def dataset(draft: StageDraft) -> None:
    """What is trained on, and evaluated on where `eval_strategy` says so."""
    draft.used.update(SCRIPT)
    for name in ("dataset_streaming", "streaming"):
        if draft.on(name):
            draft.note(name, STREAMED)
    if draft.on("ignore_bias_buffers"):
        draft.note("ignore_bias_buffers", "a workaround for models of 2022, which no recipe needs")
    evaluates = str(draft.config.value("eval_strategy")) != "no"
    mixture = draft.raw("datasets")
    if isinstance(mixture, list) and mixture:
        if draft.given("dataset_name"):
            draft.note("dataset_name", "has no effect beside `datasets`")
        sources = [source for entry in mixture if isinstance(entry, Mapping) and (source := _entry(draft, entry))]
        draft.set("data", sources)
        _held_out(draft, evaluates)
        return
    name = draft.raw("dataset_name")
    if name is None:
        if evaluates:
            nothing = dict.fromkeys(("eval_strategy", "eval_steps", "per_device_eval_batch_size"), NOTHING)
            draft.reasons |= nothing
        return
    subset = draft.raw("dataset_config")
    draft.set("data", [_source(draft, str(name), subset, draft.take("dataset_train_split"))])
    if evaluates:
        split = draft.take("dataset_test_split")
        draft.set("evaluate.data", [_source(draft, str(name), subset, split, train=False)])


def _held_out(draft: StageDraft, evaluates: bool) -> None:
    """`test_split_size` takes rows away from training, whether anything is evaluated or not."""
    size = draft.raw("test_split_size")
    if size is None:
        if evaluates:
            draft.note("datasets", "there is no split `test` without `test_split_size`: nothing is evaluated")
        return
    if evaluates:
        draft.set("evaluate.data", Amount(size, "share" if size < 1 else "count"))
    else:
        draft.note("test_split_size", "rows that are held out and never evaluated: all are trained on here")


def _entry(draft: StageDraft, entry: Mapping[str, Any]) -> Term | None:
    """One entry of `datasets`."""
    if unknown := [str(name) for name in entry if name not in _MIXED]:
        draft.note("datasets", f"an entry has no `{unknown[0]}`: it takes {', '.join(_MIXED)}")
    for name, why in (("columns", "columns are chosen by what the stage reads"),
                      ("fraction", "write `weight` and `mix`, which draw rows otherwise")):  # fmt: skip
        if entry.get(name) is not None:
            draft.note("datasets", f"`{name}` of an entry: {why}")
    path, files = str(entry.get("path", "")), entry.get("data_files")
    if isinstance(files, str):
        folder = str(entry.get("data_dir") or "")
        return _file(draft, posixpath.join(folder, files), entry.get("split", "train"))
    if files is not None:
        draft.note("datasets", f"`data_files` of `{path}`: write each file as a source of its own")
    source = _source(draft, path, entry.get("name"), entry.get("split", "train"))
    if entry.get("data_dir") is not None and source.name == "hf":
        return Term("hf", {**source.options, "folder": str(entry["data_dir"])})
    return source


def _source(draft: StageDraft, name: str, subset: Any, split: Any, *, train: bool = True) -> Term:
    """`hf(…)` for a name of the hub, `file(…)` for what is here."""
    options = {"subset": subset, "split": None if split == "train" else split}
    given = {key: value for key, value in options.items() if value is not None}
    if _local(draft, name):
        return Term("file", {"path": draft.paths.seen(name), **given})
    return Term("hf", {"id": name, **given})


def _file(draft: StageDraft, path: str, split: Any) -> Term:
    options = {} if split == "train" else {"split": split}
    return Term("file", {"path": draft.paths.seen(path), **options})


def _local(draft: StageDraft, name: str) -> bool:
    """A hub's name is `name` or `organisation/name`."""
    here = (
        name.startswith(("/", ".", "~", "$")) or name.count("/") > 1 or bool(PurePosixPath(name).suffix[1:4] in _KINDS)
    )
    return here or draft.paths.files.exists(draft.paths.root / name)


_KINDS = ("jso", "csv", "par")


def trained_tokens(draft: StageDraft) -> None:
    """Which tokens count. TRL counts the assistant's with `assistant_only_loss`, the completion with `completion_only_loss` or
    where rows have a prompt and a completion, and else all (trl/trainer/sft_trainer.py)."""
    if draft.kind != "sft":
        return
    assistant, completion = draft.on("assistant_only_loss"), draft.raw("completion_only_loss")
    if assistant:
        draft.set("train_on", Term("responses"))
        if completion:
            draft.note(
                "completion_only_loss", "the assistant's turns of the completion count: a recipe has all of its turns"
            )
        return
    if completion is not None:
        draft.set("train_on", Term("last_response" if completion else "everything"))
        return
    columns = _columns(draft)
    if columns is None:
        draft.set("train_on", Term("everything"), "or `last_response`, where rows have `prompt` and `completion`")
    else:
        draft.set("train_on", Term("last_response" if columns >= PROMPT_COMPLETION else "everything"))
    draft.reasons["train_on"] = "TRL counts the completion alone where rows have one, and else every token"


def _columns(draft: StageDraft) -> set[str] | None:
    """Columns of the first row, where the data is here."""
    sources = draft.values.get("data")
    for source in sources if isinstance(sources, list) else ():
        if isinstance(source, Term) and (row := first_row(source, draft.paths.folder, draft.paths.files)) is not None:
            return set(row)
    return None


def text_field(draft: StageDraft) -> None:
    """Rows of text: the stage is a `pretrain` (dialect.kinds)."""
    if draft.kind not in ("sft", "pretrain"):
        return
    field = draft.raw("dataset_text_field")
    if draft.kind == "pretrain" and field not in (None, "text"):
        draft.note("dataset_text_field", f'write a `data` stage with `columns {{ prompt = "{field}" }}`')


def packing(draft: StageDraft) -> None:
    """Best-fit packing keeps rows apart by position ids, which only FlashAttention reads; `wrapped` joins them."""
    if draft.kind not in ("sft", "pretrain"):
        return
    strategy = str(draft.take("packing_strategy"))
    if draft.kind == "pretrain":
        draft.set("packing", draft.on("packing"))
        if draft.on("packing") and strategy != "wrapped":
            draft.note("packing_strategy", "texts are joined and cut into blocks: `wrapped`", carried=True)
            draft.reasons["packing_strategy"] = "texts are joined and cut into blocks"
        return
    if not draft.on("packing"):
        if draft.given("packing"):
            draft.set("packing", False)
        return
    flash = str(draft.config.value("attn_implementation") or "")
    if strategy == "wrapped":
        draft.set("packing", Term("plain"))
    elif "flash" in flash:
        draft.set("packing", Term("neat"))
        if strategy != "bfd":
            draft.note("packing_strategy", f"`{strategy}` cuts long rows into several; `neat` cuts them off")
    else:
        text = "packed rows see each other without FlashAttention: write `attention = flash2` and `packing = neat`"
        draft.note("packing", text)
        draft.reasons["packing_strategy"] = text


__all__ = ["bf16", "dataset", "packing", "text_field", "trained_tokens"]
