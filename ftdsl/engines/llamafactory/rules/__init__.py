"""Words that more than one key decides, by theme: each a function from a stage to LLaMA-Factory's parameters.

A rule is named in overlay.toml by its function's name; the tables below say in which kinds of stage it counts.
"""

from __future__ import annotations

from collections.abc import Callable

from ftdsl.engines.llamafactory.rules.compute import checkpointing, compile, kernels, use_cpu
from ftdsl.engines.llamafactory.rules.method import (
    layers,
    method,
    oft_rank,
    oft_targets,
    quantisation,
    trainable,
    upcast,
)
from ftdsl.engines.llamafactory.rules.optimizer import betas, duration, schedule, warmup
from ftdsl.engines.llamafactory.rules.rows import packing, special, token_init
from ftdsl.engines.llamafactory.rules.start import (
    calibrate,
    infer_model,
    model,
    push,
    reference,
    resume,
    reward,
    run_name,
)
from ftdsl.engines.llamafactory.rules.watch import (
    best_by,
    eval_every,
    guard,
    keep,
    log_every,
    metrics,
    save_every,
    track_to,
)
from ftdsl.engines.llamafactory.work import Params, Work

Rule = Callable[[Work], Params]

TRAINING: tuple[Rule, ...] = (
    model, method, quantisation, use_cpu, kernels, run_name, duration, packing, upcast, compile, trainable, resume, push,
    reference, reward, layers, oft_rank, oft_targets, special, token_init, betas, schedule, warmup, checkpointing, save_every,
    keep, best_by, eval_every, metrics, track_to, log_every, guard,
)  # fmt: skip
SCORING: tuple[Rule, ...] = (infer_model, quantisation, use_cpu, special)
MERGING: tuple[Rule, ...] = (infer_model, special, token_init, push)
QUANTISING: tuple[Rule, ...] = (*MERGING, calibrate)

_BY_OTHERS = {"dataset", "mix", "eval_data", "count", "strategy", "launcher", "rendezvous", "nodes", "eval_stage",
              "export_device", "temperature", "beams", "track_project", "track_name", "tokenize"}  # fmt: skip


def names(rules: tuple[Rule, ...]) -> frozenset[str]:
    """The rules of an overlay that these functions, and what they stand among, carry out."""
    return frozenset(rule.__name__ for rule in rules) | _BY_OTHERS
