"""The typed recipe.

Given: resolved values with origins. Gives: stages with settings, their lineage (what each starts from and makes), shapes of data,
and errors of meaning (`rules/`). Knows: what stages and their keys mean; no engine.
"""
