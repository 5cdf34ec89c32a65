"""Carries out jobs.

Given: a compiled recipe, what to run, environments and a view. Gives: an outcome (`carry_out.py`) and a run folder with cache and
events. Knows: run folders, environments, the order of jobs; processes only through a launcher, and neither arguments nor signals.
"""
