"""Code that runs under an engine's Python.

Given: a spec beside it (`stage.json`, `data.json`, …). Gives: rows, models, metrics and events. Knows: the engine's packages;
it is copied beside a run, run by path, and imports nothing else of ftdsl.
"""
