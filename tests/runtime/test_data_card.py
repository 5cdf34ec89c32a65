"""The card: a page of its own that shows what the report says, and never runs what stands in the data."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from ftdsl.runtime.data.card import above, short, size
from tests.runtime.stage import CHAT, lines, numbered, run

EVIL = "<script>alert(1)</script> \" onload='x' {{ 7 * 7 }}"


class Page(HTMLParser):
    """Tags, and all text that is seen."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_card_shows_the_report_and_escapes_the_data(tmp_path: Path) -> None:
    rows = [*numbered(40), {"instruction": EVIL, "input": "", "output": EVIL}]
    name = "a<b>.jsonl"
    done = run(tmp_path, {name: lines([*rows, rows[0]])}, dedupe="exact", holdout={"eval": {"count": 4}, "seed": 1})
    page = Page((done.folder / "card.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.links == [], "nothing is fetched from elsewhere"
    assert "42 rows of 1 file: 37 to train on, 4 to evaluate with." in page.text
    assert "the same as another row" in page.text
    assert name in page.text
    assert done.report["parts"]["train"]["sha256"] in page.text
    evil = run(tmp_path, {"b.jsonl": lines(rows[-1:])})
    assert EVIL in Page((evil.folder / "card.html").read_text(encoding="utf-8")).text, "shown as it stands"


def test_chats_are_shown_turn_by_turn(tmp_path: Path) -> None:
    chat = {"conversations": [{"from": "human", "value": "How old is the moon?"}, {"from": "gpt", "value": "Old."}]}
    done = run(
        tmp_path, {"a.jsonl": lines([chat])}, format="sharegpt", columns={"messages": "conversations"}, roles=CHAT
    )
    text = (done.folder / "card.html").read_text(encoding="utf-8")
    assert '<div class="field asked"><small>human</small>How old is the moon?</div>' in text
    assert '<div class="field answer"><small>gpt</small>Old.</div>' in text


def test_the_same_data_gives_the_same_report_and_card(tmp_path: Path) -> None:
    files = {"a.jsonl": lines(numbered(200))}
    texts = []
    for _ in range(2):
        done = run(tmp_path, files, holdout={"eval": {"share": 0.1}, "seed": 3})
        texts.append([(done.folder / name).read_text(encoding="utf-8") for name in ("report.json", "card.html")])
    assert texts[0] == texts[1]


def test_numbers_as_people_write_them() -> None:
    assert [size(0), size(5_010_000_000), size(2_890_000)] == ["0 B", "5.01 GB", "2.89 MB"]
    assert [short(999_999), short(12_600_000)] == ["999,999", "12.6 M"]
    assert above(list(range(1001)), 900) == 1 - 901 / 1001
