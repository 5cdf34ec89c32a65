"""What a cursor is in: found from the tokens before it, so that a line somebody is typing needs no tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from lark import Token

from ftdsl.catalog.vocabulary import ANY_NAME, BlockWords, Key, vocabulary
from ftdsl.language.resolve import keys as key_paths
from ftdsl.lsp.parts import Part
from ftdsl.record import frozen, replace

Mode: TypeAlias = Literal["item", "value", "from", "type", "include", "none"]

_WORDS = ("NAME", "FROM", "IN", "AS", "INCLUDE", "LET", "PARAM", "TRUE", "FALSE", "NULL")
_BINDERS = ("EQUAL", "IN", "TILDE")
_OPEN = {"LPAR": "(", "LSQB": "["}
_QUOTES = ('"""', "'''", '"', "'")


@frozen
class Context:
    """mode: what may stand here; blocks: words of the blocks around, outermost first; kind: the stage kind by which keys are
    looked up ("file" outside of stages); path: blocks inside the stage; key: the dotted key whose value this is; word: what
    is typed of a name, from `start`; before: the names before a dot; call: the innermost function; argument: the name of its
    argument or ""; text: what is typed of a string, else None; number: the number just before, whose unit this is; binder: the
    type of the token between key and value; stage: the name of the stage around.
    """

    mode: Mode
    blocks: tuple[str, ...] = ()
    kind: str = "file"
    path: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    word: str = ""
    start: int = 0
    before: tuple[str, ...] = ()
    call: str = ""
    argument: str = ""
    text: str | None = None
    number: str = ""
    binder: str = ""
    stage: str = ""

    @property
    def definition(self) -> Key | None:
        """The key whose value this is; of an argument its own."""
        key = key_paths.find(self.kind, (*self.path, *self.key)) if self.key else None
        if not isinstance(key, Key):
            return None
        return argument_of(key, self.call, self.argument) if self.call else key


def argument_of(key: Key, call: str, argument: str) -> Key | None:
    """The argument of a call in a key's value; without a name its first positional one."""
    option = (key.members or {}).get(call) or (key.members or {}).get(ANY_NAME)
    uses = [] if option else list(vocabulary().functions.get(call, {}).values())
    fitting = [use for use in uses if use.use in key.type] or uses
    options, positional = (option.options, option.positional) if option else ({}, ())
    if fitting:
        options, positional = fitting[0].options, fitting[0].positional
    return options.get(argument or (positional[0] if positional else ""))


def context(part: Part, offset: int, stages: Mapping[str, str]) -> Context:
    """Where an offset of a part is. stages: the kinds of the recipe's stages by name, which profiles edit."""
    before = [token for token in part.tokens if (token.start_pos or 0) < offset]
    last = before[-1] if before else None
    if last is not None and last.type == "COMMENT" and offset <= (last.end_pos or 0):
        return Context("none")
    text = None
    if last is not None and last.type in ("STRING", "UNCLOSED") and _inside(last, offset):
        text = str(last)[len(_quote(last)) : offset - (last.start_pos or 0)]
        before = before[:-1]
    word, start = "", offset
    if text is None and last is not None and last.type in _WORDS and (last.end_pos or 0) >= offset:
        start = last.start_pos or 0
        word = part.text[start:offset]
        before = before[:-1]
    blocks, item, separated = _walk(before)
    number = ""
    if item and item[-1].type == "NUMBER" and not separated:
        number = str(item[-1])
        digits = number.rstrip("%abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
        if not word and (item[-1].end_pos or 0) >= offset:
            word, number, start = number[len(digits) :], digits, (item[-1].start_pos or 0) + len(digits)
    dotted: list[str] = []
    rest = list(item)
    while len(rest) >= 2 and rest[-1].type == "DOT" and rest[-2].type in _WORDS:
        dotted.insert(0, str(rest[-2]))
        rest = rest[:-2]
    return _placed(blocks, rest, stages, word, start, tuple(dotted), text, number)


def _inside(token: Token, offset: int) -> bool:
    end = token.end_pos or 0
    return offset < end or token.type == "UNCLOSED"


def _quote(token: Token) -> str:
    return next(quote for quote in _QUOTES if token.startswith(quote))


def _walk(tokens: Sequence[Token]) -> tuple[list[str], list[Token], bool]:
    """Words of the blocks that are open, the tokens of the item that is being written, whether a line ended after them."""
    stack: list[str] = []
    item: list[Token] = []
    depth = 0
    for token in tokens:
        match token.type:
            case "COMMENT":
                continue
            case "LBRACE":
                stack.append(_header(item))
                item, depth = [], 0
            case "RBRACE":
                stack = stack[:-1]
                item, depth = [], 0
            case "_NL" if depth == 0:
                item = []
            case "COMMA" if depth == 0 and not any(other.type == "FROM" for other in item):
                item = []
            case kind:
                depth += {"LPAR": 1, "LSQB": 1, "RPAR": -1, "RSQB": -1}.get(kind, 0)
                depth = max(0, depth)
                item.append(token)
    return stack, item, False


def _header(item: Sequence[Token]) -> str:
    """The first word of a block; of `profile laptop` or `data rows` with its name after a blank."""
    names = [
        str(token) for token in item[:2] if (token.type in _WORDS and token.type != "FROM") or token.type == "STRING"
    ]
    return " ".join(names)


def _placed(
    blocks: list[str], item: list[Token], stages: Mapping[str, str], word: str, start: int, dotted: tuple[str, ...],
    text: str | None, number: str,
) -> Context:  # fmt: skip
    kind, path = scope(blocks, stages)
    around = tuple(block.split(" ")[0] for block in blocks)
    base = Context("none", around, kind, path, word=word, start=start, before=dotted, text=text, stage=_stage(blocks))
    if not item:
        return replace(base, mode="item")
    first = item[0].type
    if first == "INCLUDE":
        return replace(base, mode="include") if len(item) == 1 else base
    binder = _binder(item)
    if binder is None:
        if first == "PARAM" and any(token.type == "COLON" for token in item):
            return replace(base, mode="type")
        if any(token.type == "FROM" for token in item) and item[-1].type in ("FROM", "COMMA"):
            return replace(base, mode="from")
        return base
    names = tuple(str(token) for token in item[:binder] if token.type in _WORDS)
    if first in ("LET", "PARAM") and len(names) > 1:
        names = ()
    if not path and kind == "file" and len(names) > 1 and names[0] in stages:  # sft.optim.lr = … in a profile
        base, names = replace(base, kind=stages[names[0]]), names[1:]
    call, argument = _call(item[binder + 1 :])
    value_start = item[-1].type in (
        *_BINDERS,
        "LPAR",
        "LSQB",
        "COMMA",
        "PLUS",
        "MINUS",
        "STAR",
        "SLASH",
        "DOTDOT",
        "COLON",
    )
    free = (
        value_start
        or bool(number)
        or bool(dotted)
        or item[-1].type not in (*_WORDS, "STRING", "RPAR", "RSQB", "NUMBER")
    )
    mode: Mode = "value" if free else "none"
    return replace(base, mode=mode, key=names, call=call, argument=argument, number=number, binder=item[binder].type)


def _stage(blocks: Sequence[str]) -> str:
    """`sft base` and `base` of a profile are the stage `base`; a stage without a name is called as its kind."""
    own = blocks[1:] if blocks and blocks[0].startswith("profile") else blocks
    return own[0].split(" ")[-1] if own else ""


def _binder(item: Sequence[Token]) -> int | None:
    return next((at for at, token in enumerate(item) if token.type in _BINDERS and at > 0), None)


def _call(value: Sequence[Token]) -> tuple[str, str]:
    """The function whose parentheses are open, and the argument that is being written."""
    stack: list[tuple[str, int]] = []
    for at, token in enumerate(value):
        if token.type in _OPEN:
            named = at > 0 and value[at - 1].type in _WORDS and token.type == "LPAR"
            stack.append((str(value[at - 1]) if named else "", at))
        elif token.type in ("RPAR", "RSQB") and stack:
            stack.pop()
    call = next((frame for frame in reversed(stack) if frame[0]), None)
    if call is None:
        return "", ""
    since = value[call[1] + 1 :]
    last = max((at for at, token in enumerate(since) if token.type == "COMMA"), default=-1)
    own = since[last + 1 :]
    named = len(own) > 1 and own[0].type in _WORDS and own[1].type == "EQUAL"
    return call[0], str(own[0]) if named else ""


def scope(blocks: Sequence[str], stages: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """The stage kind of nested blocks, and the path inside it; a profile's blocks are those of the file or of a stage."""
    names = [block.split(" ")[0] for block in blocks]
    if names and names[0] == "profile":
        names = names[1:]
        if names and names[0] in stages:
            return stages[names[0]], tuple(names[1:])
    if names and (key_paths.is_stage_kind(names[0]) or names[0] in key_paths.DECLARATIONS):
        return names[0], tuple(names[1:])
    return "file", tuple(names)


def within(kind: str, path: tuple[str, ...]) -> BlockWords | None:
    """The block at a path, None for the stage or file itself."""
    block = key_paths.find(kind, path) if path else None
    return block if isinstance(block, BlockWords) else None
