"""Extracts the catalogue's facts from packages' own sources with `ast`, without importing or running them.

Given: wheels, source distributions or an environment's site-packages. Gives: data/history/ (`python -m ftdsl.catalog.extract`).
"""
