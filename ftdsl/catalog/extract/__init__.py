"""Generators of the catalogue's facts: they read packages' own sources with `ast`, and import or run none of them.

Given wheels, source distributions or an environment's site-packages; gives data/history/ (`python -m ftdsl.catalog.extract`).
"""
