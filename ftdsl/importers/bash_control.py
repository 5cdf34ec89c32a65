"""Control flow of a script: tests of known texts, branches, texts that are commands, Slurm headers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ftdsl.importers.bash_words import CLOSE, OPEN, Expander, Value, Word, computed, variable_name
from ftdsl.source import Span

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
    if words[0].text.rpartition("/")[2] == "sbatch":
        wrapped = next((word for word in words[1:] if word.text.startswith("--wrap")), None)
        after = words[words.index(wrapped) + 1 :] if wrapped is not None and "=" not in wrapped.text else []
        if wrapped is not None:
            marked = wrapped.marked.partition("=")[2]
            return after[0] if after else Word(wrapped.text.partition("=")[2], wrapped.span, wrapped.known, marked)
    if words[0].text.rpartition("/")[2] in _REMOTE:
        return next((word for word in words[1:] if COMMAND.search(word.text)), None)
    return None


_REMOTE = frozenset(
    "ssh pdsh clush pssh tmux screen su sudo runuser parallel xargs watch script kubectl docker podman srun salloc setsid nohup "
    "flock sshpass autossh gcloud aws az oc".split()
)
"""Commands that are given another one as one text (`ssh host "cd x && llamafactory-cli train y.yaml"`)."""
COMMAND = re.compile(
    r"(?s)(?=.*\s).*(?:llamafactory-cli|\blmf\b|torchrun|accelerate launch|deepspeed|train\w*\.py|llamafactory\.)"
)


def decided(node: Node, expand: Expander) -> bool | None:
    """`[ "$A" = x ]`, `[[ -z $A ]]`, `[ $N -gt 1 ]` of known texts; None if only a running shell knows."""
    text = expand.syntax.of(node)
    if node.type != "test_command" or "&&" in text or "||" in text or " -a " in text or " -o " in text:
        return None
    inner = [child for child in node.named_children if child.type in ("unary_expression", "binary_expression")]
    if len(inner) != 1:
        return None
    parts = inner[0].children
    texts = [expand.syntax.of(part) for part in parts]
    if len(parts) == 2 and texts[0] in ("-z", "-n"):
        word = expand.word(parts[1])
        return (not word.text) == (texts[0] == "-z") if word.known else None
    if len(parts) == 3 and texts[1] in TESTS:
        left, right = expand.word(parts[0]), expand.word(parts[2])
        if left.known and right.known:
            return tested(left.text, texts[1], right.text)
    return None


def extended(values: Sequence[Value], unknown: Word) -> Value:
    """What a variable holds after branches of which some append to it (`ARGS+=(--bf16)`): what it held before, and what is
    not known; where they set it otherwise, nothing is known."""
    shortest = min(values, key=lambda value: (len(value), len(value[0].text) if value else 0))
    if len(shortest) == 1 and all(len(value) == 1 for value in values):
        text, marked = shortest[0].text, shortest[0].marked or shortest[0].text
        if text.strip() and all(value[0].text.startswith(text) for value in values):
            blank = "" if text[-1].isspace() else " "
            return (Word(f"{text}{blank}{unknown.text}", unknown.span, False, f"{marked}{blank}{unknown.marked}"),)
        return (unknown,)
    if not shortest or not all(word.known for word in shortest):
        return (unknown,)
    words = [word.text for word in shortest]
    begins = all([word.text for word in value[: len(words)]] == words for value in values)
    return (*shortest, unknown) if begins else (unknown,)


@contextmanager
def without_itself(variables: dict[str, Value]) -> Iterator[None]:
    """Read a text that a variable holds (`eval $CMD`) with nothing known of the part `$CMD` that branches added to it."""
    held = {
        name: value
        for name, value in variables.items()
        if len(value) == 1 and not value[0].known and value[0].text.strip() != f"${name}" and name in value[0].text
        and f"{OPEN}{name}{CLOSE}" in value[0].marked
    }  # fmt: skip
    for name, (word,) in held.items():
        variables[name] = (Word(f"${name}", word.span, False, f"{OPEN}{name}{CLOSE}"),)
    yield
    variables |= held


def asked_for(loop: str, variables: Mapping[str, Value], span: Span) -> dict[str, Value]:
    """The variables that a loop over the script's arguments sets (`--task) TASK="$2"`) and that hold nothing before it: they
    have to be given, so nothing is known of them."""
    names = dict.fromkeys(re.findall(r"\b([A-Za-z_]\w*)=(?=[\"']?\$)", loop))
    empty = [name for name in names if name in variables and not any(word.text for word in variables[name])]
    return {name: (Word(f"${name}", span, False, f"{OPEN}{variable_name(name)}{CLOSE}"),) for name in empty}


def let(words: Sequence[Word], expand: Expander) -> Iterator[tuple[str, Value]]:
    """The variables that `let A=64/8` sets: whole-number arithmetic."""
    for word in words:
        match = re.fullmatch(r"([A-Za-z_]\w*)=(.+)", word.text, re.S | re.A)
        if match is None:
            continue
        result = expand.arithmetic(match[2]) if word.known else None
        unknown = Word(f"${match[1]}", word.span, False, f"{OPEN}{variable_name(match[1])}{CLOSE}")
        yield match[1], (unknown if result is None else Word(str(result), word.span),)
