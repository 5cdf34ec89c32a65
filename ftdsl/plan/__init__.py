"""Recipe to plan.

Given: a recipe, and the abilities of each stage's engine (`engine.py`). Gives: a plan with nothing left to `auto`, the batch
equation solved and folders numbered, each choice with its reason. Knows: the estimates and how to search layouts; no engine.
"""
