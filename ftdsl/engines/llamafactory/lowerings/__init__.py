"""Lowerings: functions from a stage to LLaMA-Factory's parameters, for parameters that more than one key decides.

overlay.toml refers to a lowering by the name of its function; the tables below list the lowerings of each kind of stage.
"""

from __future__ import annotations

from collections.abc import Callable

from ftdsl.engines.llamafactory.lowerings.compute import checkpointing, kernels
from ftdsl.engines.llamafactory.lowerings.method import (
    layers,
    method,
    oft_rank,
    oft_targets,
    quantisation,
    trainable,
    upcast,
)
from ftdsl.engines.llamafactory.lowerings.rows import packing, special, token_init
from ftdsl.engines.llamafactory.lowerings.start import calibrate, infer_model, model, reference, reward
from ftdsl.engines.llamafactory.lowerings.watch import guard, metrics
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.engines.shared.trainer.compute import compile, use_cpu
from ftdsl.engines.shared.trainer.optimizer import betas, duration, schedule, warmup
from ftdsl.engines.shared.trainer.start import push, resume, run_name
from ftdsl.engines.shared.trainer.watch import best_by, eval_every, keep, log_every, save_every, track_to

Lowering = Callable[[StageContext], Params]

TRAINING: tuple[Lowering, ...] = (
    model, method, quantisation, use_cpu, kernels, run_name, duration, packing, upcast, compile, trainable, resume, push,
    reference, reward, layers, oft_rank, oft_targets, special, token_init, betas, schedule, warmup, checkpointing, save_every,
    keep, best_by, eval_every, metrics, track_to, log_every, guard,
)  # fmt: skip
SCORING: tuple[Lowering, ...] = (infer_model, quantisation, use_cpu, special)
MERGING: tuple[Lowering, ...] = (infer_model, special, token_init, push)
QUANTISING: tuple[Lowering, ...] = (*MERGING, calibrate)

_IN_OTHER_MODULES = {"dataset", "mix", "eval_data", "count", "strategy", "launcher", "rendezvous", "nodes", "eval_stage",
              "export_device", "temperature", "beams", "track_project", "track_name", "tokenize"}  # fmt: skip


def names(rules: tuple[Lowering, ...]) -> frozenset[str]:
    """The lowerings named in the overlay that these functions, and other modules, carry out."""
    return frozenset(rule.__name__ for rule in rules) | _IN_OTHER_MODULES
