"""Keys that become parameters of transformers' Trainer, for every engine built on it.

Given: a `StageContext`. Gives: parameters of TrainingArguments. Knows: transformers' names and limits, no engine.
"""
