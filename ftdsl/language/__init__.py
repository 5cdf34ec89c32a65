"""The language.

Input: text. Output: a syntax tree (parsing never fails), formatted text, and resolved values with origins (`resolve/`). Contains
the grammar, types, units and scopes; the meaning of keys is in `ftdsl.recipe`.
"""
