"""Settings that TRL's trainers refuse when they are made, or take and do something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from ftdsl import catalog
from ftdsl.lint.config import Config
from ftdsl.lint.families.trl_groups import GROUPED
from ftdsl.lint.rule import Findings, error, rule, warning

REFERRING = ("dpo", "kto", *GROUPED)
"""Trainers with a reference model."""

Refusal: TypeAlias = tuple[str, str, str]
"""(parameter, what is wrong, what to write)"""


def adapter(config: Config) -> bool:
    """Whether an adapter is trained."""
    return config.on("use_peft") or config.has("peft") or config.has("adapter_name_or_path")


def _losses(config: Config) -> list[str]:
    value = config.value("loss_type")
    return [str(name) for name in (value if isinstance(value, list) else [value] if value else [])]


def _table(config: Config, name: str) -> Mapping[str, Any]:
    value = config.value(name)
    return value if isinstance(value, Mapping) else {}


def _null(config: Config, name: str) -> bool:
    """Set to `null`, which is no default here: `max_length: null` cuts nothing."""
    return name in config.settings and config.settings[name].value is None


def _any(config: Config) -> Iterator[Refusal]:
    if config.on("load_in_4bit") and config.on("load_in_8bit"):
        yield "load_in_8bit", "a base cannot be loaded in 4 and in 8 bits", "keep one of them"
    if config.on("fp16_full_eval") and config.on("bf16_full_eval"):
        yield "fp16_full_eval", "an evaluation cannot be in fp16 and in bf16", "keep one of them"
    yield from _odd(config)
    targets = config.value("lora_target_modules") or _table(config, "peft").get("target_modules")
    if config.trainer != "reward" and "lm_head" in (targets if isinstance(targets, list) else [targets]):
        name = "lora_target_modules" if config.has("lora_target_modules") else "peft"
        yield name, "an adapter on `lm_head` is never trained: the loss reads its weight directly", "drop `lm_head`"
    kwargs = _table(config, "gradient_checkpointing_kwargs")
    if kwargs.get("selective") and not config.on("gradient_checkpointing"):
        yield "gradient_checkpointing_kwargs", "`selective` needs `gradient_checkpointing`", "turn it on"
    elif kwargs.get("selective") and kwargs.get("use_reentrant"):
        yield "gradient_checkpointing_kwargs", "`selective` needs `use_reentrant: false`", "drop `use_reentrant`"
    elif kwargs.get("selective") and adapter(config) and config.zero == 3:
        yield (
            "gradient_checkpointing_kwargs",
            "ZeRO-3 with an adapter cannot checkpoint selectively",
            "drop `selective`",
        )
    if config.on("use_liger_kernel") and _table(config, "liger_kernel_config").get("fused_linear_cross_entropy"):
        yield "liger_kernel_config", "Liger's fused loss would replace TRL's own", "drop `fused_linear_cross_entropy`"
    modules = catalog.modules(config.architecture) if config.architecture else None
    if config.number("router_aux_loss_coef") and modules is not None and not modules.experts and not _routes(config):
        yield "router_aux_loss_coef", f"`{config.architecture}` has no router", "drop it"
    mixture = config.value("datasets")
    shares = (
        [entry.get("fraction") for entry in mixture if isinstance(entry, Mapping)] if isinstance(mixture, list) else []
    )
    if any(shares) and None in shares:
        yield "datasets", "`fraction` is for all data sets, or for none", "write one for each"
    elif any(shares) and config.on("streaming"):
        yield "streaming", "streamed data sets have no `fraction`", "drop one of them"
    evaluates = config.value("eval_strategy") != "no"
    if evaluates and isinstance(mixture, list) and mixture and not config.has("test_split_size"):
        yield (
            "eval_strategy",
            "`datasets` has no rows to evaluate on without `test_split_size`",
            "write `test_split_size: 0.05`",
        )


def _odd(config: Config) -> Iterator[Refusal]:
    """Values that only reading the arguments shows to be none."""
    pad = config.value("pad_to_multiple_of")
    if isinstance(pad, str) and pad.lower() not in ("auto", "none", "null") and not pad.isdigit():
        yield "pad_to_multiple_of", f"`{pad}` is no number", "write a number, or `auto`"
    if config.has("parallelism_config"):
        yield "parallelism_config", "a file cannot make accelerate's object", "write it into accelerate's own file"
    if isinstance(config.value("metric_for_best_model"), int | float):
        yield "metric_for_best_model", "it takes the name of a metric", "write `metric_for_best_model: loss`"
    debug = config.value("debug")
    flags = debug.split() if isinstance(debug, str) else debug if isinstance(debug, list) else []
    if unknown := [flag for flag in flags if flag not in ("underflow_overflow", "tpu_metrics_debug")]:
        yield "debug", f"there is no `{unknown[0]}`", "write `underflow_overflow`, or drop it"
    options, known = config.value("accelerator_config"), _ACCELERATOR
    if isinstance(options, Mapping) and (other := [name for name in options if name not in known]):
        yield "accelerator_config", f"there is no `{other[0]}` in it", f"it takes {', '.join(known)}"
    seen = config.value("include_num_input_tokens_seen")
    if isinstance(seen, str) and seen.lower() not in (*_SWITCHES, "all", "non_padding"):
        yield "include_num_input_tokens_seen", f"it has no `{seen}`", "write `all`, `non_padding` or `no`"


_SWITCHES = ("true", "false", "yes", "no", "1", "0", "on", "off", "t", "f", "y", "n")
_ACCELERATOR = ("split_batches", "dispatch_batches", "even_batches", "use_seedable_sampler", "non_blocking",
                "gradient_accumulation_kwargs", "use_configured_state")  # fmt: skip
"""transformers/trainer_pt_utils.py, AcceleratorConfig."""


def _routes(config: Config) -> bool:
    return any(mark in config.architecture for mark in ("moe", "mixtral", "oss", "deepseek"))


def _sft(config: Config) -> Iterator[Refusal]:
    if config.on("padding_free") and not config.on("packing") and not _null(config, "max_length"):
        yield (
            "padding_free",
            "without packing, `padding_free` does not hold rows to `max_length`",
            "write `packing: true`",
        )
    if config.on("packing") and _null(config, "max_length"):
        yield "max_length", "packs have no length", "write `max_length: 4096`"


F_DIVERGENCES = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}


def _dpo(config: Config) -> Iterator[Refusal]:
    losses, weights = _losses(config), config.value("loss_weights")
    if isinstance(weights, list) and len(weights) != len(losses):
        yield "loss_weights", f"{len(weights)} weights for {len(losses)} losses", "write one weight for each loss"
    others = [loss for loss in losses if loss not in F_DIVERGENCES]
    if config.value("f_divergence_type") != "reverse_kl" and others:
        yield "f_divergence_type", f"`{others[0]}` has no other divergence than `reverse_kl`", "drop it"
    if config.on("use_weighting") and {"aot", "aot_unpaired"} & set(losses):
        yield "use_weighting", "`aot` sorts its rows, which weights of rows cannot follow", "drop it"
    if "exo_pair" in losses and not config.number("label_smoothing"):
        yield "loss_type", "`exo_pair` needs `label_smoothing` above 0", "write `label_smoothing: 1e-3`"


def _kto(config: Config) -> Iterator[Refusal]:
    if config.value("loss_type") != "kto":
        return
    if config.value("train_sampling_strategy") != "sequential":
        yield "train_sampling_strategy", "KTO pairs each row with its neighbour, and reads them in order", "drop it"
    if (config.number("per_device_train_batch_size") or 8) <= 1:
        yield (
            "per_device_train_batch_size",
            "KTO estimates its KL term from other rows of the micro-batch",
            "write 2 or more",
        )


def _grouped(config: Config) -> Iterator[Refusal]:
    if config.on("auto_find_batch_size"):
        yield "auto_find_batch_size", "a smaller batch would tear groups of answers apart", "set the batch size"
    if config.has("log_completions_hub_repo") and not config.on("log_completions"):
        yield (
            "log_completions_hub_repo",
            "answers that are not logged cannot be uploaded",
            "write `log_completions: true`",
        )
    if config.has("generation_batch_size") and config.has("steps_per_generation"):
        yield "steps_per_generation", "`generation_batch_size` says the same", "keep one of them"
    low, high = config.number("vllm_importance_sampling_clip_min"), config.number("vllm_importance_sampling_clip_max")
    if low is not None and high is not None and low >= high:
        yield "vllm_importance_sampling_clip_min", f"{low:g} is not below the upper clip of {high:g}", "write less"
    truncates = str(config.value("vllm_importance_sampling_mode")).endswith("_truncate")
    if truncates and config.on("vllm_importance_sampling_correction") and low is None and _null(
        config, "vllm_importance_sampling_clip_max"
    ):  # fmt: skip
        yield (
            "vllm_importance_sampling_mode",
            "there is nothing to truncate at",
            "write `vllm_importance_sampling_clip_max: 3`",
        )
    token = str(config.value("vllm_importance_sampling_mode")).startswith("token_")
    if config.value("loss_type") == "vespo" and config.on("use_vllm") and not token:
        yield "vllm_importance_sampling_mode", "`vespo` corrects each token", "write `token_truncate`"


def _referring(config: Config) -> Iterator[Refusal]:
    if not config.on("sync_ref_model"):
        return
    if adapter(config):
        yield "sync_ref_model", "the reference is the model without its adapter: there is no copy to update", "drop it"
    elif config.on("precompute_ref_log_probs"):
        yield "sync_ref_model", "log-probabilities that are computed once cannot follow the model", "drop one of them"
    elif config.trainer in GROUPED and config.number("beta") == 0:
        yield "sync_ref_model", "with `beta` 0 there is no reference model", "write `beta: 0.04`, or drop it"


def _distillation(config: Config) -> Iterator[Refusal]:
    beta = config.number("beta")
    if beta is not None and beta > 1:
        yield "beta", f"{beta:g} is no weight between two divergences", "write 0 to 1"
    if not config.has("teacher_model_name_or_path") and config.form != "recipe":
        yield "teacher_model_name_or_path", "there is no teacher", "write `teacher_model_name_or_path: org/name`"


_BY_TRAINER: Mapping[str, tuple[Callable[[Config], Iterator[Refusal]], ...]] = {
    "sft": (_sft,), "dpo": (_dpo, _referring), "kto": (_kto, _referring), "reward": (), "distillation": (_distillation,),
    **dict.fromkeys(GROUPED, (_grouped, _referring)),
}  # fmt: skip


@rule("FT629", "trl")
def refused_by_the_trainer(config: Config) -> Findings:
    """What it does: finds settings that a trainer of TRL refuses together.
    Why it matters: TRL stops when it reads its arguments, or when the trainer is made, with the model loaded.
    Example:
        # with: trainer=sft
        load_in_4bit: true
        load_in_8bit: true
        use_peft: true
        dtype: bfloat16
        ---
        # with: trainer=sft
        use_peft: true
        lora_target_modules: [q_proj, lm_head]
        ---
        # with: trainer=sft
        padding_free: true
        attn_implementation: flash_attention_2
        ---
        # with: trainer=sft
        packing: true
        attn_implementation: flash_attention_2
        max_length: null
        ---
        # with: trainer=sft
        dataset_name: null
        datasets: [{path: org/a}]
        eval_strategy: epoch
        ---
        # with: trainer=dpo
        loss_type: [sigmoid, sft]
        loss_weights: [1.0]
        ---
        # with: trainer=dpo
        loss_type: apo_zero
        f_divergence_type: js_divergence
        ---
        # with: trainer=dpo
        loss_type: exo_pair
        ---
        # with: trainer=dpo
        use_peft: true
        sync_ref_model: true
        ---
        # with: trainer=kto
        per_device_train_batch_size: 1
        ---
        # with: trainer=grpo
        reward_funcs: [think_format_reward]
        generation_batch_size: 64
        steps_per_generation: 8
        ---
        # with: trainer=grpo
        reward_funcs: [think_format_reward]
        sync_ref_model: true
        ---
        # with: trainer=distillation
        teacher_model_name_or_path: org/big
        beta: 2.0
    Use instead:
        # with: trainer=sft
        load_in_4bit: true
        use_peft: true
        dtype: bfloat16
        ---
        # with: trainer=dpo
        loss_type: [sigmoid, sft]
        loss_weights: [1.0, 0.2]
        ---
        # with: trainer=kto
        per_device_train_batch_size: 2
    Applies to: TRL
    Source: trl/trainer/*_config.py, __post_init__; *_trainer.py, __init__; trl/scripts (1.16.0)
    """
    for checks in (_any, *_BY_TRAINER.get(config.trainer, ())):
        for name, text, help in checks(config):
            yield error(config.at(name), text, help=help)


@rule("FT630", "trl")
def reference_not_used(config: Config) -> Findings:
    """What it does: finds settings of a reference model where there is none: `beta` of 0, or a reference that is not updated.
    Why it matters: they are taken, and do nothing: the policy is not held back as intended.
    Example:
        # with: trainer=grpo
        reward_funcs: [think_format_reward]
        beta: 0.0
        ref_model_sync_steps: 64
        ---
        # with: trainer=dpo
        ref_model_mixup_alpha: 0.9
    Use instead:
        # with: trainer=grpo
        reward_funcs: [think_format_reward]
        beta: 0.04
        sync_ref_model: true
        ref_model_sync_steps: 64
    Applies to: TRL
    Source: trl/trainer/grpo_trainer.py:984, callbacks.py, SyncRefModelCallback (1.16.0)
    """
    if config.trainer not in REFERRING:
        return
    for name in ("ref_model_sync_steps", "ref_model_mixup_alpha"):
        if config.is_explicit(name) and not config.on("sync_ref_model"):
            at = config.at(name)
            none = config.trainer in GROUPED and config.number("beta") == 0
            why = (
                "with `beta` 0 there is no reference model"
                if none
                else "the reference is not updated without `sync_ref_model`"
            )
            help = (
                "write `beta: 0.04` and `sync_ref_model: true`, or drop it"
                if none
                else "write `sync_ref_model: true`, or drop it"
            )
            yield warning(at, f"`{at.word}` has no effect: {why}", help=help)


@rule("FT634", "trl")
def packed_rows_not_kept_apart(config: Config) -> Findings:
    """What it does: finds packing, or batches without padding, without FlashAttention.
    Why it matters: rows of one pack are kept apart by their positions, which only FlashAttention reads: with any other attention
        a row sees those before it, and TRL only warns.
    Example:
        # with: trainer=sft
        packing: true
        ---
        # with: trainer=sft
        padding_free: true
        packing: true
        attn_implementation: sdpa
    Use instead:
        # with: trainer=sft
        packing: true
        attn_implementation: flash_attention_2
        ---
        # with: trainer=sft
        packing: true
        packing_strategy: wrapped
    Applies to: TRL
    Source: trl/trainer/sft_trainer.py, padding_free (1.16.0); docs, reducing memory usage
    """
    if config.trainer != "sft" or "flash" in str(config.value("attn_implementation")):
        return
    packs = config.on("packing") and config.value("packing_strategy") != "wrapped"
    if packs or config.on("padding_free"):
        at = config.first("packing", "padding_free")
        help = "write `attn_implementation: flash_attention_2`, or `packing_strategy: wrapped`"
        yield warning(at, "packed rows see each other without FlashAttention", help=help)


@rule("FT636", "trl")
def quantised_in_fp32(config: Config) -> Findings:
    """What it does: finds a base in 4 bits that is computed in fp32, which is what TRL does by default.
    Why it matters: `dtype` is also the dtype that 4-bit weights are expanded to: with `float32` every product runs without tensor
        cores, several times slower, and in twice the memory.
    Example:
        # with: trainer=sft
        use_peft: true
        load_in_4bit: true
    Use instead:
        # with: trainer=sft
        use_peft: true
        load_in_4bit: true
        dtype: bfloat16
    Applies to: TRL
    Source: trl/trainer/utils.py, get_quantization_config; model_config.py: `dtype` is float32 (1.16.0)
    """
    old = [name for name, other in catalog.misnamed(config.engine).items() if other.get("parameter") == "dtype"]
    named = any(config.has(name) for name in old)  # FT001 names those
    if config.on("load_in_4bit") and config.value("dtype") == "float32" and config.form != "recipe" and not named:
        at = config.first("load_in_4bit")
        yield warning(at, "4-bit weights are expanded to fp32, TRL's default `dtype`", help="write `dtype: bfloat16`")


@rule("FT637", "trl")
def quantised_without_adapter(config: Config) -> Findings:
    """What it does: finds a quantised base without an adapter, and settings of an adapter or of quantisation without effect.
    Why it matters: weights in 4 or 8 bits cannot be trained: transformers stops when the trainer is made.
    Example:
        # with: trainer=sft
        load_in_4bit: true
        dtype: bfloat16
        ---
        # with: trainer=sft
        lora_r: 64
    Use instead:
        # with: trainer=sft
        load_in_4bit: true
        dtype: bfloat16
        use_peft: true
        lora_r: 64
    Applies to: TRL
    Source: transformers/trainer.py, validate_quantization_for_training; trl/trainer/utils.py, get_peft_config (1.16.0)
    """
    if adapter(config) or config.form == "recipe":
        return
    for name in ("load_in_4bit", "load_in_8bit"):
        if config.on(name):
            at = config.at(name)
            yield error(at, f"weights in {name[8]} bits cannot be trained", help="write `use_peft: true`")
            return
    unread = [name for name in config.settings if name.startswith("lora_") and config.is_explicit(name)]
    if unread:
        at = config.at(unread[0])
        yield warning(
            at, f"`{at.word}` has no effect without `use_peft`: all weights are trained", help="write `use_peft: true`"
        )


@rule("FT638", "trl")
def template_without_marks(config: Config) -> Findings:
    """What it does: finds `assistant_only_loss` for an architecture whose chat template TRL cannot mark.
    Why it matters: which tokens are the assistant's is known from `{% generation %}` in the template. TRL has templates with it
        for some families; for others it stops, unless the model's own template has the marks.
    Example:
        # with: trainer=sft, architecture=mistral
        assistant_only_loss: true
    Use instead:
        # with: trainer=sft, architecture=qwen3
        assistant_only_loss: true
    Applies to: TRL
    Source: trl/chat_template_utils.py, get_training_chat_template; trl/chat_templates (1.16.0)
    """
    known = catalog.facts("training_templates").get(config.engine, ())
    unknown = config.architecture and config.architecture not in known
    if (
        config.trainer == "sft"
        and config.on("assistant_only_loss")
        and unknown
        and not config.has("chat_template_path")
    ):
        at = config.at("assistant_only_loss")
        if config.form != "recipe":
            text = f"TRL has no template of `{config.architecture}` that marks the assistant's tokens"
            yield warning(
                at,
                text,
                help="it stops unless the model's own template has `{% generation %}`: set `chat_template_path`",
            )
