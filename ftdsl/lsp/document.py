"""A document of the editor: its text, its parts, and the result of the last check of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ftdsl.diagnostics import Diagnostic, Severity, Sink
from ftdsl.language import tree
from ftdsl.language.resolve import keys as key_paths
from ftdsl.language.resolve.resolve import Options
from ftdsl.lsp.parts import Part, Parts, items
from ftdsl.lsp.positions import Lines, normalised
from ftdsl.record import mutable
from ftdsl.session import Files, Session

if TYPE_CHECKING:
    from ftdsl.lsp.names import Use
    from ftdsl.pipeline import Checked
    from ftdsl.plan.forecast import Forecast

RECIPE = ".ft"
CONFIGURATIONS = (".yaml", ".yml", ".json")


@mutable
class Result:
    """A check. version: of the text that was checked; parts: of that text; seconds: CPU time of the check.
    messages: texts of diagnostics as they were shown, by id, since most are shown again at the next keystroke; uses: places of
    names, filled in on first use.
    """

    version: int
    parts: Parts
    diagnostics: tuple[Diagnostic, ...]
    checked: Checked | None
    seconds: float
    messages: dict[int, str] = field(default_factory=dict)
    uses: list[Use] | None = None

    @cached_property
    def forecasts(self) -> Mapping[str, Forecast]:
        """Memory and time by stage; of recipes with few stages, since it takes some milliseconds a stage."""
        if self.checked is None or self.checked.plan is None or len(self.checked.plan.stages) > MANY_STAGES:
            return {}
        from ftdsl.plan.forecast import forecasts

        return forecasts(self.checked.plan, Session())


class SupersededError(Exception):
    """There is a newer text: nobody waits for this check any more."""


class _Sink(Sink):
    """Ends a check that was superseded at its next diagnostic."""

    def __init__(self, superseded: Callable[[], bool]) -> None:
        super().__init__()
        self._superseded = superseded

    def add(self, diagnostic: Diagnostic) -> None:
        if self._superseded():
            raise SupersededError
        super().add(diagnostic)


class Document:
    """A text with a version. unsaved: the editor's texts by path; uris: the editor's names of open files, by path."""

    def __init__(self, uri: str, path: Path, version: int, text: str, encoding: str) -> None:
        self.uri = uri
        self.path = path
        self.encoding = encoding
        self.unsaved: Mapping[Path, str] = {}
        self.uris: Mapping[str, str] = {}
        self.result: Result | None = None
        self.parts = Parts("", path.as_posix())
        self.change(version, text)

    @property
    def is_recipe(self) -> bool:
        return self.path.suffix == RECIPE

    def change(self, version: int, text: str) -> None:
        self.version = version
        self.text = normalised(text)
        self.lines = Lines(self.text, self.encoding)
        if self.is_recipe:
            self.parts = Parts(self.text, self.path.as_posix(), self.parts)

    @property
    def current(self) -> Result | None:
        """The result of this very text, if it has been checked."""
        return self.result if self.result is not None and self.result.version == self.version else None

    def session_files(self) -> Files:
        return Files({**self.unsaved, self.path: self.text})

    def uri_of(self, name: str) -> str:
        """The URI of a source by its name: the editor's own where the file is open."""
        path = os.path.abspath(name)  # noqa: PTH100 (without `..`, links as they are)
        return self.uri if name == self.path.as_posix() else self.uris.get(path) or Path(path).as_uri()

    # --- what the text declares

    @property
    def stages(self) -> dict[str, str]:
        """Kinds of the stages by name: those written here, and those of files that the last check included."""
        resolved = self.result.checked.resolved if self.result and self.result.checked else None
        included = {stage.name: stage.declared.kind for stage in resolved.stages} if resolved else {}
        own = {
            (block.label or block.kind).text: block.kind.text
            for block in self.blocks()
            if key_paths.is_stage_kind(block.kind.text)
        }
        here = self.path.as_posix()
        gone = {
            stage.name
            for stage in (resolved.stages if resolved else ())
            if stage.declared.block.span.source.name == here and stage.name not in own
        }
        return {name: kind for name, kind in (included | own).items() if name not in gone}

    @property
    def profiles(self) -> list[str]:
        return [block.label.text for block in self.blocks() if block.kind.text == "profile" and block.label]

    def blocks(self) -> Iterator[tree.Block]:
        """The file's blocks; their spans count from their part."""
        for _, item in items(self.parts):
            if isinstance(item, tree.Block):
                yield item

    def declared(self) -> Iterator[tree.Let | tree.Param]:
        """Lets and parameters of this text and of what it includes."""
        seen = set()
        for _, item in items(self.parts):
            if isinstance(item, tree.Let | tree.Param):
                seen.add(item.name.text)
                yield item
        resolved = self.result.checked.resolved if self.result and self.result.checked else None
        if resolved is not None:
            included: list[tree.Let | tree.Param] = [*resolved.module.lets.values(), *resolved.module.params.values()]
            for declared in included:
                if declared.name.text not in seen and declared.span.source.name != self.path.as_posix():
                    yield declared

    # --- diagnostics

    def quick(self) -> list[tuple[int, int, Diagnostic]]:
        """Syntax errors of this text, and what the last check reported of parts that have not changed, with their offsets."""
        diagnostics: list[tuple[int, int, Diagnostic]] = []
        by_part = _by_part(self.result, self.path.as_posix()) if self.result else {}
        for start, part in self.parts:
            if part in by_part:
                diagnostics += [
                    (start + at, start + at + length, diagnostic) for at, length, diagnostic in by_part[part]
                ]
            else:
                diagnostics += [
                    (start + span.start, start + span.end, diagnostic)
                    for diagnostic in part.diagnostics
                    if (span := diagnostic.span)
                ]
        return diagnostics


def _by_part(result: Result, name: str) -> dict[Part, list[tuple[int, int, Diagnostic]]]:
    """What a check reported, by the part it is in, with its offset in that part and its length."""
    by_part: dict[Part, list[tuple[int, int, Diagnostic]]] = {part: [] for _, part in result.parts}
    for diagnostic in result.diagnostics:
        span = diagnostic.span
        if span is not None and span.source.name == name and result.parts.parts:
            start, part = result.parts.at(span.start)
            by_part[part].append((span.start - start, span.end - span.start, diagnostic))
    return by_part


def check(
    path: Path,
    text: str,
    version: int,
    parts: Parts,
    unsaved: Mapping[Path, str],
    superseded: Callable[[], bool] = lambda: False,
) -> Result:
    """Every phase over an editor's texts. Reads files, writes and starts nothing. Safe in a thread of its own.

    Raises: SupersededError.
    """
    begin = time.thread_time()  # what the check itself takes, however busy the machine is
    session = Session(Files({**unsaved, path: text}), dict(os.environ), _Sink(superseded))
    checked: Checked | None = None
    try:
        if path.suffix == RECIPE:
            from ftdsl.pipeline import check as check_recipe

            checked = check_recipe(path, Options(), session)
        else:
            _check_configuration(path, text, session)
    except RecursionError:
        session.sink.error("FT065", "this is nested too deeply to be read", None)
    except OSError as error:
        session.sink.error("FT501", f"`{error.filename or path}`: {error.strerror}", None)
    seconds = time.thread_time() - begin
    return Result(version, parts, tuple(session.sink.ordered()), checked, seconds)


def _check_configuration(path: Path, text: str, session: Session) -> None:
    """Check a YAML or JSON file of a known kind; files of other programs, with tags and templates of theirs, are left alone."""
    from ftdsl.importers import recognise
    from ftdsl.importers.checking import check as check_other
    from ftdsl.lsp.configuration import is_configuration

    kind = check_other(path, session)
    ours = kind != "a file" or is_configuration(text, path)
    if not ours and not any(diagnostic.message == recognise.V1 for diagnostic in session.sink):
        session.sink = Sink()


def warm_up() -> None:
    """Load what a check needs, so that the first one of a session is as fast as the others."""
    path = Path("warm-up.ft")
    text = "hardware { gpu = h100, count = 1 }\n"
    text += 'sft { model = hf("Qwen/Qwen3-8B"), data = hf("a/b"), duration = 1 epoch, lora {} }\n'
    check(path, text, 0, Parts(text, path.name), {})


MANY_STAGES = 20
"""Stages up to which the memory of each is worked out for hints."""

SEVERITY = {Severity.ERROR: 1, Severity.WARNING: 2, Severity.INFO: 3}
"""As the protocol numbers them."""
