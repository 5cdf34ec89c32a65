"""Bounds of values by their kind: a share is of 0% to 100% wherever one may stand, and no number is past all use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftdsl.catalog.vocabulary import Key, vocabulary
from ftdsl.diagnostics import Sink
from ftdsl.language import tree
from ftdsl.language.parser import parse
from ftdsl.language.resolve.evaluate import Evaluator
from ftdsl.language.resolve.layers import Effective
from ftdsl.language.resolve.load import Module
from ftdsl.language.resolve.names import Names, Scope, View
from ftdsl.language.resolve.raw import WRONG
from ftdsl.language.types import parse_type
from ftdsl.session import Session
from ftdsl.source import Source
from tests.conftest import ROWS, Outcome, small


def evaluate(text: str, key: Key) -> object:
    """A value as data of a key, outside of any recipe."""
    session, sink = Session(env={}), Sink()
    module = Module(Path("x"), parse(Source("x", f"x = {text}"), sink))
    evaluator = Evaluator(session, Names({}, View("", Effective("file"))), {})
    item = module.file.items[0]
    assert isinstance(item, tree.Bind)
    return evaluator.typed(item.value, key, Scope(module), sink)


def every_key() -> Iterator[tuple[str, Key]]:
    """All keys, the options of members and the arguments of functions."""
    words = vocabulary()
    for block in words.block_names():
        for name, key in words.block(block).keys.items():
            yield from _with_options(f"{block}.{name}", key)
    for name, uses in words.functions.items():
        for use, function in uses.items():
            for option, key in function.options.items():
                yield from _with_options(f"{name}({use}).{option}", key)


def _with_options(where: str, key: Key) -> Iterator[tuple[str, Key]]:
    yield where, key
    for name, member in (key.members or {}).items():
        for option, inner in member.options.items():
            yield from _with_options(f"{where}.{name}.{option}", inner)


def _takes(key: Key, *names: str) -> bool:
    kind = parse_type(key.type)
    return any(option.name in names for option in kind.options or (kind,))


SHARES = {where: key for where, key in every_key() if _takes(key, "share", "part", "level", "warmup", "every")}
WHOLE = {where: key for where, key in every_key() if _takes(key, "int", "count", "bytes")}


@pytest.mark.parametrize("where", SHARES)
@pytest.mark.parametrize("share", ["101%", "300%", "-1%"])
def test_a_share_is_of_all_at_most(where: str, share: str) -> None:
    assert evaluate(share, SHARES[where]) is WRONG


@pytest.mark.parametrize("where", SHARES)
def test_there_is_a_share_it_takes(where: str) -> None:
    assert evaluate("40%", SHARES[where]) is not WRONG


@pytest.mark.parametrize("where", WHOLE)
@pytest.mark.parametrize("number", ["1e18", "1e100", "9" * 40])
def test_no_number_is_past_all_use(where: str, number: str) -> None:
    written = f"{number} * 1GB" if _takes(WHOLE[where], "bytes") else number
    assert evaluate(written, WHOLE[where]) is WRONG


CASES = [
    ("optim { warmup = 100% }", "100%"),
    ("evaluate { data = 100% }", "100%"),
    ("evaluate { data = 0 }", "0"),
    ("optim { min_lr = 100% }", "100%"),
    ("optim { betas = [0.9] }", "[0.9]"),
    ("optim { betas = [] }", "[]"),
    ("optim { betas = [0.9, 0.99, 0.999] }", "[0.9, 0.99, 0.999]"),
    ("max_len = 1e100", "1e100"),
    ("batch { micro = 1e100 }", "1e100"),
    ("save { every = 1e200 steps }", "1e200 steps"),
    ("hardware.count = 1e18", "1e18"),
    ("hardware.nodes = 1e12", "1e12"),
]


@pytest.mark.parametrize(("stage", "marked"), CASES, ids=[stage for stage, _ in CASES])
def test_said_at_the_value(stage: str, marked: str, checked: Callable[..., Outcome]) -> None:
    found = checked(small(stage), ROWS).only("FT003")
    assert found.span is not None
    assert found.span.text == marked
