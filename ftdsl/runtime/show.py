"""Rows of a stage as its model sees them: token ids, which of them are learned from, what is cut; by the engine's own parts.

Each row goes alone through the processor that the engine would choose (llamafactory/data/loader.py, _get_dataset_processor), so
that what it drops is seen; rows that are packed go together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from .labels import IGNORED
from .report import StageError
from .row_parts import asked_side, learned_side
from .tokens import STAGES

MODEL = (
    "stage", "model_name_or_path", "model_revision", "trust_remote_code", "seed", "predict_with_generate", "add_tokens",
    "add_special_tokens", "new_special_tokens_config", "split_special_tokens", "image_max_pixels", "image_min_pixels",
    "video_max_pixels", "video_min_pixels", "video_fps", "video_maxlen", "audio_sampling_rate", "use_audio_in_video",
    "image_do_pan_and_scan", "crop_to_patches",
)  # fmt: skip
"""The parameters that determine the token ids, besides those of the data."""

WHOLE = 1 << 20
"""Tokens that no row is cut at: what it would be without `max_len`."""

SIDES = {"input_ids": "", "chosen_input_ids": "chosen", "rejected_input_ids": "rejected"}


def rows(config: dict[str, Any], count: int) -> dict[str, Any]:
    """`rows`: each a dictionary (see `_row`), at most `count`; `limit`: `max_len`; `template`. Raises: StageError."""
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.data.loader import _get_dataset_processor
    from llamafactory.hparams import DataArguments, get_train_args
    from llamafactory.model import load_tokenizer

    kept = {*MODEL, *(field.name for field in dataclasses.fields(DataArguments))} - {"tokenized_path", "val_size"}
    part = {name: value for name, value in config.items() if name in kept}
    part |= {"max_samples": count, "streaming": False, "overwrite_cache": True, "preprocessing_num_workers": None}
    part |= {"output_dir": "show", "do_train": True, "use_cpu": True, "report_to": "none", "dataset": _names(config)}
    part.pop("eval_dataset", None)
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(part)
    parts = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(parts["tokenizer"], data_args)
    kind = STAGES.get(finetuning_args.stage, finetuning_args.stage)
    generates = bool(training_args.predict_with_generate)
    made: list[dict[str, Any]] = []
    together = bool(data_args.packing) and kind in ("sft", "pt")
    read = data_args.preprocessing_batch_size if together else count  # the engine packs what it reads in one batch
    for name, examples in _examples(data_args, model_args, training_args, kind, read):
        processor = _get_dataset_processor(data_args, kind, template, do_generate=generates, **parts)
        for batch in [examples] if together else _single(examples):
            tokenized = _processed(processor, batch, data_args.cutoff_len)
            if together:
                made += [{"data": name, **row} for row in tokenized]
                continue
            whole = _processed(processor, batch, WHOLE)
            made.append({"data": name, **_tokens_of(tokenized, whole)})
    answers = generates or kind == "ppo"
    return {
        "template": data_args.template, "limit": data_args.cutoff_len, "answers": answers,
        "rows": [_with_parts(row, parts["tokenizer"], kind, answers=answers) for row in made[:count]],
    }  # fmt: skip


def _names(config: dict[str, Any]) -> str:
    return str(config.get("dataset") or config.get("eval_dataset") or "")


def _examples(
    data_args: Any, model_args: Any, training_args: Any, kind: str, count: int
) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """The first rows of each data set, as its columns after the engine has aligned them."""
    from llamafactory.data.loader import _get_merged_dataset

    names = list(data_args.dataset or ())
    share = -(-count // max(1, len(names)))
    data_args.mix_strategy, data_args.interleave_probs, data_args.max_samples = "concat", None, share
    for name in names:
        data = _get_merged_dataset([name], model_args, data_args, training_args, kind)
        if not len(data):
            raise StageError(f"`{name}` has no rows", "data")
        yield name, data[:share]


def _single(examples: dict[str, list[Any]]) -> Iterator[dict[str, list[Any]]]:
    for at in range(len(next(iter(examples.values())))):
        yield {name: values[at : at + 1] for name, values in examples.items()}


def _processed(processor: Any, batch: dict[str, list[Any]], limit: int) -> list[dict[str, Any]]:
    """What the engine makes of a batch where rows are cut at `limit` tokens."""
    before, processor.data_args.cutoff_len = processor.data_args.cutoff_len, limit
    try:
        columns = processor.preprocess_dataset(batch)
    finally:
        processor.data_args.cutoff_len = before
    count = len(next(iter(columns.values()), ()))
    return [{name: values[at] for name, values in columns.items()} for at in range(count)]


def _tokens_of(tokenized: list[dict[str, Any]], whole: list[dict[str, Any]]) -> dict[str, Any]:
    """One row with the length it would have uncut; a row that the engine leaves out has no tokens. Plain text is divided
    instead of cut, and its first piece is shown.
    """
    if not tokenized:
        return {"dropped": True}
    lengths = {name: len(ids) for name, ids in whole[0].items() if name in SIDES} if whole else {}
    return {**tokenized[0], "whole": lengths, "pieces": len(tokenized)}


def _with_parts(row: dict[str, Any], tokenizer: Any, kind: str, *, answers: bool) -> dict[str, Any]:
    """A row for people: `sides` (one, or two of a preference). answers: labels are the answer that is wanted, not learned."""
    sides = []
    for name, side in SIDES.items():
        if name not in row:
            continue
        ids, whole = list(row[name]), row.get("whole", {}).get(name, 0)
        wanted = row.get(name.replace("input_ids", "labels"))
        if answers:
            sides.append(asked_side(ids, wanted or (), tokenizer, whole=whole))
            continue
        labels = ids if wanted is None or kind == "pt" else list(wanted)
        padding = _padding(ids, labels, row, tokenizer)
        sides.append(learned_side(side, ids, labels, tokenizer, whole=whole, padding=padding))
    tag = {"desirable": bool(row["kto_tags"])} if "kto_tags" in row else {}
    return {
        "data": row["data"],
        "dropped": bool(row.get("dropped")),
        "pieces": row.get("pieces", 1),
        "sides": sides,
    } | tag


def _padding(ids: list[int], labels: list[int], row: dict[str, Any], tokenizer: Any) -> int:
    """Tokens that fill up a pack at its end."""
    if "position_ids" not in row:
        return 0
    count = 0
    while count < len(ids) and ids[-1 - count] == tokenizer.pad_token_id and labels[-1 - count] == IGNORED:
        count += 1
    return count
