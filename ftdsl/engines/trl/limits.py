"""Combinations that TRL 1.16 or PEFT 0.21 refuse late, or get silently wrong, each with its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.trl.peft import merges, peft
from ftdsl.language.values import StageRef
from ftdsl.plan.plan import PlannedStage
from ftdsl.record import replace

Limit = Callable[[StageContext], None]

PROMPTS = ("PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING")
"""Adapters that put something before the text (peft/utils/peft_types.py)."""


def _makers(context: StageContext) -> Iterator[PlannedStage]:
    """The stages of the recipe that made the adapters below."""
    start = context.stage.start
    for adapter in start.adapters if start else ():
        if isinstance(adapter, StageRef):
            yield context.plan.stage(adapter.key)


def _adapter_of(context: StageContext, maker: PlannedStage) -> tuple[str, dict[str, object]]:
    """(method, `peft` block) of the adapter that a stage makes."""
    if maker.engine.name != context.engine.name:
        return maker.method, {"peft_type": "LORA"}
    return maker.method, peft(replace(context, planned=maker))


def merging(context: StageContext) -> None:
    """Prompts and prefixes are no change of weights; Lily's layers share theirs (NotImplementedError)."""
    for maker in _makers(context):
        method, params = _adapter_of(context, maker)
        if params and not merges(params):
            name = maker.stage.settings.name("lora.variant") if method == "lora" else method
            why = f"`{maker.stage.name}` trains `{name}`, which cannot be merged into the weights"
            help = "drop this stage: the adapter is loaded beside the model (`PeftModel.from_pretrained`), or train `lora { }`"
            context.refuse("model" if "model" in context.stage.spans else "from", why, help)


def stacked(context: StageContext) -> None:
    """A new adapter lies on merged ones, and prompts do not merge; AdaLoRA's ranks are final once it has been saved."""
    for maker in _makers(context):
        _, params = _adapter_of(context, maker)
        kind = params.get("peft_type")
        key = "model" if "model" in context.stage.spans else "from"
        if context.stage.new_adapter and params and not merges(params):
            why = f"a new adapter needs the one of `{maker.stage.name}` merged below it, which is not possible"
            context.refuse(context.planned.method, why, "drop the method block: the adapter is trained further")
        elif kind == "ADALORA" and not context.stage.new_adapter and context.stage.kind != "merge":
            why = f"the ranks of the adapter of `{maker.stage.name}` are final, and AdaLoRA cannot train it further"
            context.refuse(key, why, "write `lora { }`: a new adapter on top")


def quantised(context: StageContext) -> None:
    """A 4-bit base takes up no adapter without loss; prompts need no quantisation support, IA3 and others lack it
    (peft/tuners/*/bnb.py exist for LoRA, AdaLoRA, IA3, OFT, RandLoRA, RoAd, VeRA)."""
    if not context.stage.settings.has("quantize"):
        return
    if context.planned.method == "full":
        context.refuse("full", "weights in 4 or 8 bits cannot be trained", "write `lora { }`")
    variant = context.name("lora.variant")
    if variant and variant not in ("plain", "dora", "vera", "ia3", "road", "randlora"):
        context.refuse(
            "lora.variant", f"PEFT has no `{variant}` for a quantised base", "write `variant = plain`, or `vera`"
        )
    start = context.stage.start
    if start and start.adapters and context.stage.new_adapter:
        why = "the adapters below would be merged into quantised weights"
        context.refuse("quantize", why, "put a `merge` stage between")
    if not context.planned.world.gpu and context.name("quantize.scheme") == "int8":
        context.refuse("quantize.scheme", "8-bit training of bitsandbytes needs a GPU", "write `scheme = nf4`")


def kto_batch(context: StageContext) -> None:
    """trl/trainer/kto_trainer.py:844: the KL term comes from mismatched pairs within a micro-batch, in the order of the rows."""
    if context.stage.kind != "kto":
        return
    if context.planned.batch and context.planned.batch.micro < 2:
        why = "KTO estimates its KL term from other rows of the micro-batch"
        context.refuse("batch.micro", why, "write `batch { micro = 2 }` or more")
    if context.is_explicit("loader.order") and context.name("loader.order") != "sequential":
        why = "KTO pairs rows within a micro-batch before training, and reads them in that order"
        context.refuse("loader.order", why, "write `order = sequential`")


def needs_gpu(context: StageContext) -> None:
    """transformers/training_args.py: half precision and fused kernels on CPU."""
    if context.planned.world.gpu:
        return
    precision = context.name("precision")
    if precision in ("fp16", "pure_bf16", "fp8"):
        context.refuse("precision", f"`{precision}` needs a GPU", "write `precision = bf16`, or `fp32`")
    for kernel in context.names("kernels"):
        if kernel != "none":
            context.refuse("kernels", f"`{kernel}` needs a GPU", "drop it")
    if context.name("attention").startswith("flash"):
        context.refuse("attention", "FlashAttention needs a GPU", "write `attention = sdpa`")


def rewards(context: StageContext) -> None:
    """A reward model of LLaMA-Factory has a value head; here it is a sequence classifier (trl/trainer/reward_trainer.py)."""
    if context.stage.kind == "reward" and context.planned.method in ("prefix", "prompt"):
        context.refuse(
            context.planned.method, "a reward model needs a trained head beside the adapter", "write `lora { }`"
        )


def preference_losses(context: StageContext) -> None:
    """trl/trainer/dpo_config.py, loss_type: no loss without a reference; ORPO and CPO are in trl.experimental."""
    name = context.name("loss")
    if context.stage.kind == "dpo" and name in ("orpo", "simpo", "kto_pair"):
        help = "write `engine = llamafactory` in this stage, or `loss = sigmoid`"
        context.refuse("loss", f"TRL's DPO has no `{name}`", help)


def prefixed_length(context: StageContext) -> None:
    """Virtual tokens take positions of the model's context, besides `max_len`."""
    tokens = context.get(f"{context.planned.method}.tokens") if context.planned.method in ("prefix", "prompt") else 0
    length = context.get("max_len")
    if isinstance(tokens, int) and isinstance(length, int) and tokens >= length:
        key = f"{context.planned.method}.tokens"
        context.refuse(key, f"{tokens} virtual tokens are as many as a whole row (`max_len = {length}`)", "write fewer")


TRAINING: tuple[Limit, ...] = (stacked, quantised, kto_batch, needs_gpu, rewards, preference_losses, prefixed_length)
MERGING: tuple[Limit, ...] = (merging,)


def check(context: StageContext, limits: tuple[Limit, ...]) -> None:
    """Every limit in order; each adds to the session's sink."""
    for limit in limits:
        limit(context)
