"""Trainings of a toy by `ftc run`, each a stage of one recipe: what their events say, step by step."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import ftc_process

HEAD = """
hardware {{ gpu = none, count = 1 }}
template  = qwen3_nothink
max_len   = 32
precision = fp32
duration  = 24 steps
model     = tiny
data      = file("rows.jsonl")
optim     {{ lr = 2e-3 }}
{batch}
track     {{ every = 1 steps }}
save      {{ every = 5 steps }}
let tiny  = {tiny}
"""
BATCH = "batch { micro = 2, accumulate = 2 }"
TINY = "scratch(architecture = qwen3, hidden = 32, layers = 1, heads = 2, vocab = 400)"
WORDS = "red blue green seven eight north south apple river stone cloud paper glass metal voice light"


@dataclass
class Trained:
    """A stage that has run. events: of its metrics.jsonl."""

    folder: Path
    status: str
    message: str
    events: list[dict[str, Any]]

    @property
    def losses(self) -> dict[int, float]:
        """By step, the newest: what came again after a rollback or a restart counts."""
        return {event["step"]: event["loss"] for event in self.events if event["event"] == "step"}

    @property
    def rates(self) -> dict[int, float]:
        return {event["step"]: event["lr"] for event in self.events if event["event"] == "step"}

    def ledger(self) -> list[tuple[str, str]]:
        """Anomaly and action of each entry."""
        return [(event["anomaly"], event["action"]) for event in self.events if event["event"] == "guard"]


def write_rows(place: Path, count: int = 160) -> None:
    """Rows of which no two are alike."""
    rng = random.Random(7)
    rows = [{"instruction": f"say {number}", "input": "", "output": " ".join(rng.choices(WORDS.split(), k=rng.randint(1, 6)))}
            for number in range(count)]  # fmt: skip
    pairs = [
        {"instruction": row["instruction"], "chosen": row["output"], "rejected": row["output"][::-1]} for row in rows
    ]
    liked = [{**row, "label": number % 2 == 0} for number, row in enumerate(rows)]
    texts = [{"text": f"{row['instruction']} {row['output']}"} for row in rows]
    for name, lines in {"rows": rows, "pairs": pairs, "liked": liked, "texts": texts}.items():
        (place / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def write_chains(place: Path, count: int = 400, bad: int | None = None) -> None:
    """Rows whose answers follow from their questions, which a toy learns in an epoch. bad: the number of one that is garbage."""
    rng = random.Random(4)
    words = [first + rest for first in "bcdfgklmnprst" for rest in ("al", "en", "ir", "om")]
    rows = []
    for _ in range(count):
        key = rng.choice(words[:16])
        at, answer = words.index(key), []
        for place_in_answer in range(6):
            at = (at * 3 + 5 + place_in_answer) % len(words)
            answer.append(words[at])
        rows.append({"instruction": f"tell me of {key} {rng.choice(words)}", "output": " ".join(answer)})
    if bad is not None:
        rows[bad]["output"] = "".join(rng.choice("0123456789#%&@") for _ in range(60))
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(
    place: Path,
    stages: dict[str, str],
    python: Path,
    *,
    tiny: str = TINY,
    ok: bool = True,
    batch: str = BATCH,
    more: str = "",
) -> dict[str, Trained]:
    """Run sft stages of these bodies, and `more`, other items of a recipe; `ok`: all must end well."""
    text = (
        HEAD.format(tiny=tiny, batch=batch)
        + "".join(f"sft {name} {{ {body} }}\n" for name, body in stages.items())
        + more
    )
    (place / "r.ft").write_text(text, encoding="utf-8")
    done = ftc_process("run", "r.ft", "--json", "--no-preload", "--engine-python", str(python), cwd=place)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    assert document["run"], done.stdout
    folder = place / document["run"]
    found = {}
    for stage in document["stages"]:
        own = next(folder.glob(f"*-{stage['stage']}"), folder)
        found[stage["stage"]] = Trained(own, stage["status"], stage["message"], events_of(own))
    assert not ok or done.returncode == 0, done.stderr + "\n".join(
        tail(one) for one in found.values() if one.status == "failed"
    )
    return found


def events_of(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def tail(one: Trained) -> str:
    log = one.folder / "log.txt"
    return f"== {log}\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}" if log.exists() else ""
