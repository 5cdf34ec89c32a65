"""Text to syntax tree. Never fails: an error is reported once, and the rest is parsed."""

from __future__ import annotations

from lark import Token

from ftdsl.diagnostics import Sink
from ftdsl.language import lexing, recovery, tree
from ftdsl.language.build_tree import Builder, too_deep
from ftdsl.source import Source, Span


def parse(source: Source, sink: Sink) -> tree.File:
    """The tree of a source, complete even if the text has errors; syntax errors (FT03x) go to the sink."""
    tokens, comments = lexing.tokens(source.text)
    shallow, deep = lexing.shallow(tokens)
    problems = Sink()
    root = recovery.read(source, shallow, problems)
    if deep is not None:
        too_deep(Span(source, deep.start_pos or 0, deep.end_pos or 0), sink)
    for problem in problems:
        if deep is None or (
            problem.span and problem.span.end < (deep.start_pos or 0)
        ):  # later errors may come from the dropped tokens
            sink.add(problem)
    docs, file_doc = _docs(source, tokens, comments)
    items = Builder(source, docs, sink).items(root.children[0]) if root is not None else ()
    notes = tuple(tree.Comment(str(c), Span(source, c.start_pos or 0, c.end_pos or 0)) for c in comments)
    return tree.File(source, items, notes, file_doc)


def _docs(source: Source, tokens: list[Token], comments: list[Token]) -> tuple[dict[int, str], str]:
    """`##` comments by the offset of the item on the next line. A first comment followed by an empty line documents the file."""
    starts: dict[int | None, int] = {}
    for token in tokens:
        if token.type != "_NL":
            starts.setdefault(token.line, token.start_pos or 0)
    groups: list[tuple[int, int, list[str]]] = []
    last = 0
    for comment in comments:
        line = comment.line or 0
        if line in starts and starts[line] < (comment.start_pos or 0):
            continue  # at the end of a line of code
        text = str(comment)
        doc = text[2:].strip() if text.startswith("##") else None
        if line != last + 1 or not groups:
            groups.append((line, line, []))
        first, _, lines = groups[-1]
        groups[-1] = (first, line, [*lines, doc] if doc is not None else lines)
        last = line
    docs = {starts[end + 1]: "\n".join(lines) for _, end, lines in groups if lines and end + 1 in starts}
    head = groups[0] if groups and groups[0][2] and all(groups[0][0] < line for line in starts if line) else None
    file_doc = "\n".join(head[2]) if head and head[1] + 1 not in starts else ""
    return docs, file_doc
