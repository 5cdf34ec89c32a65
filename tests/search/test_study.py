"""A study carried out: trials as runs, what they share, what is known beforehand, what one gets."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ftc, ftc_process
from tests.search import toy
from tests.search.toy import lines, recipe, run, states, trials, write


@pytest.mark.slow
def test_trials_then_the_recipe_with_the_best(tmp_path: Path) -> None:
    write(tmp_path, recipe("trials = 5, sampler = random"))
    done = run(tmp_path)
    assert done["code"] == 0, done["stderr"]
    assert states(done) == ["complete"] * 5
    assert lines(tmp_path / "rows.log") == 1, "no dimension reaches it: once for all trials"
    assert lines(tmp_path / "starts.log") == 5, "the best trial's stage is not run again"
    best = min(trials(done), key=lambda trial: trial["values"]["score.loss"])
    assert done["study"]["best"] == best["number"]
    lr, rank = (best["parameters"][name] for name in ("lr", "rank"))
    assert (tmp_path / "best.txt").read_text(encoding="utf-8") == f"{lr} {rank}\n", "what follows has the best values"
    assert {stage["stage"]: stage["status"] for stage in done["stages"]} == {
        "rows": "cached", "score": "cached", "after": "done",
    }  # fmt: skip
    assert "once for all trials: rows" in done["stderr"]
    for trial in trials(done):
        assert (tmp_path / trial["run"] / "20-score" / "result.json").exists(), "each trial has its run"


@pytest.mark.slow
def test_again_there_is_nothing_to_do_and_more_trials_continue_it(tmp_path: Path) -> None:
    write(tmp_path, recipe("trials = 3, sampler = random"))
    first = run(tmp_path)
    again = run(tmp_path)
    assert (again["code"], trials(again)) == (0, trials(first))
    assert lines(tmp_path / "starts.log") == 3
    write(tmp_path, recipe("trials = 5, sampler = random"))
    more = run(tmp_path)
    assert trials(more)[:3] == trials(first) and states(more) == ["complete"] * 5
    assert len({trial["parameters"]["lr"] for trial in trials(more)}) == 5, "the same numbers are not drawn again"


@pytest.mark.parametrize(
    ("dimension", "above"),
    [("log(1e-4 .. 1e-1, first = 3e-2)", ""), ("log(1e-4 .. 1e-1)", "optim { lr = 3e-2 }\n")],
    ids=["first", "a weaker layer"],
)
def test_the_first_trial_has_the_recipes_own_value(dimension: str, above: str, tmp_path: Path) -> None:
    from ftdsl.language.resolve.resolve import Options, resolve
    from ftdsl.session import Session

    text = above + (
        f'sft {{ optim {{ lr ~ {dimension} }} model = hf("a/b"), data = file("x.jsonl"), duration = 1 epoch }}\n'
        "search { goal = minimize(sft.train_loss), trials = 2 }\n"
    )
    (tmp_path / "s.ft").write_text(text, encoding="utf-8")
    resolved = resolve(tmp_path / "s.ft", "s.ft", Options(), Session())
    assert resolved is not None
    stage = next(stage for stage in resolved.stages if stage.name == "sft")
    assert [(one.name, one.first) for one in stage.dimensions.values()] == [("sft.optim.lr", "0.03")]


@pytest.mark.slow
def test_a_first_value_is_tried_first(tmp_path: Path) -> None:
    write(
        tmp_path,
        recipe("trials = 2").replace("1e-1)", "1e-1, first = 3e-2)").replace("choice(4, 8)", "choice(4, 8, first = 8)"),
    )
    assert trials(run(tmp_path))[0]["parameters"] == {"lr": "0.03", "rank": "8"}


INFEASIBLE = (
    'data kept { source = file("rows.jsonl"), holdout { eval ~ choice(1, 2, 40) } }\n'
    + toy.SHARED
    + '''
shell score {
  after = [rows, kept]
  run = """
    echo start >> inputs/starts.log
    n=$(wc -l < {kept.path}/eval.jsonl)
    printf '{{"metrics": {{"n": %s}}}}' $n > $(dirname {score.path})/result.json
  """
}
search { goal = maximize(score.n), trials = 6, sampler = tpe(startup = 3) }
'''
)


@pytest.mark.slow
def test_what_is_known_to_be_wrong_is_never_launched(tmp_path: Path) -> None:
    """A third of the space holds out more rows than there are: check says so, and the sampler is told."""
    (tmp_path / "rows.jsonl").write_text(rows(20), encoding="utf-8")
    write(tmp_path, INFEASIBLE)
    done = run(tmp_path)
    assert done["code"] == 0, done["stderr"]
    refused = [trial for trial in trials(done) if trial["state"] == "infeasible"]
    ran = [trial for trial in trials(done) if trial["state"] == "complete"]
    assert len(ran) == 6, "what is refused is none of the trials"
    assert {trial["parameters"]["kept.holdout.eval"] for trial in refused} <= {"40"}
    assert "40" not in {trial["parameters"]["kept.holdout.eval"] for trial in ran}
    assert all("hold out" in trial["reason"] and not trial["run"] for trial in refused)
    assert lines(tmp_path / "starts.log") == len({trial["parameters"]["kept.holdout.eval"] for trial in ran}), (
        "same values, same result"
    )
    assert done["study"]["front"] and trials(done)[done["study"]["best"]]["values"] == {"score.n": 2}


def rows(count: int) -> str:
    return "".join(json.dumps({"instruction": f"q{at}", "output": f"a{at}"}) + "\n" for at in range(count))


def test_a_space_of_which_nothing_runs_says_why(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(rows(20), encoding="utf-8")
    write(tmp_path, INFEASIBLE.replace("choice(1, 2, 40)", "choice(30, 40)"))
    done = run(tmp_path)
    assert done["code"] == 1 and "hold out" in done["stderr"]
    assert not (tmp_path / "starts.log").exists()


@pytest.mark.slow
def test_a_trial_that_fails_is_kept_with_its_reason(tmp_path: Path) -> None:
    write(tmp_path, recipe("trials = 8, sampler = random", "[ {rank} = 4 ] && exit 7"))
    done = run(tmp_path)
    assert done["code"] == 0, done["stderr"]
    ranks = {
        trial["state"]: {one["parameters"]["rank"] for one in trials(done) if one["state"] == trial["state"]}
        for trial in trials(done)
    }
    assert ranks == {"failed": {"4"}, "complete": {"8"}}
    assert all("7" in trial["reason"] for trial in trials(done) if trial["state"] == "failed")


@pytest.mark.slow
def test_a_study_whose_trials_all_fail_ends_early(tmp_path: Path) -> None:
    write(tmp_path, recipe("trials = 30", "exit 7"))
    done = run(tmp_path)
    assert done["code"] == 1 and states(done) == ["failed"] * 5
    assert "the first 5 trials failed" in done["stderr"]


@pytest.mark.slow
def test_a_goal_that_is_no_number_fails_the_trial(tmp_path: Path) -> None:
    write(tmp_path, recipe("trials = 4, sampler = random", "[ {rank} = 4 ] && loss='\"nan\"'"))
    done = run(tmp_path)
    bad = [trial for trial in trials(done) if trial["parameters"]["rank"] == "4"]
    assert bad and all(trial["state"] == "failed" and "nan" in trial["reason"] for trial in bad)


@pytest.mark.slow
def test_several_goals_keep_the_front(tmp_path: Path) -> None:
    write(tmp_path, recipe("trials = 8, sampler = random", goal="[lowest(score.loss), lowest(score.rank)]"))
    done = run(tmp_path)
    assert done["code"] == 0, done["stderr"]
    front = [trials(done)[number] for number in done["study"]["front"]]
    for one in front:
        assert not any(
            all(other["values"][name] <= one["values"][name] for name in one["values"])
            and other["values"] != one["values"]
            for other in trials(done)
        )
    assert done["study"]["best"] == min(front, key=lambda trial: trial["values"]["score.loss"])["number"]


@pytest.mark.parametrize("sampler", ["tpe(seed = 3)", "random", "cmaes"])
@pytest.mark.slow
def test_samplers(sampler: str, tmp_path: Path) -> None:
    write(tmp_path, recipe(f"trials = 4, sampler = {sampler}"))
    done = run(tmp_path)
    assert (done["code"], states(done)) == (0, ["complete"] * 4), done["stderr"]


@pytest.mark.slow
def test_a_grid_is_all_of_it(tmp_path: Path) -> None:
    write(tmp_path, recipe("sampler = grid(points = 3)"))
    done = run(tmp_path)
    assert done["code"] == 0, done["stderr"]
    tried = {(trial["parameters"]["lr"], trial["parameters"]["rank"]) for trial in trials(done)}
    assert tried == {(lr, rank) for lr in ("0.0001", "0.0031623", "0.1") for rank in ("4", "8")}


@pytest.mark.skipif(bool(sys.modules.get("torch")), reason="torch is beside ftc here")
@pytest.mark.slow
def test_a_sampler_whose_packages_are_missing(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    from importlib.util import find_spec

    write(tmp_path, recipe("trials = 2, sampler = gp"))
    done = run(tmp_path)
    assert done["code"] == (0 if find_spec("torch") and find_spec("scipy") else 1)
    assert find_spec("torch") or "pip install" in done["problems"][0]["help"]


@pytest.mark.slow
def test_side_by_side(tmp_path: Path) -> None:
    """As many trials as there are places wait for each other: one after the other they would wait for ever."""
    meet = "echo x >> inputs/here.log; for i in $(seq 300); do [ $(wc -l < inputs/here.log) -ge 2 ] && break; sleep 0.1; done"
    write(tmp_path, recipe("trials = 2, parallel = 2", meet))
    done = run(tmp_path)
    assert (done["code"], states(done)) == (0, ["complete"] * 2), done["stderr"]
    assert trials(done)[1]["started"] < trials(done)[0]["ended"]


CONDITIONAL = """
search { goal = minimize(score.loss), trials = 8, sampler = random }
profile ~ choice(small, large)
let rank = 1
shell score {
  seed = 1
  run = "printf '{{\\"metrics\\": {{\\"loss\\": %s}}}}' {rank} > $(dirname {score.path})/result.json"
}
profile small { score { env { A ~ choice("1", "2") } } }
profile large { score { env { B ~ choice("3", "4") } } }
"""


@pytest.mark.slow
def test_dimensions_of_a_profile_are_those_of_its_trials(tmp_path: Path) -> None:
    write(tmp_path, CONDITIONAL.replace("  seed = 1\n", ""))
    done = run(tmp_path)
    assert done["code"] == 0, done["stderr"]
    seen = {trial["parameters"]["profile"]: set(trial["parameters"]) for trial in trials(done)}
    assert seen == {"small": {"profile", "score.env.A"}, "large": {"profile", "score.env.B"}}


@pytest.mark.slow
def test_what_a_person_gets(tmp_path: Path) -> None:
    write(tmp_path, recipe("trials = 5, sampler = random"))
    assert ftc("search", "show", "s.ft", cwd=tmp_path).returncode == 1, "there is none yet"
    done = run(tmp_path)
    best = trials(done)[done["study"]["best"]]
    text = ftc("search", "show", "s.ft", cwd=tmp_path).stdout
    assert "5 of 5 trials: 5 done" in text and text.index("best") < text.index("done  ")
    shown = json.loads(ftc("search", "best", "s.ft", "--json", cwd=tmp_path).stdout)
    assert shown["trials"][0]["parameters"] == best["parameters"]
    table = list(csv.DictReader(io.StringIO(ftc("search", "export", "s.ft", cwd=tmp_path).stdout)))
    assert [float(row["score.loss"]) for row in table] == [trial["values"]["score.loss"] for trial in trials(done)]
    shares = json.loads(ftc("search", "importance", "s.ft", "--json", cwd=tmp_path).stdout)["importance"]["score.loss"]
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)
    assert "5 of 5 trials" in ftc("status", "s.ft", cwd=tmp_path).stdout
    page = ftc("search", "report", "s.ft", cwd=tmp_path)
    assert page.returncode == 0, page.stderr
    html = (tmp_path / page.stdout.strip()).read_text(encoding="utf-8")
    assert "Plotly.newPlot" in html and "History of score.loss" in html
    applied = ftc("search", "best", "s.ft", "--apply", cwd=tmp_path)
    assert applied.returncode == 0, applied.stderr
    after = (tmp_path / "s.ft").read_text(encoding="utf-8")
    assert f"let lr = {best['parameters']['lr']}\n" in after and "~" not in after
    plain = run(tmp_path)
    assert plain["code"] == 0 and "study" not in plain, "nothing is searched any more"


@pytest.mark.slow
def test_a_study_of_another_space_is_not_mixed_with_this_one(tmp_path: Path) -> None:
    write(tmp_path, recipe("trials = 2"))
    assert run(tmp_path)["code"] == 0
    for text, code in (
        (recipe("trials = 2").replace("1e-1)", "1)"), "`lr` log(0.0001 .. 0.1) -> log(0.0001 .. 1)"),
        (recipe("trials = 2", goal="minimize(score.rank)"), "the goal of this study was score.loss"),
        (recipe("trials = 2", "loss=1"), "`score.run`"),
    ):
        write(tmp_path, text)
        done = run(tmp_path)
        assert done["code"] == 1 and code in json.dumps(done["problems"], ensure_ascii=False), done["problems"]
        assert done["problems"][0]["code"] == "FT095" and "--fresh" in done["problems"][0]["help"]
    assert run(tmp_path, "--fresh")["code"] == 0
    assert lines(tmp_path / "rows.log") == 1, "a new study takes what is the same"
    assert sorted(folder.name for folder in (tmp_path / "runs" / "s").glob("study*")) == ["study", "study-2"]


@pytest.mark.slow
def test_its_time_is_limited(tmp_path: Path) -> None:
    write(tmp_path, recipe("trials = 500, timeout = 3s"))
    done = run(tmp_path)
    assert done["code"] == 0, done["stderr"]
    assert 1 <= states(done).count("complete") < 100 and "its time is up" in done["stderr"]


@pytest.mark.slow
def test_optuna_is_loaded_by_a_study_alone(tmp_path: Path) -> None:
    write(tmp_path, recipe("trials = 1"))
    (tmp_path / "plain.ft").write_text(toy.SHARED, encoding="utf-8")
    code = "import sys\nfrom ftdsl.cli.main import main\nmain(sys.argv[1:])\nprint('optuna' in sys.modules)"
    for arguments, loaded in (
        (["check", "s.ft"], "False"),
        (["run", "plain.ft", "--foreground"], "False"),
        (["run", "s.ft", "--foreground"], "True"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == loaded, arguments


@pytest.mark.slow
def test_without_optuna_it_says_what_to_install(tmp_path: Path) -> None:
    write(tmp_path, recipe("trials = 1"))
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(
        "import importlib.util as util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'optuna' else find(name, *more)\n",
        encoding="utf-8",
    )
    done = ftc_process("run", "s.ft", cwd=tmp_path, PYTHONPATH=str(tmp_path / "hidden"))
    assert done.returncode == 1 and "pip install 'ftdsl[search]'" in done.stderr
    assert not (tmp_path / "runs" / "s" / "study").exists()


@pytest.mark.slow
def test_a_budget_ends_the_study_with_what_it_has(tmp_path: Path) -> None:
    write(tmp_path, "budget { time = 3s }\n" + recipe("trials = 500, sampler = random"))
    done = run(tmp_path)
    assert done["code"] == 0, done["stderr"]
    assert done["study"]["over"] == "its budget of 3.0 s is used up"
    assert " of 3.0 s" in done["study"]["budget"]
    complete = states(done).count("complete")
    assert 1 <= complete < 500
    assert (tmp_path / "best.txt").exists(), "what follows runs with the best so far"
    assert sum(trial["spent"] for trial in trials(done)) >= 2.5
    again = run(tmp_path)
    assert states(again).count("complete") == complete, "the budget is the study's, not of one `ftc run`"


def test_a_budget_of_money_is_time_at_the_price_of_a_trial() -> None:
    from ftdsl.search.spending import Spending

    spending = Spending.of({"cost": 20.0}, {"sft": 2.5, "other": 90.0}, ["sft", "eval"])
    assert spending.over(7.9 * 3600) == ""
    assert spending.over(8 * 3600) == "its budget of 20.00 USD is used up"
    assert spending.text(3600) == "2.50 of 20.00 USD"
    unknown = Spending.of({"cost": 20.0}, {}, ["sft"])
    assert (unknown.over(1e9), unknown.text(1e9)) == ("", ""), "without a price there is nothing to compare"


@pytest.mark.slow
def test_a_new_study_learns_from_earlier_ones(tmp_path: Path) -> None:
    write(tmp_path, 'name = "coarse"\n' + recipe("trials = 12, sampler = random"))
    first = run(tmp_path)
    best = min(trial["values"]["score.loss"] for trial in trials(first))
    wanted = 'trials = 6, sampler = tpe(startup = 1), earlier = ["runs/coarse/study"]'
    write(tmp_path, 'name = "fine"\n' + recipe(wanted))
    done = run(tmp_path)
    assert done["code"] == 0, done["stderr"]
    assert states(done) == ["complete"] * 6, "earlier trials are none of its own"
    assert not {trial["number"] for trial in trials(done)} & set(range(12)), "their numbers are taken"
    losses = [trial["values"]["score.loss"] for trial in trials(done)]
    assert sum(losses) / 6 < sum(trial["values"]["score.loss"] for trial in trials(first)) / 12, (
        "it begins where they are good"
    )
    assert min(losses) < best + 1
    again = run(tmp_path)
    assert trials(again) == trials(done)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("choice(4, 8)", "choice(4, 16)"), "`rank` choice(4, 8), here choice(4, 16)"),
        (
            ("minimize(score.loss)", "maximize(score.loss)"),
            "the goal of the study in `runs/coarse/study` is minimize(score.loss)",
        ),
        (("runs/coarse/study", "runs/none"), "there is no study in `runs/none`"),
    ],
    ids=["space", "goal", "missing"],
)
@pytest.mark.slow
def test_a_study_that_cannot_be_learned_from_is_named(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    write(tmp_path, 'name = "coarse"\n' + recipe("trials = 2, sampler = random"))
    assert run(tmp_path)["code"] == 0
    text = 'name = "fine"\n' + recipe('trials = 2, earlier = ["runs/coarse/study"]')
    write(tmp_path, text.replace(*change))
    done = run(tmp_path)
    assert done["code"] == 1
    assert message in done["problems"][0]["message"]
    assert done["problems"][0]["line"] == 4
