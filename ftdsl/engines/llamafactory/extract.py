"""`python -m ftdsl.engines.llamafactory.extract SITE_PACKAGES [--check]`: the engine's parameters and templates as data.

Reads the installed sources with `ast` (0.2 s) and never imports them: LLaMA-Factory's hparams, the TrainingArguments of
the transformers beside it, the chat templates, and which template belongs to which model.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent.parent / "catalog" / "data"

SOURCES = (
    ("llamafactory/hparams/model_args.py", ""),
    ("llamafactory/hparams/data_args.py", ""),
    ("llamafactory/hparams/finetuning_args.py", ""),
    ("llamafactory/hparams/generating_args.py", ""),
    ("llamafactory/hparams/evaluation_args.py", ""),
    ("llamafactory/hparams/training_args.py", ""),
    ("transformers/training_args.py", "TrainingArguments"),
    ("transformers/training_args_seq2seq.py", "Seq2SeqTrainingArguments"),
)


def extract(site: Path) -> dict[str, Any]:
    """Everything about the engine installed in `site`. Raises: OSError when it is not there."""
    parameters: dict[str, Any] = {}
    for name, only in SOURCES:
        for field in fields_of(site / name, only):
            parameters.setdefault(field.pop("name"), {**field, "origin": name})
    return {
        "engine": "llamafactory",
        "version": _version(site, "llamafactory"),
        "transformers": _version(site, "transformers"),
        "parameters": dict(sorted(parameters.items())),
        "templates": sorted(_templates(site)),
        "families": _families(site),
        "optimizers": sorted(_optimizers(site)),
    }


def _version(site: Path, package: str) -> str:
    folders = sorted(site.glob(f"{package}-*.dist-info"))
    return folders[-1].name.removeprefix(f"{package}-").removesuffix(".dist-info") if folders else ""


def fields_of(path: Path, only: str) -> Iterator[dict[str, Any]]:
    """The dataclass fields of a file, with type, default, choices, and the first sentence of their help."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(module):
        if not isinstance(node, ast.ClassDef) or (only and node.name != only):
            continue
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None:
                yield _field(item.target.id, item)


def _field(name: str, item: ast.AnnAssign) -> dict[str, Any]:
    call = item.value
    keywords = {k.arg: k.value for k in call.keywords} if isinstance(call, ast.Call) else {}
    found: dict[str, Any] = {"name": name, "type": ast.unparse(item.annotation)}
    default = keywords.get("default", call if not isinstance(call, ast.Call) else None)
    if default is not None:
        found["default"] = _literal(default)
    if choices := re.findall(r"Literal\[(.*?)\]", found["type"]):
        found["choices"] = [choice.strip().strip("\"'") for choice in choices[0].split(",")]
    metadata = keywords.get("metadata")
    if isinstance(metadata, ast.Dict) and (help := _help(metadata)):
        found["help"] = help
    return found


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _help(metadata: ast.Dict) -> str:
    for key, value in zip(metadata.keys, metadata.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == "help":
            text = _literal(value)
            return re.split(r"(?<=[a-z`)])\.(?=\s|$)", " ".join(str(text).split()))[0][:160]
    return ""


def _calls(path: Path, function: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
            yield node


def _templates(site: Path) -> set[str]:
    names: set[str] = set()
    for call in _calls(site / "llamafactory/data/template.py", "register_template"):
        value = next((k.value for k in call.keywords if k.arg == "name"), None)
        if isinstance(value, ast.Constant):
            names.add(str(value.value))
    return names


def _families(site: Path) -> dict[str, str]:
    """Model id on the hub -> template, from the engine's own model groups."""
    found: dict[str, str] = {}
    for call in _calls(site / "llamafactory/extras/constants.py", "register_model_group"):
        keywords = {k.arg: k.value for k in call.keywords}
        template = keywords.get("template")
        if not isinstance(template, ast.Constant) or "models" not in keywords:
            continue
        for node in ast.walk(keywords["models"]):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count("/") == 1:
                found.setdefault(node.value, str(template.value))
    return dict(sorted(found.items()))


def _optimizers(site: Path) -> set[str]:
    """Members of transformers' OptimizerNames."""
    module = ast.parse((site / "transformers/training_args.py").read_text(encoding="utf-8"))
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef) and node.name == "OptimizerNames":
            values = [item.value for item in node.body if isinstance(item, ast.Assign)]
            return {str(value.value) for value in values if isinstance(value, ast.Constant)}
    return set()


def text_of(facts: dict[str, Any]) -> str:
    """As committed: one parameter a line."""
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items())
            lines.append(f"{json.dumps(name)}: {{\n{inner}\n}}")
        else:
            lines.append(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(argv: list[str]) -> int:
    """Write the facts, or (--check) exit 1 when what is committed differs."""
    facts = extract(Path(argv[0]))
    target = DATA / f"llamafactory-{facts['version']}.json"
    if "--check" in argv:
        same = target.exists() and target.read_text(encoding="utf-8") == text_of(facts)
        print("current" if same else f"{target.name} differs from the installed package")
        return int(not same)
    target.write_text(text_of(facts), encoding="utf-8")
    print(f"wrote {target.name}: {len(facts['parameters'])} parameters, {len(facts['templates'])} templates")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
