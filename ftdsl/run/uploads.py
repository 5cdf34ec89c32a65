"""Whether a stage that uploads to the Hub has a token for it, before anything starts. The token itself is not read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ftdsl.engines.jobs import Job, Raw
from ftdsl.run.faults import Fault

TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Variables that huggingface_hub reads (utils/_auth.py)."""


def lacks_token(job: Job, env: Mapping[str, str]) -> Fault | None:
    """What is wrong with a job that uploads and has no token; None where it uploads nothing, or has one."""
    if not job.uploads or any(_is_set(name, job, env) for name in TOKENS) or _token_file(env).is_file():
        return None
    text = f"uploads to `{job.uploads}`, and there is no token of the Hub here"
    help = 'set HF_TOKEN (`env { HF_TOKEN = secret("HF_TOKEN") }` where it has another name), or type: hf auth login'
    return Fault(text, ("push",), help, "FT973")


def _is_set(name: str, job: Job, env: Mapping[str, str]) -> bool:
    written = job.env.get(name)
    if isinstance(written, Raw):
        reference = re.search(r"\$\{(\w+)", written.text)
        return bool(reference and env.get(reference[1]))
    return bool(written or env.get(name))


def _token_file(env: Mapping[str, str]) -> Path:
    """Where `hf auth login` keeps it (huggingface_hub/constants.py)."""
    cache = Path(env.get("XDG_CACHE_HOME") or Path(env.get("HOME", "~"), ".cache")).expanduser()
    home = Path(env.get("HF_HOME") or cache / "huggingface").expanduser()
    return Path(env.get("HF_TOKEN_PATH") or home / "token").expanduser()
