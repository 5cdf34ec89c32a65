"""Calls of the language's functions, and members with options. Arguments are checked like keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ftdsl import catalog
from ftdsl.catalog.vocabulary import Function, Key, vocabulary
from ftdsl.credentials import is_secret_name, shape_of
from ftdsl.diagnostics import Edit, Fix, Label, Sink, guessed
from ftdsl.diagnostics.suggest import closest
from ftdsl.language import tree
from ftdsl.language.resolve.raw import WRONG, Invoke
from ftdsl.language.types import Type
from ftdsl.language.values import VARIABLE, Secret, StageRef, Term
from ftdsl.record import replace

if TYPE_CHECKING:
    from ftdsl.language.resolve.evaluate import Evaluator


def function(ev: Evaluator, raw: Invoke, use: str, key: Key, sink: Sink) -> Any:
    """A call used as a value of type `use`: a Term with options by name."""
    functions = vocabulary().functions
    fitting = [name for name, uses in functions.items() if use in uses]
    span = raw.call.path[0].span.to(raw.call.path[-1].span)
    if raw.name not in fitting:
        return _unknown_function(raw.name, fitting, key, tree.Ref(raw.call.path, span), sink)
    signature: Function = functions[raw.name][use]
    if raw.name == "best":
        return _best(ev, raw, signature, sink)
    options = arguments(ev, raw, signature.options, signature.positional, sink)
    return WRONG if options is WRONG else _bounded(ev, Term(raw.name, options), raw, sink)


MAX_CALLS = 256
"""Maximum number of nested calls, counting a `let` each time it is used, since names could double a call exponentially."""


def _bounded(ev: Evaluator, term: Term, raw: Invoke, sink: Sink) -> Any:
    size = 1 + sum(ev.sizes[id(option)][1] for option in term.options.values() if id(option) in ev.sizes)
    if size > MAX_CALLS:
        sink.error(
            "FT065", f"`{raw.name}()` has more than {MAX_CALLS} nested calls", raw.span, help="add a `merge` stage"
        )
        return WRONG
    ev.sizes[id(term)] = (term, size)
    return term


def _unknown_function(name: str, candidates: list[str], key: Key, at: tree.Ref, sink: Sink) -> Any:
    guess = closest(name, candidates)
    fix = guessed(at.span, guess)
    label = f"did you mean `{guess}`?" if guess else ""
    exists = name in vocabulary().functions
    text = f"`{key.name}` does not take `{name}()`" if exists else f"unknown function `{name}`"
    help = f"functions for this key: {', '.join(f'{n}()' for n in candidates)}" if candidates else ""
    sink.error("FT015", text, at.span, label=label, help=help, fix=fix)
    return WRONG


def arguments(
    ev: Evaluator, raw: Invoke, options: Mapping[str, Key], positional: tuple[str, ...], sink: Sink
) -> dict[str, Any] | Any:
    """The arguments by name; WRONG and diagnostics if one is unknown, duplicate or of the wrong type."""
    values: dict[str, Any] = {}
    arguments_by_name: dict[str, tree.Argument] = {}
    position = 0
    for argument in raw.call.arguments:
        name = argument.name.text if argument.name else (positional[position] if position < len(positional) else None)
        position += argument.name is None
        if name is None or name not in options:
            _unknown_argument(raw, argument, name, options, sink)
            values = WRONG
            continue
        if name in arguments_by_name:
            first = Label(arguments_by_name[name].span, "first given here")
            sink.error("FT006", f"`{name}` is given twice", argument.span, labels=(first,))
            values = WRONG
            continue
        arguments_by_name[name] = argument
        value = ev.typed(argument.value, options[name], replace(raw.scope, own=None), sink)
        if value is WRONG:
            values = WRONG
        elif values is not WRONG:
            values[name] = value
    for name in positional[:1]:
        if name not in arguments_by_name and options[name].required and values is not WRONG:
            sink.error("FT010", f"`{raw.name}()` needs `{name}`", raw.span)
            return WRONG
    return values


def _unknown_argument(
    raw: Invoke, argument: tree.Argument, name: str | None, options: Mapping[str, Key], sink: Sink
) -> None:
    help = f"it takes: {', '.join(options)}" if options else "it takes none"
    if name is None or argument.name is None:
        sink.error("FT016", f"`{raw.name}()` takes no argument here", argument.span, help=help)
        return
    guess = closest(name, options)
    fix = guessed(argument.name.span, guess)
    label = f"did you mean `{guess}`?" if guess else ""
    text = f"`{raw.name}()` has no argument `{name}`"
    sink.error("FT016", text, argument.name.span, label=label, help=help, fix=fix)


def _best(ev: Evaluator, raw: Invoke, signature: Function, sink: Sink) -> Any:
    """`best(final, lowest(eval_loss))` selects one variant. It refers to all of them, and is not swept itself."""
    positional = raw.call.arguments
    node = positional[0].value if positional else None
    if not isinstance(node, tree.Ref) or node.path[0].text not in ev.names.stages:
        sink.error("FT010", "`best()` needs a stage", raw.span, help="write `best(final, lowest(eval_loss))`")
        return WRONG
    with ev.tracing():
        options = arguments(ev, raw, signature.options, signature.positional, sink)
    if options is WRONG:
        return WRONG
    refs = ev.best_of(node.path[0].text, node.span)
    for ref in refs:
        ev.trace.refs.setdefault(ref, node.span)
    return Term("best", {**options, signature.positional[0]: tuple(refs)})


def environment(ev: Evaluator, raw: Invoke, kind: Type, key: Key, sink: Sink) -> Any:
    """`env("NAME", default = …)` is read now and recorded in the lock; `secret("NAME")` is never read."""
    signature = vocabulary().functions[raw.name]["value"]
    options = arguments(ev, raw, signature.options, signature.positional, sink)
    if options is WRONG:
        return WRONG
    if kind.name not in ("text", "path", "name", "any", "variable"):
        sink.error("FT060", f"`{key.name}` does not take a text, which `{raw.name}()` returns", raw.span)
        return WRONG
    name = str(options[signature.positional[0]])
    if raw.name == "secret":
        return _secret(name, raw, kind, key, sink)
    value = ev.session.env.get(name, options.get("default"))
    if why := "looks like a secret" if is_secret_name(name) else (shape := shape_of(value)) and f"holds {shape}":
        return _refuse_env(name, why, raw, kind, sink)
    if value is None:
        sink.error(
            "FT048", f"environment variable `{name}` is not set", raw.span, help=f'write `env("{name}", default = "…")`'
        )
        return WRONG
    ev.env_used[name] = str(value)
    return str(value)


def _secret(name: str, raw: Invoke, kind: Type, key: Key, sink: Sink) -> Any:
    """A reference to a variable. Only the environment of a stage can use it; other keys are written to files."""
    span = raw.call.arguments[0].value.span
    if not VARIABLE.fullmatch(name):
        text = f"`{name}` is not a valid name of an environment variable"
        sink.error("FT046", text, span, help="use letters, digits and `_`, not starting with a digit")
        return WRONG
    if kind.name != "variable":
        text = f"a secret cannot be used in `{key.name}`, which is written to a file"
        help = f'pass it in the environment: env {{ {name} = secret("{name}") }}'
        sink.error("FT060", text, raw.span, help=help)
        return WRONG
    return Secret(name)


def _refuse_env(name: str, why: str, raw: Invoke, kind: Type, sink: Sink) -> Any:
    text = f"`{name}` {why}, and `env()` would record its value in the lock"
    if kind.name == "variable":
        fix = Fix("use `secret()`", (Edit(raw.call.path[0].span, "secret"),))
        sink.error("FT047", text, raw.span, help=f'write `secret("{name}")`', fix=fix)
    else:
        help = f'pass it in the environment: env {{ {name} = secret("{name}") }}'
        sink.error("FT047", text, raw.span, help=help)
    return WRONG


def catalog_names(ev: Evaluator, key: Key) -> Iterator[str]:
    """The names in the catalogue for a key, with the recipe's own templates; none if the key has no catalogue."""
    if key.catalog:
        yield from catalog.each_name(key.catalog)
    if key.catalog == "templates":
        yield from ("auto", *ev.names.declared)


__all__ = ["StageRef", "arguments", "catalog_names", "environment", "function"]
