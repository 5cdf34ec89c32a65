"""Actions: what a verdict asks for, done to a stage that runs."""

from __future__ import annotations

import sys
from typing import Any

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
    """Ask transformers' Trainer for a checkpoint after this step, and to end there. control: its TrainerControl."""
    control.should_save = control.should_training_stop = True
