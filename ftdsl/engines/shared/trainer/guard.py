"""Guards and the batch ramp: what ftdsl's runtime adds to transformers' Trainer (runtime/trainer.py), as fields of `stage.json`,
and errors for what it cannot add.
"""

from __future__ import annotations

from typing import Any

from ftdsl.engines.shared.parallel.common import FSDP, ZERO, launcher
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import Amount, Term

RULES = ("nan", "spike", "grad_norm", "stall", "eval", "diverged")
COUNTS_TOKENS = ("sft", "pretrain")
"""Kinds whose loss is a cross-entropy over tokens; the losses of others vary too much from batch to batch for a default."""
STALL, STOP_AFTER = 600.0, 1800.0
"""Default seconds without progress until a warning, and until a stop."""


def policy(context: StageContext, *, reaches: bool = True) -> dict[str, Any]:
    """`guard` and `watch` of stage.json: the rules that may change what a training makes, and those that never do.

    reaches: whether single steps can be judged; otherwise logged values are checked for NaN, and nothing else.
    """
    if not reaches:
        return {"guard": {"nan": _rule(context, "nan")}}
    rules = {name: _rule(context, name) for name in RULES}
    watch = {name: rule for name, rule in rules.items() if _only_watches(name, rule["action"])}
    guard: dict[str, Any] = {name: rule for name, rule in rules.items() if name not in watch}
    guard = {name: rule for name, rule in guard.items() if rule["action"] != "ignore" or name in ("nan", "diverged")}
    if _rolls_back(context):
        for key in ("retries", "skip"):
            if context.is_explicit(f"guard.{key}"):
                guard[key] = context.get(f"guard.{key}")
        if context.get("guard.cut_lr") is not None:
            guard["cut_lr"] = _number(context.get("guard.cut_lr"))
    return {"guard": guard, "watch": watch}


def _only_watches(name: str, action: str) -> bool:
    """Whether a result made under this rule serves any other. One that diverged, and was accepted, serves only who accepts it."""
    return name == "stall" or action == ("stop" if name == "diverged" else "warn")


def ramp(context: StageContext) -> dict[str, Any]:
    """`ramp` of stage.json."""
    if not context.planned.ramp:
        return {}
    phases = [{"micro": phase.micro, "accumulate": phase.accumulate} | ({"until": phase.until} if phase.until else {})
              for phase in context.planned.ramp]  # fmt: skip
    return {"ramp": phases}


def _rule(context: StageContext, name: str) -> dict[str, Any]:
    """One anomaly: its action, and the numbers the recipe says."""
    value = context.get(f"guard.{name}")
    if not isinstance(value, Term):
        return _default(context, name)
    rule: dict[str, Any] = {"action": value.name}
    for option, given in value.options.items():
        rule[option] = int(_number(given)) if option == "window" else _number(given)
    if name == "stall" and value.name != "ignore":
        rule.setdefault("after", STALL if value.name == "warn" else STOP_AFTER)
    return rule


def _number(value: Any) -> float:
    return float(value.number if isinstance(value, Amount) else value)


def _default(context: StageContext, name: str) -> dict[str, Any]:
    if context.stage.kind == "grpo" and name in ("eval", "diverged"):
        return {"action": "ignore"}  # the loss of a policy on its own answers says nothing about how well it does
    warned = name in ("stall", "eval") or (name == "spike" and context.stage.kind in COUNTS_TOKENS)
    rule: dict[str, Any] = {"action": "stop" if name in ("nan", "diverged") else "warn" if warned else "ignore"}
    return {**rule, "after": STALL} if name == "stall" else rule


# --- what cannot be had


def _rolls_back(context: StageContext) -> bool:
    return any(context.name(f"guard.{name}") == "rollback" for name in ("nan", "spike"))


def check(context: StageContext, *, reaches: bool, why: str = "") -> None:
    """Errors at the key for what the runtime cannot do. reaches: whether it replaces the trainer of this stage; why: why not."""
    _own_loop(context, reaches, why)
    _rollback(context)
    _skip(context)
    _ramp(context)


def _own_loop(context: StageContext, reaches: bool, why: str) -> None:
    if reaches:
        return
    for name in RULES:
        action = context.name(f"guard.{name}")
        if (
            context.is_explicit(f"guard.{name}")
            and action != "ignore"
            and (name, action) not in (("nan", "stop"), ("nan", "warn"))
        ):
            context.refuse(f"guard.{name}", f"single steps cannot be judged here: {why}", "write `nan = stop`")
    if context.planned.ramp:
        context.refuse("batch.ramp", f"a step cannot be split here: {why}", "write `batch { global = … }`")


def _rollback(context: StageContext) -> None:
    for key in ("retries", "cut_lr", "skip"):
        if context.is_explicit(f"guard.{key}") and not _rolls_back(context):
            context.refuse(
                f"guard.{key}",
                f"`{key}` is an option of rollbacks, and nothing rolls back here",
                "write `nan = rollback`, or drop it",
            )
    if not _rolls_back(context):
        return
    key = next(f"guard.{name}" for name in ("nan", "spike") if context.name(f"guard.{name}") == "rollback")
    strategy = context.planned.strategy
    if context.get("save.resumable") is False:
        context.refuse(
            "save.resumable",
            "a rollback resumes from a checkpoint, which `resumable = false` does not save",
            "drop `resumable = false`",
        )
    if strategy in FSDP:
        why = f"training under `{strategy}` cannot be restarted within its process"
        context.refuse(key, why, "write `stop`, and `launch { retries = 2 }`, or `strategy = zero2`")
    if context.stage.kind == "reward":
        why = f"{context.engine.title} cannot resume a model with a value head"
        context.refuse(key, why, "write `stop`")
    if context.option("optim.name", "layerwise"):
        context.refuse(
            key, "a layerwise optimizer steps in its own hooks, which a rollback would add twice", "write `stop`"
        )
    if context.option("lora.init", "convert"):
        context.refuse(
            key,
            "after a rollback PiSSA's converter would use the wrong initial adapter",
            "drop `convert`, or write `stop`",
        )


def _skip(context: StageContext) -> None:
    strategy, layerwise = context.planned.strategy, context.option("optim.name", "layerwise")
    for name in ("nan", "spike", "grad_norm"):
        if context.name(f"guard.{name}") == "skip" and (strategy in ZERO or layerwise):
            who = f"under `{strategy}` DeepSpeed" if strategy in ZERO else "a layerwise optimizer"
            why = f"{who} updates the weights before the gradient norm is known"
            help = (
                "write `rollback`, `stop`, or `strategy = ddp`"
                if strategy in ZERO
                else "write `stop`, or drop `layerwise`"
            )
            context.refuse(f"guard.{name}", why, help)


def _ramp(context: StageContext) -> None:
    if not context.planned.ramp:
        return
    strategy = context.planned.strategy
    if context.get("loader.streaming"):
        context.refuse(
            "loader.streaming",
            "a batch ramp counts the rows of each step, and streamed rows cannot be counted",
            "drop it",
        )
    if context.name("loader.order") == "by_length":
        context.refuse("loader.order", "a batch ramp reads rows at random or in file order, not by length", "drop it")
    if strategy in FSDP:
        context.refuse(
            "batch.ramp",
            f"splitting a step under `{strategy}` is not supported yet",
            "write `strategy = zero2`",
        )
    if context.planned.world.split > 1:
        context.refuse("batch.ramp", "ranks that share a split model do not read rows of their own", "drop `tensor`")
    if context.planned.world.elastic:
        context.refuse(
            "batch.ramp", "with a variable number of nodes the rows of a step are not known", "write `nodes = 1`"
        )
    if context.name("loss") in ("dft", "eaft", "asft") and any(phase.accumulate > 1 for phase in context.planned.ramp):
        why = f"`{context.name('loss')}` is summed over the micro-batches of a step, not averaged"
        context.refuse("batch.ramp", why, "write phases without `accumulate`")


def launched_elsewhere(context: StageContext) -> bool:
    """Whether the engine itself starts its trainers in other processes: Ray's workers."""
    return launcher(context) == "ray"
