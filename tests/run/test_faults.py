"""What an engine says when it breaks, in the recipe's words and at its line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl import catalog
from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.engines.llamafactory import runtime_modules
from ftdsl.engines.shared import scratch
from ftdsl.run.faults import Fault, diagnostic, read
from tests.conftest import ROOT, ROWS, Outcome, small

MESSAGES = {
    "card_out_of_memory": "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
    "shared_memory": "ERROR: Unexpected bus error encountered in worker. insufficient shared memory (shm).",
    "loss_scale": "Exception: Current loss scale already at minimum - cannot decrease scale anymore. Exiting run.",
    "weights_damaged": "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
    "illegal_access": "torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
    "gpu_failed": "RuntimeError: CUDA error: uncorrectable ECC error encountered",
    "gpu_number": "RuntimeError: CUDA error: invalid device ordinal",
    "time_limit": "slurmstepd: error: *** JOB 812 ON n3 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***",
    "rendezvous": "RendezvousConnectionError: The connection to the C10d store has failed.",
    "crashed": "  traceback : Signal 11 (SIGSEGV) received by PID 21319",
    "process_lost": "RuntimeError: [gloo/transport/tcp/pair.cc:537] Read error [::1]:45783: Connection reset by peer.",
    "memory": "RuntimeError: [enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory",
    "killed": "  exitcode  : -9 (pid: 4711)",
    "disk_full": "OSError: [Errno 28] No space left on device: 'out/model.safetensors'",
    "port": "RuntimeError: The server socket has failed to listen … EADDRINUSE, message: address already in use",
    "export_is_file": "FileExistsError: [Errno 17] File exists: 'inputs/out'",
    "result_not_empty": "ValueError: Output directory already exists and is not empty. Please set `overwrite_output_dir`.",
    "no_permission": "PermissionError: [Errno 13] Permission denied: '/srv/models'",
    "package_by_name": "PackageNotFoundError: The 'galore_torch' distribution was not found and is required by this application.",
    "package_by_module": "ModuleNotFoundError: No module named 'unsloth'",
    "flash_attention": "ImportError: FlashAttention2 has been toggled on, but it cannot be used due to the following error",
    "jit": "RuntimeError: Ninja is required to load C++ extensions (pip install ninja to get it)",
    "no_valid_rows": "RuntimeError: Cannot find valid samples, check `data/README.md` for the data format.",
    "too_few_rows": "RuntimeError: Cannot find sufficient samples, consider increasing dataset size.",
    "wrong_stage_data": "ValueError: The dataset is not applicable in the current training stage.",
    "no_column": "KeyError: 'instruction' [llamafactory/data/converter.py datasets/formatting/formatting.py]",
    "rows_differ": "DatasetGenerationError: An error occurred while generating the dataset",
    "template": "ValueError: Template qwne does not exist.",
    "tokens_outside": "IndexError: index out of range in self",
    "targets": "ValueError: Target modules {'q_porj'} not found in the base model. Please check the target modules",
    "layers": "ValueError: Module mlp2 is not found, please choose from mlp, self_attn",
    "shape": "RuntimeError: Error(s) in loading state_dict: size mismatch for lm_head.weight: copying a param",
    "not_found": "OSError: acme/none is not a local folder and is not a valid model identifier listed on …",
    "gated": "OSError: You are trying to access a gated repo.",
    "offline": "OSError: We couldn't connect to 'https://huggingface.co' to load the files",
    "remote_code": "ValueError: The repository a/b contains custom code which must be executed to correctly load the model",
    "architecture": "ValueError: … but Transformers does not recognize this architecture. This could be because of an issue",
    "bf16": "ValueError: Your setup doesn't support bf16/gpu. You need to assign use_cpu",
    "unscale": "ValueError: Attempting to unscale FP16 gradients.",
    "nccl": "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1691",
    "unused_weights": "RuntimeError: Expected to have finished reduction in the prior iteration before starting a new one.",
    "timeout": "RuntimeError: [Rank 0] Watchdog caught collective operation timeout: WorkNCCL",
    "driver": "RuntimeError: The NVIDIA driver on your system is too old … CUDA driver version is insufficient",
    "disk_quota": "OSError: [Errno 122] Disk quota exceeded: 'out/model.safetensors'",
    "quantizer_package": "ImportError: Using `bitsandbytes` 4-bit quantization requires bitsandbytes",
    "compiled_package": "ImportError: flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so: undefined symbol: _ZN3c10",
    "no_chat_template": "ValueError: Cannot use chat template functions because tokenizer.chat_template is not set",
    "roles": "jinja2.exceptions.TemplateError: Conversation roles must alternate user/assistant/user/assistant/...",
    "no_padding_token": "ValueError: Asking to pad but the tokenizer does not have a padding token.",
    "rows_not_padded": "ValueError: expected sequence of length 12 at dim 1 (got 14)",
    "tokenizer_file": "Exception: data did not match any variant of untagged enum ModelWrapper at line 7 column 3",
    "no_model_file": "OSError: acme/x does not appear to have a file named config.json.",
    "no_repository": "huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error.",
    "too_many_requests": "huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests",
    "certificate": "httpx.ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
    "partitioned_weight": "AssertionError: {'id': 8, 'status': 'NOT_AVAILABLE', 'numel': 0}",
    "no_sync": "AssertionError: no_sync context manager is incompatible with gradient partitioning logic of ZeRO stage 2",
    "batch_equation": "AssertionError: Check batch related parameters. train_batch_size is not equal to … 8 != 2 * 1 * 2",
    "no_gradient": "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn",
    "two_devices": "RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
    "versions": "TypeError: DPOTrainer.__init__() got an unexpected keyword argument 'beta'",
    "interrupted": "torch.distributed.elastic.multiprocessing.api.SignalException: Process 56 got signal: 15",
    "undefined_dataset": "ValueError: Undefined dataset alpca_en in dataset_info.json.",
    "dataset_info": "ValueError: Cannot open data/dataset_info.json due to [Errno 2] No such file or directory",
    "data_file": "ValueError: File data/mine.json not found.",
    "data_file_type": "ValueError: Allowed file types: arrow,csv,json,jsonl,parquet,txt.",
    "picture_cut": "ValueError: Image features and image tokens do not match: tokens: 720, features 360",
    "media_count": "ValueError: The number of images does not match the number of <image> tokens in [{'role': 'user'}].",
    "turn_keys": "KeyError: 'from' [llamafactory/data/aligner.py datasets/formatting/formatting.py]",
    "column_to_rename": "ValueError: Original column name instruction not in the dataset. Current columns: ['text']",
    "merge_before_quantising": "ValueError: Please merge adapters before quantizing the model.",
    "quantised_and_cut": "ValueError: DeepSpeed ZeRO-3 or FSDP is incompatible with PTQ-quantized models.",
    "quantiser_knows_not": "TypeError: chatglm isn't supported yet.",
    "shared_weights": "RuntimeError: Some tensors share memory, this will lead to duplicate memory on disk",
    "no_checkpoint": "ValueError: Can't find a valid checkpoint at saves/x/checkpoint-100",
    "rows_killed": "RuntimeError: One of the subprocesses has abruptly died during map operation.",
    "argument": "train.py: error: argument --flash_attn: expected one argument",
    "unknown_parameter": "ValueError: Some specified arguments are not used by the HfArgumentParser: ['lora_rnak']",
}  # fmt: skip


def test_every_known_fault_has_an_example() -> None:
    assert set(MESSAGES) == set(catalog.faults())


@pytest.mark.parametrize("name", MESSAGES)
def test_what_the_engine_says_is_understood(name: str, tmp_path: Path) -> None:
    entry = catalog.faults()[name]
    fault = read({"event": "end", "ok": False, "error": [MESSAGES[name]]}, tmp_path / "none.txt", 1)
    assert fault.known
    assert fault.keys == tuple(entry["keys"]), f"{fault.message} came first"
    assert not re.search(r"\{\w+\}", fault.message + fault.help), "every place is filled in"
    assert fault.message[0] == fault.message[0].lower() or fault.message.startswith("DeepSpeed")


def test_the_words_a_fault_is_about_are_words() -> None:
    words = vocabulary()
    known = {key for kind in words.stage_kinds for key in words.keys_of(kind)} | set(words.block_names())
    known |= {f"{block}.{key}" for block in words.block_names() for key in words.block(block).keys} | {"llamafactory"}
    asked = {key for entry in catalog.faults().values() for key in entry["keys"]} - {"engine"}
    assert asked <= known, asked - known


def test_a_log_is_enough(tmp_path: Path) -> None:
    """A rank that was killed left no event."""
    log = tmp_path / "log.txt"
    log.write_text("step 1\nTraceback (most recent call last):\nOSError: [Errno 28] No space left on device\n")
    assert read({}, log, 1).message == "the disk is full"
    log.write_text(
        "Traceback (most recent call last):\n  …\nValueError: `neat_packing` cannot be set as True except SFT.\n"
    )
    fault = read({}, log, 1)
    assert (fault.known, fault.keys) == (False, ("packing",))
    assert fault.message == "the engine says: `neat_packing` cannot be set as True except SFT."
    log.write_text("")
    assert read({}, log, -9).message == "it was ended by signal 9"


def test_a_fault_stands_at_the_line_that_is_about_it(checked: Callable[..., Outcome]) -> None:
    plan = checked(small("max_len = 32\n  optim { name = galore(rank = 8) }"), ROWS).checked.plan
    assert plan is not None
    places = [
        diagnostic(Fault("x", keys), "sft", plan).span
        for keys in (("max_len",), ("optim",), ("to", "optim.name"), ("to",))
    ]
    assert [place.text.partition("(")[0] for place in places if place] == ["32", "optim", "galore", "sft"]


@pytest.mark.parametrize(
    ("entry", "modules"), [("llamafactory", runtime_modules.MODULES), ("scratch", scratch.MODULES)]
)
def test_runtime_modules_bring_what_they_import(entry: str, modules: tuple[str, ...]) -> None:
    """A run folder holds copies: a module that is not named would be missing there."""
    found, todo = {"__init__"}, {entry}
    while todo:
        name = todo.pop()
        found.add(name)
        text = (ROOT / "ftdsl" / "runtime" / f"{name}.py").read_text(encoding="utf-8")
        named = re.findall(r"^ *from \.(\w+) import|^ *from \. import (.+)$", text, re.MULTILINE)
        todo |= {
            part
            for one, several in named
            for part in [one, *(name.split(" as ")[0] for name in several.split(", "))]
            if part
        } - found
    assert found == set(modules)
