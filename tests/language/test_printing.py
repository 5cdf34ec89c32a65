"""Trees to text: what is printed reads back as it was meant, whatever it holds."""

from __future__ import annotations

import pytest

from ftdsl.diagnostics import Sink
from ftdsl.language import printing, tree
from ftdsl.language.parser import parse
from ftdsl.language.printing import Margin, UnwritableError, bind, block, call, quantity, recipe_text, ref, text, word
from ftdsl.source import Source
from tests.hostile import VALUES

SAYABLE = [value for value in VALUES if "\0" not in value and not any(0xD800 <= ord(char) < 0xE000 for char in value)]


def again(written: str) -> tree.File:
    sink = Sink()
    found = parse(Source("x.ft", written), sink)
    assert not sink.failed, [one.message for one in sink]
    return found


@pytest.mark.parametrize("value", SAYABLE)
def test_any_text_reads_back_and_stays_a_text(value: str) -> None:
    written = recipe_text([bind(["name"], text(value)), block("env", [bind(["A"], call("hf", [text(value)], {}))])], {})
    items = again(written).items
    assert len(items) == 2
    bound = items[0]
    assert isinstance(bound, tree.Bind)
    assert isinstance(bound.value, tree.Text)
    assert (bound.value.plain or "") == value


@pytest.mark.parametrize("value", VALUES)
def test_any_comment_stays_a_comment(value: str) -> None:
    item = block("sft", [bind(["seed"], quantity("1"))])
    margin = Margin(above=(value,), behind=value, inside=(value, f"x {value}"))
    written = recipe_text([item], {item: margin, item.body[0]: Margin(behind=value)}, (value,))
    file = again(written)
    assert printing.shape(file.items) == printing.shape([item])
    assert file.doc == ""
    assert "ftc: allow" not in written


@pytest.mark.parametrize("value", [value for value in VALUES if not value.isidentifier()])
def test_a_name_is_a_name_or_refused(value: str) -> None:
    for made in (
        word,
        ref,
        lambda one: block(one, []),
        lambda one: bind([one], text("")),
        lambda one: call(one, [], {}),
    ):
        with pytest.raises(UnwritableError):
            made(value)


@pytest.mark.parametrize("value", ["let", "from", "true", "null", "é", "a-b", "1a", ""])
def test_words_of_the_grammar_are_no_names(value: str) -> None:
    with pytest.raises(UnwritableError):
        word(value)


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_texts_that_nothing_can_hold_are_refused(value: str) -> None:
    with pytest.raises(UnwritableError):
        text(value)


@pytest.mark.parametrize(
    "written",
    [
        "1",
        "-1",
        "0.5",
        "5%",
        "1e-5",
        "3 epochs",
        "100 steps",
        "500M tokens",
        "2Ki tokens",
        "80GB",
        "30min",
        "2.4 USD",
        "512 * 512",
    ],
)
def test_numbers_with_units(written: str) -> None:
    found = again(recipe_text([bind(["x"], quantity(written))], {})).items[0]
    assert isinstance(found, tree.Bind)
    assert printing.shape(found.value) == printing.shape(quantity(written))
    assert printing.printed(quantity(written)) == written


def test_a_large_number_with_a_unit_is_written_out() -> None:
    assert printing.printed(quantity("1e+20kB")) == f"1{'0' * 20}kB"


@pytest.mark.parametrize("written", ["inf", "nan", "", "1 2", "0x1", "1 epoch }", "٣", "1;2"])
def test_what_is_no_number_is_refused(written: str) -> None:
    with pytest.raises(UnwritableError):
        quantity(written)


def test_what_does_not_read_back_is_never_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printing, "string", lambda parts: '"x" }\nshell evil { run = "y"')
    with pytest.raises(printing.ReadBackError):
        recipe_text([block("env", [bind(["A"], text("x"))])], {})
