"""Mixins for transformers' Trainer and its subclasses: a guard, and a batch ramp.

Tried with transformers 5.6 and several ranks (gloo), plain and under DeepSpeed.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from . import checkpoints, ramp
from .guard import Decision, Guard
from .report import StageError
from .watchdog import Watchdog


class RollbackError(Exception):
    """Leaves `Trainer.train()`, which is then entered again from a checkpoint. Every rank raises it at the same step."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.message)
        self.decision = decision


def stopped(guard: Guard, decision: Decision) -> StageError:
    """What ends a stage, with advice."""
    return StageError(decision.message, "guard", "optim.lr", "optim", help=guard.advice(decision.finding), code="FT958")


def first_of(trainer: Any) -> bool:
    return bool(trainer.args.process_index == 0)


class Guarded:
    """Judges each step on all ranks alike, before the optimizer acts on it (under DeepSpeed after: going back undoes it).

    guard, watchdog, injector and counts_tokens are set on a subclass by `added_to`.
    """

    guard: Guard
    watchdog: Watchdog
    injector: Any = None
    counts_tokens = True
    """Whether the loss is a cross-entropy over tokens."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._loss: Any = None
        self._usual = 0.0
        self._before: Any = None
        self._left_out = False
        self.add_callback(callback(self))

    # --- leaving the training, and entering it again

    def train(self: Any, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        while True:
            with self.watchdog:
                try:
                    return super().train(resume_from_checkpoint, *args, **kwargs)  # type: ignore[misc]
                except RollbackError as fault:
                    decision = fault.decision
            resume_from_checkpoint = self._checkpoint(decision)
            self._forget()

    def _checkpoint(self: Any, decision: Decision) -> str:
        """The checkpoint to go back to, which the first rank looks for. Raises: StageError."""
        step = -1
        if first_of(self):
            target, broken = checkpoints.last_good(Path(self.args.output_dir))
            for aside, why in broken:
                text = f"{aside.name.removeprefix('broken-')} is damaged ({why}); it is now {aside.name}"
                self.guard.note(decision.step, "checkpoint", "set aside", text)
            if target is not None:
                step = int(target.name.rpartition("-")[2])
        step = int(self._from_first(step))
        if step < 0:
            text = f"{decision.finding.message} at step {decision.step}, and there is no whole checkpoint to go back to"
            raise StageError(text, "guard", "save.every", "save", code="FT958")
        self.guard.note(step, decision.finding.anomaly, "resumed", f"resumes from checkpoint-{step}")
        return str(Path(self.args.output_dir) / f"checkpoint-{step}")

    def _from_first(self: Any, value: float) -> float:
        """A number of the first rank's, on all."""
        if self.args.world_size == 1:
            return value
        import torch

        shared = torch.tensor(float(value), device=self.args.device, dtype=torch.float64)
        torch.distributed.broadcast(shared, 0)
        return float(shared.item())

    def _forget(self: Any) -> None:
        """What the training that was left has made: wrappers, optimizer, schedule, hooks."""
        engine: Any = getattr(self, "deepspeed", None)
        if hasattr(engine, "destroy"):
            engine.destroy()  # its hooks on the parameters, and what it holds of them
        self.model_wrapped = self.model
        self.deepspeed = self.optimizer = self.lr_scheduler = None
        self._loss = None
        if getattr(self, "neftune_noise_alpha", None) is not None:
            from transformers.trainer_pt_utils import deactivate_neftune

            deactivate_neftune(self.model, self.neftune_hook_handle, self.accelerator)
        self.model.zero_grad()
        gc.collect()

    # --- a step

    def training_step(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self.watchdog.beat(self.state.global_step)
        if self._before is None:
            self._before = self._tr_loss.clone() if getattr(self, "_tr_loss", None) is not None else None
            self._left_out = self.guard.left_out(self.state.global_step)
            if self.injector:
                self.injector.before_step(self.state.global_step + 1)
        if self._left_out:
            import torch

            return torch.tensor(self._usual / self.current_gradient_accumulation_steps, device=self.args.device)
        loss = super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        self._loss = loss if self._loss is None else self._loss + loss
        return loss

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if self.injector and model.training and (scale := self.injector.scale(self.state.global_step + 1)) != 1:
            loss = (loss[0] * scale, *loss[1:]) if isinstance(loss, tuple) else loss * scale
        return loss

    def _get_grad_norm(self: Any, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[misc]
        left_out, before, self._before = self._left_out, self._before, None
        if left_out:
            return norm
        step_loss, self._loss = self._loss, None
        loss = self._mean(step_loss)
        decision = self.guard.judge(self.state.global_step + 1, loss, None if norm is None else float(norm))
        if loss is not None and math.isfinite(loss):
            self._usual = loss
        if decision is not None:
            self._act(decision, model, before)
        return norm

    def _mean(self: Any, loss: Any) -> float | None:
        """A step's loss over all ranks."""
        if loss is None:
            return None
        if self.args.world_size > 1:
            import torch

            loss = loss.detach().clone()
            torch.distributed.all_reduce(loss)
            loss = loss / self.args.world_size
        return float(loss.item())

    def _act(self: Any, decision: Decision, model: Any, before: Any) -> None:
        if decision.action == "rollback":
            raise RollbackError(decision)
        if decision.action == "stop":
            raise stopped(self.guard, decision)
        if decision.action == "skip":
            for parameter in model.parameters():
                parameter.grad = None  # zeros would still move weights by their momentum
            if before is not None and not math.isfinite(float(self._tr_loss)):
                self._tr_loss = before + self._usual  # or all that is logged from here on would be no number

    # --- checkpoints

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        """The engine's own rotation knows nothing of what a training goes back to: ours comes once a checkpoint is sealed."""
        limit = self.args.save_total_limit
        if self.guard.policy.rolls_back:
            self.args.save_total_limit = None
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
        finally:
            self.args.save_total_limit = limit

    def begun(self: Any) -> None:
        """Once optimizer and schedule exist: apply cuts of the learning rate; save the start of a training that may be rolled
        back.
        """
        factor = self.guard.resumed_at(self.state.global_step)
        if factor != 1:
            cut_rate(self.optimizer, self.lr_scheduler, factor)
        self.guard.recall(self.state.log_history)
        if (
            self.guard.policy.rolls_back
            and self.state.global_step == 0
            and not self._from_first(self._at_start().is_dir())
        ):
            self._save_checkpoint(self.model_wrapped, None)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    def sealed(self: Any, checkpoint: Path) -> None:
        """After a checkpoint is whole; of the first rank only."""
        if self.guard.policy.rolls_back and self.args.save_total_limit:
            best = self.state.best_model_checkpoint
            checkpoints.rotate(Path(self.args.output_dir), self.args.save_total_limit, Path(best) if best else None)
        if self.injector:
            self.injector.saved(checkpoint, self.state.global_step)

    def ended(self: Any) -> None:
        """Raises: StageError for a training that went nowhere."""
        vocabulary = int(getattr(self.model.config, "vocab_size", 0) or 0) if self.counts_tokens else 0
        decision = self.guard.ended(self.state.global_step, vocabulary)
        if self.guard.memory.entries:
            self.guard.save()
        if decision is not None and decision.action == "stop":
            raise stopped(self.guard, decision)
        start = self._at_start()
        if first_of(self) and start.is_dir():
            import shutil

            shutil.rmtree(start, ignore_errors=True)

    def _at_start(self: Any) -> Path:
        return Path(self.args.output_dir) / "checkpoint-0"


def cut_rate(optimizer: Any, scheduler: Any, factor: float) -> None:
    """Scale the learning rate from here on. `args.learning_rate` has no effect once the optimizer exists; the next checkpoint
    contains what is scaled here.
    """
    for group in optimizer.param_groups:
        for name in ("lr", "initial_lr"):
            if name in group:
                group[name] = group[name] * factor
    inner = getattr(scheduler, "scheduler", scheduler)
    if hasattr(inner, "base_lrs"):
        inner.base_lrs = [rate * factor for rate in inner.base_lrs]
    if hasattr(inner, "_last_lr"):
        inner._last_lr = [rate * factor for rate in inner._last_lr]


class Ramped:
    """One batch of the loader is one optimizer step, cut into micro-batches here. phases is set on a subclass by `added_to`."""

    phases: Sequence[ramp.Phase] = ()

    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.args.max_steps <= 0:
            rows = len(self.train_dataset) * self.args.num_train_epochs
            drop = self.args.dataloader_drop_last
            self._total = 0 if drop else math.ceil(rows)
            self.args.max_steps = ramp.steps_of(self.phases, rows, self.args.world_size, drop_last=drop)
        return super().train(*args, **kwargs)  # type: ignore[misc]

    _total = 0

    def get_train_dataloader(self: Any) -> Any:
        from functools import partial

        from torch.utils.data import DataLoader
        from transformers.trainer_utils import seed_worker

        args, rows = self.args, self._columns(self.train_dataset)
        sampler = ramp.StepBatches(
            len(rows),
            self.phases,
            args.max_steps,
            args.process_index,
            args.world_size,
            self._order(len(rows)),
            self._total,
        )
        return DataLoader(
            ramp.Grouped(rows, self.data_collator), batch_sampler=sampler, collate_fn=ramp.as_they_are,
            num_workers=args.dataloader_num_workers, pin_memory=args.dataloader_pin_memory and args.device.type == "cuda",
            persistent_workers=args.dataloader_persistent_workers, prefetch_factor=args.dataloader_prefetch_factor,
            worker_init_fn=partial(seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index),
        )  # fmt: skip

    def _columns(self: Any, dataset: Any) -> Any:
        """Without the columns that the model does not take, as the Trainer would have it."""
        import datasets

        return self._remove_unused_columns(dataset, "training") if isinstance(dataset, datasets.Dataset) else dataset

    def _order(self: Any, rows: int) -> Any:
        """The permutation of an epoch: accelerate's own (data_loader.py, SeedableRandomSampler), or the order of the file."""
        import torch
        from torch.utils.data import SequentialSampler

        if isinstance(self._get_train_sampler(), SequentialSampler):
            return lambda epoch: range(rows)
        seed = self.args.data_seed if self.args.data_seed is not None else torch.random.initial_seed()
        return lambda epoch: torch.randperm(rows, generator=torch.Generator().manual_seed(seed + epoch)).tolist()

    def training_step(self: Any, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        self.current_gradient_accumulation_steps = len(inputs)
        total: Any = 0
        for at, part in enumerate(inputs):
            last = at == len(inputs) - 1
            self.accelerator.gradient_state._set_sync_gradients(last)
            apart = last or self.is_deepspeed_enabled
            with nullcontext() if apart else self.accelerator.no_sync(model):
                total = total + super().training_step(model, part, num_items_in_batch)  # type: ignore[misc]
        return total

    def _get_num_items_in_batch(self: Any, batch_samples: Any, device: Any) -> Any:
        return super()._get_num_items_in_batch([part for step in batch_samples for part in step], device)  # type: ignore[misc]

    def floating_point_ops(self: Any, inputs: Any) -> Any:
        return sum(super(Ramped, self).floating_point_ops(part) for part in inputs)  # type: ignore[misc]

    def _track_num_input_tokens(self: Any, inputs: Any) -> None:
        for part in inputs:
            super()._track_num_input_tokens(part)  # type: ignore[misc]

    def stepped(self: Any) -> None:
        """After a step: count epochs of the data (to the Trainer the run is one epoch), and save or evaluate where they end."""
        size, done = len(self.train_dataset), self.state.global_step
        before, after = (ramp.rows_until(self.phases, step, self.args.world_size) for step in (done - 1, done))
        after = min(after, self._total or after)
        self.state.epoch = after / size
        if before // size < after // size and done < self.state.max_steps:
            for name in ("save", "eval", "logging"):
                if str(getattr(self.args, f"{name}_strategy")).rpartition(".")[2].lower() == "epoch":
                    flag = {"save": "should_save", "eval": "should_evaluate", "logging": "should_log"}[name]
                    setattr(self.control, flag, True)


def callback(trainer: Any) -> Any:
    """What a trainer made here does at the Trainer's events."""
    from transformers import TrainerCallback

    class Added(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if isinstance(trainer, Guarded):
                trainer.begun()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if isinstance(trainer, Ramped):
                trainer.stepped()

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if isinstance(trainer, Guarded) and first_of(trainer) and checkpoint.is_dir():
                trainer.sealed(checkpoint)

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
            if not isinstance(trainer, Guarded):
                return
            decision = trainer.guard.evaluated(state.global_step, metrics or {})
            if decision is not None and decision.action == "stop":
                raise stopped(trainer.guard, decision)

        def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if isinstance(trainer, Guarded):
                trainer.watchdog.beat(state.global_step)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if isinstance(trainer, Guarded):
                trainer.ended()

    return Added()


def added_to(
    base: type, guard: Guard, watchdog: Watchdog, *, phases: Sequence[ramp.Phase] = (), injector: Any = None,
    counts_tokens: bool = True,
) -> type:  # fmt: skip
    """A trainer's class with a guard, and a ramp where there are phases.

    Raises: StageError for a Trainer without the method by which steps are judged, where something hangs on that.
    """
    if not hasattr(base, "_get_grad_norm"):
        if guard.policy.needs_steps or phases:
            text = "this version of transformers does not let a step be judged before the optimizer acts on it"
            raise StageError(text, "guard", "batch.ramp", help="use transformers 5.3 or newer", code="FT958")
        return base
    fields = {
        "guard": guard,
        "watchdog": watchdog,
        "injector": injector,
        "phases": phases,
        "counts_tokens": counts_tokens,
    }
    return type(base.__name__, (Guarded, *((Ramped,) if phases else ()), base), fields)
