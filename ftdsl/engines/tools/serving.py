"""`serve` of an `eval` stage: a server answers questions, and its prompts and greedy answers are compared with those of the chat
template that the model was trained with. In the server's own environment.
"""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Document, Job
from ftdsl.engines.shared import assemble, chat_format
from ftdsl.engines.shared.gates import gate_command, gates_of
from ftdsl.engines.shared.run_paths import seen_from_run
from ftdsl.engines.shared.sources import CLOUDS, shape_in
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.tools.tool import TRANSFORMERS, VLLM, as_one_process
from ftdsl.language.values import StageRef, Term

PROGRAM = "runtime/serve_check.py"
MODULES = ("__init__", "events", "report", "serve_check", "servers", "tuning")
ANSWER = 32
"""Tokens of an answer, where the recipe says nothing: enough to see a difference."""
ALONE = ("tasks", "against", "backend", "shots", "chat")
"""Keys of an `eval` stage that ask for other measurements."""


def wants(context: StageContext) -> bool:
    """Whether the stage asks a server."""
    return context.stage.kind == "eval" and context.get("serve") is not None


def job(context: StageContext) -> Job:
    tool = VLLM if context.name("serve") == "vllm" else TRANSFORMERS
    context = as_one_process(context)
    inputs: list[str] = []
    _check(context)
    gates = tuple(gates_of(context))
    spec = _spec(context, inputs) | ({"gates": True} if gates else {})
    document = Document(f"{context.folder}/serve.json", "json", spec)
    documents = [document]
    commands = [Command((tool.python, PROGRAM, document.path), comment=f"{tool.title}, in its own environment")]
    if gates:
        commands.append(gate_command(context, documents, gates, tool.python))
    title = assemble.title_of(context, f"questions to {context.name('serve')}")
    return assemble.job_of(
        context, documents, commands, inputs, "metrics", title, gates, runtime=MODULES, environment=tool.name
    )


def _check(context: StageContext) -> None:
    """What cannot be asked, before anything starts."""
    start = context.stage.start
    if start is not None and start.adapters:
        context.refuse(
            "serve", "a server is asked about a whole model, and this is an adapter", "put a `merge` stage before it"
        )
    for key in ALONE:
        if context.is_explicit(key):
            context.refuse(key, f"a stage with `serve` measures nothing else: `{key}`", "write another `eval` stage")
    if context.is_explicit("metrics"):
        help = "drop it: `prompts_equal` and `answers_equal` are measured"
        context.refuse("metrics", "a stage with `serve` has its own metrics", help)
    if context.name("serve") == "vllm" and not context.planned.world.gpu:
        context.refuse("serve", "`vllm` needs a GPU", "write `serve = transformers`")
    if not context.name("template"):
        help = "write the `template` that the model was trained with"
        context.refuse("serve", "there is no chat template to compare the server's with", help)


def _spec(context: StageContext, inputs: list[str]) -> dict[str, Any]:
    """What runtime/serve_check.py reads. inputs: takes the files of the recipe that are read."""
    start = context.stage.start
    assert start is not None, "checked before a stage is lowered"
    options = start.base.options if isinstance(start.base, Term) else {}
    spec: dict[str, Any] = {"stage": context.folder, "server": context.name("serve")}
    spec["model"] = context.paths.model(start.base)
    if options.get("trust_remote_code"):
        spec["trust_remote_code"] = True
    spec["format"] = chat_format.spec(context)
    spec["questions"] = int(context.get("limit") or 10)
    most = "generate.max_new_tokens"
    spec["max_new_tokens"] = int(context.get(most)) if context.is_explicit(most) else ANSWER
    spec["device"] = "cuda" if context.planned.world.gpu else "cpu"
    if isinstance(context.get("thinking"), bool):
        spec["thinking"] = context.get("thinking")
    spec["seed"] = int(context.get("seed") or 0)
    if rows := _rows(context, inputs):
        spec["rows"] = rows
    return spec | ({"smoke": True} if context.plan.recipe.smoke else {})


def _rows(context: StageContext, inputs: list[str]) -> dict[str, Any] | None:
    """The rows whose prompts are asked; None where the questions are the program's own."""
    items = context.stage.settings.items("data")
    if not items:
        return None
    item = items[0]
    help = "read these rows in a `data` stage, and name that"
    if len(items) > 1:
        context.refuse("data", "questions are taken from one source", help)
    if isinstance(item, StageRef):
        file = context.paths.rows(item)
    else:
        path = str(item.options.get("path", ""))
        if item.name != "file" or path.startswith(CLOUDS) or not path.endswith((".json", ".jsonl")):
            context.refuse("data", "questions are read from a .json or .jsonl file", help)
            return None
        inputs.append(path)
        file = seen_from_run(path)
    shape = shape_in(context.plan, item, "sft", context.session)
    layout = {"openai": "sharegpt"}.get(shape.format, shape.format)
    return {"file": file, "format": layout, "columns": dict(shape.columns), "roles": dict(shape.roles or {})}
