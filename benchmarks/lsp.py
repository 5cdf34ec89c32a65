"""A keystroke in the language server, over stdio by a real client: until the diagnostics of the new text are there, and what an
editor asks for beside them. Aims: 50 ms in a recipe of 80 lines, 300 ms in one of 10,000.

Of the long recipe the first diagnostics after a keystroke are those of the syntax, with what the last check reported of the
parts that have not changed; the whole check follows when the author pauses, and is measured apart.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from lsprotocol import types as lsp

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.large_recipe import recipe, STAGE  # noqa: E402, I001
from tests.lsp.client import Editor  # noqa: E402

TIMES = 20


def short() -> str:
    """A recipe of 80 lines."""
    head = 'name = "short"\nhardware { gpu = none, count = 1 }\nlet m = hf("Qwen/Qwen3-8B")\n'
    return head + "".join(STAGE.format(n=n, epochs=n + 1, rank=8) for n in range(6))


def table(name: str, spent: dict[str, list[float]]) -> None:
    for what, seconds in spent.items():
        milliseconds = sorted(1000 * one for one in seconds)
        worst = milliseconds[-1]
        print(f"{name:16} {what:20} {statistics.median(milliseconds):8.1f} {milliseconds[0]:8.1f} {worst:8.1f}")


async def measure(editor: Editor, folder: Path, name: str, text: str, times: int) -> None:
    uri = editor.open(folder / f"{name}.ft", text)
    document = lsp.TextDocumentIdentifier(uri)
    await whole(editor, uri, 1)
    spent: dict[str, list[float]] = {}
    middle = text.index("rank     =" if "rank     =" in text else "rank =", len(text) // 2)
    place = lsp.Position(text.count("\n", 0, middle), 14)
    requests = {
        "completion": lambda: editor.text_document_completion_async(lsp.CompletionParams(document, place)),
        "hover": lambda: editor.text_document_hover_async(lsp.HoverParams(document, place)),
        "semantic tokens": lambda: editor.text_document_semantic_tokens_range_async(
            lsp.SemanticTokensRangeParams(document, lsp.Range(lsp.Position(place.line - 30, 0), lsp.Position(place.line + 30, 0)))
        ),
        "outline": lambda: editor.text_document_document_symbol_async(lsp.DocumentSymbolParams(document)),
    }  # fmt: skip
    version = 1
    before = processor_time(editor)
    for number in range(times):
        version += 1
        editor.type(uri, text[:middle] + "y" * (number % 2 + 1) + text[middle:], version)
        await editor.problems(uri, version)
    print(f"{name:16} {'keystroke, CPU':20} {1000 * (processor_time(editor) - before) / times:8.1f}")
    for number in range(times):
        version += 1
        typed = text[:middle] + "x" * (number % 2 + 1) + text[middle:]
        start = time.perf_counter()
        editor.type(uri, typed, version)
        await editor.problems(uri, version)
        spent.setdefault("keystroke", []).append(time.perf_counter() - start)
        for what, request in requests.items():
            start = time.perf_counter()
            await request()
            spent.setdefault(what, []).append(time.perf_counter() - start)
    start = time.perf_counter()
    editor.type(uri, text, version + 1)
    await whole(editor, uri, version + 1)
    spent["keystroke to a check"] = [time.perf_counter() - start]
    table(name, spent)


def processor_time(editor: Editor) -> float:
    """CPU seconds of the server so far (Linux): what a keystroke takes, however busy the machine is."""
    assert editor._server is not None
    fields = Path(f"/proc/{editor._server.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def whole(editor: Editor, uri: str, version: int) -> None:
    """Wait for the diagnostics of the whole check, which knows more than syntax, and is the last to come."""
    await editor.problems(uri, version)
    while True:
        editor.arrived.clear()
        try:
            await asyncio.wait_for(editor.arrived.wait(), 0.6)
        except TimeoutError:
            hint = lsp.InlayHintParams(
                lsp.TextDocumentIdentifier(uri), lsp.Range(lsp.Position(0, 0), lsp.Position(20, 0))
            )
            if await editor.text_document_inlay_hint_async(hint):
                return


async def session() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        editor = Editor()
        start = time.perf_counter()
        await editor.start(folder)
        print(f"start: {1000 * (time.perf_counter() - start):.0f} ms")
        print(f"{'recipe':16} {'':20} {'median':>8} {'best':>8} {'worst':>8}  (ms)")
        await measure(editor, folder, "80-lines", short(), TIMES)
        await measure(editor, folder, "10000-lines", recipe(), TIMES)
        await editor.end()


if __name__ == "__main__":
    asyncio.run(session())
