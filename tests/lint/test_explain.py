"""`ftc explain CODE`: every code has a text or says where it happens; examples of the language's codes are run too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl.diagnostics.codes import CODES
from ftdsl.diagnostics.meanings import meanings
from ftdsl.lint.about import explanation_of, severities
from ftdsl.lint.check import load
from tests.conftest import ROWS, Outcome, ftc, small

WITH_EXAMPLES = [code for code, said in meanings().items() if "instead" in said]


def outcome(said: dict[str, str], name: str, checked: Callable[..., Outcome]) -> list[str]:
    where = "stage" if "stage" in said else "file"
    text = said.get(name, said.get(where, ""))
    recipe = small(text) if where == "stage" else small() + text + "\n"
    return [one.code for one in checked(recipe, ROWS).found]


@pytest.mark.parametrize("code", WITH_EXAMPLES)
def test_the_example_of_a_code_raises_it(code: str, checked: Callable[..., Outcome]) -> None:
    said = dict(meanings()[code])
    assert code in outcome(said, "", checked)
    assert code not in outcome(said, "instead", checked)


@pytest.mark.parametrize("code", [code for code in CODES if code in ("FT510", "FT520") or code >= "FT950"])
def test_what_only_a_run_finds_is_explained(code: str) -> None:
    told = explanation_of(code)["about"]
    assert {"What it does", "What to do"} <= set(told)


def test_every_code_is_explained() -> None:
    assert CODES.keys() - load().keys() - meanings().keys() == set()
    assert meanings().keys() <= CODES.keys()


def test_names_are_unique() -> None:
    assert len(set(CODES.values())) == len(CODES)


def test_severities_are_read_off_the_rules() -> None:
    rules = load()
    assert severities(rules["FT101"]) == ("error",)
    assert severities(rules["FT102"]) == ("error", "warning")
    assert severities(rules["FT606"]) == ("error",), "its helper says it"
    assert all(severities(rule) for rule in rules.values())


@pytest.mark.parametrize("asked", ["FT101", "ft101", "warmup-set-twice"])
def test_a_rule_by_code_and_by_name(asked: str, tmp_path: Path) -> None:
    done = ftc("explain", asked, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("FT101 warmup-set-twice (error)\n")
    assert "    warmup_ratio: 0.1\n" in done.stdout


def test_as_json_and_unknown(tmp_path: Path) -> None:
    told = json.loads(ftc("explain", "FT008", "--json", cwd=tmp_path).stdout)
    assert (told["code"], told["severities"]) == ("FT008", ["error"])
    assert next(iter(told["about"])) == "What it does"
    done = ftc("explain", "warmup-set-twise", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean `warmup-set-twice`?" in done.stderr
