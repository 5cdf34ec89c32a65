"""A TrainerCallback that reports a training as events, and hands what it sees to the judges."""

from __future__ import annotations

import os
import time
from typing import Any

from . import judges, labels
from .actions import act, save_and_stop
from .measure import Meter
from .report import Log
from .stage import Part, Stage


def by_ray() -> bool:
    """Whether LLaMA-Factory starts the ranks itself, as Ray's workers."""
    return os.environ.get("USE_RAY", "").lower() in ("1", "true", "y")


def judge_launch(stage: Stage) -> None:
    """Before the engine is loaded. Raises: StageError when the launcher started another number of processes."""
    if not by_ray():
        act(judges.launched(int(os.environ.get("WORLD_SIZE", "1")), stage.world, stage.at_least))


def judge_setup(training: Any, stage: Stage, config: dict[str, Any]) -> None:
    """Once the engine has set itself up. training: transformers' TrainingArguments. Raises: StageError."""
    from accelerate.state import AcceleratorState, is_initialized

    act(judges.world(training.world_size, stage.world, stage.at_least))
    act(judges.device(training.device.type, config))
    if is_initialized():
        act(judges.precision(AcceleratorState().mixed_precision, config))


def callback(stage: Stage, part: Part, log: Log, config: dict[str, Any]) -> Any:
    """A TrainerCallback for one call of the engine. It raises `StageError`."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.began = time.monotonic()
            self.first_step = 0
            self.scored = 0
            self.reported = 0.0
            self.meter = Meter()

        def on_init_end(self, training: Any, state: Any, control: Any, **_: Any) -> None:
            judge_setup(training, stage, config)

        def on_train_begin(self, training: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.began, self.first_step = time.monotonic(), state.global_step
            log.event(
                "start", stage=stage.stage, step=self.first_step, total_steps=state.max_steps,
                world_size=training.world_size,
            )  # fmt: skip
            act(judges.resumed(part.resumed, state.global_step))
            if part.resumed:
                log.event("note", message=f"stopped at step {part.resumed} and resumed")
            labels.look(kwargs.get("train_dataloader"), config, log)
            self.meter.begin(kwargs.get("model"))

        def on_step_end(self, training: Any, state: Any, control: Any, **_: Any) -> None:
            self.meter.step()
            if part.until and state.global_step >= part.until:
                save_and_stop(control)

        def on_evaluate(self, training: Any, state: Any, control: Any, **_: Any) -> None:
            self.meter.again()

        def on_save(self, training: Any, state: Any, control: Any, **_: Any) -> None:
            self.meter.again()

        def on_train_end(self, training: Any, state: Any, control: Any, **_: Any) -> None:
            if not stage.smoke and log.first and (seen := self.meter.measured()):
                log.event("measured", **seen)

        def on_log(self, training: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            logs = logs or {}
            if "loss" in logs:
                self._step(state, logs)
            elif scores := {k: v for k, v in logs.items() if k.startswith("eval_") and isinstance(v, int | float)}:
                metrics = {name.removeprefix("eval_"): value for name, value in scores.items()}
                log.event("eval", step=state.global_step, metrics=metrics)

        def _step(self, state: Any, logs: dict[str, Any]) -> None:
            elapsed = time.monotonic() - self.began
            done = max(1, state.global_step - self.first_step)
            log.event(
                "step", step=state.global_step, total_steps=state.max_steps, epoch=logs.get("epoch"),
                loss=logs["loss"], lr=logs.get("learning_rate"), grad_norm=logs.get("grad_norm"),
                elapsed=round(elapsed, 3), remaining=round(elapsed / done * (state.max_steps - state.global_step), 3),
            )  # fmt: skip
            seen = {name: float(logs[name]) for name in ("loss", "grad_norm") if logs.get(name) is not None}
            act(judges.finite(judges.Step(state.global_step, **seen), stage.nan))

        def on_prediction_step(self, training: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.scored += 1
            if stage.kind == "eval" and time.monotonic() - self.reported > 0.5:
                self.reported = time.monotonic()
                loader = kwargs.get("eval_dataloader")
                log.event("progress", done=self.scored, total=len(loader) if loader else None, what="batches")

    return Watch()
