"""stdout and stderr while a verb runs: nothing of others' reaches a terminal raw, and what cannot be written is told."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from ftdsl.printable import printable, with_colors


class OutputError(OSError):
    """What was to be printed could not be: `filename` is the stream."""


class Stream(io.TextIOBase):
    """A text stream in front of another (`raw`): control characters are written out.

    raw: None when it is closed; then what is written is lost, and `lost` says so. Of a stream that is chatter (stderr) what
    cannot be written is lost too: a full disk behind a log must not end a run. failure: why nothing more can be written.
    """

    def __init__(self, raw: TextIO | None, label: str, *, chatter: bool) -> None:
        self.raw, self.label, self.chatter = raw, label, chatter
        self.lost = False
        self.failure: OutputError | None = None
        self._clean = with_colors if raw is not None and raw.isatty() else printable

    def write(self, text: str) -> int:
        """Raises: BrokenPipeError, OutputError."""
        return self._write(self._clean(text))

    def write_exactly(self, text: str) -> int:
        """A file's own text: as it is into a file or a pipe, cleaned on a terminal. Raises: BrokenPipeError, OutputError."""
        return self.write(text) if self.isatty() else self._write(text)

    def _write(self, text: str) -> int:
        with self._reporting_write_errors():
            if self.raw is None:
                self.lost = self.lost or bool(text)
            else:
                self.raw.write(text)
        return len(text)

    def flush(self) -> None:
        """Raises: BrokenPipeError, OutputError."""
        with self._reporting_write_errors():
            if self.raw is not None:
                self.raw.flush()

    @contextlib.contextmanager
    def _reporting_write_errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:  # ValueError: it was closed meanwhile
            self.silence()
            if not self.chatter:
                why = (getattr(error, "strerror", None) or str(error)).lower()
                self.failure = OutputError(getattr(error, "errno", None) or 5, why, self.label)
                raise self.failure from None

    def silence(self) -> None:
        """Nothing more goes to a stream that takes nothing: else the interpreter complains once more when it ends."""
        with contextlib.suppress(OSError, ValueError):
            if self.raw is not None:
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.raw.fileno())

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.raw is not None and self.raw.isatty()

    def fileno(self) -> int:
        """Raises: OSError, as a stream without a file does."""
        if self.raw is None:
            raise OSError(9, "the stream is closed", self.label)
        return self.raw.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.raw, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@contextlib.contextmanager
def guarded() -> Iterator[Stream]:
    """stdout and stderr go through a `Stream` each; gives that of stdout."""
    _hold_descriptors()
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not know every letter
            stream.reconfigure(errors="backslashreplace")
    out = Stream(before[0], "stdout", chatter=False)
    sys.stdout, sys.stderr = out, Stream(before[1], "stderr", chatter=True)
    try:
        yield out
    finally:
        sys.stdout, sys.stderr = before


def _hold_descriptors() -> None:
    """Closed standard streams are opened on nothing, or the next file that is opened would be one of them."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
