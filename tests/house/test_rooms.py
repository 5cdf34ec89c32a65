"""The shape of the house: who imports whom, how big things are, what templates may do, what is generated."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from tests.conftest import ROOT, examples_in, ftc

PACKAGE = ROOT / "ftdsl"
ORDER = ("runtime", "record", "source", "printable", "credentials", "storage", "catalog", "estimate", "diagnostics", "session",
         "environments", "language", "recipe", "plan", "smoke", "lint", "engines", "targets", "observe",
         "diagnose", "run", "pipeline", "importers", "search", "report", "upgrade", "lsp", "cli")  # fmt: skip
"""A room may import itself and those before it. runtime imports nothing of ftdsl, and only these modules of it are imported."""
SHARED = {"ftdsl.runtime", "ftdsl.runtime.events", "ftdsl.runtime.ramp", "ftdsl.runtime.versions",
          "ftdsl.runtime.data.checking", "ftdsl.runtime.data.conversion"}  # fmt: skip
MODULES = [path for path in PACKAGE.rglob("*.py") if path.name != "models.py"]


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "ftdsl"


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> frozenset[str]:
    modules: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return frozenset(modules)


def test_imports_go_one_way() -> None:
    pairs = [(path, module) for path in MODULES for module in sorted(imports(path)) if module.startswith("ftdsl.")]
    assert pairs
    for path, module in pairs:
        own, other = path.relative_to(PACKAGE).parts[0].removesuffix(".py"), room(module)
        if own == "runtime":
            pytest.fail(f"runtime code is copied beside a run and imports nothing of ftdsl: {name_of(path)}: {module}")
        assert other != "runtime" or module in SHARED, f"{name_of(path)} imports {module}, which runs beside a run"
        assert ORDER.index(other) <= ORDER.index(own), f"{name_of(path)} imports {other}, which comes after it"


def test_engines_import_shared_modules_and_never_each_other() -> None:
    engines = {folder.name for folder in (PACKAGE / "engines").iterdir() if (folder / "engine.py").exists()}
    assert engines
    for path in (PACKAGE / "engines").rglob("*.py"):
        own = path.relative_to(PACKAGE / "engines").parts[0]
        for module in imports(path):
            parts = module.split(".")
            if parts[:2] == ["ftdsl", "engines"] and len(parts) > 2:
                assert parts[2] == own or parts[2] not in engines, f"{name_of(path)} imports {module}"


HEAVY = {
    "jinja2": {"targets/render.py"}, "rich": {"observe/live.py", "observe/study_live.py", "observe/table.py"}, "torch": set(),
    "plotly": {"report/page.py"}, "pygls": {"cli/lsp.py", "lsp/server.py"}, "mcp": {"cli/mcp.py", "cli/mcp_server.py"},
    "pydantic": {"recipe/models.py", "recipe/validate.py", "catalog/shapes.py", "cli/mcp_server.py"},
    "pygments": {"language/highlighting.py"},
}  # fmt: skip


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_packages_have_one_door(package: str) -> None:
    users = {name_of(path) for path in MODULES if any(module.split(".")[0] == package for module in imports(path))}
    assert {name for name in users if not name.startswith("runtime/")} <= HEAVY[package]


OWN = ("session.py", "storage.py", "catalog/", "runtime/", "generate.py", "meanings.py", "lexing.py", "targets/artifacts.py",
       "reference_page.py", "cli/init.py", "cli/main.py")  # fmt: skip
"""The door itself, and what reads files of the package only."""
WRITES = ("targets/write.py", "cli/common.py", "run/store.py", "run/measured.py", "run/launchers/local.py")
"""Modules that open files to write them, and what the kernel says of processes; what else they read comes through the door."""


def test_files_are_read_through_one_door() -> None:
    """`session` reads regular files only, and no more than a limit: a path in a recipe may lead to a pipe or a device."""
    readers = {"open", "read_text", "read_bytes"}
    checked = [
        path
        for path in MODULES
        if not any(name_of(path).startswith(own) or name_of(path).endswith(own) for own in (*OWN, *WRITES))
    ]
    assert checked
    for path in checked:
        calls = [node.func for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
        calls = [call for call in calls if ast.unparse(call) != "os.open"]  # of devices and folders, to be synced
        assert not {getattr(call, "attr", getattr(call, "id", "")) for call in calls} & readers, name_of(path)


def test_sizes() -> None:
    for path in MODULES:
        assert path.read_text(encoding="utf-8").count("\n") <= 500, name_of(path)
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 80, f"{name_of(path)}: {node.name}"


def test_templates_hold_no_logic() -> None:
    """Names, filters, loops over what is handed in, and a part that several share: no conditions, no sums, no calls."""
    templates = sorted((ROOT / "templates").rglob("*.j2"))
    assert templates
    for path in templates:
        text = path.read_text(encoding="utf-8")
        for statement in re.findall(r"{%-?\s*(.*?)\s*-?%}", text):
            assert re.fullmatch(r'for \w+ in [\w.]+|endfor|include "[\w./-]+"', statement), f"{path.name}: {statement}"
        for expression in re.findall(r"{{\s*(.*?)\s*}}", text):
            assert re.fullmatch(r"[\w.]+( \| (sh|yaml|json|comment))?", expression), f"{path.name}: {expression}"


@pytest.mark.parametrize(
    "module", ["ftdsl.catalog.generate", "ftdsl.recipe.generate", "ftdsl.lint.generate", "ftdsl.diagnose.generate"]
)
def test_generated_files_are_current(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_module(module).main(check=True) == 0, capsys.readouterr().out


EDITORS = {"pygls", "lsprotocol", "mcp", "pygments"}
COLD = """
import sys
from ftdsl.cli.main import main
try: main(sys.argv[1:])
except SystemExit: pass
print("\\n" + " ".join(m for m in sys.modules if "." not in m))
"""


@pytest.mark.parametrize(
    ("arguments", "banned"),
    [
        (["--version"], {"lark", "pydantic", "jinja2", "yaml", "rich", "torch", "shtab"}),
        (
            ["check", "examples/quickstart.ft"],
            {"email", "pydantic", "jinja2", "yaml", "rich", "torch", "regex", "interegular"},
        ),
        (["fmt", "--check", "examples/quickstart.ft"], {"pydantic", "jinja2", "yaml", "rich", "torch"}),
        (["compile", "examples/quickstart.ft", "-o", "{tmp}"], {"rich", "torch"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_cold_start_loads_nothing_it_need_not(arguments: list[str], banned: set[str], tmp_path: Path) -> None:
    examples_in(tmp_path)
    own = [text.format(tmp=tmp_path / "out") for text in arguments]
    done = subprocess.run([sys.executable, "-c", COLD, *own], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "ftdsl" in loaded
    assert not loaded & (banned | EDITORS)


def test_shell_text_is_written_out() -> None:
    """`Raw(…)` of the shell holds a literal: anything that varies goes through `Raw.variable`, which looks at it."""
    users = [path for path in MODULES if "ftdsl.engines.jobs" in imports(path)]
    assert users
    for path in users:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Raw":
                (text,) = node.args
                parts = [text.body, text.orelse] if isinstance(text, ast.IfExp) else [text]
                assert all(isinstance(part, ast.Constant) for part in parts), f"{path}:{node.lineno}"


def test_a_reference_takes_only_names_of_variables() -> None:
    from ftdsl.engines.jobs import Raw

    assert Raw.variable("A_1", missing="A_1 is not set").text == '"${A_1:?A_1 is not set}"'
    assert Raw.variable("A", default=0).text == '"${A:-0}"'
    for name in ("", "1A", "A}", "A;b", "A\n", "A B", "ü"):
        with pytest.raises(ValueError, match="not a valid variable name"):
            Raw.variable(name)
    for text in ("$(x)", "`x`", '"', "}", "\\", "a\nb"):
        with pytest.raises(ValueError, match="not plain"):
            Raw.variable("A", missing=text)


def test_nothing_names_this_machine() -> None:
    own = {str(folder) for folder in (ROOT, ROOT.parent, Path.home(), Path(sys.prefix)) if len(folder.parts) > 1}
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "templates").rglob("*.j2"), *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text(encoding="utf-8")
        assert not any(f"{folder}/" in text for folder in own), path


def test_every_verb_has_help(tmp_path: Path) -> None:
    from ftdsl.cli.main import VERBS

    for verb in VERBS:
        done = ftc(verb, "--help", cwd=tmp_path)
        assert done.returncode == 0
        assert "usage: ftc" in done.stdout


def test_an_error_inside_ftc_is_a_sentence(tmp_path: Path) -> None:
    """No traceback reaches a user, whatever breaks."""
    code = (
        "import ftdsl.pipeline, sys\n"
        "def broken(*a, **k): raise RuntimeError('boom')\n"
        "ftdsl.pipeline.check = broken\n"
        "from ftdsl.cli.main import main\n"
        "sys.exit(main(['check', 'x.ft']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "boom" in done.stderr


_OF_TABLES = frozenset(
    "_load _parameter_statuses _helps _known _compiled _unsafe keys_of blocks entries written_by published _versions".split()
)
"""Functions whose results are kept for ever, since their arguments are names of tables, kinds of stages, patterns of ours."""


def test_what_an_author_writes_is_kept_within_bounds() -> None:
    """A language server lives for days: a cache whose keys come from a text has a size."""
    unbounded = {
        f"{path.stem}.{function.name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
        and function.args.args
        and any(isinstance(one, ast.Name) and one.id == "cache" for one in function.decorator_list)
        and function.name not in _OF_TABLES
    }
    assert unbounded == set()


def test_programs_are_read_in_utf_8() -> None:
    """`text=True` alone decodes by the locale, and fails on the first letter that ASCII has not."""
    bare = []
    for path in sorted((ROOT / "ftdsl").rglob("*.py")):
        if path.is_relative_to(ROOT / "ftdsl" / "catalog" / "extract"):
            continue  # runs at a maintainer's
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {keyword.arg for keyword in node.keywords} if isinstance(node, ast.Call) else set()
            if (
                names & {"text", "universal_newlines"}
                and names & {"capture_output", "stdout", "stdin"}
                and "encoding" not in names
            ):
                bare.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not bare
