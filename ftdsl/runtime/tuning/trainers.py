"""TRL's trainers by the kind of a stage, on rows that are token ids already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..report import StageError


@dataclass(frozen=True)
class Kind:
    """A kind of stage. trainer, config: names in `trl`; counts_tokens: the loss is a cross-entropy over tokens; scores: the model
    gives one number; reference: it compares with a reference model; generates: it trains on answers that the model
    generates, and takes prompts as messages."""

    trainer: str
    config: str
    counts_tokens: bool = False
    scores: bool = False
    reference: bool = False
    generates: bool = False


KINDS: Mapping[str, Kind] = {
    "sft": Kind("SFTTrainer", "SFTConfig", counts_tokens=True),
    "pretrain": Kind("SFTTrainer", "SFTConfig", counts_tokens=True),
    "dpo": Kind("DPOTrainer", "DPOConfig", reference=True),
    "kto": Kind("KTOTrainer", "KTOConfig", reference=True),
    "reward": Kind("RewardTrainer", "RewardConfig", scores=True),
    "grpo": Kind("GRPOTrainer", "GRPOConfig", generates=True),
    "distill": Kind("DistillationTrainer", "DistillationConfig", generates=True),
}


def arguments(kind: Kind, params: Mapping[str, Any]) -> Any:
    """The configuration of a trainer. Raises: StageError for parameters that it lacks or refuses."""
    import trl

    config = getattr(trl, kind.config)
    known = {field.name for field in fields(config)}
    if unknown := sorted(params.keys() - known):
        raise StageError(f"{kind.config} has no {', '.join(unknown)}", "trl")
    try:
        return config(**params)
    except (TypeError, ValueError) as error:
        raise StageError(f"{kind.config} refuses its parameters: {error}", "trl") from error


def kind_of(data: Mapping[str, Any]) -> Kind:
    """Of a document's `data`. Distillation without a teacher learns the answers of its data."""
    return KINDS["sft" if data["kind"] == "distill" and "teacher" not in data else data["kind"]]


def trainer_class(kind: Kind, *more: type, **fields: Any) -> type:
    """TRL's trainer, which takes rows of token ids, or prompts that it is to answer. more: mixins; fields: of the class."""
    import trl

    base: type = getattr(trl, kind.trainer)
    return type(base.__name__, (*more, *(() if kind.generates else (OnIds,)), base), fields)


class OnIds:
    """DPO's and KTO's trainers tokenise text in any case; here rows with ids stay as they are. SFT's and the reward trainer know
    such rows (trl 1.16.0, `_prepare_dataset`)."""

    def _prepare_dataset(self: Any, dataset: Any, processing_class: Any, config: Any, *args: Any, **kwargs: Any) -> Any:
        columns = getattr(dataset, "column_names", None) or ()
        if "prompt_ids" not in columns:
            return super()._prepare_dataset(dataset, processing_class, config, *args, **kwargs)  # type: ignore[misc]
        if getattr(self, "calculate_KL", False) and "KL_completion_ids" not in columns:
            return dataset.map(_rotated, batched=True, batch_size=config.per_device_train_batch_size)
        return dataset


def _rotated(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The answers of the row before, within a batch: KTO estimates its KL term from mismatched pairs."""
    answers = rows["completion_ids"]
    return {**rows, "KL_completion_ids": [answers[-1], *answers[:-1]]}
