"""One page about a run, or several.

Given: run folders. Gives: a page of HTML that needs nothing beside it, or Markdown. Knows: what a reader asks of a run: what
ran, what it learned, what was planned, what made this model; what differs between two runs.
"""
