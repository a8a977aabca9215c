"""A denoiser of a few thousand weights that has what the real one has: attention, conditioning tokens, convolutions."""

import re

import torch
from torch import Tensor, nn

from worker.attribution.measure import Measure, Probe, measured
from worker.attribution.noise import Grid
from worker.attribution.types import Conditioning, Params, Segments

CHANNELS, FRAMES, WIDTH, TOKENS = 4, 10, 8, 3
LINEAR = r"(\bto_[qkvo]|\bup|\bdown|\btime|\bglobal|\bproj|\bsmooth|\bpre)"


class Denoiser(nn.Module):
    """One transformer block over latents and one global token, with cross-attention to conditioning tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.pre = nn.Conv1d(CHANNELS, CHANNELS, 1, bias=False)
        self.smooth = nn.Conv1d(CHANNELS, CHANNELS, 3, stride=1, padding=2, dilation=2)
        self.proj_in = nn.Linear(CHANNELS, WIDTH, bias=False)
        self.time = nn.Linear(2, WIDTH)
        self.global_ = nn.Linear(WIDTH, WIDTH, bias=False)
        self.norm = nn.LayerNorm(WIDTH)
        self.to_q, self.to_k, self.to_v = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.to_o = nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.proj_out = nn.Linear(WIDTH, CHANNELS)

    def forward(self, noisy: Tensor, level: Tensor, cond: Conditioning) -> Tensor:
        """Return v [b, c, f]; time and conditioning layers come before anything that depends on the latents."""
        when = self.time(torch.stack([level, level.square()], 1))
        first = (self.global_(cond.globals_) + when[:, None]).tanh_()
        x = self.proj_in((noisy + self.pre(noisy) + self.smooth(noisy)).mT)
        x = torch.cat([first, x], 1)
        x = x + self.to_o(self._attend(self.norm(x), cond))
        x = x + self.down(self.up(x).tanh())
        return self.proj_out(x)[:, first.shape[1] :].mT

    def _attend(self, x: Tensor, cond: Conditioning) -> Tensor:
        seen = torch.cat([x, cond.cross], 1)
        mask = torch.cat([torch.ones(x.shape[:2], dtype=torch.bool, device=x.device), cond.mask], 1)
        weights = (self.to_q(x) @ self.to_k(seen).mT / WIDTH**0.5).masked_fill(~mask[:, None], -torch.inf)
        return weights.softmax(-1) @ self.to_v(seen)


class ToyModel:
    """`Model` around any module of this call signature."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.device = module.eval(), torch.device("cpu")

    def params(self, pattern: str) -> Params:
        return {n: p.detach() for n, p in self.module.named_parameters() if re.search(pattern, n)}

    def output(self, params: Params, noisy: Tensor, level: Tensor, cond: Conditioning) -> Tensor:
        if not params:
            return self.module(noisy, level, cond)
        return torch.func.functional_call(self.module, dict(params), (noisy, level, cond))


def toy(dtype: torch.dtype = torch.float64, seed: int = 0) -> ToyModel:
    """A toy of random weights, of some size so that softmax and tanh bend."""
    torch.manual_seed(seed)
    module = Denoiser()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return ToyModel(module.to(dtype))


def random_segments(count: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Segments:
    """Random music with padding of different lengths at the end and one hidden token."""
    draw = torch.Generator().manual_seed(seed)
    mask = torch.ones(count, FRAMES, dtype=dtype)
    for i in range(count):
        mask[i, FRAMES - i % 4 :] = 0
    tokens = torch.ones(count, TOKENS, dtype=torch.bool)
    tokens[::2, -1] = False
    return Segments(
        torch.randn(count, CHANNELS, FRAMES, generator=draw, dtype=torch.float64).to(dtype),
        mask,
        Conditioning(
            torch.randn(count, TOKENS, WIDTH, generator=draw, dtype=torch.float64).to(dtype),
            tokens,
            torch.randn(count, 1, WIDTH, generator=draw, dtype=torch.float64).to(dtype),
        ),
    )


def probe(measure: Measure = Measure.LOSS, draws: int = 6, batch: int = 24, seed: int = 3) -> Probe:
    return Probe(measure, Grid(seed, draws), batch)


def sample_gradient(model: ToyModel, segment: Segments, one: Probe, weights: str) -> dict[str, Tensor]:
    """The oracle: autograd of one segment's mean over the draws of `one`, in a forward pass of its own."""
    params = {n: p.clone().requires_grad_() for n, p in model.params(weights).items()}
    value = measured(model, params, segment, one).mean()
    return dict(zip(params, torch.autograd.grad(value, list(params.values())), strict=True))


def looped(model: ToyModel, segments: Segments, one: Probe, weights: str) -> Tensor:
    """The oracle for rows: one gradient a segment and draw, flattened and averaged over draws, [s, p]."""
    rows = []
    for i in range(len(segments)):
        draws = [one.grid.subset(range(d, d + 1)) for d in range(one.grid.draws)]
        found = [sample_gradient(model, segments[i : i + 1], Probe(one.measure, d, 1), weights) for d in draws]
        rows.append(torch.stack([torch.cat([g.flatten() for g in f.values()]) for f in found]).mean(0))
    return torch.stack(rows)


def train(model: ToyModel, segments: Segments, steps: int = 300, rate: float = 1e-2) -> None:
    """Fit the toy to `segments` with Adam on fresh noise; deterministic."""
    optimiser = torch.optim.Adam(model.module.parameters(), rate)
    for step in range(steps):
        grid = Grid(99, 4, first=4 * step)
        optimiser.zero_grad()
        measured(model, {}, segments, Probe(Measure.LOSS, grid)).mean().backward()
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
