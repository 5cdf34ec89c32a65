"""What Optuna works out of a study's trials: importances, and the figures of its report."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftdsl.language.resolve.resolve import Options, resolve
from ftdsl.observe.study import StudyPicture, headline, rows
from ftdsl.search import storage
from ftdsl.search.errors import MissingPackageError
from ftdsl.session import Session

if TYPE_CHECKING:
    from optuna import Study

LEAST = 4
"""Finished trials below which nothing is said of importances."""


def loaded(picture: StudyPicture, folder: Path, recipe: Path, options: Options) -> Study:
    """The study of a picture, to be read. Raises: StudyError, MissingPackageError."""
    storage.need_optuna()
    import optuna

    resolved = resolve(recipe, recipe.as_posix(), options, Session())
    value = resolved.search.get(("storage",)) if resolved and resolved.search else None
    span = value.span if value else None
    url = storage.url_of(storage.written(value.data if value else None, span), recipe.parent, folder)
    return optuna.load_study(study_name=picture.study, storage=storage.opened(url, span))


def importances(picture: StudyPicture, folder: Path, recipe: Path, options: Options) -> dict[str, dict[str, float]]:
    """Of each goal the share of every dimension, largest first; nothing where too few trials have ended.

    PED-ANOVA (https://arxiv.org/abs/2304.10255): how the best trials' values differ from all that were tried.
    """
    study = loaded(picture, folder, recipe, options)
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    shares_of: dict[str, dict[str, float]] = {}
    for at, (goal, _) in enumerate(picture.goals):
        complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
        varied = [
            name for name in picture.dimensions
            if all(name in trial.params for trial in complete) and len({trial.params[name] for trial in complete}) > 1
        ]  # fmt: skip
        shares_of[goal] = {}
        if len(complete) >= LEAST and varied:
            target = _target(at) if len(picture.goals) > 1 else None
            shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), params=varied, target=target)
            shares_of[goal] = {name: round(share, 4) for name, share in shares.items()}
    return shares_of


def _target(at: int) -> Any:
    return lambda trial: trial.values[at]


def report(picture: StudyPicture, folder: Path, recipe: Path, options: Options) -> str:
    """One page: the table with links to runs, history, importances, slices, parallel coordinates, curves.

    Raises: StudyError, MissingPackageError without plotly.
    """
    if find_spec("plotly") is None:
        raise MissingPackageError(f"the report needs plotly; type: {storage.INSTALL}")
    study = loaded(picture, folder, recipe, options)
    parts = [_table(picture, folder)]
    for at, (title, figure) in enumerate(_figures(study, picture)):
        drawn = figure.to_html(full_html=False, include_plotlyjs=at == 0)
        parts.append(f"<h2>{html.escape(title)}</h2>\n{drawn}")
    style = "body{font:15px sans-serif;margin:2em auto;max-width:70em}td,th{padding:2px 12px;text-align:left}"
    name = html.escape(picture.name)
    return (
        f'<!doctype html><meta charset="utf-8"><title>{name}</title><style>{style}</style>\n<h1>{name}</h1>\n'
        f"<p>{html.escape(headline(picture))}</p>\n" + "\n".join(parts) + "\n"
    )


def _table(picture: StudyPicture, folder: Path) -> str:
    head, *body = rows(picture)
    runs: Mapping[str, str] = {str(row.number): row.run for row in picture.trials}
    lines = ["<table><tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"]
    for row in body:
        run = runs.get(row[0], "")
        inside = Path(run).name if run else ""
        number = f'<a href="{int(row[0]):04d}/{html.escape(inside)}/">{row[0]}</a>' if run else row[0]
        lines.append(f"<tr><td>{number}</td>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:]) + "</tr>")
    return "\n".join([*lines, "</table>"])


def _figures(study: Study, picture: StudyPicture) -> Iterator[tuple[str, Any]]:
    from optuna import visualization as v
    from optuna.importance import PedAnovaImportanceEvaluator

    complete = picture.count("complete")
    several = len(picture.goals) > 1
    for at, (goal, _) in enumerate(picture.goals):
        target = {"target": _target(at), "target_name": goal} if several else {"target_name": goal}
        if complete:
            yield f"History of {goal}", v.plot_optimization_history(study, **target)
            yield f"Slices of {goal}", v.plot_slice(study, **target)
        if complete >= LEAST:
            yield (
                f"Importances for {goal}",
                v.plot_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), **target),
            )
            yield f"Parallel coordinates of {goal}", v.plot_parallel_coordinate(study, **target)
    if several and complete:
        yield "Pareto front", v.plot_pareto_front(study)
    if not several and any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        yield "Curves", v.plot_intermediate_values(study)
