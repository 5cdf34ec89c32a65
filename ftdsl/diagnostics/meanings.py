"""Descriptions of the codes of the language (meanings.toml); loaded on demand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


@cache
def meanings() -> Mapping[str, Mapping[str, Any]]:
    """Code -> `what`, optionally an example (`stage` or `file`) and what to write `instead`; for codes of runs also `why` it
    matters, and `help`.
    """
    import tomllib

    return tomllib.loads((Path(__file__).parent / "meanings.toml").read_text(encoding="utf-8"))
