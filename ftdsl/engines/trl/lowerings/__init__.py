"""Lowerings: functions from a stage to TRL's parameters, for parameters that more than one key decides.

overlay.toml refers to a lowering by the name of its function.
"""

from __future__ import annotations

from collections.abc import Callable

from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.engines.shared.trainer.compute import compile, use_cpu
from ftdsl.engines.shared.trainer.optimizer import betas, duration, schedule, warmup
from ftdsl.engines.shared.trainer.start import push, run_name
from ftdsl.engines.shared.trainer.watch import best_by, eval_every, keep, log_every, save_every, track_to
from ftdsl.engines.trl.lowerings.compute import checkpointing, packing, precision
from ftdsl.engines.trl.lowerings.generate import answers, backend, divergence, weights
from ftdsl.engines.trl.lowerings.split import split
from ftdsl.engines.trl.lowerings.start import model, quantisation, resume
from ftdsl.engines.trl.lowerings.watch import guard, metrics, preference_losses

Lowering = Callable[[StageContext], Params]

TRAINING: tuple[Lowering, ...] = (
    model, quantisation, precision, use_cpu, run_name, duration, packing, compile, resume, push, preference_losses, betas,
    schedule, warmup, checkpointing, save_every, keep, best_by, eval_every, metrics, track_to, log_every, guard, answers, backend,
    divergence, weights, split,
)  # fmt: skip

SCORING: tuple[Lowering, ...] = (model, quantisation, precision, use_cpu, metrics)
MERGING: tuple[Lowering, ...] = (model, push)

_IN_OTHER_MODULES = {"peft", "dataset", "template", "reference", "teacher", "count", "strategy", "launcher", "rendezvous",
                     "nodes", "export_device", "track_project", "patience"}  # fmt: skip


def names(rules: tuple[Lowering, ...]) -> frozenset[str]:
    """The lowerings named in the overlay that these functions, and other modules, carry out."""
    return frozenset(rule.__name__ for rule in rules) | _IN_OTHER_MODULES
