"""Resolution of a tree to values: includes, parameters, profiles, `--set` and axes.

Input: a tree and options. Output: the values of each stage, each with its origin and all layers that set it. Contains scopes,
layers and the types of the vocabulary.
"""
