"""Bytes of a checkpoint on disk: weights, and the state for resuming."""

from __future__ import annotations

from ftdsl.estimate import states, weights
from ftdsl.estimate.setup import BYTES, Setup
from ftdsl.record import replace


def checkpoint(setup: Setup, resumable: bool = True) -> float:
    """Bytes of one checkpoint of all processes together: the trained weights (all of them, or the adapter), and with
    `resumable` the optimizer's states and master copies."""
    whole = replace(setup, tensor=1, pipeline=1, expert=1)
    part = weights.share(whole)
    trained = weights.trainable(whole, part)
    saved = trained * (BYTES[setup.train_dtype] if setup.adapts or not setup.master else 2.0)
    return saved + (states.held(whole, part) if resumable else 0.0)
