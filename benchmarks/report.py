"""`python -m benchmarks.report MEMORY.csv THROUGHPUT.csv [--check]`: writes every table of docs/planner.md and its picture anew.

Tables stand between `<!-- name -->` and `<!-- /name -->`. With `--check` nothing is written, and whether the page is behind is
said. The estimates of a few set-ups are kept beside (benchmarks/reference.json), so that a test sees when the estimator has
changed and the tables have not, without the CSVs, which are not part of this repository.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks import choices, fits, memory, plot, throughput
from benchmarks.anchors import ANCHORS
from benchmarks.crossing import by_family, crossed
from benchmarks.rows import Row, read
from benchmarks.scoring import Scored, macro, score, scores, summary
from benchmarks.scoring import report as report_of
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


def tables(memory_csv: Path, throughput_csv: Path) -> dict[str, str]:
    """Every table of the page by name."""
    peaks, rates = read(memory_csv), read(throughput_csv)
    weighed = score(peaks, "eval_mem", "mem_gib", "mem_kind", memory.estimate, memory.interval)
    timed = score(rates, "eval_tput", "tok_s_gpu", "tput_unit", throughput.estimate, throughput.interval)
    return {
        "memory": _scores(weighed, memory.without_itself([one.row for one in weighed])),
        "throughput": _scores(timed, throughput.without_itself([one.row for one in timed]), kinds=False),
        "families": _families(weighed, timed),
        "others": _others(weighed, timed),
        "fitting": _fitting(memory_csv, throughput_csv),
        "check": checked(),
        "groups": _groups(timed),
        "choices": _choices(rates),
    }


def _percent(errors: list[float]) -> str:
    found = summary(errors)
    return f"{100 * found['mape']:.1f} | {100 * found['median_ape']:.1f}"


def _cells(found: dict[str, float]) -> str:
    return f"{100 * found['mape']:.1f} | {100 * found['median_ape']:.1f} | {100 * found['coverage']:.0f}"


def _scores(scored: list[Scored], without: dict[str, list[Scored]], kinds: bool = True) -> str:
    """By source, in sample and as a source that nobody has seen, and by kind of figure."""
    in_sample = report_of(scored)
    outside = {source: scores(group) for source, group in without.items()}
    lines = [f"| **all** | {len(scored)} | {_cells(in_sample['total'])} | | | |"]
    for source, found in in_sample["by_source"].items():
        lines.append(f"| {source} | {found['rows']} | {_cells(found)} | {_cells(outside[source])} |")
    means, left_out = in_sample["total"], macro(outside)
    cells = [_cells({"mape": one["macro_mape"], "median_ape": one["macro_median"], "coverage": one["macro_coverage"]})
             for one in (means, left_out)]  # fmt: skip
    lines.append(f"| **mean over sources** | {len(outside)} | {cells[0]} | {cells[1]} |")
    for kind, found in in_sample["by_kind"].items() if kinds else ():
        lines.append(f"| kind: {kind} | {found['rows']} | {_cells(found)} | | | |")
    head = "| | rows | MAPE % | median % | inside % | left out: MAPE % | median % | inside % |\n|---|---|---|---|---|---|---|---|"
    return "\n".join([head, *lines])


def _families(weighed: list[Scored], timed: list[Scored]) -> str:
    """Both errors by family of models, the constants fitted to the other families."""
    own = [one.row for one in weighed]
    peaks = crossed(own, memory.CONSTANTS, memory.log_error, memory.second_figures(own), by_family, memory.error)
    own = [one.row for one in timed]
    rates = crossed(own, throughput.CONSTANTS, throughput.log_error, [], by_family, throughput.error)
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


def _fitting(*paths: Path) -> str:
    verdicts = fits.judge_all(list(paths))
    lines = [
        "| | ran | refused | called safe | ran out of memory | called safe | refused |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, group in {"**all**": fits.counts(verdicts), **fits.by_source(verdicts)}.items():
        ran, failed = group["ran"], group["failed"]
        lines.append(f"| {name} | {ran['rows']} | {ran['refused']} | {ran['safe']} | {failed['rows']} | {failed['safe']} | "
                     f"{failed['refused']} |")  # fmt: skip
    wrong = [f"- {one}" for one in verdicts if one.wrong]
    return "\n".join([*lines, "", *wrong] if wrong else lines)


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
