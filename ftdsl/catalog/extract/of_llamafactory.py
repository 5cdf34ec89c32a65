"""LLaMA-Factory: parameters, chat templates, models with their templates, constants, version checks at run time."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from ftdsl.catalog.extract.classes import UNKNOWN, Classes, Fact, Module
from ftdsl.catalog.extract.packages import Package

HPARAMS = ("model_args", "data_args", "finetuning_args", "generating_args", "evaluation_args", "training_args")
CONSTANTS = "llamafactory/extras/constants.py"


def tables(package: Package) -> dict[str, dict[str, Any]]:
    """`parameters`, `templates`, `formats` by name, `models` (id on a hub -> template), `enums`, `constants`, `checks`."""
    constants = Classes(package, [CONSTANTS])
    return {
        "parameters": _parameters(package),
        "templates": dict(_templates(Module("", package.text("llamafactory/data/template.py")))),
        "formats": dict(_formats(Module("", package.text("llamafactory/data/template.py")))),
        "models": _models(constants.modules[0]),
        "enums": {f"{name}.{value}": {} for name in constants.where for value in constants.members(name).values()},
        "constants": dict(_constants(constants)),
        "checks": _checks(package),
    }


def _parameters(package: Package) -> dict[str, Fact]:
    parameters: dict[str, Fact] = {}
    for section in HPARAMS:
        path = f"llamafactory/hparams/{section}.py"
        classes = Classes(package, [path, CONSTANTS], members_are_choices=True)
        for name in [name for name, module in classes.where.items() if module.path == path]:
            for field, fact in classes.fields(name).items():
                parameters.setdefault(field, {**fact, "section": section})
    return parameters


def _calls(module: Module, *functions: str) -> Iterator[dict[str, ast.expr]]:
    """Keywords of the calls of a function, in the order of the text."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions:
            yield {k.arg: k.value for k in node.keywords if k.arg}


def _templates(module: Module) -> Iterator[tuple[str, Fact]]:
    """Flags of a template (reasoning, end of turn, multimodal plugin), not its text."""
    for keywords in _calls(module, "register_template", "_register_template"):
        name = keywords.get("name")
        if not isinstance(name, ast.Constant):
            continue
        fact: Fact = {}
        if "Reasoning" in ast.unparse(keywords.get("template_class", name)):
            fact["reasoning"] = True
        for flag in ("efficient_eos", "replace_eos", "replace_jinja_template"):
            if isinstance(value := keywords.get(flag), ast.Constant) and value.value:
                fact[flag] = True
        plugin = keywords.get("mm_plugin")
        if isinstance(plugin, ast.Call):
            arguments = [k.value for k in plugin.keywords if k.arg == "name"] or plugin.args
            fact["plugin"] = ast.literal_eval(arguments[0])
        yield str(name.value), fact


_PARTS = {"format_prefix": "prefix", "format_system": "system", "format_user": "user", "format_assistant": "assistant",
          "format_observation": "tool"}  # fmt: skip
_WORDS = {"default_system": "default_system", "stop_words": "stop", "thought_words": "thought"}


def _formats(module: Module) -> Iterator[tuple[str, Fact]]:
    """The texts of a template around its turns. A part is a list: texts, `{"special": "eos_token"}`, `{"token": "<|user|>"}`.

    kind: Template, or the class that joins the parts in another way.
    """
    for keywords in _calls(module, "register_template", "_register_template"):
        name = keywords.get("name")
        if not isinstance(name, ast.Constant):
            continue
        fact: Fact = {}
        for parameter, part in _PARTS.items():
            if isinstance(call := keywords.get(parameter), ast.Call):
                slots = next((keyword.value for keyword in call.keywords if keyword.arg == "slots"), None)
                fact[part] = [_slot(slot) for slot in slots.elts] if isinstance(slots, ast.List) else []
        for parameter, part in _WORDS.items():
            if (value := keywords.get(parameter)) is not None:
                fact[part] = ast.literal_eval(value)
        for flag in ("efficient_eos", "replace_eos"):
            if isinstance(value := keywords.get(flag), ast.Constant) and value.value:
                fact[flag] = True
        kind = ast.unparse(keywords["template_class"]) if "template_class" in keywords else "Template"
        yield str(name.value), fact | ({"kind": kind} if kind != "Template" else {})


def _slot(node: ast.expr) -> str | dict[str, str]:
    value = ast.literal_eval(node)
    if isinstance(value, set):
        return {"special": str(*value)}
    return value if isinstance(value, dict) else str(value)


def _models(module: Module) -> dict[str, str]:
    """Model id on a hub -> template ("" without one), from the engine's own groups."""
    templates: dict[str, str] = {}
    for keywords in _calls(module, "register_model_group"):
        template = keywords.get("template")
        name = str(template.value) if isinstance(template, ast.Constant) else ""
        for node in ast.walk(keywords["models"]):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count("/") == 1:
                templates[node.value] = templates.get(node.value) or name
    return templates


def _constants(classes: Classes) -> Iterator[tuple[str, Any]]:
    """Lists, sets and maps of names (stages, methods, supported models), not file names."""
    module = classes.modules[0]
    for name, node in module.constants.items():
        value = classes.value(node, module.constants)
        if value is not UNKNOWN and isinstance(value, list | dict) and value:
            yield name, value


def _checks(package: Package) -> dict[str, Fact]:
    """Requirements checked at run time: package -> requirement, and the file that checks it unless every run does."""
    checks: dict[str, Fact] = {}
    for path in package.below("llamafactory"):
        text = package.text(path)
        if "check_version(" not in text and "require_version(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("check_version", "require_version"):
                continue
            if not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            name, rest = re.match(r"([\w.-]+)\s*(.*)", str(node.args[0].value)).groups()  # type: ignore[union-attr]
            always = path == "llamafactory/extras/misc.py"
            known = checks.get(name)
            if known is None or (always and "file" in known):
                checks[name] = {"requires": rest} | ({} if always else {"file": path})
    return checks
