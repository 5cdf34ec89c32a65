"""What a training set-up costs, from first principles: peak memory by phase and term, step time, disk.

Given: a `Setup` (architecture, method, layout, GPU) and factors from measured runs. Gives: estimates with intervals. Knows: the
physics (docs/planner.md) and a few fitted constants (`constants.py`); no recipes. `python -m benchmarks.memory` and
`benchmarks.throughput` compare the estimates with published measurements.
"""
