"""A study over a recipe's search dimensions: each trial is the recipe with its dimensions set, carried out like any run.

Given: a recipe that searches, environments, a view. Gives: an outcome, a storage that Optuna's tools open, `study.json` for
views. Knows: Optuna, which no other package imports, and only once a study is opened.
"""
