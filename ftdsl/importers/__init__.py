"""What people already have, as recipes: LLaMA-Factory YAML, commands and shell scripts, DeepSpeed and accelerate files.

Given: files. Gives: `Config`s (the view that lint's rules judge, with spans in those files), recipes in the language's
own words, and what could not be carried over, with the reason. Nothing that is read is ever executed.

The way of an import: `recognise` (what a file is, by its content) -> `documents`, `shell` + `commands` (to Configs) ->
`words`, `rules` (the engine's parameters back to the language's words: the inverse of the overlay and of
engines/llamafactory/rules.py) -> `stages` (which stage follows which) -> `write` (text) -> `verify` (compiled again and
compared).
"""
