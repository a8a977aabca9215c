"""Stable Audio 3's denoiser seen as an attribution model: rectified flow told in the words of v-prediction.

The network predicts u = ε − x from x_s = (1 − s) x + s ε. Divided by α + σ, the science's x_t = α x + σ ε is such a
mixture with s = σ / (α + σ), and

    x̂ = x_s − s u,   ε̂ = x_s + (1 − s) u,   v = α ε̂ − σ x̂

Keys and values of its cross-attention are made by one fused matrix (`cross_attn.to_kv`), queries by another.
"""

import re

import torch
from diffusers import StableAudio3DiTModel
from torch import Tensor

from worker.attribution.measure import schedule
from worker.attribution.types import Conditioning, Params

WEIGHTS = r"^transformer_blocks\..*\.(to_[a-z]+|ff\..*)\.weight$"


class RectifiedDenoiser:
    """`attribution.types.Model` around a StableAudio3DiTModel, in float32 and never changed.

    Conditioning: cross-attention tokens with those that are real, and the duration as the one global token.
    """

    def __init__(self, module: StableAudio3DiTModel) -> None:
        self.module: torch.nn.Module = module
        self.device: torch.device = module.device

    def params(self, pattern: str) -> Params:
        """Return the weights whose name matches the regular expression `pattern`, detached."""
        return {n: p.detach() for n, p in self.module.named_parameters() if re.search(pattern, n)}

    def output(self, params: Params, noisy: Tensor, level: Tensor, cond: Conditioning) -> Tensor:
        """Return v [b, c, f] for `noisy` [b, c, f] at levels t `level` [b]; `params` stand in for weights by name."""
        alpha, sigma = (x[:, None, None] for x in schedule(level))
        mixed, part = noisy / (alpha + sigma), sigma / (alpha + sigma)
        options = {
            "encoder_hidden_states": cond.cross,
            "global_hidden_states": cond.globals_[:, 0],
            "encoder_attention_mask": cond.mask,
            "return_dict": False,
        }
        inputs = (mixed, part[:, 0, 0])
        flow: Tensor
        if params:
            flow = torch.func.functional_call(self.module, dict(params), inputs, options)[0]
        else:
            flow = self.module(*inputs, **options)[0]
        clean, noise = mixed - part * flow, mixed + (1 - part) * flow
        return alpha * noise - sigma * clean
