"""`python grammar/sublime.py`: writes ft.sublime-syntax, for `bat` and Sublime Text, from the TextMate grammar.

Both have the same regular expressions and scopes. A TextMate `begin`/`end` becomes a context that is pushed and popped.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
SOURCE, TARGET = HERE / "ft.tmLanguage.json", HERE / "ft.sublime-syntax"


def syntax(grammar: dict[str, Any]) -> dict[str, Any]:
    """The Sublime syntax of a TextMate grammar (https://www.sublimetext.com/docs/syntax.html)."""
    contexts = {"main": [_rule(pattern) for pattern in grammar["patterns"]]}
    for name, group in grammar["repository"].items():
        contexts[name] = [_rule(pattern) for pattern in group["patterns"]]
    return {
        "name": grammar["name"],
        "file_extensions": grammar["fileTypes"],
        "scope": grammar["scopeName"],
        "contexts": contexts,
    }


def _rule(pattern: dict[str, Any]) -> dict[str, Any]:
    if "include" in pattern:
        return {"include": pattern["include"].removeprefix("#")}
    if "begin" in pattern:
        inside = [_rule(inner) for inner in pattern.get("patterns", [])]
        pushed = [{"meta_scope": pattern["name"]}, {"match": pattern["end"], "pop": True}, *inside]
        return {"match": pattern["begin"], "push": pushed}
    rule: dict[str, Any] = {"match": pattern["match"]}
    if "name" in pattern:
        rule["scope"] = pattern["name"]
    if "captures" in pattern:
        rule["captures"] = {int(number): capture["name"] for number, capture in pattern["captures"].items()}
    return rule


def text() -> str:
    document = yaml.safe_dump(syntax(json.loads(SOURCE.read_text(encoding="utf-8"))), sort_keys=False, width=10_000)
    return f"%YAML 1.2\n---\n# Made by grammar/sublime.py from {SOURCE.name}.\n{document}"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
    sys.exit(0)
