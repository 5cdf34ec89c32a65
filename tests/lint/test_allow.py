"""Comments that allow: where they count, what they cannot do, and that those nobody needs are said, with a fix."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl.diagnostics.fixes import apply
from ftdsl.lint.check import CERTAIN, overridable
from tests.conftest import ROWS, Outcome, ftc, small

RATE = "optim { lr = 2e-1 }"


def codes(outcome: Outcome) -> list[str]:
    return [one.code for one in outcome.found if one.code != "FT700"]


@pytest.mark.parametrize(
    "text",
    [
        f'{RATE} # ftc: allow FT004 "a sweep to the edge"',
        f'# ftc: allow FT004 "a sweep to the edge"\n  {RATE}',
        f'# ftc: allow implausible-rate "by its name"\n\n  # another comment\n  {RATE}',
        f"{RATE} # ftc: allow FT004 'a sweep to the edge'",
    ],
)
def test_a_warning_is_allowed_on_its_line_and_from_the_line_above(text: str, checked: Callable[..., Outcome]) -> None:
    assert codes(checked(small(text), ROWS)) == []


def test_for_a_whole_file(checked: Callable[..., Outcome]) -> None:
    assert codes(checked('# ftc: allow FT004 "all of it"\n' + small(RATE), ROWS)) == []


def test_not_from_far_away(checked: Callable[..., Outcome]) -> None:
    found = checked(small(f'seed = 3 # ftc: allow FT004 "here"\n  {RATE}'), ROWS)
    assert codes(found) == ["FT017", "FT004"] or codes(found) == ["FT004", "FT017"]


def test_no_reason_is_worth_a_note(checked: Callable[..., Outcome]) -> None:
    assert codes(checked(small(f"{RATE} # ftc: allow FT004"), ROWS)) == ["FT018"]


def test_what_nobody_needs_can_go(checked: Callable[..., Outcome]) -> None:
    text = small('seed = 3 # ftc: allow FT004, FT119 "old"\n  # ftc: allow nonsense "x"')
    found = checked(text, ROWS)
    assert codes(found) == ["FT017"] * 3
    source = next(one.span.source for one in found.found if one.code == "FT017" and one.span)
    for _ in range(3):
        after, taken = apply(source, [one for one in found.found if one.code == "FT017"], unsafe=False)
        if not taken:
            break
        found = checked(after, ROWS)
        source = type(source)(source.name, after)
    assert "ftc: allow" not in after


def test_in_a_text_it_is_text(checked: Callable[..., Outcome]) -> None:
    assert codes(checked(small('system = "# ftc: allow FT004"'), ROWS)) == []


PATIENCE = "guard { patience = 3 }"


def test_a_prediction_can_be_overruled_with_a_reason(checked: Callable[..., Outcome]) -> None:
    assert "FT106" in overridable()
    assert codes(checked(small(f'{PATIENCE} # ftc: allow FT106 "our fork waits for the loss"'), ROWS)) == []
    found = codes(checked(small(f"{PATIENCE} # ftc: allow FT106"), ROWS))
    assert sorted(found) == ["FT019", "FT106"]


def test_errors_of_the_language_stay(checked: Callable[..., Outcome]) -> None:
    found = codes(checked(small('lora { rnak = 3 } # ftc: allow FT001 "no"'), ROWS))
    assert sorted(found) == ["FT001", "FT019"]
    assert "FT001" in CERTAIN


YAML = """\
stage: sft
do_train: true
model_name_or_path: Qwen/Qwen3-8B
template: qwen3
dataset: support
output_dir: saves/x
bf16: true
learning_rate: 2.0e-1  # ftc: allow FT004 "the edge"
report_to: none
seed: 7  # ftc: allow FT119 "old"
"""


def test_in_a_yaml(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(YAML, encoding="utf-8")
    done = ftc("check", "--json", "train.yaml", cwd=tmp_path)
    found = [(one["code"], one["line"]) for one in json.loads(done.stdout)["diagnostics"]]
    assert ("FT017", 10) in found
    assert not any(code == "FT004" for code, _ in found)
