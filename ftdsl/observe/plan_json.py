"""A plan as data, for `ftc plan --json`: bytes, seconds, USD."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftdsl.observe.plan_text import PlanView
from ftdsl.observe.status import Compared, StageStatus

if TYPE_CHECKING:
    from ftdsl.plan.forecast import Forecast
    from ftdsl.plan.untrained import Footprint


def document(plan_view: PlanView) -> list[dict[str, Any]]:
    """Every stage in the order it runs, models made from nothing (`kind`: scratch) among them."""
    recipe = plan_view.plan.recipe
    made = [{"stage": key, "kind": "scratch", **_status(plan_view.statuses.get(key))} for key in plan_view.extra]
    return made + [
        {
            "stage": one.key,
            "kind": one.stage.kind,
            "where": recipe.where(one.stage.span),
            **_status(plan_view.statuses.get(one.key)),
            "processes": one.world.size,
            "card": one.world.gpu or None,
            "batch": "; ".join(one.equations) or None,
            "choices": [{"key": c.key, "value": c.value, "reason": c.reason} for c in one.choices],
            "forecast": _forecast(plan_view.forecasts[one.key]) if one.key in plan_view.forecasts else None,
            "takes": _light(plan_view.lights[one.key]) if one.key in plan_view.lights else None,
            "measured": _measured(plan_view.compared[one.key]) if one.key in plan_view.compared else None,
        }
        for one in plan_view.plan.stages
    ]


def _status(one: StageStatus | None) -> dict[str, Any]:
    return {"state": one.state, "run": one.run or None, "why": list(one.why)} if one else {"state": None}


def _forecast(one: Forecast) -> dict[str, Any]:
    if one.cost is None:
        return {"unknown": one.unknown, "steps": one.steps or None}
    cost, peak = one.cost, one.cost.memory.peak
    return {
        "fits": cost.fits,
        "needed_bytes": round(cost.need),
        "limit_bytes": round(cost.limit),
        "peak": {"phase": peak.name, "allocated_bytes": round(peak.total), "terms": _rounded(peak.terms)},
        "phases": {phase.name: round(phase.total) for phase in cost.memory.phases},
        "reserved_bytes": round(cost.memory.reserved) if one.cards else None,
        "nvidia_smi_bytes": round(cost.memory.nvidia_smi) if one.cards else None,
        "step_seconds": round(cost.seconds, 4),
        "tokens_per_second_and_card": round(cost.tokens, 1),
        "steps": one.steps or None,
        "seconds": round(one.seconds, 1) or None,
        "disk_bytes": round(one.disk),
        "usd": round(one.money, 2) or None,
        "price": {"usd_per_card_and_hour": one.price, "source": one.priced_by} if one.price else None,
        "calibrated_from_runs": one.here.runs,
        "ways_out": [{"edits": dict(way.edits), "gives_up": way.gives_up, "needed_bytes": round(way.cost.need),
                      "step_seconds": round(way.cost.seconds, 4)} for way in one.ways],
    }  # fmt: skip


def _rounded(terms: dict[str, float]) -> dict[str, int]:
    return {name: round(size) for name, size in terms.items() if size >= 1}


def _light(one: Footprint) -> dict[str, Any]:
    found = {
        "memory_bytes": round(one.memory),
        "of_the_card": one.card,
        "disk_bytes": round(one.disk),
        "rows": one.rows,
    }
    return {"unknown": one.unknown, "rows": one.rows} if one.unknown else found


def _measured(one: Compared) -> dict[str, Any]:
    return {
        "memory_bytes": round(one.memory), "planned_memory_bytes": round(one.planned_memory), "step_seconds": one.step,
        "planned_step_seconds": round(one.planned_step, 5), "row_length": one.length,
    }  # fmt: skip
