"""What smells of a secret, and what only sounds like one."""

from __future__ import annotations

from time import process_time

import pytest

from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.credentials import is_secret_name, masked, secret_in, shape_of

SECRETS = """
AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID OPENAI_KEY HF_AUTH MYSQL_PWD DB_PASS SWANLAB_APIKEY SSH_PRIVATE_KEY CLIENT_SECRET_B64
swanlab_lark_webhook_url HF_TOKEN WANDB_API_KEY MY_PAT DB_PWD hub_token apiKey hubToken PGPASSWORD OPENAIKEY HFTOKEN
swanlab_lark_secret push_to_hub_token GITHUB_PAT TOKEN KEY SECRET PASSWORD GOOGLE_APPLICATION_CREDENTIALS SLACK_WEBHOOK SENTRY_DSN
API_KEY_2 ACCESS_TOKEN_SECRET dbPassword MONGO_PASSWD private_key encryption_key HTTP_AUTH aws_credentials JWT_SECRET LDAP_BIND_PW
""".split()

NAMES = """
eos_token pad_token token_ids new_special_tokens add_special_tokens key keys TOKENIZERS_PARALLELISM MAX_TOKENS keep keep_last
num_input_tokens_seen include_num_input_tokens_seen hub_private_repo pass_at_k PATH PYTHONPATH PWD OLDPWD AUTHOR patience MONKEY
image_token skip_special_tokens bypass tokenized_path tokenizer HF_HUB_OFFLINE HF_HUB_DISABLE_IMPLICIT_TOKEN sort_key kto_tag
key_padding_mask stop_token pattern patch_size surrogate author passage compile_cache_key trust_remote_code
""".split()

SHAPES = (
    "http://user:pw@proxy:3128",
    "https://ghp_abcdefghijklmnopqrstuvwxyz0123456789@github.com/x",
    "AKIAIOSFODNN7EXAMPLE",
    "hf_abcdefghijklmnopqrstuvwxyzABCDEF",
    "sk-proj-abc123DEF456ghi789jkl",
    "sk-1234567890abcdefghij",
    "ghp_abcdefghijklmnopqrst",
    "glpat-abcdefghij1234567890",
    "xoxb-123456789012-abcdef",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nabc",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
    "https://hooks.slack.com/services/T0/B0/xyz",
    "https://discord.com/api/webhooks/123/abc",
    "https://open.feishu.cn/open-apis/bot/v2/hook/abc-def",
    "Authorization: Bearer abcdefghijklmnopqrst",
    "AccountName=x;AccountKey=abcdefghijklmnopqrstuvwx==",
    "https://x.blob.core.windows.net/c?sv=1&sig=abcdefghij%3D",
)

TEXTS = (
    "Qwen/Qwen3-4B-Instruct-2507",
    "https://huggingface.co/x",
    "s3://bucket/path",
    "git@github.com:a/b",
    "hf_transfer",
    "http://$USER:$PW@h",
    "http://{user}:{pw}@h",
    "https://example.com:443/a",
    "sk-learn-tests-and-more-things",
    "basic training of the model",
    "10.0.0.1:29500",
    "https://wandb.ai/me?tab=key",
    "saves/qwen3-8b_lora-r64_sk-2024",
)


@pytest.mark.parametrize("name", SECRETS)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", NAMES)
def test_names_that_only_sound_so(name: str) -> None:
    assert not is_secret_name(name)


def test_no_word_of_the_language_is_taken_for_a_secret() -> None:
    words = vocabulary()
    assert [key for block in words.block_names() for key in words.block(block).keys if is_secret_name(key)] == []


@pytest.mark.parametrize("value", SHAPES)
def test_shapes_of_credentials(value: str) -> None:
    assert shape_of(value)
    assert secret_in("anything", value)
    assert masked(f"x {value} y").count("*") >= 8


@pytest.mark.parametrize("value", TEXTS)
def test_texts_that_have_none(value: str) -> None:
    assert shape_of(value) == ""
    assert secret_in("run_name", value) == ""
    assert masked(value) == value


@pytest.mark.parametrize(
    ("name", "value", "is_one"),
    [
        ("RUN_ID", "9f8a7b6c5d4e3f2a1b0c", True),
        ("dataset", "9f8a7b6c5d4e3f2a1b0c", False),
        ("RUN_ID", "2024-11-25", False),
        ("HF_AUTH", "true", False),
        ("HF_AUTH", "", False),
        ("HF_AUTH", "x", True),
        ("hub_token", None, False),
        ("KEY", 5, False),
    ],
)
def test_name_and_value_together(name: str, value: object, is_one: bool) -> None:
    assert bool(secret_in(name, value)) is is_one


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('env { WANDB_API_KEY = "abc" }', 'env { WANDB_API_KEY = "***" }'),
        ("export HF_TOKEN=abcd lr=1", "export HF_TOKEN=**** lr=1"),
        ("train --hub_token abcd --lr 1", "train --hub_token **** --lr 1"),
        ("hub_token: abcd", "hub_token: ****"),
        ('{"api_key": "abcd"}', '{"api_key": "****"}'),
        ('HF_TOKEN = secret("HF_TOKEN")', 'HF_TOKEN = secret("HF_TOKEN")'),
        ("HF_TOKEN=$MY_TOKEN", "HF_TOKEN=$MY_TOKEN"),
        ('eos_token = "</s>"', 'eos_token = "</s>"'),
    ],
)
def test_lines_keep_their_length_and_lose_their_secrets(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_known_values_are_masked_wherever_they_stand() -> None:
    assert masked("it said hunter2, twice: hunter2", ["hunter2"]) == "it said *******, twice: *******"


LONG = ("a", "_", "A1b2", "--a", "eyJ", "sk-", "sk-1", "https://", "http://a:b", "a://", "a.", "key ", "=", "bearer ")
SUFFIXES = ("", " ://", " eyJ sk- k_live_ AIza xox bearer ")


@pytest.mark.parametrize("part", LONG)
@pytest.mark.slow
def test_work_grows_with_the_text_and_no_faster(part: str) -> None:
    """Logs have lines of any length. Quadratic work takes 16 times as long for four times the text."""
    for suffix in SUFFIXES:
        short, long = (_seconds((part * size)[:size] + suffix) for size in (20_000, 80_000))
        assert long < 0.25 or long < 10 * short, suffix


def _seconds(text: str) -> float:
    began = process_time()
    masked(text)
    return process_time() - began
