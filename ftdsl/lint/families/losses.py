"""Losses: which one is trained, and how it is averaged over micro-batches."""

from __future__ import annotations

from ftdsl.lint.config import Config
from ftdsl.lint.rule import Findings, error, rule, warning

ITS_OWN = ("orpo", "simpo")
"""Preference losses that LLaMA-Factory computes itself; the others are TRL's."""


@rule("FT612")
def another_loss_is_trained(config: Config) -> Findings:
    """What it does: finds preference losses that LLaMA-Factory does not pass on to TRL.
    Why it matters: LLaMA-Factory sets the loss on its trainer, but since 0.20 TRL's `dpo_loss` takes it as an
        argument, which LLaMA-Factory omits: hinge, IPO and kto_pair silently train the sigmoid loss. The first loss
        shows it: 0.6931, where hinge starts at 1.
    Example:
        stage: dpo
        learning_rate: 5e-6
        pref_loss: hinge
        ---
        stage: dpo
        learning_rate: 5e-6
        pref_loss: ipo
    Use instead:
        stage: dpo
        learning_rate: 5e-6
        pref_loss: sigmoid
        ---
        # with: trl=0.19.1
        stage: dpo
        learning_rate: 5e-6
        pref_loss: hinge
    Applies to: LLaMA-Factory with trl >= 0.20
    Source: llamafactory/train/dpo/trainer.py:80, 206 (0.9.5); trl/trainer/dpo_trainer.py:1026 (0.24.0); run
    """
    loss = config.value("pref_loss")
    if config.kind != "train" or config.stage != "dpo" or loss in ("sigmoid", *ITS_OWN):
        return
    if config.version("trl") >= (0, 20):
        yield error(
            config.at("pref_loss"),
            f"with trl {config.versions['trl']} `{loss}` silently trains the sigmoid loss",
            help="write `sigmoid`, or `simpo` or `orpo`, which LLaMA-Factory computes itself",
        )


@rule("FT613")
def asft_cannot_evaluate(config: Config) -> Findings:
    """What it does: finds evaluation while training with ASFT.
    Why it matters: LLaMA-Factory's ASFT returns the loss where transformers expects the loss and the outputs; the first
        evaluation ends the run ("iteration over a 0-d tensor"), after all training before it.
    Example:
        finetuning_type: full
        learning_rate: 1e-5
        use_asft_loss: true
        val_size: 0.1
        eval_strategy: steps
        eval_steps: 100
    Use instead:
        finetuning_type: full
        learning_rate: 1e-5
        use_asft_loss: true
    Applies to: LLaMA-Factory
    Source: llamafactory/train/sft/trainer.py:151-161 (0.9.5, run)
    """
    scored = config.on("do_eval") or str(config.value("eval_strategy") or "no") != "no"
    if config.kind == "train" and config.on("use_asft_loss") and scored and not config.on("predict_with_generate"):
        own = config.form == "recipe"
        yield error(
            config.first("eval_strategy", "do_eval", "use_asft_loss"),
            "training with ASFT fails at its first evaluation",
            also=((config.at("use_asft_loss"), "ASFT is on"),),
            help=f"write `{'evaluate { every = never }' if own else 'eval_strategy: no'}`, and evaluate afterwards",
        )


@rule("FT222")
def losses_summed_not_averaged(config: Config) -> Findings:
    """What it does: finds label smoothing and ASFT with gradient accumulation.
    Why it matters: both average the loss over a micro-batch, while transformers assumes an average over the whole step
        and does not divide by the number of micro-batches. Loss and gradients are too large by that number, and
        gradient clipping affects nearly every step.
    Example:
        label_smoothing_factor: 0.1
        gradient_accumulation_steps: 8
        ---
        finetuning_type: full
        learning_rate: 1e-5
        use_asft_loss: true
        gradient_accumulation_steps: 4
    Use instead:
        label_smoothing_factor: 0.1
        per_device_train_batch_size: 8
        gradient_accumulation_steps: 1
    Applies to: transformers, LLaMA-Factory
    Source: transformers/trainer.py:1928, 2004 (5.6.0); llamafactory/train/sft/trainer.py:152 (0.9.5); run: with two
        micro-batches the logged loss is twice as large
    """
    if config.kind != "train" or config.stage not in ("sft", "pt"):
        return
    times = int(config.number("gradient_accumulation_steps") or 1)
    smoothed = (config.number("label_smoothing_factor") or 0) > 0
    if times > 1 and (smoothed or config.on("use_asft_loss")):
        at = config.at("label_smoothing_factor" if smoothed else "use_asft_loss")
        less = "batch.accumulate = 1" if config.form == "recipe" else "gradient_accumulation_steps: 1"
        text = f"the losses of {times} micro-batches are summed, not averaged: gradients are {times} times too large"
        yield warning(at, text, help=f"write `{less}`, with larger micro-batches")
