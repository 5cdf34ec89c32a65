"""A real client (pygls') that talks to `ftc lsp` over stdio, for tests that name a place in a text by a mark."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient

MARK = "⌖"
"""Where the cursor is in a text of a test."""


class Editor(LanguageClient):
    """Keeps the newest diagnostics of each document, and the server's log."""

    def __init__(self) -> None:
        super().__init__("tests", "1")
        self.diagnostics: dict[str, lsp.PublishDiagnosticsParams] = {}
        self.log: list[str] = []
        self.arrived = asyncio.Event()
        self.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)(partial(Editor._publish, self))
        self.feature(lsp.WINDOW_LOG_MESSAGE)(partial(Editor._logged, self))

    def _publish(self, parameters: lsp.PublishDiagnosticsParams) -> None:
        self.diagnostics[parameters.uri] = parameters
        self.arrived.set()

    def _logged(self, parameters: lsp.LogMessageParams) -> None:
        self.log.append(parameters.message)

    async def start(self, folder: Path, **options: Any) -> lsp.InitializeResult:
        await self.start_io(sys.executable, "-m", "ftdsl.cli.main", "lsp", "--stdio", cwd=folder)
        capabilities = options.pop("capabilities", None) or lsp.ClientCapabilities()
        result = await self.initialize_async(
            lsp.InitializeParams(capabilities, process_id=None, root_uri=folder.as_uri(), **options)
        )
        self.initialized(lsp.InitializedParams())
        return result

    def open(self, path: Path, text: str, version: int = 1, language: str = "ft") -> str:
        uri = path.as_uri()
        self.text_document_did_open(lsp.DidOpenTextDocumentParams(lsp.TextDocumentItem(uri, language, version, text)))
        return uri

    def type(self, uri: str, text: str, version: int) -> None:
        change = lsp.TextDocumentContentChangeWholeDocument(text)
        self.text_document_did_change(
            lsp.DidChangeTextDocumentParams(lsp.VersionedTextDocumentIdentifier(version, uri), [change])
        )

    async def problems(self, uri: str, version: int = 1, code: str = "") -> list[lsp.Diagnostic]:
        """The diagnostics of that version, or of a later one; the first that hold a code, if one is given."""
        async with asyncio.timeout(60):
            while True:
                known = self.diagnostics.get(uri)
                current = known.diagnostics if known is not None and (known.version or 0) >= version else None
                if current is not None and (not code or any(diagnostic.code == code for diagnostic in current)):
                    return list(current)
                self.arrived.clear()
                await self.arrived.wait()

    async def end(self) -> int | None:
        await self.shutdown_async(None)
        self.exit(None)
        async with asyncio.timeout(30):
            assert self._server is not None
            await self._server.wait()
        status = self._server.returncode
        await self.stop()
        return status


Session = Callable[[Editor, Path], Coroutine[Any, Any, None]]


def session(body: Session, folder: Path, **options: Any) -> Editor:
    """Run a session from the handshake to the exit; the server logs no failure and ends well."""
    editor: list[Editor] = []

    async def whole() -> None:
        client = Editor()
        editor.append(client)
        await client.start(folder, **options)
        try:
            await body(client, folder)
        finally:
            status = await client.end()
        assert status == 0

    asyncio.run(whole())
    assert not editor[0].log, editor[0].log
    return editor[0]


def marked(text: str) -> tuple[str, lsp.Position]:
    """The text without its mark, and where that was (in UTF-16)."""
    before, mark, after = text.partition(MARK)
    assert mark
    line = before.count("\n")
    return before + after, lsp.Position(line, len(before.rpartition("\n")[2].encode("utf-16-le")) // 2)


def edited(text: str, edits: list[lsp.TextEdit]) -> str:
    """The text after edits, as an editor applies them."""
    lines = text.split("\n")
    starts = [sum(len(line) + 1 for line in lines[:number]) for number in range(len(lines) + 1)]

    def offset(place: lsp.Position) -> int:
        if place.line >= len(lines):
            return len(text)
        units = lines[place.line].encode("utf-16-le")[: 2 * place.character]
        return starts[place.line] + len(units.decode("utf-16-le"))

    for edit in sorted(edits, key=lambda edit: offset(edit.range.start), reverse=True):
        text = text[: offset(edit.range.start)] + edit.new_text + text[offset(edit.range.end) :]
    return text
