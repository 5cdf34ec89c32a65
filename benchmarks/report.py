"""`python -m benchmarks.report MEMORY.csv THROUGHPUT.csv [--check]`: writes every table of docs/planner.md and its picture anew.

Tables stand between `<!-- name -->` and `<!-- /name -->`. With `--check` nothing is written, and whether the page is behind is
said. The estimates of a few set-ups are kept beside (benchmarks/reference.json), so that a test sees when the estimator has
changed and the tables have not, without the CSVs, which are not part of this repository.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benchmarks import choices, memory, plot, throughput
from benchmarks.anchors import ANCHORS
from benchmarks.crossing import by_family, by_source, crossed
from benchmarks.rows import Row, read
from benchmarks.scoring import Scored, score, summary
from ftdsl.estimate import memory as gib
from ftdsl.estimate import time as seconds
from ftdsl.estimate.architecture import known
from ftdsl.estimate.setup import Setup

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "planner.md"
CHECK = ROOT / "benchmarks" / "check.csv"
REFERENCE = ROOT / "benchmarks" / "reference.json"

ALL = ("q", "k", "v", "o", "gate", "up", "down")
SETUPS = {
    "Qwen3-8B full, ZeRO-3": Setup(
        known("Qwen3-8B"), strategy="zero3", data=8, master=True, base_dtype="bf16", train_dtype="bf16", card="h100"
    ),
    "Llama-3-8B LoRA": Setup(known("Llama-3-8B"), method="lora", lora_rank=16, lora_targets=ALL, micro_batch=4),
    "Llama-2-70B QLoRA, FSDP": Setup(
        known("Llama-2-70B"),
        method="lora",
        quant="nf4-dq",
        lora_rank=16,
        lora_targets=("q", "v"),
        strategy="fsdp",
        data=2,
    ),
    "Gemma-2-9B DPO": Setup(
        known("Gemma-2-9B"), base_dtype="fp32", objective="dpo", references=1, checkpointing="none"
    ),
    "Mixtral-8x7B GaLore": Setup(known("Mixtral-8x7B"), train_dtype="bf16", optimizer="galore", optimizer_rank=128),
    "GPT3-175B Megatron": Setup(
        known("GPT3-175B"),
        framework="megatron",
        strategy="zero1",
        master=True,
        train_dtype="bf16",
        autocast=False,
        data=2,
        tensor=8,
        pipeline=8,
        accumulate=64,
        norms="fused",
        loss="megatron_ce",
        checkpointing="selective_core_attn",
    ),
}
"""Set-ups that between them meet most terms."""


def reference() -> dict[str, dict[str, int]]:
    """Their estimates: bytes of each phase, microseconds of a step."""
    found = {}
    for name, one in SETUPS.items():
        phases = {phase.name: round(phase.total) for phase in gib.memory(one).phases}
        found[name] = phases | {"microseconds": round(seconds.time(one).step * 1e6)}
    return found


Errors = dict[str, list[float]]


def tables(memory_csv: Path, throughput_csv: Path) -> dict[str, str]:
    """Every table of the page by name."""
    peaks, rates = read(memory_csv), read(throughput_csv)
    weighed = score(peaks, "eval_mem", "mem_gib", "mem_kind", memory.estimate)
    timed = score(rates, "eval_tput", "tok_s_gpu", "tput_unit", throughput.estimate)
    return {
        "memory": _scores(weighed, _without(weighed, memory.CONSTANTS, memory.error, memory.second_figures)),
        "throughput": _scores(timed, _without(timed, throughput.CONSTANTS, throughput.error), kinds=False),
        "families": _families(weighed, timed),
        "others": _others(weighed, timed),
        "fitting": _fitting(peaks),
        "check": checked(),
        "groups": _groups(timed),
        "choices": _choices(rates),
    }


def _without(
    scored: list[Scored],
    names: tuple[str, ...],
    error: Callable[[Row], float],
    beside: Callable[[list[Row]], list[Row]] = lambda rows: [],
    part: Callable[[Row], str] = by_source,
) -> Errors:
    rows = [one.row for one in scored]
    return crossed(rows, names, error, beside(rows), part)


def _percent(errors: list[float]) -> str:
    found = summary(errors)
    return f"{100 * found['mape']:.1f} | {100 * found['median_ape']:.1f}"


def _scores(scored: list[Scored], without: Errors, kinds: bool = True) -> str:
    """By source, with and without itself, and by kind of figure."""
    lines = [f"| **all** | {len(scored)} | {_percent([one.error for one in scored])} | | |"]
    for source, errors in _by(scored, lambda one: one.row.source).items():
        lines.append(f"| {source} | {len(errors)} | {_percent(errors)} | {_percent(without.get(source, errors))} |")
    for kind, errors in _by(scored, lambda one: one.kind).items() if kinds else ():
        lines.append(f"| kind: {kind} | {len(errors)} | {_percent(errors)} | | |")
    head = "| | rows | MAPE % | median % | without itself: MAPE % | median % |\n|---|---|---|---|---|---|"
    return "\n".join([head, *lines])


def _by(scored: list[Scored], key: Callable[[Scored], str]) -> Errors:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for one in scored:
        found[key(one)].append(one.error)
    return dict(sorted(found.items()))


def _families(weighed: list[Scored], timed: list[Scored]) -> str:
    """Both errors by family of models, the constants fitted to the other families."""
    peaks = _without(weighed, memory.CONSTANTS, memory.error, memory.second_figures, by_family)
    rates = _without(timed, throughput.CONSTANTS, throughput.error, part=by_family)
    lines = ["| left out | rows | memory: MAPE % | median % | rows | throughput: MAPE % | median % |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for name in sorted({*peaks, *rates}):
        cells = [f"{len(side[name])} | {_percent(side[name])}" if name in side else "0 | | " for side in (peaks, rates)]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def _others(weighed: list[Scored], timed: list[Scored]) -> str:
    names = {"accelerate": "accelerate 1.11, estimate-memory", "DeepSpeed": "DeepSpeed 0.19.8, estimate_zero2/3",
             "LLaMA-Factory": "LLaMA-Factory 0.9.5, table of its README"}  # fmt: skip
    lines = ["| | rows | MAPE % | ours there |", "|---|---|---|---|"]
    for name, rule in ANCHORS.items():
        theirs, ours = memory.beside(weighed, rule)
        lines.append(f"| {names[name]} | {len(theirs)} | {_mean(theirs)} | {_mean(ours)} |")
    known_rows = [one for one in timed if one.estimated is not None]
    flat = [abs(throughput.flat(one.row) / one.measured - 1) for one in known_rows]
    ours = [one.error for one in known_rows]
    lines.append(f"| 40 % of the card's peak rate, for throughput | {len(flat)} | {_mean(flat)} | {_mean(ours)} |")
    return "\n".join(lines)


def _mean(errors: list[float]) -> str:
    return f"{100 * summary(errors)['mape']:.1f}"


def _fitting(peaks: list[Row]) -> str:
    failed = sum(row.cells["outcome"] == "oom" and row.cells["quality"] != "C" for row in peaks)
    first, *wrong = memory.fitting(peaks).splitlines()
    return "\n".join([f"{first}; {failed} of the rows failed for want of memory.", *(f"-{line[1:]}" for line in wrong)])


def checked() -> str:
    """The rows of our own finding, each with its error."""
    lines = ["| row | measured GiB | estimated | error |", "|---|---|---|---|"]
    scored = score(read(CHECK), "eval_mem", "mem_gib", "mem_kind", memory.estimate)
    for one in scored:
        lines.append(f"| {one.row.id}: {one.row.cells['model']}, {one.row.cells['method']}, {one.row.cells['seq_len']} tokens | "
                     f"{one.measured:g} | {one.estimated:.1f} | {100 * one.error:.0f} % |")  # fmt: skip
    mape, median = _percent([one.error for one in scored]).split(" | ")
    lines.append(f"| **all** | | | MAPE {mape} %, median {median} % |")
    return "\n".join(lines)


def _groups(timed: list[Scored]) -> str:
    text = throughput.told(throughput.groups([one for one in timed if one.estimated is not None]), False)
    first, *rest = text.splitlines()
    return "\n".join([f"{first}.", "", *(f"-{line[1:]}" for line in rest)])


def _choices(rates: list[Row]) -> str:
    found, none = choices.choices(rates)
    left = [f"| {name} | {why} | | | | |" for name, why in none.items()]
    return "\n".join([choices.HEAD, *(choices.line(one) for one in found), *left])


def filled(page: str, found: dict[str, str]) -> str:
    """The page with its tables. Raises: ValueError where it has no place for one."""
    for name, text in found.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if page.count(start) != 1 or page.count(end) != 1:
            raise ValueError(f"docs/planner.md has no place for {name}")
        page = f"{page.partition(start)[0]}{start}\n{text}\n\n{end}{page.partition(end)[2]}"
    return page


def main(argv: list[str]) -> int:
    paths = [Path(text) for text in argv if not text.startswith("--")]
    if len(paths) != 2:
        raise SystemExit("usage: python -m benchmarks.report MEMORY.csv THROUGHPUT.csv [--check]")
    now, before = filled(DOCS.read_text(encoding="utf-8"), tables(*paths)), DOCS.read_text(encoding="utf-8")
    if "--check" in argv:
        print(
            "docs/planner.md is as it should be" if now == before else "docs/planner.md is behind: run without --check"
        )
        return int(now != before)
    DOCS.write_text(now, encoding="utf-8")
    REFERENCE.write_text(json.dumps(reference(), indent=2) + "\n", encoding="utf-8")
    return plot.main(str(paths[0]), str(paths[1]), str(ROOT / "docs" / "planner.svg"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
