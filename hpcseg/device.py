"""The device of this rank and its thread counts; the owner of both choices, made before and after torch is imported."""

from __future__ import annotations

import resource
from pathlib import Path

import torch


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
    return next((line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")), "cpu")


def identity() -> str:
    """What tells this rank's GPU from all others of its node, "" on a CPU."""
    return str(torch.cuda.get_device_properties(0).uuid) if torch.cuda.is_available() else ""


def version() -> str:
    """Torch, and what it is built for."""
    return f"{torch.__version__}, CUDA {torch.version.cuda or 'no'}"


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    # What getrusage says would count the memory of the process that started this one.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
    return 1024 * (found if found is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def has_bfloat16() -> bool:
    """Whether this device computes in bfloat16 in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    flags = next((line.split() for line in _cpu_lines() if line.startswith(("flags", "Features"))), [])
    return bool({"amx_bf16", "avx512_bf16", "bf16"} & set(flags))


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
