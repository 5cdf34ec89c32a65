"""Rough cost of stages that do not train: rows of a data stage, disk of a merge, memory of an evaluation."""

from __future__ import annotations

from ftdsl.estimate import cpu, loss, weights
from ftdsl.estimate.architecture import Architecture, NotModelledError
from ftdsl.estimate.fit import CONTEXT
from ftdsl.estimate.setup import BYTES
from ftdsl.language.values import Term
from ftdsl.plan.count_rows import rows_of, size_of
from ftdsl.plan.layout import architecture_of
from ftdsl.plan.plan import Plan, PlannedStage
from ftdsl.recipe.rules.data import named
from ftdsl.record import frozen
from ftdsl.session import Files

GROUPED = 0.52
"""Bytes per weight in 4-bit GPTQ, with scales (docs/planner.md); each bit more or less adds or saves an eighth of a byte."""


@frozen
class Footprint:
    """The cost of a stage.

    memory: bytes, of a GPU if `card`, else of main memory; disk: bytes that it writes; rows: of its data (None: unknown);
    length: maximum tokens per row, which an evaluation's memory is estimated for; unknown: why there is no estimate.
    """

    key: str
    memory: float = 0.0
    card: bool = False
    disk: float = 0.0
    rows: int | None = None
    length: int = 0
    unknown: str = ""


def footprint(planned: PlannedStage, plan: Plan, files: Files, base: float = cpu.BASE.value) -> Footprint:
    """The cost of a stage that does not train. base: bytes of the engine's process without the model. Never raises."""
    kind = planned.stage.kind
    if kind == "shell":
        return Footprint(planned.key, unknown="the cost of your own script is not known")
    if kind == "data":
        return _data(planned, plan, files)
    try:
        architecture = architecture_of(planned.stage, plan.recipe, files)
    except NotModelledError as error:
        return Footprint(planned.key, rows=_rows(planned, plan, files), unknown=str(error))
    if kind == "eval":
        return _eval(planned, plan, architecture, files, base)
    return _export(planned, plan, architecture, base)


def _data(planned: PlannedStage, plan: Plan, files: Files) -> Footprint:
    sources = named(planned.stage.settings, "source")
    counted = [rows_of(source, plan.recipe, files) for source in sources]
    sizes = [size_of(source, plan.recipe, files) for source in sources]
    if not counted or any(count is None for count in counted):
        return Footprint(planned.key, unknown="its rows are not on this machine")
    return Footprint(planned.key, disk=float(sum(sizes)), rows=sum(count or 0 for count in counted))


def _rows(planned: PlannedStage, plan: Plan, files: Files) -> int | None:
    counted = [rows_of(item, plan.recipe, files) for item in named(planned.stage.settings, "data")]
    rows = None if not counted or any(count is None for count in counted) else sum(count or 0 for count in counted)
    limit = planned.stage.settings.get("limit")
    return min(rows, limit) if rows is not None and isinstance(limit, int) else rows


def _eval(planned: PlannedStage, plan: Plan, a: Architecture, files: Files, base: float) -> Footprint:
    """Weights, logits of a batch, and the key-value cache of generation."""
    settings = planned.stage.settings
    get = settings.get
    number = 4.0 if not planned.world.gpu else 2.0
    batch, length = _whole(get("batch"), 1), _whole(get("max_len"), 2048)
    per = weights.QUANT_BYTES["nf4"] if settings.has("quantize") and _whole(get("quantize.bits"), 4) == 4 else number
    held = a.layers * a.layer_linear * per + (a.params - a.layers * a.layer_linear) * number
    metrics = set(settings.names("metrics")) or {"loss"}
    scored = length if metrics & {"loss", "accuracy"} else 1  # generation needs the logits of the last token only
    logits = batch * scored * a.vocab * loss.EVALUATED
    new = _whole(get("generate.max_new_tokens"), 0)
    cache = 2.0 * a.layers * a.kv * number * batch * (length + new) if new else 0.0
    memory = held + max(logits, cache) + (CONTEXT if planned.world.gpu else base)
    return Footprint(planned.key, memory, bool(planned.world.gpu), 0.0, _rows(planned, plan, files), length)


def _export(planned: PlannedStage, plan: Plan, a: Architecture, base: float) -> Footprint:
    """The whole model is read, and written once."""
    dtype = planned.stage.settings.name("dtype")
    origin = plan.origin(planned.stage)
    from_scratch = isinstance(origin, Term) and origin.name == "scratch"  # runtime/scratch.py writes fp32
    per = BYTES.get(dtype, 4.0 if from_scratch else 2.0)
    if planned.stage.kind == "quantize":
        bits = _whole(planned.stage.settings.get("bits"), 4)
        linear = a.layers * a.layer_linear
        disk = linear * (GROUPED + (bits - 4) / 8) + (a.params - linear) * 2.0
        return Footprint(planned.key, a.params * 2.0, bool(planned.world.gpu), disk)
    return Footprint(planned.key, a.params * per + base, False, a.params * per)


def _whole(value: object, default: int) -> int:
    number = getattr(value, "number", value)
    return int(number) if isinstance(number, int | float) and not isinstance(number, bool) else default
