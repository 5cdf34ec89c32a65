"""Actions: what a verdict asks for, done to a stage that runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from .events import SAVE_ANSWER, SAVE_REQUEST, SAVED
from .judges import Verdict
from .report import StageError


def act(verdict: Verdict | None) -> None:
    """Warn on stderr, or stop. Raises: StageError for a verdict to stop."""
    if verdict is None:
        return
    if verdict.action == "stop":
        raise StageError(verdict.message, *verdict.keys, help=verdict.help, status=verdict.status)
    print(f"warning: {verdict.message}", file=sys.stderr, flush=True)


def save_and_stop(control: Any) -> None:
    """Ask transformers' Trainer for a checkpoint after this step, and to end there. control: its TrainerControl. The losses
    since the last log are logged too: the mean of the training that goes on from here needs them.
    """
    control.should_log = control.should_save = control.should_training_stop = True


class SaveRequest:
    """A file by which a training is asked to save and end: its time on a cluster is nearly over, or its trial is paused. Who
    started it writes that file, and may start the training again.
    """

    def __init__(self) -> None:
        self.path, self.answer = os.environ.get(SAVE_REQUEST, ""), os.environ.get(SAVE_ANSWER, "")
        self.step = 0

    def heed(self, training: Any, state: Any, control: Any) -> None:
        """After each step. All ranks agree: a rank that saves alone would wait for the others for ever.

        training: transformers' TrainingArguments; a training whose checkpoints cannot be resumed goes on.
        """
        if not self.path or self.step or training.save_only_model or state.global_step >= state.max_steps:
            return
        requested = Path(self.path).exists()
        if training.world_size > 1:
            import torch

            requested_anywhere = torch.tensor([int(requested)], device=training.device)
            torch.distributed.all_reduce(requested_anywhere, op=torch.distributed.ReduceOp.MAX)
            requested = bool(requested_anywhere.item())
        if requested:
            self.step = state.global_step
            save_and_stop(control)

    def ended(self, *, first: bool) -> None:
        """At the end of a training, once its checkpoint is sealed. Raises: StageError where it ended because it was asked to."""
        if not self.step:
            return
        if first and self.answer:
            Path(self.answer).touch()
        raise StageError(f"saved at step {self.step}, since it was asked to", status=SAVED)
