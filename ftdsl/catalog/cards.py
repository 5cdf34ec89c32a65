"""Names that people, drivers and tables give to GPUs (`A100-80G (400W)`, `NVIDIA RTX 6000 Ada Generation`) -> the catalogue's.

Names match as a whole: an A1000 is not an A100, nor an L40S an L4.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

from ftdsl import catalog
from ftdsl.record import frozen

_NOTE = re.compile(r"[(\[](.*?)[)\]]")
_MEMORY = re.compile(r"(?<![a-z0-9])(\d+)\s*g(?:i?b)?(?![a-z0-9])")
_WATTS = re.compile(r"(\d+)\s*w\b")
_MAKERS = re.compile(
    r"nvidia|geforce|tesla|quadro|amd|instinct|radeon|intel|huawei|graphics|corporation|laptop gpu|super\s*chip"
)
_FORMS = re.compile(r"sxm\d?|smx\d?|oam|hbm\d+e?|nvlink|\bgpus?\b")


@frozen(eq=True)
class Card:
    """A GPU parsed from text. name: in the catalogue ("" if unknown); memory: GB (0: not given); power: limit in W (0: not
    given); pcie: whether its links are PCIe; text: without notes and memory."""

    name: str
    memory: int = 0
    power: float = 0.0
    pcie: bool = False
    text: str = ""


@cache
def _names() -> dict[str, str]:
    names = {name: name for name in catalog.gpus()}
    for name, gpu in catalog.gpus().items():
        names |= dict.fromkeys(gpu.aliases, name)
    return names


@lru_cache(maxsize=256)
def card_named(text: str) -> Card:
    """What a text names."""
    small = text.lower()
    note = " ".join(_NOTE.findall(small))
    plain = _MAKERS.sub(" ", _NOTE.sub(" ", small))
    sizes = [int(size) for size in _MEMORY.findall(plain)]
    bare = re.sub(r"[^a-z0-9]", "", _FORMS.sub(" ", _MEMORY.sub(" ", plain)))
    watts = _WATTS.search(note)
    pcie = "pcie" in small or "no nvlink" in small
    name = _match(bare)
    if "pcie" in small and f"{name}pcie" in catalog.gpus():
        name = f"{name}pcie"
    return Card(name, sizes[0] if sizes else 0, float(watts[1]) if watts else 0.0, pcie, bare)


def _match(bare: str) -> str:
    names = _names()
    short = bare.replace("pcie", "")
    for form in (bare, short):
        for candidate in (form, f"rtx{form}", form.removeprefix("rtx"), f"gtx{form}", f"ascend{form}"):
            if candidate in names:
                return names[candidate]
    return ""
