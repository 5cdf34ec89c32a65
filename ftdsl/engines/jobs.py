"""What an engine makes of a planned stage: documents to write and one script to run. `targets` and `run` read these."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from ftdsl.language.values import VARIABLE
from ftdsl.record import frozen


@frozen
class Document:
    """A file of a job. `path` is relative to the build folder (`20-sft/train.yaml`).

    header: comment lines at the top (not in JSON, which has no comments); titles: key -> a comment line above it;
    data: of a text, its lines; why: dotted path -> what decides the value, a key of the recipe or a sentence.
    """

    path: str
    kind: Literal["yaml", "json", "text"]
    data: Any
    header: tuple[str, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)


@frozen
class Reasons:
    """What decides each line of a job's files: a dotted key of the recipe, or a sentence.

    lines: by document and dotted path in it; about: what a file is for; arguments: by program (`torch.distributed.run`,
    `runtime/llamafactory.py train`) or flag in the launch script; variables: by name.
    """

    lines: Mapping[str, Mapping[str, str]]
    about: Mapping[str, str]
    arguments: Mapping[str, str]
    variables: Mapping[str, str]


@frozen
class Raw:
    """Shell text that must not be quoted: `"$FT_PYTHON"`. Never made from a value of a recipe.

    Either a literal in the source (checked by tests/house), or a reference made by `Raw.variable`.
    """

    text: str

    @staticmethod
    def variable(name: str, *, default: str | int = "", missing: str = "") -> Raw:
        """`"${NAME}"`; when the variable is not set, `default` instead, or the script stops with the message `missing`.

        Raises: ValueError for an invalid variable name, and for texts in which a shell would expand something.
        """
        if not is_variable(name):
            raise ValueError(f"{name!r} is not a valid variable name")
        for text in (str(default), missing):
            if not re.fullmatch(r"[\w .,:/()-]*", text, re.ASCII):
                raise ValueError(f"{text!r} is not plain text")
        end = f":?{missing}" if missing else f":-{default}" if default != "" else ""
        return Raw(f'"${{{name}{end}}}"')


def is_variable(name: str) -> bool:
    """Whether this is a valid name of a shell variable."""
    return VARIABLE.fullmatch(name) is not None


@frozen
class Command:
    """One command of a job's script. Its working directory is the run folder.

    argv: arguments; a `str` is shell-quoted when rendered, a `Raw` is not.
    shell: the user's own code, of a `shell` stage; argv is empty then.
    """

    argv: tuple[str | Raw, ...] = ()
    shell: str = ""
    comment: str = ""


@frozen
class Gate:
    """A bound on a metric. op: `at_least`, `at_most`, or `no_worse` (`than` is the folder of the stage to compare with)."""

    metric: str
    op: str
    bound: float
    than: str = ""


@frozen
class Job:
    """A stage, ready to run.

    key: unique name (`sft`, `sft@seed=1`);
    folder: its folder in the build folder and in the run folder (`20-sft`);
    needs: keys of the jobs that must have succeeded;
    env: variables; secrets are `Raw` references;
    runtime: the modules of ftdsl.runtime that it uses;
    inputs: the files it reads outside the run folder, relative to the recipe's folder; their content is part of its cache key;
    result: path of its result, relative to the run folder;
    processes: world size; nodes: how many machines; by_hand: the command to type on each machine;
    location: "file:line" of the stage;
    environment: name of the engine whose environment it runs in, "" for any Python;
    packages: distributions that this environment must have;
    outputs: files that a script must write, relative to the run folder.
    """

    key: str
    folder: str
    kind: str
    title: str
    needs: tuple[str, ...]
    documents: tuple[Document, ...]
    commands: tuple[Command, ...]
    env: Mapping[str, str | Raw] = field(default_factory=dict)
    runtime: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    result: str = ""
    result_kind: Literal["adapter", "model", "dataset", "metrics", "files"] = "files"
    processes: int = 1
    nodes: int = 1
    by_hand: tuple[str, ...] = ()
    accelerators: int = 0
    gates: tuple[Gate, ...] = ()
    location: str = ""
    header: tuple[str, ...] = ()
    environment: str = ""
    packages: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
