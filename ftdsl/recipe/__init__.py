"""The typed recipe.

Input: resolved values with origins. Output: stages with settings, their lineage (the model each starts from and produces), shapes
of data, and semantic errors (`rules/`). Contains the meaning of stages and keys; depends on no engine.
"""
