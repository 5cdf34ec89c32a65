"""Tree to values: includes, parameters, profiles, `--set` and axes.

Given: a tree and options. Gives: one set of values per stage, each with its origin and all layers that set it. Knows: scopes,
layers and the types of the vocabulary.
"""
