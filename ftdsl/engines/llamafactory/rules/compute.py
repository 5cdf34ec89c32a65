"""How it is computed: device, kernels, compilation, recomputation."""

from __future__ import annotations

from ftdsl.engines.llamafactory.places import seen_from_run
from ftdsl.engines.llamafactory.work import Params, Work
from ftdsl.language.values import Term


def use_cpu(work: Work) -> Params:
    """Always said on CPU: without it newer accelerates run two separate jobs of one process each."""
    return {} if work.planned.world.gpu else {"use_cpu": True}


def compile(work: Work) -> Params:
    value = work.get("compile")
    if value in (None, False):
        return {}
    options = value.options if isinstance(value, Term) else {}
    extra = {f"torch_compile_{key}": text for key, text in options.items()}
    return {"torch_compile": True, **extra}


def checkpointing(work: Work) -> Params:
    value = work.get("memory.checkpointing")
    name = value.name if isinstance(value, Term) else {True: "full", False: "none"}.get(value, "full")
    if name == "none":
        return {"disable_gradient_checkpointing": True}
    if name == "selective":
        work.refuse("memory.checkpointing", "LLaMA-Factory checkpoints every layer or none", "use `full` or `none`")
    reentrant = work.option("memory.checkpointing", "reentrant")
    return {} if reentrant is None else {"use_reentrant_gc": reentrant}


_KERNELS = {
    "liger": "enable_liger_kernel",
    "unsloth": "use_unsloth",
    "npu": "use_v1_kernels",
    "ktransformers": "use_kt",
}
_EXPERTS = {"weights": "kt_weight_path", "experts": "kt_expert_checkpoint_path"}


def kernels(work: Work) -> Params:
    """One or several fused implementations (llamafactory/hparams/model_args.py); ktransformers has files of its own."""
    found: Params = {}
    for item in work.stage.settings.items("kernels"):
        if isinstance(item, Term) and item.name in _KERNELS:
            found[_KERNELS[item.name]] = True
            found |= {_EXPERTS[name]: seen_from_run(str(path)) for name, path in item.options.items()}
    return found
