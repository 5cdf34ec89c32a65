"""What earlier runs measured, read from the user's state folder, and what it says of the estimates of a plan.

`$XDG_STATE_HOME/ftdsl/measured/llamafactory-0.9.5.jsonl`, a run of a stage a line; `ftdsl.run.measured` writes it. A line that
cannot be read is passed over: it costs a measurement and never a plan.
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
from ftdsl.plan.machine import card_of, main_memory, processor
from ftdsl.plan.model_sizes import hub_folder
from ftdsl.recipe.recipe import Recipe
from ftdsl.recipe.settings import METHODS
from ftdsl.record import frozen, replace
from ftdsl.session import Session

VARIABLE = "FTC_MEASURED"
"""`none`: no measurements count. With a card's name behind (`FTC_MEASURED_H100`): what measurements say of it, which is how
the lock keeps those that decided an `auto`."""

KINDS = ("pretrain", "sft")
"""Stages whose set-ups are estimated in full: a pass of a reference or a reward model is not, so theirs calibrate nothing."""

DECIDES = (*METHODS, "parallel.strategy", "parallel.offload", "memory.checkpointing", "batch.micro")
"""Choices that what a card holds decides."""

CARD_MEMORY, CARD_TIME = Believed(1.0, 0.06), Believed(1.0, 0.2)
"""A card's factors: how far estimates are off for sources that nothing was fitted to (docs/planner.md)."""

CARD_NOISE = 0.04, 0.1


@frozen(eq=True)
class Factors:
    """What `runs` measured runs say of a card's estimates: factors of memory and step time."""

    memory: float = 1.0
    time: float = 1.0
    runs: int = 0

    def __str__(self) -> str:
        return f"memory x{self.memory:.3f}, time x{self.time:.3f}: {self.runs} run{'s' * (self.runs != 1)}"


_FACTORS = re.compile(r"memory x(\d+\.\d+), time x(\d+\.\d+): (\d+) runs?")


@frozen
class Here:
    """What is known of where a stage trains: a card's factors; of this machine its processor, the threads of a process, and
    bytes of main memory (0: not known); the folder of the hub's cache.
    """

    factors: Factors = Factors()
    processor: cpu.Processor = cpu.Processor()
    threads: int = 1
    memory: float = 0.0
    hub: Path | None = None

    @property
    def runs(self) -> int:
        """How many measured runs it stands on."""
        return self.factors.runs or self.processor.runs


@frozen
class Measured:
    """A line of the file: what ran, where, and what it took (bytes, seconds); its set-up with rows as long as those of the
    largest micro-batch, which memory is of, and as those of the usual one, which time is of. failed: it ran out of memory.
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
    """Where measurements are kept (XDG base directories: state); None without a home."""
    if base := env.get("XDG_STATE_HOME"):
        return Path(base) / "ftdsl" / "measured"
    return Path(env["HOME"], ".local", "state", "ftdsl", "measured") if env.get("HOME") else None


def file_name(engine: str, version: str) -> str:
    return f"{engine}-{version}.jsonl"


def read(session: Session, engine: str, version: str) -> list[Measured]:
    """All that was measured with this version of the engine of runs that ended well, the oldest first."""
    return [run for run in read_all(session, engine, version) if not run.failed]


def read_all(session: Session, engine: str, version: str) -> list[Measured]:
    """Those that ran out of memory too."""
    folder = folder_of(session.env)
    if folder is None or session.env.get(VARIABLE) == "none":
        return []
    try:
        text = session.files.text(folder / file_name(engine, version))
    except (OSError, UnicodeDecodeError):
        return []
    return [measured for line in text.splitlines() if (measured := parse_line(line))]


def parse_line(text: str) -> Measured | None:
    """A line of the file; None for one that cannot be read."""
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
    """Raises: KeyError, TypeError for what is none, or that of another ftdsl."""
    values: dict[str, Any] = {name: tuple(item) if isinstance(item, list) else item for name, item in document.items()}
    sizes = dict(values.pop("architecture"))
    if not set(values) <= set(_names(Setup)) or not set(sizes) <= set(_names(Architecture)):
        raise KeyError("of another version")
    return Setup(Architecture(**sizes), **values)


def setup_as_json(setup: Setup) -> dict[str, Any]:
    """All that is not as by default."""
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
    """Of a card, or of this machine's processor."""
    engine, version = recipe.versions.engine, recipe.versions.of()
    if card:
        return Here(card_factors(session, engine, version, card), hub=hub_folder(session.env))
    calibrated = processor_of(session, engine, version)
    return Here(Factors(), calibrated, threads_of(session.env), main_memory(session), hub_folder(session.env))


def expected(longest: Setup, usual: Setup, known: Here) -> tuple[float, float]:
    """Bytes at the peak and seconds of a step that are estimated where so much is known. Raises: NotModelledError."""
    if not longest.card:
        spent = cpu.spent(longest, known.threads, known.processor)
        return spent.resident, cpu.spent(usual, known.threads, known.processor).step
    return memory(longest).allocated * known.factors.memory, time(usual).step * known.factors.time


# --- cards


def card_factors(session: Session, engine: str, version: str, card: str) -> Factors:
    """Of a card: what the lock or the environment says, else what runs measured."""
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
                # it needed more than the card has: what the estimate lacks of that is all that is known
                needed = fit(run.setup).needed
                memories += [Measurement((needed,), run.memory)] if needed < run.memory else []
                continue
            peak, step = memory(run.setup).allocated, time(run.usual).step
        except NotModelledError:
            continue
        memories.append(Measurement((peak,), run.memory))
        times.append(Measurement((step,), run.step))
    # rounded: what the lock says is what counted
    (more,) = corrected((CARD_MEMORY,), memories, CARD_NOISE[0])
    (longer,) = corrected((CARD_TIME,), times, CARD_NOISE[1])
    return Factors(round(more, 3), round(longer, 3), max(len(times), len(memories)))


# --- this machine's processor


def processor_of(session: Session, engine: str, version: str) -> cpu.Processor:
    """The processor of this machine, by the runs it has done."""
    here = processor(session)
    return cpu.calibrated(
        [cpu.Run(run.setup, run.usual, run.threads, run.memory, run.step) for run in read(session, engine, version)
         if run.device == here and run.kind in KINDS]
    )  # fmt: skip


def threads_of(env: Mapping[str, str]) -> int:
    """Threads of a process on a CPU, as `launch.sh` starts it: OMP_NUM_THREADS, else one."""
    variable = env.get("OMP_NUM_THREADS", "")
    return int(variable) if variable.isdecimal() and int(variable) else 1


def device_of(seen: Mapping[str, Any], session: Session) -> str:
    """What a stage trained on, as measurements are kept by: the catalogue's name of a card, or the processor."""
    name = str(seen.get("device") or "")
    known = card_of(name)
    return processor(session) if name == "cpu" else known[0] if known else name
