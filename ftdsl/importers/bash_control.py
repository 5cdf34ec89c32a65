"""Control flow of a script: tests of known texts, branches, texts that are commands, Slurm headers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ftdsl.importers.bash_words import Word, computed

if TYPE_CHECKING:
    from tree_sitter import Node

SBATCH = re.compile(r"^#SBATCH[ \t]+(-[A-Za-z]|--[a-z-]+)[ \t=]+([^\s#]+)", re.M)


def slurm(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The variables that Slurm sets from a job's header."""
    nodes = headers.get("--nodes") or headers.get("-N") or ""
    variables = dict.fromkeys(("SLURM_NNODES", "SLURM_JOB_NUM_NODES"), nodes) if nodes.isdigit() else {}
    gpus = gpus_of(headers)
    return variables | (dict.fromkeys(("SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE"), str(gpus)) if gpus else {})


def gpus_of(headers: Mapping[str, str]) -> int:
    """GPUs of one node that a Slurm job requests; 0 if it requests none."""
    for name in ("--gpus-per-node", "--gres", "--gpus", "-G"):
        match = re.search(r"(?:^|:|=)(\d{1,3})$", headers.get(name, ""))
        if match is not None:
            return int(match[1])
    return 1 if headers.get("--gres", "").split(":")[0] == "gpu" else 0


TESTS = {"=": "==", "==": "==", "!=": "!=", "-eq": "==", "-ne": "!=", "-gt": ">", "-lt": "<", "-ge": ">=", "-le": "<="}


def tested(left: str, how: str, right: str) -> bool | None:
    if how in ("=", "==", "!="):
        return None if "*" in right else (left == right) == (how != "!=")
    first, second = computed(left), computed(right)
    if first is None or second is None:
        return None
    return {"==": first == second, "!=": first != second, ">": first > second, "<": first < second, ">=": first >= second,
            "<=": first <= second}[TESTS[how]]  # fmt: skip


def branches(node: Node) -> Iterator[tuple[Node | None, list[Node]]]:
    """The tests of an `if` and what each leads to; None for `else`."""
    test = node.child_by_field_name("condition")
    conditions = node.children_by_field_name("condition")
    rest = [child for child in node.named_children if child not in conditions]
    own = [child for child in rest if child.type not in ("elif_clause", "else_clause")]
    if test is None and own and node.type != "else_clause":
        test, own = own[0], own[1:]
    yield test, own
    for child in rest:
        if child.type == "elif_clause":
            yield from branches(child)
        elif child.type == "else_clause":
            yield None, list(child.named_children)


def spine(node: Node) -> Iterator[Node]:
    """`a && b && c`, which the grammar nests to the left, in order."""
    parts: list[Node] = []
    while node.type == "list":
        parts += reversed(node.named_children[1:])
        if not node.named_children:
            break
        node = node.named_children[0]
    yield node
    yield from reversed(parts)


def inner_text(words: Sequence[Word]) -> Word | None:
    """The text that `bash -c "…"`, `eval "…"` or `docker run … bash -c "…"` runs."""
    if words[0].text == "eval":
        spans = words[-1].span
        return Word(" ".join(word.text for word in words[1:]), spans, all(word.known for word in words[1:]))
    for at in range(len(words) - 2):
        if words[at].text.rpartition("/")[2] in ("bash", "sh", "zsh"):
            flag = words[at + 1].text
            if re.fullmatch(r"-[a-z]*c[a-z]*", flag):
                return words[at + 2]
            if re.fullmatch(r"-[a-z]+", flag) and at + 3 < len(words) and words[at + 2].text == "-c":
                return words[at + 3]
    return None
