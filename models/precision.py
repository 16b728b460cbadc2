"""In which number format does this machine compute?"""

import torch

from datamodules.errors import InputError

PRECISIONS = ("auto", "float32", "bf16")


def has_native_bf16(device: torch.device) -> bool:
    """Tell whether `device` multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.backends.cpu.get_cpu_capability()
        # The capability name stops at AVX512; the bf16 instructions are only told by these two private queries.
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return capabilities.startswith("AVX512") and bool(native)
    return False


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return `float32` or `bf16` for a requested precision; `auto` takes bf16 where the hardware has it.

    Raises:
        InputError: An unknown name.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r}", f"one of {', '.join(PRECISIONS)}", "the precision setting")
    if precision == "auto":
        return "bf16" if has_native_bf16(device) else "float32"
    return precision


def default_device() -> torch.device:
    """Return the accelerator that is present, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")
