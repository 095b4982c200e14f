"""Training in bfloat16 where the CPU multiplies in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


def quickly(module: nn.Module, x: Tensor, most: Callable[[Tensor], Tensor], last: Callable[[Tensor], Tensor]) -> Tensor:
    """`last(most(x))`, `most` in bfloat16 where `module` is in training on a CPU whose instructions know it."""
    if not (module.training and x.device.type == "cpu" and _knows_bfloat16()):
        return last(most(x))
    with torch.autocast("cpu", torch.bfloat16):
        h = most(x)
    return last(h.float())


def _knows_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16; one that must emulate it is faster in float32."""
    known: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch cannot tell
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
