"""TRL (trainers) and PEFT (adapters): methods and stages that LLaMA-Factory lacks.

Given: a planned stage. Gives: one document of the engine's own parameters (a TRL configuration class, a `peft` block, the rows),
and the command of ftdsl's runtime that trains with it. Knows: TRL and PEFT, no other engine.
"""
