"""What a data stage reports while it works: errors as they are found, capped; warnings; progress for whoever watches."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from types import TracebackType
from typing import Any

from .. import events

SHOWN = 20
"""Errors printed before the rest is only counted."""


class Reporter:
    """Prints for people, and writes metrics.jsonl for programs."""

    def __init__(self, folder: str) -> None:
        self.errors = 0
        self.kinds: Counter[str] = Counter()
        self.warnings: list[dict[str, str]] = []
        self._metrics = open(os.path.join(folder, events.METRICS), "ab")  # noqa: SIM115
        self._reported, self._first = 0.0, ""

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._metrics.close()

    def error(self, where: str, text: str, kind: str = "other") -> None:
        self.more_errors(kind, 1)
        self._first = self._first or f"{where}: {text}"
        if self.errors <= SHOWN:
            print(f"error: {where}: {text}", file=sys.stderr, flush=True)
            self._event("error", message=f"{where}: {text}", kind=kind)

    def more_errors(self, kind: str, count: int) -> None:
        """Errors that are only counted."""
        self.errors += count
        self.kinds[kind] += count

    def end_of_errors(self) -> None:
        """How many there are, by kind."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common())
        more = self.errors - SHOWN
        total = f"… and {more} more" if more > 0 else f"{self.errors} error{'s' * (self.errors > 1)}"
        summary = f"{total}; of each kind: {kinds}" if len(self.kinds) > 1 else total
        print(f"error: {summary}", file=sys.stderr)
        self._event("error", message=summary, kind="summary")

    def warning(self, where: str, text: str, *keys: str, code: str = "FT520", help: str = "") -> None:
        """`keys`: the recipe's keys it is about; the first that is set counts."""
        self.warnings.append({"where": where, "text": text})
        print(f"warning: {where}: {text}", file=sys.stderr, flush=True)
        self._event("warning", message=text, keys=list(keys), code=code, help=help)

    def failed(self, *keys: str, help: str = "", where: str = "") -> None:
        """The last event of a stage that could not do its work: its first error (without its location), and their number."""
        more = f" (and {self.errors - 1:,} more)" if self.errors > 1 else ""
        message = self._first.removeprefix(f"{where}: ") + more
        self._event("end", ok=False, message=message, keys=list(keys), help=help, code="FT511")

    def progress(self, done: float, total: float | None, what: str, *, now: bool = False) -> None:
        if now or time.monotonic() - self._reported > 0.5:
            self._reported = time.monotonic()
            self._event("progress", done=done, total=total, what=what)

    def _event(self, kind: str, /, **fields: Any) -> None:
        self._metrics.write(events.line(events.made(kind, **fields)))
        self._metrics.flush()
