"""Combinations that LLaMA-Factory 0.9.5 cannot run and that are visible only in the recipe, not in the engine's parameters.

The engine reports these late: after its imports, after loading the model, or never. Each names the source of the limit. Limits
that are visible in the parameters are rules of ftdsl.lint, which apply to a YAML too.
"""

from __future__ import annotations

from collections.abc import Callable

from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.settings import Settings

Limit = Callable[[StageContext], None]

TOKENS = ("tokenizer.add", "tokenizer.special", "tokenizer.resize")


def pissa(context: StageContext) -> None:
    """peft/tuners/lora/layer.py, pissa_init: a PiSSA adapter fits the base minus its own initial value, which is computed again,
    and with `iterations` differently, each time the adapter is loaded.
    """
    start = context.stage.start
    for where in start.adapters if start else ():
        if isinstance(where, StageRef) and _unconverted(context.plan.stage(where.key).stage.settings):
            why = f"`{where.stage}` makes a PiSSA adapter, which fits only the base it was split from"
            help = f"in `{where.stage}` write `init = pissa(convert = true)`"
            key = "model" if "model" in context.stage.spans else "from"
            context.refuse(key, why, help)


def _unconverted(settings: Settings) -> bool:
    init = settings.get("lora.init") if settings.has("lora") else None
    return isinstance(init, Term) and init.name == "pissa" and init.options.get("convert") is not True


def bits(context: StageContext) -> None:
    """llamafactory/model/model_utils/quantization.py, configure_quantization: the bits that each scheme supports."""
    count, scheme = context.get("quantize.bits"), context.name("quantize.scheme")
    if scheme in ("nf4", "fp4") and count != 4:
        context.refuse(
            "quantize.bits", f"`{scheme}` has 4 bits", "write `bits = 4`, or `scheme = int8` with `bits = 8`"
        )
    elif scheme in ("int8", "eetq") and count != 8 and context.is_explicit("quantize.bits"):
        context.refuse("quantize.bits", f"`{scheme}` has 8 bits", "write `bits = 8`")


def scheme(context: StageContext) -> None:
    """HQQ: transformers/quantizers/auto.py of 5.x has none ("not available yet"). EETQ: quantizer_eetq.py needs CUDA."""
    name = context.name("quantize.scheme")
    if name == "hqq":
        why = "LLaMA-Factory 0.9.5 runs on transformers 5, which cannot load a model in HQQ"
        context.refuse("quantize.scheme", why, "write `scheme = nf4`")
    if name == "eetq" and not context.planned.world.gpu:
        context.refuse("quantize.scheme", "EETQ needs a GPU", "write `scheme = int8`")


def quantised_base(context: StageContext) -> None:
    """llamafactory/hparams/parser.py, _verify_model_args; DoRA: model/adapter.py compares with "bnb", which transformers 5
    calls "bitsandbytes", so the engine refuses this base too.
    """
    if not context.stage.settings.has("quantize"):
        return
    if context.name("lora.variant") == "dora" and context.name("quantize.scheme") not in ("eetq", "hqq"):
        why = "LLaMA-Factory 0.9.5 on transformers 5 refuses DoRA on a quantised base"
        context.refuse("lora.variant", why, "write `variant = plain`, or drop `quantize`")
    for key in TOKENS:
        if context.get(key):
            help = "add the tokens in an earlier stage, on a base that is not quantised"
            context.refuse(key, "the embeddings of a quantised base cannot be resized", help)


def losses(context: StageContext) -> None:
    """ASFT: train/trainer_utils.py, create_ref_model makes no copy under LoRA. DPO: hparams/finetuning_args.py."""
    if context.name("loss") == "asft" and context.planned.method == "lora":
        context.refuse(
            "loss", "ASFT needs a copy of the model, and LLaMA-Factory makes none for LoRA", "write `full {}`"
        )
    if context.stage.kind == "dpo" and context.name("loss") in ("orpo", "simpo") and context.is_explicit("reference"):
        context.refuse("reference", f"`{context.name('loss')}` uses no reference model", "drop it")


def workers(context: StageContext) -> None:
    """data/loader.py splits a streamed file into as many shards as there are workers."""
    if context.get("loader.streaming") and context.is_explicit("loader.workers") and not context.get("loader.workers"):
        why = "LLaMA-Factory splits a streamed file by workers, so streaming needs at least one"
        context.refuse("loader.workers", why, "write `workers = 1`")


def measured(context: StageContext) -> None:
    """llamafactory/train/sft/workflow.py: it scores either generated answers or tokens."""
    names = set(context.names("evaluate.metrics"))
    if names & {"rouge", "bleu"} and "accuracy" in names:
        context.refuse("evaluate.metrics", "accuracy cannot be combined with rouge and bleu", "keep one of them")


def described_tokens(context: StageContext) -> None:
    """llamafactory/hparams/model_args.py falls back to noise when there are no descriptions."""
    if context.name("tokenizer.init") == "described" and not hasattr(context.get("tokenizer.special"), "options"):
        why = "there are no descriptions to initialise the new tokens from"
        context.refuse("tokenizer.init", why, 'write `special = file("tokens.yaml")`: token: what it means')


def no_effect_on_cpu(context: StageContext) -> None:
    """flash2: model/model_utils/attention.py only warns. (fp16, which it drops silently: parallel.check.)"""
    if not context.planned.world.gpu and context.name("attention") == "flash2":
        help = "write `attention = sdpa`"
        context.warn("attention", "`flash2` has no effect on CPU: the model's own attention is used", help)


def needs_gpu(context: StageContext) -> None:
    """pure_bf16: hparams/parser.py. Kernels: their packages need CUDA. Offload: checkpointing.py moves to "cuda"."""
    if context.planned.world.gpu:
        return
    precision = context.name("precision")
    if precision in ("pure_bf16", "fp8"):
        context.refuse("precision", f"`{precision}` needs a GPU", "write `precision = bf16`")
    for kernel in context.names("kernels"):
        if kernel != "none":
            context.refuse("kernels", f"`{kernel}` needs a GPU", "drop it")
    if context.get("memory.offload_activations"):
        why = "this stage has no GPU, so activations are in main memory already"
        context.refuse("memory.offload_activations", why, "drop it")


def fused_loss(context: StageContext) -> None:
    """`cce` is a kernel of Axolotl."""
    if "cce" in context.names("kernels"):
        context.refuse("kernels", "LLaMA-Factory has no `cce`", "write `kernels = liger`, which has a fused loss too")


def recomputation(context: StageContext) -> None:
    """model/model_utils/checkpointing.py: only the checkpoint function offloads activations."""
    if not context.get("memory.offload_activations") or not context.planned.world.gpu:
        return
    if context.name("memory.checkpointing") == "none":
        why = "without checkpointing there are no checkpointed activations to offload"
        context.refuse("memory.offload_activations", why, "write `checkpointing = full`")
    if context.option("memory.checkpointing", "reentrant") is False:
        why = "offloading uses a checkpoint function of its own, which ignores `reentrant`"
        context.refuse("memory.checkpointing", why, "drop `reentrant`")


_LOADING: tuple[Limit, ...] = (pissa, bits, scheme, quantised_base, no_effect_on_cpu)
TRAINING: tuple[Limit, ...] = (
    *_LOADING, losses, workers, measured, described_tokens, needs_gpu, fused_loss, recomputation,
)  # fmt: skip
SCORING: tuple[Limit, ...] = _LOADING
MERGING: tuple[Limit, ...] = (pissa,)


def check(context: StageContext, limits: tuple[Limit, ...]) -> None:
    """Every limit in order; each adds to the session's sink."""
    for limit in limits:
        limit(context)
