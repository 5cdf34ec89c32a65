"""What the codes of the language mean (meanings.toml); read only where somebody asks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


@cache
def meanings() -> Mapping[str, Mapping[str, Any]]:
    """Code -> what, and where there is one an example (`stage` or `file`) and what to write `instead`; of what only a run
    finds `why` it matters, and `help`.
    """
    import tomllib

    return tomllib.loads((Path(__file__).parent / "meanings.toml").read_text(encoding="utf-8"))
