"""A session with a real client over stdio: open, break, fix, complete, hover, rename, format, code action."""

from __future__ import annotations

from pathlib import Path

from lsprotocol import types as lsp

from tests.conftest import ALPACA
from tests.lsp.client import Editor, edited, marked, session

RECIPE = """\
hardware { gpu = none, count = 1 }

let width = 8

## The base model.
sft {
  model    = hf("Qwen/Qwen3-0.6B")
  data     = file("rows.jsonl")
  duration = 1 epoch
  lora     { rank = width, alpha = 2 * rank }
}
"""


def at(text: str, word: str, shift: int = 0) -> lsp.Position:
    return marked(text[: text.index(word) + shift] + "⌖" + text[text.index(word) + shift :])[1]


def test_open_break_fix_complete_hover_rename_format(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    before = {path.name for path in tmp_path.iterdir()}

    async def body(editor: Editor, folder: Path) -> None:
        uri = editor.open(folder / "recipe.ft", RECIPE)
        document = lsp.TextDocumentIdentifier(uri)
        assert not [d for d in await editor.problems(uri) if d.severity == lsp.DiagnosticSeverity.Error]

        broken = RECIPE.replace("rank = width", "rnak = width")
        editor.type(uri, broken, 2)
        (problem,) = [d for d in await editor.problems(uri, 2, "FT001") if d.code == "FT001"]
        assert problem.range == lsp.Range(at(broken, "rnak"), at(broken, "rnak", 4))
        actions = await editor.text_document_code_action_async(
            lsp.CodeActionParams(document, problem.range, lsp.CodeActionContext([problem]))
        )
        (action,) = actions or []
        assert isinstance(action, lsp.CodeAction) and action.edit and action.edit.changes
        mended = edited(broken, list(action.edit.changes[uri]))
        assert mended == RECIPE
        editor.type(uri, mended, 3)
        assert not [d for d in await editor.problems(uri, 3) if d.severity == lsp.DiagnosticSeverity.Error]

        typed, place = marked(RECIPE.replace("  lora     {", "  op⌖\n  lora {"))
        editor.type(uri, typed, 4)
        completion = await editor.text_document_completion_async(lsp.CompletionParams(document, place))
        assert isinstance(completion, lsp.CompletionList)
        assert "optim" in [item.label for item in completion.items]

        editor.type(uri, RECIPE, 5)
        hover = await editor.text_document_hover_async(lsp.HoverParams(document, at(RECIPE, "rank")))
        assert hover and isinstance(hover.contents, lsp.MarkupContent)
        assert "lora_rank" in hover.contents.value and "a whole number" in hover.contents.value
        assert "value: `8`" in hover.contents.value

        change = await editor.text_document_rename_async(lsp.RenameParams(document, at(RECIPE, "width"), "narrow"))
        assert change and change.changes
        renamed = edited(RECIPE, list(change.changes[uri]))
        assert renamed == RECIPE.replace("width", "narrow")

        loose = RECIPE.replace("  model    =", "  model =")
        editor.type(uri, loose, 6)
        edits = await editor.text_document_formatting_async(
            lsp.DocumentFormattingParams(document, lsp.FormattingOptions(2, True))
        )
        assert edited(loose, list(edits or [])) == RECIPE

    session(body, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == before
