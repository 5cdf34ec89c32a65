"""Measurements of earlier runs in the user's state folder, and the corrections of estimates that follow.

`$XDG_STATE_HOME/ftdsl/measured/llamafactory-0.9.5.jsonl`, one run of a stage per line, written by `ftdsl.run.measured`.
Unreadable lines are skipped.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ftdsl.estimate import cpu
from ftdsl.estimate.architecture import Architecture, NotModelledError
from ftdsl.estimate.calibration import Believed, Measurement, corrected
from ftdsl.estimate.fit import fit
from ftdsl.estimate.memory import memory
from ftdsl.estimate.setup import Setup
from ftdsl.estimate.time import time
from ftdsl.plan.machine import gpu_of, main_memory, processor
from ftdsl.plan.model_sizes import hub_folder
from ftdsl.recipe.recipe import Recipe
from ftdsl.recipe.settings import METHODS
from ftdsl.record import frozen, replace
from ftdsl.session import Session

VARIABLE = "FTC_MEASURED"
"""`none`: ignore measurements. With a GPU's name as suffix (`FTC_MEASURED_H100`): its correction factors, as the lock keeps
those that decided an `auto`."""

KINDS = ("pretrain", "sft")
"""Stages whose setup is estimated completely; passes of a reference or reward model are not, so those do not calibrate."""

DECIDES = (*METHODS, "parallel.strategy", "parallel.offload", "memory.checkpointing", "batch.micro")
"""Choices that depend on GPU memory."""

CARD_MEMORY, CARD_TIME = Believed(1.0, 0.06), Believed(1.0, 0.2)
"""Prior of a GPU's factors: the error of estimates for sources not used in fitting (docs/planner.md)."""

CARD_NOISE = 0.04, 0.1


@frozen(eq=True)
class Factors:
    """Correction factors of a GPU's estimates from `runs` measured runs: memory and step time."""

    memory: float = 1.0
    time: float = 1.0
    runs: int = 0

    def __str__(self) -> str:
        return f"memory x{self.memory:.3f}, time x{self.time:.3f}: {self.runs} run{'s' * (self.runs != 1)}"


_FACTORS = re.compile(r"memory x(\d+\.\d+), time x(\d+\.\d+): (\d+) runs?")


@frozen
class Here:
    """Facts of the machine that trains: the GPU's factors; this machine's processor, threads per process, bytes of main memory
    (0: unknown); the folder of the hub's cache.
    """

    factors: Factors = Factors()
    processor: cpu.Processor = cpu.Processor()
    threads: int = 1
    memory: float = 0.0
    hub: Path | None = None

    @property
    def runs(self) -> int:
        """Number of measured runs behind the corrections."""
        return self.factors.runs or self.processor.runs


@frozen
class Measured:
    """A line of the file. memory: peak bytes; step: seconds; setup: with the row length of the largest micro-batch, which
    determines memory; usual: with the typical row length, which determines time; failed: it ran out of memory.
    """

    kind: str
    device: str
    threads: int
    setup: Setup
    usual: Setup
    memory: float
    step: float
    failed: bool = False


def folder_of(env: Mapping[str, str]) -> Path | None:
    """The folder of measurements (XDG base directories: state); None without a home folder."""
    if base := env.get("XDG_STATE_HOME"):
        return Path(base) / "ftdsl" / "measured"
    return Path(env["HOME"], ".local", "state", "ftdsl", "measured") if env.get("HOME") else None


def file_name(engine: str, version: str) -> str:
    return f"{engine}-{version}.jsonl"


def read(session: Session, engine: str, version: str) -> list[Measured]:
    """Measurements of successful runs with this version of the engine, oldest first."""
    return [run for run in read_all(session, engine, version) if not run.failed]


def read_all(session: Session, engine: str, version: str) -> list[Measured]:
    """The same, including runs that ran out of memory."""
    folder = folder_of(session.env)
    if folder is None or session.env.get(VARIABLE) == "none":
        return []
    try:
        text = session.files.text(folder / file_name(engine, version))
    except (OSError, UnicodeDecodeError):
        return []
    return [measured for line in text.splitlines() if (measured := parse_line(line))]


def parse_line(text: str) -> Measured | None:
    """Parse a line of the file; None if it is invalid."""
    try:
        row = json.loads(text)
        setup = setup_from(row["setup"])
        numbers = (row["memory_bytes"], row["step_seconds"])
        if not all(isinstance(n, int | float) and math.isfinite(n) and n > 0 for n in numbers):
            return None
        usual = replace(setup, seq_len=int(row.get("usual_len") or setup.seq_len))
        threads = int(row.get("threads") or 1)
        failed = row.get("outcome") == "oom"
        memory_bytes, step = map(float, numbers)
        return Measured(str(row["kind"]), str(row["device"]), threads, setup, usual, memory_bytes, step, failed)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def setup_from(document: Mapping[str, Any]) -> Setup:
    """The inverse of `setup_as_json`. Raises: KeyError, TypeError if invalid, or of another version of ftdsl."""
    values: dict[str, Any] = {name: tuple(item) if isinstance(item, list) else item for name, item in document.items()}
    sizes = dict(values.pop("architecture"))
    if not set(values) <= set(_names(Setup)) or not set(sizes) <= set(_names(Architecture)):
        raise KeyError("of another version")
    return Setup(Architecture(**sizes), **values)


def setup_as_json(setup: Setup) -> dict[str, Any]:
    """The fields that differ from their defaults."""
    plain = {name: item for name, item in _not_default(setup) if name != "architecture"}
    return {"architecture": dict(_not_default(setup.architecture)), **plain}


def _names(kind: type[Any]) -> tuple[str, ...]:
    return kind.__match_args__  # type: ignore[no-any-return]


def _not_default(record: Setup | Architecture) -> Iterator[tuple[str, Any]]:
    for name in _names(type(record)):
        item = getattr(record, name)
        if name not in type(record).__dict__ or item != type(record).__dict__[name]:
            yield name, item


def here(session: Session, recipe: Recipe, card: str) -> Here:
    """Facts of a GPU, or of this machine's processor for ""."""
    engine, version = recipe.versions.engine, recipe.versions.of()
    if card:
        return Here(gpu_factors(session, engine, version, card), hub=hub_folder(session.env))
    calibrated = processor_of(session, engine, version)
    return Here(Factors(), calibrated, threads_of(session.env), main_memory(session), hub_folder(session.env))


def expected(longest: Setup, usual: Setup, known: Here) -> tuple[float, float]:
    """Corrected estimates: (peak bytes, seconds per step). Raises: NotModelledError."""
    if not longest.card:
        spent = cpu.spent(longest, known.threads, known.processor)
        return spent.resident, cpu.spent(usual, known.threads, known.processor).step
    return memory(longest).allocated * known.factors.memory, time(usual).step * known.factors.time


# --- GPUs


def gpu_factors(session: Session, engine: str, version: str, card: str) -> Factors:
    """Factors of a GPU from the lock or the environment, else from measured runs."""
    if variable := session.env.get(variable_of(card)):
        match = _FACTORS.fullmatch(variable.strip())
        return Factors(float(match[1]), float(match[2]), int(match[3])) if match else Factors()
    return _factors(run for run in read_all(session, engine, version) if run.device == card and run.kind in KINDS)


def variable_of(card: str) -> str:
    return f"{VARIABLE}_{re.sub(r'[^A-Z0-9]', '_', card.upper())}"


def _factors(runs: Iterable[Measured]) -> Factors:
    memories, times = [], []
    for run in runs:
        try:
            if run.failed:
                # it needed more than the GPU has: a lower bound, used only if the estimate is below it
                needed = fit(run.setup).needed
                memories += [Measurement((needed,), run.memory)] if needed < run.memory else []
                continue
            peak, step = memory(run.setup).allocated, time(run.usual).step
        except NotModelledError:
            continue
        memories.append(Measurement((peak,), run.memory))
        times.append(Measurement((step,), run.step))
    # rounded as the lock writes them
    (more,) = corrected((CARD_MEMORY,), memories, CARD_NOISE[0])
    (longer,) = corrected((CARD_TIME,), times, CARD_NOISE[1])
    return Factors(round(more, 3), round(longer, 3), max(len(times), len(memories)))


# --- this machine's processor


def processor_of(session: Session, engine: str, version: str) -> cpu.Processor:
    """The processor of this machine, calibrated by its runs."""
    here = processor(session)
    return cpu.calibrated(
        [cpu.Run(run.setup, run.usual, run.threads, run.memory, run.step) for run in read(session, engine, version)
         if run.device == here and run.kind in KINDS]
    )  # fmt: skip


def threads_of(env: Mapping[str, str]) -> int:
    """Threads of a process on a CPU, as `launch.sh` starts it: OMP_NUM_THREADS, else 1."""
    variable = env.get("OMP_NUM_THREADS", "")
    return int(variable) if variable.isdecimal() and int(variable) else 1


def device_of(seen: Mapping[str, Any], session: Session) -> str:
    """The device of a measurement: the GPU's name in the catalogue, or the processor."""
    name = str(seen.get("device") or "")
    known = gpu_of(name)
    return processor(session) if name == "cpu" else known[0] if known else name
