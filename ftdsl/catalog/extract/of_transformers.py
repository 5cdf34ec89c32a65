"""transformers: TrainingArguments, Seq2SeqTrainingArguments, and the sets their values come from."""

from __future__ import annotations

from ftdsl.catalog.extract.classes import Classes, Fact
from ftdsl.catalog.extract.packages import Package

FILES = ["transformers/training_args.py", "transformers/training_args_seq2seq.py", "transformers/trainer_utils.py",
         "transformers/debug_utils.py", "transformers/utils/import_utils.py"]  # fmt: skip
ENUMS = (
    "OptimizerNames",
    "SchedulerType",
    "IntervalStrategy",
    "SaveStrategy",
    "HubStrategy",
    "FSDPOption",
    "DebugOption",
)


def tables(package: Package) -> dict[str, dict[str, Fact]]:
    """`parameters` by name, `enums` by `Enum.value`."""
    classes = Classes(package, FILES)
    common = classes.fields("TrainingArguments")
    both = classes.fields("Seq2SeqTrainingArguments")
    parameters = {
        name: {**fact, "section": "TrainingArguments" if name in common else "Seq2SeqTrainingArguments"}
        for name, fact in both.items()
    }
    enums: dict[str, Fact] = {f"{name}.{value}": {} for name in ENUMS for value in classes.members(name).values()}
    return {"parameters": parameters, "enums": enums}
