"""`{x}` in an author's bash code: run by bash, every value arrives whole wherever the name stands, and none is run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftdsl.engines.shell import Hole, RefusedError, with_values

VALUES = [
    "plain", "a b", "a  b\t c", "", " ", " lead", "trail ", "*", "?", "[a-z]", "a *", "~", "~root", "{a,b}", "$HOME", "${HOME}",
    "$(touch pwned)", "`touch pwned`", "; touch pwned", "\n touch pwned\n", "& touch pwned &", "| touch pwned", "> pwned",
    "a'b", "'", "''", "'; touch pwned; '", 'a"b', '"', '"; touch pwned; "', "a\\", "\\", "\\n", "\\'", "\\\"", "$'\\x41'",
    "-n", "--", "-rf /", "!x", "!!", "#x", "a #b", "x=1", "a[$(touch pwned)]", "x[0$(touch pwned)]+1", "EOF", "\nEOF\n", "\tEOF",
    "a\nb\n\n", "\n", "é 日本 ü", "%s%n", "esac", ")", "(", "))", "}", "${x:-$(touch pwned)}", "\r\n", "\x01\x1b[31m", "0" * 5000,
]  # fmt: skip
"""What would like to be more than one word, or code."""

CONTEXTS: dict[str, tuple[str, list[str]]] = {
    "plain": ("rec {x}", ["{x}"]),
    "inside a word": ("rec a{x}b", ["a{x}b"]),
    "twice in a word": ("rec {x}{x}", ["{x}{x}"]),
    "a path": ("rec {x}/train.jsonl", ["{x}/train.jsonl"]),
    "an option": ("rec --lr={x} -- end", ["--lr={x}", "--", "end"]),
    "beside globs": ("rec no*such{x}", ["no*such{x}"]),
    "beside braces": ("rec {{a,b}}{x}", ["a{x}", "b{x}"]),
    "double quotes": ('rec "{x}"', ["{x}"]),
    "inside double quotes": ('rec "a {x} b"', ["a {x} b"]),
    "between double quotes": ('rec "a"{x}"b"', ["a{x}b"]),
    "single quotes": ("rec '{x}'", ["{x}"]),
    "inside single quotes": ("rec 'a \"{x}\" $b'", ['a "{x}" $b']),
    "between single quotes": ("rec 'a'{x}'b'", ["a{x}b"]),
    "ANSI quotes": (r"rec $'a\t{x}\n'", ["a\t{x}\n"]),
    "ANSI with quotes": (r"rec $'a\'{x}\''", ["a'{x}'"]),
    "translated quotes": ('rec $"a {x}"', ["a {x}"]),
    "an escaped quote before": ("rec \\'{x}\\' \\\"{x}\\\"", ["'{x}'", '"{x}"']),
    "a backslash before": ("rec a\\{x}", ["a{x}"]),
    "two backslashes before": (r"rec a\\{x}", ["a\\{x}"]),
    "a backslash in double quotes": ('rec "a\\{x}"', ["a\\{x}"]),
    "two backslashes in double quotes": (r'rec "a\\{x}"', ["a\\{x}"]),
    "an escaped quote in double quotes": (r'rec "a\"{x}\"b"', ['a"{x}"b']),
    "a backslash in single quotes": (r"rec 'a\{x}'", ["a\\{x}"]),
    "a backslash in ANSI quotes": (r"rec $'a\{x}'", ["a\\{x}"]),
    "a dollar before": ("rec ${x}", ["${x}"]),
    "a dollar in double quotes": ('rec "a${x}"', ["a${x}"]),
    "brackets behind": ('rec "{x}[0]" {x}[0]', ["{x}[0]", "{x}[0]"]),
    "letters behind": ('rec "{x}abc" {x}abc', ["{x}abc", "{x}abc"]),
    "a command's output": ('rec "$(printf %s {x}; printf E)"', ["{x}E"]),
    "quoted in a command's output": ('rec "$(printf %s "{x}"; printf E)"', ["{x}E"]),
    "single in a command's output": ("rec \"$(printf %s '{x}'; printf E)\"", ["{x}E"]),
    "deep": ('rec "$(printf %s "$(printf %s "a {x}"; printf E)"; printf F)"', ["a {x}EF"]),
    "backticks": ("rec a`rec2 {x}`", ["a"]),
    "backticks in double quotes": ('rec "a`rec2 {x}`"', ["a"]),
    "quotes in backticks": ("rec a`rec2 'b {x}'`", ["a"]),
    "a subshell": ("(rec {x})", ["{x}"]),
    "a group": ("{{ rec {x}; }}", ["{x}"]),
    "a function": ("f() {{ rec {x} \"$1\"; }}\nf {x}", ["{x}", "{x}"]),
    "an assignment": ('A={x}; rec "$A"', ["{x}"]),
    "an assignment before a command": ("A={x} rec {x}", ["{x}"]),
    "an export": ('export A={x}; rec "$A"', ["{x}"]),
    "a local": ('f() {{ local a={x}; rec "$a"; }}; f', ["{x}"]),
    "an array": ('A=(1 {x} 2); rec "${{A[1]}}"', ["{x}"]),
    "a loop": ('for v in {x} b; do rec "$v"; break; done', ["{x}"]),
    "a case": ("case {x} in {x}) rec {x};; *) rec no;; esac", ["{x}"]),
    "behind a case": ("case a in\n (b) ;;\n a) rec {x} ;;\nesac", ["{x}"]),
    "a case in a command's output": ('rec "$(case a in a) printf %s {x};; esac; printf E)"', ["{x}E"]),
    "patterns with quotes": ("case a in \"b\"|'c') ;; a) rec {x};; esac", ["{x}"]),
    "a test": ("[[ {x} == {x} ]] && rec {x}", ["{x}"]),
    "a test of length": ('[[ -z {x} || -n "{x}" ]] && rec {x}', ["{x}"]),
    "an old test": ('[ {x} = "{x}" ] && rec {x}', ["{x}"]),
    "a redirection": ("rec {x} > /dev/null 2>&1", ["{x}"]),
    "a here-string": ('IFS= read -r -d "" a <<< {x} || true; rec "$a"', ["{x}\n"]),
    "a here-document": ('IFS= read -r -d "" a <<EOF || true\n{x}.\nEOF\nrec "$a" {x}', ["{x}.\n", "{x}"]),
    "quotes in a document": ("IFS= read -r -d '' a <<EOF || true\nit's \"{x}\"\nEOF\nrec \"$a\"", ['it\'s "{x}"\n']),
    "a backslash in a here-document": ('IFS= read -r -d "" a <<EOF || true\n\\{x}.\nEOF\nrec "$a"', ["\\{x}.\n"]),
    "an indented here-document": ('\tIFS= read -r -d "" a <<-EOF || true\n\t\t{x}.\n\tEOF\nrec "$a"', ["{x}.\n"]),
    "two here-documents": (
        'f() {{ IFS= read -r -d "" a <&3; IFS= read -r -d "" b; true; }}\nf 3<<A <<B || true\n1{x}.\nA\n2{x}.\nB\nrec "$a" "$b"',
        ["1{x}.\n", "2{x}.\n"],
    ),
    "behind a quoted here-document": ("cat > /dev/null <<'EOF'\nit's $(touch pwned) `\nEOF\nrec {x}", ["{x}"]),
    "a command in a here-document": (
        'IFS= read -r -d "" a <<EOF || true\n$(printf %s "{x}"; printf E)\nEOF\nrec "$a"', ["{x}E\n"],
    ),
    "behind a comment": ("# it's \"{x}\" `\nrec {x} # don't", ["{x}"]),
    "a hash that is none": ("rec a#{x} \"$#\"", ["a#{x}", "0"]),
    "behind braces of the shell": ("v=\"it's\"; rec \"${{v#'}}'}}\" {x}", ["it's", "{x}"]),
    "behind a default with quotes": ('rec "${{none:-"a  b"}}" {x}', ["a  b", "{x}"]),
    "behind a shift": ("(( 1 << 2 )); rec {x}", ["{x}"]),
    "behind arithmetic": ('rec $(( (1 + 2) * 3 )) {x}', ["9", "{x}"]),
    "a line that goes on": ("rec \\\n  {x} \\\n  b", ["{x}", "b"]),
    "process substitution": ('rec "$(cat <(printf %s {x}; printf E))"', ["{x}E"]),
    "an argument of a shell": ("bash -c 'printf %s \"$1\"' _ {x} > /dev/null; rec {x}", ["{x}"]),
    "an argument of a shell's script": ("bash -s -- {x} <<'EOF'\nprintf %s \"$1\" > /dev/null\nEOF\nrec {x}", ["{x}"]),
    "a pipeline": ('printf %s {x} | cat > /dev/null; rec {x}', ["{x}"]),
    "a keyword as an argument": ("rec case in esac {x}", ["case", "in", "esac", "{x}"]),
}  # fmt: skip
"""Code, as a person writes it in a recipe, and the words that the recording command must get."""

RECORD = 'set -euo pipefail\nrec() { printf "%s\\0" "$@" >> "$OUT"; }\nrec2() { printf "%s\\0" "$@" >> "$OUT.2"; }\n'
HOLES = re.compile(r"(?<!\{)\{x\}")


def parts_of(code: str, *, number: bool = False) -> list[str | Hole]:
    """As the recipe's strings are read: `{{` is a brace, `{x}` a name."""
    parts: list[str | Hole] = []
    for at, piece in enumerate(HOLES.split(code)):
        parts += [Hole("FT_X", number)] if at else []
        parts.append(piece.replace("{{", "{").replace("}}", "}"))
    return parts


def run(code: str, value: str, folder: Path) -> tuple[int, list[str], str]:
    out = folder / "out"
    out.unlink(missing_ok=True)
    done = subprocess.run(
        ["bash", "-c", RECORD + code], cwd=folder, capture_output=True, check=False,
        env={"PATH": "/usr/bin:/bin", "FT_X": value, "OUT": str(out), "HOME": str(folder)},
    )  # fmt: skip
    words = out.read_bytes().decode("utf-8").split("\0")[:-1] if out.exists() else []
    return done.returncode, words, done.stderr.decode("utf-8", "replace")


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.slow
def test_a_value_arrives_whole(context: str, tmp_path: Path) -> None:
    code, wanted = CONTEXTS[context]
    made = with_values(parts_of(code))
    for value in VALUES:
        (tmp_path / "no match").touch()
        status, words, said = run(made, value, tmp_path)
        assert words == [word.replace("{x}", value) for word in wanted], (made, value, said)
        assert status == 0, (made, value, said)
        assert sorted(path.name for path in tmp_path.iterdir() if path.name not in ("out", "out.2")) == ["no match"], (
            made
        )


REFUSED = {
    "eval": "eval {x}",
    "quoted eval": "eval 'rec {x}'",
    "eval behind others": 'if true; then A=1 command eval "rec {x}"; fi',
    "eval in a function": "f() {{ eval {x}; }}; f",
    "sh -c": "sh -c 'rec {x}'",
    "bash with options": 'bash -eu -o pipefail -c "rec {x}"',
    "by its path": "/bin/bash -lc {x}",
    "behind env": 'env A=1 bash -c "rec {x}"',
    "in xargs": "echo 1 | xargs -I% sh -c 'rec % {x}'",
    "su -c": 'su me -c "rec {x}"',
    "ssh": "ssh -p 22 me@host rec {x}",
    "quoted for ssh": 'ssh host "rec {x}"',
    "a trap": "trap 'rm {x}' EXIT",
    "piped to a shell": "echo rec {x} | bash",
    "a subshell piped to a shell": "(echo rec {x}) | bash -x",
    "a document for a shell": "bash <<EOF\nrec {x}\nEOF",
    "a document piped to a shell": "cat <<EOF | sh -s\nrec {x}\nEOF",
    "a document for ssh": "ssh host <<EOF\nrec {x}\nEOF",
    "a string for a shell": "bash <<< {x}",
    "arithmetic": "rec $(( {x} + 1 ))",
    "an arithmetic command": "(( {x} > 1 ))",
    "an arithmetic loop": "for ((i = 0; i < {x}; i++)); do :; done",
    "old arithmetic": "rec $[ {x} + 1 ]",
    "an arithmetic test": "[[ {x} -eq 1 ]]",
    "the other side of it": "[[ 1 -lt {x} ]]",
    "behind another test": "[[ -n a && ( {x} -ge 1 ) ]]",
    "let": "let a={x}",
    "an index": "a[{x}]=1",
    "a quoted index": 'a["{x}"]=1',
    "an index in a list": "a=([{x}]=1)",
    "unset": "unset {x}",
    "unset of an index": "unset 'a[{x}]'",
    "read": "read -r {x}",
    "printf -v": "printf -v {x} a",
    "test -v": "[[ -v {x} ]] || test -v {x}",
    "declare": "declare {x}=1",
    "declare -i": "declare -i a={x}",
    "declare -a": 'declare -a "a={x}"',
    "a quoted document": "cat <<'EOF'\n{x}\nEOF",
    "another quoted document": "cat <<\\EOF\n{x}\nEOF",
    "the end of a document": "cat <<{x}\na\n{x}",
    "braces of the shell": "rec ${{a:-${{b}}{x}}}",
    "a backslash in backticks": 'rec "`rec2 \\"{x}\\"`"',
    "an unclear quote": 'rec "${{a/\'/b}}" {x}',
}
"""Where a value would be run, or would not be put in."""


@pytest.mark.parametrize("context", REFUSED)
def test_where_a_value_would_be_code_its_name_is_refused(context: str) -> None:
    with pytest.raises(RefusedError) as raised:
        with_values(parts_of(REFUSED[context]))
    assert raised.value.hole == 0
    assert raised.value.help


NUMBERS: dict[str, tuple[int, list[str]]] = {
    "arithmetic": (0, ["4"]),
    "an arithmetic command": (0, []),
    "an arithmetic loop": (0, []),
    "old arithmetic": (0, ["4"]),
    "an arithmetic test": (1, []),
    "the other side of it": (0, []),
    "let": (0, []),
    "an index": (0, []),
    "an index in a list": (0, []),
    "declare -i": (0, []),
}
"""Contexts of `REFUSED`: the status of bash, and what is recorded, where the value is the number 3."""


@pytest.mark.parametrize("context", NUMBERS)
def test_numbers_may_be_computed_with(context: str, tmp_path: Path) -> None:
    status, words, stderr = run("set +e\n" + with_values(parts_of(REFUSED[context], number=True)), "3", tmp_path)
    assert (status, words, stderr) == (*NUMBERS[context], "")


PIECES = st.sampled_from(
    ["{x}", " ", "a", "b=", "'c'", '"d"', "'e {x}'", '"f {x}"', "\\\\", "$'g{x}'", "\n", ";", " && ", " | cat ", "$(rec2 {x})",
     '"$(rec2 {x})"', "`rec2 {x}`", "# h {x}\n", "\\'", '\\"', "${HOME}", '"${HOME:-i}"', "(rec2 {x})", "$((1+2))", "<<< j",
     "[[ {x} == k ]]", "case {x} in l) rec2 {x};; esac", "\ncat <<E\nm {x} $(rec2 {x})\nE\n", "> n", "~", "*", "rec "]
)  # fmt: skip


@given(st.lists(PIECES, max_size=10), st.sampled_from(VALUES[:-1]))
@settings(max_examples=300, deadline=None)
@pytest.mark.slow
def test_no_code_makes_code_of_a_value(tmp_path_factory: pytest.TempPathFactory, pieces: list[str], value: str) -> None:
    """Whatever the code around a name, sound or not, bash never runs the value."""
    folder = tmp_path_factory.mktemp("any")
    try:
        made = with_values(parts_of("".join(["rec ", *pieces])))
    except RefusedError:
        return
    run(f"set +e\n{made}\n", value, folder)
    assert not (folder / "pwned").exists(), made
