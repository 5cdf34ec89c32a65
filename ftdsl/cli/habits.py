"""Verbs and options of other command-line tools, and what `ftc` calls them: consulted only where a word is unknown."""

from __future__ import annotations

from collections.abc import Iterable

from ftdsl.diagnostics.suggest import closest

_VERBS = {
    "check": "lint validate verify test typecheck",
    "run": "train start launch apply exec execute submit resume restart retry rerun up fit eval evaluate merge export sft dpo",
    "plan": "dry-run dryrun estimate preview show memory cost",
    "compile": "build render generate gen transpile",
    "fmt": "format prettify",
    "init": "new create scaffold template",
    "import": "convert migrate translate from-yaml",
    "cancel": "stop kill abort down delete scancel",
    "status": "ps list ls runs jobs history squeue",
    "logs": "log tail output",
    "watch": "follow top monitor live",
    "clean": "prune gc rm remove purge",
    "search": "sweep hpo tune optimize optimise study studies optuna",
    "diagnose": "debug analyze analyse inspect",
    "report": "dashboard summary page card",
    "graph": "dag viz visualize draw",
    "explain": "why doc docs rule man describe",
    "diff": "compare",
    "engine": "install env envs environments setup",
    "doctor": "info system",
    "models": "model",
    "lsp": "server language-server",
}
"""Of ruff, terraform, dvc, docker, kubectl, git, Slurm, LLaMA-Factory's own command line."""

_OPTIONS = {
    "--dry-run": "ftc plan FILE shows what would run",
    "--dryrun": "ftc plan FILE shows what would run",
    "--resume": "ftc run FILE goes on from the newest good checkpoint by itself",
    "--continue": "ftc run FILE goes on from the newest good checkpoint by itself",
    "--resume-from-checkpoint": "ftc run FILE goes on from the newest good checkpoint by itself",
    "--gpus": "write `hardware { count = 2 }` in the recipe, or --set hardware.count=2",
    "--override": "--set KEY=VALUE",
    "--format": "--output-format",
    "--output": "-o",
    "--verbose": "ftc explain FILE says where each value comes from",
    "--background": "--detach",
    "--no-cache": "--fresh",
    "--force": "--fresh",
    "--param": "-p NAME=VALUE",
    "--env": "--profile P",
    "--config": "the recipe is an argument: ftc run FILE",
    "--file": "the recipe is an argument: ftc run FILE",
}


def verb_meant(word: str, verbs: Iterable[str]) -> str:
    """The verb meant by an unknown word: by meaning, then by spelling; "" if none."""
    folded = word.lower().replace("_", "-")
    known = next((verb for verb, words in _VERBS.items() if folded in words.split()), None)
    return known or closest(word, verbs) or ""


def option_meant(option: str, options: Iterable[str]) -> str:
    """What to write for an unknown option of a verb, as the end of a sentence; "" if nothing is near."""
    name = option.partition("=")[0]
    choices = list(options)
    if near := closest(name, choices):
        return f"did you mean `{near}`?"
    instead = _OPTIONS.get(name.lower().replace("_", "-"), "")
    first = instead.split(" ")[0]
    if not first.startswith("-"):
        return instead
    return f"did you mean `{instead}`?" if first in choices else ""
