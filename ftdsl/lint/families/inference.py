"""Using a model: engines for inference, and the commands that are gone."""

from __future__ import annotations

from ftdsl.lint.config import Config
from ftdsl.lint.rule import Findings, error, rule, warning


@rule("FT611")
def backend_cannot(config: Config) -> Findings:
    """What it does: finds what vLLM and SGLang cannot do in LLaMA-Factory: training, reward models,
        bitsandbytes, RoPE scaling, several adapters.
    Why it matters: each stops the run when its arguments are read.
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
        yield error(at, f"{backend} does not train", help="drop it", label="it is for chat and api")
        return
    if backend != "vllm":
        return
    if config.has("quantization_bit"):
        yield error(
            config.at("quantization_bit"),
            "vLLM loads no bitsandbytes here",
            also=((at, "asked for here"),),
            help="use a GPTQ or AWQ checkpoint",
        )
    if config.has("rope_scaling"):
        yield error(
            config.at("rope_scaling"),
            "vLLM takes no RoPE scaling here",
            also=((at, "asked for here"),),
            help="write it into the model's config.json",
        )
    adapters = config.items("adapter_name_or_path")
    if len(adapters) > 1:
        yield error(
            config.at("adapter_name_or_path"),
            f"vLLM takes one adapter, and here are {len(adapters)}",
            help="merge them first",
        )
    if config.stage != "sft":
        yield error(config.first("stage"), f"vLLM does not serve a {config.stage} model", help="drop `stage`")


@rule("FT610")
def evaluation_command_is_gone(config: Config) -> Findings:
    """What it does: finds parameters of `llamafactory-cli eval`.
    Why it matters: that command raises NotImplementedError since 0.9.4; the parameters are still taken.
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
            at, "LLaMA-Factory's own benchmarks are gone", help="use lm-evaluation-harness: `lm_eval --tasks mmlu`"
        )


@rule("FT619")
def scored_in_few_bits(config: Config) -> Findings:
    """What it does: points at scores taken in 4 or 8 bits.
    Why it matters: they are lower than the model's own, and not comparable with those of another run.
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
            at, "scores in fewer bits are lower than the model's own", help="load the model in 16 bits to score it"
        )
