"""`ftc fmt` changes blanks only: its result is proven to be the same recipe, and otherwise nothing is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftdsl.language import format as formatting
from ftdsl.language.format import FormatError, format_text
from ftdsl.source import Source
from tests.conftest import ftc

AWKWARD = [
    'sft { batch { """a\n c""" = 16, micro = 2 } }\n',
    '"""k\n""" = 1, "b" = 2\n',
    "sft { '''a\nb''' ~ log(1 .. 2) }\n",
    'sft { x = """a\n  b""" + 1, y = 2 }\n',
    'sft { x = """a\n  b""", y = 2 } # behind\n',
    'sft { x = """a\n  b""" } # behind\nlet y = 1\n',
    'sft { x = f("""a\n""", """b\n""" , c = 1), y = 2 }\n',
    'sft """a\nb""" { x = 1 }\n',
    'sft """a\nb""" from c { x = 1 }\n',
    'include """a\nb""" as c\n',
    'x = """a\n""" .. """b\n"""\n',
    'x = ["""a\n""",\n  """b\n"""]\ny = 1\n',
    'shell s { run = """\n  a\n  b\n""", outputs = ["c"] }\n',
    "sft { x.from = 2, a in [1, 2] }\n",
    "sft {\r\n  x = 1\r\n\r\n\r\n  yy = 2 # c\r\n}\r\n",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_it_reads_the_same_and_stays(text: str) -> None:
    after = format_text(Source("x", text))
    assert after is not None
    assert format_text(Source("x", after)) == after


STRINGS = st.sampled_from(['"s"', "'r'", '"""a\n  b"""', "'''\n x\n\n y'''", '"""one"""', '"a{x}b"', '"\\n"'])
NAMES = st.sampled_from(["a", "lr", "b.c", "x.from"])
BREAKS = st.sampled_from(["\n", "\n\n", ", ", " # c\n", "\n## d\n", ",\n", "\n\n\n# e\n"])
INSIDE = st.sampled_from(["", " ", "\n", "# c\n"])
PLAIN = st.one_of(STRINGS, st.sampled_from(["1", "3 epochs", "5%", "true", "null", "a", "b.c"]))
EXPRESSIONS = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from(["+", "-", "*", "/", ".."]), inner),
        st.builds("f({1}{0}{1})".format, inner, INSIDE),
        st.builds("f({0},{2}n = {1})".format, inner, inner, INSIDE),
        st.builds("[{2}{0},{2}{1}{2}]".format, inner, inner, INSIDE),
        st.builds("({1}{0}{1})".format, inner, INSIDE),
    ),
    max_leaves=5,
)
ITEMS = st.one_of(
    st.builds("{} {} {}".format, st.one_of(NAMES, STRINGS), st.sampled_from(["=", "in", "~"]), EXPRESSIONS),
    st.builds("let v = {}".format, EXPRESSIONS),
    st.builds("include {}".format, STRINGS),
)
BODIES = st.recursive(
    st.lists(st.tuples(ITEMS, BREAKS), max_size=3).map(lambda parts: "".join(map("".join, parts))),
    lambda inner: st.builds("{0}sft {1} {{{3}{0}}}{2}".format, inner, STRINGS, BREAKS, INSIDE),
    max_leaves=3,
)


@given(BODIES)
@settings(max_examples=200, deadline=None)
@pytest.mark.slow
def test_whatever_can_be_read_is_the_same_after(text: str) -> None:
    after = format_text(Source("x", text))
    if after is not None:
        assert format_text(Source("x", after)) == after


def test_what_cannot_be_proven_is_not_written(tmp_path: Path) -> None:
    """A mistake of ours costs a message, and no recipe."""
    (tmp_path / "r.ft").write_text("sft {  rank = 1 }\n", encoding="utf-8")
    code = (
        "import sys\nimport ftdsl.language.format as f\n"
        "f._joined = lambda lines: 'sft { rank = 2 }\\n'\n"
        "from ftdsl.cli.main import main\nsys.exit(main(['fmt', 'r.ft', 'other.ft']))\n"
    )
    (tmp_path / "other.ft").write_text("sft { rank = 2 }\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "r.ft: ftc has a bug here: formatting would change more than whitespace; not changed" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "r.ft").read_text(encoding="utf-8") == "sft {  rank = 1 }\n"


@pytest.mark.parametrize(
    "broken", ["sft { rank = 2 }\n", "sft { rank = 1\n", "sft { rank =\n1 }\n", "# c\nsft { rank = 1 }\n", ""]
)
def test_the_proof_sees_every_kind_of_difference(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formatting, "_joined", lambda lines: broken)
    with pytest.raises(FormatError):
        format_text(Source("x", "sft { rank = 1 }\n"))


def test_the_command_keeps_a_recipe_readable(tmp_path: Path) -> None:
    (tmp_path / "r.ft").write_text(AWKWARD[0], encoding="utf-8")
    before = ftc("check", "r.ft", cwd=tmp_path).stdout
    ftc("fmt", "r.ft", cwd=tmp_path)
    assert ftc("check", "r.ft", cwd=tmp_path).stdout.count("error") == before.count("error")
