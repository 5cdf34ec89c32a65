"""A safe fix makes nothing worse: where a file had no error, it has none afterwards."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pytest

from ftdsl import catalog
from tests.conftest import ftc

BASE = """\
stage: sft
do_train: true
model_name_or_path: Qwen/Qwen3-0.6B
template: qwen3
output_dir: out
bf16: true
"""
ODD = ("true", "no", "010", "1:30", "null")


@pytest.mark.slow
@pytest.mark.parametrize("values", [ODD, *((value,) for value in ODD)], ids="-".join)
def test_safe_fixes_make_no_errors(values: tuple[str, ...], tmp_path: Path) -> None:
    """Every parameter of the engine with a value that YAML reads as something else: one of them each, then (slow) all of them."""
    own = [line.partition(":")[0] for line in BASE.splitlines()]
    names = [name for name in catalog.engine_schema("llamafactory") if name not in own]
    for name, value in zip(names, cycle(values), strict=False):
        (tmp_path / f"{name}.yaml").write_text(f"{BASE}{name}: {value}\n", encoding="utf-8")
    files = [f"{name}.yaml" for name in names]
    before = failing(tmp_path, files)
    assert ftc("check", "--fix", *files, cwd=tmp_path).returncode in (0, 1)
    assert failing(tmp_path, files) - before == set()


def failing(folder: Path, files: list[str]) -> set[str]:
    """Files with an error."""
    import json

    found = json.loads(ftc("check", "--json", *files, cwd=folder).stdout)["diagnostics"]
    return {one["file"] for one in found if one["severity"] == "error"}
