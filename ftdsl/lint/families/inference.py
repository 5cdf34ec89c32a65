"""Inference backends, evaluation commands."""

from __future__ import annotations

from ftdsl.lint.config import Config
from ftdsl.lint.rule import Findings, error, rule, warning


@rule("FT611")
def unsupported_by_backend(config: Config) -> Findings:
    """What it does: finds what vLLM and SGLang do not support in LLaMA-Factory: training, reward models,
        bitsandbytes, RoPE scaling, several adapters.
    Why it matters: each stops the run while parsing its arguments.
    Example:
        infer_backend: vllm
        do_train: true
        ---
        infer_backend: vllm
        quantization_bit: 4
        ---
        infer_backend: vllm
        rope_scaling: linear
        ---
        infer_backend: vllm
        adapter_name_or_path: saves/a,saves/b
        ---
        infer_backend: vllm
        stage: rm
    Use instead:
        infer_backend: vllm
        adapter_name_or_path: saves/a
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:530, 553-565 (0.9.5)
    """
    backend = str(config.value("infer_backend"))
    if backend not in ("vllm", "sglang"):
        return
    at = config.at("infer_backend")
    if config.kind == "train" or config.on("do_train"):
        yield error(at, f"{backend} does not support training", help="drop it", label="it is for chat and api")
        return
    if backend != "vllm":
        return
    if config.has("quantization_bit"):
        yield error(
            config.at("quantization_bit"),
            "LLaMA-Factory does not support bitsandbytes with vLLM",
            also=((at, "vLLM is set here"),),
            help="use a GPTQ or AWQ checkpoint",
        )
    if config.has("rope_scaling"):
        yield error(
            config.at("rope_scaling"),
            "LLaMA-Factory does not support RoPE scaling with vLLM",
            also=((at, "vLLM is set here"),),
            help="set it in the model's config.json",
        )
    adapters = config.items("adapter_name_or_path")
    if len(adapters) > 1:
        yield error(
            config.at("adapter_name_or_path"),
            f"vLLM supports one adapter, but there are {len(adapters)}",
            help="merge them first",
        )
    if config.stage != "sft":
        yield error(config.first("stage"), f"vLLM does not serve a {config.stage} model", help="drop `stage`")


@rule("FT610")
def eval_command_removed(config: Config) -> Findings:
    """What it does: finds parameters of `llamafactory-cli eval`.
    Why it matters: that command raises NotImplementedError since 0.9.4; its parameters are still accepted.
    Example:
        task: mmlu_test
        do_train: null
        dataset: null
    Use instead:
        do_train: false
        do_eval: true
        eval_dataset: support
    Applies to: LLaMA-Factory >= 0.9.4
    Source: llamafactory/launcher.py:147 (0.9.5)
    """
    if config.is_explicit("task") and config.word("task") in ("task", "--task"):
        at = config.at("task")
        yield error(
            at, "LLaMA-Factory removed its benchmarks", help="use lm-evaluation-harness: `lm_eval --tasks mmlu`"
        )


@rule("FT619")
def evaluation_of_quantised_model(config: Config) -> Findings:
    """What it does: finds evaluation of a model that is loaded in 4 or 8 bits.
    Why it matters: the scores are lower than those of the full-precision model, and not comparable across runs.
    Example:
        do_train: false
        do_eval: true
        eval_dataset: support
        quantization_bit: 4
    Use instead:
        do_train: false
        do_eval: true
        eval_dataset: support
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:479 (0.9.5) warns
    """
    scores = config.on("do_eval") or config.on("do_predict")
    if config.kind == "train" and scores and not config.on("do_train") and config.has("quantization_bit"):
        at = config.at("quantization_bit")
        yield warning(
            at, "a quantised model scores lower than the original", help="load the model in 16 bits to evaluate it"
        )


@rule("FT641")
def nothing_to_do(config: Config) -> Findings:
    """What it does: finds a training file in which none of `do_train`, `do_eval` and `do_predict` is on.
    Why it matters: LLaMA-Factory loads the model and the data, and ends without an error and without a result.
        A run that only writes `tokenized_path` needs none of them.
    Example:
        do_train: null
        ---
        do_train: false
    Use instead:
        do_train: true
    Applies to: LLaMA-Factory
    Source: llamafactory/train/sft/workflow.py, run_sft (0.9.5); LLaMA-Factory#3073
    """
    asked = any(config.on(name) for name in ("do_train", "do_eval", "do_predict"))
    if config.kind != "train" or config.form == "recipe" or asked or config.has("tokenized_path"):
        return
    at = config.first("do_train", "stage", "model_name_or_path")
    if config.stage != "ppo":  # refused by FT606
        yield error(at, "nothing is trained, evaluated or predicted", help="write `do_train: true`")
