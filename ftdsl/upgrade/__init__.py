"""What people have, rewritten for other versions of what runs it: recipes, LLaMA-Factory YAML, DeepSpeed JSON.

Given a text and the versions it is to go to; gives edits, each with its reason and source, and what only a person can tell.
"""
