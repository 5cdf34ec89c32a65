"""`ftc mcp` by the official client: the tools, their JSON against the command line's, and what it cannot do.

Over stdio where the process is the point; the others speak to the same server object in memory (importing `mcp` takes a second).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.server.mcpserver import MCPServer

from ftdsl.cli.mcp_server import server
from tests.command import clear_caches
from tests.conftest import ROOT, ROWS, ftc, small

READING = {"check", "plan", "explain", "import", "diff", "compile", "diagnose"}
ACTING = {"run", "build", "status", "cancel"}
YAML = "stage: sft\ndo_train: true\nmodel_name_or_path: Qwen/Qwen3-0.6B\ndataset: x\ntemplate: qwen3\noutput_dir: o\n"

Call = Callable[..., Awaitable[Any]]


Body = Callable[[Client, Call], Awaitable[None]]


def served_by_process(folder: Path, body: Body, *flags: str) -> None:
    """A session of the client with `ftc mcp` in a folder."""
    session(
        body,
        StdioServerParameters(
            command=sys.executable,
            args=["-m", "ftdsl.cli.main", "mcp", *flags],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ),
    )


def served(folder: Path, body: Body) -> None:
    """The same in this process, without `--allow-run`."""
    clear_caches()
    limit = sys.getrecursionlimit()
    with contextlib.chdir(folder):
        try:
            session(body, server(allow_run=False))
        finally:
            sys.setrecursionlimit(limit)


def session(body: Body, to: StdioServerParameters | MCPServer) -> None:
    async def whole() -> None:
        async with asyncio.timeout(120), Client(to) as client:

            async def call(tool: str, **arguments: Any) -> Any:
                answer = await client.call_tool(tool, arguments)
                assert not answer.is_error, answer.content
                return answer.structured_content

            await body(client, call)

    asyncio.run(whole())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text(ROWS["rows.jsonl"], encoding="utf-8")
    (tmp_path / "a.yaml").write_text(YAML, encoding="utf-8")
    (tmp_path / "loss.txt").write_text("{'loss': 2.0, 'epoch': 0.1}\n" * 30, encoding="utf-8")
    (tmp_path / "r.ft").write_text(small("max_len = 64, lora { rank = 8 }"), encoding="utf-8")
    return tmp_path


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_agent_checks_mends_and_plans(folder: Path) -> None:
    recipe = folder / "r.ft"
    recipe.write_text(small("max_len = 64, lora { rnak = 8 }"), encoding="utf-8")

    async def body(client: Client, call: Call) -> None:
        assert {tool.name for tool in (await client.list_tools()).tools} == READING
        checked = await call("check", file="r.ft")
        assert checked["status"] == 1
        (problem,) = [one for one in checked["result"]["diagnostics"] if one["severity"] == "error"]
        text = recipe.read_text(encoding="utf-8")
        for edit in problem["fix"]["edits"]:
            text = text[: edit["offset"]] + edit["text"] + text[edit["end_offset"] :]
        recipe.write_text(text, encoding="utf-8")
        assert (await call("check", file="r.ft"))["status"] == 0
        planned = await call("plan", file="r.ft")
        assert planned["status"] == 0
        assert planned["result"]["would_run"] is True
        assert [stage["stage"] for stage in planned["result"]["stages"]] == ["sft"]

    served_by_process(folder, body)


@pytest.mark.parametrize(
    ("tool", "arguments", "line"),
    [
        ("check", {"file": "r.ft"}, ("check", "r.ft", "--json")),
        ("check", {"file": "a.yaml"}, ("check", "a.yaml", "--json")),
        ("check", {"file": "r.ft", "sets": ["sft.lora.rank=0"]}, ("check", "r.ft", "--json", "--set=sft.lora.rank=0")),
        ("plan", {"file": "r.ft"}, ("plan", "r.ft", "--json")),
        ("explain", {"subject": "lora.rank"}, ("explain", "lora.rank", "--json")),
        ("explain", {"subject": "r.ft", "key": "sft.lora.rank"}, ("explain", "r.ft", "sft.lora.rank", "--json")),
        ("import", {"files": ["a.yaml"]}, ("import", "a.yaml", "--json")),
        ("diagnose", {"path": "loss.txt"}, ("diagnose", "loss.txt", "--json")),
        ("diff", {"before": "r.ft", "after": "a.yaml"}, ("diff", "r.ft", "a.yaml", "--json")),
    ],
)
def test_a_tool_answers_as_the_command_line(
    tool: str, arguments: dict[str, Any], line: tuple[str, ...], folder: Path
) -> None:
    before = files_of(folder)
    answers = []

    async def body(client: Client, call: Call) -> None:
        answers.append(await call(tool, **arguments))

    served(folder, body)
    assert files_of(folder) == before
    done = ftc(*line, cwd=folder)
    assert answers[0]["status"] == done.returncode
    assert answers[0]["result"] == json.loads(done.stdout)


def test_compile_gives_the_artifacts_and_writes_nothing(folder: Path) -> None:
    before = files_of(folder)
    answers = []

    async def body(client: Client, call: Call) -> None:
        answers.append(await call("compile", file="r.ft"))

    served(folder, body)
    assert files_of(folder) == before
    assert ftc("compile", "r.ft", "-o", "out", cwd=folder).returncode == 0
    written = {path.relative_to(folder / "out").as_posix(): path.read_text(encoding="utf-8")
               for path in (folder / "out").rglob("*") if path.is_file()}  # fmt: skip
    given = answers[0]["result"]["files"]
    assert given.items() <= written.items()
    assert "run.sh" in given


@pytest.mark.parametrize("tool", sorted(ACTING))
def test_without_allow_run_nothing_can_be_started(tool: str, folder: Path) -> None:
    before = files_of(folder)

    async def body(client: Client, call: Call) -> None:
        try:
            answer = await client.call_tool(tool, {"file": "r.ft"})
        except Exception as error:
            assert "Unknown tool" in str(error) or tool in str(error)
        else:
            assert answer.is_error

    served(folder, body)
    assert files_of(folder) == before


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("check", {"file": "--fix"}),
        ("check", {"file": "-"}),
        ("check", {"file": "."}),
        ("plan", {"file": "--apply"}),
        ("import", {"files": ["a.yaml", "-o", "x.ft"]}),
        ("import", {"files": ["a.yaml", "--output=x.ft"]}),
        ("explain", {"subject": "r.ft", "key": "--json"}),
        ("diff", {"before": "--help", "after": "r.ft"}),
        ("compile", {"file": "-o"}),
        ("diagnose", {"path": "--apply=1"}),
    ],
)
def test_no_argument_becomes_an_option(tool: str, arguments: dict[str, Any], folder: Path) -> None:
    before = files_of(folder)

    async def body(client: Client, call: Call) -> None:
        assert (await client.call_tool(tool, arguments)).is_error

    served(folder, body)
    assert files_of(folder) == before


@pytest.mark.slow
def test_with_allow_run_it_starts_and_follows(folder: Path) -> None:
    (folder / "r.ft").write_text('shell s { run = "touch made", outputs = ["made"] }\n', encoding="utf-8")

    async def body(client: Client, call: Call) -> None:
        assert {tool.name for tool in (await client.list_tools()).tools} == READING | ACTING
        started = await call("run", file="r.ft")
        assert started["status"] == 0, started
        for _ in range(200):
            state = await call("status", file="r.ft")
            if list(folder.rglob("made")):
                break
            await asyncio.sleep(0.1)
        assert list(folder.rglob("made")), state

    served_by_process(folder, body, "--allow-run")
