"""`python -m benchmarks.choices CSV [--json]`: what `auto` chooses for the model, card and number of cards of each group of
published rows, beside the group's best.

A recipe is written that fixes what is the author's (model, cards, length, global batch, kernels: those of the group's best row)
and leaves method, strategy, offload, checkpointing and micro-batch open. Where the layout chosen is in the group, what its row
keeps of the best published throughput is told; where it is not, what the planner says of both.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.rows import Row, setup
from benchmarks.scoring import Scored, arguments, score
from benchmarks.throughput import Group, estimate, groups
from ftdsl import catalog
from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import check
from ftdsl.plan.engine import Layout
from ftdsl.plan.layout_search import LayoutSearch, layout_of
from ftdsl.plan.search import Cost
from ftdsl.record import frozen
from ftdsl.session import Session

RECIPE = """\
hardware {{ gpu = {gpu}({memory}GB), count = {count}, nodes = {nodes} }}
sft {{
  model    = hf("somebody/model", like = "{model}")
  template = default
  data     = file("rows.jsonl")
  duration = 100 steps
  max_len  = {length}
  packing  = true
  batch {{ global = {batch} }}{kernels}
}}
"""
ENOUGH = 0.95


@frozen
class Choice:
    """What was chosen for a group: `cost` of the layout, the group's best row, and the row that has the layout, if any."""

    group: Group
    cost: Cost
    best: Scored
    row: Scored | None

    @property
    def kept(self) -> float | None:
        return self.row.measured / self.best.measured if self.row else None

    @property
    def verdict(self) -> str:
        if self.kept is None:
            return "not in the group"
        return "good" if self.kept >= ENOUGH else "misses"


def chosen(group: Group, folder: Path) -> Choice:
    """Raises: ValueError where `auto` found nothing to choose from, with why."""
    best = max(group.rows, key=lambda one: one.measured)
    (folder / "rows.jsonl").write_text('{"instruction": "q", "input": "", "output": "a"}\n', encoding="utf-8")
    (folder / "recipe.ft").write_text(recipe(best.row), encoding="utf-8")
    session = Session(env={"FTC_ENGINE_PYTHON": "nowhere/bin/python"})
    plan = check(folder / "recipe.ft", Options(), session).plan
    if plan is None:
        raise ValueError("; ".join(one.message for one in session.sink.ordered() if one.severity.value == "error"))
    planned = plan.stages[0]
    cost = LayoutSearch(planned.stage, planned.world, plan.recipe, planned.precision, planned.engine).cost(
        layout_of(planned)
    )
    same = [one for one in group.rows if _same(one.row, cost.layout, best.row)]
    return Choice(group, cost, best, max(same, key=lambda one: one.measured) if same else None)


def recipe(row: Row) -> str:
    """What of a row is its author's, as a recipe."""
    one = setup(row)
    node = min(one.world, 8)
    return RECIPE.format(
        gpu=one.card,
        memory=round(one.card_memory * 2**30 / 1e9)
        if one.card_memory not in _sizes(one.card)
        else round(one.card_memory),
        count=node,
        nodes=one.world // node,
        model=row.cells["model"],
        length=one.seq_len,
        batch=one.micro_batch * one.accumulate * one.data,
        kernels="\n  kernels  = liger" if one.loss == "flce" else "",
    )


def _sizes(card: str) -> tuple[float, ...]:
    return tuple(catalog.gpus()[card].memory)


def _same(row: Row, layout: Layout, best: Row) -> bool:
    """Whether a row ran a layout, at the best row's length: FSDP and ZeRO-3 both shard all there is."""
    one = setup(row)
    strategies = {"": ("single",), "ddp": ("ddp",), "zero2": ("zero2", "fsdp_grad_op"), "zero3": ("zero3", "fsdp")}
    bits = {"nf4": 4, "nf4-dq": 4, "gptq4": 4, "int8": 8, "gptq8": 8}.get(one.quant, 0)
    return (
        (one.method, bits, one.checkpointing, one.micro_batch)
        == (layout.method, layout.bits, layout.checkpointing, layout.micro)
        and one.strategy in strategies.get(layout.strategy, (layout.strategy,))
        and row.cells["seq_len"] == best.cells["seq_len"]
    )


def text(layout: Layout) -> str:
    """A layout in few words."""
    method = {"full": "full"}.get(layout.method, "QLoRA" if layout.bits else "LoRA")
    words = [method, layout.strategy or "one process", f"micro {layout.micro}"]
    words += ["recomputed"] if layout.checkpointing == "full" else []
    return ", ".join(words + ([f"{layout.offload} offloaded"] if layout.offload != "none" else []))


def row_text(one: Scored) -> str:
    """A row's layout in the same words."""
    found = setup(one.row)
    method = "full" if found.method == "full" else "LoRA" if found.quant == "none" else "QLoRA"
    words = [method, found.strategy, f"micro {found.micro_batch}"]
    return ", ".join(words + (["recomputed"] if found.checkpointing == "full" else []))


def choices(rows: list[Row]) -> tuple[list[Choice], dict[str, str]]:
    """Of every group, and why there is none for the others."""
    read = [one for one in score(rows, "eval_tput", "tok_s_gpu", "tput_unit", estimate) if one.estimated is not None]
    found, none = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for group in groups(read):
            try:
                found.append(chosen(group, Path(folder)))
            except ValueError as problem:
                none[group.name] = str(problem)
    return found, none


def line(one: Choice) -> str:
    """One group as a row of a table: chosen, published for it or else estimated, the best with published and estimated."""
    mine = f"{one.row.measured:,.0f} ({one.kept:.0%})" if one.row else f"est. {one.cost.tokens:,.0f}"
    best = f"{one.best.measured:,.0f}, est. {one.best.estimated:,.0f}"
    return f"| {one.group.name} | {text(one.cost.layout)} | {mine} | {row_text(one.best)} | {best} | {one.verdict} |"


HEAD = """\
| group | `auto` | tokens/s | best published | tokens/s | |
|---|---|---|---|---|---|"""


def main(argv: list[str]) -> int:
    rows, options = arguments(argv, "python -m benchmarks.choices CSV [--json]")
    found, none = choices(rows)
    if "--json" in options:
        counted = {name: sum(one.verdict == name for one in found) for name in ("good", "misses", "not in the group")}
        print(json.dumps(counted | {"none": none}, indent=2))
        return 0
    print(HEAD, *(line(one) for one in found), sep="\n")
    for name, why in none.items():
        print(f"{name}: {why}")
    unfit = [one for one in found if not one.cost.fits]
    print(f"\n{len(found)} groups, {sum(one.verdict == 'good' for one in found)} in the group with {ENOUGH:.0%} of the best, "
          f"{sum(one.verdict == 'misses' for one in found)} below, {len(unfit)} that do not fit")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
