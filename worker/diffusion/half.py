"""A resident model whose transformer blocks compute in bfloat16, beside the float32 one that they were copied from.

Only gradients of squared predictions are taken there: their rows keep their direction (a test and the bench say how
well). Embeddings of time and conditioning, where phases of many radians meet, and both ends of the network stay in
float32; so do all sums over tokens and draws on a GPU. Finite steps are measured on the float32 model alone.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from worker.attribution.types import Conditioning, Params
from worker.diffusion.stable_audio import StableAudio

_HALF = torch.bfloat16


class HalfBlocks:
    """`attribution.types.Model` around a copy of `model`'s denoiser with its blocks in bfloat16."""

    def __init__(self, model: StableAudio) -> None:
        self._masters, self._model = model, copy.copy(model)
        self.module: nn.Module = copy.deepcopy(model.module)
        self.device = model.device
        self._model.module = self.module
        blocks = self.module.get_submodule("transformer_blocks")
        for block in blocks.children():
            block.to(_HALF).register_forward_pre_hook(_lower, with_kwargs=True)
        *_, last = blocks.children()
        last.register_forward_hook(_raise)

    def params(self, pattern: str) -> Params:
        """Return the float32 weights whose name matches the regular expression `pattern`, detached."""
        return self._masters.params(pattern)

    def output(self, params: Params, noisy: Tensor, level: Tensor, cond: Conditioning) -> Tensor:
        """Return v [b, c, f] in float32; `params` stand in for weights by name, in bfloat16 where those are."""
        own = dict(self.module.named_parameters())
        return self._model.output({n: p.to(own[n].dtype) for n, p in params.items()}, noisy, level, cond)


def _lower(_block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Hand hidden states over in bfloat16; rotary embeddings stay as they are."""
    states = {name: named[name].to(_HALF) for name in ("hidden_states", "encoder_hidden_states") if name in named}
    return tuple(x.to(_HALF) if isinstance(x, Tensor) else x for x in inputs), named | states


def _raise(_block: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.float()
