"""The language.

Given: text. Gives: a tree (parsing never fails), formatted text, and resolved values with origins (`resolve/`). Knows: grammar,
types, units and scopes; not what keys mean.
"""
