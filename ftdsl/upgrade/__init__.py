"""Rewrites recipes, LLaMA-Factory YAML and DeepSpeed JSON for other versions of engines and libraries.

Given: a text and the target versions. Gives: edits, each with its reason and source, and what the user must decide. Knows: the
history of keys, from the catalogue.
"""
