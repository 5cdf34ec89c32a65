"""The collector of diagnostics. Phases do not raise for a user's mistake: they report here and continue."""

from __future__ import annotations

from collections.abc import Iterator

from ftdsl.diagnostics.model import Diagnostic, Fix, Label, Severity
from ftdsl.printable import shortened
from ftdsl.record import replace
from ftdsl.source import Span

LONGEST = 600
"""Maximum characters of a message, since text quoted from a source may be long."""


class Sink:
    """Diagnostics in the order of reports, without duplicates (same position and text)."""

    def __init__(self) -> None:
        self._diagnostics: dict[tuple[object, ...], Diagnostic] = {}

    def add(self, diagnostic: Diagnostic) -> None:
        if max(len(diagnostic.message), len(diagnostic.label), len(diagnostic.help)) > LONGEST:
            short = {name: shortened(getattr(diagnostic, name), LONGEST) for name in ("message", "label", "help")}
            diagnostic = replace(diagnostic, **short)
        self._diagnostics.setdefault(diagnostic.identity, diagnostic)

    def drop(self, diagnostic: Diagnostic) -> None:
        """Remove a diagnostic."""
        self._diagnostics = {key: kept for key, kept in self._diagnostics.items() if kept is not diagnostic}

    def error(
        self,
        code: str,
        message: str,
        span: Span | None,
        *,
        label: str = "",
        labels: tuple[Label, ...] = (),
        help: str = "",
        fix: Fix | None = None,
    ) -> None:
        self.add(Diagnostic(code, message, span, Severity.ERROR, label, labels, help, fix))

    def warning(self, code: str, message: str, span: Span | None, *, label: str = "", help: str = "") -> None:
        self.add(Diagnostic(code, message, span, Severity.WARNING, label, (), help))

    def info(
        self,
        code: str,
        message: str,
        span: Span | None,
        *,
        label: str = "",
        help: str = "",
        notes: tuple[str, ...] = (),
    ) -> None:
        self.add(Diagnostic(code, message, span, Severity.INFO, label, (), help, notes=notes))

    @property
    def failed(self) -> bool:
        """Whether there is an error."""
        return any(diagnostic.severity is Severity.ERROR for diagnostic in self._diagnostics.values())

    def forget_infos(self) -> None:
        """Drop the infos: choices that are about to be made again report anew."""
        self._diagnostics = {key: kept for key, kept in self._diagnostics.items() if kept.severity is not Severity.INFO}

    def soften(self, code: str) -> None:
        """Turn errors of this code into warnings."""
        self._diagnostics = {
            identity: replace(diagnostic, severity=Severity.WARNING)
            if (diagnostic.code, diagnostic.severity) == (code, Severity.ERROR)
            else diagnostic
            for identity, diagnostic in self._diagnostics.items()
        }

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self._diagnostics.values())

    def __len__(self) -> int:
        return len(self._diagnostics)

    def ordered(self) -> list[Diagnostic]:
        """Sorted by file (in the order of first report), then by offset; those without a span last."""
        files: dict[str, int] = {}
        for diagnostic in self:
            if diagnostic.span:
                files.setdefault(diagnostic.span.source.name, len(files))
        return sorted(self, key=lambda d: (files[d.span.source.name], d.span.start) if d.span else (len(files), 0))
