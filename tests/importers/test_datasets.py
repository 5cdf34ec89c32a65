"""Lists of data sets and their rows, as `ftc check` sees them for a YAML: types, columns, tags, numbers of rows."""

from __future__ import annotations

import json

import pytest

from tests.importers.test_kinds import YAML, Workspace, here

__all__ = ["here"]


ROW = '{"instruction": "a", "input": "", "output": "b"}'


def listed(here: Workspace, entry: object, rows: str = f"{ROW}\n") -> None:
    here.write("data/dataset_info.json", json.dumps({"rows": entry}))
    here.write("data/r.jsonl", rows)
    here.write("t.yaml", YAML)


@pytest.mark.parametrize(
    ("entry", "key", "takes"),
    [
        ({"ranking": "yes"}, "ranking", "true or false"),
        ({"num_samples": "100"}, "num_samples", "a whole number above 0"),
        ({"num_samples": 0}, "num_samples", "a whole number above 0"),
        ({"tags": "role"}, "tags", "a table"),
        ({"columns": ["a"]}, "columns", "a table"),
        ({"columns": {"prompt": 3}}, "columns.prompt", "a text"),
        ({"split": ["train"]}, "split", "a text"),
    ],
)
def test_values_of_another_type(here: Workspace, entry: dict[str, object], key: str, takes: str) -> None:
    listed(here, {"file_name": "r.jsonl", **entry})
    assert here.codes("data/dataset_info.json")["FT523"] == f"`{key}` of `rows` takes {takes}"
    assert f"`{key}` in the entry of `rows` takes {takes}" in here.checked("t.yaml")[1]


def test_an_unknown_format_in_the_list_itself(here: Workspace) -> None:
    listed(here, {"file_name": "r.jsonl", "formatting": "chatml"})
    assert here.codes("data/dataset_info.json")["FT522"] == "an unknown format: `chatml`"


@pytest.mark.parametrize(
    ("entry", "guess"),
    [
        ({"columns": {"role_tag": "role"}}, "tags.role_tag"),
        ({"messages": "m"}, "columns.messages"),
        ({"role_tag": "r"}, "tags.role_tag"),
    ],
)  # fmt: skip
def test_a_key_in_the_wrong_table(here: Workspace, entry: dict[str, object], guess: str) -> None:
    listed(here, {"file_name": "r.jsonl", **entry})
    assert f"did you mean `{guess}`?" in here.checked("data/dataset_info.json")[1]


@pytest.mark.parametrize("content", ['[{"file_name": "r.jsonl"}]', "3", '{"rows": '])
def test_a_list_of_data_sets_that_is_no_object(here: Workspace, content: str) -> None:
    here.write("data/dataset_info.json", content)
    here.write("t.yaml", YAML)
    for name in ("t.yaml", "data/dataset_info.json"):
        status, out = here.checked(name)
        assert status == 1 and "FT050" in out and "FT051" not in out, name


COLUMNS = {
    "pairs": ("dpo", {"ranking": True, "columns": {"prompt": "q", "chosen": "good", "rejected": "worse"}},
              '{"q": 1, "good": 2, "bad": 3}',
              '"prompt": "q", "chosen": "good", "rejected": "bad"'),
    "alpaca": ("sft", {}, '{"question": "a", "answer": "b"}', '"prompt": "question", "response": "answer"'),
    "alpaca without input": ("sft", {}, '{"instruction": "a", "output": "b"}', '"prompt": "instruction", "response": "output"'),
    "chat": ("sft", {}, '{"messages": []}', '"formatting": "sharegpt", "columns": {"messages": "messages"}'),
    "nothing like it": ("sft", {}, '{"x": "a", "y": "b"}', '"prompt": "…", "response": "…"'),
}  # fmt: skip


@pytest.mark.parametrize(("stage", "entry", "row", "columns"), COLUMNS.values(), ids=COLUMNS.keys())
def test_the_columns_that_rows_suggest(
    here: Workspace, stage: str, entry: dict[str, object], row: str, columns: str
) -> None:
    listed(here, {"file_name": "r.jsonl", **entry}, row + "\n")
    here.write("t.yaml", YAML.replace("stage: sft", f"stage: {stage}"))
    assert columns in here.checked("t.yaml")[1]


def test_cells_without_a_header_are_no_column(here: Workspace) -> None:
    listed(here, {"file_name": "r.csv"})
    here.write("data/r.csv", "question,answer\na,b,c,d\n")
    assert "FT502" in here.codes("t.yaml")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('<row>,\n<row>,\n', "need the brackets of a list"),
        ('[<row>\n<row>]', "a comma between two rows is missing"),
        ('[<row>,\n]', "a comma before the end of the list"),
        ('[<row>,,<row>]', "a comma too many"),
        ('[<row>]\n[<row>]', "the list ends here"),
    ],
)  # fmt: skip
def test_commas_between_rows(here: Workspace, text: str, why: str) -> None:
    listed(here, {"file_name": "r.json"})
    here.write("data/r.json", text.replace("<row>", ROW))
    assert why in here.codes("t.yaml")["FT511"]


@pytest.mark.parametrize(
    "text",
    [
        "[\n  <row>,\n  <row>\n]\n",
        "[ ]",
    ],
)
def test_lists_that_are_right(here: Workspace, text: str) -> None:
    listed(here, {"file_name": "r.json"})
    here.write("data/r.json", text.replace("<row>", ROW))
    assert "FT511" not in here.codes("t.yaml")


@pytest.mark.parametrize(("role", "tag"), [("system", "system_tag"), ("tool", "observation_tag")])
def test_a_role_that_tags_do_not_name(here: Workspace, role: str, tag: str) -> None:
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    turns = [{"role": role, "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    listed(here, {"file_name": "r.jsonl", "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags},
           json.dumps({"messages": turns}) + "\n")  # fmt: skip
    text = here.codes("t.yaml")["FT525"]
    assert f"and `tags` has no `{tag}`; known: user, assistant;" in text


@pytest.mark.parametrize(("held", "wrong"), [("100", True), ("5", True), ("4", False), ("0.1", False)])
def test_rows_held_out_are_fewer_than_there_are(here: Workspace, held: str, wrong: bool) -> None:
    listed(here, {"file_name": "r.jsonl"}, f"{ROW}\n" * 5)
    here.write("t.yaml", YAML + f"val_size: {held}\n")
    assert ("FT528" in here.codes("t.yaml")) == wrong


def test_the_samples_of_an_entry_are_counted(here: Workspace) -> None:
    listed(here, {"file_name": "r.jsonl", "num_samples": 20}, f"{ROW}\n" * 50)
    here.write("x.ft", 'sft { model = hf("Qwen/Qwen3-4B"), template = qwen3, data = file("data/dataset_info.json", '
                       'entry = "rows"), '
                       "duration = 2 epochs, lora {}, batch { global = 4, micro = 1 } }\n")  # fmt: skip
    from ftdsl.plan.count_rows import steps_of
    from ftdsl.session import Files

    plan = here.compiled("x.ft").plan
    assert plan is not None
    assert steps_of(plan.stages[0], plan.recipe, Files())[0] == 10
