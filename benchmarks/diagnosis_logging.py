"""How much of a diagnosis is left when less was logged: `python -m benchmarks.diagnosis_logging [FOLDER…] [--pack FOLDER
[--kept-back | --lines]] [--write]`.

The committed runs of benchmarks/diagnosis.py, those of benchmarks/diagnosis_trainer.py and diagnosis_letters.py (`--pack FOLDER`
keeps them), and a family that is kept back, as they were logged and as other programs would have logged them
(benchmarks/diagnosis_variants.py). `--write` puts the table into
docs/diagnose.md; `-v` names what was missed.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.diagnosis import PACKED, RIGHT, is_healthy, pack, packed, write_table
from benchmarks.diagnosis_variants import LOST, VARIANTS, variant
from ftdsl.diagnose.diagnosis import diagnose
from ftdsl.diagnose.read import content_of, of_document
from ftdsl.session import LARGE

TRAINER = PACKED.with_name("trainer_curves.json.xz")
KEPT_BACK = PACKED.with_name("kept_back_curves.json.xz")
"""Family 13 of benchmarks/diagnosis_letters.py, which nothing is mended by."""
LINES = PACKED.with_name("lines_curves.json.xz")
"""Families 14 to 16, of benchmarks/diagnosis_lines.py."""
BEGIN, END = "<!-- table: python -m benchmarks.diagnosis_logging --write -->", "<!-- end of that table -->"


@dataclass
class Score:
    """hits of `sick` runs that the log could show; alarms of `healthy` ones; missed, ill: what went wrong, by run."""

    hits: int = 0
    sick: int = 0
    alarms: int = 0
    healthy: int = 0
    missed: Counter[str] = field(default_factory=Counter)
    ill: Counter[str] = field(default_factory=Counter)

    def add(self, condition: str, file: str, names: list[str]) -> None:
        shown = f"{file}: {', '.join(names) or 'healthy'}"
        if is_healthy(condition):
            self.healthy += 1
            self.alarms += bool(names)
            self.ill.update([shown] if names else ())
        elif condition in RIGHT:
            self.sick += 1
            hit = bool(set(names) & set(RIGHT[condition]))
            self.hits += hit
            self.missed.update([] if hit else [shown])


Run = tuple[str, str, dict[str, Any]]


def runs_of(pack_file: Path) -> list[Run]:
    """Condition, file and document of the runs in a pack."""
    return [(condition, file, document) for condition, runs in packed(pack_file).items() for file, document in runs]


def runs_below(folder: Path) -> Iterator[Run]:
    import json

    for file in sorted(folder.glob("*/*.json")):
        yield file.parent.name, f"{file.parent.name}/{file.name}", json.loads(content_of(file, LARGE))


def scores(runs: Iterable[Run]) -> dict[str, Score]:
    """By variant."""
    made = {name: Score() for name in VARIANTS}
    for condition, file, document in runs:
        for name, score in made.items():
            if condition in LOST.get(name, ()) or (logged := variant(name, document)) is None:
                continue
            findings = diagnose(of_document(logged, Path(file), {}))
            score.add(condition, file, [finding.name for finding in findings])
    return made


def table(columns: dict[str, dict[str, Score]]) -> list[str]:
    """In Markdown: a row a variant, two columns a set of runs."""
    heads = [text for name in columns for text in (f"{name}: recognised", "called ill")]
    lines = ["| as it was logged | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    for name in VARIANTS:
        cells = []
        for by_variant in columns.values():
            score = by_variant[name]
            share = f" ({100 * score.hits / score.sick:.0f} %)" if score.sick else ""
            cells += [
                f"{score.hits} of {score.sick}{share}" if score.sick else "",
                f"{score.alarms} of {score.healthy}" if score.healthy else "",
            ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def columns() -> dict[str, dict[str, Score]]:
    """The committed runs, by where they were made."""
    packs = {"LLaMA-Factory": PACKED, "transformers, TRL": TRAINER, "kept back": KEPT_BACK}
    return {name: scores(runs_of(path)) for name, path in packs.items()}


def main(arguments: list[str]) -> int:
    """Exit 0."""
    if "--pack" in arguments:
        file = KEPT_BACK if "--kept-back" in arguments else LINES if "--lines" in arguments else TRAINER
        pack(Path(arguments[arguments.index("--pack") + 1]), file, 3)
        return 0
    folders = [Path(text) for text in arguments if not text.startswith("-")]
    made = {folder.as_posix(): scores(runs_below(folder)) for folder in folders} or columns()
    lines = table(made)
    print("\n".join(lines))
    if "-v" in arguments:
        for name, by_variant in made.items():
            for each, score in by_variant.items():
                print(
                    f"{name}, {each}: missed {'; '.join(score.missed) or 'nothing'}; "
                    f"called ill {'; '.join(score.ill) or 'nothing'}",
                    file=sys.stderr,
                )
    if "--write" in arguments:
        write_table(BEGIN, lines, END)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
