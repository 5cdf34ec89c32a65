"""Run by test_agreement_trl.py under TRL's Python: cases.json -> verdicts.json, what the parser of a verb refuses ("": nothing).

A case is [name, verb, parameters], read as `trl VERB --config FILE` reads a file: the parser of TRL's own script, with the
conversion of every field and every `__post_init__`; what is left over goes to accelerate, which knows its own flags.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
import warnings
from pathlib import Path
from typing import Any

from accelerate.commands.launch import launch_command_parser

warnings.simplefilter("ignore")
FLAGS = {option.lstrip("-") for action in launch_command_parser()._actions for option in action.option_strings}
FLAGS.add("accelerate_config")


def verdict(verb: str, params: dict[str, Any]) -> str:
    parser = importlib.import_module(f"trl.scripts.{verb}").make_parser()
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            params = dict(params)
            params.pop("env", None)
            left = parser.set_defaults_with_config(**params)
            parser.parse_args_into_dataclasses([], return_remaining_strings=True)
    except BaseException as error:
        text = said.getvalue().strip().splitlines()[-1:] if isinstance(error, SystemExit) else []
        return (text or [f"{type(error).__name__}: {error}"])[0].splitlines()[0][:200]
    names = [word.lstrip("-") for word in left[::2]]
    unknown = [name for name in names if name not in FLAGS]
    return f"unrecognized arguments: {unknown[0]}" if unknown else ""


cases = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
Path(sys.argv[2]).write_text(
    json.dumps({name: verdict(verb, params) for name, verb, params in cases}), encoding="utf-8"
)
