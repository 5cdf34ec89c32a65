"""A training process on a CPU: peak of main memory and seconds per step.

Memory is the maximum resident set size: the interpreter with torch and the engine, then weights, gradients, states and
activations as on a GPU, in fp32; temporary memory is counted with the part that malloc keeps. Time is the sum of arithmetic at
the cores' rate and of transfers at the memory's rate.

Four constants depend on the machine and the engine's version. Here they have prior values for any machine; measured runs
correct them (`calibrated`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ftdsl.estimate import compute, constants, loss, memory, rollout, trained, weights
from ftdsl.estimate.calibration import Believed, Measurement, corrected, left
from ftdsl.estimate.layer import upcasts_norms
from ftdsl.estimate.memory import Memory, Phase
from ftdsl.estimate.setup import Setup
from ftdsl.record import frozen, replace

BASE = Believed(0.62 * 2**30, 0.15)
"""Bytes of the process before the model: Python, torch for CPU, transformers, datasets and LLaMA-Factory imported (0.9.5)."""

KEPT = Believed(1.15, 0.15)
"""Bytes that the process keeps per temporary byte: glibc only returns memory at the end of its heap."""

RATE = Believed(45e9, 0.7)
"""FLOP/s that one core reaches in fp32 products: half of the peak of AVX2 at 3 GHz (two 8-wide FMA a cycle)."""

STREAM = Believed(8e9, 0.7)
"""Bytes per second that one core reads or writes: STREAM on servers of the last ten years, 5 to 15 GB/s."""

MEMORY_NOISE, TIME_NOISE = 0.04, 0.1
"""Noise of a run around the right constants: small for memory; for time, other load on the machine."""

MORE_THREADS = 0.9
"""Exponent of the speed-up by threads: torch parallelises large products well, small ones less."""


@frozen(eq=True)
class Processor:
    """The constants of a machine and an engine, and how many runs they were corrected by."""

    base: float = BASE.value
    kept: float = KEPT.value
    rate: float = RATE.value
    stream: float = STREAM.value
    runs: int = 0


@frozen(eq=True)
class Run:
    """A measured run: its set-up with the rows of its largest micro-batch and of its usual one, threads, bytes the process held
    at most, seconds of a step.
    """

    setup: Setup
    usual: Setup
    threads: int
    resident: float
    step: float


@frozen
class Spent:
    """What a set-up takes of a processor, and least and most of nine of ten runs (bytes; seconds)."""

    memory: Memory
    step: float
    resident_interval: tuple[float, float]
    step_interval: tuple[float, float]
    writing: float = 0.0
    """Seconds of a step in which answers are written."""

    @property
    def resident(self) -> float:
        """Bytes that the process holds at most."""
        return self.memory.allocated


def spent(setup: Setup, threads: int, processor: Processor) -> Spent:
    """Raises: NotModelledError."""
    plain = memory.memory(setup)
    phases = tuple(Phase(phase.name, _held(phase, processor)) for phase in plain.phases)
    whole = Memory(setup, phases)
    work = _work(setup, threads)
    step = work[0] / processor.rate + work[1] / processor.stream
    return Spent(
        whole,
        step,
        _around(whole.allocated, left(KEPT.spread, processor.runs, MEMORY_NOISE)),
        _around(step, left(RATE.spread, processor.runs, TIME_NOISE)),
        _seconds(_writing(setup), processor, threads),
    )


def _seconds(work: tuple[float, float], processor: Processor, threads: int) -> float:
    """Of FLOPs and bytes of one thread."""
    return (work[0] / processor.rate + work[1] / processor.stream) / float(max(1, threads) ** MORE_THREADS)


def calibrated(runs: Sequence[Run]) -> Processor:
    """The processor that explains these runs best."""
    memories = [_memory_seen(run) for run in runs]
    base, kept = corrected((BASE, KEPT), memories, MEMORY_NOISE)
    slowness = (Believed(1 / RATE.value, RATE.spread), Believed(1 / STREAM.value, STREAM.spread))
    times = [Measurement(_work(run.usual, run.threads), run.step) for run in runs]
    per_flop, per_byte = corrected(slowness, times, TIME_NOISE)
    return Processor(base, kept, 1 / per_flop, 1 / per_byte, len(runs))


def _memory_seen(run: Run) -> Measurement:
    """What stays counts as it is, what comes and goes with what malloc keeps."""
    peak = max(memory.memory(run.setup).phases, key=lambda phase: sum(_held(phase, Processor()).values()))
    stays = _stays(peak)
    return Measurement((1.0, peak.total - stays), run.resident, stays)


_STAY = ("weights", "optimizer", "frozen models")


def _stays(phase: Phase) -> float:
    return sum(phase.terms.get(name, 0.0) for name in _STAY)


def _held(phase: Phase, processor: Processor) -> dict[str, float]:
    """The terms of a phase as the process holds them."""
    held = {name: size * (1 if name in _STAY else processor.kept) for name, size in phase.terms.items()}
    return {"engine": processor.base} | held


def _around(middle: float, spread: float) -> tuple[float, float]:
    factor = 1 + 1.645 * spread
    return middle / factor, middle * factor


NORM_CASTS = 20.0
"""Of the 34 bytes that an RMSNorm in torch operations moves for each 16-bit element, 14 are left when all is fp32 and halved to
compare: four kernels of 28 bytes, as both casts and what they copy fall away."""


def _traffic(setup: Setup) -> float:
    """Bytes a token that a layer's forward pass moves in fp32, where adapters and norms have nothing to cast."""
    plain = replace(setup, train_dtype="bf16")
    casts = NORM_CASTS * setup.architecture.norms * setup.architecture.hidden if upcasts_norms(setup) else 0.0
    return 2 * (compute.traffic(plain) - casts)


def _work(setup: Setup, threads: int) -> tuple[float, float]:
    """FLOPs of a step and bytes it moves, of one thread."""
    flash = replace(setup, attention="flash")
    a, tokens = flash.architecture, flash.tokens
    again = compute.RECOMPUTED.get(flash.checkpointing, 0.0)
    back = trained.crossed(flash) / a.layers
    products = 2 * a.active_layer_linear * tokens * compute.passes(flash) * a.layers
    head = 2 * a.embedding * tokens * (2 if flash.adapts else 3)
    # sdpa on a CPU works all pairs, also those a causal mask hides
    pairs = 4.0 * flash.seq_len * a.q * tokens * (1 + back * (again + 2.5)) * a.layers
    moved = _traffic(flash) * tokens * (1 + back * (again + constants.FITTED.backward)) * a.layers
    moved += loss.moved_bytes(flash) * constants.FITTED.loss_traffic
    learnt = weights.trainable(flash, weights.share(flash))
    sweeps = learnt * 4 * (3 + 4) * (1.0 if flash.optimizer == "adamw_fused" else 1.5)
    more = max(1, threads) ** MORE_THREADS
    count = flash.accumulate
    without = rollout.forwards(flash) * 2 * (a.active_layer_linear * a.layers + a.embedding) * tokens
    written, read = _writing(flash)
    return ((products + head + pairs + without) * count + written) / more, (moved * count + sweeps + read) / more


def _writing(setup: Setup) -> tuple[float, float]:
    """FLOPs and bytes of a step's answers at full length: every token reads all weights, and the keys and values so far."""
    rows = rollout.rows(setup)
    if not rows:
        return 0.0, 0.0
    a, answer, prompt = setup.architecture, rollout.answer(setup), rollout.prompt(setup)
    products = 2 * (a.active_layer_linear * a.layers + a.embedding) * rows * (prompt + answer)
    cache = rollout.cache_bytes(setup, prompt + answer // 2)
    return setup.rollout_share * products, setup.rollout_share * answer * (4.0 * a.params + cache)
