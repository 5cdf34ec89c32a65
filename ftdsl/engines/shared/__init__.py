"""What engines have in common.

Given: one planned stage with its engine (`StageContext`). Gives: the parts of a job: parameters by an overlay, passthrough, data
stages, scratch models, scripts, gates, launch commands, the view for lint. Knows: recipes, plans, launchers and transformers'
Trainer; it imports no engine.
"""
