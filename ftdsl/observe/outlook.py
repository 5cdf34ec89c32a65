"""What a study will take, for `ftc plan`: its space, how much of it cannot run, time and money against the budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ftdsl.observe.text import duration


@dataclass(frozen=True)
class StudyOutlook:
    """points: drawn from the space, of which `refused` cannot run, and how many for which of `reasons`; seconds, money: of a
    trial at each point that can run and whose time is known, shortest first; shared: seconds of what is trained once for all
    trials; budget_seconds, budget_cost: of all trials together, 0 for no limit.
    """

    goals: str
    sampler: str
    pruner: str
    wanted: int
    parallel: int
    dimensions: Mapping[str, str]
    points: int
    refused: int
    reasons: tuple[tuple[str, int], ...] = ()
    seconds: tuple[float, ...] = ()
    money: tuple[float, ...] = ()
    shared: float = 0.0
    budget_seconds: float = 0.0
    budget_cost: float = 0.0

    @property
    def each(self) -> float:
        """Seconds of a trial: the mean; 0 where no time is known."""
        return sum(self.seconds) / len(self.seconds) if self.seconds else 0.0

    @property
    def cost(self) -> float:
        """USD of a trial: the mean; 0 where no price or time is known."""
        return sum(self.money) / len(self.money) if self.money else 0.0

    @property
    def affordable(self) -> int | None:
        """Trials after which the budget is used up; None where all that are wanted keep it, or nothing is known."""
        limits = [
            limit / each
            for limit, each in ((self.budget_seconds, self.each), (self.budget_cost, self.cost))
            if limit and each
        ]
        count = int(min(limits)) if limits else self.wanted
        return count if count < self.wanted else None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "affordable": self.affordable}


def lines(outlook: StudyOutlook) -> Iterator[tuple[str, str]]:
    """A label and a text, for each line below the head."""
    yield "over", ", ".join(f"{name} ~ {space}" for name, space in outlook.dimensions.items())
    share = round(100 * outlook.refused / outlook.points) if outlook.points else 0
    if outlook.refused:
        why = "; ".join(f"{reason} ({count})" for reason, count in outlook.reasons)
        yield (
            "refused",
            f"{outlook.refused} of {outlook.points} points drawn cannot run ({share}%), such are never launched: {why}",
        )
    else:
        yield "refused", f"none of {outlook.points} points drawn from the space"
    if outlook.each:
        yield "takes", _takes(outlook)
    else:
        yield "takes", "not known: no stage of a trial has a forecast"


def _takes(outlook: StudyOutlook) -> str:
    low, high = outlook.seconds[0], outlook.seconds[-1]
    span = f" ({duration(low)} to {duration(high)})" if high > 1.05 * low else ""
    most = "at most " if outlook.pruner not in ("", "none") else ""
    total = outlook.each * outlook.wanted / max(1, outlook.parallel) + outlook.shared
    text = f"{duration(outlook.each)} a trial{span}; all {most}{duration(total)}"
    if outlook.parallel > 1:
        text += f", {outlook.parallel} side by side"
    if outlook.shared:
        text += f", {duration(outlook.shared)} of it once for all"
    if outlook.cost >= 0.005:
        text += f"; {outlook.cost:,.2f} USD a trial, {most}{outlook.cost * outlook.wanted:,.2f} USD"
    if outlook.affordable is not None:
        limits = [duration(outlook.budget_seconds)] if outlook.budget_seconds else []
        limits += [f"{outlook.budget_cost:,.2f} USD"] if outlook.budget_cost else []
        text += f"; the budget of {' and '.join(limits)} ends it after about {outlook.affordable} trials"
    return text


def head(outlook: StudyOutlook) -> str:
    """`30 trials by tpe, pruned by median: minimize(sft.eval_loss)`."""
    pruned = f", pruned by {outlook.pruner}" if outlook.pruner not in ("", "none") else ""
    return f"{outlook.wanted} trials by {outlook.sampler}{pruned}: {outlook.goals}"
