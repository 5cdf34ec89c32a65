"""LoRA, OFT and freezing: which parameters can be combined."""

from __future__ import annotations

from ftdsl.lint.config import Config
from ftdsl.lint.edits import drop
from ftdsl.lint.families.precision import model_of
from ftdsl.lint.families.quantization import PTQ, sharded
from ftdsl.lint.rule import Findings, error, rule, warning

LORA_ONLY = ("loraplus_lr_ratio", "use_rslora", "use_dora", "pissa_init")


@rule("FT301")
def only_with_lora(config: Config) -> Findings:
    """What it does: finds parameters of LoRA (LoRA+, rsLoRA, DoRA, PiSSA) under another method.
    Why it matters: LLaMA-Factory stops while parsing its arguments.
    Example:
        finetuning_type: full
        learning_rate: 1e-5
        use_dora: true
        ---
        finetuning_type: oft
        use_rslora: true
    Use instead:
        finetuning_type: lora
        use_dora: true
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/finetuning_args.py:600-613 (0.9.5)
    """
    method = config.value("finetuning_type")
    if method == "lora":
        return
    for name in LORA_ONLY:
        if config.has(name) and (config.on(name) or name == "loraplus_lr_ratio"):
            at, other = config.at(name), config.at("finetuning_type")
            yield error(
                at,
                f"`{at.word}` needs LoRA, but the method is {method}",
                also=((other, f"{method} here"),),
                help="drop it, or use LoRA",
                fix=drop(at, safe=False),
            )


@rule("FT302")
def dora_on_unsupported_quantisation(config: Config) -> Findings:
    """What it does: finds DoRA on a base quantised with anything but bitsandbytes.
    Why it matters: DoRA needs the norms of the weights; LLaMA-Factory stops after loading the model.
    Example:
        use_dora: true
        quantization_bit: 8
        quantization_method: eetq
        ---
        use_dora: true
        model_name_or_path: Qwen/Qwen2.5-7B-Instruct-AWQ
        template: qwen
    Use instead:
        use_dora: true
        quantization_bit: 4
    Applies to: LLaMA-Factory
    Source: llamafactory/model/adapter.py:215 (0.9.5)
    """
    if not config.on("use_dora") or config.value("finetuning_type") != "lora":
        return
    at, method = config.at("use_dora"), config.value("quantization_method")
    if config.has("quantization_bit") and method in ("hqq", "eetq"):
        yield error(
            at,
            f"DoRA does not support a base quantised with {str(method).upper()}",
            help="use bitsandbytes, or plain LoRA",
        )
    elif PTQ.search(model_of(config)):
        yield error(
            at,
            "DoRA does not support a pre-quantised checkpoint",
            help="use plain LoRA, or the unquantised model",
        )


@rule("FT303")
def dora_in_8bit_with_fsdp(config: Config) -> Findings:
    """What it does: finds DoRA on 8-bit weights with FSDP.
    Why it matters: reported to fail when the first layer is gathered.
    Example:
        use_dora: true
        quantization_bit: 8
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 1}
    Use instead:
        use_dora: true
        quantization_bit: 8
    Applies to: PEFT
    Source: axolotl#1589
    """
    if config.on("use_dora") and config.fsdp and config.number("quantization_bit") == 8:
        yield warning(
            config.at("use_dora"),
            "DoRA on 8-bit weights is reported to fail with FSDP",
            help="use 4 bits, or plain LoRA",
        )


@rule("FT304")
def pissa_not_supported(config: Config) -> Findings:
    """What it does: finds PiSSA where the unchanged base is the reference (DPO, KTO, PPO), and with ZeRO-3.
    Why it matters: PiSSA changes the base, so disabling the adapter no longer yields the reference;
        LLaMA-Factory stops while parsing its arguments.
    Example:
        stage: kto
        learning_rate: 5e-6
        pissa_init: true
        ---
        stage: dpo
        learning_rate: 5e-6
        pissa_init: true
        ---
        pissa_init: true
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    Use instead:
        pissa_init: true
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/finetuning_args.py:597, parser.py:498 (0.9.5)
    """
    if not config.on("pissa_init") or config.value("finetuning_type") != "lora":
        return
    at = config.at("pissa_init")
    referred = config.stage == "dpo" and config.value("pref_loss") not in ("orpo", "simpo")
    if config.kind == "train" and (config.stage in ("ppo", "kto") or referred):
        yield error(at, f"PiSSA changes the base, which is the reference of {config.stage}", help="use plain LoRA")
    elif config.zero == 3:
        yield error(
            at,
            "PiSSA cannot decompose weights that ZeRO-3 shards",
            help="use ZeRO-2, or run scripts/pissa_init.py first",
        )


@rule("FT312")
def new_tokens_not_trained(config: Config) -> Findings:
    """What it does: finds a resized vocabulary under LoRA while the embeddings stay frozen.
    Why it matters: the new rows of the embedding stay random, so every new token is noise to the model.
    Example:
        resize_vocab: true
        ---
        add_special_tokens: <a>,<b>
        resize_vocab: true
    Use instead:
        resize_vocab: true
        additional_target: embed_tokens,lm_head
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:455-464 (0.9.5) warns; LLaMA-Factory#6277
    """
    grows = config.on("resize_vocab") or config.has("add_tokens") or config.has("add_special_tokens")
    if config.trains and config.value("finetuning_type") == "lora" and grows and not config.has("quantization_bit"):
        if config.has("additional_target") or not config.on("resize_vocab"):
            return
        at = config.first("resize_vocab", "add_tokens", "add_special_tokens")
        word = config.word("additional_target")
        yield warning(
            at,
            "the vocabulary grows, but the new embeddings are not trained",
            help=f"set `{word}` to embed_tokens and lm_head",
        )


@rule("FT315")
def adapter_needs_lora(config: Config) -> Findings:
    """What it does: finds training that starts from an adapter with another method than LoRA.
    Why it matters: LLaMA-Factory loads adapters only with `finetuning_type: lora`, however they were made; full and
        freeze training need a merged adapter.
    Example:
        finetuning_type: full
        learning_rate: 1e-5
        adapter_name_or_path: saves/sft
        ---
        finetuning_type: oft
        adapter_name_or_path: saves/oft
    Use instead:
        finetuning_type: lora
        adapter_name_or_path: saves/sft
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:232 (0.9.5)
    """
    method = config.value("finetuning_type")
    if (
        config.has("adapter_name_or_path")
        and method != "lora"
        and not (config.form == "recipe" and config.kind == "export")
    ):
        at, other = config.first("finetuning_type"), config.at("adapter_name_or_path")
        help = (
            "put a `merge` stage between"
            if config.form == "recipe"
            else "merge the adapter first (`llamafactory-cli export`)"
        )
        yield error(at, f"{method} cannot start from an adapter", also=((other, "the adapter"),), help=help)


@rule("FT316")
def special_tokens_set_twice(config: Config) -> Findings:
    """What it does: finds special tokens set both as a list and as a file.
    Why it matters: the file wins; the list is ignored with a log line only.
    Example:
        add_special_tokens: <a>,<b>
        new_special_tokens_config: tokens.yaml
        resize_vocab: true
        additional_target: embed_tokens,lm_head
    Use instead:
        new_special_tokens_config: tokens.yaml
        resize_vocab: true
        additional_target: embed_tokens,lm_head
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/model_args.py:233 (0.9.5) warns
    """
    if config.has("add_special_tokens") and config.has("new_special_tokens_config"):
        at, other = config.at("add_special_tokens"), config.at("new_special_tokens_config")
        yield warning(
            at, f"`{at.word}` is ignored: `{other.word}` takes precedence", help="drop it", fix=drop(at, safe=True)
        )


@rule("FT317")
def token_descriptions_missing(config: Config) -> Findings:
    """What it does: finds special tokens to be initialised from descriptions when there are no descriptions.
    Why it matters: LLaMA-Factory falls back to random initialisation with a log line only.
    Example:
        init_special_tokens: desc_init
        add_special_tokens: <a>,<b>
    Use instead:
        init_special_tokens: desc_init
        new_special_tokens_config: tokens.yaml
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/model_args.py:266 (0.9.5) warns
    """
    if str(config.value("init_special_tokens")).startswith("desc_init") and not config.has("new_special_tokens_config"):
        at = config.at("init_special_tokens")
        yield warning(
            at,
            "new tokens are initialised from descriptions, but there are none",
            help="write them into `new_special_tokens_config`",
        )


@rule("FT318")
def llama_pro_with_full_training(config: Config) -> Findings:
    """What it does: finds expanded blocks (LLaMA Pro) under full training.
    Why it matters: they need freeze or LoRA training; LLaMA-Factory stops while parsing its arguments.
    Example:
        finetuning_type: full
        learning_rate: 1e-5
        use_llama_pro: true
    Use instead:
        finetuning_type: freeze
        learning_rate: 1e-5
        use_llama_pro: true
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/finetuning_args.py:588 (0.9.5)
    """
    if config.on("use_llama_pro") and config.value("finetuning_type") == "full":
        at = config.at("use_llama_pro")
        yield error(
            at, "expanded blocks need freeze or LoRA training", help="drop it, or write `finetuning_type: freeze`"
        )


@rule("FT320")
def unsupported_by_unsloth_or_ktransformers(config: Config) -> Findings:
    """What it does: finds what KTransformers and Unsloth do not support: generation and accuracy during training,
        methods other than LoRA, LoRA reward models, ZeRO-3.
    Why it matters: each stops the run, some only after the model is loaded.
    Example:
        use_kt: true
        predict_with_generate: true
        val_size: 0.1
        ---
        use_kt: true
        finetuning_type: full
        learning_rate: 1e-5
        ---
        use_unsloth: true
        finetuning_type: oft
        ---
        stage: ppo
        reward_model: saves/rm
        use_unsloth: true
        ---
        stage: ppo
        reward_model: saves/rm
        use_kt: true
    Use instead:
        use_unsloth: true
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:443-447; model/adapter.py:252-260; train/sft/workflow.py:76-80 (0.9.5)
    """
    for name, who in (("use_kt", "KTransformers"), ("use_unsloth", "Unsloth")):
        if not config.on(name) or config.kind != "train":
            continue
        at = config.at(name)
        if config.value("finetuning_type") == "oft" or (name == "use_kt" and config.value("finetuning_type") != "lora"):
            yield error(
                at,
                f"{who} does not support {config.value('finetuning_type')} training",
                also=((config.at("finetuning_type"), "set here"),),
                help="use LoRA",
            )
        if config.stage == "ppo" and config.value("reward_model_type") == "lora":
            yield error(at, f"{who} does not support a LoRA reward model", help="write `reward_model_type: full`")
        for other in (
            ("predict_with_generate", "compute_accuracy") if name == "use_kt" and config.stage == "sft" else ()
        ):
            if config.on(other):
                yield error(
                    config.at(other),
                    f"{who} does not support this during training",
                    also=((at, "set here"),),
                    help="evaluate in a separate run",
                )
        if len(config.items("adapter_name_or_path")) > 1:
            yield error(config.at("adapter_name_or_path"), f"{who} supports one adapter", help="merge them first")


@rule("FT416")
def zero3_with_unsloth_or_ktransformers(config: Config) -> Findings:
    """What it does: finds Unsloth or KTransformers with ZeRO-3.
    Why it matters: LLaMA-Factory stops while parsing its arguments.
    Example:
        use_unsloth: true
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
        ---
        use_kt: true
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    Use instead:
        use_unsloth: true
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2}}
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:533-536 (0.9.5)
    """
    for name, who in (("use_unsloth", "Unsloth"), ("use_kt", "KTransformers")):
        if config.on(name) and config.zero == 3:
            yield error(config.at(name), f"{who} does not work with ZeRO-3", help="use ZeRO-2, or drop it")


@rule("FT602")
def new_adapter_ignored(config: Config) -> Findings:
    """What it does: finds `create_new_adapter` where LLaMA-Factory cannot merge the adapter below: ZeRO-3,
        Unsloth, KTransformers.
    Why it matters: the option is silently ignored, and the existing adapter is trained further.
    Example:
        adapter_name_or_path: saves/sft
        create_new_adapter: true
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
        ---
        adapter_name_or_path: saves/sft
        create_new_adapter: true
        use_unsloth: true
    Use instead:
        adapter_name_or_path: saves/sft
        create_new_adapter: true
    Applies to: LLaMA-Factory
    Source: llamafactory/model/adapter.py:146-170 (0.9.5)
    """
    if not (config.on("create_new_adapter") and config.has("adapter_name_or_path")) or config.has("quantization_bit"):
        return
    how = (
        "ZeRO-3"
        if config.zero == 3
        else "Unsloth"
        if config.on("use_unsloth")
        else "KTransformers"
        if config.on("use_kt")
        else ""
    )
    if how:
        at = config.first("create_new_adapter", "adapter_name_or_path")
        help = "put a `merge` stage between" if config.form == "recipe" else "merge the first adapter before this stage"
        yield error(at, f"LLaMA-Factory creates no new adapter with {how}: it trains the existing one", help=help)


@rule("FT321")
def several_adapters_split(config: Config) -> Findings:
    """What it does: finds several adapters with ZeRO-3.
    Why it matters: LLaMA-Factory merges them when it loads the model, which ZeRO-3 does not support; an assertion
        stops the run.
    Example:
        adapter_name_or_path: saves/a,saves/b
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    Use instead:
        adapter_name_or_path: saves/a
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    Applies to: LLaMA-Factory
    Source: llamafactory/model/adapter.py:151 (0.9.5)
    """
    adapters = config.items("adapter_name_or_path")
    if len(adapters) > 1 and config.zero == 3 and not config.has("quantization_bit"):
        yield error(
            config.at("adapter_name_or_path"),
            f"ZeRO-3 supports one adapter, but there are {len(adapters)}",
            help="merge them first",
        )


@rule("FT412")
def fsdp1_with_mixed_types(config: Config) -> Findings:
    """What it does: finds LoRA under FSDP 1 where adapter and base have different types.
    Why it matters: FSDP 1 flattens the parameters of a layer into one tensor of one type; fp32 adapters on a bf16
        base stop the run at the first wrap.
    Example:
        pure_bf16: false
        quantization_bit: null
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 1, fsdp_use_orig_params: false}
    Use instead:
        bf16: true
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2}
    Applies to: PyTorch FSDP, PEFT
    Source: axolotl#1482; LLaMA-Factory#3853; trl#1723
    """
    document = config.accelerate
    if (
        config.fsdp != 1
        or document is None
        or config.value("finetuning_type") not in ("lora", "oft")
        or config.on("pure_bf16")
    ):
        return
    if document.get("fsdp_config.fsdp_use_orig_params") is False:
        at = document.at("fsdp_config.fsdp_use_orig_params")
        yield error(
            at,
            "FSDP 1 cannot flatten fp32 adapters together with a half-precision base",
            help="write `fsdp_version: 2`, or `fsdp_use_orig_params: true`",
        )


@rule("FT314")
def reentrant_checkpointing_with_fsdp2(config: Config) -> Findings:
    """What it does: finds reentrant checkpointing with FSDP 2.
    Why it matters: LLaMA-Factory disables it with a log line only, whatever the file says.
    Example:
        use_reentrant_gc: true
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2}
    Use instead:
        use_reentrant_gc: false
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2}
    Applies to: LLaMA-Factory, PEFT
    Source: llamafactory/model/model_utils/checkpointing.py:157 (0.9.5) warns; peft#1142
    """
    if (
        config.is_explicit("use_reentrant_gc")
        and config.on("use_reentrant_gc")
        and config.fsdp == 2
        and sharded(config)
    ):
        at = config.at("use_reentrant_gc")
        yield warning(
            at, "FSDP 2 ignores this: its checkpointing is never reentrant", help="drop it", fix=drop(at, safe=True)
        )
