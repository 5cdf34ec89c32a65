"""AdaLoRA: ranks move to the layers that need them while a training runs, and what became of them.

PEFT leaves it to the training loop to call `update_and_allocate` at each step; without it no rank ever shrinks. Tried with
peft 0.21.2.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..report import Log, StageError

TYPE = "ADALORA"
UNKNOWN = 1 << 40
"""A number of steps that no training has."""
BEGIN, END = 0.1, 0.3
"""Shares of the steps before ranks shrink, and after they have."""
TIMES = 50
"""Budget updates in a training, at most one a step."""


def schedule(total: int) -> dict[str, int]:
    """AdaLoRA's `tinit`, `tfinal` and `deltaT` for so many steps. Raises: StageError for fewer than 5."""
    if total < 5:
        text = f"AdaLoRA takes ranks away step by step, and {total} steps are too few"
        raise StageError(text, "lora.rank_budget", "duration", help="train for 5 steps or more")
    return {"tinit": round(BEGIN * total), "tfinal": round(END * total), "deltaT": max(1, total // TIMES)}


def count(model: Any) -> dict[str, int]:
    """Module -> its rank now: singular values that are not 0. They all are before the first step, and with a rate of 0: until
    ranks are taken away each matrix has all of those that it began with.
    """
    whole = not hasattr(tuner_of(model), AVERAGE)
    ranks = {}
    for name, parameter in model.named_parameters():
        module, _, rest = name.partition(".lora_E.")
        if rest:
            values = parameter.detach()
            ranks[module.rpartition("base_model.model.")[2]] = values.numel() if whole else int((values != 0).sum())
    return ranks


def average(model: Any) -> float:
    """The mean rank of the adapted matrices now."""
    ranks = count(model)
    return sum(ranks.values()) / max(1, len(ranks))


AVERAGE = "ftdsl_average_rank"
"""Attribute of PEFT's tuner: the average rank when ranks were last taken away; not there until they are."""


class Orthogonal:
    """A trainer's mixin: the term that keeps AdaLoRA's two matrices orthogonal. PEFT adds it to the loss that the model returns,
    which TRL's trainers do not use. Source: Zhang et al. 2023, arXiv:2303.10512, equation 4; peft/tuners/adalora/model.py.
    """

    def compute_loss(
        self: Any, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        if not model.training:
            return outputs
        term = irregularity(tuner_of(model))
        if num_items_in_batch is not None:  # then the loss is a share of the step's, and not divided again
            term = term / self.current_gradient_accumulation_steps
        return (outputs[0] + term, *outputs[1:]) if return_outputs else outputs + term

    def log(self: Any, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            logs["average_rank"] = getattr(tuner_of(self.model), AVERAGE, average(self.model))
        super().log(logs, *args, **kwargs)  # type: ignore[misc]


def irregularity(tuner: Any) -> Any:
    """The weighted mean of the distances of P'P and QQ' from the identity."""
    import torch

    config = tuner.peft_config[tuner.trainable_adapter_name]
    distances = []
    for name, matrix in tuner.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            product = matrix @ matrix.T if "lora_A" in name else matrix.T @ matrix
            distances.append(torch.linalg.norm(product - torch.eye(len(product), device=product.device)))
    return config.orth_reg_weight * torch.stack(distances).mean()


def callback(log: Log) -> Any:
    """A TrainerCallback that moves the ranks, and reports their sum and mean."""
    from transformers import TrainerCallback

    class Ranks(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            tuner = tuner_of(model)
            for name, value in {"total_step": state.max_steps, **schedule(state.max_steps)}.items():
                setattr(tuner.peft_config[tuner.trainable_adapter_name], name, value)
            tuner.rankallocator.set_total_step(state.max_steps)

        def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            tuner, step = tuner_of(model), state.global_step + 1
            tuner.update_and_allocate(step)
            config = tuner.peft_config[tuner.trainable_adapter_name]
            if step > config.tinit and step % config.deltaT == 0:
                setattr(tuner, AVERAGE, 0.0)  # from here on what is left is counted
                setattr(tuner, AVERAGE, average(model))  # in between, what was taken away grows again for a few steps

        def on_log(self, args: Any, state: Any, control: Any, model: Any = None, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                ranks = count(model)
                log.event(
                    "note", message=f"ranks at step {state.global_step}: {sum(ranks.values())} in {len(ranks)} modules"
                )

    return Ranks()


def tuner_of(model: Any) -> Any:
    """PEFT's AdaLoraModel inside of wrappers."""
    inner = getattr(model, "module", model)
    return inner.base_model


def save(model: Any, folder: Path, steps: int) -> None:
    """Write the ranks at the end to `ranks.json` beside the adapter. Raises: StageError while ranks still shrink: such an adapter
    would be loaded with other ranks than it was trained with.
    """
    tuner = tuner_of(model)
    config = tuner.peft_config[tuner.trainable_adapter_name]
    last = config.total_step - config.tfinal
    if steps < last:
        text = f"the ranks of AdaLoRA are final from step {last} on, and training ended at step {steps}"
        raise StageError(text, "lora.rank_budget", "duration", help="train to the end")
    text = json.dumps(count(model), indent=1) + "\n"
    folder.joinpath("ranks.json").write_text(text, encoding="utf-8")
