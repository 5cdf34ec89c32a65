"""The server as a process: encodings, several documents, odd requests. It answers, it lives, it writes nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from lsprotocol import types as lsp

from tests.conftest import ALPACA
from tests.lsp.client import Editor, marked, session

RECIPE = """\
hardware { gpu = none, count = 1 }
let größe = 8
sft { # 😀
  model = hf("Qwen/Qwen3-0.6B"), data = file("rows.jsonl"), duration = 1 epoch, to = "é😀", lora { rnak = 8 }
}
"""
UNITS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}


@pytest.mark.parametrize("encoding", UNITS)
@pytest.mark.slow
def test_columns_are_in_the_encoding_that_was_negotiated(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    text = RECIPE.replace("let größe = 8\n", "")
    before = next(line for line in text.split("\n") if "rnak" in line).partition("rnak")[0]
    codec, size = UNITS[encoding]
    general = lsp.GeneralClientCapabilities(position_encodings=[lsp.PositionEncodingKind(encoding)])

    async def body(editor: Editor, folder: Path) -> None:
        uri = editor.open(folder / "r.ft", text)
        (problem,) = [one for one in await editor.problems(uri, 1, "FT001") if one.code == "FT001"]
        assert problem.range.start.character == len(before.encode(codec)) // size

    session(body, tmp_path, capabilities=lsp.ClientCapabilities(general=general))


@pytest.mark.slow
def test_documents_that_include_each_other(tmp_path: Path) -> None:
    """Unsaved text of an include counts, and what is wrong in it is shown there."""
    (tmp_path / "common.ft").write_text("let width = 8\n", encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    text = (
        'include "common.ft"\nhardware { gpu = none, count = 1 }\nsft { model = hf("Qwen/Qwen3-0.6B"), '
        'data = file("rows.jsonl"), duration = 1 epoch, lora { rank = width } }\n'
    )

    async def body(editor: Editor, folder: Path) -> None:
        recipe = editor.open(folder / "r.ft", text)
        assert not [one for one in await editor.problems(recipe) if "width" in one.message]
        common = editor.open(folder / "common.ft", "let broad = 8\n")
        while not [one for one in await editor.problems(recipe) if "width" in one.message]:
            await asyncio.sleep(0.02)
        editor.type(common, "let width = 8\nlet = 3\n", 2)
        while [one for one in await editor.problems(recipe) if "width" in one.message]:
            await asyncio.sleep(0.02)
        assert [one for one in await editor.problems(common, 2) if one.range.start.line == 1]
        editor.text_document_did_close(lsp.DidCloseTextDocumentParams(lsp.TextDocumentIdentifier(common)))
        editor.text_document_did_close(lsp.DidCloseTextDocumentParams(lsp.TextDocumentIdentifier(recipe)))
        while editor.diagnostics[recipe].diagnostics or editor.diagnostics[common].diagnostics:
            await asyncio.sleep(0.02)

    session(body, tmp_path)


@pytest.mark.slow
def test_a_rename_names_open_files_as_the_editor_does(tmp_path: Path) -> None:
    """An editor may write a URI otherwise than Python: two names for one file would be two documents."""
    folder = tmp_path / "a b"
    (folder / "sub").mkdir(parents=True)
    (folder / "common.ft").write_text("let width = 8\n", encoding="utf-8")
    text, place = marked('include "../common.ft"\nlet broad = wi⌖dth\n')

    async def body(editor: Editor, _: Path) -> None:
        common = (folder / "common.ft").as_uri().replace("a%20b", "%61%20b")
        item = lsp.TextDocumentItem(common, "ft", 1, "let width = 8\n")
        editor.text_document_did_open(lsp.DidOpenTextDocumentParams(item))
        uri = editor.open(folder / "sub" / "r.ft", text)
        for _attempt in range(2):
            document = lsp.TextDocumentIdentifier(uri)
            change = await editor.text_document_rename_async(lsp.RenameParams(document, place, "narrow"))
            assert change and change.changes
            assert set(change.changes) == {uri, common}
            await editor.problems(uri)
        where = await editor.text_document_definition_async(lsp.DefinitionParams(document, place))
        assert isinstance(where, lsp.Location)
        assert where.uri == common

    session(body, tmp_path)


ODD = {
    "nothing": "",
    "open braces": "sft {\n" * 300,
    "open brackets": "let a = " + "[" * 3000,
    "strings": '"""' * 7 + "'" * 5,
    "controls": "\x00\x01\x7f\u2028\u202e\ud7ff sft { lora { rank = \x00 } }",
    "carriage returns": "sft {\r\n  lora { rnak = 1 }\r}\r\n",
    "a cycle": "let a = b\nlet b = a\nsft { lora { rank = a } }\n",
    "stages that wait": "sft x from y { }\nsft y from x { }\n",
    "a long line": "let a = [" + "1, " * 2_000 + "]\n",
    "a very long line": "let a = [" + "1, " * 20_000 + "]\n",
    "dots": "a.b.c.d.\nsft.optim.\nprofile p { sft.optim.",
    "no recipe": "model_name_or_path: x\n- - -\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ODD)
def test_no_text_ends_the_server(case: str, tmp_path: Path) -> None:
    text = ODD[case]
    before = set(tmp_path.rglob("*"))

    async def body(editor: Editor, folder: Path) -> None:
        uri = editor.open(folder / "r.ft", text)
        await everything(editor, uri, text)
        assert await editor.problems(uri) is not None

    session(body, tmp_path)
    assert set(tmp_path.rglob("*")) == before


async def everything(editor: Editor, uri: str, text: str) -> None:
    """Every request at some places, also at places that are not there. What is refused is refused in words."""
    document = lsp.TextDocumentIdentifier(uri)
    last = text.count("\n")
    whole = lsp.Range(lsp.Position(0, 0), lsp.Position(last + 9, 9))
    places = [lsp.Position(line, column) for line in (0, last // 2, last, last + 5) for column in (0, 3, 9, 10**6)]
    await editor.text_document_semantic_tokens_full_async(lsp.SemanticTokensParams(document))
    await editor.text_document_semantic_tokens_range_async(lsp.SemanticTokensRangeParams(document, whole))
    await editor.text_document_document_symbol_async(lsp.DocumentSymbolParams(document))
    await editor.text_document_folding_range_async(lsp.FoldingRangeParams(document))
    await editor.text_document_inlay_hint_async(lsp.InlayHintParams(document, whole))
    await editor.text_document_code_lens_async(lsp.CodeLensParams(document))
    await editor.text_document_formatting_async(lsp.DocumentFormattingParams(document, lsp.FormattingOptions(2, True)))
    await editor.text_document_code_action_async(lsp.CodeActionParams(document, whole, lsp.CodeActionContext([])))
    for place in places:
        await editor.text_document_hover_async(lsp.HoverParams(document, place))
        await editor.text_document_completion_async(lsp.CompletionParams(document, place))
    for place in places[:6]:
        await editor.text_document_definition_async(lsp.DefinitionParams(document, place))
        await editor.text_document_references_async(lsp.ReferenceParams(lsp.ReferenceContext(True), document, place))
        await editor.text_document_document_highlight_async(lsp.DocumentHighlightParams(document, place))
        with pytest.raises(Exception, match=r"only names|cannot be a name|declared already|would mean") as refused:
            answer = await editor.text_document_rename_async(lsp.RenameParams(document, place, "z"))
            assert answer is None or answer.changes is not None
            raise ValueError("only names: it was none")
        assert "Traceback" not in str(refused.value)


@pytest.mark.slow
def test_requests_for_documents_that_are_not_open(tmp_path: Path) -> None:
    async def body(editor: Editor, folder: Path) -> None:
        document = lsp.TextDocumentIdentifier((folder / "x.ft").as_uri())
        place = lsp.Position(0, 0)
        assert await editor.text_document_hover_async(lsp.HoverParams(document, place)) is None
        assert await editor.text_document_completion_async(lsp.CompletionParams(document, place)) is None
        assert await editor.text_document_rename_async(lsp.RenameParams(document, place, "z")) is None
        editor.text_document_did_close(lsp.DidCloseTextDocumentParams(document))
        editor.type(document.uri, "sft { }", 2)
        uri = editor.open(folder / "notes.txt", "lora", language="plaintext")
        assert await editor.text_document_hover_async(lsp.HoverParams(lsp.TextDocumentIdentifier(uri), place)) is None

    session(body, tmp_path)


@pytest.mark.slow
def test_yaml_of_the_engine(tmp_path: Path) -> None:
    text, place = marked(
        "model_name_or_path: a/b\nstage: sft\ndo_train: true\ndataset: x\ntemplate: qwen3\nlora_rnak: 8\nlora_al⌖\n"
    )

    async def body(editor: Editor, folder: Path) -> None:
        uri = editor.open(folder / "train.yaml", text.replace("lora_al\n", ""), language="yaml")
        problems = await editor.problems(uri)
        assert any("lora_rnak" in one.message for one in problems)
        editor.type(uri, text, 2)
        answer = await editor.text_document_completion_async(
            lsp.CompletionParams(lsp.TextDocumentIdentifier(uri), place)
        )
        assert isinstance(answer, lsp.CompletionList)
        assert "lora_alpha" in [item.label for item in answer.items]
        other = editor.open(folder / "ci.yaml", "name: ci\non: [push]\n", language="yaml")
        assert await editor.problems(other) == []

    session(body, tmp_path)


def test_a_failure_in_a_handler_is_logged_and_the_server_goes_on(tmp_path: Path) -> None:
    from ftdsl.lsp import hover, server

    logged: list[str] = []

    class Loud(server.Server):
        def failed(self, what: str, text: str) -> None:
            logged.append(text)

    def broken(*_: object) -> None:
        raise RecursionError("deep")

    own = Loud()
    assert server.guarded(broken)(own, None) is None
    assert "RecursionError: deep" in logged[0]
    assert hover is not None
    own.worker.shutdown()


@pytest.mark.parametrize(("verb", "package"), [("lsp", "pygls"), ("mcp", "mcp")])
def test_without_the_package_it_says_what_to_install(verb: str, package: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from ftdsl.cli.main import main; sys.exit(main([{verb!r}]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"pip install 'ftdsl[{verb}]'" in done.stderr
    assert "Traceback" not in done.stderr
