"""A TrainerCallback that reports a training as events, and hands what it sees to the judges."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from . import judges, labels
from .actions import SaveRequest, act, save_and_stop
from .checkpoints import changed_since, seal
from .guard import Guard, Rule
from .measure import Meter, memory_now
from .ramp import Phase, phase_at
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


METRICS = {
    "reward": "reward", "reward_std": "reward_std", "frac_reward_zero_std": "zero_spread", "kl": "kl", "entropy": "entropy",
    "clip_ratio/region_mean": "clip_share", "completions/mean_length": "answer_tokens",
    "completions/clipped_ratio": "cut_answers", "gate_entropy": "gate_entropy", "balance_loss": "balance_loss",
    "on_policy": "on_policy", "average_rank": "average_rank",
}  # fmt: skip
"""The trainer's names of what it logs besides loss, rate and gradient norm, and ours."""

PREFIXES = ("rewards/", "expert_load/")


def step_metrics(logs: dict[str, Any]) -> dict[str, float]:
    """What a step event carries in `metrics`: `rewards/NAME` is the mean of one reward, before its weight."""
    values = {ours: logs[theirs] for theirs, ours in METRICS.items() if theirs in logs}
    more = {name.removesuffix("/mean"): value for name, value in logs.items() if name.startswith(PREFIXES)}
    values |= {name: value for name, value in more.items() if not name.endswith("/std")}
    return {name: round(float(value), 6) for name, value in values.items() if isinstance(value, int | float)}


class Watcher:
    """What the callback does at each of the Trainer's events; raises `StageError`. Made a TrainerCallback by `callback`."""

    def __init__(self, stage: Stage, part: Part, log: Log, config: dict[str, Any], guard: Guard | None) -> None:
        self.stage, self.part, self.log, self.config, self.guard = stage, part, log, config, guard
        self.entered = False
        self.phase: Phase | None = None
        self.began = time.monotonic()
        self.first_step = self.since = 0
        self.saved: Path | None = None
        self.scored = 0
        self.reported = 0.0
        self.meter = Meter()
        self.request = SaveRequest()

    def on_init_end(self, training: Any, state: Any, control: Any, **_: Any) -> None:
        judge_setup(training, self.stage, self.config)

    def on_train_begin(self, training: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.began = time.monotonic()
        self.log.event(
            "start", stage=self.stage.stage, step=state.global_step, total_steps=state.max_steps,
            world_size=training.world_size,
        )  # fmt: skip
        self.since = state.global_step
        if self.entered:  # once more, after a rollback
            self.meter.again()
            return
        self.entered, self.first_step = True, state.global_step
        act(judges.resumed(self.part.resumed, state.global_step))
        if self.part.resumed:
            self.log.event("note", message=f"stopped at step {self.part.resumed} and resumed")
        labels.look(kwargs.get("train_dataloader"), self.config, self.log)
        self.meter.begin(kwargs.get("model"))

    def on_step_end(self, training: Any, state: Any, control: Any, **_: Any) -> None:
        self.meter.step()
        if self.part.until and state.global_step >= self.part.until:
            save_and_stop(control)
        if state.global_step >= state.max_steps and training.logging_strategy != "no":
            control.should_log = True  # else the last loss of a result would be that of an earlier step
        self.request.heed(training, state, control)

    def on_evaluate(self, training: Any, state: Any, control: Any, **_: Any) -> None:
        self.meter.again()

    def on_save(self, training: Any, state: Any, control: Any, **_: Any) -> None:
        self.saved = Path(training.output_dir) / f"checkpoint-{state.global_step}"
        if training.world_size > 1:
            import torch

            torch.distributed.barrier()  # all ranks have written their parts
        if self.log.first and self.saved.is_dir():
            self._seal(self.saved)
        self.meter.again()

    def _seal(self, checkpoint: Path) -> None:
        seal(checkpoint, finite=self.guard is None or self.guard.finite)

    def on_step_begin(self, training: Any, state: Any, control: Any, **_: Any) -> None:
        self._seal_again()
        if self.stage.ramp:
            self._phase(state.global_step)

    def _phase(self, step: int) -> None:
        """Where a batch ramp changes, and where a training begins in one."""
        phases = [Phase(**phase) for phase in self.stage.ramp]
        phase = phase_at(phases, step)
        if phase != self.phase:
            self.phase = phase
            rows = phase.rows(int(os.environ.get("WORLD_SIZE", "1")))
            self.log.event("phase", step=step, micro=phase.micro, accumulate=phase.accumulate, rows=rows)

    def _seal_again(self) -> None:
        """Callbacks of the engine's that are called after this one may have changed a checkpoint (of a value head they do)."""
        if self.saved is not None and self.log.first and changed_since(self.saved):
            self._seal(self.saved)
            self.meter.again()
        self.saved = None

    def on_train_end(self, training: Any, state: Any, control: Any, **_: Any) -> None:
        self._seal_again()
        self.request.ended(first=self.log.first)
        act(judges.trained(self.first_step, state.global_step, self.config.get("resume_from_checkpoint")))
        if not self.stage.smoke and self.log.first and (seen := self.meter.measured()):
            self.log.event("measured", **seen)

    def on_log(self, training: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        logs = logs or {}
        if "loss" in logs:
            self._step(state, logs)
        elif scores := {k: v for k, v in logs.items() if k.startswith("eval_") and isinstance(v, int | float)}:
            metrics = {name.removeprefix("eval_"): value for name, value in scores.items()}
            self.log.event("eval", step=state.global_step, metrics=metrics)

    def _step(self, state: Any, logs: dict[str, Any]) -> None:
        elapsed = time.monotonic() - self.began
        done = max(1, state.global_step - self.since)
        self.log.event(
            "step", step=state.global_step, total_steps=state.max_steps, epoch=logs.get("epoch"),
            loss=logs["loss"], lr=logs.get("learning_rate"), grad_norm=logs.get("grad_norm"),
            elapsed=round(elapsed, 3), remaining=round(elapsed / done * (state.max_steps - state.global_step), 3),
            tokens=int(getattr(state, "num_input_tokens_seen", 0) or 0) or None, **memory_now(),
            metrics=step_metrics(logs) or None,
        )  # fmt: skip
        seen = {name: float(logs[name]) for name in ("loss", "grad_norm") if logs.get(name) is not None}
        if self.guard is None:  # else every step was judged before it was taken
            rule = Rule(**{**self.stage.watch, **self.stage.guard}.get("nan", {"action": "ignore"}))
            act(judges.finite(judges.Step(state.global_step, **seen), rule.action))

    def on_prediction_step(self, training: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.scored += 1
        if self.stage.kind == "eval" and time.monotonic() - self.reported > 0.5:
            self.reported = time.monotonic()
            loader = kwargs.get("eval_dataloader")
            self.log.event("progress", done=self.scored, total=len(loader) if loader else None, what="batches")


def callback(stage: Stage, part: Part, log: Log, config: dict[str, Any], guard: Guard | None = None) -> Any:
    """A TrainerCallback for one call of the engine."""
    from transformers import TrainerCallback

    return type("Watch", (Watcher, TrainerCallback), {})(stage, part, log, config, guard)
