"""Many files at once: in processes, in order, and not a byte other than one after the other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftdsl.cli import many
from ftdsl.cli.main import main
from tests.conftest import CORPUS, EXAMPLES

FILES = [str(path) for path in [*EXAMPLES, *CORPUS]]


def test_results_come_in_order_from_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "_cores", lambda: 2)
    found = many.each(_where, [str(at) for at in range(40)])
    assert [name for name, _ in found] == [str(at) for at in range(40)]
    assert len({process for _, process in found}) > 1


def test_a_few_files_stay_here() -> None:
    assert {process for _, process in many.each(_where, ["a", "b"])} == {os.getpid()}


def _where(name: str) -> tuple[str, int]:
    return name, os.getpid()


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.slow
def test_the_same_bytes(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.ft"
    wrong.write_text("frobnicate { }\n", encoding="utf-8")
    arguments = ["check", "--output-format", form, *FILES[:6], str(wrong), *FILES[6:10]]
    monkeypatch.setattr(many, "_cores", lambda: 2)
    parallel = main(arguments), capsys.readouterr()
    monkeypatch.setattr(many, "_cores", lambda: 1)
    serial = main(arguments), capsys.readouterr()
    assert parallel == serial
    assert serial[0] == 1 and "wrong.ft" in serial[1].out
