"""Fields of data classes, pydantic models and enums, read with `ast`: type, default, choices, help.

Types are written one way whatever a version's style (`Optional[List[str]]` is `list[str] | None`), so that what
changed between versions is a change of meaning. A default that is not a literal, a constant of its module, or a
member of an enum is kept as code (`default_code`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from operator import add, mul, sub
from typing import Any

from ftdsl.catalog.extract.packages import Package

Fact = dict[str, Any]

UNKNOWN = object()
_WRAPPERS = {"int": int, "float": float, "pp_int": int, "str": str, "bool": bool}
_SUMS: dict[type, Callable[[Any, Any], Any]] = {ast.Add: add, ast.Sub: sub, ast.Mult: mul}
_GENERIC = {"List": "list", "Dict": "dict", "Tuple": "tuple", "Set": "set", "Type": "type", "Sequence": "list"}


class Module:
    """One source file: its classes and constants."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.tree = ast.parse(text)

    @cached_property
    def classes(self) -> Mapping[str, ast.ClassDef]:
        return {node.name: node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)}

    @cached_property
    def constants(self) -> Mapping[str, ast.expr]:
        return dict(_assigned(self.tree.body))

    @cached_property
    def imports(self) -> Mapping[str, str]:
        """Alias -> original name, of `from … import A as B`."""
        originals: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                originals |= {alias.asname: alias.name for alias in node.names if alias.asname}
        return originals


class Classes:
    """All classes of some files of a package, by name; of two with the same name the first is used."""

    def __init__(self, package: Package, paths: list[str], *, members_are_choices: bool = False) -> None:
        self.members_are_choices = members_are_choices
        self.modules = [Module(path, package.text(path)) for path in paths if package.has(path)]
        self.where: dict[str, Module] = {}
        for module in self.modules:
            for name in module.classes:
                self.where.setdefault(name, module)

    def fields(self, name: str, module: Module | None = None) -> dict[str, Fact]:
        """The fields that a class accepts, those of its known bases first."""
        module = module or self.where.get(name)
        if module is None or name not in module.classes:
            return {}
        node = module.classes[name]
        fields: dict[str, Fact] = {}
        for base in reversed(node.bases):
            word = ast.unparse(base).rpartition(".")[2]
            word = module.imports.get(word, word)
            if word != name or self.where.get(word) is not module:
                fields |= self.fields(word, module if word in module.classes and word != name else None)
        return fields | dict(self._own(node, module))

    def _own(self, node: ast.ClassDef, module: Module) -> Iterator[tuple[str, Fact]]:
        local = {**module.constants, **dict(_assigned(node.body))}
        for item in node.body:
            if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
                continue
            name, kind = item.target.id, ast.unparse(item.annotation)
            if name.startswith("_") or kind.startswith(("ClassVar", "InitVar")) or name == "model_config":
                continue
            keywords = _keywords(item.value)
            if "init" in keywords and self.value(keywords["init"], local) is False:
                continue  # computed by the class
            yield name, self._field(item, keywords, local)

    def _field(self, item: ast.AnnAssign, keywords: Mapping[str, ast.expr], local: Mapping[str, ast.expr]) -> Fact:
        fact: Fact = {"type": type_of(item.annotation)}
        fact |= self._default(item.value, keywords, local)
        metadata = dict_of(keywords.get("metadata"))
        choices = self.value(metadata.get("choices"), local)
        literal = [value for node in ast.walk(item.annotation) for value in _literals(node)]
        if choices is not UNKNOWN and choices is not None:
            fact["choices"] = list(choices)
        elif literal:
            fact["choices"] = literal
        elif self.members_are_choices and (members := self._enum(fact["type"])):
            fact["choices"] = members
        text = self.value(metadata.get("help", keywords.get("description")), local)
        if isinstance(text, str) and text:
            fact["help"] = first_sentence(text)
        fact |= self._of_model(keywords, local)
        return fact

    def _enum(self, kind: str) -> list[Any]:
        values = [value for part in kind.split(" | ") for value in self.members(part).values()]
        return list(dict.fromkeys(values))

    def _default(
        self, value: ast.expr | None, keywords: Mapping[str, ast.expr], local: Mapping[str, ast.expr]
    ) -> dict[str, Any]:
        given = keywords.get("default", value)
        if isinstance(value, ast.Call) and _called(value) in ("field", "Field"):
            given = keywords.get("default") or (value.args[0] if value.args else None)
            factory = keywords.get("default_factory")
            if factory is not None:
                given = factory.body if isinstance(factory, ast.Lambda) else ast.Call(factory, [], [])
        if given is None or (isinstance(given, ast.Constant) and given.value is ...):
            return {}
        default = self.value(given, local)
        return {"default_code": ast.unparse(given)[:80]} if default is UNKNOWN else {"default": default}

    def _of_model(self, keywords: Mapping[str, ast.expr], local: Mapping[str, ast.expr]) -> Fact:
        """Further facts of pydantic and DeepSpeed: alias, bounds, deprecation (deepspeed/runtime/config_utils.py)."""
        extra = {**keywords, **dict_of(keywords.get("json_schema_extra"))}
        names = ("alias", "ge", "gt", "le", "lt", "deprecated", "new_param", "deprecated_msg")
        facts = {name: self.value(extra[name], local) for name in names if name in extra}
        return {name: value for name, value in facts.items() if value not in (UNKNOWN, "", None)}

    def value(self, node: ast.expr | None, local: Mapping[str, ast.expr], deep: int = 0) -> Any:
        """The value of an expression; UNKNOWN if it cannot be evaluated statically."""
        if node is None or deep > 8:
            return UNKNOWN
        try:
            return _plain(ast.literal_eval(node))
        except (ValueError, TypeError):
            pass
        if isinstance(node, ast.Name) and node.id in local:
            return self.value(local[node.id], local, deep + 1)
        if isinstance(node, ast.Attribute):
            return self._member(node)
        if isinstance(node, ast.Call):
            return self._call(node, local, deep)
        if isinstance(node, ast.BinOp) and type(node.op) in _SUMS:
            left, right = self.value(node.left, local, deep + 1), self.value(node.right, local, deep + 1)
            return UNKNOWN if UNKNOWN in (left, right) else _SUMS[type(node.op)](left, right)
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            items = [self.value(item, local, deep + 1) for item in node.elts]
            return UNKNOWN if UNKNOWN in items else items
        return UNKNOWN

    def _call(self, node: ast.Call, local: Mapping[str, ast.expr], deep: int) -> Any:
        name = _called(node)
        if not node.args and not node.keywords and name in ("list", "dict", "set", "tuple"):
            return {} if name == "dict" else []
        if name in _WRAPPERS and len(node.args) == 1:
            inner = self.value(node.args[0], local, deep + 1)
            return UNKNOWN if inner is UNKNOWN else _WRAPPERS[name](inner)
        return UNKNOWN

    def _member(self, node: ast.Attribute) -> Any:
        """`Enum.member` and `Enum.member.value`."""
        if node.attr == "value" and isinstance(node.value, ast.Attribute):
            return self._member(node.value)
        owner = ast.unparse(node.value)
        return self.members(owner).get(node.attr, UNKNOWN) if owner in self.where else UNKNOWN

    def members(self, name: str) -> dict[str, Any]:
        """The members of an enum with their values."""
        module = self.where.get(name)
        if module is None:
            return {}
        members: dict[str, Any] = {}
        for member, node in _assigned(module.classes[name].body):
            value = self.value(node, {})
            members[member] = member.lower() if _called(node) == "auto" else value
        return {member: value for member, value in members.items() if value is not UNKNOWN}


def first_sentence(text: str) -> str:
    """The first sentence of a help text, at most 160 characters."""
    return re.split(r"(?<=[a-z`)])\.(?=\s|$)", " ".join(text.split()))[0][:160]


def dict_of(node: ast.expr | None) -> dict[str, ast.expr]:
    """The entries of a dict display with text as keys."""
    if not isinstance(node, ast.Dict):
        return {}
    pairs = zip(node.keys, node.values, strict=True)
    return {str(key.value): value for key, value in pairs if isinstance(key, ast.Constant)}


def type_of(node: ast.expr) -> str:
    """A type in canonical form: members of a union sorted, `None` last."""
    if isinstance(node, ast.Constant):
        return "None" if node.value is None else type_of(ast.parse(str(node.value), mode="eval").body)
    parts = list(dict.fromkeys(_union(node)))
    if len(parts) > 1:
        return " | ".join(sorted(parts, key=lambda part: (part == "None", part)))
    return parts[0]


def _union(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _union(node.left)
        yield from _union(node.right)
    elif isinstance(node, ast.Subscript):
        owner = ast.unparse(node.value).rpartition(".")[2]
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if owner in ("Optional", "Union"):
            for part in inner:
                yield from _union(part)
            if owner == "Optional":
                yield "None"
        elif owner == "Annotated":
            yield from _union(inner[0])
        elif owner == "Literal":
            yield f"Literal[{', '.join(ast.unparse(part) for part in inner)}]"
        else:
            yield f"{_GENERIC.get(owner, owner)}[{', '.join(type_of(part) for part in inner)}]"
    elif isinstance(node, ast.Constant):
        yield type_of(node)
    else:
        word = ast.unparse(node).removeprefix("typing.")
        yield _GENERIC.get(word, word)


def _literals(node: ast.AST) -> list[Any]:
    """The values of a `Literal[…]`."""
    if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Literal"):
        return [
            ast.literal_eval(part) for part in (node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice])
        ]
    return []


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for item in body:
        if isinstance(item, ast.Assign) and len(item.targets) == 1 and isinstance(item.targets[0], ast.Name):
            yield item.targets[0].id, item.value


def _keywords(node: ast.expr | None) -> dict[str, ast.expr]:
    return {k.arg: k.value for k in node.keywords if k.arg} if isinstance(node, ast.Call) else {}


def _called(node: ast.expr) -> str:
    return ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def _plain(value: Any) -> Any:
    """Convert to JSON types."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    return list(value) if isinstance(value, tuple) else value
