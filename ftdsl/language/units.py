"""Units: the letters after a number. The lexer accepts any letters; this table defines the valid ones.

`k M B T` are powers of 1000, `Ki Mi Gi` of 1024; bytes have a `B` after a prefix (`80GB`, `512MiB`), so that `8B` is eight
billion. A unit of two words (`500M tokens`) is a scale and a counted unit.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from ftdsl.record import frozen

Dimension: TypeAlias = Literal["", "share", "count", "bytes", "time", "epochs", "steps", "tokens", "money", "stderrs"]

SCALES = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "B": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_BYTES = {f"{p}B": f for p, f in (("k", 10**3), ("K", 10**3), ("M", 10**6), ("G", 10**9), ("T", 10**12))} | {
    f"{p}B": f for p, f in SCALES.items() if p.endswith("i")
}
_TIMES = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}
_THINGS: dict[str, Dimension] = {
    "epoch": "epochs",
    "epochs": "epochs",
    "step": "steps",
    "steps": "steps",
    "token": "tokens",
    "tokens": "tokens",
    "stderr": "stderrs",
    "stderrs": "stderrs",
}
_MONEY = ("USD", "EUR", "GBP", "CNY", "JPY")

ALL_UNITS = ("%", *(s for s in SCALES if s), *_BYTES, *_TIMES, *_THINGS, *_MONEY)


@frozen(eq=True)
class Unit:
    """The factor to the base unit, and the dimension: bytes, seconds (`time`), a share of 1, …; "" for a plain number."""

    factor: float
    dimension: Dimension


def unit_of(text: str) -> Unit | None:
    """The unit written as `text` ("" for none); None if unknown."""
    scale, _, thing = text.rpartition(" ")
    if thing in _THINGS:
        return Unit(SCALES[scale], _THINGS[thing]) if scale in SCALES else None
    if text in SCALES:
        return Unit(SCALES[text], "count" if text else "")
    if text == "%":
        return Unit(0.01, "share")
    if text in _BYTES:
        return Unit(_BYTES[text], "bytes")
    if text in _TIMES:
        return Unit(_TIMES[text], "time")
    return Unit(1, "money") if text in _MONEY else None


def exact(number: float) -> int | float:
    """An int if the number is whole, so that `4Ki` prints as 4096; else rounded to 12 digits."""
    if isinstance(number, float):
        number = float(f"{number:.12g}")
        if number.is_integer() and abs(number) < 2**53:
            return int(number)
    return number


NAME_MAX = 255
"""Maximum size in bytes of a file name on common file systems."""


def longest_name(path: str) -> int:
    """The size in bytes of a path component that is too long for file systems; 0 if there is none."""
    sizes = (len(name.encode("utf-8", "surrogatepass")) for name in path.replace(",", "/").split("/"))
    return next((size for size in sizes if size > NAME_MAX), 0)
