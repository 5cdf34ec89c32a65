"""`hardware { gpu = auto }`: the GPUs of this machine, from the driver's files, without starting a program."""

from __future__ import annotations

import re
from pathlib import Path

from ftdsl import catalog
from ftdsl.catalog.cards import card_named
from ftdsl.language.values import Origin, Term
from ftdsl.recipe.recipe import Stage
from ftdsl.record import frozen, replace
from ftdsl.session import Session

VARIABLE = "FTC_GPU"
"""The lock keeps the result under this name, as `8 x h100(80GB)` or `none`; a set variable overrides it."""

DRIVER = Path("/proc/driver/nvidia/gpus")
"""A folder per GPU, with `Model: NVIDIA H100 80GB HBM3` in its file `information` (NVIDIA driver README, chapter on /proc)."""

_TEXT = re.compile(r"(\d+) x ([a-z0-9]+)\((\d+)GB\)")


@frozen(eq=True)
class Gpus:
    """GPUs of one kind. name: in the catalogue, "none" without a GPU; memory: GB."""

    name: str = "none"
    count: int = 1
    memory: int = 0

    def __str__(self) -> str:
        return f"{self.count} x {self.name}({self.memory}GB)" if self.name != "none" else "none"

    @property
    def term(self) -> Term:
        return Term(self.name, {"memory": self.memory * 10**9} if self.memory else {})


def local_gpus(session: Session) -> Gpus | None:
    """The GPUs of the variable, else of the driver: the most frequent kind in the catalogue; None without a GPU, as the recipe
    may be meant for another machine.
    """
    if variable := session.env.get(VARIABLE):
        match = _TEXT.fullmatch(variable.strip())
        return Gpus(match[2], int(match[1]), int(match[3])) if match and match[2] in catalog.gpus() else Gpus()
    models = [known for model in _models(session) if (known := gpu_of(model))]
    if not models:
        return None
    name, memory = max(set(models), key=models.count)
    return Gpus(name, models.count((name, memory)), memory)


def _models(session: Session) -> list[str]:
    models = []
    for path in session.files.glob(DRIVER, "*/information") if session.files.is_dir(DRIVER) else []:
        try:
            match = re.search(r"^Model:\s*(.+)$", session.files.text(path), re.MULTILINE)
        except (OSError, UnicodeDecodeError):
            continue
        models += [match[1].strip()] if match else []
    return models


def gpu_of(model: str) -> tuple[str, int] | None:
    """(name in the catalogue, GB) of a GPU by its driver's name, such as `NVIDIA A100-SXM4-80GB`."""
    card = card_named(model)
    if not card.name:
        return None
    return card.name, card.memory or catalog.gpus()[card.name].memory[0]


def size_left_open(stage: Stage) -> tuple[Term, str] | None:
    """(the smallest size, reason) of a GPU sold in several sizes and named without one, so that the plan also fits the others."""
    gpu = stage.settings.get("hardware.gpu")
    known = catalog.gpus().get(getattr(gpu, "name", ""))
    if known is None or len(known.memory) == 1 or "memory" in gpu.options:
        return None
    smallest, *larger = known.memory
    others = " or ".join(f"`{gpu.name}({size}GB)`" for size in larger)
    return Gpus(gpu.name, 1, smallest).term, f"the smallest size; otherwise write {others}"


def named(stage: Stage, available: Gpus) -> Stage:
    """The stage with `gpu = auto` replaced by the available GPUs, all of them if it sets no number."""
    filled = {"hardware.gpu": available.term}
    if "hardware.count" not in stage.settings.values:
        filled["hardware.count"] = available.count  # type: ignore[assignment]
    reason = Origin(
        "auto", "", f"this machine has {available}" if available.name != "none" else "this machine has no GPU"
    )
    origins = {**stage.origins, **dict.fromkeys(filled, reason)}
    return replace(stage, settings=stage.settings.with_values(filled), origins=origins)


CPUINFO, MEMINFO, CGROUP = Path("/proc/cpuinfo"), Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")


def processor(session: Session) -> str:
    """The processor as Linux names it, such as `AMD EPYC 9654`; `this processor` elsewhere."""
    try:
        match = re.search(rb"^model name\s*:\s*(.+)$", session.files.head(CPUINFO, 4096), re.MULTILINE)
    except OSError:
        match = None
    return match[1].decode("utf-8", "replace").strip() if match else "this processor"


MEMORY = "FTC_MAIN_MEMORY"
"""Bytes of main memory that count instead of this machine's; a check then says the same on any."""


def main_memory(session: Session) -> float:
    """Bytes of main memory available to processes: the machine's, or the limit of its container; 0 if unknown."""
    if (declared := session.env.get(MEMORY, "")).isdecimal():
        return float(declared)
    sizes = []
    for path, pattern, unit in ((MEMINFO, rb"MemTotal:\s*(\d+) kB", 1024), (CGROUP, rb"(\d+)\s*$", 1)):
        try:
            match = re.match(pattern, session.files.head(path, 64))
        except OSError:
            continue
        sizes += [float(match[1]) * unit] if match else []
    return min(sizes, default=0.0)
