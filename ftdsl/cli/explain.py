"""`ftc explain FILE [STAGE]`: everything a stage compiles to, line by line, each with what decides it.

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
    """Exit 0; 1 when the recipe has errors; 2 when there is no such stage, file, key or rule."""
    if not args.key and not args.file.endswith(".ft") and not recipe_path(args.file).exists():
        from ftdsl.cli.explain_key import explain_key
        from ftdsl.cli.explain_rule import explain_rule
        from ftdsl.cli.explain_rule import found as codes_of
        from ftdsl.engines.reference import find

        if not codes_of(args.file) and (entries := find(args.file)):
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
        known = ", ".join(dict.fromkeys(planned.stage.name for planned in checked.plan.stages))
        print(f"error: no stage `{name}` with a key after it; stages: {known}", file=sys.stderr)
        return 2
    if _word(stages[0], key) is None:
        return _unknown(stages[0], key)
    told = [_told(stage, key, checked.plan) for stage in stages]
    if args.json:
        print(json.dumps(told[0] if len(told) == 1 else told, indent=2, ensure_ascii=False))
    else:
        print("\n".join(line for one in told for line in _lines(one)))
    return 0


def _word(stage: Stage, key: str) -> Key | None:
    """The word a key is; None for a block, and for what does not exist."""
    from ftdsl.catalog.vocabulary import Key
    from ftdsl.language.resolve import words

    found = words.find(stage.kind, tuple(key.split(".")))
    return found if isinstance(found, Key) else None


def _unknown(stage: Stage, key: str) -> int:
    from ftdsl.catalog.vocabulary import vocabulary
    from ftdsl.diagnostics.suggest import closest

    names = [*vocabulary().keys_of(stage.kind)]
    names += [f"{block.name}.{word}" for block in vocabulary().blocks_in(stage.kind) for word in block.keys]
    guess = closest(key, names) or next((name for name in names if name.endswith(f".{key}")), None)
    hint = f"; did you mean `{stage.name}.{guess}`?" if guess else ""
    print(f"error: a `{stage.kind}` stage has no key `{key}`{hint}", file=sys.stderr)
    return 2


def _told(stage: Stage, key: str, plan: Plan) -> dict[str, Any]:
    """A value as data: what it is, who spoke about it (the last counts), what it is about, what it becomes."""
    from ftdsl import catalog
    from ftdsl.engines.shared.overlay import entries
    from ftdsl.language.types import parse_type, said
    from ftdsl.recipe.settings import shown

    word = _word(stage, key)
    assert word is not None
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
        "layers": [{"text": text, "where": plan.recipe.where(str(who)), "layer": who.kind} for text, who in layers],
        "about": word.doc.lstrip("* "),
        "takes": said(parse_type(word.type)),
        "becomes": [to for to in targets if "." not in to and catalog.parameter_status(engine.name, to)],
        "engine": engine.title,
        "engine_default": entry.get("engine"),
    }


def _lines(told: dict[str, Any]) -> Iterator[str]:
    yield f"{told['key']} = {'null' if told['value'] is None else told['value']}"
    for layer in told["layers"]:
        mark = "->" if layer is told["layers"][-1] else "  "
        yield f"  {mark} {layer['where']} [{layer['layer']}]: {layer['text']}"
    if not told["layers"]:
        yield "  nobody set it" if told["value"] is None else "  -> the language's default"
    if told["about"]:
        yield f"  {told['about']}"
    yield f"  takes {told['takes']}"
    if told["becomes"]:
        own = f"; {told['engine']}'s own default: {told['engine_default']}" if told["engine_default"] else ""
        yield f"  becomes {', '.join(told['becomes'])}{own}"
