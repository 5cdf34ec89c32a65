"""A Pygments lexer for recipes (entry point `ft`): Sphinx, MkDocs and terminals colour them.

The tokens are those of grammar/ft.lark.
"""

from __future__ import annotations

from pygments.lexer import RegexLexer, bygroups, include
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Whitespace

STAGES = r"data|pretrain|sft|reward|dpo|kto|ppo|grpo|distill|eval|merge|quantize|shell"
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_UNIT = r"%|[A-Za-z]+"


class RecipeLexer(RegexLexer):
    """Recipes of ftdsl."""

    name = "ftdsl recipe"
    url = "https://github.com/ftdsl/ftdsl"
    aliases = ["ft", "ftdsl"]  # noqa: RUF012
    filenames = ["*.ft"]  # noqa: RUF012
    mimetypes = ["text/x-ftdsl"]  # noqa: RUF012
    version_added = ""

    tokens = {  # noqa: RUF012
        "root": [
            (r"\A\ufeff", Whitespace),
            include("blanks"),
            (r"(include)([ \t]*)(?=[\"'])", bygroups(Keyword.Namespace, Whitespace)),
            (rf"(let|param)([ \t]+)({_NAME})", bygroups(Keyword.Declaration, Whitespace, Name.Variable)),
            (rf"(profile|template)([ \t]+)({_NAME})", bygroups(Keyword.Declaration, Whitespace, Name.Class)),
            (rf"({STAGES})([ \t]+)(?!from\b)({_NAME})(?=[ \t]*(?:from\b|{{))", bygroups(Keyword, Whitespace, Name.Class)),
            (rf"({STAGES}|search|profile|template)(?=[ \t]*(?:from\b|{{))", Keyword),
            (rf"({_NAME})(?=[ \t]*{{)", Name.Namespace),
            (rf"({_NAME})(?=(?:\.{_NAME})*[ \t]*(?:=|~|in\b))", Name.Attribute),
            (r"(?:from|in|as)\b", Keyword),
            (r"(?:true|false|null)\b", Keyword.Constant),
            (rf"({_NAME})(?=\()", Name.Function),
            (rf"\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+(?![A-Za-z]))?(?:{_UNIT})?", Number),
            (rf"{_NAME}", Name),
            include("strings"),
            (r"\.\.|[-+*/=~?:]", Operator),
            (r"[{}()\[\],.]", Punctuation),
        ],
        "blanks": [
            (r"\s+", Whitespace),
            (r"##[^\n]*", Comment.Special),
            (r"#[^\n]*", Comment.Single),
        ],
        "strings": [
            (r'"""', String.Double, "long"),
            (r"'''(?:[^']|'(?!''))*'''", String.Single),
            (r'"', String.Double, "short"),
            (r"'[^'\n]*'", String.Single),
        ],
        "long": [
            (r'"""', String.Double, "#pop"),
            include("inside"),
            (r'[^"\\{}]+|["{}]', String.Double),
        ],
        "short": [
            (r'"', String.Double, "#pop"),
            include("inside"),
            (r'[^"\\{}\n]+|[{}]', String.Double),
        ],
        "inside": [
            (r"\{\{|\}\}", String.Escape),
            (rf"\{{{_NAME}(?:\.{_NAME})*\}}", String.Interpol),
            (r"\\[\s\S]", String.Escape),
        ],
    }  # fmt: skip


__all__ = ["RecipeLexer"]
