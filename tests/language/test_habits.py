"""Habits from YAML, Python, shells and hubs: one message at the place, and a fix after which the recipe is sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl.diagnostics import Sink
from ftdsl.diagnostics.fixes import apply
from ftdsl.language.parser import parse
from ftdsl.source import Source
from tests.conftest import ROWS, Outcome, small

# in a stage that is fine: code, the text the span marks, what the fix writes there
STAGE = [
    ("to = out/first", "FT066", "out/first", '"out/first"'),
    ("to = ./out", "FT066", "./out", '"./out"'),
    ("to = ../out/first", "FT066", "../out/first", '"../out/first"'),
    ("to = ~/out", "FT066", "~/out", '"~/out"'),
    ("to = /tmp/out", "FT066", "/tmp/out", '"/tmp/out"'),
    ("to = out/v0.1-final", "FT066", "out/v0.1-final", '"out/v0.1-final"'),
    ("evaluate { data = file(rows.jsonl) }", "FT066", "rows.jsonl", '"rows.jsonl"'),
    ("evaluate { data = rows.jsonl }", "FT066", "rows.jsonl", 'file("rows.jsonl")'),
    ("resume = file(saves/first-try/checkpoint-500)", "FT066", "saves/first-try/checkpoint-500", None),
    ("system = You are a poet", "FT066", "You are a poet", '"You are a poet"'),
    ("system = Answer in one line, please.", "FT066", "Answer in one line, please.", '"Answer in one line, please."'),
    ("system = Be brief, seed = 3", "FT066", "Be brief", '"Be brief"'),
    ("system = Be brief, optim { lr = 1e-4 }", "FT066", "Be brief", '"Be brief"'),
    ("system = Be brief, optim { lr in [1e-4] }", "FT066", "Be brief", '"Be brief"'),
    ("system = Hello, I am from Rome, and you?", "FT066", "Hello, I am from Rome, and you?", None),
    ("system = Don't guess!", "FT066", "Don't guess!", '"Don\'t guess!"'),
    ('system = Say "no" then stop', "FT066", 'Say "no" then stop', "'Say \"no\" then stop'"),
    ("system = Hello!", "FT066", "Hello!", '"Hello!"'),
    ("system = Note: true is a word", "FT066", "Note: true is a word", None),
    ("system = Tu es poète, toi", "FT066", "Tu es poète, toi", None),
    ("system = 你是诗人。请回答。", "FT066", "你是诗人。请回答。", None),
    ("system = Read 3 books a day  # each", "FT066", "Read 3 books a day", None),
    ("evaluate { data = file(my rows.jsonl) }", "FT066", "my rows.jsonl", '"my rows.jsonl"'),
    ("to = my out/first", "FT066", "my out/first", '"my out/first"'),
    ("packing = True", "FT060", "True", "true"),
    ("packing = no", "FT060", "no", "false"),
    ("deterministic = yes", "FT060", "yes", "true"),
    ("deterministic = OFF", "FT060", "OFF", "false"),
    ('deterministic = "true"', "FT060", '"true"', "true"),
    ("neftune = None", "FT060", "None", "null"),
    ("optim { clip = None }", "FT060", "None", "none"),
    ("llamafactory { print_param_status = True }", "FT060", "True", "true"),
    ('optim { schedule = "cosine" }', "FT060", '"cosine"', "cosine"),
    ('optim { schedule = "Cosine" }', "FT002", '"Cosine"', "cosine"),
    ("optim { name = AdamW }", "FT002", "AdamW", "adamw"),
    ('optim { lr = "1e-4" }', "FT060", '"1e-4"', "1e-4"),
    ('save { every = "100 steps" }', "FT060", '"100 steps"', "100 steps"),
    ('lora { targets = "q_proj,v_proj" }', "FT060", '"q_proj,v_proj"', "[q_proj, v_proj]"),
    ("seed: 3", "FT034", ":", " ="),
    ("optim: { lr = 1e-4 }", "FT034", ":", ""),
    ("optim = { lr = 1e-4 }", "FT030", "=", None),
    ("optim:{ lr = 1e-4 }", "FT034", ":", " "),
]


@pytest.mark.parametrize(("stage", "code", "marked", "written"), STAGE, ids=[case[0] for case in STAGE])
def test_one_message_and_a_fix(
    stage: str, code: str, marked: str, written: str | None, checked: Callable[..., Outcome]
) -> None:
    text = small(stage)
    found = checked(text, ROWS).only(code)
    assert found.span is not None
    assert found.span.text == marked
    assert found.fix is not None
    if written is not None:
        assert [edit.text for edit in found.fix.edits] == [written]
    mended, _ = apply(Source(found.span.source.name, text), [found], unsafe=True)
    assert checked(mended, ROWS).codes in ([], ["FT501"], ["FT806"], ["FT059"])  # a checkpoint that is not there


FILES = [
    ("model = meta-llama/Llama-3.1-8B-Instruct", 'hf("meta-llama/Llama-3.1-8B-Instruct")'),
    ("model = Qwen/Qwen3-0.6B", 'hf("Qwen/Qwen3-0.6B")'),
    ("model = mistralai/Mixtral-8x7B-v0.1", None),
    ("model = gpt2-medium", 'hf("gpt2-medium")'),
    ("model = hf(Qwen/Qwen3-0.6B)", '"Qwen/Qwen3-0.6B"'),
    ("model = models/base.safetensors", 'file("models/base.safetensors")'),
]


@pytest.mark.parametrize(("line", "written"), FILES, ids=[line for line, _ in FILES])
def test_a_model_without_quotes(line: str, written: str | None, checked: Callable[..., Outcome]) -> None:
    found = checked(small().replace('model    = hf("Qwen/Qwen3-0.6B")', line), ROWS).only("FT066")
    assert found.fix is not None
    if written:
        assert found.fix.edits[0].text == written


@pytest.mark.parametrize(
    ("stage", "code"),
    [("packing = neat attention = sdpa", "FT037"), ("packing = neat optim { lr = 1e-4 }", "FT037"),
     ("lora { targets = [q_proj v_proj] }", "FT030"), ("lora { targets = q_proj, v_proj }", "FT036")],
)  # fmt: skip
def test_a_comma_that_is_missing_is_no_sentence(stage: str, code: str, checked: Callable[..., Outcome]) -> None:
    assert checked(small(stage), ROWS).codes == [code]


SUMS = ["let half = 8\nlet a = half/2", "let a-b = 3", "let a = 2*3/4"]


@pytest.mark.parametrize("text", ["lora { rank = half/2 }", "lora { rank = half-1 }", "lora { rank = 64/half }"])
def test_arithmetic_stays_arithmetic(text: str, checked: Callable[..., Outcome]) -> None:
    assert checked(small(text, "let half = 8"), ROWS).codes == []


@pytest.mark.parametrize("stage", ["max_len = 8k", "max_len = 32k"])
def test_thousands_are_pointed_out(stage: str, checked: Callable[..., Outcome]) -> None:
    found = [one for one in checked(small(stage), ROWS).found if one.code == "FT067"]
    assert [(one.severity.value, one.fix.edits[0].text) for one in found if one.fix] == [("info", stage[10:] + "i")]


@pytest.mark.parametrize("stage", ["max_len = 10k", "max_len = 8Ki", "max_len = 8000"])
def test_other_lengths_are_not(stage: str, checked: Callable[..., Outcome]) -> None:
    assert "FT067" not in [one.code for one in checked(small(stage), ROWS).found]


@pytest.mark.parametrize("name", ["H100", '"H100"', '"h100"'])
def test_a_card_in_another_spelling(name: str, checked: Callable[..., Outcome]) -> None:
    text = small().replace("gpu = none", f"gpu = {name}")
    found = next(one for one in checked(text, ROWS).found if one.code in ("FT002", "FT060"))
    assert found.fix is not None
    assert found.fix.edits[0].text == "h100"


OPEN = {
    "in a stage": ("sft {\n  seed = 1\n  lora {\n    rank = 8\n  optim { lr = 1e-4 }\n}\n", "lora {"),
    "before a sibling": ("sft {\n  lora { rank = 8\n  optim { lr = 1e-4 }\n}\ndata d {\n}\n", "lora {"),
    "before a stage": ("sft {\n  seed = 1\n\ndata d {\n  seed = 1\n}\n", "sft {"),
    "without indentation": ("sft {\nlora {\nrank = 8\n}\ndata d {\nseed = 1\n}\n", "sft {"),
    "at the end": ("sft {\n  lora {\n    rank = 8\n  }\n", "sft {"),
    "two levels down": ("sft {\n  a {\n    b {\n      c = 1\n  }\n}\n", "b {"),
}


@pytest.mark.parametrize(("text", "header"), OPEN.values(), ids=OPEN)
def test_a_missing_brace_is_shown_where_it_is_missing(text: str, header: str) -> None:
    sink = Sink()
    parse(Source("r.ft", text), sink)
    assert [(one.code, one.span and one.span.text) for one in sink] == [("FT033", header)]
    fixes = [one for one in sink if one.fix]
    if fixes:
        mended, _ = apply(Source("r.ft", text), fixes, unsafe=True)
        again = Sink()
        parse(Source("r.ft", mended), again)
        assert not len(again)


def test_a_byte_order_mark_is_no_character(tmp_path: Path, checked: Callable[..., Outcome]) -> None:
    assert checked("\ufeff" + small(), ROWS).codes == []
    assert checked(small().replace("seed", "\ufeffseed") + "\ufeff", ROWS).codes == ["FT032"]
