"""`ftc explain FILE [STAGE]`: the compiled files of a stage, line by line, each line with what decides it.

`ftc explain FILE STAGE/ds_config.json`: one of its files. `ftc explain FILE STAGE.KEY`: a value, every layer that spoke about
it, what it becomes, and the engine's own default. `ftc explain FT412` (or `implausible-rate`): what a rule is about, with an
example and what to use instead. `ftc explain lora.rank`: a key of the language, or a block (`lora`), without a recipe."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ftdsl.cli.common import add_recipe_arguments, options_of, recipe_path, show

if TYPE_CHECKING:
    from ftdsl.catalog.vocabulary import Key
    from ftdsl.plan.plan import Plan
    from ftdsl.recipe.recipe import Stage


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("explain", help="say where a value comes from", description=__doc__)
    parser.add_argument(
        "file", metavar="FILE|CODE|KEY", help="a recipe; the code or name of a rule; a key or block of the language"
    )
    parser.add_argument(
        "key", metavar="STAGE[.KEY|/FILE]", nargs="?", default="", help="sft, sft.optim.lr, sft/train.yaml"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    add_recipe_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 if the recipe has errors; 2 if there is no such stage, file, key or rule."""
    if not args.key and not args.file.endswith(".ft") and not recipe_path(args.file).exists():
        from ftdsl.cli.explain_key import explain_key
        from ftdsl.cli.explain_rule import explain_rule, matching_codes
        from ftdsl.engines.reference import find

        if not matching_codes(args.file) and (entries := find(args.file)):
            return explain_key(entries, json_too=args.json)
        return explain_rule(args.file, json_too=args.json)
    from ftdsl.pipeline import check
    from ftdsl.session import Session

    session = Session()
    checked = check(recipe_path(args.file), options_of(args), session)
    if session.sink.failed or checked.plan is None:
        show(session.sink)
        return 1
    if "/" in args.key or "." not in args.key:
        from ftdsl.cli.explain_files import explain_files

        return explain_files(checked, args.key, json_too=args.json)
    name, _, key = args.key.partition(".")
    stages = [planned.stage for planned in checked.plan.stages if name in (planned.stage.name, planned.key)]
    if not stages or not key:
        names = ", ".join(dict.fromkeys(planned.stage.name for planned in checked.plan.stages))
        print(f"error: no stage `{name}` with a key after it; stages: {names}", file=sys.stderr)
        return 2
    if _word(stages[0], key) is None:
        from ftdsl.catalog.vocabulary import BlockWords
        from ftdsl.language.resolve import keys

        if isinstance(block := keys.find(stages[0].kind, tuple(key.split("."))), BlockWords):
            set_here = sorted(path for path in stages[0].origins if path.startswith(f"{key}."))
            some = set_here or [f"{block.name}.{option}" for option in list(block.keys)[:3]]
            print(
                f"error: `{key}` is a block; its keys: {', '.join(f'{stages[0].name}.{path}' for path in some)}",
                file=sys.stderr,
            )
            return 2
        return _unknown(stages[0], key)
    values = [_explained(stage, key, checked.plan) for stage in stages]
    if args.json:
        print(json.dumps(values[0] if len(values) == 1 else values, indent=2, ensure_ascii=False))
    else:
        print("\n".join(line for value in values for line in _lines(value)))
    return 0


def _word(stage: Stage, key: str) -> Key | None:
    """The vocabulary's entry of a key; None for a block, and for an unknown key."""
    from ftdsl.catalog.vocabulary import Key
    from ftdsl.language.resolve import keys

    entry = keys.find(stage.kind, tuple(key.split(".")))
    return entry if isinstance(entry, Key) else None


def _unknown(stage: Stage, key: str) -> int:
    from ftdsl.catalog.vocabulary import vocabulary
    from ftdsl.diagnostics.suggest import closest

    names = [*vocabulary().keys_of(stage.kind)]
    names += [f"{block.name}.{option}" for block in vocabulary().blocks_in(stage.kind) for option in block.keys]
    guess = closest(key, names) or next((name for name in names if name.endswith(f".{key}")), None)
    hint = f"; did you mean `{stage.name}.{guess}`?" if guess else ""
    print(f"error: a `{stage.kind}` stage has no key `{key}`{hint}", file=sys.stderr)
    return 2


def _explained(stage: Stage, key: str, plan: Plan) -> dict[str, Any]:
    """A value as data: the value, the layers that set it (the last wins), its description, the parameters it becomes."""
    from ftdsl import catalog
    from ftdsl.engines.shared.overlay import entries
    from ftdsl.language.types import describe, parse_type
    from ftdsl.recipe.settings import shown

    definition = _word(stage, key)
    assert definition is not None
    value = stage.settings.get(key)
    origin = stage.origins.get(key)
    layers = [(text, who) for dotted, text, who in stage.layers if dotted == key]
    if origin is not None and (not layers or origin.kind in ("from", "auto")):
        layers.append((shown(value), origin))
    engine = plan.stage(stage.key).engine
    entry = dict(entries(engine.name, stage.kind)).get(key, {})
    targets = [to.partition(":")[0] for to in entry.get("to", ()) if to != "own"]
    return {
        "key": f"{stage.key}.{key}",
        "value": shown(value) if value is not None else None,
        "layers": [{"text": text, "where": plan.recipe.location(str(who)), "layer": who.kind} for text, who in layers],
        "about": definition.doc.lstrip("* "),
        "takes": _taken(describe(parse_type(definition.type)), definition),
        "becomes": [to for to in targets if "." not in to and catalog.parameter_status(engine.name, to)],
        "engine": engine.title,
        "engine_default": entry.get("engine"),
    }


def _taken(text: str, definition: Key) -> str:
    """What a key takes, with the members it has."""
    from ftdsl.catalog.vocabulary import ANY_NAME

    members = [name for name in definition.members or () if name != ANY_NAME]
    return text.replace("one of its members", f"one of {', '.join(members)}") if members else text


def _lines(value: dict[str, Any]) -> Iterator[str]:
    yield f"{value['key']} = {'null' if value['value'] is None else value['value']}"
    for layer in value["layers"]:
        mark = "->" if layer is value["layers"][-1] else "  "
        yield f"  {mark} {layer['where']} [{layer['layer']}]: {layer['text']}"
    if not value["layers"]:
        yield "  nobody set it" if value["value"] is None else "  -> the language's default"
    if value["about"]:
        yield f"  {value['about']}"
    yield f"  takes {value['takes']}"
    if value["becomes"]:
        own = f"; {value['engine']}'s own default: {value['engine_default']}" if value["engine_default"] else ""
        yield f"  becomes {', '.join(value['becomes'])}{own}"
