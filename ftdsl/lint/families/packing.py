"""Packing of rows into sequences, and masking of the loss."""

from __future__ import annotations

from ftdsl.lint.config import Config
from ftdsl.lint.edits import drop, put
from ftdsl.lint.families.templates import template_fact
from ftdsl.lint.rule import Findings, error, info, rule


@rule("FT506")
def pretrain_packs_by_default(config: Config) -> Findings:
    """What it does: points out that pretraining packs rows by default.
    Why it matters: `pt` packs by default, every other stage does not: changing only `stage` changes the batches.
    Example:
        stage: pt
        template: null
    Use instead:
        stage: pt
        packing: true
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py, end of get_train_args (0.9.5); LLaMA-Factory#7985
    """
    if config.kind == "train" and config.stage == "pt" and not config.has("packing") and config.form != "recipe":
        yield info(
            config.at("stage"),
            "pretraining packs rows by default",
            help="write `packing: true`, or `false`",
        )


@rule("FT507")
def masking_not_supported(config: Config) -> Findings:
    """What it does: finds packing and masking where they do not work: outside SFT, two masks at once, or training on
        prompts with a template that has no end-of-text token.
    Why it matters: the run stops while parsing its arguments or its template.
    Example:
        stage: dpo
        learning_rate: 5e-6
        neat_packing: true
        ---
        stage: kto
        learning_rate: 5e-6
        mask_history: true
        ---
        mask_history: true
        train_on_prompt: true
        ---
        template: glm4
        model_name_or_path: zai-org/GLM-4-9B-0414
        train_on_prompt: true
    Use instead:
        neat_packing: true
        mask_history: true
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:422-426, data_args.py:183, data/template.py:643 (0.9.5)
    """
    outside = config.kind == "train" and config.stage != "sft"
    for name, what in (
        ("neat_packing", "packed neatly"),
        ("train_on_prompt", "trained on prompts"),
        ("mask_history", "masked"),
    ):
        if outside and config.on(name):
            at = config.at(name)
            yield error(
                at, f"rows of a {config.stage} stage cannot be {what}", help="drop it; it is for sft", fix=drop(at)
            )
    if outside or not config.on("train_on_prompt"):
        return
    at = config.at("train_on_prompt")
    if config.on("mask_history"):
        other = config.at("mask_history")
        yield error(
            other,
            f"`{other.word}` and `{at.word}` contradict each other",
            also=((at, "and here"),),
            help="keep one of them",
        )
    elif template_fact(config, "efficient_eos"):
        yield error(
            at,
            f"the template `{config.value('template')}` does not support `{at.word}`",
            help="train on responses only",
        )


@rule("FT509")
def neat_packing_needs_micro_batch_1(config: Config) -> Findings:
    """What it does: finds neat packing with FlashAttention 2 and a micro-batch above 1, or with Gemma 4.
    Why it matters: LLaMA-Factory 0.9.5 removes the padding of a single packed sequence; with two, an assertion fails
        in the first step, after everything is loaded. Gemma 4 is rejected.
    Example:
        neat_packing: true
        flash_attn: fa2
        per_device_train_batch_size: 4
        ---
        # with: architecture=gemma4
        neat_packing: true
        flash_attn: fa2
    Use instead:
        neat_packing: true
        flash_attn: fa2
        per_device_train_batch_size: 1
        gradient_accumulation_steps: 4
        ---
        neat_packing: true
        flash_attn: sdpa
        per_device_train_batch_size: 4
    Applies to: LLaMA-Factory from 0.9.5
    Source: llamafactory/data/collator.py:493, 528 (0.9.5): "bsz should be 1 for neat packing"
    """
    at, many = config.at("per_device_train_batch_size"), config.number("per_device_train_batch_size") or 1
    asked = config.trains and config.on("neat_packing") and config.value("flash_attn") == "fa2"
    if not asked or (0, 9, 5) > config.version("llamafactory") > ():
        return
    if config.architecture == "gemma4":
        yield error(
            config.at("neat_packing"), "Gemma 4 does not support neat packing with FlashAttention 2", help="use sdpa"
        )
    elif many > 1:
        packed = config.at("neat_packing")
        less = (
            "write `micro = 1`"
            if config.form == "recipe"
            else f"write `{at.word}` 1 and accumulate {many:g} times more"
        )
        yield error(
            at if at.is_explicit else packed,
            f"neat packing with FlashAttention 2 needs a micro-batch of 1, not {many:g}",
            also=((packed, "neat packing is on"),) if at.is_explicit else (),
            help=f"{less}: a packed sequence holds several rows",
            fix=put(at, "1", safe=False) if at.is_explicit else None,
        )
