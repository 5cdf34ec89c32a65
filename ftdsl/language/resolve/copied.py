"""`settings = …`: the entries that a stage starts from. Of another stage, of the searched one (`search.best`), or what the best
trial of another recipe's study had (`study("runs/coarse/study")`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.language import tree
from ftdsl.language.parser import parse
from ftdsl.language.resolve.declare import Declarations, Declared
from ftdsl.language.resolve.flatten import Flattener, check
from ftdsl.language.resolve.layers import Entry
from ftdsl.session import Session, read_json
from ftdsl.source import Source

FILE, SETTINGS = "study.json", "settings"
"""The picture of a study in its folder, and in it the items of the best trial's stage, once the study has ended."""
FUNCTION = "study"


class CopiedSettings:
    """The entries of `settings` of all stages of a recipe. A study that is not there is reported once."""

    def __init__(self, declarations: Declarations, session: Session) -> None:
        self._declarations, self._session = declarations, session
        self._studied: dict[int, list[Entry]] = {}

    def entries_for(self, declared: Declared) -> Sequence[Entry]:
        """None for a stage without `settings`."""
        for entry in declared.entries:
            if entry.path != ("settings",):
                continue
            if isinstance(entry.value, tree.Ref):
                name = entry.value.path[0].text
                copied = self._searched() if name == "search" else self._declarations.stages.get(name)
                return copied.entries if copied else ()
            if (folder := _folder_of(entry.value)) is not None:
                if id(entry) not in self._studied:
                    self._studied[id(entry)] = _entries_of(entry, folder, declared.kind, self._session)
                return self._studied[id(entry)]
        return ()

    def _searched(self) -> Declared | None:
        """The stage whose metric is the goal of the search; of one that trains nothing the training that it starts from."""
        stages, search = self._declarations.stages, self._declarations.search
        goal = next((e.value for e in (search[1] if search else ()) if e.path == ("goal",)), None)
        call = goal.items[0] if isinstance(goal, tree.ListOf) and goal.items else goal
        argument = call.arguments[0].value if isinstance(call, tree.Call) and call.arguments else None
        stage = stages.get(argument.path[0].text) if isinstance(argument, tree.Ref) else None
        seen: list[str] = []
        while stage and stage.kind not in TRAINING and stage.block.parents and stage.name not in seen:
            seen.append(stage.name)
            stage = stages.get(stage.block.parents[0].path[0].text)
        return stage


def _folder_of(value: tree.Expression | None) -> str | None:
    """The folder that `study("…")` names; None for another expression. An argument that is no text is reported with its type."""
    if not (isinstance(value, tree.Call) and value.path[0].text == FUNCTION and value.arguments):
        return None
    argument = value.arguments[0].value
    return argument.plain if isinstance(argument, tree.Text) else None


def _entries_of(entry: Entry, folder: str, kind: str, session: Session) -> list[Entry]:
    """The entries for a stage of a kind; none, and reported at the key, where there is no study, or it has no best trial."""
    assert entry.value is not None
    try:
        document = read_json(entry.module.path.parent / folder / FILE)
    except (OSError, ValueError):
        document = None
    if not isinstance(document, dict):
        help = f"name the folder that holds its `{FILE}`, such as `runs/NAME/study`, seen from this file"
        session.sink.error("FT098", f"there is no study in `{folder}`", entry.value.span, help=help)
        return []
    lines = document.get(SETTINGS)
    if not isinstance(lines, list) or not lines:
        text = f"the study in `{folder}` has not ended with the best trial of a training"
        session.sink.error("FT098", text, entry.value.span, help="carry it out first: `ftc run` of its recipe")
        return []
    source = Source(f"{folder}/{FILE}", "\n".join(map(str, lines)) + "\n")
    flat = Flattener("stage", entry.module, f"the best trial of {folder}")
    return check(flat.entries(parse(source, session.sink).items), kind, session.sink)
