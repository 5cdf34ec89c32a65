"""Files to a recipe: read, translated, written, compiled again, compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import Any

from ftdsl import catalog
from ftdsl.diagnostics import Diagnostic
from ftdsl.engines.jobs import Job
from ftdsl.engines.shared.overlay import entries
from ftdsl.importers import dialects, outside, sweeps
from ftdsl.importers import stages as staging
from ftdsl.importers.draft import Note, StageDraft
from ftdsl.importers.outside import STAND_INS
from ftdsl.importers.recipe_paths import RecipePaths
from ftdsl.importers.verify import Difference
from ftdsl.importers.write import SHARED, Text, recipe
from ftdsl.language.resolve.resolve import Options
from ftdsl.language.values import StageRef, Term
from ftdsl.lint.config import Config
from ftdsl.pipeline import Checked, check
from ftdsl.record import frozen, mutable, replace
from ftdsl.session import Files, Session


@frozen
class Start:
    """One invocation to import: its parameters, the name its stage should have, where the engine would be started, and the
    rounds of loops it stands in (`(variable, round)`)."""

    config: Config
    name: str
    root: Path
    loops: tuple[tuple[str, int], ...] = ()


@mutable
class Stage:
    """A stage of the import: the invocation it comes from and its draft."""

    start: Start
    config: Config
    kind: str
    name: str
    draft: StageDraft


@frozen
class Imported:
    """A recipe's text, what was not carried, how it differs when compiled again, and its diagnostics.

    checked: the recipe compiled, with what is missing stood in for; places: (stage, dotted key) -> `file:line` of the
    parameter it comes from; secrets: values that were left out, and must not be shown.
    """

    text: str
    notes: tuple[Note, ...]
    differences: Mapping[str, Sequence[Difference]]
    diagnostics: Sequence[Diagnostic]
    checked: Checked
    locations: Mapping[tuple[str, str], str]
    secrets: frozenset[str]


def import_all(starts: Sequence[Start], name: str, target: Path, head: Sequence[str], session: Session) -> Imported:
    """`target`: the path of the recipe (its folder decides how paths are written).

    Raises: ReadBackError when the recipe would read otherwise than it was meant.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-") or "recipe"  # as of a recipe without a name
    secrets = frozenset(value for start in starts for value in staging.secrets_of(start.config))
    stages = _stages(starts, target, session.files, {})
    text = _written(stages, name, head, secrets)
    checked = _compiled(stages, text, target, session)
    more = _more(stages, _by_key(checked))
    if any(extra.defaults or extra.carried for extra in more.values()):
        stages = _stages(starts, target, session.files, more)
        text = _written(stages, name, head, secrets)
        checked = _compiled(stages, text, target, session)
    jobs = _by_key(checked)
    diagnostics = _diagnostics_of(text, target, session)
    for stage in stages:
        stage.draft.reasons |= _refused(stage, diagnostics)
    compared = {stage.name: _compare(stage, jobs[stage.name]) for stage in stages if stage.name in jobs}
    differences = {name: [extra.without(secrets) for extra in some] for name, some in compared.items()}
    every = (note.without(secrets) for stage in stages for note in stage.draft.notes)
    notes = tuple({(note.word, note.text, note.where): note for note in every}.values())  # once, however many stages
    return Imported(text, notes, differences, diagnostics, checked, dict(_locations(stages)), secrets)


NO_STAGE = "a chat, a server or a benchmark is not a stage: its model and template are kept for stages that you add"


def _stages(starts: Sequence[Start], target: Path, files: Files, more: Mapping[str, More]) -> list[Stage]:
    """Every invocation in order; each may start from what those before it make."""
    stages: list[Stage] = []
    results: dict[str, StageRef] = {}
    spoken = frozenset(word for start in starts for word in _spoken(start.config))
    left: list[Note] = []
    swept: set[str] = set()
    for start, rounds in _rounds(starts):
        kinds = staging.kinds(start.config)
        if not kinds and (stages or any(staging.kinds(iteration.config) for iteration in starts)):
            left.append(Note("chat", "a chat or a server is not a stage: start it by hand", start.config.span))
        elif not kinds:
            draft = staging.shared(start.config, RecipePaths(start.root, target.parent, files))
            if start.config.settings:
                draft.notes.append(Note("chat", NO_STAGE, start.config.span))
            stages.append(Stage(start, start.config, SHARED, "", draft))
        for kind in kinds:
            stem = start.name if len(starts) > 1 else ""
            name = staging.name_of(stem or kind, kind, {stage.name for stage in stages}, spoken)
            needed = more.get(name, More())
            config = staging.forced(start.config, needed.defaults)
            paths = RecipePaths(start.root, target.parent, files)
            after = stages[-1] if kind != kinds[0] and stages else None
            drafts = [
                staging.draft_of(
                    staging.forced(iteration.config, needed.defaults),
                    kind,
                    paths,
                    results,
                    needed.carried,
                    after.name if after else "",
                )
                for iteration in rounds
            ]
            if len(drafts) > 1 and sweeps.joined(drafts, [iteration.loops for iteration in rounds]) is None:
                return _stages([replace(iteration, loops=()) for iteration in starts], target, files, more)
            draft = drafts[0]
            if swept & set(draft.parents):
                draft.reasons |= dict.fromkeys(("adapter_name_or_path", "model_name_or_path"), sweeps.APART)
            if len(drafts) > 1:
                swept.add(name)
            _own_result_path(draft, stages)
            stages.append(Stage(start, config, kind, name, draft))
            for iteration in rounds if kind != "eval" else ():
                result_path = iteration.config.value("export_dir" if kind in ("merge", "quantize") else "output_dir")
                if isinstance(result_path, str):
                    results = {**results, outside.renamed(result_path).removeprefix("./").rstrip("/"): StageRef(name)}
    for stage in stages:
        _result_that_is_read(stage.draft, stages)
    if stages:
        stages[0].draft.notes += left
    return stages


def _result_that_is_read(draft: StageDraft, stages: Sequence[Stage]) -> None:
    """A later command reads a checkpoint inside the folder that this one writes to: of a recipe that is another model than the
    stage makes, so the stage keeps its own result elsewhere."""
    target = str(draft.values.get("to") or "")
    for stage in stages:
        inside = next(
            (path for path in _folders(stage.draft) if stage.draft is not draft and path.startswith(f"{target}/")), ""
        )
        if target and inside:
            del draft.values["to"]
            why = f"`{stage.name}` reads `{inside}` in it: this stage keeps its result in the run folder"
            draft.note("export_dir" if draft.given("export_dir") else "output_dir", why)
            return


def _folders(draft: StageDraft) -> Iterator[str]:
    """The local folders of the models that a stage starts from or reads."""
    for key in ("model", "reference", "reward", "resume"):
        value = draft.values.get(key)
        while isinstance(value, Term):
            where = value.options.get("where", value)
            if isinstance(where, Term) and isinstance(path := where.options.get("path"), str):
                yield path
            value = value.options.get("base")


def _own_result_path(draft: StageDraft, before: Sequence[Stage]) -> None:
    """Two commands of a script may write into one folder, one after the other; two stages may not."""
    result_path = draft.values.get("to")
    other = next(
        (stage.name for stage in before if result_path is not None and stage.draft.values.get("to") == result_path), ""
    )
    if other:
        parameter = "export_dir" if draft.given("export_dir") else "output_dir"
        del draft.values["to"]
        draft.note(
            parameter, f"`{other}` is written to `{result_path}` too: this stage keeps its result in the run folder"
        )
    elif result_path is not None and (read := _read_from(draft)):
        del draft.values["to"]
        why = f"the stage starts from `{read}`, which is in it: this stage keeps its result in the run folder"
        draft.note("output_dir", why)


def _read_from(draft: StageDraft) -> str:
    """A model or adapter that the command reads from the folder it writes to."""
    output = PurePosixPath(str(draft.config.value("output_dir") or ""))
    if not output.name or not draft.given("output_dir"):
        return ""
    names = [str(draft.config.value("model_name_or_path") or ""), *draft.config.items("adapter_name_or_path")]
    return next((name for name in names if name and PurePosixPath(name).is_relative_to(output)), "")


def _rounds(starts: Sequence[Start]) -> Iterator[tuple[Start, list[Start]]]:
    """Each invocation; of one command in a loop the first, with all its rounds."""
    rest = list(starts)
    while rest:
        first = rest[0]
        ids = [name for name, _ in first.loops]
        same = [start for start in rest if first.loops and _result_and_numbers(start.config) == _result_and_numbers(first.config)
                and [name for name, _ in start.loops] == ids and staging.kinds(start.config)]  # fmt: skip
        some = same if len(same) > 1 else [first]
        rest = [start for start in rest if not any(start is other for other in some)]
        yield first, some


def _result_and_numbers(config: Config) -> tuple[str, int, int]:
    return (config.span.source.name, config.span.start, config.span.end) if config.span else ("", 0, 0)


def _spoken(config: Config) -> Iterator[str]:
    """Names that occur as values: a stage of such a name would capture them (`schedule = cosine`)."""
    for setting in config.settings.values():
        items = setting.value if isinstance(setting.value, list) else str(setting.value).split(",")
        yield from (str(item).strip() for item in items)


def _written(stages: Sequence[Stage], name: str, head: Sequence[str], secrets: Iterable[str]) -> str:
    holes = {name: kind for stage in stages for name, kind in stage.draft.holes.items()}
    texts = [
        Text(stage.config.engine, stage.kind, stage.name, stage.draft.parents, dict(stage.draft.values), stage.draft.blocks,
             stage.draft.remarks, stage.draft.passed, [note.without(secrets) for note in stage.draft.notes])
        for stage in stages
    ]  # fmt: skip
    return recipe(head, name, texts, holes)


def _by_key(checked: Checked) -> dict[str, Job]:
    """Jobs by the name of their stage; of an axis the first run."""
    jobs: dict[str, Job] = {}
    for job in checked.jobs:
        jobs.setdefault(job.key.partition("@")[0], job)
    return jobs


def _locations(stages: Sequence[Stage]) -> Iterator[tuple[tuple[str, str], str]]:
    """The location each key comes from: the first parameter of its overlay entry that the file sets."""
    for stage in stages:
        given = stage.draft.config.settings
        if (method := given.get("finetuning_type")) is not None and method.span is not None:
            yield (stage.name, str(method.value)), method.span.location
        for key, entry in entries(stage.config.engine, stage.kind) if stage.kind != SHARED else ():
            spans = (given[name].span for name in catalog.parameters_of(entry) if name in given)
            if key in stage.draft.values and (span := next(filter(None, spans), None)) is not None:
                yield (stage.name, key), span.location


def _compiled(stages: Sequence[Stage], text: str, target: Path, session: Session) -> Checked:
    """The recipe compiled; what it asks for, and data that is not here, is stood in for."""
    holes = dict.fromkeys(
        f"{name}={stage.draft.samples.get(name) or STAND_INS[kind].replace('{name}', name)}"
        for stage in stages
        for name, kind in stage.draft.holes.items()
    )
    own = Session(files=Files({target: text, **_absent(stages, target)}), env=session.env)
    return check(target, Options(params=tuple(holes)), own)


def _absent(stages: Sequence[Stage], target: Path) -> dict[Path, str]:
    """Data files that are named and missing, as empty stand-ins."""
    entries: dict[Path, dict[str, Any]] = {}
    for stage in stages:
        for value in stage.draft.values.values():
            for item in value if isinstance(value, list) else ():
                path = item.options.get("path") if isinstance(item, Term) and item.name == "file" else None
                if isinstance(path, str) and not stage.draft.paths.files.exists(missing_file := target.parent / path):
                    name = item.options.get("entry")
                    entries.setdefault(missing_file, {}).update({name: {"file_name": f"{name}.json"}} if name else {})
    return {missing_file: json.dumps(known) if known else "" for missing_file, known in entries.items()}


def _diagnostics_of(text: str, target: Path, session: Session) -> Sequence[Diagnostic]:
    own = Session(files=Files({target: text}), env=session.env)
    check(target, Options(), own)
    return own.sink.ordered()


@frozen
class More:
    """What only compiling shows to be needed: parameters the file is silent about, whose default in the engine is not
    what the recipe would give; keys of DeepSpeed and accelerate files for the tool's own block (`deepspeed.aio.…`)."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    carried: Mapping[str, Any] = field(default_factory=dict)


def _more(stages: Sequence[Stage], jobs: Mapping[str, Job]) -> dict[str, More]:
    needed: dict[str, More] = {}
    for stage in stages:
        if (job := jobs.get(stage.name)) is None:
            continue
        missed = [difference for difference in _compare(stage, job) if not difference.why]
        silent = [
            difference.name
            for difference in missed
            if difference.name in stage.config.schema and difference.name not in stage.config.settings
        ]
        needed[stage.name] = More(
            {name: stage.draft.default(name) for name in silent},
            {".".join(difference.carry): difference.theirs for difference in missed if all(difference.carry)},
        )
    return needed


def _refused(stage: Stage, diagnostics: Sequence[Diagnostic]) -> dict[str, str]:
    """Parameters whose key `ftc check` refuses in the recipe: the message is the reason they differ."""
    refusals = {
        diagnostic.message.split("`")[1]: diagnostic.message
        for diagnostic in diagnostics
        if diagnostic.code == "FT012" and "`" in diagnostic.message
    }
    refused = [
        (catalog.parameters_of(entry), refusals[key])
        for key, entry in entries(stage.config.engine, stage.kind)
        if key in refusals
    ]
    return {name: text for names, text in refused for name in names}


def _compare(stage: Stage, job: Job) -> list[Difference]:
    excused = dict(stage.draft.reasons)
    for name, setting in stage.config.settings.items():
        for note in stage.draft.notes:
            if note.word == setting.word:
                excused[name] = note.text
    if why := next((excused[name] for name in ("warmup_ratio", "warmup_steps") if name in excused), ""):
        excused.setdefault("warmup", why)
    compare = dialects.of(stage.config.engine).compare
    return compare(stage.draft.config, stage.kind, job, stage.draft.paths, excused)


__all__ = ["Imported", "Start", "import_all"]
