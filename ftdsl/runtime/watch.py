"""The eyes on a training run: a TrainerCallback that reports every step, and stops what must not go on."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from typing import Any

from . import labels
from .measure import Meter
from .report import Log, StageError

WRONG_WORLD = 4
"""Exit status when another number of processes runs than was planned."""


def by_ray() -> bool:
    """Whether LLaMA-Factory starts the ranks itself, as Ray's workers."""
    return os.environ.get("USE_RAY", "").lower() in ("1", "true", "y")


def planned(size: int, args: argparse.Namespace) -> bool:
    """Whether so many ranks were planned; an elastic job may have fewer, down to `--at-least`."""
    least: int = args.at_least or args.world
    return least <= size <= int(args.world)


def processes(size: int) -> str:
    return "1 process" if size == 1 else f"{size} processes"


def as_asked(training: Any, config: dict[str, Any]) -> None:
    """Where the engine would compute otherwise than the config says, and say nothing. Raises: StageError.

    A process that sees no card trains on the CPU; there fp16 is dropped; what `accelerate launch` says of precision counts
    where the YAML is silent. (DeepSpeed's own file is held against the YAML by transformers.)
    """
    from accelerate.state import AcceleratorState, is_initialized

    if training.device.type == "cpu" and not config.get("use_cpu"):
        text = "no card can be seen here, and the stage was planned on one: the engine would train on the CPU"
        raise StageError(
            text, "hardware.gpu", "hardware", help="write `hardware { gpu = none }`, or run it where the card is"
        )
    if training.device.type == "cpu" and config.get("fp16"):
        text = "fp16 is not done on a CPU: the engine would train in fp32"
        raise StageError(text, "precision", help="write `precision = fp32`, or `bf16`")
    if not is_initialized() or config.get("deepspeed") or config.get("fp8"):
        return
    wanted = next((name for name in ("fp16", "bf16") if config.get(name)), "no")
    found = AcceleratorState().mixed_precision
    if found != wanted:
        text = f"accelerate was told to compute in {found} where the config says {wanted}"
        raise StageError(text, "precision", "accelerate")


def callback(args: argparse.Namespace, log: Log, config: dict[str, Any], until: int = 0, resumed: int = 0) -> Any:
    """A TrainerCallback for one config, to stop at the step `until`, or to go on from `resumed`. It raises `StageError`."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.began = time.monotonic()
            self.scored = 0
            self.told = 0.0
            self.meter = Meter()

        def on_init_end(self, training: Any, state: Any, control: Any, **_: Any) -> None:
            if not planned(training.world_size, args):
                text = f"the engine runs {processes(training.world_size)} where {args.world} were planned"
                raise StageError(text, "hardware.count", status=WRONG_WORLD)
            as_asked(training, config)

        def on_train_begin(self, training: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.began = time.monotonic()
            world = training.world_size
            log.event(event="start", stage=args.stage, total_steps=state.max_steps, world_size=world, time=time.time())
            if resumed and state.global_step != resumed:
                text = f"it should go on at step {resumed} and starts at step {state.global_step}"
                raise StageError(f"a checkpoint was saved and cannot be gone on with: {text}", "save.resumable", "save")
            if resumed:
                log.event(event="note", message=f"stopped at step {resumed} and resumed")
            labels.look(kwargs.get("train_dataloader"), config, log)
            self.meter.begin(kwargs.get("model"))

        def on_step_end(self, training: Any, state: Any, control: Any, **_: Any) -> None:
            self.meter.step()
            if until and state.global_step >= until:
                control.should_save = control.should_training_stop = True

        def on_evaluate(self, training: Any, state: Any, control: Any, **_: Any) -> None:
            self.meter.again()

        def on_save(self, training: Any, state: Any, control: Any, **_: Any) -> None:
            self.meter.again()

        def on_train_end(self, training: Any, state: Any, control: Any, **_: Any) -> None:
            if not args.smoke and log.first and (seen := self.meter.event()):
                log.event(**seen)

        def on_log(self, training: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            logs = logs or {}
            if "loss" in logs:
                self._step(state, logs)
            elif scores := {k: v for k, v in logs.items() if k.startswith("eval_") and isinstance(v, int | float)}:
                found = {name.removeprefix("eval_"): value for name, value in scores.items()}
                log.event(event="eval", step=state.global_step, metrics=found)

        def _step(self, state: Any, logs: dict[str, Any]) -> None:
            elapsed = time.monotonic() - self.began
            done = max(1, state.global_step)
            log.event(
                event="step", step=state.global_step, total_steps=state.max_steps, epoch=logs.get("epoch"),
                loss=logs["loss"], lr=logs.get("learning_rate"), grad_norm=logs.get("grad_norm"),
                elapsed=round(elapsed, 3), remaining=round(elapsed / done * (state.max_steps - done), 3),
            )  # fmt: skip
            bad = [name for name in ("loss", "grad_norm") if not math.isfinite(float(logs.get(name) or 0.0))]
            if bad and args.nan != "ignore":
                text = f"{bad[0]} is {float(logs[bad[0]])} at step {state.global_step}"
                if args.nan == "stop":
                    raise StageError(text, "optim.lr", "optim", help="a lower `optim.lr`, or `optim.clip`, may help")
                print(f"warning: {text}", file=sys.stderr, flush=True)

        def on_prediction_step(self, training: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.scored += 1
            if args.kind == "eval" and time.monotonic() - self.told > 0.5:
                self.told = time.monotonic()
                loader = kwargs.get("eval_dataloader")
                log.event(event="progress", done=self.scored, total=len(loader) if loader else None, what="batches")

    return Watch()
