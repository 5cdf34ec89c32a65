"""The extension for VS Code: compiled, packaged, its grammar read by VS Code's tokenizer, and used in VS Code itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftdsl.language import lexing
from ftdsl.lsp import hints
from tests.conftest import CORPUS, EXAMPLES, ROOT, until

pytestmark = pytest.mark.editors
HERE = Path(__file__).parent
SOURCE = ROOT / "grammar" / "vscode"
BROKEN = """\
# a recipe with a slip
model = hf("Qwen/Qwen3-8B")

sft support {
  data = file("rows.jsonl")
  lora { rank = 8, alfa = 16 }
  duration = 3 epochs
}
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the extension's folder, beside the grammar, with its packages."""
    top = tmp_path_factory.mktemp("extension")
    shutil.copytree(SOURCE, top / "vscode", ignore=shutil.ignore_patterns("node_modules", "dist"))
    shutil.copy(ROOT / "grammar" / "ft.tmLanguage.json", top)
    shutil.copy(ROOT / "LICENSE", top / "vscode")
    run("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=top / "vscode")
    return top / "vscode"


@pytest.fixture(scope="module")
def package(project: Path) -> Path:
    run("npm", "run", "package", cwd=project)
    return project / "dist" / "ftdsl.vsix"


def test_the_package_holds_what_it_needs_and_no_more(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        names = {
            name.removeprefix("extension/").lower() for name in archive.namelist() if name.startswith("extension/")
        }
        manifest = json.loads(archive.read("extension/package.json"))
    assert names == {
        "package.json", "readme.md", "license.txt", "language-configuration.json", "dist/extension.js",
        "dist/ft.tmlanguage.json",
    }  # fmt: skip
    assert package.stat().st_size < 500_000
    commands = {command["command"] for command in manifest["contributes"]["commands"]}
    assert set(hints.COMMANDS) <= commands, "what the code lenses name can be run"


TOKENISE = """
const fs = require("fs"), textmate = require("vscode-textmate"), oniguruma = require("vscode-oniguruma");
const wasm = fs.readFileSync(require.resolve("vscode-oniguruma/release/onig.wasm")).buffer;
const onigLib = oniguruma.loadWASM(wasm).then(() => ({
  createOnigScanner: (patterns) => new oniguruma.OnigScanner(patterns),
  createOnigString: (text) => new oniguruma.OnigString(text),
}));
const grammar = fs.readFileSync("../ft.tmLanguage.json", "utf8");
const registry = new textmate.Registry({ onigLib, loadGrammar: () => textmate.parseRawGrammar(grammar, "ft.json") });
registry.loadGrammar("source.ft").then((ft) => {
  for (const path of process.argv.slice(1)) {
    let stack = textmate.INITIAL;
    const comments = [];
    for (const line of fs.readFileSync(path, "utf8").split("\\n")) {
      const read = ft.tokenizeLine(line, stack);
      stack = read.ruleStack;
      const comment = read.tokens.filter((token) => token.scopes.some((scope) => scope.startsWith("comment.")));
      if (comment.length) comments.push(line.slice(comment[0].startIndex, comment[comment.length - 1].endIndex).trimEnd());
    }
    console.log(JSON.stringify({ comments, open: stack.depth }));
  }
});
"""


def test_the_grammar_reads_every_recipe_in_the_tokenizer_of_vs_code(project: Path) -> None:
    recipes = [*EXAMPLES, *CORPUS]
    printed = run("node", "-e", TOKENISE, *recipes, cwd=project).splitlines()
    assert len(printed) == len(recipes)
    for path, line in zip(recipes, printed, strict=True):
        read = json.loads(line)
        _, comments = lexing.tokens(path.read_text(encoding="utf-8"))
        assert read["comments"] == [str(comment).rstrip() for comment in comments], path.name
        assert read["open"] == 1, f"{path.name}: a scope is left open at the end"


@pytest.fixture(scope="module")
def vscode(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, Path]]:
    """VS Code with the extension, serving on this machine alone: its address, the folder it opens, where it was installed."""
    installed = ROOT / "build" / "editors"
    run(HERE / "setup.sh", installed, cwd=ROOT)
    home = tmp_path_factory.mktemp("vscode")
    folder = home / "recipes"
    (home / "data" / "Machine").mkdir(parents=True)
    folder.mkdir()
    settings = {"ftdsl.path": str(ROOT / ".venv" / "bin" / "ftc"), "workbench.startupEditor": "none",
                "security.workspace.trust.enabled": False, "workbench.colorTheme": "Default Light Modern"}  # fmt: skip
    (home / "data" / "Machine" / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "slip.ft").write_text(BROKEN, encoding="utf-8")
    (folder / "rows.jsonl").write_text('{"instruction": "a", "input": "", "output": "b"}\n' * 20, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [installed / "node", installed / "node_modules" / "code-server" / "out" / "node" / "entry.js"]
    places = ["--user-data-dir", home / "data", "--extensions-dir", home / "extensions", "--config", home / "none.yaml"]
    run(*command, *places, "--install-extension", package, cwd=home, HOME=str(home))
    options = ["--auth", "none", "--bind-addr", f"127.0.0.1:{port}", "--disable-telemetry", "--disable-update-check"]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [str(part) for part in (*command, *places, *options)], stdout=log, stderr=log, cwd=home,
            env={**os.environ, "HOME": str(home)},
        )  # fmt: skip
    try:
        until(lambda: "HTTP server listening" in (home / "log").read_text(), "the server listens")
        yield f"http://127.0.0.1:{port}", folder, installed
    finally:
        server.terminate()
        server.wait(30)


def test_a_recipe_in_vs_code(vscode: tuple[str, Path, Path], tmp_path: Path) -> None:
    address, folder, installed = vscode
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"
    picture = Path(os.environ.get("FTDSL_PICTURE") or tmp_path / "vscode.png")
    shutil.copy(HERE / "look.mjs", installed)
    printed = run(
        installed / "node", installed / "look.mjs", address, browser, folder, "slip.ft", picture, cwd=tmp_path
    )
    seen = json.loads(printed.splitlines()[-1])
    assert seen["language"] == "ftdsl recipe"
    assert seen["colours"] >= 4
    assert "lora_rank" in seen["hover"], "what the key becomes"
    assert any(re.search(r"alfa", problem) and "alpha" in problem for problem in seen["problems"]), seen["problems"]
    assert picture.stat().st_size > 20_000
