"""The engines: built in, from another package (entry points), or registered by a program.

An engine's modules are imported only when a recipe names it.
"""

from __future__ import annotations

from importlib import import_module

from ftdsl import catalog
from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.engines.engine import Engine

_loaded: dict[str, Engine] = {}


def register(engine: Engine) -> None:
    """Add an engine for the life of the process; recipes may then write `engine = NAME`."""
    _loaded[engine.name] = engine
    catalog.register_engine(engine.name, engine.overlay)


def forget(name: str) -> None:
    """Undo `register`."""
    _loaded.pop(name, None)
    catalog.forget_engine(name)


def get(name: str) -> Engine | None:
    """The engine of that name; None if there is none."""
    if name not in _loaded:
        if name in catalog.built_in_engines():
            _loaded[name] = import_module(f"ftdsl.engines.{name}.engine").ENGINE
        elif point := catalog.engine_entry_points().get(name):
            register(point.load())
    return _loaded.get(name)


def default() -> Engine:
    """The engine of a recipe that names none."""
    engine = get(vocabulary().block("file").keys["engine"].auto)
    assert engine is not None, "the vocabulary's default is built in"
    return engine


def distributions() -> list[str]:
    """Distributions of any known engine whose versions may change a result."""
    known = [engine for name in catalog.known_engines() if (engine := get(name)) is not None]
    return list(dict.fromkeys(name for engine in known for name in engine.distributions))


def names() -> list[str]:
    """The names of all engines."""
    return catalog.names("engines")
