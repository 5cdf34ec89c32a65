"""Reads what a training left behind, and says what ailed it.

Given: files that a training logged (ours, LLaMA-Factory's, the Trainer's, a bare log). Gives: `Curves`, and findings about them;
the cause of a stage that broke. Knows: what curves look like when something is wrong, and why; no engine, no recipe.
"""
