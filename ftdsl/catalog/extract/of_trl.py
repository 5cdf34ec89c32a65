"""TRL: the fields of its configuration classes, `DPOConfig.beta`; those of TrainingArguments are transformers'."""

from __future__ import annotations

from ftdsl.catalog.extract.classes import Classes, Fact
from ftdsl.catalog.extract.packages import Package


def tables(package: Package) -> dict[str, dict[str, Fact]]:
    """`parameters` by `Class.field`; `classes` with the file each lies in (what is experimental moves)."""
    paths = [path for path in package.below("trl") if path.endswith(("_config.py", "on_policy_config.py", "utils.py"))]
    paths.sort(key=lambda path: ("/experimental/" in path, path))
    classes = Classes(package, paths)
    own = [name for name in classes.where if name.endswith("Config") and not name.startswith("_")]
    own = [name for name in own if classes.where[name].path.endswith("_config.py")]
    parameters = {f"{name}.{field}": fact for name in own for field, fact in classes.fields(name).items()}
    return {"parameters": parameters, "classes": {name: {"file": classes.where[name].path} for name in own}}
