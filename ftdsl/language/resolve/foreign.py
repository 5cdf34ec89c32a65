"""Keys of other tools in a recipe: `num_train_epochs = 3` is `duration = 3 epochs` in the language."""

from __future__ import annotations

from pathlib import Path

from ftdsl.catalog import foreign
from ftdsl.catalog.vocabulary import Key
from ftdsl.diagnostics import Edit, Fix
from ftdsl.language import tree, unquoted
from ftdsl.language.resolve import keys
from ftdsl.language.resolve.keys import Path as KeyPath
from ftdsl.record import frozen
from ftdsl.source import Source, Span


@frozen
class Equivalent:
    """The equivalent of a foreign key: its path (() if there is none), and the line to write ("" if the value is unknown)."""

    path: KeyPath
    line: str
    why: str


def equivalent_of(kind: str, word: str, value: tree.Expression | None) -> Equivalent | None:
    """The equivalent of a foreign key in a stage of a kind; None if no tool has the key."""
    meaning = foreign.meant(word)
    if meaning is None:
        return None
    text = (
        value.span.text if isinstance(value, tree.Quantity | tree.Text | tree.Constant | tree.Ref | tree.ListOf) else ""
    )
    if meaning.parameter == "finetuning_type" and text.strip("\"'") in keys.methods():
        return Equivalent((), f"{text.strip(chr(34) + chr(39))} {{ }}", meaning.why)
    line = _line(meaning, text) if value is not None else ""
    if line and not _is_valid(kind, line):
        line = ""
    if (status := foreign.parameter_status(meaning.parameter)) is not None and status.kind != "word" and not line:
        return _without_key(meaning.parameter, status.kind, text)
    key = line.partition(" = ")[0] if line else meaning.word or foreign.word_of(meaning.parameter)
    path = tuple(key.split(".")) if key else ()
    if path and keys.find(kind, path) is None:
        return None
    return Equivalent(path, line, meaning.why)


def _without_key(parameter: str, kind: str, text: str) -> Equivalent:
    """A parameter without a key of the language."""
    if kind == "passthrough":
        return Equivalent(
            (foreign.ENGINE,), f"{foreign.ENGINE}.{parameter} = {text}" if text else "", "LLaMA-Factory's name"
        )
    why = "it is derived from the recipe: remove it" if kind == "derived" else "it has no effect: remove it"
    return Equivalent((), "", why)


def _is_valid(kind: str, line: str) -> bool:
    """Whether a line built from the tables is valid, checked against the type of its key."""
    from ftdsl.language.parser import parse
    from ftdsl.language.resolve.evaluate import Evaluator
    from ftdsl.language.resolve.layers import Effective
    from ftdsl.language.resolve.load import Module
    from ftdsl.language.resolve.names import Names, Scope, View
    from ftdsl.language.resolve.raw import WRONG
    from ftdsl.session import Session

    session = Session(env={})
    file = parse(Source("", line), session.sink)
    item = file.items[0] if file.items else None
    if isinstance(item, tree.Block):
        return not session.sink.failed
    key = keys.find(kind, tuple(word.text for word in item.key)) if isinstance(item, tree.Bind) else None
    if session.sink.failed or not isinstance(item, tree.Bind) or not isinstance(key, Key):
        return False
    evaluator = Evaluator(session, Names({}, View("", Effective("file"))), {})
    return evaluator.typed(item.value, key, Scope(Module(Path(), file)), session.sink) is not WRONG


def _line(meaning: foreign.Meant, text: str) -> str:
    """`duration = 3 epochs`; "" if the value cannot be converted."""
    plain = text.strip("\"'")
    parameter = meaning.parameter
    if meaning.change is not None:
        parameters = meaning.change.becomes(_value(plain))
        if not parameters or len(parameters) != 1:
            return ""
        parameter, value = next(iter(parameters.items()))
        plain = str(value).lower() if isinstance(value, bool) else str(value)
    if meaning.value is not None:
        if plain.lower() in ("false", "no", "0", ""):
            return ""
        plain = str(meaning.value)
    if meaning.word:
        return f"{meaning.word} = {str(meaning.value).replace('{value}', text.strip())}" if text else ""
    if not plain:
        return ""
    if parameter == "finetuning_type":
        return f"{plain} {{ }}" if plain in keys.methods() else ""
    return _written(parameter, plain)


def _written(parameter: str, plain: str) -> str:
    switch = plain.lower() in ("true", "yes", "1")
    if line := foreign.chosen(parameter, "true" if switch else plain):
        return line
    template = foreign.template_of(parameter)
    if template and "{" not in template:
        return template if switch else ""
    if template:
        return _filled(template, plain)
    word = "" if foreign.by_rule(parameter) else foreign.word_of(parameter)
    how, value = foreign.converted(parameter, plain)
    if not word:
        return ""
    if how == "csv":
        return f"{word} = [{', '.join(part.strip() for part in value.strip('[]').split(','))}]"
    if how == "not":
        return f"{word} = {'false' if switch else 'true'}"
    if how == "seconds":
        return f"{word} = {value}s"
    return f"{word} = {_quoted_if_text(word, value)}"


def _filled(template: str, plain: str) -> str:
    if "{percent}" in template:
        try:
            share = float(plain.rstrip("%")) / (100 if plain.endswith("%") else 1)
        except ValueError:
            return ""
        if not 0 <= share <= 1:
            return ""
        return template.replace("{percent}", f"{share * 100:g}%")
    if "{value} " in template or "{value}s" in template:  # a unit follows
        try:
            number = float(plain)
        except ValueError:
            return ""
        if number <= 0:  # max_steps: -1
            return ""
        return template.replace("{value}", f"{number:g}" if number < 1e6 else str(int(number)))
    filled = template.replace("{value}", plain).replace("{text}", f'"{plain}"').replace("{folder}", f'file("{plain}")')
    return filled.replace("{model}", unquoted.quoted(plain, "model")).replace("{data}", unquoted.quoted(plain, "data"))


def _quoted_if_text(word: str, value: str) -> str:
    """A text or path in quotes, anything else without."""
    key = next((definition for kind in ("sft", "dpo", "kto", "ppo", "merge", "file")
                if (definition := keys.find(kind, tuple(word.split("."))))), None)  # fmt: skip
    return f'"{value}"' if getattr(key, "type", "") in ("text", "path") else value


def _value(plain: str) -> object:
    """A scalar as YAML would read it: boolean, number or text."""
    if plain.lower() in ("true", "false"):
        return plain.lower() == "true"
    try:
        return int(plain)
    except ValueError:
        try:
            return float(plain)
        except ValueError:
            return plain


def fix_of(equivalent: Equivalent, outer: KeyPath, item: Span) -> Fix | None:
    """A fix that replaces `key = value` by the equivalent; None if that belongs in another block."""
    if not equivalent.line:
        return None
    line = equivalent.line
    if outer:
        block = ".".join(outer) + "."
        if not line.startswith(block):
            return None
        line = line.removeprefix(block)
    return Fix(f"write `{line}`", (Edit(item, line),))
