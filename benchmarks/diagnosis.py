"""How often a diagnosis is right: `python -m benchmarks.diagnosis [FOLDER…] [--make] [--write]`.

FOLDER holds `CONDITION/SEED.json`, real short runs with something planted (benchmarks/diagnosis_runs.py makes three families;
--make makes those that are not there yet, under build/diagnosis; without a folder the committed ones count, which --pack
writes). Prints, by condition, how many were recognised; by kind of healthy run, how many were called ill; and what else was
reported. --write puts the table into docs/diagnose.md.
"""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftdsl.diagnose.curves import Curves
from ftdsl.diagnose.diagnosis import diagnose
from ftdsl.diagnose.read import of_document, trainings

ROOT = Path(__file__).parent.parent
OWN = ROOT / "build" / "diagnosis"
PACKED = ROOT / "tests" / "diagnose" / "curves.json.xz"
PAGE = ROOT / "docs" / "diagnose.md"
BEGIN, END = "<!-- table: python -m benchmarks.diagnosis --write -->", "<!-- end of the table -->"

RIGHT: Mapping[str, tuple[str, ...]] = {
    "masked": ("nothing-to-learn",),
    "nan": ("not-a-number",),
    "explode": ("exploding",),
    "lr_high": ("rate-too-high", "plateau", "warmup-too-short"),
    "diverge": ("rate-too-high", "exploding", "loss-spikes"),
    "lr_low": ("rate-too-low",),
    "vanish": ("vanishing",),
    "frozen": ("no-gradient",),
    "underfit": ("underfitting",),
    "spike_rows": ("loss-spikes",),
    "spike_lr": ("loss-spikes",),
    "sawtooth": ("order-of-rows",),
    "overfit": ("overfitting",),
    "overfit_map": ("overfitting",),
    "memorised": ("memorising",),
    "label_noise": ("noisy-labels",),
    "oscillate": ("oscillating", "plateau", "rate-too-high"),
    "template": ("wrong-template",),
    "leak": ("evaluation-rows-seen",),
    "lr_ends": ("rate-ends-early",),
    "warmup": ("warmup-too-short", "rate-too-high"),
    "clipped": ("always-clipped",),
    "slower": ("slower-and-slower",),
    "memory": ("memory-creeps",),
    "chosen_falls": ("chosen-answers-fall",),
    "no_margin": ("margins-collapse",),
}
"""Condition -> names of the findings that are right."""


def is_healthy(kind: str) -> bool:
    """Whether nothing is planted in such runs. What is neither that nor in `RIGHT` is only listed."""
    return kind.startswith("healthy") or kind == "no_warmup"


PLANTED = {
    "masked": "every label is masked or cut off",
    "nan": "a weight becomes NaN in the middle",
    "explode": "SGD with rate 30, no clipping, weights three times as wide",
    "lr_high": "Adam with rate 0.5 to 1",
    "diverge": "the rate times 30 from 55 % of the run on",
    "lr_low": "a thousandth of the rate",
    "vanish": "the last norm scaled by 0.001",
    "frozen": "all gradients are 0",
    "underfit": "LoRA of rank 1 on one kind of module",
    "spike_rows": "six rows of garbage",
    "spike_lr": "the rate times 100 to 150 for one step",
    "sawtooth": "sorted rows, not shuffled",
    "overfit": "random answers, 40 epochs",
    "overfit_map": "few rows, 20 to 30 epochs",
    "memorised": "random answers, 5 epochs, nothing held out",
    "label_noise": "half of the answers are random",
    "oscillate": "one row a step, 5 to 8 times the rate",
    "template": "a trained model with another chat template",
    "leak": "evaluated on the training rows",
    "lr_ends": "the schedule ends after a quarter of the run",
    "warmup": "a trained model, ten times the rate, no warm-up",
    "clipped": "gradients clipped at 0.02",
    "slower": "each step takes longer than the one before",
    "memory": "tensors that are kept at every step",
    "chosen_falls": "pairs that differ in one word, a high rate",
    "no_margin": "chosen and rejected drawn alike",
}


def packed(path: Path = PACKED) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """The committed runs: condition -> file and document of each."""
    runs: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for file, document in json.loads(lzma.decompress(path.read_bytes())).items():
        rows = [dict(zip(document["names"], values, strict=True)) for values in zip(*document["columns"], strict=True)]
        evals = [dict(zip(("step", "eval_loss"), row, strict=True)) for row in document["evals"]]
        own = {"config": document["config"], "steps": rows, "evals": evals}
        runs[file.partition("/")[0]].append((file, own))
    return runs


def pack(folder: Path, path: Path = PACKED, digits: int = 5) -> None:
    """Keep runs in the repository, compressed: columns of so many digits; losses of five, clocks whole (differences count)."""
    documents = {}
    precise = {"loss": 5, "elapsed": 8}
    for file in sorted(folder.glob("*/*.json")):
        document = json.loads(file.read_text(encoding="utf-8"))
        names = list(dict.fromkeys(name for row in document["steps"] for name in row if not name.startswith("logps/")))
        if digits < 5 and file.parent.name != "slower":
            names = [name for name in names if name != "elapsed"]
        columns = [[_short(row.get(name), precise.get(name, digits)) for row in document["steps"]] for name in names]
        evals = [[row["step"], _short(row["eval_loss"])] for row in document["evals"]]
        config = {key: value for key, value in document["config"].items() if not isinstance(value, dict)}
        documents[f"{file.parent.name}/{file.name}"] = {
            "config": config,
            "names": names,
            "columns": columns,
            "evals": evals,
        }
    path.write_bytes(lzma.compress(json.dumps(documents, separators=(",", ":")).encode(), preset=9))


def _short(value: Any, digits: int = 5) -> Any:
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def curves_of(folders: Sequence[Path]) -> Iterator[tuple[str, str, Curves]]:
    """Condition, file and curves of every run; of the committed ones where no folder is named."""
    for folder in folders:
        for file in sorted(folder.glob("*/*.json")):
            for curves in trainings(file):
                yield file.parent.name, file.as_posix(), curves
    if not folders:
        for condition, runs in packed().items():
            for file, document in runs:
                yield condition, file, of_document(document, Path(file), {})


def outcomes(folders: Sequence[Path]) -> dict[str, list[tuple[str, list[str]]]]:
    """Condition -> runs, each with its file and the names of what was found."""
    results: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)
    for condition, file, curves in curves_of(folders):
        results[condition].append((file, [finding.name for finding in diagnose(curves)]))
    return dict(sorted(results.items()))


def table(by_kind: Mapping[str, list[tuple[str, list[str]]]]) -> list[str]:
    """Two tables in Markdown, and the sums."""
    lines = ["| condition | planted | recognised | also reported |", "|---|---|---|---|"]
    hits = runs = wrong = healthy = 0
    for condition, right in RIGHT.items():
        results = by_kind.get(condition, [])
        if not results:
            continue
        own = sum(any(name in right for name in names) for _, names in results)
        more = Counter(name for _, names in results for name in names if name not in right)
        hits, runs = hits + own, runs + len(results)
        also = ", ".join(f"{name} ({count})" for name, count in more.items())
        lines.append(f"| {condition} | {PLANTED[condition]} | {own} of {len(results)} | {also} |")
    lines += ["", "| healthy runs | called ill |", "|---|---|"]
    for kind, results in by_kind.items():
        if not is_healthy(kind):
            continue
        ill = Counter(name for _, names in results for name in names)
        bad = sum(bool(names) for _, names in results)
        wrong, healthy = wrong + bad, healthy + len(results)
        which = f" ({', '.join(ill)})" if ill else ""
        lines.append(
            f"| {kind.removeprefix('healthy_') if kind != 'healthy' else 'plain'} | {bad} of {len(results)}{which} |"
        )
    recall, alarms = 100 * hits / max(1, runs), 100 * wrong / max(1, healthy)
    conditions, kinds = sum(condition in by_kind for condition in RIGHT), sum(map(is_healthy, by_kind))
    for kind, results in by_kind.items():
        if kind not in RIGHT and not is_healthy(kind):
            lines.append(
                f"\nnot in the table: {kind}: {'; '.join(', '.join(names) or 'healthy' for _, names in results)}"
            )
    return [*lines, "", f"Recall: {hits} of {runs} ({recall:.1f} %) over {conditions} conditions. "
            f"False alarms: {wrong} of {healthy} healthy runs ({alarms:.1f} %) of {kinds} kinds."]  # fmt: skip


def write_table(begin: str, lines: Sequence[str], end: str) -> None:
    """Put a table between two marks of docs/diagnose.md, each of which is there once."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    PAGE.write_text("\n".join([before + begin, *lines, end + after]), encoding="utf-8")


def make() -> None:
    """Make the runs that are not there yet, on the engine (CPU, about 10 minutes)."""
    python = ROOT / ".engines" / "llamafactory" / "bin" / "python"
    script = Path(__file__).with_name("diagnosis_runs.py")
    for family in ("1", "2", "3"):
        subprocess.run([python, script, OWN, "--family", family], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Exit 0."""
    if "--make" in arguments:
        make()
    folders = [Path(text) for text in arguments if not text.startswith("--")]
    if "--pack" in arguments:
        pack(folders[0] if folders else OWN)
        folders = []
    by_kind = outcomes(folders)
    lines = table(by_kind)
    print("\n".join(lines))
    for condition, results in by_kind.items():
        right = RIGHT.get(condition)
        for file, names in results:
            if (is_healthy(condition) and names) or (right and not set(names) & set(right)):
                print(f"wrong: {file}: {', '.join(names) or 'healthy'}", file=sys.stderr)
    if "--write" in arguments:
        write_table(BEGIN, lines, END)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
