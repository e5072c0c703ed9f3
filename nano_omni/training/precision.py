"""In which numbers products of matrices are worked out while training."""

import contextlib

import torch


def narrow(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 numbers itself. On processors that do, products of matrices are
    several times faster than in float32; attention is not, and stays in float32 there (see `model`)."""
    if device.type != "cpu":
        return True
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def precision(device: torch.device, narrow_on_cpu: bool = True):
    """A context: bfloat16 products on GPUs and, if wanted, on processors that are made for them."""
    if narrow(device) and (device.type != "cpu" or narrow_on_cpu):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()
