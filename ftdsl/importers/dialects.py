"""The dialects there are, by engine."""

from __future__ import annotations

from ftdsl.importers import llamafactory
from ftdsl.importers.dialect import Dialect
from ftdsl.importers.trl import dialect as trl

_DIALECTS = {dialect.engine: dialect for dialect in (llamafactory.DIALECT, trl.DIALECT)}


def of(engine: str) -> Dialect:
    """Raises: KeyError for an engine whose files are not read."""
    return _DIALECTS[engine]


def engines() -> tuple[str, ...]:
    """Engines whose files are read."""
    return tuple(_DIALECTS)
