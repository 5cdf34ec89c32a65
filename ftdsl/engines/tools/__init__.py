"""Tools that evaluate, merge and quantise models, each in an environment of its own.

Given: a planned stage. Gives: a job in the tool's environment. Knows: the tools' configuration files; no engine, so a stage of
any engine may use them.
"""
