"""What stages that do not train take: rows of a data stage, disk of a merge, memory of an evaluation; about, and said so."""

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
"""Bytes of a weight in 4-bit GPTQ, with scales (docs/planner.md); each bit more or less is an eighth."""


@frozen
class Footprint:
    """memory: bytes, of a card where `card`, else of main memory; disk: bytes it writes; rows: of the data (None: not known);
    length: tokens of the longest row there may be, which an evaluation's memory is for; unknown: why there is nothing to say.
    """

    key: str
    memory: float = 0.0
    card: bool = False
    disk: float = 0.0
    rows: int | None = None
    length: int = 0
    unknown: str = ""


def light(planned: PlannedStage, plan: Plan, files: Files, base: float = cpu.BASE.value) -> Footprint:
    """Of a stage that does not train. `base`: bytes of the engine's process before the model. Never raises."""
    kind = planned.stage.kind
    if kind == "shell":
        return Footprint(planned.key, unknown="a script of yours: what it takes is not known")
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
    """Weights, logits of a batch, and keys and values of what is generated."""
    settings = planned.stage.settings
    get = settings.get
    number = 4.0 if not planned.world.gpu else 2.0
    rows, length = _whole(get("batch"), 1), _whole(get("max_len"), 2048)
    per = weights.QUANT_BYTES["nf4"] if settings.has("quantize") and _whole(get("quantize.bits"), 4) == 4 else number
    held = a.layers * a.layer_linear * per + (a.params - a.layers * a.layer_linear) * number
    asked = set(settings.names("metrics")) or {"loss"}
    scored = length if asked & {"loss", "accuracy"} else 1  # a prompt that is only answered has those of its last token
    logits = rows * scored * a.vocab * loss.EVALUATED
    new = _whole(get("generate.max_new_tokens"), 0)
    cache = 2.0 * a.layers * a.kv * number * rows * (length + new) if new else 0.0
    memory = held + max(logits, cache) + (CONTEXT if planned.world.gpu else base)
    return Footprint(planned.key, memory, bool(planned.world.gpu), 0.0, _rows(planned, plan, files), length)


def _export(planned: PlannedStage, plan: Plan, a: Architecture, base: float) -> Footprint:
    """A whole model read, and written once."""
    dtype = planned.stage.settings.name("dtype")
    origin = plan.origin(planned.stage)
    made = isinstance(origin, Term) and origin.name == "scratch"  # runtime/scratch.py writes fp32
    per = BYTES.get(dtype, 4.0 if made else 2.0)
    if planned.stage.kind == "quantize":
        bits = _whole(planned.stage.settings.get("bits"), 4)
        linear = a.layers * a.layer_linear
        disk = linear * (GROUPED + (bits - 4) / 8) + (a.params - linear) * 2.0
        return Footprint(planned.key, a.params * 2.0, bool(planned.world.gpu), disk)
    return Footprint(planned.key, a.params * per + base, False, a.params * per)


def _whole(said: object, otherwise: int) -> int:
    number = getattr(said, "number", said)
    return int(number) if isinstance(number, int | float) and not isinstance(number, bool) else otherwise
