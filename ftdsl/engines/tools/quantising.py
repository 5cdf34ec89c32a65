"""`quantize` stages: llm-compressor, bitsandbytes and llama.cpp's converter, each in an environment of its own.

GPTQ by gptqmodel is the engine's own export, where it has one.
"""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Document, Job
from ftdsl.engines.shared import assemble
from ftdsl.engines.shared.calibrating import Calibration, calibration
from ftdsl.engines.shared.card import card_of
from ftdsl.engines.shared.merging import warn_quantised_by_name
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.tools.tool import GGUF, LLMCOMPRESSOR
from ftdsl.engines.tools.written_model import hub_options, shards_and_push
from ftdsl.estimate.architecture import NotModelledError
from ftdsl.language.values import Term
from ftdsl.plan.layout import architecture_of

PROGRAM = "runtime/quantise.py"
MODULES = ("__init__", "checkpoints", "events", "proof", "quantise", "report", "shipping")
CALIBRATED = ("gptq", "awq", "w8a8")
BITS = {"gptq": (2, 3, 4, 8), "awq": (4,), "fp8": (8,), "w8a8": (8,), "nf4": (4,), "int8": (8,)}
GROUP = 128
"""Weights that share a scale, where the recipe says nothing (compressed-tensors, W4A16)."""


def wants(context: StageContext) -> bool:
    """Whether a tool quantises, and not the engine."""
    if context.stage.kind != "quantize":
        return False
    scheme = context.name("scheme") or "gptq"
    if "scheme" in context.stage.unknown:
        return True
    return scheme != "gptq" or context.name("library") == "llmcompressor" or "quantize" not in context.engine.lowerings


def job(context: StageContext) -> Job:
    scheme = context.name("scheme") or "gptq"
    if "scheme" in context.stage.unknown:
        scheme = "fp8"  # whatever was meant is not asked for more than it takes
    rows = calibration(context) if scheme in CALIBRATED or context.get("calibrate") is not None else None
    _check(context, scheme)
    tool = GGUF if scheme == "gguf" else LLMCOMPRESSOR
    document = Document(f"{context.folder}/quantise.json", "json", _spec(context, scheme, rows), bookkeeping=("card",))
    documents = [document, *(rows.documents if rows else ())]
    comment = f"{tool.title}, in its own environment"
    commands = [*(rows.commands if rows else ()), Command((tool.python, PROGRAM, document.path), comment=comment)]
    title = assemble.title_of(context, _what(context, scheme))
    result = "files" if scheme == "gguf" else "model"
    inputs = list(rows.inputs) if rows else []
    return assemble.job_of(context, documents, commands, inputs, result, title, runtime=MODULES, environment=tool.name)


def _what(context: StageContext, scheme: str) -> str:
    if scheme == "gguf":
        return f"GGUF ({_gguf_type(context)})"
    return f"{context.get('bits') or BITS[scheme][-1]}-bit {scheme}" if scheme in ("gptq", "awq") else scheme


def _gguf_type(context: StageContext) -> str:
    value = context.option("scheme", "type")
    return value.name if isinstance(value, Term) else str(value or "q8_0")


def _check(context: StageContext, scheme: str) -> None:
    """What cannot work, before anything starts."""
    if context.name("library") == "gptqmodel" and scheme != "gptq":
        context.refuse("library", f"gptqmodel makes GPTQ, and no {scheme}", "drop it")
    if context.name("library") == "llmcompressor" and scheme in ("nf4", "int8", "gguf"):
        context.refuse("library", f"llm-compressor makes no {scheme}", "drop it")
    bits = context.get("bits")
    if context.is_explicit("bits") and scheme in BITS and bits not in BITS[scheme]:
        allowed = " or ".join(map(str, BITS[scheme]))
        context.refuse("bits", f"`{scheme}` has {allowed} bits, not {bits}", "drop it, or choose another `scheme`")
    if context.is_explicit("bits") and scheme == "gguf":
        context.refuse("bits", "the type of a GGUF file says its bits", "write `scheme = gguf(q8_0)`")
    if scheme in ("nf4", "int8") and context.get("legacy"):
        context.refuse("legacy", "bitsandbytes writes safetensors", "drop it")
    if context.get("calibrate") is None and context.is_explicit("max_len"):
        context.warn("max_len", "`max_len` is of rows to calibrate with, and there are none", "drop it")
    if context.is_explicit("dtype"):
        context.warn("dtype", "`dtype` is of merged weights; what is not quantised keeps its own", "drop it")
    warn_quantised_by_name(context)
    _check_groups(context, scheme)


def _check_groups(context: StageContext, scheme: str) -> None:
    """Inputs of layers of a known size that are no multiple of the group (llmcompressor's GPTQ and AWQ modifiers)."""
    if scheme not in ("gptq", "awq"):
        return
    try:
        shape = architecture_of(context.stage, context.plan.recipe, context.session.files)
    except NotModelledError:
        return
    inputs = sorted({size for size, _ in shape.linears.values()})
    group = int(context.option("scheme", "group") or GROUP)
    if size := next((size for size in inputs if size % group), 0):
        fits = next((smaller for smaller in (64, 32, 16, 8) if not any(size % smaller for size in inputs)), 0)
        help = f"write `{scheme}(group = {fits})`" if fits else "choose another `scheme`"
        span = context.stage.spans.get("scheme", context.stage.span)
        text = f"layers of this model have {size} inputs, which are no multiple of a group of {group} weights"
        context.session.sink.error("FT975", text, span, help=help)


def _spec(context: StageContext, scheme: str, rows: Calibration | None) -> dict[str, Any]:
    """What runtime/quantise.py reads."""
    start = context.stage.start
    assert start is not None, "checked before a stage is lowered"
    spec: dict[str, Any] = {"stage": context.folder, "scheme": scheme, "model": context.paths.model(start.base)}
    spec |= hub_options(start.base)
    spec["to"] = assemble.result_of(context)
    if scheme in ("gptq", "awq"):
        spec["bits"] = int(context.get("bits") or 4)
        spec["group"] = int(context.option("scheme", "group") or GROUP)
    if scheme == "gguf":
        spec["type"] = _gguf_type(context)
        if tokens := context.option("scheme", "tokens"):
            spec["tokens"] = str(tokens)
    if rows is not None:
        spec["calibrate"] = {"data": rows.dataset, "rows": rows.rows}
        spec["max_len"] = int(context.get("max_len") or 1024)
    spec["seed"] = context.plan.recipe.seed
    spec |= shards_and_push(context)
    tool = GGUF.title if scheme == "gguf" else "bitsandbytes" if scheme in ("nf4", "int8") else LLMCOMPRESSOR.title
    what = _what(context, scheme)
    made = f"{what[:1].upper()}{what[1:]}, by {tool}."
    spec["card"] = card_of(context, made, "quantized", "gguf" if scheme == "gguf" else "transformers")
    return spec | ({"smoke": True} if context.plan.recipe.smoke else {})
