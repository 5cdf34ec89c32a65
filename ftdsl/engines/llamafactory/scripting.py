"""Stages that run the user's own scripts, and the environment that any stage's commands see."""

from __future__ import annotations

import re
from typing import Any

from ftdsl.engines.jobs import Command, Job, Raw
from ftdsl.engines.llamafactory import words
from ftdsl.engines.llamafactory.scratch import needed_by
from ftdsl.engines.llamafactory.work import Work
from ftdsl.language.values import Script, Secret, Slot, StageRef, Term


def env_of(work: Work) -> dict[str, str | Raw]:
    """Variables of a stage's commands."""
    return {name: exported(value) for name, value in words.environment(work).items()}


def exported(value: Any) -> str | Raw:
    """A value for the environment; a secret only ever as a reference to the variable that holds it."""
    if isinstance(value, Secret):
        return Raw(f'"${{{value.variable}:?{value.variable} is not set}}"')
    return value if isinstance(value, Raw) else str(value)


def lower_shell(work: Work) -> Job:
    """The user's own code. It works in the run folder, and its outputs are seen from there.

    Names in it become variables, exported quoted: a value never becomes part of the code.
    """
    script = work.get("run")
    env = env_of(work)
    code = ""
    if isinstance(script, Script):
        for part in script.parts:
            if isinstance(part, Slot):
                name = "FT_" + re.sub(r"\W", "_", part.name).upper()
                env[name] = _slot(work, part)
                code += f"${{{name}}}"
            else:
                code += part
    else:
        work.session.sink.error("FT011", f"`{work.stage.name}` has nothing to run", work.stage.span)
    outputs = [str(words.plain(item)) for item in work.stage.settings.items("outputs") if isinstance(item, str)]
    return Job(
        key=work.stage.key,
        folder=work.folder,
        kind="shell",
        title="shell",
        needs=needed_by(work),
        documents=(),
        commands=(Command(shell=code, comment=f"the author's own code ({work.where})"),),
        env=env,
        inputs=tuple(_shell_inputs(work)),
        result=outputs[0] if outputs else f"{work.folder}/result",
        outputs=tuple(outputs),
        where=work.where,
    )


def _slot(work: Work, slot: Slot) -> str:
    return "".join(_piece(work, part) for part in slot.value)


def _piece(work: Work, value: str | StageRef) -> str:
    if isinstance(value, str):
        return value
    if value.stage == work.stage.name:
        return f"{work.folder}/result"
    return work.places.result(value)


def _shell_inputs(work: Work) -> list[str]:
    items = work.stage.settings.items("inputs")
    return [str(item.options["path"]) for item in items if isinstance(item, Term) and item.name == "file"]
