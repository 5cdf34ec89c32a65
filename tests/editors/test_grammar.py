"""The TextMate grammar elsewhere: in `bat`, as the Sublime syntax made from it, and in GitHub's Linguist."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.language.test_highlighting import KINDS, RECIPES, SAMPLE

pytestmark = pytest.mark.editors

BAT = shutil.which("batcat") or "bat"
"""Debian calls it `batcat`."""
COLOUR = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture(scope="module")
def bat(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a `bat` that knows the syntax."""
    home = tmp_path_factory.mktemp("bat")
    (home / "syntaxes").mkdir()
    (home / "syntaxes" / "ft.sublime-syntax").write_bytes((ROOT / "grammar" / "ft.sublime-syntax").read_bytes())
    env = {**os.environ, "BAT_CONFIG_DIR": str(home), "BAT_CACHE_PATH": str(home / "cache")}
    subprocess.run([BAT, "cache", "--build"], env=env, check=True, capture_output=True)
    return env


def coloured(env: dict[str, str], *files: str) -> str:
    command = [BAT, "--color=always", "--style=plain", "--paging=never", "--theme=Monokai Extended", *files]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def test_bat_knows_the_language_and_changes_no_letter(bat: dict[str, str]) -> None:
    listed = subprocess.run([BAT, "--list-languages"], env=bat, check=True, capture_output=True, text=True).stdout
    assert "ftdsl recipe:ft" in listed
    whole = coloured(bat, *map(str, RECIPES))
    assert COLOUR.sub("", whole) == "".join(path.read_text(encoding="utf-8") for path in RECIPES)
    assert len(COLOUR.findall(whole)) > 10 * len(RECIPES)


def test_bat_tells_kinds_of_words_apart(bat: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.ft").write_text(SAMPLE, encoding="utf-8")
    pieces = re.findall(r"(\x1b\[[\d;]*m)([^\x1b]*)", coloured(bat, str(tmp_path / "a.ft")))
    colour = {text.strip(): code for code, text in pieces}
    known = {word: colour[word] for word in KINDS if word in colour}
    assert {"let", "sft", "2e-5", "# a rate", "hf", "{name}"} <= set(known), colour
    assert len({known[word] for word in ("sft", "2e-5", "# a rate", "hf")}) == 4


LINGUIST = """
require "linguist"
Linguist::Language.create(name: "ftdsl", type: "programming", extensions: [".ft"], tm_scope: "source.ft", color: "#4051b5",
  language_id: 999999999, aliases: ["ft"], interpreters: [], filenames: [], ace_mode: "text", popular: false)
ARGV.each do |path|
  blob = Linguist::FileBlob.new(path)
  puts [blob.language&.name, blob.tm_scope, blob.generated?, blob.include_in_language_stats?].join(" ")
end
"""


def test_linguist_finds_recipes_by_the_grammars_name_and_extension() -> None:
    """With the entry that its list of languages would get: no other language has `.ft`, none looks generated."""
    done = subprocess.run(["ruby", "-e", LINGUIST, *map(str, RECIPES)], check=True, capture_output=True, text=True)
    assert set(done.stdout.splitlines()) == {"ftdsl source.ft false true"}


def test_every_expression_of_the_grammar_is_one_for_pcre() -> None:
    """GitHub colours with PCRE; VS Code with Oniguruma (test_vscode.py)."""
    text = (ROOT / "grammar" / "ft.tmLanguage.json").read_text(encoding="utf-8")
    expressions = [json.loads(literal) for literal in re.findall(r'"(?:match|begin|end)": ("(?:[^"\\]|\\.)*")', text)]
    assert len(expressions) > 20
    for expression in expressions:
        done = subprocess.run(["grep", "-P", "-e", expression], input="x", capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), (expression, done.stderr)
