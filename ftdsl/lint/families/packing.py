"""Several rows in one, and which of their tokens are learnt from."""

from __future__ import annotations

from ftdsl.lint.config import Config
from ftdsl.lint.edits import drop, put
from ftdsl.lint.families.templates import template_fact
from ftdsl.lint.rule import Findings, error, info, rule


@rule("FT506")
def packed_unasked(config: Config) -> Findings:
    """What it does: says that pretraining packs rows together unless told otherwise.
    Why it matters: `pt` packs by default, every other stage does not: the same file gives other batches when
        only `stage` changes.
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
            "pretraining packs rows together unless told otherwise",
            help="write `packing: true`, or `false`",
        )


@rule("FT507")
def masking_not_here(config: Config) -> Findings:
    """What it does: finds packing and masking where they do not work: outside SFT, two masks at once, or the
        prompt trained with a template that has no end of text.
    Why it matters: the run stops when its arguments or its template are read.
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
            f"`{other.word}` and `{at.word}` ask for opposite things",
            also=((at, "and here"),),
            help="keep one of them",
        )
    elif template_fact(config, "efficient_eos"):
        yield error(
            at,
            f"`{at.word}` does not work with the template `{config.value('template')}`",
            help="train on responses only",
        )


@rule("FT509")
def packed_one_at_a_time(config: Config) -> Findings:
    """What it does: finds neat packing with FlashAttention 2 and more than one pack at a time, or with Gemma 4.
    Why it matters: LLaMA-Factory 0.9.5 cuts the padding out of the one pack there is; with two the first step
        stops at an assertion, when everything is loaded. Gemma 4 is refused.
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
        yield error(config.at("neat_packing"), "Gemma 4 takes no neat packs with FlashAttention 2", help="use sdpa")
    elif many > 1:
        packed = config.at("neat_packing")
        less = (
            "write `micro = 1`"
            if config.form == "recipe"
            else f"write `{at.word}` 1 and accumulate {many:g} times more"
        )
        yield error(
            at if at.is_explicit else packed,
            f"FlashAttention 2 takes one neat pack at a time, not {many:g}",
            also=((packed, "packed neatly"),) if at.is_explicit else (),
            help=f"{less}: a pack is full of rows already",
            fix=put(at, "1", safe=False) if at.is_explicit else None,
        )
