"""Answers that the model generates while it trains, and what they are worth."""

from __future__ import annotations

from ftdsl.engines.shared.overlay import plain
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.language.values import Term


def generates(context: StageContext) -> bool:
    """Whether the trainer takes prompts, for which the model generates answers."""
    return context.stage.kind == "grpo" or (context.stage.kind == "distill" and context.get("teacher") is not None)


def answers(context: StageContext) -> Params:
    """Sampling, by default at temperature 1. TRL's `generate` options of other stages are no parameters of a training."""
    if not generates(context):
        return {}
    names = {"max_new_tokens": "max_completion_length", "temperature": "temperature", "top_p": "top_p", "top_k": "top_k",
             "repetition_penalty": "repetition_penalty"}  # fmt: skip
    params = {
        theirs: plain(value) for ours, theirs in names.items() if (value := context.get(f"generate.{ours}")) is not None
    }
    if context.get("generate.temperature") == 0:
        why = "answers that are compared with each other are sampled, and at temperature 0 all are the same"
        context.refuse("generate.temperature", why, "write `temperature = 1`")
    for name, default in (("beams", 1), ("length_penalty", 1), ("skip_special", True)):
        if context.is_explicit(f"generate.{name}") and context.get(f"generate.{name}") != default:
            context.refuse(f"generate.{name}", f"{context.engine.title} samples one token after the other", "drop it")
    return params


def backend(context: StageContext) -> Params:
    """vLLM on the GPUs of the training, or behind `trl vllm-serve`; else transformers' `generate`."""
    value = context.get("backend") if generates(context) else None
    if not isinstance(value, Term) or value.name != "vllm":
        return {}
    options, mode = value.options, plain(value.options.get("mode") or "colocate")
    if not context.planned.world.gpu:
        context.refuse("backend", "vLLM needs a GPU", "write `backend = hf`")
    if mode == "server" and not options.get("url"):
        help = 'write `vllm(server, url = "http://host:8000")`'
        context.refuse("backend", "a vLLM server needs its address", help)
    if mode == "colocate" and options.get("url"):
        context.refuse("backend", "`url` is of a server, and `colocate` has none", "write `vllm(server, url = …)`")
    params: Params = {"use_vllm": True, "vllm_mode": mode, "vllm_max_model_length": context.get("max_len")}
    names = {
        "gpu_memory": "vllm_gpu_memory_utilization",
        "tensor": "vllm_tensor_parallel_size",
        "url": "vllm_server_base_url",
    }
    return params | {theirs: plain(options[ours]) for ours, theirs in names.items() if options.get(ours) is not None}


def divergence(context: StageContext) -> Params:
    """Between the distributions of teacher and student."""
    return {"beta": context.get("divergence")} if context.stage.kind == "distill" and generates(context) else {}


def weights(context: StageContext) -> Params:
    """One weight for each reward, in order; groups of evaluations."""
    if context.stage.kind != "grpo":
        return {}
    rewards = [reward for reward in context.get("rewards") or () if isinstance(reward, Term)]
    params: Params = {"reward_weights": [float(reward.options.get("weight", 1)) for reward in rewards]}
    if context.get("evaluate.data"):
        group, ranks = int(context.get("generations")), context.planned.world.data or 1
        batch = context.get("evaluate.batch")
        if batch is None:
            params["per_device_eval_batch_size"] = group
        elif batch * ranks % group:
            text = f"an evaluation of {batch * ranks} answers at once does not hold whole groups of {group}"
            context.refuse("evaluate.batch", text, f"write `batch = {group}`")
    if context.get("batch.ramp"):
        context.refuse("batch.ramp", "groups of answers are generated for steps of one size", "drop `ramp`")
    return params
