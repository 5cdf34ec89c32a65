"""What trains. Given a plan; gives jobs: documents to write and commands to run, by the engine each stage names.

`engine.py` is the seam, `registry.py` finds engines, `lower.py` turns planned stages into jobs, `shared/` holds what is general,
and each engine has a folder of its own. Engines never import each other.
"""
