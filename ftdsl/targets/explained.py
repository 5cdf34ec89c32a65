"""A job's files line by line, each line with what decides it: a key of the recipe with its location, or a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from ftdsl.catalog.vocabulary import BlockWords, Key
from ftdsl.engines.jobs import Command, Document, Job, Raw, Reasons
from ftdsl.language.resolve import keys
from ftdsl.plan.plan import Plan
from ftdsl.recipe.recipe import Stage
from ftdsl.recipe.settings import shown
from ftdsl.record import frozen
from ftdsl.targets.render import shell_word, yaml_text


@frozen
class Because:
    """What decides a line.

    key: the recipe's key, or ""; value: as written, else as resolved; layer: who set it (stage, profile, set, auto, default, …);
    where: "file:line"; why: a sentence, for choices their reason.
    """

    key: str = ""
    value: str = ""
    layer: str = ""
    where: str = ""
    why: str = ""

    def parts(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("key", "value", "layer", "where", "why")}


@frozen
class Line:
    """A line of a file; a heading has no `because`. path: a dotted path, a flag, or a variable."""

    text: str
    path: str = ""
    because: Because | None = None


@frozen
class File:
    path: str
    about: str
    lines: tuple[Line, ...] = field(default=())


def files(plan: Plan, job: Job, reasons: Reasons) -> Iterator[File]:
    """Documents first, the script that starts them last."""
    stage = next((planned.stage for planned in plan.stages if planned.key == job.key), None)
    for document in job.documents:
        why = {path: _because(plan, stage, text) for path, text in reasons.lines[document.path].items()}
        lines = tuple(_document(document, why)) if why else ()
        yield File(document.path, reasons.about[document.path], lines)
    script = f"{job.folder}/launch.sh"
    yield File(script, reasons.about[script], tuple(_script(plan, stage, job, reasons)))


def _because(plan: Plan, stage: Stage | None, why: str) -> Because:
    """A reason as the engine gives it: a key of the stage, or a sentence."""
    entry = keys.find(stage.kind, tuple(why.split("."))) if stage and " " not in why else None
    if stage is None or (entry is None and why not in stage.origins):
        return Because(why=why)
    recipe = plan.recipe
    origin = stage.origins.get(why)
    if isinstance(entry, BlockWords):
        span = stage.spans.get(why)
        location = recipe.location(span) if span else ""
        inside = "{ … }" if stage.settings.inside(why) else "{ }"
        return Because(why, inside, "stage" if span else "auto", location, _chosen(plan, stage, why))
    layers = [text for key, text, _ in stage.layers if key == why]
    value = shown(stage.settings.get(why))
    if origin is None or origin.kind == "default":
        return _default(why, value, entry)
    if origin.kind == "auto":
        return Because(why, value, "auto", "", origin.reason)
    text = layers[-1] if layers and origin.kind != "from" else value
    return Because(why, text, origin.kind, recipe.location(str(origin)))


def _default(key: str, value: str, entry: Key | BlockWords | None) -> Because:
    """The default value, and the key's description."""
    if not isinstance(entry, Key):
        return Because(key, value, "default")
    about = entry.doc.lstrip("* ")
    if value != "null":
        return Because(key, entry.default or value, "default", "", about)
    return Because(key, "", "default", "", entry.auto if entry.auto not in ("", "auto") else about)


def _chosen(plan: Plan, stage: Stage, key: str) -> str:
    choices = plan.stage(stage.key).choices
    return next((choice.reason for choice in choices if choice.key == key), "")


def _document(document: Document, why: Mapping[str, Because]) -> Iterator[Line]:
    if document.kind == "text":
        yield from (Line(text) for text in document.data)
        return
    yield from _tree(document, document.data, why, (), 0)


def _tree(
    document: Document, tree: Mapping[str, Any], why: Mapping[str, Because], above: tuple[str, ...], depth: int
) -> Iterator[Line]:
    indent = "  " * depth
    for key, value in tree.items():
        if not depth and key in document.titles:
            yield Line(f"### {document.titles[key]}")
        path = ".".join((*above, key))
        if isinstance(value, dict) and value and path not in why:
            yield Line(f'{indent}"{key}"' if document.kind == "json" else f"{indent}{key}:")
            yield from _tree(document, value, why, (*above, key), depth + 1)
        else:
            yield Line(indent + _leaf(document.kind, key, value), path, why.get(path))


def _leaf(kind: str, key: str, value: Any) -> str:
    if kind == "json":
        return f'"{key}": {json.dumps(value, ensure_ascii=False)}'
    if isinstance(value, dict | list):
        return f"{key}: {json.dumps(value, ensure_ascii=False)}"
    return yaml_text({key: value})


def _script(plan: Plan, stage: Stage | None, job: Job, reasons: Reasons) -> Iterator[Line]:
    for name, value in job.env.items():
        because = _because(plan, stage, reasons.variables.get(name, ""))
        yield Line(f"export {name}={shell_word(value)}", name, because)
    for command in job.commands:
        if command.comment:
            yield Line(f"# {command.comment}")
        yield from (
            Line(line.text, line.path, _because(plan, stage, reasons.arguments.get(line.path, "")))
            for line in _arguments(command, reasons)
        )


PYTHON = '"$FT_PYTHON"'


def _arguments(command: Command, reasons: Reasons) -> Iterator[Line]:
    """A command's arguments in groups: a program and its verb, a flag and its value."""
    if not command.argv:
        yield Line("the recipe's own script")
        return
    groups: list[list[str]] = []
    for argument in map(_text, command.argv):
        begins = (argument.startswith(("-", "runtime/")) and argument != "--") or argument == PYTHON
        if groups and (not begins or groups[-1][-1] == PYTHON):
            groups[-1].append(argument)
        else:
            groups.append([argument])
    for at, group in enumerate(groups):
        names = [" ".join(group[:2]), *group] if not group[0].startswith("-") else group[:1]
        names += [" ".join(group[1:3])]
        path = next((name for name in names if name in reasons.arguments), group[0])
        yield Line(f"{'  ' if at else ''}{' '.join(group)}", path)


def _text(word: str | Raw) -> str:
    return shell_word(word)
