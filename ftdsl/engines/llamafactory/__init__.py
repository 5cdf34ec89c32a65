"""LLaMA-Factory: the built-in engine.

Given: a `StageContext`. Gives: jobs that train, score, merge and quantise, and the answers that the plan needs (`abilities.py`).
Knows: LLaMA-Factory's parameters, files, limits and packages; it imports no other engine.
"""
