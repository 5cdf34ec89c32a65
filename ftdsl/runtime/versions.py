"""The versions of our own programs that run beside a run. One is raised when what it makes of the same inputs changes, and with
nothing else: results made by the same version are used again, whatever else of `ftc` is new.
"""

VERSIONS = {
    "benchmarks": 1,
    "best": 1,
    "calibrate": 1,
    "data": 1,
    "gate": 1,
    "llamafactory": 1,
    "merge_models": 1,
    "merge_shards": 1,
    "quantise": 1,
    "scores": 1,
    "scratch": 1,
}
"""By program."""
