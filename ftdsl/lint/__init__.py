"""Rules about an engine's parameters, whoever wrote them.

Given: a `Config`, which is one invocation of an engine as parameters with the place of each in the author's own file.
A recipe becomes one when it is lowered (engines), a YAML or JSON file when it is read (importers): both feed the same
rules, so that a check is stated once. Gives: diagnostics in the author's own words.
"""
