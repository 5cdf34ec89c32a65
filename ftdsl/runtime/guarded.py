"""A stage's guard, and trainer classes with it and with the stage's batch ramp, for every engine on transformers' Trainer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from .guard import NAME, Guard, policy_of, read_memory
from .inject import injector
from .ramp import Phase
from .report import Log
from .stage import Stage
from .trainer import added_to
from .watchdog import Watchdog


def _ranks() -> tuple[int, int]:
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def guard_of(stage: Stage, output: str, log: Log, *, scaled: bool = False) -> Guard:
    """The guard of a training. output: folder of its checkpoints; scaled: fp16 with a loss scale."""
    policy = policy_of({**stage.watch, **stage.guard})
    return Guard(policy, Path(output), _reporter(log), writes=_ranks()[0] == 0, scaled=scaled)


def guarded(base: type, guard: Guard, stage: Stage, *, counts_tokens: bool) -> type:
    """A trainer's class with the guard and the ramp of a stage; `base` itself where neither can be added.

    counts_tokens: the loss is a cross-entropy over tokens.
    """
    rank, world = _ranks()
    phases = [Phase(**phase) for phase in stage.ramp]
    planted = injector(stage.stage, rank, world)
    watchdog = _watchdog(guard, rank)
    return added_to(base, guard, watchdog, phases=phases, injector=planted, counts_tokens=counts_tokens)


def ledger_of(output: str) -> dict[str, Any]:
    """What was seen of a training and done about it, for its result.json; empty where nothing was."""
    entries = read_memory(Path(output) / NAME).entries
    return {"ledger": entries} if entries else {}


def _reporter(log: Log) -> Any:
    def report(**fields: Any) -> None:
        log.event("guard", **fields)
        if log.first:
            print(f"guard: {fields['message']}", file=sys.stderr, flush=True)

    return report


def _watchdog(guard: Guard, rank: int) -> Watchdog:
    rule = guard.policy.stall

    def report(step: int, seconds: float) -> None:
        text = f"nothing was computed for {seconds:.0f} s after step {step}"
        guard.note(step, "stall", rule.action, text + (": the stage ends" if rule.action == "stop" else ""))

    return Watchdog(
        rule.after if rule.action != "ignore" else 0.0, stops=rule.action == "stop", report=report, rank=rank
    )
