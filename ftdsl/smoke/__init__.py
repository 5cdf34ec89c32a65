"""Smoke runs: a recipe reduced until it runs on any machine.

Given: a recipe. Gives: the same stages with toy models, a few rows and steps, generated data, and a record of every replacement.
Knows: the table in catalog/data/smoke.toml; no engine.
"""
