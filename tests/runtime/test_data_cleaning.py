"""Near-duplicates, filters, samples and mixtures: by content and seed, whatever the order of files and rows."""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftdsl.runtime.data import choosing, mixing, near_duplicates
from tests.runtime import planted
from tests.runtime.stage import lines, numbered, run


def rows_of(texts: list[str]) -> list[dict[str, str]]:
    return [{"instruction": text, "output": "ok"} for text in texts]


def found(likeness: float, share: float, pairs: int = 200) -> float:
    """The share of planted pairs of a likeness that `near(share)` finds."""
    rng = random.Random(7)
    texts = [text for _ in range(pairs) for text in planted.pair(rng, likeness)]
    sketcher = near_duplicates.Sketcher(share)
    import numpy as np

    bands, signs = sketcher.sketch(texts)
    digest = np.arange(len(texts), dtype=np.uint64)
    columns = [np.ascontiguousarray(bands[:, at]) for at in range(bands.shape[1])]
    dropped, leader = near_duplicates.groups(np.arange(len(texts)), digest, columns, signs, share)
    assert all(int(a) // 2 == int(b) // 2 for a, b in zip(dropped, leader, strict=True)), "never of two pairs"
    return len(dropped) / pairs


@pytest.mark.slow
def test_recall_and_false_positives_of_near_duplicates() -> None:
    """Measured over 200 planted pairs each: what is clearly above the share is found, what is clearly below is not."""
    assert found(0.95, 0.85) >= 0.995
    assert found(0.90, 0.85) >= 0.97
    assert found(0.80, 0.85) <= 0.05
    assert found(0.70, 0.85) == 0
    assert found(0.50, 0.85) == 0


@pytest.mark.slow
def test_no_near_duplicates_across_the_parts(tmp_path: Path) -> None:
    """Planted pairs of 90 to 99 percent: after the stage no two rows of different parts, or of one, are alike."""
    rng = random.Random(3)
    texts = [text for n in range(150) for text in planted.pair(rng, 0.90 + (n % 10) / 100)]
    rng.shuffle(texts)
    holdout = {"eval": {"share": 0.3}, "test": {"share": 0.1}, "seed": 5}
    plain = run(tmp_path / "plain", {"a.jsonl": lines(rows_of(texts))}, holdout=holdout)
    assert across(plain.rows("train"), plain.rows("eval")) > 20, "without it there are some"
    done = run(tmp_path / "near", {"a.jsonl": lines(rows_of(texts))}, holdout=holdout, dedupe="near", near=0.85)
    assert across(done.rows("train"), done.rows("eval")) <= 1
    assert 149 <= sum(done.report["splits"].values()) <= 152
    twin = done.dropped[0]
    assert twin["why"] == "near_duplicates"
    line = int(twin["like"].partition(":")[2])
    assert planted.jaccard(twin["row"]["instruction"], texts[line - 1]) > 0.8


def across(some: list[Any], others: list[Any]) -> int:
    return sum(
        planted.jaccard(a["instruction"], b["instruction"]) >= 0.85 for a in some for b in others
    )  # fmt: skip


@cache
def in_order() -> tuple[list[dict[str, str]], dict[str, Any], dict[str, list[str]], dict[str, Any]]:
    """Rows with copies, near-duplicates and samples among them; how they are cleaned and split; what comes of it."""
    rng = random.Random(11)
    texts = [text for n in range(10) for text in planted.pair(rng, 0.95)] + [planted.text(rng, 60) for _ in range(3)]
    rows = rows_of([*texts, texts[0]])
    spec: dict[str, Any] = {
        "dedupe": "near", "near": 0.85, "holdout": {"eval": {"share": 0.3}, "test": {"count": 2}, "seed": 9}
    }  # fmt: skip
    with TemporaryDirectory() as folder:
        wanted = run(Path(folder), {"a.jsonl": lines(rows)}, **spec)
        parts = {part: sorted(map(str, wanted.rows(part))) for part in ("train", "eval", "test")}
        return rows, spec, parts, {part: wanted.report["parts"][part]["content"] for part in parts}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(24)), cut=st.integers(1, 23))
@pytest.mark.slow
def test_the_split_is_the_same_whatever_the_order(order: list[int], cut: int, tmp_path: Path) -> None:
    """Of rows and of files."""
    rows, spec, parts, contents = in_order()
    mixed = [rows[at] for at in order]
    other = run(tmp_path / "b", {"a.jsonl": lines(mixed[:cut]), "b.jsonl": lines(mixed[cut:])}, **spec)
    assert all(parts.values())
    for part, wanted in parts.items():
        assert sorted(map(str, other.rows(part))) == wanted
        assert other.report["parts"][part]["content"] == contents[part]


def test_a_sample_is_the_same_whatever_the_order(tmp_path: Path) -> None:
    rows = numbered(50)
    one = run(tmp_path / "a", {"a.jsonl": lines(rows)}, sources=[{"path": "a.jsonl", "sample": 10}])
    other = run(tmp_path / "b", {"a.jsonl": lines(rows[::-1])}, sources=[{"path": "a.jsonl", "sample": 10}])
    assert sorted(map(str, one.rows())) == sorted(map(str, other.rows()))
    assert one.report["sources"][0]["not_sampled"] == 40


def test_rows_are_sorted_in_parts_where_they_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*numbered(60), *numbered(60)]
    wanted = run(tmp_path / "a", {"a.jsonl": lines(rows)}, dedupe="near", near=0.9).rows()
    monkeypatch.setattr(choosing, "BATCH", 7)
    monkeypatch.setattr(near_duplicates, "BATCH", 7)
    assert run(tmp_path / "b", {"a.jsonl": lines(rows)}, dedupe="near", near=0.9).rows() == wanted


def test_lengths_by_the_tokenizer_else_by_bytes_and_said(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    (tmp_path / "model").mkdir()
    words.save(str(tmp_path / "model" / "tokenizer.json"))
    rows = [{"instruction": "a " * n, "output": "a"} for n in (1, 4, 9, 40)]
    spec: dict[str, Any] = {"tokens": [3, 20], "longest": 9}
    done = run(tmp_path, {"a.jsonl": lines(rows)}, tokenizer={"path": "model"}, **spec)
    assert done.report["dropped"] == {"too_long": 1, "tokens": 2}
    assert done.report["tokens"]["quantiles"][0] == 5
    assert done.report["tokens"]["exact"]
    done = run(tmp_path, {"a.jsonl": lines(rows)}, tokenizer={"made_by": "scratch()"}, **spec)
    assert "lengths are judged by bytes, 4 a token: the tokenizer is made later, by `scratch()`" in done.stderr
    assert not done.report["tokens"]["exact"]


@pytest.mark.slow
def test_languages_are_kept_and_what_cannot_be_told_stays(tmp_path: Path) -> None:
    texts = ["Where does the river begin, and how long is it?", "Wo beginnt der Fluss, und wie lang ist er?",
             "Où commence la rivière, et quelle est sa longueur ?", "42"]  # fmt: skip
    done = run(tmp_path, {"a.jsonl": lines(rows_of(texts))}, languages=["en", "de"])
    assert [row["instruction"] for row in done.rows()] == [texts[0], texts[1], texts[3]]
    assert done.report["dropped"] == {"languages": 1}
    assert "1 rows have no reliably detected language" in done.stderr
    assert (
        "`klingon` is not a language that can be detected"
        in run(tmp_path, {"a.jsonl": ""}, languages=["klingon"]).stderr
    )


def test_rows_without_any_text_are_dropped_by_their_own_rule(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": ""}]}
    good = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    from tests.runtime.stage import OPENAI

    shape = {"format": "openai", "columns": {"messages": "messages"}, "roles": OPENAI}
    done = run(tmp_path, {"a.jsonl": lines([chat, good])}, drop=["no_text"], **shape)
    assert done.report["dropped"] == {"no_text": 1}


# --- mixtures


def mixture(tmp_path: Path, until: str, *weights: float) -> Counter[str]:
    sizes = {"a": 40, "b": 10}
    files = {
        f"{name}.jsonl": lines([{"instruction": f"{name}{n}", "output": "x"} for n in range(size)])
        for name, size in sizes.items()
    }
    sources = [
        {"path": name, **({"weight": weights[at]} if weights else {})} for at, name in enumerate(files)
    ]  # fmt: skip
    rows = run(tmp_path, files, sources=sources, mix=until).rows()
    assert rows == run(tmp_path, files, sources=sources, mix=until).rows(), "the same every time"
    return Counter(row["instruction"][0] for row in rows)


def test_mixtures_in_turn_end_as_they_are_told(tmp_path: Path) -> None:
    assert mixture(tmp_path, "concat") == {"a": 40, "b": 10}
    assert mixture(tmp_path, "first") == {"a": 10, "b": 10}
    assert mixture(tmp_path, "all") == {"a": 40, "b": 39}
    assert mixture(tmp_path, "once") == {"a": 40, "b": 10}


def test_weights_are_kept(tmp_path: Path) -> None:
    found = mixture(tmp_path, "all", 3, 1)
    assert 0.6 < found["a"] / found.total() < 0.9
    drawn = Counter(mixing.order([10**5, 10**5], [0.7, 0.3], "first", 1))
    assert abs(drawn[0] / drawn.total() - 0.7) < 0.01
