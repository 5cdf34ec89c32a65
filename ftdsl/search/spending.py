"""What the trials of a study have taken, against `budget { time, cost }`: when it is used up, the study ends with what it has."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ftdsl.observe.study import TrialRow
from ftdsl.observe.text import duration


@dataclass(frozen=True)
class Spending:
    """limit_seconds: of all trials together, side by side or not; limit_cost: USD; 0: no limit. hourly: USD an hour of a trial
    at list price, 0 where it is not known.
    """

    limit_seconds: float = 0.0
    limit_cost: float = 0.0
    hourly: float = 0.0

    @staticmethod
    def of(budget: Mapping[str, float], prices: Mapping[str, float], stages: Iterable[str]) -> Spending:
        """budget: of the recipe; prices: USD an hour by stage; stages: those of a trial."""
        hourly = max((prices[key] for key in stages if key in prices), default=0.0)
        return Spending(float(budget.get("time", 0.0)), float(budget.get("cost", 0.0)), hourly)

    @property
    def limited(self) -> bool:
        """Whether there is anything to compare with."""
        return bool(self.limit_seconds or (self.limit_cost and self.hourly))

    def over(self, seconds: float) -> str:
        """Why the study ends after so many seconds of its trials; "" while it may continue."""
        if self.limit_seconds and seconds >= self.limit_seconds:
            return f"its budget of {duration(self.limit_seconds)} is used up"
        if self.limit_cost and self.hourly and self._cost(seconds) >= self.limit_cost:
            return f"its budget of {self.limit_cost:.2f} USD is used up"
        return ""

    def text(self, seconds: float) -> str:
        """`42 min of 4 h, 1.20 of 20.00 USD`; "" without a budget."""
        parts = []
        if self.limit_seconds:
            parts.append(f"{duration(seconds)} of {duration(self.limit_seconds)}")
        if self.limit_cost and self.hourly:
            parts.append(f"{self._cost(seconds):.2f} of {self.limit_cost:.2f} USD")
        return ", ".join(parts)

    def _cost(self, seconds: float) -> float:
        return seconds / 3600 * self.hourly


def seconds_of(rows: Iterable[TrialRow], running: Mapping[int, float]) -> float:
    """Time of all trials. running: when those that run now began (again), by number."""
    now = time.time()
    return sum(row.spent + (now - running[row.number] if row.number in running else 0.0) for row in rows)
