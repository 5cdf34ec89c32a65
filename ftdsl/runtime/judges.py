"""Judges: what was seen of a stage, and what follows from it. Pure: nothing is stopped, written or printed here, and no
engine is needed to try them. `actions.py` does what a verdict asks for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WRONG_WORLD = 4
"""Exit status when another number of processes runs than was planned."""


@dataclass(frozen=True)
class Verdict:
    """action: `warn` or `stop`; message: a sentence; keys: the recipe's words it is about; status: the exit status of a stop."""

    action: str
    message: str
    keys: tuple[str, ...] = ()
    help: str = ""
    status: int = 1


@dataclass(frozen=True)
class Step:
    """What the engine measured at one step; None where it measured nothing."""

    step: int
    loss: float | None = None
    grad_norm: float | None = None


def finite(step: Step, policy: str) -> Verdict | None:
    """A loss or gradient norm that is no number. policy: ignore, warn or stop."""
    for name, value in (("loss", step.loss), ("grad_norm", step.grad_norm)):
        if policy != "ignore" and value is not None and not math.isfinite(value):
            text = f"{name} is {value} at step {step.step}"
            return Verdict(policy, text, ("optim.lr", "optim"), "a lower `optim.lr`, or `optim.clip`, may help")
    return None


def enough(size: int, planned: int, least: int = 0) -> bool:
    """Whether so many processes were planned; an elastic job may have fewer, down to `least`."""
    return (least or planned) <= size <= planned


def processes(size: int) -> str:
    return "1 process" if size == 1 else f"{size} processes"


def launched(size: int, planned: int, least: int = 0) -> Verdict | None:
    """Of a launcher: whether it started as many processes as were planned."""
    if enough(size, planned, least):
        return None
    text = f"{processes(size)} {'was' if size == 1 else 'were'} started where {planned} were planned"
    return Verdict("stop", text, ("hardware.count",), status=WRONG_WORLD)


def world(size: int, planned: int, least: int = 0) -> Verdict | None:
    """Of the engine: whether it trains with as many processes as were planned."""
    if enough(size, planned, least):
        return None
    text = f"the engine runs {processes(size)} where {planned} were planned"
    return Verdict("stop", text, ("hardware.count",), status=WRONG_WORLD)


def device(kind: str, config: Mapping[str, Any]) -> Verdict | None:
    """Where the engine would compute elsewhere than its config says, and report nothing: a process that sees no GPU trains on
    the CPU, and drops fp16 there. kind: torch's name of the device.
    """
    if kind != "cpu":
        return None
    if not config.get("use_cpu"):
        text = "no GPU is visible here, and the stage was planned on one: the engine would train on the CPU"
        help = "write `hardware { gpu = none }`, or run it where the GPU is"
        return Verdict("stop", text, ("hardware.gpu", "hardware"), help)
    if config.get("fp16"):
        text = "the engine drops fp16 on a CPU and would train in fp32"
        return Verdict("stop", text, ("precision",), "write `precision = fp32`, or `bf16`")
    return None


def precision(used: str, config: Mapping[str, Any]) -> Verdict | None:
    """Compares accelerate's precision with the config's: `accelerate launch` decides where the YAML does not. DeepSpeed's
    own file is compared with the YAML by transformers.
    """
    wanted = next((name for name in ("fp16", "bf16") if config.get(name)), "no")
    if config.get("deepspeed") or config.get("fp8") or used == wanted:
        return None
    text = f"accelerate computes in {used}, and the config sets {wanted}"
    return Verdict("stop", text, ("precision", "accelerate"))


def trained(first: int, last: int, resume: object) -> Verdict | None:
    """A training that was to go on from a checkpoint of the recipe's, and had no step left. resume: its path, if any."""
    if not resume or last > first:
        return None
    text = f"nothing was trained: {resume} is at step {first} already, and the stage ends there"
    return Verdict("stop", text, ("resume", "duration"), "raise `duration`, or drop `resume`")


def resumed(wanted: int, step: int) -> Verdict | None:
    """A training that must go on from a step, and starts at another. wanted: 0 for any."""
    if not wanted or wanted == step:
        return None
    text = f"a checkpoint was saved and cannot be resumed: it should start at step {wanted} and starts at step {step}"
    return Verdict("stop", text, ("save.resumable", "save"))
