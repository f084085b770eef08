"""The device of this rank and its thread counts; the owner of both choices, made before and after torch is imported."""

from __future__ import annotations

import torch

from hpcseg.environment import processor


def choose() -> torch.device:
    """This rank's device: its one visible GPU, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def settle_threads() -> None:
    """One thread for each of torch's operations: tiles run side by side instead, so their number cannot change a bit.

    Called in every thread that runs a network, and again after the first Numba kernel, which can reset it.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def name() -> str:
    """The device for people: the GPU's name, or the processor's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return processor()[0]


def identity() -> str:
    """What tells this rank's GPU from all others of its node, "" on a CPU."""
    return str(torch.cuda.get_device_properties(0).uuid) if torch.cuda.is_available() else ""


def version() -> str:
    """Torch, and what it is built for."""
    return f"{torch.__version__}, CUDA {torch.version.cuda or 'no'}"


def has_bfloat16() -> bool:
    """Whether this device computes in bfloat16 in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool({"amx_bf16", "avx512_bf16", "bf16"} & processor()[1])
