"""Recovery always gets on: a repair that changes nothing is not made again."""

from __future__ import annotations

import pytest

from ftdsl.diagnostics import Sink
from ftdsl.language.parser import parse
from ftdsl.source import Source

VALUES = (
    'fileta/quickllm/models", like = "x", trust_remote_code = true)',
    'a/b"c"',
    'a/b"c',
    'hf(a/b"c", d"e")',
    '[a/b"c", d/e"f]',
    "s3://a/b'c'",
    'a/b"c" = d/e"f"',
)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("tail", ["", "\n}", "\n  lora {\n  }\n}\n", "}}}"])
def test_a_path_that_runs_into_a_quote(value: str, tail: str) -> None:
    sink = Sink()
    parse(Source("r.ft", f"sft {{\n  model = {value}{tail}"), sink)
    assert sink.failed
