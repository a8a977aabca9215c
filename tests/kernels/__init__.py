"""The kernels for GPUs against tensor operations that say the same. `make test-kernels` interprets them on a processor.

On a machine with a GPU, `pytest tests/kernels` compiles them and runs them there.
"""

import torch
from torch import Tensor
from triton import knobs

DEVICE = torch.device("cpu" if knobs.runtime.interpret else "cuda")


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers, the same on every machine, where the kernels run."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
