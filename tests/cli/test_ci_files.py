"""What repositories of recipes use from here: the hooks of pre-commit, and the GitHub Action, both really run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

GOOD = """\
model = hf("Qwen/Qwen3-8B")

sft {
  data     = file("rows.jsonl")
  template = qwen3_nothink
  lora     { rank = 8 }
}
"""
MISSPELT = GOOD.replace("rank", "rnak")
BIN = Path(sys.executable).parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def repository(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.ft").write_text(text, encoding="utf-8")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "recipes")
    return folder


def steps(**wishes: str) -> list[dict[str, Any]]:
    """The steps of the action that are scripts, with inputs filled in as GitHub does: into variables."""
    inputs = {name: str(declared.get("default", "")) for name, declared in ACTION["inputs"].items()} | wishes
    filled = []
    for step in ACTION["runs"]["steps"]:
        if "run" not in step or ("smoke" in step["name"] and inputs["smoke"] != "true"):
            continue
        variables = {
            name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: inputs[match[1]], str(value))
            for name, value in step.get("env", {}).items()
        }
        filled.append({"name": step["name"], "run": step["run"], "env": variables})
    return filled


def carry_out(step: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """As the runner does: `bash --noprofile --norc -eo pipefail {file}`."""
    script = folder.parent / f"{step['name']}.sh"
    script.write_text(step["run"], encoding="utf-8")
    environment = {**os.environ, **step["env"], "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_action_reports_at_the_lines_of_a_pull_request(tmp_path: Path) -> None:
    folder = repository(tmp_path / "recipes", good=GOOD, slip=MISSPELT)
    style, check = [step for step in steps(paths="good.ft\nslip.ft\n") if step["name"] in ("style", "check")]
    assert carry_out(style, folder).returncode == 0
    done = carry_out(check, folder)
    assert done.returncode == 1
    (error,) = [line for line in done.stdout.splitlines() if line.startswith("::error")]
    assert "file=slip.ft,line=6" in error
    assert carry_out(dict(check, env=check["env"] | {"PATHS": "good.ft"}), folder).returncode == 0


def test_values_of_the_action_are_never_code(tmp_path: Path) -> None:
    folder = repository(tmp_path / "recipes", good=GOOD)
    for step in steps(paths="good.ft; touch made-it\n$(touch made-it)", smoke="true"):
        if step["name"] != "install":
            carry_out(step, folder)
        assert "${{" not in step["run"], "an input in a script would be read as code"
    assert not (folder / "made-it").exists()


def test_a_smoke_run_takes_changed_recipes_only(tmp_path: Path) -> None:
    origin = repository(tmp_path / "origin", good=GOOD)
    git(tmp_path, "clone", "-q", str(origin), "recipes")
    (smoke,) = [step for step in steps(smoke="true", **{"base-ref": "main"}) if step["name"] == "smoke"]
    done = carry_out(smoke, tmp_path / "recipes")
    assert (done.returncode, done.stdout.strip()) == (0, "no recipe has changed"), done.stderr


@pytest.mark.slow
def test_pre_commit_installs_and_runs_the_hooks(tmp_path: Path) -> None:
    folder = repository(tmp_path / "recipes", slip=MISSPELT, untidy=GOOD.replace("  lora     {", "  lora {"))
    environment = {**os.environ, "PRE_COMMIT_HOME": str(tmp_path / "home")}

    def hook(name: str) -> subprocess.CompletedProcess[str]:
        assert name in {declared["id"] for declared in HOOKS}
        command = [str(BIN / "pre-commit"), "try-repo", str(ROOT), name, "--all-files", "--verbose"]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    check = hook("ftc-check")
    assert check.returncode == 1
    assert "FT001" in check.stdout, check.stdout + check.stderr
    assert "slip.ft:6" in check.stdout
    assert hook("ftc-fmt").returncode == 1, "a hook that changes files fails the commit"
    assert (folder / "untidy.ft").read_text(encoding="utf-8") == GOOD
