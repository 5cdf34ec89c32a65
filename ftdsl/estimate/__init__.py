"""What a training set-up costs, from first principles: peak memory by phase and term, step time, disk.

Given a `Setup` (an architecture, a method, a layout, a card), gives estimates with intervals. Knows nothing of recipes and
starts nothing; facts come from the catalog, the few fitted constants lie in `constants`. The physics is told in
docs/planner.md, and `python -m benchmarks.memory` and `benchmarks.throughput` hold it to published measurements.
"""
