"""Every parameter of the engine has exactly one standing; every word and rule of the overlay leads somewhere."""

from __future__ import annotations

import pytest

from ftdsl import catalog
from ftdsl.catalog.vocabulary import STAGE_KINDS, vocabulary
from ftdsl.engines import registry
from ftdsl.engines.llamafactory import lowerings
from ftdsl.engines.shared import overlay

SCHEMA = catalog.engine_schema("llamafactory")


def test_every_parameter_has_one_standing() -> None:
    assert len(SCHEMA) > 300
    for name in SCHEMA:
        assert catalog.parameter_status("llamafactory", name) is not None, name
    overlay = catalog.overlay("llamafactory")
    lists = [set(overlay[table]["keys"]) for table in ("_derived", "_dead", "_passthrough")]
    assert not lists[0] & lists[1] | lists[0] & lists[2] | lists[1] & lists[2]
    told = {
        to.split(":")[0]
        for table, entries in overlay.items()
        if not table.startswith("_")
        for entry in entries.values()
        for to in entry["to"]
        if "." not in to and to != "own"
    }
    unknown = told - set(SCHEMA) - {"run_name"}
    assert unknown <= {"ray_num_workers", "master_addr", "master_port", "ray_init_kwargs", "media_dir"}, unknown
    assert not told & (lists[2] | lists[1]), "a word and passthrough at once"


LOWERED = [(engine.name, kind) for engine in map(registry.get, registry.names()) if engine
           for kind in engine.lowerings if kind != "quantize"]  # fmt: skip


@pytest.mark.parametrize(("engine", "kind"), LOWERED)
def test_every_word_of_a_stage_is_in_the_overlay(engine: str, kind: str) -> None:
    known = dict(overlay.entries(engine, kind))
    for name in vocabulary().keys_of(kind):
        assert name in known, name
    for block in vocabulary().blocks_in(kind):
        if engine != "llamafactory" and block.name not in catalog.overlay(engine):
            continue  # none of its keys: each is refused where it is written
        for key in block.keys:
            assert f"{block.name}.{key}" in known or block.open, f"{block.name}.{key}"


def test_every_rule_is_carried_out() -> None:
    entries = [entry for kind in STAGE_KINDS for _, entry in overlay.entries("llamafactory", kind)]
    named = {entry[word] for entry in entries for word in ("rule", "by") if word in entry}
    carried = lowerings.names((*lowerings.TRAINING, *lowerings.SCORING, *lowerings.QUANTISING))
    assert named - carried == {"format"}, "said in a data stage, which no table of the engine's reads"
