"""Existing files to recipes: YAML, commands and scripts of LLaMA-Factory and TRL, DeepSpeed and accelerate files.

Given: files, which are never executed. Gives: `Config`s for lint with spans in those files, recipes, and what could not
be carried over, with the reason. Knows: engines' parameters, read backwards through their overlays.

The steps of an import: `recognise` (the kind of a file, by its content) -> `documents`, `shell` + `commands` (to Configs) ->
`from_overlay`, `inverse` (parameters to keys of the language: the inverse of the overlay and of the lowerings) -> `stages` (the
order of stages) -> `write` (text) -> `verify` (compile again and compare).
"""
