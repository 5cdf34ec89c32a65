"""Stages that run the user's own scripts, and the environment variables of any stage's commands."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import Any

from ftdsl.engines.jobs import Command, Job, Raw
from ftdsl.engines.shared import overlay
from ftdsl.engines.shared.scratch import needed_by
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.shell import Hole, RefusedError, with_values
from ftdsl.language.values import Script, Secret, Slot, StageRef, Term
from ftdsl.source import Span

OURS = frozenset({"FT_PYTHON", "FT_HEAD"})
"""Variables of launch.sh that a name in a script must not replace."""


def env_of(context: StageContext) -> dict[str, str | Raw]:
    """Variables of a stage's commands."""
    return {name: exported(value) for name, value in overlay.environment(context).items()}


def exported(value: Any) -> str | Raw:
    """A value for the environment; a secret only ever as a reference to the variable that holds it."""
    if isinstance(value, Secret):
        return Raw.variable(value.variable, missing=f"{value.variable} is not set")
    return value if isinstance(value, Raw) else str(value)


def lower_shell(context: StageContext) -> Job:
    """The user's own code; the run folder is its working directory, and its outputs are relative to it.

    Each `{name}` becomes a variable, quoted so that it stays one word: a value never becomes part of the code.
    """
    script = context.get("run")
    env = env_of(context)
    code = ""
    if isinstance(script, Script):
        variables = _variables(script, env)
        env |= {variables[slot.name]: _slot(context, slot) for slot in _slots(script)}
        try:
            code = with_values([_part(part, variables) for part in script.parts])
        except RefusedError as error:
            slot = list(_slots(script))[error.hole]
            text = f"`{{{slot.name}}}` cannot be used here: {error}"
            help = error.help.replace("{x}", f"{{{slot.name}}}")
            context.session.sink.error("FT064", text, _hole_span(context, script, error.hole), help=help)
    elif "run" not in context.stage.unknown:
        context.session.sink.error("FT011", f"`{context.stage.name}` has nothing to run", context.stage.span)
    outputs = [str(overlay.plain(item)) for item in context.stage.settings.items("outputs") if isinstance(item, str)]
    return Job(
        key=context.stage.key,
        folder=context.folder,
        kind="shell",
        title="shell",
        needs=needed_by(context),
        documents=(),
        commands=(Command(shell=code, comment=f"the author's own code ({context.location})"),),
        env=env,
        inputs=tuple(_shell_inputs(context)),
        reads=tuple(dict.fromkeys(_SCRIPT.findall(code))),
        result=outputs[0] if outputs else f"{context.folder}/result",
        outputs=tuple(outputs),
        location=context.location,
    )


def _slots(script: Script) -> Iterator[Slot]:
    return (part for part in script.parts if isinstance(part, Slot))


def _variables(script: Script, taken: Container[str]) -> dict[str, str]:
    """A variable for each name: `FT_LR` for `lr`; with a number where two names would share one, or it is taken."""
    variables: dict[str, str] = {}
    for slot in _slots(script):
        own = "FT_" + re.sub(r"\W", "_", slot.name).upper()
        name, number = own, 2
        while slot.name not in variables and (name in variables.values() or name in OURS or name in taken):
            name, number = f"{own}_{number}", number + 1
        variables.setdefault(slot.name, name)
    return variables


def _part(part: str | Slot, variables: dict[str, str]) -> str | Hole:
    if isinstance(part, str):
        return part
    number = all(isinstance(piece, str) for piece in part.value) and re.fullmatch(
        r"-?[0-9]+", "".join(map(str, part.value)), re.ASCII
    )
    return Hole(variables[part.name], bool(number))


def _hole_span(context: StageContext, script: Script, hole: int) -> Span:
    """The span of a name in the text of the script, if the text is in the recipe."""
    span = context.stage.spans.get("run", context.stage.span)
    names = [re.escape(slot.name) for slot in _slots(script)]
    at = span.start
    for name in names[: hole + 1]:
        match = re.compile(rf"\{{\s*{name}\s*\}}").search(span.source.text, at, span.end)
        if match is None:
            return span
        at = match.end()
    return Span(span.source, match.start(), match.end()) if match else span


_SCRIPT = re.compile(r"(?<![\w./>-])inputs/([^\s'\"`;|&<>$(){}*?]+\.(?:py|sh|pl|R|jl|js|rb))(?![\w./])")
"""A script of the recipe's that the author's code names."""


def _slot(context: StageContext, slot: Slot) -> str:
    return "".join(_piece(context, part) for part in slot.value)


def _piece(context: StageContext, value: str | StageRef) -> str:
    if isinstance(value, str):
        return value
    if value.stage == context.stage.name:
        return f"{context.folder}/result"
    return context.paths.result(value)


def _shell_inputs(context: StageContext) -> list[str]:
    items = context.stage.settings.items("inputs")
    return [str(item.options["path"]) for item in items if isinstance(item, Term) and item.name == "file"]
