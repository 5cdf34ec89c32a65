"""`merge_shards.py TRAIN.yaml --stage FOLDER`: the shards of the last FSDP checkpoint made one model, with its configuration.

Under SHARDED_STATE_DICT the engine ends well and writes no model. Standard library, accelerate and transformers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path


def last_shards(output: Path) -> Path:
    """The shards of the newest checkpoint. Raises: SystemExit when there are none."""
    found = sorted(
        output.glob("checkpoint-*/pytorch_model_fsdp_0"), key=lambda path: int(path.parent.name.split("-")[1])
    )
    if not found:
        raise SystemExit(f"error: no checkpoint in {output} has shards to gather")
    return found[-1]


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
    print(f"gathering {shards}", flush=True)
    merge_fsdp_weights(str(shards), str(output), safe_serialization=True)
    start, code = settings["model_name_or_path"], bool(settings.get("trust_remote_code"))
    for kind in (AutoConfig, AutoTokenizer):
        kind.from_pretrained(start, trust_remote_code=code).save_pretrained(output)
    if not list(output.glob("*.safetensors")):
        print(f"error: no model was written to {output}", file=sys.stderr)
        return 1
    result = Path(args.stage) / "result.json"
    document = json.loads(result.read_text(encoding="utf-8")) | {"kind": "model", "path": str(output)}
    result.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: a module of ours must not stand in for one of the engine's
    sys.exit(main(sys.argv[1:]))
