"""Engines: the programs that train.

Given: a plan. Gives: jobs, each with documents to write and commands to run, by the engine of its stage. Knows: the interface
`Engine` and how engines are looked up; what one engine can do is in its own folder, and engines never import each other.
"""
