"""Replaces LLaMA-Factory's trainers by subclasses with a guard and a batch ramp: its workflows look them up by name.

Source: LLaMA-Factory 0.9.5 (train/*/workflow.py). PPO's trainer has its own loop, and Megatron and Ray do not use these
workflows; what does not work there is refused at compile time.
"""

from __future__ import annotations

import importlib
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

NAMES = {"sft": "CustomSeq2SeqTrainer", "pt": "CustomTrainer", "dpo": "CustomDPOTrainer", "kto": "CustomKTOTrainer",
         "rm": "PairwiseTrainer"}  # fmt: skip
"""The engine's stage -> its trainer."""


def replaced(stage: Stage, config: dict[str, Any], log: Log) -> Guard | None:
    """The guard of one call of the engine; None where its trainer is left as it is."""
    kind = str(config.get("stage"))
    if kind not in NAMES or not config.get("do_train") or os.environ.get("USE_MCA") or os.environ.get("USE_RAY"):
        return None
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    guard = Guard(
        policy_of({**stage.watch, **stage.guard}),
        Path(str(config["output_dir"])),
        _reporter(log),
        writes=rank == 0,
        scaled=bool(config.get("fp16")),
    )
    modules = [importlib.import_module(f"llamafactory.train.{kind}.{name}") for name in ("trainer", "workflow")]
    base = _BASES.setdefault(kind, getattr(modules[0], NAMES[kind]))
    phases = [Phase(**phase) for phase in stage.ramp]
    added = added_to(
        base,
        guard,
        _watchdog(guard, rank),
        phases=phases,
        injector=injector(stage.stage, rank, world),
        counts_tokens=kind in ("sft", "pt"),
    )
    for module in modules:  # a workflow imports its trainer at its top, or where it is made
        setattr(module, NAMES[kind], added)
    return guard if added is not base else None


def ledger_of(output: str) -> dict[str, Any]:
    """What was seen of a training and done about it, for its result.json; empty where nothing was."""
    entries = read_memory(Path(output) / NAME).entries
    return {"ledger": entries} if entries else {}


_BASES: dict[str, type] = {}
"""The engine's own classes: a stage of several parts replaces them anew for each."""


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
