"""LLaMA-Factory's own optimisers: requirements and conflicts."""

from __future__ import annotations

from ftdsl.lint.config import Config
from ftdsl.lint.edits import add, put, say
from ftdsl.lint.rule import Findings, error, rule, warning

OWN = {
    "use_galore": "GaLore",
    "use_apollo": "APOLLO",
    "use_badam": "BAdam",
    "use_adam_mini": "Adam-mini",
    "use_muon": "Muon",
}
GALORE_BASES = ("adamw_torch", "adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit", "adafactor")


def distributed(config: Config) -> bool | None:
    """Whether the run has several ranks; None if unknown."""
    if config.deepspeed is not None or config.has("deepspeed"):
        return True
    return None if config.launch is None or not config.launch.world else config.launch.world > 1


@rule("FT325")
def optimiser_needs_whole_matrices(config: Config) -> Findings:
    """What it does: finds Muon and Adam-mini with ZeRO.
    Why it matters: they need whole matrices, but ZeRO passes flattened partitions to the optimiser: the run fails in
        its first step ("'use_muon'", "too many indices for tensor of dimension 1").
    Example:
        finetuning_type: full
        learning_rate: 1e-5
        use_muon: true
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2}}
    Use instead:
        finetuning_type: full
        learning_rate: 1e-5
        use_muon: true
    Applies to: LLaMA-Factory with DeepSpeed
    Source: llamafactory/third_party/muon/muon.py (0.9.5); deepspeed 0.19.8, ZeRO-2, run
    """
    for name in ("use_muon", "use_adam_mini"):
        if config.on(name) and config.zero:
            text = f"{OWN[name]} needs whole matrices, but ZeRO-{config.zero} flattens and partitions them"
            yield error(config.at(name), text, help="use DDP, or a plain optimiser")


@rule("FT308")
def optimiser_conflict(config: Config) -> Findings:
    """What it does: finds GaLore, APOLLO and BAdam where they do not work: with LoRA or OFT, with each other,
        with DeepSpeed, layer-wise on several ranks or with gradient accumulation.
    Why it matters: they need the gradients of all weights; most conflicts stop the run while parsing its arguments,
        accumulation when the optimiser is created. BAdam under OFT runs, but trains the weights below the adapter
        while only the adapter is saved.
    Example:
        use_galore: true
        optim: adamw_torch
        ---
        finetuning_type: full
        learning_rate: 1e-5
        optim: adamw_torch
        use_galore: true
        use_apollo: true
        ---
        finetuning_type: oft
        use_badam: true
        ---
        finetuning_type: full
        learning_rate: 1e-5
        optim: adamw_torch
        use_apollo: true
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2}}
        ---
        finetuning_type: full
        learning_rate: 1e-5
        optim: adamw_torch
        use_galore: true
        galore_layerwise: true
        gradient_accumulation_steps: 4
        ---
        # with: gpus=8, launcher=torchrun
        finetuning_type: full
        learning_rate: 1e-5
        use_badam: true
        badam_mode: ratio
        ---
        # with: gpus=8, launcher=torchrun
        finetuning_type: full
        learning_rate: 1e-5
        optim: adamw_torch
        use_galore: true
        galore_layerwise: true
        ---
        # with: gpus=8, launcher=torchrun
        finetuning_type: full
        learning_rate: 1e-5
        optim: adamw_torch
        use_apollo: true
        apollo_layerwise: true
        ---
        # with: gpus=8, launcher=torchrun
        finetuning_type: full
        learning_rate: 1e-5
        use_badam: true
    Use instead:
        finetuning_type: full
        learning_rate: 1e-5
        optim: adamw_torch
        use_galore: true
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/finetuning_args.py:591-595, parser.py:508-525, train/trainer_utils.py:251, 337
        (0.9.5)
    """
    mine = [name for name in ("use_galore", "use_apollo", "use_badam") if config.on(name)]
    if not mine:
        return
    at, who = config.at(mine[0]), OWN[mine[0]]
    method = config.value("finetuning_type")
    if method in ("lora", "oft"):
        text = f"{who} trains all weights, but the method is {'LoRA' if method == 'lora' else 'OFT'}"
        yield error(at, text, help="use full or freeze training, or a plain optimiser")
    if len(mine) > 1:
        other = config.at(mine[1])
        yield error(other, f"{who} and {OWN[mine[1]]} are both on", also=((at, "and here"),), help="keep one of them")
    yield from _with_deepspeed(config, mine[0])
    yield from _layerwise(config, mine[0])


def _with_deepspeed(config: Config, name: str) -> Findings:
    at, who = config.at(name), OWN[name]
    if name != "use_badam":
        if config.deepspeed is not None or config.has("deepspeed"):
            yield error(at, f"{who} does not work with DeepSpeed", help="use DDP, or a plain optimiser")
    elif distributed(config):
        if config.value("badam_mode") == "ratio":
            yield error(
                config.first("badam_mode", name),
                "BAdam by ratio does not support several ranks",
                help="use `badam_mode: layer` with ZeRO-3",
            )
        elif config.zero != 3 and (config.zero is not None or not config.has("deepspeed")):
            yield error(at, "BAdam by layer needs ZeRO-3 on several ranks", help="use ZeRO-3, or one GPU")


def _layerwise(config: Config, name: str) -> Findings:
    layerwise = f"{name.removeprefix('use_')}_layerwise"
    if name == "use_badam" or not config.on(layerwise):
        return
    at, who = config.at(layerwise), OWN[name]
    if distributed(config):
        yield error(at, f"layer-wise {who} does not support several ranks", help="drop it, or use one GPU")
    if (config.number("gradient_accumulation_steps") or 1) != 1:
        other = config.at("gradient_accumulation_steps")
        yield error(
            at,
            f"layer-wise {who} does not support gradient accumulation",
            also=((other, "accumulation is set here"),),
            help="set it to 1",
        )


@rule("FT309")
def projection_needs_other_optimiser(config: Config) -> Findings:
    """What it does: checks that `optim` is one that GaLore or APOLLO supports.
    Why it matters: transformers 5 defaults to `adamw_torch_fused`, which both reject; a file without `optim`, such
        as LLaMA-Factory's own examples, stops when the optimiser is created.
    Example:
        finetuning_type: full
        learning_rate: 1e-5
        use_galore: true
        ---
        finetuning_type: full
        learning_rate: 1e-5
        use_apollo: true
        optim: adafactor
    Use instead:
        finetuning_type: full
        learning_rate: 1e-5
        use_galore: true
        optim: adamw_torch
    Applies to: LLaMA-Factory with transformers >= 5.0
    Source: llamafactory/train/trainer_utils.py:238-246, 330-333 (0.9.5)
    """
    for name, who, bases in (("use_galore", "GaLore", GALORE_BASES), ("use_apollo", "APOLLO", ("adamw_torch",))):
        if not config.on(name):
            continue
        at, given = config.first("optim", name), config.value("optim")
        if not config.has("optim"):
            if config.version("transformers") >= (5,):
                yield error(
                    config.at(name),
                    f"{who} does not support transformers' default optimiser",
                    help="write `optim: adamw_torch`",
                    fix=add(config, config.at(name), "optim", "adamw_torch"),
                )
        elif given not in bases:
            yield error(
                at,
                f"{who} does not support `{given}`",
                help=f"it supports {', '.join(bases)}",
                fix=put(at, "adamw_torch") if config.form != "recipe" else None,
            )


@rule("FT310")
def two_optimisers(config: Config) -> Findings:
    """What it does: finds several of LLaMA-Factory's own optimisers at once, or one that ignores `optim`.
    Why it matters: the first in a fixed order is used (GaLore, APOLLO, LoRA+, BAdam, Adam-mini, Muon), the others
        are silently ignored.
    Example:
        use_muon: true
        use_adam_mini: true
        finetuning_type: full
        learning_rate: 1e-5
        ---
        use_adam_mini: true
        loraplus_lr_ratio: 16
    Use instead:
        use_muon: true
        finetuning_type: full
        learning_rate: 1e-5
    Applies to: LLaMA-Factory
    Source: llamafactory/train/trainer_utils.py, create_custom_optimizer (0.9.5)
    """
    order = ["use_galore", "use_apollo", "loraplus_lr_ratio", "use_badam", "use_adam_mini", "use_muon"]
    mine = [
        name
        for name in order
        if config.has(name) and (config.on(name) or (name == "loraplus_lr_ratio" and config.value(name)))
    ]
    if len(mine) < 2 or {"use_galore", "use_apollo", "use_badam"} >= set(mine):
        return
    first, idle = config.at(mine[0]), config.at(mine[1])
    yield error(
        idle,
        f"`{idle.word}` is ignored: `{first.word}` takes precedence",
        also=((first, "used"),),
        help="keep one of them",
    )


@rule("FT311")
def mixed_precision_over_projection(config: Config) -> Findings:
    """What it does: finds GaLore and APOLLO with mixed precision.
    Why it matters: the fp32 master weights use the memory that the projection saves; LLaMA-Factory recommends
        `pure_bf16`.
    Example:
        finetuning_type: full
        learning_rate: 1e-5
        use_galore: true
        optim: adamw_torch
    Use instead:
        finetuning_type: full
        learning_rate: 1e-5
        use_galore: true
        optim: adamw_torch
        pure_bf16: true
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:472-477 (0.9.5) warns
    """
    for name in ("use_galore", "use_apollo"):
        if (
            config.trains
            and config.on(name)
            and config.value("finetuning_type") != "lora"  # FT308 rejects it
            and not config.on("pure_bf16")
            and (config.on("bf16") or config.on("fp16"))
        ):
            word = "precision = pure_bf16" if config.form == "recipe" else "pure_bf16: true"
            yield warning(
                config.at(name),
                f"fp32 master weights use up the memory that {OWN[name]} saves",
                help=f"write `{word}`",
                fix=say(config, "precision", "pure_bf16"),
            )
