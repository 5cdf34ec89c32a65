"""The runs of a sweep side by side, in the order of a score that compares them; or, where there is none, why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftdsl.observe.metrics import Tail
from ftdsl.observe.progress import RunProgress, StageProgress
from ftdsl.observe.text import duration, number
from ftdsl.runtime import events

END_LOSS = "end_loss"
"""Mean training loss of the last tenth of the logged steps, of at least three: that of one step is mostly chance."""

LOSS_DEPENDS_ON = ("beta", "loss", "label_smoothing", "sft_weight", "margin", "sft_share")
"""Axes that change what the loss is: its values under two of them cannot be compared."""


@dataclass(frozen=True)
class Sweep:
    """Runs of one stage, in order. score: the metric that orders them, "" where none does; fair: whether it says which is best;
    note: why it does not."""

    name: str
    runs: Sequence[tuple[StageProgress, Mapping[str, float]]]
    score: str
    fair: bool
    note: str = ""

    @property
    def best(self) -> StageProgress | None:
        """The best run; None where no score says which it is."""
        return self.runs[0][0] if self.fair and self.runs else None


def sweeps(run: RunProgress) -> Iterator[Sweep]:
    """The sweeps of a run of which at least two runs have ended with metrics."""
    for name in dict.fromkeys(stage.key.partition("@")[0] for stage in run.stages if "@" in stage.key):
        sweep = _sweep(name, run)
        if len(sweep.runs) > 1:
            yield sweep


def _sweep(name: str, run: RunProgress) -> Sweep:
    ended = [
        (stage, dict(stage.result.metrics))
        for stage in run.stages
        if stage.key.partition("@")[0] == name and stage.status.ok and stage.result and stage.result.metrics
    ]
    swept = {axis for stage, _ in ended for axis, _ in axes(stage)}
    depends = next((axis for axis in LOSS_DEPENDS_ON if axis in swept), "")

    def all_have(metric: str) -> bool:
        return bool(ended) and all(metric in metrics for _, metrics in ended)

    trained = any("last_loss" in metrics or "train_loss" in metrics for _, metrics in ended)
    if all_have("reward") and trained:
        return Sweep(name, _ordered(ended, "reward", highest=True), "reward", True)
    score = next((metric for metric in ("eval_loss", "loss") if all_have(metric)), "")
    if score and depends:
        return Sweep(name, ended, "", False, f"`{depends}` changes what the loss is: its values are no comparison")
    if score:
        return Sweep(name, _ordered(ended, score), score, True)
    if not trained:
        return Sweep(name, ended, "", False)
    if depends:
        return Sweep(name, ended, "", False, f"`{depends}` changes what the loss is; `eval` stages compare the results")
    for stage, metrics in ended:
        if (loss := end_loss(run.folder / stage.folder)) is not None:
            metrics[END_LOSS] = loss
    score = END_LOSS if all_have(END_LOSS) else next((m for m in ("last_loss", "train_loss") if all_have(m)), "")
    note = (
        "no run is called the best: nothing held out is scored, and the loss of the rows that are trained on is lowest "
        "where they are learned by heart; `evaluate { data = … }` compares"
    )
    return Sweep(name, _ordered(ended, score) if score else ended, score, False, note)


def _ordered(
    ended: Sequence[tuple[StageProgress, dict[str, float]]], score: str, *, highest: bool = False
) -> list[tuple[StageProgress, dict[str, float]]]:
    """Best first; a value that is no number last."""

    def key(item: tuple[StageProgress, dict[str, float]]) -> tuple[bool, float]:
        value = item[1][score]
        return value != value, -value if highest else value

    return sorted(ended, key=key)


def end_loss(folder: Path) -> float | None:
    """The mean loss of the last tenth of the steps that a stage logged, of at least three; None where it logged none."""
    losses: dict[int, float] = {}
    for event in Tail(folder / events.METRICS).read():
        if event["event"] == "step" and "loss" in event:
            losses[event["step"]] = event["loss"]
    values = [losses[step] for step in sorted(losses)]
    last = values[-max(3, len(values) // 10) :]
    return sum(last) / len(last) if last else None


def rows(sweep: Sweep) -> list[tuple[str, ...]]:
    """A table: axes, metrics, time of each run; the best first."""
    metrics = list(dict.fromkeys(metric for _, values in sweep.runs for metric in values))
    names = list(dict.fromkeys(axis for stage, _ in sweep.runs for axis, _ in axes(stage)))
    table = [(sweep.name, *names, *metrics, "time")]
    for stage, values in sweep.runs:
        settings = dict(axes(stage))
        mark = "best" if stage is sweep.best else ""
        shown = (number(values[metric]) if metric in values else "-" for metric in metrics)
        table.append((mark, *(settings.get(axis, "") for axis in names), *shown, spent(stage)))
    return table


def spent(stage: StageProgress) -> str:
    """How long a stage took; "" while it runs, or where it did not."""
    return duration(stage.elapsed(stage.ended)) if stage.started and stage.ended else ""


def axes(stage: StageProgress) -> list[tuple[str, str]]:
    """(`lr`, `1e-4`), (`rank`, `8`) of a stage's key."""
    parts = stage.key.partition("@")[2].split(",")
    return [(name, value) for name, equals, value in (part.partition("=") for part in parts) if equals]
