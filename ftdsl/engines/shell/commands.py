"""Commands that run an argument, or their input, as code: a value must not be part of that, however it is quoted."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ftdsl.record import frozen

HOLE = "\0"
"""Placeholder for a name while code is read: no text of a recipe contains a null character."""

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})
_ASSIGNED = re.compile(r"[A-Za-z_]\w*(?:\[[^\]]*\])?\+?=")
_RUN_TEXT = frozenset({"su", "runuser", "sg", "script", "flock"})
_DECLARES = frozenset({"declare", "typeset", "local", "export", "readonly"})
_NAMES_A_VARIABLE = frozenset({*_DECLARES, "unset", "read", "mapfile", "readarray", "getopts"})
_SUBSCRIPT = re.compile(r"(?:[A-Za-z_]\w*)?\[[^\]]*\Z")
_SSH_TAKES = frozenset(f"-{letter}" for letter in "BbcDEeFIiJLlmOoPpQRSWw")

NUMBER = "use a number, or compare texts: [[ {x} == … ]]"
"""Help for a value that is not a number in an arithmetic expression."""


@frozen
class Refusal:
    """Why a value cannot be used here, and what to write. number: a whole number can be used."""

    why: str
    help: str
    number: bool = False


def computes(what: str) -> Refusal:
    return Refusal(
        f"bash evaluates {what} as arithmetic, and could run a value that is not a number", NUMBER, number=True
    )


def refusal(words: Sequence[str], word: str, raw: str) -> Refusal | None:
    """Why a name cannot be used in a word of a command; None if it can.

    words: the words before it, without quotes; word: the part of its own word before it, `raw` with the quotes.
    """
    if _SUBSCRIPT.match(raw):
        return computes("the brackets of an array")
    own = _without_assignments(words)
    if not own:
        return None
    name = _base(own[0])
    if name in ("command", "builtin", "exec") and len(own) > 1:
        own = own[1:]
        name = _base(own[0])
    if name == "eval" or (name == "trap" and all(argument.startswith("-") and argument != "-" for argument in own[1:])):
        help = "write the command itself, where `{x}` stays one word"
        return Refusal(f"`{name}` runs its arguments as code, and the value would be part of it", help)
    if name == "let":
        return computes("the arguments of `let`")
    if shell_refusal := _for_a_shell(own):
        return shell_refusal
    return _variable(name, own, word)


def _without_assignments(words: Sequence[str]) -> Sequence[str]:
    first = next((at for at, word in enumerate(words) if not _ASSIGNED.match(word)), len(words))
    return words[first:]


def _base(word: str) -> str:
    return word.rsplit("/", 1)[-1]


def _for_a_shell(words: Sequence[str]) -> Refusal | None:
    """An argument of `sh -c`, or of a command on another machine, which a shell there parses again."""
    shell = next((_base(word) for word in words[:-1] if _base(word) in SHELLS), "")
    if shell and re.fullmatch(r"-[A-Za-z]*c[A-Za-z]*", words[-1]):
        help = f"pass it as an argument: {shell} -c 'echo \"$1\"' {shell} {{x}}"
        return Refusal(f"`{shell} -c` runs its argument as code, and the value would be part of it", help)
    own = _base(words[0])
    if (own in _RUN_TEXT and words[-1] in ("-c", "--command")) or (
        own == "watch" and words[-1] not in ("-n", "--interval")
    ):
        return Refusal(
            f"`{own}` passes it to a shell, which runs it as code", "write the command into a script of its own"
        )
    if own == "ssh" and _past_the_host(words):
        help = 'quote it again: Q=$(printf %q {x}); ssh HOST "command $Q"'
        return Refusal("a shell on the other machine runs the arguments of `ssh` as code", help)
    return None


def _past_the_host(words: Sequence[str]) -> bool:
    takes = False
    for argument in words[1:]:
        if takes:
            takes = False
        elif argument in _SSH_TAKES:
            takes = True
        elif not argument.startswith("-"):
            return True
    return False


def _variable(name: str, words: Sequence[str], word: str) -> Refusal | None:
    """Where bash uses the value as the name of a variable, it evaluates what is in the brackets of `NAME[…]`."""
    options = [argument for argument in words[1:] if argument.startswith("-")]
    letters = "".join(options)
    if name in _DECLARES and (set(letters) & set("inaA")):
        return computes(f"the arguments of `{name} {options[0]}`")
    takes_name = name in _NAMES_A_VARIABLE or (name == "printf" and words[-1] == "-v")
    takes_name |= name in ("test", "[", "[[") and words[-1] == "-v"
    if not takes_name:
        return None
    assigned = _ASSIGNED.match(word)
    if name in _DECLARES and assigned and not word[assigned.end() :].startswith("("):
        return None
    if name == "read" and words[-1] in ("-p", "-d", "-t", "-u", "-n", "-N", "-i"):
        return None
    why = f"`{name}` uses it as the name of a variable, and bash evaluates the text in brackets of a name"
    return Refusal(why, "write the name of the variable itself")


def reads_code(commands: Sequence[Sequence[str]]) -> str:
    """The shell in a pipeline that runs its input as code; "" if there is none."""
    for words in commands:
        own = _without_assignments(words)
        if own and _base(own[0]) in SHELLS and _reads_input(own[1:]):
            return _base(own[0])
        if len(own) > 1 and _base(own[0]) == "ssh" and len([w for w in own[1:] if not w.startswith("-")]) == 1:
            return "ssh"
    return ""


def _reads_input(arguments: Sequence[str]) -> bool:
    """Whether a shell with these arguments reads its code from its input: without a script, or with `-s`."""
    options = [word for word in arguments if re.fullmatch(r"-[A-Za-z]+", word)]
    if any("c" in word for word in options):
        return False
    return any("s" in word for word in options) or all(word.startswith("-") for word in arguments)


def piped(shell: str) -> Refusal:
    """The refusal of a value in the input of a shell."""
    help = f"pass it as an argument: {shell} -s -- {{x}} <<'EOF', and \"$1\" in the document"
    return Refusal(f"`{shell}` runs this as code, and the value would be part of it", help)
