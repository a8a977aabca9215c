"""The kernels for GPUs against tensor operations that say the same. `make test-kernels` interprets them on a processor.

On a machine with a GPU, `pytest tests/kernels` compiles them and runs them there.
"""

import torch
from triton import knobs

DEVICE = torch.device("cpu" if knobs.runtime.interpret else "cuda")
