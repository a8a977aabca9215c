"""A resident model whose transformer blocks compute in bfloat16, beside the float32 one that they were copied from.

Only gradients of squared predictions are taken there: their rows keep their direction (a test and the bench say how
well). Embeddings of time and conditioning, where phases of many radians meet, and both ends of the network stay in
float32; so do all sums over tokens and draws on a GPU. Finite steps are measured on the float32 model alone.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every torch reader knows
from diffusers.models.activations import SwiGLU
from diffusers.models.attention_processor import Attention, StableAudioAttnProcessor2_0
from torch import Tensor, nn

from worker.attribution.types import Conditioning, Params
from worker.diffusion.elementwise import gated, rotated
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
            for part in block.modules():
                _shorten(part)
        *_, last = blocks.children()
        last.register_forward_hook(_raise)

    def params(self, pattern: str) -> Params:
        """Return the float32 weights whose name matches the regular expression `pattern`, detached."""
        return self._masters.params(pattern)

    def output(self, params: Params, noisy: Tensor, level: Tensor, cond: Conditioning) -> Tensor:
        """Return v [b, c, f] in float32; `params` stand in for weights by name, in bfloat16 where those are."""
        own = dict(self.module.named_parameters())
        return self._model.output({n: p.to(own[n].dtype) for n, p in params.items()}, noisy, level, cond)


def _shorten(part: nn.Module) -> None:
    """Let attention and gates known to be Stable Audio's run in fewer steps; anything else stays as it is."""
    if type(part) is SwiGLU:
        part.__class__ = _Gate
    if isinstance(part, Attention) and isinstance(part.processor, StableAudioAttnProcessor2_0):
        unknown = (part.norm_q, part.norm_k, part.norm_cross, part.residual_connection, part.rescale_output_factor != 1)
        if not any(unknown):
            part.processor = _Attend()


class _Gate(SwiGLU):  # type: ignore[misc]  # diffusers leaves it untyped
    """What `SwiGLU` computes."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        return gated(self.proj(hidden_states))


class _Attend:
    """What `StableAudioAttnProcessor2_0` computes where no mask is given."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        if attention_mask is not None:
            raise ValueError("the denoiser is called without attention masks")
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.to_q(hidden_states).unflatten(-1, (attn.heads, -1))
        key, value = (each(source).unflatten(-1, (-1, query.shape[-1])) for each in (attn.to_k, attn.to_v))
        if rotary_emb is not None:
            query = rotated(query, *rotary_emb)
            key = key if attn.is_cross_attention else rotated(key, *rotary_emb)
        if (times := attn.heads // key.shape[2]) > 1:
            key, value = (x.repeat_interleave(times, 2) for x in (key, value))
        found = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (query, key, value)))
        return torch.as_tensor(attn.to_out[0](found.transpose(1, 2).flatten(2)))


def _lower(_block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Hand hidden states over in bfloat16; rotary embeddings stay as they are."""
    states = {name: named[name].to(_HALF) for name in ("hidden_states", "encoder_hidden_states") if name in named}
    return tuple(x.to(_HALF) if isinstance(x, Tensor) else x for x in inputs), named | states


def _raise(_block: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.float()
