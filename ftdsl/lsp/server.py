"""The server: LSP messages in, answers of the other modules out. Checks run in one thread beside it, the newest text first.

No handler raises: what fails is logged in the editor, and the request is answered with nothing.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from ftdsl import __version__
from ftdsl.lsp import complete, configuration, hints, hover, names, report, structure
from ftdsl.lsp.document import CONFIGURATIONS, Document, Result, SupersededError, check, warm_up
from ftdsl.lsp.report import range_of
from ftdsl.session import resolved
from ftdsl.source import Span

SLOW = 0.15
"""Seconds: a recipe whose check takes longer is checked when the author pauses; until then its syntax is."""
LARGE = 40_000
"""Characters of a text of which, when it is opened, the syntax is reported before the first check ends."""
PAUSE = 0.4
"""Seconds without a keystroke after which a slow check begins, or as long as the last one took."""
LONGEST_PAUSE = 2.0
WAIT = 2.0
"""Seconds that requests which need a check wait for the one that runs."""


class Server(LanguageServer):
    """The state: open documents, the check that is waited for, and where diagnostics were published."""

    def __init__(self) -> None:
        super().__init__("ftdsl", __version__, text_document_sync_kind=lsp.TextDocumentSyncKind.Full)
        self.documents: dict[str, Document] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.published: dict[str, set[str]] = {}
        self.commands: list[str] = []
        self.worker = ThreadPoolExecutor(1, "ftdsl-check")

    def document(self, uri: str) -> Document | None:
        return self.documents.get(uri)

    def texts(self) -> dict[Path, str]:
        return {document.path: document.text for document in self.documents.values()}

    def refresh(self, document: Document) -> None:
        """Tell a document of the others."""
        document.unsaved = self.texts()
        document.uris = {other.path.as_posix(): other.uri for other in self.documents.values()}

    def schedule(self, document: Document) -> None:
        """Check a document; an earlier check of it that has not begun is dropped."""
        if (task := self.tasks.get(document.uri)) is not None:
            task.cancel()
        self.tasks[document.uri] = asyncio.get_running_loop().create_task(self._check(document))

    async def _check(self, document: Document) -> None:
        if document.result is None and len(document.text) > LARGE:
            self.publish(document.uri, report.quick(document), document.version)
        elif document.result is not None and document.result.seconds > SLOW:
            self.publish(document.uri, report.quick(document), document.version)
            await asyncio.sleep(min(max(PAUSE, document.result.seconds), LONGEST_PAUSE))
        version = document.version
        arguments = (document.path, document.text, version, document.parts, self.texts(),
                     lambda: document.version != version)  # fmt: skip
        try:
            result = await asyncio.get_running_loop().run_in_executor(self.worker, functools.partial(check, *arguments))
        except SupersededError:
            return
        except Exception:
            self.failed("check", traceback.format_exc())
            return
        if document.version == version and self.documents.get(document.uri) is document:
            document.result = result
            self._report(document, result)
            self._refresh()

    def _report(self, document: Document, result: Result) -> None:
        by_uri = report.full(document, result)
        others = {uri for uri in by_uri if uri != document.uri and uri not in self.documents}
        for uri in self.published.get(document.uri, set()) - others:
            self.publish(uri, [], None)
        self.published[document.uri] = others
        for uri in (document.uri, *sorted(others)):
            self.publish(uri, by_uri[uri], document.version if uri == document.uri else None)

    def publish(self, uri: str, diagnostics: list[lsp.Diagnostic], version: int | None) -> None:
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, diagnostics, version))

    def _refresh(self) -> None:
        """Hints depend on the check, which may end after they were asked for."""
        workspace = self.client_capabilities.workspace
        if workspace and workspace.inlay_hint and workspace.inlay_hint.refresh_support:
            self.workspace_inlay_hint_refresh(None)

    async def checked(self, document: Document) -> None:
        """Wait for the check of the text as it is, if it does not take long."""
        task = self.tasks.get(document.uri)
        slow = document.result is not None and document.result.seconds > SLOW
        if task is not None and document.current is None and not slow:
            await asyncio.wait([task], timeout=WAIT)

    def failed(self, what: str, text: str) -> None:
        self.window_log_message(lsp.LogMessageParams(lsp.MessageType.Error, f"ftc lsp: {what}: {text}"))


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A handler that never raises: the editor gets nothing, and its log the reason. pygls knows a server by the name `ls`."""
    if asyncio.iscoroutinefunction(function):

        async def waits(ls: Server, parameters: Any) -> Any:
            try:
                return await function(ls, parameters)
            except JsonRpcInvalidParams:
                raise
            except Exception:
                ls.failed(function.__name__, traceback.format_exc())
                return None

        return waits

    def answers(ls: Server, parameters: Any) -> Any:
        try:
            return function(ls, parameters)
        except JsonRpcInvalidParams:
            raise
        except Exception:
            ls.failed(function.__name__, traceback.format_exc())
            return None

    return answers


def create() -> Server:
    """The server with all of its handlers."""
    server = Server()
    for name, (options, handler) in HANDLERS.items():
        server.feature(name, options)(guarded(handler))
    return server


def serve(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Serve until the client ends it."""
    gc.enable()
    sys.setrecursionlimit(20_000)
    sys.setswitchinterval(0.001)  # a check in its thread gives way to an answer
    threading.stack_size(64 << 20)
    create().start_io(stdin, stdout)


# --- documents


def _initialized(server: Server, parameters: lsp.InitializeParams) -> None:
    options = parameters.initialization_options
    commands = options.get("commands") if isinstance(options, dict) else getattr(options, "commands", None)
    server.commands = [str(command) for command in commands or ()]
    server.worker.submit(warm_up)


async def _opened(server: Server, parameters: lsp.DidOpenTextDocumentParams) -> None:
    item = parameters.text_document
    path = to_fs_path(item.uri)
    if path is None or not path.endswith((".ft", *CONFIGURATIONS)):
        path = "untitled.ft" if item.language_id == "ft" else path
        if path is None or not path.endswith(".ft"):
            return
    encoding = server.workspace.position_encoding
    document = Document(item.uri, Path(path), item.version, item.text, str(getattr(encoding, "value", encoding)))
    server.documents[item.uri] = document
    server.refresh(document)
    server.schedule(document)
    _others(server, document)


async def _changed(server: Server, parameters: lsp.DidChangeTextDocumentParams) -> None:
    document = server.document(parameters.text_document.uri)
    if document is None:
        return
    for change in parameters.content_changes:
        document.change(parameters.text_document.version, change.text)
    server.refresh(document)
    server.schedule(document)
    _others(server, document)


def _others(server: Server, document: Document) -> None:
    """Check the open recipes that include a document."""
    changed = resolved(document.path)
    for other in server.documents.values():
        checked = other.result.checked if other.result is not None else None
        if other is not document and checked is not None and checked.resolved is not None:
            files = {resolved(path) for module in checked.resolved.module.everywhere() for path in module.files}
            if changed in files:
                server.refresh(other)
                server.schedule(other)


async def _saved(server: Server, parameters: lsp.DidSaveTextDocumentParams) -> None:
    """Other documents may include the one that was saved."""
    for document in server.documents.values():
        server.refresh(document)
        server.schedule(document)


async def _closed(server: Server, parameters: lsp.DidCloseTextDocumentParams) -> None:
    uri = parameters.text_document.uri
    document = server.documents.pop(uri, None)
    if document is None:
        return
    _others(server, document)
    if (task := server.tasks.pop(uri, None)) is not None:
        task.cancel()
    for other in (uri, *server.published.pop(uri, ())):
        server.publish(other, [], None)


async def _watched(server: Server, parameters: lsp.DidChangeWatchedFilesParams) -> None:
    for document in server.documents.values():
        server.schedule(document)


# --- requests


def _at(server: Server, parameters: Any) -> tuple[Document, int] | None:
    document = server.document(parameters.text_document.uri)
    return (document, document.lines.offset(parameters.position)) if document is not None else None


async def _hover(server: Server, parameters: lsp.HoverParams) -> lsp.Hover | None:
    if (here := _at(server, parameters)) is None:
        return None
    if not here[0].is_recipe:
        return configuration.hover(*here)
    await server.checked(here[0])
    return hover.hover(*here)


def _completion(server: Server, parameters: lsp.CompletionParams) -> lsp.CompletionList | None:
    if (here := _at(server, parameters)) is None:
        return None
    if not here[0].is_recipe:
        return lsp.CompletionList(False, configuration.complete(*here))
    items, more = complete.complete(*here)
    return lsp.CompletionList(more, items)


async def _formatting(server: Server, parameters: lsp.DocumentFormattingParams) -> list[lsp.TextEdit] | None:
    from ftdsl.language.format import format_text
    from ftdsl.source import Source

    document = server.document(parameters.text_document.uri)
    if document is None or not document.is_recipe:
        return None
    text = format_text(Source(document.path.as_posix(), document.text))
    return None if text is None or text == document.text else report.whole(document, text)


async def _code_action(server: Server, parameters: lsp.CodeActionParams) -> list[lsp.CodeAction] | None:
    document = server.document(parameters.text_document.uri)
    if document is None:
        return None
    await server.checked(document)
    return report.actions(document, parameters.range, parameters.context.only)


def _location(span: Span, document: Document) -> lsp.Location:
    return lsp.Location(document.uri_of(span.source.name), range_of(span, document, {}))


def _recipe_at(server: Server, parameters: Any) -> tuple[Document, int] | None:
    here = _at(server, parameters)
    if here is None or not here[0].is_recipe:
        return None
    server.refresh(here[0])
    return here


def _definition(server: Server, parameters: lsp.DefinitionParams) -> lsp.Location | None:
    if (here := _recipe_at(server, parameters)) is None:
        return None
    span = names.definition(*here)
    return _location(span, here[0]) if span is not None else None


def _references(server: Server, parameters: lsp.ReferenceParams) -> list[lsp.Location] | None:
    if (here := _recipe_at(server, parameters)) is None:
        return None
    spans = names.references(*here, declaration=parameters.context.include_declaration)
    return [_location(span, here[0]) for span in spans]


def _highlight(server: Server, parameters: lsp.DocumentHighlightParams) -> list[lsp.DocumentHighlight] | None:
    if (here := _recipe_at(server, parameters)) is None:
        return None
    if here[0].current is None and here[0].result is not None and here[0].result.seconds > SLOW:
        return None  # asked for at every move of the cursor
    own = here[0].path.as_posix()
    spans = [span for span in names.references(*here) if span.source.name == own]
    return [lsp.DocumentHighlight(range_of(span, here[0], {})) for span in spans]


def _prepare_rename(server: Server, parameters: lsp.PrepareRenameParams) -> lsp.Range | None:
    if (here := _recipe_at(server, parameters)) is None:
        return None
    try:
        return range_of(names.renamable(*here), here[0], {})
    except names.RenameError as error:
        raise JsonRpcInvalidParams(message=str(error)) from None


def _rename(server: Server, parameters: lsp.RenameParams) -> lsp.WorkspaceEdit | None:
    if (here := _recipe_at(server, parameters)) is None:
        return None
    document = here[0]
    try:
        edits = names.rename(*here, parameters.new_name)
    except names.RenameError as error:
        raise JsonRpcInvalidParams(message=str(error)) from None
    changes: dict[str, list[lsp.TextEdit]] = {}
    for replacements in edits.values():
        for span, text in replacements:
            location = _location(span, document)
            changes.setdefault(location.uri, []).append(lsp.TextEdit(location.range, text))
    return lsp.WorkspaceEdit(changes=changes)


async def _inlay_hints(server: Server, parameters: lsp.InlayHintParams) -> list[lsp.InlayHint] | None:
    document = _recipe(server, parameters)
    if document is None:
        return None
    await server.checked(document)
    if document.current is None:
        return None
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(server.worker, hints.inlay_hints, document, parameters.range)


def _recipe(server: Server, parameters: Any) -> Document | None:
    document = server.document(parameters.text_document.uri)
    return document if document is not None and document.is_recipe else None


def _code_lenses(server: Server, parameters: lsp.CodeLensParams) -> list[lsp.CodeLens] | None:
    document = _recipe(server, parameters)
    return hints.code_lenses(document, server.commands) if document is not None else None


def _symbols(server: Server, parameters: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol] | None:
    document = _recipe(server, parameters)
    return structure.symbols(document) if document is not None else None


def _folds(server: Server, parameters: lsp.FoldingRangeParams) -> list[lsp.FoldingRange] | None:
    document = _recipe(server, parameters)
    return structure.folds(document) if document is not None else None


def _tokens(server: Server, parameters: lsp.SemanticTokensParams) -> lsp.SemanticTokens | None:
    document = _recipe(server, parameters)
    return lsp.SemanticTokens(structure.semantic_tokens(document)) if document is not None else None


def _tokens_of_range(server: Server, parameters: lsp.SemanticTokensRangeParams) -> lsp.SemanticTokens | None:
    document = _recipe(server, parameters)
    if document is None:
        return None
    lines = parameters.range
    return lsp.SemanticTokens(structure.semantic_tokens(document, lines.start.line, lines.end.line))


Handler = Callable[[Server, Any], Any] | Callable[[Server, Any], Coroutine[Any, Any, Any]]

_LEGEND = lsp.SemanticTokensLegend(list(structure.TYPES), list(structure.MODIFIERS))
HANDLERS: dict[str, tuple[Any, Handler]] = {
    lsp.INITIALIZE: (None, _initialized),
    lsp.TEXT_DOCUMENT_DID_OPEN: (None, _opened),
    lsp.TEXT_DOCUMENT_DID_CHANGE: (None, _changed),
    lsp.TEXT_DOCUMENT_DID_SAVE: (None, _saved),
    lsp.TEXT_DOCUMENT_DID_CLOSE: (None, _closed),
    lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES: (None, _watched),
    lsp.TEXT_DOCUMENT_HOVER: (None, _hover),
    lsp.TEXT_DOCUMENT_COMPLETION: (
        lsp.CompletionOptions(trigger_characters=[".", "(", '"', "/", "=", "{"]),
        _completion,
    ),
    lsp.TEXT_DOCUMENT_FORMATTING: (None, _formatting),
    lsp.TEXT_DOCUMENT_CODE_ACTION: (
        lsp.CodeActionOptions(code_action_kinds=[lsp.CodeActionKind.QuickFix, lsp.CodeActionKind.SourceFixAll]),
        _code_action,
    ),
    lsp.TEXT_DOCUMENT_DEFINITION: (None, _definition),
    lsp.TEXT_DOCUMENT_REFERENCES: (None, _references),
    lsp.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT: (None, _highlight),
    lsp.TEXT_DOCUMENT_PREPARE_RENAME: (None, _prepare_rename),
    lsp.TEXT_DOCUMENT_RENAME: (lsp.RenameOptions(prepare_provider=True), _rename),
    lsp.TEXT_DOCUMENT_INLAY_HINT: (None, _inlay_hints),
    lsp.TEXT_DOCUMENT_CODE_LENS: (None, _code_lenses),
    lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL: (None, _symbols),
    lsp.TEXT_DOCUMENT_FOLDING_RANGE: (None, _folds),
    lsp.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL: (_LEGEND, _tokens),
    lsp.TEXT_DOCUMENT_SEMANTIC_TOKENS_RANGE: (_LEGEND, _tokens_of_range),
}
