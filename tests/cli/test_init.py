"""`ftc init`: every template checks where it was written, with its data; nothing is overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftdsl.cli.init import TEMPLATES
from tests.conftest import EXAMPLES, ftc


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_template_checks_where_it_is_written(name: str, tmp_path: Path) -> None:
    made = ftc("init", "new", "--from", name, "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    written = json.loads(made.stdout)["written"]
    assert written[0] == f"new/{TEMPLATES[name][0]}"
    assert all((tmp_path / path).is_file() for path in written)
    checked = ftc("check", written[0], cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"ftc check {written[0]}" in made.stderr
    again = ftc("init", "new", "--from", name, cwd=tmp_path)
    assert again.returncode == 1
    assert "exists already" in again.stderr


def test_the_list_names_every_template_and_what_it_needs(tmp_path: Path) -> None:
    listed = ftc("init", "--list", cwd=tmp_path)
    lines = listed.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(TEMPLATES)
    rows = json.loads(ftc("init", "--list", "--json", cwd=tmp_path).stdout)["templates"]
    assert [(row["name"], row["needs"]) for row in rows] == [(name, needs) for name, (_, needs, _) in TEMPLATES.items()]
    assert not list(tmp_path.iterdir())


def test_examples_are_templates_but_for_the_handbooks_opening() -> None:
    offered = {file for file, _, _ in TEMPLATES.values()}
    assert {path.name for path in EXAMPLES} - offered == {"handbook_opening.ft"}


def test_a_page_for_agents(tmp_path: Path) -> None:
    made = ftc("init", "--agents", cwd=tmp_path)
    assert made.stdout.splitlines()[-1] == "AGENTS.md"
    assert "ftc check" in (tmp_path / "AGENTS.md").read_text(encoding="utf-8")
