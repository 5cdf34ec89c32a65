"""What the plan adds to a text: the batch equation, the memory and the time of each stage; and the commands for it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from lsprotocol.types import CodeLens, Command, InlayHint, Range

from ftdsl.language import tree
from ftdsl.language.resolve import keys as key_paths
from ftdsl.lsp.document import Document, Result
from ftdsl.lsp.parts import items
from ftdsl.observe.text import duration
from ftdsl.plan.forecast import Forecast
from ftdsl.plan.plan import PlannedStage

COMMANDS = {"ftdsl.check": "check", "ftdsl.smoke": "smoke", "ftdsl.run": "run"}
"""Commands a client may offer, and their titles. The server carries out none of them."""


def inlay_hints(document: Document, wanted: Range) -> list[InlayHint]:
    """Hints for stages in a range of lines; none while the text is newer than its last check."""
    result = document.current
    if result is None or result.checked is None or result.checked.plan is None:
        return []
    stages: dict[str, list[PlannedStage]] = {}
    for planned in result.checked.plan.stages:
        stages.setdefault(planned.stage.name, []).append(planned)
    hints: list[InlayHint] = []
    for start, item in items(document.parts):
        if not isinstance(item, tree.Block) or not key_paths.is_stage_kind(item.kind.text):
            continue
        line = document.lines.position(start + item.span.start).line
        if line > wanted.end.line or document.lines.position(start + item.span.end).line < wanted.start.line:
            continue
        variants = stages.get((item.label or item.kind).text, [])
        if variants:
            hints += _of_stage(document, start, item, variants, result)
    return hints


def _of_stage(
    document: Document, start: int, block: tree.Block, variants: list[PlannedStage], result: Result
) -> Iterator[InlayHint]:
    planned = variants[0]
    more = f" ({len(variants)} runs)" if len(variants) > 1 else ""
    brace = document.text.find("{", start + block.header.end - 1) + 1
    if brace and (text := cost_of(result.forecasts.get(planned.key))):
        yield InlayHint(document.lines.position(brace), f"{text}{more}", padding_left=True, tooltip="from the plan")
    batch = next((i for i in block.body if isinstance(i, tree.Block) and i.kind.text == "batch"), None)
    if planned.batch is not None and batch is not None:
        end_of_batch = document.lines.position(start + batch.span.end)
        yield InlayHint(end_of_batch, str(planned.batch), padding_left=True, tooltip="the batch equation")


def cost_of(forecast: Forecast | None) -> str:
    if forecast is None or forecast.cost is None:
        return ""
    cost = forecast.cost
    parts = []
    if cost.limit and forecast.cards:
        fits = "" if cost.fits else ", does not fit"
        parts.append(f"{cost.need / 2**30:.1f} of {cost.limit / 2**30:.1f} GiB{fits}")
    if forecast.seconds:
        parts.append(duration(forecast.seconds))
    return ", ".join(parts)


def code_lenses(document: Document, commands: Collection[str]) -> list[CodeLens]:
    """Commands that the client offers: for the whole recipe at its first stage, for each stage at its header."""
    lenses: list[CodeLens] = []
    first = True
    for start, item in items(document.parts):
        if isinstance(item, tree.Block) and key_paths.is_stage_kind(item.kind.text):
            header = document.lines.range(start + item.header.start, start + item.header.end)
            stage = (item.label or item.kind).text
            for command, title in COMMANDS.items():
                if command in commands and (first or command == "ftdsl.run"):
                    whole = first and command != "ftdsl.run"
                    arguments = [document.uri] if whole else [document.uri, stage]
                    lenses.append(
                        CodeLens(header, Command(title if whole else f"{title} {stage}", command, arguments=arguments))
                    )
            first = False
    return lenses
