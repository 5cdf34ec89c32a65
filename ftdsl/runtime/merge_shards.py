"""`merge_shards.py TRAIN.yaml --stage FOLDER`: the shards of the last FSDP checkpoint made one model, with its configuration.

Under SHARDED_STATE_DICT the engine ends well and writes no model. Standard library, accelerate and transformers.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

if not __package__:  # run by path: its folder becomes the package `runtime`, and shadows none of the engine's modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

from . import events


def last_shards(output: Path) -> Path | None:
    """The shards of the newest checkpoint; None when there are none."""
    folders = sorted(
        output.glob("checkpoint-*/pytorch_model_fsdp_0"), key=lambda path: int(path.parent.name.split("-")[1])
    )
    return folders[-1] if folders else None


def main(argv: list[str]) -> int:
    """Write model.safetensors, configuration and tokenizer beside the checkpoints."""
    import yaml
    from accelerate.utils import merge_fsdp_weights
    from transformers import AutoConfig, AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", metavar="TRAIN.yaml")
    parser.add_argument("--stage", required=True)
    args = parser.parse_args(argv)
    if os.environ.get("NODE_RANK", "0") != "0":
        return 0  # the first node's business: all see one folder
    settings = yaml.safe_load(Path(args.config).read_text(encoding="utf-8"))
    output = Path(settings["output_dir"])
    shards = last_shards(output)
    if shards is None:
        return events.fail(args.stage, f"no checkpoint in {output} has shards to gather", "save", "parallel")
    print(f"gathering {shards}", flush=True)
    merge_fsdp_weights(str(shards), str(output), safe_serialization=True)
    start, code = settings["model_name_or_path"], bool(settings.get("trust_remote_code"))
    for kind in (AutoConfig, AutoTokenizer):
        kind.from_pretrained(start, trust_remote_code=code).save_pretrained(output)
    if not list(output.glob("*.safetensors")):
        return events.fail(args.stage, f"no model was written to {output}", "parallel.strategy", "parallel")
    result = events.read_result(args.stage) or {}
    events.save_result(args.stage, {**result, "kind": "model", "path": str(output)})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
