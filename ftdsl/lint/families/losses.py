"""Which loss is trained in the end, and how that of several micro-batches adds up."""

from __future__ import annotations

from ftdsl.lint.config import Config
from ftdsl.lint.rule import Findings, error, rule, warning

ITS_OWN = ("orpo", "simpo")
"""Preference losses that LLaMA-Factory computes itself; the others are TRL's."""


@rule("FT612")
def another_loss_is_trained(config: Config) -> Findings:
    """What it does: finds preference losses that TRL never hears of.
    Why it matters: LLaMA-Factory sets the loss on its trainer, and since 0.20 TRL's `dpo_loss` reads it from an
        argument that LLaMA-Factory does not give: hinge, IPO and kto_pair train the sigmoid loss, without a word.
        The first loss of the run shows it: 0.6931, where hinge begins at 1.
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
            f"with trl {config.versions['trl']} `{loss}` would train the sigmoid loss, without a word",
            help="write `sigmoid`, or `simpo` or `orpo`, which LLaMA-Factory computes itself",
        )


@rule("FT613")
def asft_is_not_scored(config: Config) -> Findings:
    """What it does: finds evaluation while training with ASFT.
    Why it matters: LLaMA-Factory's ASFT gives the loss where transformers wants the loss and the outputs; the first
        evaluation ends the run ("iteration over a 0-d tensor"), after the training up to there.
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
            "a training with ASFT ends at its first evaluation",
            also=((config.at("use_asft_loss"), "trained with it here"),),
            help=f"write `{'evaluate { every = never }' if own else 'eval_strategy: no'}`, and score what it made",
        )


@rule("FT222")
def losses_add_up(config: Config) -> Findings:
    """What it does: finds label smoothing and ASFT with accumulation.
    Why it matters: both average the loss of a micro-batch, and transformers does not divide by the number of
        micro-batches where it believes that the loss was divided by the tokens of the whole step. Loss and gradients
        are as many times too large as there are micro-batches; clipping then cuts nearly every step.
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
        text = f"the losses of {times} micro-batches are added up here, so that gradients are {times} times as large"
        yield warning(at, text, help=f"write `{less}`, with larger micro-batches")
