"""What a training is guarded against, and a batch that changes: what our runtime adds to transformers' Trainer
(runtime/trainer.py), as `stage.json` says it; and what cannot be added to.
"""

from __future__ import annotations

from typing import Any

from ftdsl.engines.shared.parallel.common import FSDP, ZERO, launcher
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import Amount, Term

RULES = ("nan", "spike", "grad_norm", "stall", "eval", "diverged")
COUNTS_TOKENS = ("sft", "pretrain")
"""Kinds whose loss is a cross-entropy over tokens; others are as noisy as their pairs, and leap without harm."""
STALL, STOP_AFTER = 600.0, 1800.0
"""Seconds without a step after which it is said, and after which the stage ends where that is asked for."""


def policy(context: StageContext) -> dict[str, Any]:
    """`guard` and `warns` of stage.json: the rules that may change what is made, and those that only say something."""
    rules = {name: _rule(context, name) for name in RULES}
    guard: dict[str, Any] = {name: rule for name, rule in rules.items() if rule["action"] not in ("ignore", "warn")}
    warns = {name: rule for name, rule in rules.items() if name not in guard and rule["action"] == "warn"}
    if _rolls_back(context):
        for key in ("retries", "skip"):
            if context.is_explicit(f"guard.{key}"):
                guard[key] = context.get(f"guard.{key}")
        if context.get("guard.cut_lr") is not None:
            guard["cut_lr"] = _number(context.get("guard.cut_lr"))
    if rules["nan"]["action"] == "ignore":
        guard["nan"] = rules["nan"]
    return {"guard": guard} | ({"warns": warns} if warns else {})


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
    warned = name in ("stall", "eval") or (name == "spike" and context.stage.kind in COUNTS_TOKENS)
    rule: dict[str, Any] = {"action": "stop" if name in ("nan", "diverged") else "warn" if warned else "ignore"}
    return {**rule, "after": STALL} if name == "stall" else rule


# --- what cannot be had


def _rolls_back(context: StageContext) -> bool:
    return any(context.name(f"guard.{name}") == "rollback" for name in ("nan", "spike"))


def check(context: StageContext, *, reaches: bool, why: str = "") -> None:
    """Errors at the key for what our runtime cannot do here. reaches: whether it reaches the trainer of this stage at all; why it
    does not.
    """
    if context.name("guard.grad_norm") not in ("", "ignore") and context.option("guard.grad_norm", "limit") is None:
        action = context.name("guard.grad_norm")
        context.refuse("guard.grad_norm", f"`{action}` needs the norm above which it acts", f"write `{action}(5.0)`")
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
            context.refuse(f"guard.{name}", f"steps are not judged here: {why}", "write `nan = stop`, which is")
    if context.planned.ramp:
        context.refuse("batch.ramp", f"steps cannot be cut here: {why}", "write `batch { global = … }`")


def _rollback(context: StageContext) -> None:
    for key in ("retries", "cut_lr", "skip"):
        if context.is_explicit(f"guard.{key}") and not _rolls_back(context):
            context.refuse(f"guard.{key}", f"`{key}` is about rolling back", "write `nan = rollback`, or drop it")
    if not _rolls_back(context):
        return
    key = next(f"guard.{name}" for name in ("nan", "spike") if context.name(f"guard.{name}") == "rollback")
    strategy = context.planned.strategy
    if context.get("save.resumable") is False:
        context.refuse(
            "save.resumable", "a training goes back to checkpoints that it can go on from", "drop `resumable = false`"
        )
    if strategy in FSDP:
        why = f"a training under `{strategy}` cannot be entered again in the same process"
        context.refuse(key, why, "write `stop`, and `launch { retries = 2 }`, or `strategy = zero2`")
    if context.stage.kind == "reward":
        why = f"{context.engine.title} cannot load the checkpoint of a model with a value head again"
        context.refuse(key, why, "write `stop`")
    if context.option("lora.init", "convert"):
        context.refuse(
            key, "PiSSA's converter would take what is gone back to for the start", "drop `convert`, or write `stop`"
        )


def _skip(context: StageContext) -> None:
    strategy = context.planned.strategy
    for name in ("nan", "spike", "grad_norm"):
        if context.name(f"guard.{name}") == "skip" and strategy in ZERO:
            why = f"under `{strategy}` DeepSpeed takes the step before its gradients are judged"
            context.refuse(f"guard.{name}", why, "write `rollback`, `stop`, or `strategy = ddp`")


def _ramp(context: StageContext) -> None:
    if not context.planned.ramp:
        return
    strategy = context.planned.strategy
    if context.get("loader.streaming"):
        context.refuse("loader.streaming", "which rows a step has is counted, and streamed rows cannot be", "drop it")
    if context.name("loader.order") == "by_length":
        context.refuse(
            "loader.order", "a batch that changes reads rows in one order, at random or as they are", "drop it"
        )
    if strategy in FSDP:
        context.refuse(
            "batch.ramp",
            f"under `{strategy}` a step has not been cut into micro-batches yet",
            "write `strategy = zero2`",
        )
    if context.planned.world.split > 1:
        context.refuse("batch.ramp", "with split models ranks do not read rows of their own", "drop `tensor`")
    if context.planned.world.elastic:
        context.refuse("batch.ramp", "with a number of nodes that changes, rows of a step do too", "write `nodes = 1`")
    if context.name("loss") in ("dft", "eaft", "asft") and any(phase.accumulate > 1 for phase in context.planned.ramp):
        why = f"`{context.name('loss')}` is not averaged over the micro-batches of a step"
        context.refuse("batch.ramp", why, "write phases without `accumulate`")


def launched_elsewhere(context: StageContext) -> bool:
    """Whether ranks are started in a way that our runtime does not see: Ray's workers."""
    return launcher(context) == "ray"
