"""The tools of `ftc mcp`: each calls the verb of its name with `--json` and returns what it prints.

Without `--allow-run` the tools that write, start or stop are not there at all. Arguments that would read as options are
refused, so that no argument of a tool turns a verb into another one.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from ftdsl import __version__

INSTRUCTIONS = """\
Recipes (.ft) describe LLM fine-tuning runs. Check a recipe after every change: each diagnostic has a span and often a `fix` whose
edits (offsets in characters) can be applied. Plan it before a run: it says what would run, the memory, the time and the cost.
`explain` tells what a key (`lora.rank`), a rule (`FT412`) or a value of a recipe (`STAGE.KEY`) means."""

_IN_PROCESS = threading.Lock()
"""A verb prints to `sys.stdout`, of which there is one."""

File = Annotated[str, Field(description="path of a recipe (.ft), seen from the folder that the server was started in")]
Profiles = Annotated[list[str], Field(default_factory=list, description="profiles of the recipe to apply")]
Sets = Annotated[list[str], Field(default_factory=list, description="overrides: `sft.optim.lr=1e-5`")]
Params = Annotated[list[str], Field(default_factory=list, description="values of `param`s: `NAME=VALUE`")]

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
ACTS = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=True)
STOPS = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)


def server(*, allow_run: bool) -> MCPServer:
    """The server with its tools; those that act only with `allow_run`."""
    own = MCPServer("ftdsl", version=__version__, instructions=INSTRUCTIONS, log_level="ERROR")
    for function in (check, plan, explain, import_files, diff, compile_recipe, diagnose):
        own.tool(name=_name(function.__name__), annotations=READS)(function)
    if allow_run:
        own.tool(annotations=ACTS)(run)
        own.tool(annotations=ACTS)(build)
        own.tool(annotations=READS)(status)
        own.tool(annotations=STOPS)(cancel)
    return own


def _name(function: str) -> str:
    return {"import_files": "import", "compile_recipe": "compile"}.get(function, function)


# --- tools that read


def check(file: File, profiles: Profiles, sets: Sets, params: Params) -> dict[str, Any]:
    """Everything that is wrong with a recipe, LLaMA-Factory YAML, DeepSpeed or accelerate file, or launch script."""
    if Path(_plain(file)).is_dir():
        raise ToolError("name one file: a folder is for `ftc check` itself")
    return _called("check", file, "--json", *_options(profiles, sets, params))


def plan(file: File, profiles: Profiles, sets: Sets, params: Params) -> dict[str, Any]:
    """What would run and why, with memory, time, disk and cost of each stage, and alternatives where it does not fit."""
    return _called("plan", file, "--json", *_options(profiles, sets, params))


def explain(
    subject: Annotated[
        str, Field(description="a recipe; or a rule (`FT412`), a key (`lora.rank`) or a block (`lora`)")
    ],
    key: Annotated[str, Field(description="of a recipe: `STAGE`, `STAGE.KEY` or `STAGE/FILE`")] = "",
) -> dict[str, Any]:
    """Where a value comes from and what it becomes; or what a rule, key or block of the language means."""
    return _called("explain", subject, *([_plain(key)] if key else []), "--json")


def import_files(
    files: Annotated[list[str], Field(description="LLaMA-Factory YAML, commands, scripts, in the order they run")],
    verify: Annotated[bool, Field(description="compile the recipe again and list every difference")] = False,
) -> dict[str, Any]:
    """A recipe made of existing files, and what was not carried over. Writes nothing: the recipe is in the answer."""
    return _called("import", *files, "--json", *(["--verify"] if verify else []))


def diff(
    before: Annotated[str, Field(description="a recipe, YAML or script; `recipe.ft@laptop`: with a profile")],
    after: Annotated[str, Field(description="the same; `@laptop` alone: the first file with that profile")],
) -> dict[str, Any]:
    """What differs in meaning between two recipes or files, and which stages would run again."""
    return _called("diff", before, after, "--json")


def compile_recipe(file: File, profiles: Profiles, sets: Sets, params: Params) -> dict[str, Any]:
    """The files that a recipe compiles to, as texts. Writes nothing; `ftc compile` on the command line does."""
    from ftdsl.diagnostics.view import view
    from ftdsl.language.resolve.resolve import Options
    from ftdsl.pipeline import compile_recipe as compiled_files
    from ftdsl.session import Session

    session = Session()
    with _IN_PROCESS:
        options = Options(tuple(profiles), tuple(sets), tuple(params))
        compiled = compiled_files(Path(_plain(file)), options, session)
    problems = view(session.sink.ordered())
    texts = {name: content.decode() for name, content in sorted(compiled.files.items())} if compiled else {}
    return {"status": 0 if compiled else 1, "result": {"files": texts, "problems": problems}, "messages": ""}


def diagnose(
    path: Annotated[str, Field(description="a recipe (its newest run), a run folder, or a log of any training")],
) -> dict[str, Any]:
    """What was wrong with a training, read from what it logged, and which line of the recipe to change."""
    return _called("diagnose", path, "--json")


# --- tools that act


def run(
    file: File,
    profiles: Profiles,
    sets: Sets,
    params: Params,
    smoke: Annotated[bool, Field(description="every stage in small, with toy models; waits until it ends")] = False,
) -> dict[str, Any]:
    """Start a recipe's run and leave it running (`status` tells how it goes); with `smoke` a trial run that ends soon."""
    options = _options(profiles, sets, params)
    return _started("run", file, *(["--smoke", "--json"] if smoke else ["--detach", "--json"]), *options)


def build(file: File, profiles: Profiles, sets: Sets, params: Params) -> dict[str, Any]:
    """Write the files that a recipe compiles to (`build/NAME`) and its lock, as `ftc compile` does."""
    return _called("compile", file, "--json", *_options(profiles, sets, params))


def status(file: File) -> dict[str, Any]:
    """How the runs of a recipe are: stages, progress, results."""
    return _called("status", file, "--json")


def cancel(file: File) -> dict[str, Any]:
    """Ask a recipe's run to stop; what is done is kept."""
    return _called("cancel", file)


# --- calls


def _plain(text: str) -> str:
    if text.startswith("-") or not text:
        raise ToolError(f"`{text}` is no name of a file or key")
    return text


def _options(profiles: list[str], sets: list[str], params: list[str]) -> list[str]:
    flags = (("--profile", profiles), ("--set", sets), ("--param", params))
    return [f"{flag}={value}" for flag, values in flags for value in values]


def _checked(arguments: tuple[str, ...]) -> list[str]:
    """The command line: its verb, names that are no options, and options of ours."""
    verb, *rest = arguments
    ours = ("--json", "--verify", "--smoke", "--detach", "--profile=", "--set=", "--param=")
    return [verb, *(text if text.startswith(ours) else _plain(text) for text in rest)]


def _called(*arguments: str) -> dict[str, Any]:
    """A verb in this process. It starts nothing and writes nothing but what its row in docs/trust.md names."""
    from ftdsl.cli.main import main

    line = _checked(arguments)
    out, messages = io.StringIO(), io.StringIO()
    with _IN_PROCESS, contextlib.redirect_stdout(out), contextlib.redirect_stderr(messages):
        try:
            code = main(line)
        finally:
            gc.enable()  # a verb turns it off: it has not long to live
    return _answer(code, out.getvalue(), messages.getvalue())


def _started(*arguments: str) -> dict[str, Any]:
    """A verb in a process of its own: it handles signals, and may outlive this server."""
    command = [sys.executable, "-m", "ftdsl.cli.main", *_checked(arguments)]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False, stdin=subprocess.DEVNULL
    )
    return _answer(done.returncode, done.stdout, done.stderr)


def _answer(code: int, out: str, messages: str) -> dict[str, Any]:
    """status: the exit code; result: the JSON document, or the text where it is none; messages: what went to stderr."""
    try:
        result = json.loads(out) if out.strip() else None
    except ValueError:
        result = out
    return {"status": code, "result": result, "messages": messages}
