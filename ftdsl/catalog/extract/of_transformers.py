"""transformers: TrainingArguments, Seq2SeqTrainingArguments, and the sets their values come from."""

from __future__ import annotations

from ftdsl.catalog.extract.architectures import architectures
from ftdsl.catalog.extract.classes import Classes, Fact
from ftdsl.catalog.extract.packages import Package
from ftdsl.catalog.history import numbers

FILES = ["transformers/training_args.py", "transformers/training_args_seq2seq.py", "transformers/trainer_utils.py",
         "transformers/debug_utils.py", "transformers/utils/import_utils.py"]  # fmt: skip
MODULES_SINCE = (4, 55)
"""Reading 400 modeling files takes 8 s a version; older ones are only pinned by engines that are history."""

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
    """`parameters` by name, `enums` by `Enum.value`, `architectures` by model type."""
    classes = Classes(package, FILES)
    common = classes.fields("TrainingArguments")
    both = classes.fields("Seq2SeqTrainingArguments")
    parameters = {
        name: {**fact, "section": "TrainingArguments" if name in common else "Seq2SeqTrainingArguments"}
        for name, fact in both.items()
    }
    enums: dict[str, Fact] = {f"{name}.{value}": {} for name in ENUMS for value in classes.members(name).values()}
    modules = architectures(package) if numbers(package.version) >= MODULES_SINCE else {}
    return {"parameters": parameters, "enums": enums, "architectures": modules}
