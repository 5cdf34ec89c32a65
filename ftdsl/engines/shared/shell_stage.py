"""Stages that run the user's own scripts, and the environment that any stage's commands see."""

from __future__ import annotations

import re
from typing import Any

from ftdsl.engines.jobs import Command, Job, Raw
from ftdsl.engines.shared import overlay
from ftdsl.engines.shared.scratch import needed_by
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import Script, Secret, Slot, StageRef, Term


def env_of(context: StageContext) -> dict[str, str | Raw]:
    """Variables of a stage's commands."""
    return {name: exported(value) for name, value in overlay.environment(context).items()}


def exported(value: Any) -> str | Raw:
    """A value for the environment; a secret only ever as a reference to the variable that holds it."""
    if isinstance(value, Secret):
        return Raw(f'"${{{value.variable}:?{value.variable} is not set}}"')
    return value if isinstance(value, Raw) else str(value)


def lower_shell(context: StageContext) -> Job:
    """The user's own code. It works in the run folder, and its outputs are seen from there.

    Names in it become variables, exported quoted: a value never becomes part of the code.
    """
    script = context.get("run")
    env = env_of(context)
    code = ""
    if isinstance(script, Script):
        for part in script.parts:
            if isinstance(part, Slot):
                name = "FT_" + re.sub(r"\W", "_", part.name).upper()
                env[name] = _slot(context, part)
                code += f"${{{name}}}"
            else:
                code += part
    else:
        context.session.sink.error("FT011", f"`{context.stage.name}` has nothing to run", context.stage.span)
    outputs = [str(overlay.plain(item)) for item in context.stage.settings.items("outputs") if isinstance(item, str)]
    return Job(
        key=context.stage.key,
        folder=context.folder,
        kind="shell",
        title="shell",
        needs=needed_by(context),
        documents=(),
        commands=(Command(shell=code, comment=f"the author's own code ({context.where})"),),
        env=env,
        inputs=tuple(_shell_inputs(context)),
        reads=tuple(dict.fromkeys(_SCRIPT.findall(code))),
        result=outputs[0] if outputs else f"{context.folder}/result",
        outputs=tuple(outputs),
        where=context.where,
    )


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
