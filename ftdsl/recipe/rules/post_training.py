"""Stages that learn from answers of the model: rewards of `grpo`, the teacher of `distill`, and room for the answers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftdsl.diagnostics import Edit, Fix
from ftdsl.diagnostics.suggest import closest
from ftdsl.language.values import Amount, Term
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.recipe.rules.data import named
from ftdsl.recipe.settings import Settings
from ftdsl.recipe.shape import first_row, only_source, settings_of, shape_of, with_own_options
from ftdsl.session import Session
from ftdsl.source import Span

GIVEN = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
"""Arguments that TRL gives a reward besides the columns of the data (trl/trainer/grpo_trainer.py)."""


def rewards_are_usable(recipe: Recipe, session: Session) -> None:
    """A reward that would fail at the first step. Files of functions are parsed, never imported."""
    for stage in recipe.stages:
        if stage.kind != "grpo" or "rewards" in stage.unknown:
            continue
        rewards = [reward for reward in stage.settings.items("rewards") if isinstance(reward, Term)]
        if not rewards:
            help = 'write `rewards = [exact("answer")]`, or `[python("rewards.py:score")]`'
            session.sink.error("FT011", f"`{stage.name}` has no `rewards`", stage.span, help=help)
        for reward in rewards:
            _check_reward(reward, stage, recipe, session)


def _check_reward(reward: Term, stage: Stage, recipe: Recipe, session: Session) -> None:
    span = stage.spans.get("rewards", stage.span)
    if reward.name == "regex":
        _check_pattern(str(reward.options.get("pattern", "")), span, session)
    elif reward.name in ("exact", "code"):
        name = "answer" if reward.name == "exact" else "tests"
        column = str(reward.options.get(name, name))
        columns = columns_of(stage, recipe, session)
        if columns is not None and column not in columns:
            _lacks_column(f"`{reward.name}`", column, columns, _inside(span, column), session)
    elif reward.name == "python":
        _check_function(str(reward.options.get("function", "")), stage, span, recipe, session)
    elif reward.name == "length" and int(reward.options.get("min", 0)) > int(reward.options.get("max", 0)):
        session.sink.error("FT624", "`min` is above `max`, so no answer has the right length", span)


def _check_pattern(pattern: str, span: Span, session: Session) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        help = "Python's `re`; a raw text keeps backslashes: regex('\\d+')"
        session.sink.error(
            "FT624", f"the pattern is not a regular expression: {error}", _inside(span, pattern), help=help
        )


def columns_of(stage: Stage, recipe: Recipe, session: Session) -> set[str] | None:
    """Columns of the first row of each source; None if one is not available. `answer` is the response of a row that has one."""
    columns: set[str] = set()
    for item in named(stage.settings, "data"):
        settings: Settings
        source: Any
        if isinstance(item, Term):
            settings, source = settings_of(item), item
        else:
            data = recipe.find(item.key)
            if data is None or data.kind != "data":
                return None
            settings, source = with_own_options(data.settings), only_source(data.settings)
        row = first_row(source, recipe.folder, session.files) if source is not None and not session.elsewhere else None
        if row is None:
            return None
        shape = shape_of(settings, row, stage.kind)
        columns |= set(row) | ({"answer"} if "response" in shape.columns or "messages" in shape.columns else set())
    return columns or None


def _lacks_column(what: str, column: str, columns: set[str], span: Span, session: Session) -> None:
    guess = closest(column, columns)
    text = f"{what} reads the column `{column}`, which the rows lack"
    label = f"did you mean `{guess}`?" if guess else ""
    session.sink.error("FT624", text, span, label=label, help=f"columns: {', '.join(sorted(columns))}")


def _check_function(written: str, stage: Stage, span: Span, recipe: Recipe, session: Session) -> None:
    path, colon, name = written.rpartition(":")
    if not colon or not path.endswith(".py") or not name.isidentifier():
        session.sink.error("FT624", f"`{written}` names no function", _inside(span, written),
                           help='write `python("rewards.py:score")`: a file beside the recipe, and a function in it')  # fmt: skip
        return
    file = recipe.folder / path
    if not session.files.is_file(file):
        siblings = [sibling.name for sibling in session.files.glob(file.parent, "*.py")]
        guess = closest(file.name, siblings)
        better = str(Path(path).with_name(guess)) if guess else ""
        own_span = _inside(span, written, path)
        fix = (
            Fix(f"write `{better}`", (Edit(own_span, better),), safe=False) if better and own_span is not span else None
        )
        session.sink.error("FT501", f"no such file: `{path}`", own_span, help="paths are relative to the recipe's folder",
                           label=f"did you mean `{better}`?" if better else "", fix=fix)  # fmt: skip
        return
    try:
        tree = ast.parse(session.files.text(file))
    except (OSError, ValueError, SyntaxError, RecursionError) as error:
        detail = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        session.sink.error("FT624", f"`{path}` is not Python: {detail}", _inside(span, written, path))
        return
    names = _names(tree)
    if name not in names:
        guess = closest(name, names)
        session.sink.error("FT624", f"`{path}` has no function `{name}`", _inside(span, written, name),
                           label=f"did you mean `{guess}`?" if guess else "",
                           help=f"it has: {', '.join(sorted(names)) or 'none'}")  # fmt: skip
    elif (function := names[name]) is not None:
        _check_arguments(written, function, stage, span, recipe, session)


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _names(tree: ast.Module) -> Mapping[str, Function | None]:
    """Names at the top of a file: functions, and what may be one (imported or assigned): None."""
    names: dict[str, Function | None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= dict.fromkeys((alias.asname or alias.name for alias in node.names), None)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= dict.fromkeys((target.id for target in targets if isinstance(target, ast.Name)), None)
    return names


def _check_arguments(
    written: str, function: Function, stage: Stage, span: Span, recipe: Recipe, session: Session
) -> None:
    """An argument without a default must be one of TRL's or a column."""
    arguments = function.args
    if arguments.posonlyargs:
        text = f"`{written}` takes `{arguments.posonlyargs[0].arg}` by position only; rewards are called with names"
        session.sink.error("FT624", text, _inside(span, written), help="drop the `/`")
        return
    needed = [argument.arg for argument in arguments.args[: len(arguments.args) - len(arguments.defaults)]]
    needed += [a.arg for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None]
    unknown = [name for name in needed if name not in GIVEN]
    columns = columns_of(stage, recipe, session) if unknown else None
    for name in unknown:
        if columns is not None and name not in columns:
            _lacks_column(f"`{written}`", name, {*columns, *GIVEN[:3]}, _inside(span, written), session)


def _inside(span: Span, written: str, part: str = "") -> Span:
    """The span of a quoted text within the value, or of a part of that text, if it occurs literally."""
    match = re.search(rf"(?<=[\"']){re.escape(written)}(?=[\"'])", span.text) if written else None
    if match is None:
        return span
    start = span.start + match.start() + (written.find(part) if part else 0)
    return Span(span.source, start, start + len(part or written))


def room_for_answers(recipe: Recipe, session: Session) -> None:
    """`max_len` holds the prompt and the answer: longer sequences than the model's window would be generated."""
    for stage in recipe.stages:
        window, answer = stage.settings.get("max_len"), stage.settings.get("generate.max_new_tokens")
        if not _generates(stage) or not isinstance(window, int) or not isinstance(answer, int):
            continue
        if answer >= window:
            text = f"an answer of {answer} tokens leaves no room for a prompt in `max_len = {window}`"
            key = "generate.max_new_tokens" if "generate.max_new_tokens" in stage.spans else "max_len"
            help = f"write `generate {{ max_new_tokens = {max(1, window // 2)} }}`, or a larger `max_len`"
            session.sink.error("FT625", text, stage.spans.get(key, stage.span), help=help)
            continue
        _check_prompts(stage, window - answer, recipe, session)


def _generates(stage: Stage) -> bool:
    return stage.kind == "grpo" or (stage.kind == "distill" and on_policy(stage.settings) > 0)


def on_policy(settings: Settings) -> float:
    """The share of a `distill` stage's steps whose answers the student generates."""
    share = settings.get("on_policy")
    return float(share) if isinstance(share, int | float) else float(settings.get("teacher") is not None)


LEAST = 8
"""Most bytes of a token of ordinary text: a prompt of n bytes has more than n / 8 tokens."""


def _check_prompts(stage: Stage, room: int, recipe: Recipe, session: Session) -> None:
    """The first prompt of a source, if it is longer than the room even at 8 bytes a token."""
    for item in named(stage.settings, "data"):
        if not isinstance(item, Term) or session.elsewhere:
            continue
        row = first_row(item, recipe.folder, session.files)
        if row is None:
            continue
        shape = shape_of(settings_of(item), row, stage.kind)
        size = sum(len(text.encode()) for text in _prompt_texts(shape.columns, row))
        if size > room * LEAST:
            text = f"the first prompt has {size} bytes, more than fit into {room} tokens (`max_len` without the answer)"
            session.sink.warning("FT625", text, stage.spans.get("data", stage.span), help="raise `max_len`")


def _prompt_texts(columns: Mapping[str, str], row: Mapping[str, Any]) -> Iterator[str]:
    for part in ("system", "prompt", "query"):
        if isinstance(text := row.get(columns.get(part, "")), str):
            yield text


def teacher_fits(recipe: Recipe, session: Session) -> None:
    """A `distill` stage without a teacher learns the answers in its data, so it can have neither a divergence nor a share."""
    for stage in recipe.stages:
        if stage.kind != "distill" or "teacher" in stage.unknown or stage.settings.get("teacher") is not None:
            continue
        for key in ("on_policy", "divergence", "backend"):
            value = stage.settings.values.get(key)
            if value is None or (isinstance(value, Amount | float | int) and key == "on_policy" and not value):
                continue
            text = f"`{key}` needs a `teacher`: without one, `{stage.name}` learns the answers in its data"
            session.sink.error("FT626", text, stage.spans.get(key, stage.span), help='write `teacher = hf("org/name")`')
