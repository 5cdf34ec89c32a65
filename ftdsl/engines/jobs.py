"""What an engine makes of a planned stage: documents to write and one script to run. `targets` and `run` read these."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from ftdsl.language.values import VARIABLE
from ftdsl.record import frozen
from ftdsl.runtime.events import RESULT


@frozen
class Document:
    """A file of a job. `path` is relative to the build folder (`20-sft/train.yaml`).

    `header` lines are comments at the top if the format has comments (not JSON); `titles`: a comment before
    each key named there; `data` of a text is its lines; `why`: what decides a line, by dotted path: a key of the recipe
    or a sentence; `bookkeeping`: top keys that change nothing of what is made.
    """

    path: str
    kind: Literal["yaml", "json", "text"]
    data: Any
    header: tuple[str, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    bookkeeping: tuple[str, ...] = ()


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
    each_node: whether it is started on every node of its job, and its processes work together. What follows it in a job of
    several nodes (scores, gates) is done once, on the first.
    """

    argv: tuple[str | Raw, ...] = ()
    shell: str = ""
    comment: str = ""
    each_node: bool = False


@frozen
class Gate:
    """A bound on a metric. op: `at_least`, `at_most`, or `no_worse` (`than` is the folder of the stage to compare with, or "" for
    the model that the stage itself scores as `against`). stderrs: how many standard errors of the difference are added to the
    bound.
    """

    metric: str
    op: str
    bound: float
    than: str = ""
    stderrs: float = 0.0


@frozen
class Job:
    """A stage, ready to run.

    key: unique name (`sft`, `sft@seed=1`); folder: its folder in build and run folder (`20-sft`);
    needs: keys of jobs that must have succeeded; inputs: files outside the run folder it reads (relative to the
    recipe's folder), whose content is part of its cache key; reads: other files and folders of the recipe it reads (models,
    adapters, checkpoints, scripts), of which the same is true; runtime: modules of ftdsl.runtime it uses;
    result: path (relative to the run folder) of what it makes, and `result_kind` what that is;
    processes: planned world size, over `nodes`, of which each is started as `by_hand` says;
    outputs: what a script must leave, seen from the run folder;
    environment: the name of the environment it runs in (an engine's or a tool's), "" for any Python;
    uploads: the Hub's repository that it uploads to;
    packages: distributions that environment must have; env values may be `Raw`
    references (secrets).
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
    reads: tuple[str, ...] = ()
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
    uploads: str = ""
    outputs: tuple[str, ...] = ()

    @property
    def made_paths(self) -> tuple[str, ...]:
        """What it is for, as paths of the run folder."""
        if self.kind == "shell":
            return self.outputs
        result = f"{self.folder}/{RESULT}"
        if self.kind == "data":
            return (*(f"{self.folder}/{part}.jsonl" for part in ("train", "eval", "test")), result)
        return (result,) if self.result_kind == "metrics" else (self.result, result)
