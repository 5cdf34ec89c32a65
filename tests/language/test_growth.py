"""The work of a check grows with the file, and no faster: what costs `c` for n things costs little more than `2c` for 2n."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl.diagnostics.render_json import render as render_json
from ftdsl.diagnostics.render_text import render
from tests.language.growth import cost

HERE = Path("/nowhere/recipe.ft")
COMMON = "template = qwen3\nduration = 1 epoch\nhardware { gpu = none }\n"
LINEAR = 2.35
"""Twice as much, and room for what grows with the logarithm."""


def lines(count: int, line: str) -> str:
    """The line with `{i}` and `{before}` filled in, from 1."""
    return "".join(line.replace("{i}", str(i)).replace("{before}", str(i - 1)) for i in range(1, count))


CASES: dict[str, tuple[int, Callable[[int], str]]] = {
    "unclosed blocks": (400, lambda n: "sft {\n lora {\n" * n),
    "unclosed blocks in a column": (400, lambda n: "data d {\n" * n),
    "unclosed texts": (400, lambda n: 'let a = "\n' * n),
    "stray characters": (800, lambda n: ";\n" * n),
    "stray braces": (800, lambda n: "}\n" * n),
    "open brackets": (400, lambda n: "let a = " + "[" * n),
    "parentheses": (400, lambda n: f"let a = {'(' * n}1{')' * n}"),
    "a long sum": (400, lambda n: f"let a = {'1 + ' * n}1"),
    "blocks in blocks": (400, lambda n: "a {" * n + "}" * n),
    "unknown keys on a line": (200, lambda n: f"sft {{ {', '.join(f'k{i} = 1' for i in range(n))} }}"),
    "unknown keys": (200, lambda n: "sft {\n" + lines(n, "k{i} = 1\n") + "}"),
    "the same key": (400, lambda n: "sft {\n" + "seed = 1\n" * n + "}"),
    "keys of another language": (200, lambda n: "sft {\n" + lines(n, "a{i}: 1\n") + "}"),
    "comments": (800, lambda n: "# x\n" * n),
    "lets": (300, lambda n: "let a0 = 1\n" + lines(n, "let a{i} = a{before} + a{before}\n")),
    "wrong lets": (300, lambda n: "let a0 = nope\n" + lines(n, "let a{i} = a{before} + a{before}\n")),
    "lets that are all wrong": (300, lambda n: lines(n, "let a{i} = x{i} + y{i}\n")),
    "lets in a circle": (200, lambda n: f"let a0 = a{n - 1} + 1\n" + lines(n, "let a{i} = a{before} + a{before}\n")),
    "lets over an axis": (
        200,
        lambda n: (
            "let a0 in [1, 2]\n"
            + lines(n, "let a{i} = a{before} + 1\n")
            + f'data d {{ source = hf("a/b", sample = a{n - 1}) }}'
        ),
    ),
    "texts in texts": (200, lambda n: 'let a0 = ""\n' + lines(n, 'let a{i} = "{a{before}}{a{before}}"\n')),
    "calls in calls": (
        100,
        lambda n: (
            'let a0 = hf("a/b")\n'
            + lines(n, "let a{i} = adapter(a{before}, base = a{before})\n")
            + f"merge {{ model = a{n - 1} }}"
        ),
    ),
    "paths of stages in texts": (
        200,
        lambda n: 'let a0 = "{s.path}"\n' + lines(n, 'let a{i} = "{a{before}}"\n') + 'shell s { run = "true" }',
    ),
    "profiles in a chain": (
        200,
        lambda n: "profile p0 { seed = 1 }\n" + lines(n, "profile p{i} from p{before} { seed = {i} }\n"),
    ),
    "data stages": (60, lambda n: lines(n, 'data d{i} {\n source = hf("a/b{i}")\n sample = 10\n}\n')),
    "stages in a chain": (
        20,
        lambda n: (
            COMMON
            + 'sft s0 { model = hf("a/b"), data = hf("a/b"), lora {} }\n'
            + lines(n, 'sft s{i} from s{before} { data = hf("a/b{i}") }\n')
        ),
    ),
    "stages that wait": (
        60,
        lambda n: lines(n, 'shell s{i} { run = "true", after = s{before} }\n') + 'shell s0 { run = "x" }',
    ),
    "variables": (200, lambda n: "env {\n" + lines(n, 'A{i} = "x"\n') + '}\nshell s { run = "true" }'),
}


@pytest.mark.parametrize(("size", "text"), CASES.values(), ids=CASES)
@pytest.mark.slow
def test_twice_the_file_is_twice_the_work(size: int, text: Callable[[int], str]) -> None:
    cost({HERE: text(2)}, HERE)  # what is loaded once
    small, _ = cost({HERE: text(size)}, HERE)
    large, found = cost({HERE: text(2 * size)}, HERE)
    assert large < LINEAR * small, f"{small} calls, then {large}"
    assert all(len(one.message) < 1000 for one in found)


@pytest.mark.parametrize("renderer", [render, render_json])
@pytest.mark.slow
def test_a_message_does_not_hold_the_line(renderer: Callable[..., str]) -> None:
    _, text = CASES["unknown keys on a line"]
    small, large = (renderer(cost({HERE: text(size)}, HERE)[1].ordered()) for size in (100, 400))
    assert len(large) < 4.5 * len(small)


def test_the_mark_stands_under_its_place_in_a_long_line() -> None:
    text = f"sft {{ {'seed = 1, ' * 60}rnak = 3, {'seed = 2, ' * 60}}}"
    _, found = cost({HERE: text}, HERE)
    shown = render([one for one in found if one.code == "FT001"]).split("\n")
    line, mark = (row.split("| ", 1)[1] for row in shown if "rnak = 3" in row or "^^^^" in row)
    assert line[mark.index("^") :].startswith("rnak")
    assert len(line) < 200


WRONG_ONCE = {
    "a name": "let a0 = nope\nlet a1 = a0 + a0\nlet a2 = a1 + a1 * a1\n",
    "a unit": "let a0 = 3 parsecs\nlet a1 = a0 + a0\nlet a2 = a1 + a0\n",
    "a division": "let a0 = 1 / 0\nlet a1 = a0 + a0\nlet a2 = 2 * a1\nlet a3 = -a2\n",
    "an axis": "let a0 in [1, 2 parsecs]\nlet a1 = a0 + a0\n" + 'data d { source = hf("a/b"), sample = a1 + a1 }',
    "a circle": "let a = b + 1\nlet b = c\nlet c = a\nlet d = a + b + c\n",
    "a call in itself": 'let a = hf("{a}")\nlet b = "{a}"\nmerge { model = a }',
    "a text": 'let a = "{nope}"\nlet b = "{a}{a}"\nlet c = "{b}"\nmerge { model = file(c) }',
    "a key of the file": 'seed = nope + 1\ndata d { source = hf("a/b"), sample = seed + 1, limit = seed }',
}


@pytest.mark.parametrize("text", WRONG_ONCE.values(), ids=WRONG_ONCE)
def test_what_uses_a_wrong_name_is_not_told_again(text: str) -> None:
    errors = [one for one in cost({HERE: text}, HERE)[1] if one.severity == "error"]
    assert len(errors) == 1, [(one.code, one.message) for one in errors]


def test_includes_are_read_once(tmp_path: Path) -> None:
    def diamond(depth: int) -> dict[Path, str]:
        files = {tmp_path / f"d{n}.ft": f'include "d{n + 1}.ft"\ninclude "d{n + 1}.ft" as x\n' for n in range(depth)}
        return {**files, tmp_path / f"d{depth}.ft": "let a = 1\nprofile p { seed = 1 }\n"}

    first = tmp_path / "d0.ft"
    small, _ = cost(diamond(8), first)
    large, found = cost(diamond(16), first)
    assert large < 2.6 * small
    assert not found.failed


def test_the_nearer_file_of_a_diamond_wins(tmp_path: Path) -> None:
    files = {
        tmp_path / "base.ft": "let size = 1\nseed = 1\n",
        tmp_path / "own.ft": 'include "base.ft"\nlet size = 2\nseed = 2\n',
        tmp_path / "other.ft": 'include "base.ft"\n',
        tmp_path / "r.ft": 'include "own.ft"\ninclude "other.ft"\ndata d { source = hf("a/b"), limit = size }',
    }
    from ftdsl.language.resolve.resolve import Options
    from ftdsl.pipeline import check
    from ftdsl.session import Files, Session

    recipe = check(tmp_path / "r.ft", Options(), Session(Files(files), env={})).recipe
    assert recipe is not None
    assert recipe.stages[0].settings.get("limit") == 2
    assert recipe.seed == 2


DEEP = {
    "parentheses": f"let a = {'(' * 3000}1{')' * 3000}",
    "lists": f"let a = {'[' * 3000}{']' * 3000}",
    "signs": f"let a = {'-' * 3000}1",
    "blocks": "a {" * 3000 + "}" * 3000,
    "a sum": f"let a = {'1 + ' * 3000}1",
    "names, the last first": lines(2000, "let a{before} = a{i}\n") + "let a1999 = 1\n",
    "stages, the last first": lines(1000, 'shell s{before} { run = "true", after = s{i} }\n')
    + 'shell s999 { run = "true" }\n',
    "names over an axis": "let a0 in [1, 2]\n"
    + lines(2000, "let a{i} = a{before} + 1\n")
    + 'data d { source = hf("a/b", sample = a1999) }',
    "calls": 'let a0 = hf("a/b")\n'
    + lines(1000, "let a{i} = adapter(a{before}, base = a{before})\n")
    + "merge { model = a999, template = qwen3 }",
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
@pytest.mark.slow
def test_what_is_too_deep_is_said_at_its_place(text: str) -> None:
    errors = [one for one in cost({HERE: text}, HERE)[1] if one.code == "FT065"]
    assert errors
    assert all(one.span is not None for one in errors)


@pytest.mark.parametrize("points", [256, 257, 300])
@pytest.mark.slow
def test_a_sweep_of_a_command_has_its_limit(points: int) -> None:
    commands = ", ".join(f'"echo {point}"' for point in range(points))
    text = f"shell s {{ run in [{commands}] }}\n"
    _, found = cost({HERE: text}, HERE)
    assert [one.code for one in found if one.severity == "error"] == (["FT083"] if points > 256 else [])


@pytest.mark.parametrize("points", [pytest.param(256, marks=pytest.mark.slow), 257, 300])
def test_a_sweep_has_its_limit(points: int) -> None:
    text = f"""\
let base = hf("a/b")
{COMMON}
sft {{ model = base, data = hf("x/y"), lora {{}}, seed in [{", ".join(map(str, range(points)))}] }}
merge from sft {{ }}
eval from merge {{ data = hf("x/y") }}
"""
    _, found = cost({HERE: text}, HERE)
    assert [one.code for one in found if one.severity == "error"] == (["FT083"] if points > 256 else [])


@pytest.mark.slow
def test_sweeps_multiply_and_are_refused_once() -> None:
    axes = "\n".join(f"let a{n} in [{', '.join(map(str, range(1, 11)))}]" for n in range(10))
    text = f"""\
{axes}
let base = hf("a/b")
{COMMON}
sft {{ model = base, data = hf("x/y"), lora {{ rank = {" + ".join(f"a{n}" for n in range(10))} }} }}
merge from sft {{ }}
dpo from sft {{ data = hf("x/y"), lora {{}} }}
"""
    calls, found = cost({HERE: text}, HERE)
    assert [one.code for one in found if one.severity == "error"] == ["FT083"]
    assert calls < 3_000_000
