"""Names of the linear modules of each architecture, from transformers' modeling sources: the targets of LoRA.

From the trained class (`Qwen3ForCausalLM`) down through the classes it uses. Includes modules that depend on the configuration
(dense or sparse layers, kinds of attention): a listed name may be missing in a given model.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cached_property

from ftdsl.catalog.extract.classes import Fact, Module
from ftdsl.catalog.extract.packages import Package

AUTO = "transformers/models/auto/modeling_auto.py"
MAPPINGS = ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
            "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MODEL_FOR_VISION_2_SEQ_MAPPING_NAMES")  # fmt: skip
LINEAR = ("Linear", "Conv1D")
VISION = re.compile(
    r"vision|visual|image|audio|speech|patch|merger|projector|perceiver|qformer|video|siglip|clip", re.I
)
"""Vision and audio parts of a model, and their projectors, by the name of class or attribute."""


def architectures(package: Package) -> dict[str, Fact]:
    """Model type -> `linear` (of the language model), `experts` (fused: parameters of three dimensions), `vision`,
    `head`; and `text`, when the language model is one of another type."""
    sources = _Sources(package)
    facts = {}
    for model_type, name in _types(package):
        module = sources.of(name)
        if module is not None and model_type not in facts:
            facts[model_type] = _Walk(sources).fact(module, name)
    return facts


def _types(package: Package) -> Iterator[tuple[str, str]]:
    """(model type, class that trains it) of the mappings of transformers' auto classes."""
    module = Module(AUTO, package.text(AUTO))
    for mapping in MAPPINGS:
        node = module.constants.get(mapping)
        for pair in ast.walk(node) if node is not None else ():
            if isinstance(pair, ast.Tuple) and len(pair.elts) == 2:
                key, value = pair.elts
                value = value.elts[0] if isinstance(value, ast.Tuple) else value
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant):
                    yield str(key.value), str(value.value)


class _Sources:
    """Modeling files, parsed on demand."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.modules: dict[str, Module] = {}

    @cached_property
    def paths(self) -> dict[str, str]:
        """Class -> file."""
        paths: dict[str, str] = {}
        for path in self.package.below("transformers/models"):
            if "/modeling_" in path and not path.endswith(("_tf.py", "_flax.py")) and "modeling_tf_" not in path:
                for name in re.findall(r"^class (\w+)", self.package.text(path), re.MULTILINE):
                    paths.setdefault(name, path)
        return paths

    def of(self, name: str) -> Module | None:
        path = self.paths.get(name)
        if path is None:
            return None
        if path not in self.modules:
            self.modules[path] = Module(path, self.package.text(path))
        return self.modules[path]


class _Walk:
    """Collects the modules of one model through its classes."""

    def __init__(self, sources: _Sources) -> None:
        self.sources = sources
        self.names: dict[str, set[str]] = {"linear": set(), "experts": set(), "vision": set(), "head": set()}
        self.seen: set[tuple[str, bool]] = set()
        self.text = False

    def fact(self, module: Module, name: str) -> Fact:
        self._class(module, name, vision=False, top=True)
        fact: Fact = {kind: sorted(names) for kind, names in self.names.items() if names}
        return fact | ({"text": "auto"} if self.text else {})

    def _class(self, module: Module, name: str, *, vision: bool, top: bool = False) -> None:
        if (name, vision) in self.seen or name not in module.classes:
            return
        self.seen.add((name, vision))
        node = module.classes[name]
        for base in node.bases:
            word = ast.unparse(base)
            if word in module.classes:
                self._class(module, word, vision=vision, top=top)
        for attribute, value in _attributes(node):
            self._value(module, attribute, value, vision=vision, top=top)
        for other in _named(node, module):
            self._made(module, other, vision=vision)

    def _value(self, module: Module, attribute: str, value: ast.expr, *, vision: bool, top: bool) -> None:
        vision = vision or bool(VISION.search(attribute))
        for name in _made(value, module):
            if name in LINEAR or _is_linear(module, name):
                if _is_direct(value, name):
                    kind = "vision" if vision else "head" if top else "linear"
                    self.names[kind].add(attribute)
            else:
                self._made(module, name, vision=vision)
        if _dimensions(value) == 3 and not vision:
            self.names["experts"].add(attribute)

    def _made(self, module: Module, name: str, *, vision: bool) -> None:
        if name.startswith("AutoModel"):
            self.text = self.text or not vision
            return
        home = module if name in module.classes else self.sources.of(name)
        if home is not None and not _is_linear(home, name):
            self._class(home, name, vision=vision or bool(VISION.search(name)))


def _named(node: ast.ClassDef, module: Module) -> Iterator[str]:
    """Classes of the module, and those in its tables of classes, that a class names where it is made: it may put them
    into a variable or a list first."""
    for method in node.body:
        if not isinstance(method, ast.FunctionDef) or method.name in ("forward", "_init_weights"):
            continue
        for inner in ast.walk(method):
            if isinstance(inner, ast.Name) and inner.id in module.classes:
                yield inner.id
            elif isinstance(inner, ast.Name) and isinstance(table := module.constants.get(inner.id), ast.Dict):
                yield from (ast.unparse(value) for value in table.values)
            elif isinstance(inner, ast.Call) and ast.unparse(inner.func).endswith(".from_config"):
                owner = ast.unparse(inner.func).partition(".")[0]
                if "text" in ast.unparse(inner) or "language" in ast.unparse(inner):
                    yield owner


def _attributes(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    """`self.x = …` of every method, and of annotated assignments."""
    for item in ast.walk(node):
        targets = (
            item.targets if isinstance(item, ast.Assign) else [item.target] if isinstance(item, ast.AnnAssign) else []
        )
        value = item.value if isinstance(item, ast.Assign | ast.AnnAssign) else None
        for target in targets:
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self" and value is not None:
                yield target.attr, value


def _made(value: ast.expr, module: Module) -> Iterator[str]:
    """Classes that an expression instantiates: called, created from a configuration, or looked up in a table."""
    for node in ast.walk(value):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr in ("from_config", "_from_config"):
            called = called.value
        if isinstance(called, ast.Subscript):
            table = module.constants.get(ast.unparse(called.value))
            yield from (ast.unparse(value) for value in table.values) if isinstance(table, ast.Dict) else ()
        else:
            yield ast.unparse(called).removeprefix("nn.").removeprefix("torch.nn.")


def _is_linear(module: Module, name: str) -> bool:
    """Whether a class of the module extends a linear layer."""
    node = module.classes.get(name)
    return node is not None and any(ast.unparse(base) in ("nn.Linear", "torch.nn.Linear") for base in node.bases)


def _is_direct(value: ast.expr, name: str) -> bool:
    """Whether the attribute is the layer itself, not a list or sequence of layers."""
    if isinstance(value, ast.IfExp):
        return _is_direct(value.body, name) or _is_direct(value.orelse, name)
    return isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] == name


def _dimensions(value: ast.expr) -> int:
    """Of `nn.Parameter(torch.empty(a, b, c))`; 0 for anything else."""
    if isinstance(value, ast.Call) and ast.unparse(value.func).endswith("Parameter") and value.args:
        inner = value.args[0]
        if isinstance(inner, ast.Call) and ast.unparse(inner.func).startswith("torch."):
            first = inner.args[0] if inner.args else None
            return len(first.elts) if isinstance(first, ast.Tuple | ast.List) else len(inner.args)
    return 0
