"""Views of runs and plans.

Given: events, metrics and forecasts. Gives: a run's progress (a fold over its events), live and plain views, tables, and the
text and JSON of a plan. Knows: the shapes of events and metrics; no engine, no process.
"""
