"""A plan as data, for `ftc plan --json`: bytes, seconds, USD."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftdsl.observe.plan_text import PlanView
from ftdsl.observe.status import Compared, StageStatus

if TYPE_CHECKING:
    from ftdsl.plan.forecast import Forecast
    from ftdsl.plan.search import Cost
    from ftdsl.plan.untrained import Footprint


def document(plan_view: PlanView) -> list[dict[str, Any]]:
    """All stages in run order, including models from scratch (`kind`: scratch)."""
    recipe = plan_view.plan.recipe
    made = [{"stage": key, "kind": "scratch", **_status(plan_view.statuses.get(key))} for key in plan_view.extra]
    return made + [
        {
            "stage": planned.key,
            "kind": planned.stage.kind,
            "where": recipe.location(planned.stage.span),
            **_status(plan_view.statuses.get(planned.key)),
            "processes": planned.world.size,
            "card": planned.world.gpu or None,
            "batch": "; ".join(planned.equations) or None,
            "choices": [{"key": c.key, "value": c.value, "reason": c.reason} for c in planned.choices],
            "forecast": _forecast(plan_view.forecasts[planned.key]) if planned.key in plan_view.forecasts else None,
            "takes": _footprint(plan_view.footprints[planned.key]) if planned.key in plan_view.footprints else None,
            "measured": _measured(plan_view.compared[planned.key]) if planned.key in plan_view.compared else None,
        }
        for planned in plan_view.plan.stages
    ]


def _status(status: StageStatus | None) -> dict[str, Any]:
    return {"state": status.state, "run": status.run or None, "why": list(status.why)} if status else {"state": None}


def _forecast(forecast: Forecast) -> dict[str, Any]:
    if forecast.cost is None:
        return {"unknown": forecast.unknown, "steps": forecast.steps or None}
    cost, peak = forecast.cost, forecast.cost.memory.peak
    return {
        "fits": cost.fits,
        "fits_rows_of": forecast.longest_row or None,
        "needed_bytes": round(cost.need),
        "limit_bytes": round(cost.limit),
        "peak": {"phase": peak.name, "allocated_bytes": round(peak.total), "terms": _rounded(peak.terms)},
        "phases": {phase.name: round(phase.total) for phase in cost.memory.phases},
        "reserved_bytes": round(cost.memory.reserved) if forecast.cards else None,
        "nvidia_smi_bytes": round(cost.memory.nvidia_smi) if forecast.cards else None,
        "step_seconds": round(cost.seconds, 4),
        "tokens_per_second_and_card": round(cost.tokens, 1),
        "answers": _answers(cost),
        "steps": forecast.steps or None,
        "resumed_step": forecast.resumed or None,
        "seconds": round(forecast.seconds, 1) or None,
        "disk_bytes": round(forecast.disk),
        "usd": round(forecast.money, 2) or None,
        "price": {"usd_per_card_and_hour": forecast.price, "source": forecast.priced_by} if forecast.price else None,
        "calibrated_from_runs": forecast.here.runs,
        "ways_out": [{"edits": dict(way.edits), "gives_up": way.gives_up, "needed_bytes": round(way.cost.need),
                      "step_seconds": round(way.cost.seconds, 4)} for way in forecast.ways],
    }  # fmt: skip


def _answers(cost: Cost) -> dict[str, Any] | None:
    """Of a stage that trains on the model's own answers: tokens of one at most, how many a process writes at once, seconds of a
    step at most (None where vLLM writes them)."""
    setup = cost.memory.setup
    if not setup.rollout:
        return None
    at_once = 0 if setup.vllm else setup.micro_batch * setup.accumulate
    return {"tokens": setup.rollout, "at_once": at_once or None, "seconds": round(cost.writing, 4) or None}


def _rounded(terms: dict[str, float]) -> dict[str, int]:
    return {name: round(size) for name, size in terms.items() if size >= 1}


def _footprint(footprint: Footprint) -> dict[str, Any]:
    document = {
        "memory_bytes": round(footprint.memory),
        "of_the_card": footprint.card,
        "disk_bytes": round(footprint.disk),
        "rows": footprint.rows,
    }
    return {"unknown": footprint.unknown, "rows": footprint.rows} if footprint.unknown else document


def _measured(compared: Compared) -> dict[str, Any]:
    return {
        "memory_bytes": round(compared.memory),
        "planned_memory_bytes": round(compared.planned_memory),
        "step_seconds": compared.step,
        "planned_step_seconds": round(compared.planned_step, 5),
        "row_length": compared.length,
    }
