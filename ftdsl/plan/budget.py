"""`budget { time, disk, cost }`: limits of the whole recipe. Exceeding one is an error at its line, with alternatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ftdsl import catalog
from ftdsl.estimate.architecture import NotModelledError
from ftdsl.plan.forecast import Forecast, forecasts
from ftdsl.plan.layout_search import LayoutSearch, layout_of
from ftdsl.plan.plan import Plan
from ftdsl.record import replace
from ftdsl.session import Session

LIMITS = ("time", "disk", "cost")
LEAST_STEPS = 10
"""A shorter run than this is not offered to keep a budget."""


def check(plan: Plan, session: Session) -> None:
    """Report each limit that training exceeds. What cannot be estimated counts as 0."""
    limits = {name: plan.recipe.budget[name] for name in LIMITS if name in plan.recipe.budget}
    if not limits:
        return
    by_stage = forecasts(plan, session)
    for name, limit in limits.items():
        taken = {key: _AMOUNTS[name](forecast) for key, forecast in by_stage.items()}
        total = sum(taken.values())
        if total <= limit:
            continue
        verb = "write" if name == "disk" else "take"
        text = f"training would {verb} about {_amount_text(name, total)}, more than the budget ({_amount_text(name, limit)})"
        worst = max(taken, key=lambda key: taken[key])
        label = ", ".join(f"{key} {_amount_text(name, size)}" for key, size in taken.items() if size >= total / 100)
        ways = _ways(name, limit, total, by_stage, worst, plan)
        help = "; or ".join(ways) or "fewer steps or rows, or a larger budget"
        session.sink.error("FT703", text, plan.recipe.budget_spans.get(name, plan.recipe.span), label=label, help=help)


_AMOUNTS: Mapping[str, Callable[[Forecast], float]] = {
    "time": lambda forecast: forecast.seconds, "disk": lambda forecast: forecast.disk, "cost": lambda forecast: forecast.money,
}  # fmt: skip


def _ways(name: str, limit: float, total: float, by_stage: Mapping[str, Forecast], worst: str, plan: Plan) -> list[str]:
    """Changes that keep the limit, as written in the most expensive stage."""
    forecast, stage = by_stage[worst], plan.stage(worst).stage
    left = limit - (total - _AMOUNTS[name](forecast))
    if name == "disk":
        kept = round(forecast.disk / forecast.checkpoint)
        ways = [f"`save {{ keep = {int(left // forecast.checkpoint)} }}` in `{stage.name}`"] * (
            forecast.checkpoint <= left
        )
        if forecast.bare < forecast.checkpoint and forecast.bare <= left:
            fewer = "" if kept * forecast.bare <= left else f"keep = {int(left // forecast.bare)}, "
            ways.append(f"`save {{ {fewer}resumable = false }}` in `{stage.name}`")
        return ways
    ways = [_other_card(name, left, forecast, plan)] if forecast.cards else []
    steps = int(forecast.steps * left / _AMOUNTS[name](forecast))
    if steps >= LEAST_STEPS:
        ways.append(f"`duration = {steps} steps` in `{stage.name}`")
    return [way for way in ways if way]


def _other_card(name: str, left: float, forecast: Forecast, plan: Plan) -> str:
    """The cheapest or fastest GPU on which the same layout fits and keeps the limit."""
    planned = plan.stage(forecast.key)
    kept = []
    for card, price in catalog.prices().items():
        if card == planned.world.gpu:
            continue
        settings = {key: value for key, value in planned.stage.settings.values.items() if key != "hardware.gpu"}
        stage = replace(planned.stage, settings=replace(planned.stage.settings, values=settings))
        layouts = LayoutSearch(stage, replace(planned.world, gpu=card), plan.recipe, planned.precision, planned.engine)
        try:
            cost = layouts.cost(layout_of(planned))
        except NotModelledError:
            continue
        other = replace(forecast, cost=cost, price=price)
        if cost.fits and 0 < _AMOUNTS[name](other) <= left:
            kept.append((_AMOUNTS[name](other), card))
    if not kept:
        return ""
    taken, card = min(kept)
    return f"`gpu = {card}` would take about {_amount_text(name, taken)}"


def _amount_text(name: str, amount: float) -> str:
    if name == "cost":
        return f"{amount:,.2f} USD"
    if name == "disk":
        return f"{amount / 1e9:,.1f} GB"
    hours, minutes = divmod(round(amount / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min" if minutes else f"{amount:.0f} s"
