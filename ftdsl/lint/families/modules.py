"""Names of layers, checked against the architecture where it is known."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftdsl import catalog
from ftdsl.catalog import Modules
from ftdsl.diagnostics.suggest import closest
from ftdsl.lint.config import Config
from ftdsl.lint.edits import put
from ftdsl.lint.rule import Finding, Findings, error, info, rule, warning

TARGETS = ("lora_target", "oft_target")
FUSED = frozenset(("gate_up_proj", "down_proj", "up_proj"))
OF_EXPERTS = FUSED | {"gate_proj", "w1", "w2", "w3"}


def modules_of(config: Config) -> Modules | None:
    """The model's modules in the installed transformers; None if unknown."""
    return (
        catalog.modules(config.architecture, config.versions.get("transformers", "")) if config.architecture else None
    )


@rule("FT305")
def unknown_module(config: Config) -> Findings:
    """What it does: finds layer names that the model's architecture does not have; if the architecture is unknown, names
        that differ from a known one by a typo.
    Why it matters: `lora_target: q_porj` is accepted when the file is read; the run stops after the model is loaded.
        If another name matches, only that one is trained, silently.
    Example:
        lora_target: q_porj,v_proj
        ---
        # with: architecture=qwen3
        lora_target: q_proj,c_attn
        ---
        # with: architecture=qwen3
        lora_target: query_key_value
        ---
        additional_target: embed_token
    Use instead:
        # with: architecture=qwen3
        lora_target: q_proj,v_proj
    Applies to: LLaMA-Factory, PEFT
    Source: LLaMA-Factory#1785, #181; accepted by 0.9.5 (run); layer names of transformers' modeling files
    """
    for name in ("additional_target", "galore_target", "apollo_target"):
        yield from _nearly(config, name)
    modules = modules_of(config)
    for name in TARGETS:
        yield from _nearly(config, name) if modules is None or modules.text else _not_there(config, name, modules)


def _nearly(config: Config, name: str) -> Iterator[Finding]:
    known = list(catalog.facts("modules")["names"])
    for module in config.items(name) if config.is_explicit(name) else ():
        guess = closest(module, known) if module not in known else None
        if guess and "." not in module and abs(len(guess) - len(module)) <= 1:
            at = config.at(name)
            fix = put(at, at.text.replace(module, guess), safe=False) if at.span else None
            yield error(at, f"no known model has a layer `{module}`", label=f"did you mean `{guess}`?", fix=fix)


def _not_there(config: Config, name: str, modules: Modules) -> Iterator[Finding]:
    """PEFT stops if no name matches, and skips single ones (peft 0.18.1, tuners/tuners_utils.py; run)."""
    wanted = [module for module in config.items(name) if config.is_explicit(name) and re.fullmatch(r"[\w.]+", module)]
    known = {*modules.linear, *modules.vision, *modules.head, *modules.experts, *OF_EXPERTS, "all"}
    missing = [module for module in wanted if (last := module.rpartition(".")[2]) not in known and "embed" not in last]
    at = config.at(name)
    for module in missing:
        guess = closest(module, known)
        label = f"did you mean `{guess}`?" if guess else ""
        fix = put(at, at.text.replace(module, guess), safe=False) if guess and at.span else None
        text, help = f"{config.architecture} has no layer `{module}`", f"it has {', '.join(modules.linear)}"
        if guess or missing == wanted:
            yield error(at, text, label=label, help=help, fix=fix)
        else:
            yield warning(at, f"{text}; PEFT ignores it", help=help)


@rule("FT313")
def experts_not_reached(config: Config) -> Findings:
    """What it does: finds LoRA on a mixture of experts whose experts are one tensor per layer.
    Why it matters: since transformers 5 they are not linear modules, and LLaMA-Factory's LoRA adapts nothing else:
        nine tenths of the weights get no adapter. Their names are silently ignored as long as another name matches.
        With `all` it is an info, since all linear layers are adapted as requested.
    Example:
        # with: architecture=qwen3_moe
        lora_target: q_proj,v_proj,gate_proj,up_proj,down_proj
        ---
        # with: architecture=qwen3_moe
        lora_target: all
    Use instead:
        # with: architecture=qwen3_moe
        lora_target: q_proj,k_proj,v_proj,o_proj
        ---
        # with: architecture=qwen3_moe, transformers=4.57.1
        lora_target: all
    Applies to: LLaMA-Factory and PEFT with transformers 5
    Source: run with transformers 5.6.0 and peft 0.18.1: of these targets only q_proj and v_proj are adapted
    """
    modules = modules_of(config)
    fused = modules is not None and bool(FUSED & set(modules.experts))
    if not fused or config.on("use_kt") or not config.trains:
        return
    for name in TARGETS if config.value("finetuning_type") in ("lora", "oft") else ():
        at, wanted = config.at(name), config.items(name)
        named = [module for module in wanted if module.rpartition(".")[2] in OF_EXPERTS]
        if config.is_explicit(name) and named:
            yield warning(
                at,
                f"the experts of {config.architecture} get no adapter: `{named[0]}` is not a linear layer",
                help="drop the names of experts, or use transformers 4.57, where they are linear layers",
            )
        elif config.value("finetuning_type") == name.partition("_")[0] and wanted == ["all"]:
            yield info(at, f"the experts of {config.architecture} get no adapter: they are not linear layers")


@rule("FT414")
def experts_may_deadlock(config: Config) -> Findings:
    """What it does: finds a mixture of experts under ZeRO-3 that LLaMA-Factory does not register as a leaf module.
    Why it matters: each rank gathers only the experts of its own tokens; if ranks choose different experts, they
        deadlock. LLaMA-Factory registers the blocks of the models it knows. Since transformers 5 experts are one
        tensor per layer, which avoids this.
    Example:
        # with: architecture=dots1, transformers=4.57.1, gpus=8, launcher=torchrun
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    Use instead:
        # with: architecture=qwen3_moe, transformers=4.57.1, gpus=8, launcher=torchrun
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
        ---
        # with: architecture=dots1, gpus=8, launcher=torchrun
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    Applies to: LLaMA-Factory with DeepSpeed and transformers before 5
    Source: llamafactory/model/model_utils/moe.py:42-152 (0.9.5); LLaMA-Factory#1998, #9222
    """
    modules, kind = modules_of(config), config.architecture
    if config.zero != 3 or modules is None or FUSED & set(modules.experts) or not _of_experts(kind):
        return
    since = catalog.facts("leaf").get(kind, "")
    if since and catalog.numbers(since) <= (config.version("llamafactory") or (99,)):
        return
    yield warning(
        config.first("deepspeed", "model_name_or_path"),
        f"ranks may deadlock: LLaMA-Factory does not register the experts of {kind} as a leaf module for ZeRO-3",
        help=f"use LLaMA-Factory {since}"
        if since
        else "use ZeRO-2, or transformers 5, where experts are one tensor per layer",
    )


def _of_experts(kind: str) -> bool:
    newest = catalog.modules(kind)
    return kind.endswith("_moe") or (newest is not None and bool(FUSED & set(newest.experts)))


@rule("FT319")
def blocks_do_not_divide(config: Config) -> Findings:
    """What it does: finds a number of expanded blocks (LLaMA Pro) that does not divide the number of layers.
    Why it matters: every n-th block is trained; LLaMA-Factory stops after loading the model if n is not whole.
    Example:
        # with: layers=36
        finetuning_type: freeze
        learning_rate: 1e-5
        use_llama_pro: true
        freeze_trainable_layers: 8
    Use instead:
        # with: layers=36
        finetuning_type: freeze
        learning_rate: 1e-5
        use_llama_pro: true
        freeze_trainable_layers: 6
    Applies to: LLaMA-Factory
    Source: llamafactory/model/adapter.py:80, model/model_utils/misc.py:61 (0.9.5)
    """
    many = config.number("freeze_trainable_layers")
    if config.trains and config.on("use_llama_pro") and config.layers and many and config.layers % abs(many):
        at = config.first("freeze_trainable_layers", "use_llama_pro")
        near = [
            count for count in range(1, config.layers + 1) if config.layers % count == 0 and count >= abs(many) / 2
        ][:3]
        help = f"write {', '.join(map(str, near[:-1]))} or {near[-1]}" if len(near) > 1 else f"write {near[0]}"
        yield error(at, f"{config.layers} layers are not divisible by {abs(many):g}", help=help)


@rule("FT322")
def mixture_of_depths_not_supported(config: Config) -> Findings:
    """What it does: finds `mixture_of_depths` on an architecture that LLaMA-Factory cannot convert.
    Why it matters: the run stops when the model is loaded.
    Example:
        # with: architecture=qwen3
        finetuning_type: full
        learning_rate: 1e-5
        mixture_of_depths: convert
    Use instead:
        # with: architecture=llama
        model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
        template: llama3
        finetuning_type: full
        learning_rate: 1e-5
        mixture_of_depths: convert
    Applies to: LLaMA-Factory
    Source: llamafactory/model/model_utils/mod.py:36, extras/constants.py, MOD_SUPPORTED_MODELS (0.9.5)
    """
    known = catalog.facts("depths")["supported"]
    if config.value("mixture_of_depths") == "convert" and config.architecture and config.architecture not in known:
        text = f"{config.architecture} does not support mixture of depths"
        yield error(config.at("mixture_of_depths"), text, help=f"supported: {', '.join(known)}")
