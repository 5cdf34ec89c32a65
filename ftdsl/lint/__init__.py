"""Rules about an engine's parameters, whoever wrote them.

Given: a `Config`, one invocation of an engine: its parameters with their spans in the author's own file. Gives: diagnostics.
Knows: the engine's parameters and limits. Engines make a `Config` of a lowered recipe, importers of a YAML or JSON file, so
that each rule is written once.
"""
