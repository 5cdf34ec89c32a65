"""The pages of the tutorial and the how-to pages print what the commands print today; nothing on them is unchecked."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ftdsl.cli.main import parser
from tests import tutorial
from tests.conftest import ROOT

FILES = ("ft", "jsonl", "json", "yaml", "python", "text")
"""Languages of fences that are files, and have a name."""


def named(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def fences(path: Path) -> list[tutorial.Fence]:
    return list(tutorial.fences(path.read_text(encoding="utf-8")))


def commands(path: Path) -> Iterator[str]:
    for fence in fences(path):
        if fence.language == "console":
            yield from (command for command, _ in tutorial.commands(fence.text))


@pytest.mark.parametrize("path", tutorial.PAGES, ids=named)
@pytest.mark.slow
def test_a_page_shows_what_its_commands_print(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == tutorial.renewed(path), "python -m tests.tutorial"


def test_every_page_but_the_front_ones_has_a_recipe() -> None:
    bare = [path.name for path in tutorial.PAGES if not any(fence.title for fence in fences(path))]
    assert set(bare) <= {"README.md"}


@pytest.mark.parametrize("path", tutorial.PAGES, ids=named)
def test_every_file_of_a_page_is_read_by_a_command_that_is_run(path: Path) -> None:
    checked = " ".join(command for command in commands(path) if not tutorial.trains(command))
    for fence in fences(path):
        if fence.language in FILES:
            assert fence.title, f"a fence without a name is checked by nobody: {fence.text[:60]}"
            if fence.language == "ft":
                assert fence.title in checked or fence.title.split("/")[0] in checked, fence.title
        else:
            assert fence.language in ("console", "sh"), fence.language


@pytest.mark.parametrize("path", tutorial.PAGES, ids=named)
def test_commands_that_are_only_shown_are_commands(path: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    lines = [line for fence in fences(path) if fence.language == "sh" for line in fence.text.splitlines()]
    for command in [*lines, *filter(tutorial.trains, commands(path))]:
        for part in command.split("&&"):
            words = shlex.split(part, comments=True)
            if words[:1] == ["ftc"]:
                try:
                    parser(words[1:2]).parse_args(words[1:])
                except SystemExit as ending:
                    assert not ending.code, command
            for extra in re.findall(r"ftdsl\[(\w+)\]", part):
                assert extra in extras, command


def test_the_files_for_ci_name_what_there_is() -> None:
    files = {fence.title: fence.text for fence in fences(ROOT / "docs" / "howto" / "ci.md") if fence.title}
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    (job,) = yaml.safe_load(files[".github/workflows/recipes.yaml"])["jobs"].values()
    assert set(job["steps"][-1]["with"]) <= set(action["inputs"])
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    used = yaml.safe_load(files[".pre-commit-config.yaml"])["repos"][0]["hooks"]
    assert {hook["id"] for hook in used} == {hook["id"] for hook in hooks}


@pytest.mark.parametrize("path", tutorial.TRANSLATIONS, ids=named)
def test_a_translation_has_the_files_and_commands_of_its_original(path: Path) -> None:
    page, original = path.read_text(encoding="utf-8"), tutorial.TRANSLATIONS[path].read_text(encoding="utf-8")
    assert page == tutorial.followed(path), "python -m tests.tutorial"
    assert page.count("\n## ") == original.count("\n## ")
    for command in re.findall(r"`(ftc [^`]+)`", page):
        assert command in original, f"`{command}` is not on the English page"


def test_the_chinese_front_page_has_the_commands_of_the_english_one() -> None:
    english = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/tutorial/README.md"))
    page = (ROOT / "docs" / "zh" / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```\n(.*?)^```$", page, re.M | re.S)
    for line in block.splitlines():
        assert line.partition("  #")[0].strip() in english, line


def test_every_chapter_is_translated() -> None:
    assert {path.name for path in tutorial.TRANSLATIONS} == {
        path.name for path in (ROOT / "docs" / "tutorial").glob("*.md")
    }


@pytest.mark.parametrize("folder", ["tutorial", "howto", "zh/tutorial"])
def test_the_front_page_lists_every_page(folder: str) -> None:
    front = (ROOT / "docs" / folder / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs" / folder).glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\]\(([\w-]+\.md)\)", front))


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("sft  done  8.1 s  loss 6.36 -> 0.116  runs/a/20271231-010203/x  0.7 GiB", True),
        ("sft  done  1 min 03 s  loss 6.355 -> 0.1155  runs/a/20261130-150323/x  1.2 GiB", True),
        ("sft  done  6.6 s  loss 6.355 -> 1.1155  runs/a/20261130-150323/x  0.5 GiB", False),
        ("sft  FAILED  6.6 s  loss 6.355 -> 0.1155  runs/a/20261130-150323/x  0.5 GiB", False),
        ("sft  done  6.6 s  loss 6.355 -> 0.1155", False),
    ],
)
def test_a_training_prints_the_same_but_for_its_times(printed: str, same: bool) -> None:
    shown = "sft  done  6.6 s  loss 6.355 -> 0.1155  runs/a/20261130-150323/x  0.5 GiB"
    assert tutorial.alike(shown, printed) is same
