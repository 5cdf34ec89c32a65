"""stdout and stderr while a verb runs: control characters never reach a terminal, and write errors are reported."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from ftdsl.printable import printable, with_colors

PLAIN = {
    "…": "...", "→": "->", "←": "<-", "⇒": "=>", "↑": "^", "↓": "v", "×": "x", "·": ".", "•": "*", "–": "-", "—": "-", "−": "-",
    "“": "'", "”": "'", "„": "'", "‘": "'", "’": "'", "≥": ">=", "≤": "<=", "≈": "~", "±": "+-", "µ": "u", "\u00a0": " ",
    "✓": "+", "✔": "+", "✗": "x", "✘": "x", "█": "#", "▓": "=", "▒": "-", "░": ".", "▚": "%", "▞": "&", "▤": "+", "▥": "+",
    "■": "#", "▌": "|", "⟦": "[[", "⟧": "]]", "\ufffd": "?",
    "▁": "_", "▂": "_", "▃": "-", "▄": "-", "▅": "=", "▆": "=", "▇": "#",
    **dict.fromkeys("─━═╌╍┄┅┈┉╴╶╸╺╼╾", "-"), **dict.fromkeys("│┃║╎╏┆┇┊┋", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯┏┓┗┛┣┫┳┻╋╔╗╚╝╠╣╦╩╬", "+"), **dict.fromkeys("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "*"),
}  # fmt: skip
"""What is written for a sign that an encoding such as ASCII or cp1252 has not. No quotes: it may be part of JSON."""

IN_PLAIN = "ftdsl.plain"

ENCODING = "FTC_STREAM_ENCODING"
"""Variable with the encoding of the standard streams for a process that was started again in UTF-8 mode; it is not inherited."""


def _in_plain(error: UnicodeError) -> tuple[str, int]:
    """A handler of encoding errors: signs by `PLAIN`, other characters escaped as JSON has them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(sign) or _escaped(sign) for sign in error.object[error.start : error.end]), error.end


def _escaped(character: str) -> str:
    import json  # not for every start

    return json.dumps(character)[1:-1]


class OutputError(OSError):
    """Output could not be written; `filename` is the stream."""


class Stream(io.TextIOBase):
    """A text stream in front of another (`raw`): escapes control characters.

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
        """Write a file's text: unchanged and in UTF-8 to a file or pipe, escaped on a terminal. Raises: BrokenPipeError,
        OutputError.
        """
        if self.isatty():
            return self.write(text)
        buffer = getattr(self.raw, "buffer", None)
        if buffer is None or self.encoding.lower().replace("-", "") == "utf8":
            return self._write(text)
        with self._reporting_write_errors():
            self.raw.flush()  # type: ignore[union-attr]
            buffer.write(text.encode("utf-8", "surrogatepass"))
        return len(text)

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
        except (OSError, ValueError) as error:  # ValueError: closed meanwhile
            self.silence()
            if not self.chatter:
                why = (getattr(error, "strerror", None) or str(error)).lower()
                self.failure = OutputError(getattr(error, "errno", None) or 5, why, self.label)
                raise self.failure from None

    def silence(self) -> None:
        """Detach a stream that cannot be written, or the interpreter would report the error again at exit."""
        with contextlib.suppress(OSError, ValueError):
            if self.raw is not None:
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.raw.fileno())

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.raw is not None and self.raw.isatty()

    def fileno(self) -> int:
        """The file descriptor. Raises: OSError without one."""
        if self.raw is None:
            raise OSError(9, "the stream is closed", self.label)
        return self.raw.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.raw, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return IN_PLAIN

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@contextlib.contextmanager
def guarded() -> Iterator[Stream]:
    """Wrap stdout and stderr in a `Stream`. Returns: that of stdout."""
    _hold_descriptors()
    codecs.register_error(IN_PLAIN, _in_plain)
    before, encoding = (sys.stdout, sys.stderr), os.environ.pop(ENCODING, None)
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not support every character
            stream.reconfigure(encoding=encoding, errors=IN_PLAIN)
    out = Stream(before[0], "stdout", chatter=False)
    sys.stdout, sys.stderr = out, Stream(before[1], "stderr", chatter=True)
    try:
        yield out
    finally:
        sys.stdout, sys.stderr = before


def _hold_descriptors() -> None:
    """Open closed standard streams on the null device, or the next opened file would take their descriptors."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
