"""Data stages as `ftc` carries them out: what the recipe says reaches the rows, and what the rows say reaches the recipe."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ftc, until
from tests.runtime.stage import lines, numbered

RECIPE = """
data mixed {{
  source    = [file("a.jsonl", weight = 3), file("b.jsonl.gz", weight = 1, sample = 10)]
  dedupe    = near(90%)
  tokens    = 1 .. 1Ki
  drop      = [bad_roles, empty]
  mix       = interleave(once)
  holdout   {{ eval = 10%, test = file("held.csv"), seed = 7 }}
}}
{more}
"""
SFT = """
sft {
  model    = file("model")
  template = qwen3
  data     = mixed
  max_len  = 4
  duration = 1 epoch
  lora     { rank = 8 }
  hardware { gpu = none }
}
"""


def files() -> dict[str, bytes]:
    """Rows of every kind the recipes here name."""
    rows = [{"instruction": f"q{n} " * (1 + n % 4), "input": "", "output": f"a{n}"} for n in range(60)]
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    return {
        "a.jsonl": lines(rows).encode(),
        "b.jsonl.gz": gzip.compress(lines(numbered(40, 100)).encode()),
        "held.csv": b"instruction,input,output\nheld out?,,yes\n",
        "chats.jsonl": lines([{"messages": turns}]).encode(),
        "texts.txt": b"plain text\n",
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    import tokenizers

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    (tmp_path / "model").mkdir()
    words.save(str(tmp_path / "model" / "tokenizer.json"))
    for name, content in files().items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def report(place: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((place / "runs" / "r" / "last" / "10-mixed" / "report.json").read_bytes())
    return found


@pytest.mark.slow
def test_a_recipe_reaches_the_rows_and_its_lengths_the_recipe(place: Path) -> None:
    (place / "r.ft").write_text(RECIPE.format(more=SFT), encoding="utf-8")
    assert "FT505" not in ftc("check", "r.ft", cwd=place).stdout, "nothing is known before a run"
    done = ftc("run", "r.ft", "--only", "mixed", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "10-mixed: data card runs/r/" in done.stderr
    assert "rows of `mixed` are longer than max_len (4) and will be cut" in done.stderr
    assert report(place)["splits"]["test"] == 1  # type: ignore[index]
    checked = ftc("check", "r.ft", cwd=place).stdout
    assert "FT505" in checked
    assert "r.ft:15" in checked, "the line of max_len"
    later = (place / "a.jsonl").stat().st_mtime + 100
    os.utime(place / "a.jsonl", (later, later))
    assert "FT505" not in ftc("check", "r.ft", cwd=place).stdout, "the report no longer speaks of this file"


@pytest.mark.slow
def test_every_file_a_data_stage_reads_is_part_of_its_key(place: Path) -> None:
    (place / "r.ft").write_text(RECIPE.format(more=""), encoding="utf-8")
    assert ftc("run", "r.ft", cwd=place).returncode == 0
    assert "nothing to do" in ftc("run", "r.ft", cwd=place).stderr
    for name in ("a.jsonl", "held.csv"):
        with (place / name).open("a", encoding="utf-8") as file:
            file.write(lines(numbered(1, 500)) if name == "a.jsonl" else "one more,,row\n")
        done = ftc("run", "r.ft", "--json", cwd=place)
        assert json.loads(done.stdout)["stages"][0]["status"] == "done", f"{name} changed"


def test_by_hand_and_by_ftc_alike(place: Path) -> None:
    (place / "r.ft").write_text(RECIPE.format(more=""), encoding="utf-8")
    assert ftc("run", "r.ft", cwd=place).returncode == 0
    assert ftc("compile", "r.ft", cwd=place).returncode == 0
    env = {**os.environ, "FT_PYTHON": sys.executable}
    subprocess.run(["bash", "build/r/run.sh"], cwd=place, env=env, check=True, capture_output=True)
    for name in ("train.jsonl", "eval.jsonl", "test.jsonl", "report.json", "card.html"):
        one, other = (place / "runs" / "r" / run / "10-mixed" / name for run in ("last", "by-hand"))
        assert one.read_bytes() == other.read_bytes(), name


@pytest.mark.slow
def test_a_bad_row_is_said_at_the_recipes_line(place: Path) -> None:
    (place / "r.ft").write_text(RECIPE.format(more=""), encoding="utf-8")
    many = lines(numbered(2500)) + '{"instruction": "q"}\n'  # behind the rows that a check looks at
    (place / "a.jsonl").write_text(many, encoding="utf-8")
    assert ftc("check", "r.ft", cwd=place).returncode == 0
    done = ftc("run", "r.ft", cwd=place)
    assert done.returncode == 1
    assert "`mixed`: a.jsonl:2501: no `output`; this row has `instruction`" in done.stderr
    assert "r.ft:3" in done.stderr
    assert "Traceback" not in done.stderr


REFUSED = [
    ('source = file("s3://b/a.jsonl"), dedupe = exact', "a data stage reads local files, not the URL `s3://b/a.jsonl`"),
    ('source = modelscope("a/b"), dedupe = exact', "a data stage cannot read from `modelscope` yet"),
    ('source = file("a.jsonl", media = "pictures")', "`media` applies to all sources of a data stage, not to one"),
    (
        'source = [file("a.jsonl", format = alpaca), file("b.jsonl.gz", format = sharegpt)]',
        "rows in the sharegpt format need `conversations`",
    ),
    ('source = [file("a.jsonl"), file("texts.txt")]', "plain text does not mix with other formats: alpaca, text"),
    (
        'source = [file("a.jsonl", weight = 3), file("b.jsonl.gz")]',
        "some sources of this mixture have a weight and some have none",
    ),
    (
        'source = [file("a.jsonl", weight = 3), file("b.jsonl.gz", weight = 1)], mix = concat',
        "weights need `interleave`",
    ),
    ('source = file("a.jsonl"), drop = [too_long]', "`too_long` needs the `max_len` of a stage"),
]


@pytest.mark.parametrize(("block", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_a_data_stage_cannot_do_is_refused_in_the_recipe(block: str, message: str, place: Path) -> None:
    (place / "r.ft").write_text(f"data mixed {{ {block} }}\n", encoding="utf-8")
    done = ftc("check", "r.ft", cwd=place)
    assert done.returncode == 1
    assert message in done.stdout


def test_rows_that_nobody_reads_and_no_column_explains_are_said(place: Path) -> None:
    (place / "r.ft").write_text('data odd { source = file("odd.jsonl") }\n', encoding="utf-8")
    (place / "odd.jsonl").write_text(lines([{"question": "q", "reply": "a"}]), encoding="utf-8")
    message = ftc("check", "r.ft", cwd=place).stdout
    assert "warning[FT502]" in message
    assert "they have `question`, `reply`" in message


@pytest.mark.slow
def test_a_stage_that_is_stopped_leaves_nothing_half_written(place: Path) -> None:
    (place / "a.jsonl").write_text(lines(numbered(400_000)), encoding="utf-8")
    (place / "r.ft").write_text('data d { source = file("a.jsonl"), holdout { eval = 5% } }\n', encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft"], cwd=place, stderr=subprocess.DEVNULL
    )
    stage = place / "runs" / "r" / "last" / "10-d"
    until((stage / ".rows" / "digest").exists, "rows are read")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    left = {path.name for path in stage.iterdir()}
    assert left == {".exit", ".lock", "data.json", "launch.sh", "log.txt", "metrics.jsonl"}
    assert (stage / "log.txt").read_text(encoding="utf-8") == ""
