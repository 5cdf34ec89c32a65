"""The Pythons of a run by hand, for every target: the engine's (`FT_PYTHON`), and one for each tool that a job runs in
(`FT_LM_EVAL_PYTHON`, …). A job's `launch.sh` reads these variables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ftdsl.engines.jobs import Job
from ftdsl.engines.tools.tool import TOOLS, Tool
from ftdsl.plan.plan import Plan

VARIABLE, DEFAULT = "FT_PYTHON", "python3"


def tools_of(jobs: Iterable[Job]) -> list[Tool]:
    """The tools whose environments the jobs run in."""
    return [TOOLS[name] for name in dict.fromkeys(job.environment for job in jobs) if name in TOOLS]


def variable_of(job: Job) -> str:
    """The variable that names the Python of a job."""
    return TOOLS[job.environment].variable if job.environment in TOOLS else VARIABLE


def for_template(plan: Plan, jobs: Iterable[Job]) -> dict[str, Any]:
    """What `bash/pythons.sh.j2` needs: scripts that a person starts take the variables from the environment."""
    return {"engine": plan.recipe.engine.name, "tools": [_plain(tool) for tool in tools_of(jobs)]}


def _plain(tool: Tool) -> dict[str, str]:
    """A tool's variable, how it is set, and its value."""
    name = tool.variable
    return {"variable": name, "title": tool.title, "export": f"{name}={tool.python.text}", "value": f"${name}"}


def variables(options: Mapping[str, Any], jobs: Iterable[Job]) -> dict[str, str]:
    """The variables by name, for targets whose nodes have environments of their own. Of the options of a target, `python` is the
    engine's, and `environments` the folder where each tool has one (`DIR/lm-eval/bin/python`), as `ftc engine install` makes it.
    """
    by_name = {VARIABLE: str(options.get("python", DEFAULT))}
    if folder := options.get("environments"):
        by_name |= {tool.variable: f"{str(folder).rstrip('/')}/{tool.name}/bin/python" for tool in tools_of(jobs)}
    return by_name
