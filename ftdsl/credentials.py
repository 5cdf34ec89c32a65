"""Detection of secrets by name and by value. Imports nothing of ftdsl.

Importer, checker, compiler, `--verify`, messages and logs share it: a recipe refers to a secret (`secret("HF_TOKEN")`), and its
value is never written. Names are classified by their parts (`MY_API_KEY`, but not `TOKENIZERS_PARALLELISM`), values by the
formats of providers' credentials.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

_WORD_PATTERN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
"""The parts of a name: split at `_`, `-`, `.`, digits, and between lower and upper case."""

_STRONG = frozenset(
    "TOKEN SECRET SECRETS PASS PASSWD PASSWORD PASSWORDS PASSPHRASE PASSCODE PWD PW PAT AUTH AUTHORIZATION BEARER CREDENTIAL "
    "CREDENTIALS CRED CREDS KEY KEYS APIKEY PRIVATE WEBHOOK COOKIE COOKIES DSN JWT SAS OTP".split()
)
"""Parts any of which marks a name as a secret's."""

_ENDINGS = ("PASSWORD", "PASSWD", "PASSPHRASE", "APIKEY", "ACCESSKEY", "SECRETKEY", "PRIVATEKEY", "AUTHKEY", "SECRET", "TOKEN",
            "CREDENTIAL", "CREDENTIALS", "WEBHOOK", "PWD", "KEY")  # fmt: skip
"""Endings of compound parts: `PGPASSWORD`, `OPENAIKEY`, `HFTOKEN`."""

_NO_ENDINGS = frozenset("MONKEY HOTKEY TURKEY DONKEY HOCKEY JOCKEY WHISKEY KEY TOKEN".split())

_HARMLESS = {
    "TOKEN": "EOS BOS PAD UNK SEP CLS MASK IMAGE VIDEO AUDIO SPECIAL MAX MIN NUM NUMBER COUNT LIMIT LENGTH LEN TYPE PER STOP "
    "START BEGIN END FIRST LAST NEW EXTRA INPUT OUTPUT PROMPT THOUGHT THINK LEVEL LOSS EMBEDDING EMBEDDINGS ID IDS BUDGET SIZE "
    "RATE SPEED ACCURACY WEIGHT WEIGHTS DROPOUT MASKING CLASSIFICATION PARALLELISM DISABLE",
    "KEY": "SORT PRIMARY FOREIGN PUBLIC CACHE PADDING QUERY VALUE VALUES COLUMN COLUMNS NAME FIELD METRIC LABEL TEXT PROMPT "
    "RESPONSE PRESS BINDING BOARD MAPPING LAYER LAYERS STATE",
    "KEYS": "CACHE VALUE VALUES COLUMN COLUMNS MISSING UNEXPECTED IGNORE STATE LABEL METRIC",
    "PASS": "NUM RATE FORWARD BACKWARD AT K THROUGH COUNT SINGLE MULTI FIRST SECOND TWO PER LOW HIGH BAND",
    "PRIVATE": "REPO REPOSITORY DATASET MODEL NETWORK SUBNET IP HUB",
    "AUTH": "MODE METHOD TYPE ENABLED ENABLE DISABLED DISABLE REQUIRED",
    "WEBHOOK": "PORT ENABLED ENABLE TIMEOUT EVENTS",
    "PAT": "",
}
"""Part -> parts that make it harmless in the same name: `eos_token`, `hub_private_repo`, `pass_at_k`."""
_BESIDE = {word: frozenset(others.split()) for word, others in _HARMLESS.items()}

_WEAK = frozenset("ID HASH SALT SIGNATURE SIG USER LOGIN ACCOUNT CODE CERT CERTIFICATE HEADER HEADERS CONN CONNECTION STRING KEY "
                  "KEYS TOKEN TOKENS AUTH LICENSE SESSION SEED PIN NONCE ACCESS API HOOK".split())  # fmt: skip
"""Parts that make a long random value suspicious."""

_PLAIN = frozenset(("", "0", "1", "true", "false", "yes", "no", "on", "off", "none", "null", "auto"))
"""Values that are never secret, whatever the name."""

_SHAPES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("a private key", ("PRIVATE KEY",), r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"),
    ("a URL with a password", ("://",), r"(?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]++://[^\s/@:'\"<>{}$]*:[^\s/@'\"<>{}$]+@(?=[^\s/@])"),
    ("a URL with a token", ("://",), r"(?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]++://[A-Za-z0-9_~.-]{16,}@(?=[^\s/@])"),
    ("a webhook", ("://",), r"https?://(?:hooks\.slack\.com/(?:services|workflows)/|(?:\w+\.)?discord(?:app)?\.com/api/webhooks/"
     r"|open\.(?:feishu\.cn|larksuite\.com)/open-apis/bot/|oapi\.dingtalk\.com/robot/send|qyapi\.weixin\.qq\.com/cgi-bin/webhook/"
     r"|[\w.-]+\.webhook\.office\.com/|hooks\.zapier\.com/hooks/|api\.telegram\.org/bot)[^\s'\"]{6,}"),
    ("a URL with a token", ("://",), r"https?://[^\s'\"]{0,2000}[?&](?:access_token|auth|token|key|api_?key|secret|password|passwd|sig"
     r"|signature|X-Amz-Signature)=[^\s&'\"]{8,}"),
    ("an AWS key", ("AKIA", "ASIA", "ABIA", "ACCA"), r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
    ("a Hugging Face token", ("hf_", "api_org_"), r"\b(?:hf_|api_org_)[A-Za-z0-9]{16,}\b"),
    ("an API key", ("sk-", "rk-", "k_live_", "k_test_"), r"(?<![\w-])(?:[srp]k_(?:live|test)_|[sr]k-)"
     r"(?=[A-Za-z0-9_-]*[A-Za-z0-9]{12})(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,}"),
    ("a GitHub token", ("gh", "github_pat_"), r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    ("a GitLab token", ("gl",), r"\bgl(?:pat|dt|rt|cbt|ptt|ft|imt|soat|agent)-[A-Za-z0-9_-]{16,}"),
    ("a Slack token", ("xox", "xapp-"), r"\bxox[a-z]-[A-Za-z0-9-]{10,}|\bxapp-\d-[A-Za-z0-9-]{10,}"),
    ("a Google key", ("AIza", "ya29."), r"\bAIza[0-9A-Za-z_-]{35}|\bya29\.[0-9A-Za-z_-]{20,}"),
    ("a JSON web token", ("eyJ",), r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    ("a package registry's token", ("npm_", "pypi-", "dckr_pat_"),
     r"\bnpm_[A-Za-z0-9]{30,}|\bpypi-[A-Za-z0-9_-]{20,}|\bdckr_pat_[A-Za-z0-9_-]{16,}"),
    ("an API key", ("r8_", "gsk_", "pplx", "fw_", "tgp_v1_", "nvapi-", "xai-", "SG."),
     r"\b(?:r8|gsk|pplx|fw|tgp_v1)_[A-Za-z0-9]{24,}"
     r"|\b(?:nvapi|pplx|xai)-[A-Za-z0-9_-]{24,}|\bSG\.[\w-]{16,}\.[\w-]{16,}"),
    ("a storage account's key", ("AccountKey=", "SharedAccessKey="), r"(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/=]{20,}"),
    ("a connection string with a password", ("assword=", "Pwd=", "pwd=", "PWD=", "PASSWORD="),
     r"(?i)(?:^|[;&\s])(?:password|pwd)=[^;&\s'\"$]{3,}(?=;|&|$)"),
    ("an authorization header", ("uthorization", "UTHORIZATION", "earer ", "EARER "),
     r"(?i)\bauthorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic|token)\s+[^\s'\"]{8,}"
     r"|\bbearer\s+(?=[A-Za-z._~+/-]*\d)[A-Za-z0-9+/._~-]{16,}=*"),
)  # fmt: skip
"""(description, substrings of which every match has one, pattern). The substrings avoid compiling patterns on a cold start."""


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


_RANDOM = r"[A-Za-z0-9+=]{20,}"
_ASSIGNED = r"""(?<![A-Za-z0-9_-])(?P<name>[A-Za-z0-9_-]++)["']?\s*(?:=|:)\s*(?P<value>"[^"\n]*"|'[^'\n]*'|[^\s"'#,;{}()\[\]]+)"""
_FLAG = r"""(?<![A-Za-z0-9_-])--(?P<name>[A-Za-z][A-Za-z0-9_-]*+)[ =]+(?P<value>"[^"\n]*"|'[^'\n]*'|[^\s"'-][^\s"']*)"""


def is_secret_name(name: str) -> bool:
    """Whether the name of a variable or parameter is that of a secret."""
    parts = [part.upper() for part in _WORD_PATTERN.findall(name)]
    if len(parts) < 2 and (name in ("key", "keys", "pass", "auth", "private", "pat", "PWD", "pwd") or not parts):
        return False  # such as a column, a switch, the working directory
    if parts[-1:] == ["PWD"] and parts[:1] == ["OLD"]:
        return False
    return "CONNECTION STRING" in " ".join(parts) or any(_is_strong(part, parts) for part in parts)


def _is_strong(part: str, parts: list[str]) -> bool:
    if part in _STRONG:
        return not any(other in _BESIDE.get(part, ()) for other in parts if other != part)
    if part in _NO_ENDINGS or part == "OLDPWD":
        return False
    return len(part) > 5 and part.endswith(_ENDINGS)


def shape_of(value: object) -> str:
    """The kind of credential whose format a value has ("a GitHub token"); "" if none."""
    if not isinstance(value, str) or len(value) < 8:
        return ""
    return next((description for description, pattern in _fitting(value) if pattern.search(value)), "")


def _fitting(text: str) -> Iterator[tuple[str, re.Pattern[str]]]:
    for description, marks, pattern in _SHAPES:
        if any(mark in text for mark in marks):
            yield description, _compiled(pattern)


def secret_in(name: str, value: object) -> str:
    """Why a value under a name must not be written ("a GitHub token", "a secret, by its name"); "" if it may be."""
    if value is None or isinstance(value, bool | int | float) or str(value).strip().lower() in _PLAIN:
        return ""
    if shape := shape_of(value):
        return shape
    if is_secret_name(name):
        return "a secret, by its name"
    parts = {part.upper() for part in _WORD_PATTERN.findall(name)}
    return "a secret, by its name and randomness" if parts & _WEAK and _is_random(str(value)) else ""


def _is_random(value: str) -> bool:
    """Whether a value is long, of mixed letters and digits, and of high entropy."""
    if not re.fullmatch(_RANDOM, value) or len(re.findall(r"\d", value)) < 3 or not re.search(r"[A-Za-z]", value):
        return False
    counts = Counter(value)
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values())
    return entropy >= (3.0 if re.fullmatch(r"[0-9a-fA-F]+", value) else 3.7)


def masked(text: str, values: Iterable[str] = (), *, names: bool = True) -> str:
    """A text with every credential replaced by `*` of the same length: known `values`, known formats, and (`names`) values
    assigned to a secret's name."""
    for value in sorted(filter(None, values), key=len, reverse=True):
        if len(value) >= 4:
            text = text.replace(value, "*" * len(value))
    for _, pattern in _fitting(text):
        text = pattern.sub(lambda match: "*" * len(match[0]), text)
    for named in (_ASSIGNED, _FLAG) if names else ():
        text = _compiled(named).sub(_assigned, text)
    return text


def _assigned(match: re.Match[str]) -> str:
    value = match["value"]
    inner = value[1:-1] if value[:1] in ("'", '"') else value
    if not secret_in(match["name"], inner) or re.fullmatch(r"\$\{?\w+\}?|(?:secret|env)", inner):
        return match[0]
    start = match.start("value") - match.start() + (value != inner)
    return match[0][:start] + "*" * len(inner) + match[0][start + len(inner) :]
