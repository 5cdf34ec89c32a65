"""Gradient checkpointing and kernels."""

from __future__ import annotations

from ftdsl.engines.shared.run_paths import seen_from_run
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.language.values import Term


def checkpointing(context: StageContext) -> Params:
    value = context.get("memory.checkpointing")
    name = value.name if isinstance(value, Term) else {True: "full", False: "none"}.get(value, "full")
    if name == "none":
        return {"disable_gradient_checkpointing": True}
    if name == "selective":
        context.refuse("memory.checkpointing", "LLaMA-Factory checkpoints every layer or none", "use `full` or `none`")
    reentrant = context.option("memory.checkpointing", "reentrant")
    return {} if reentrant is None else {"use_reentrant_gc": reentrant}


_KERNELS = {
    "liger": "enable_liger_kernel",
    "unsloth": "use_unsloth",
    "npu": "use_v1_kernels",
    "ktransformers": "use_kt",
}
_EXPERTS = {"weights": "kt_weight_path", "experts": "kt_expert_checkpoint_path"}


def kernels(context: StageContext) -> Params:
    """One or several fused implementations (llamafactory/hparams/model_args.py); ktransformers needs files of its own."""
    params: Params = {}
    for item in context.stage.settings.items("kernels"):
        if isinstance(item, Term) and item.name in _KERNELS:
            params[_KERNELS[item.name]] = True
            params |= {_EXPERTS[name]: seen_from_run(str(path)) for name, path in item.options.items()}
    return params
