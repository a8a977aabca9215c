"""MUCS: the query is unlearned by fine-tuning a copy, and songs are scored by how much worse they get (2605.17938).

    minimise  L_retain − 0.2 · mean_d min(ℓ_d, n_d)       ℓ_d the query's loss on draw d, n_d its null loss
    until     L_forget ≥ 0.95 L_null, or for 200 steps
    score     (L_u − L_t) / (L_u + L_t + 10⁻³)            a segment's loss after and before, draws shared by all

Trained are the feed-forward weights of the blocks and the denoiser's embedders of its conditioning, by AdamW at a tenth
of the training rate. The null loss is the level that a model has on music which it never learned; here it is given,
as one number or, since the loss depends strongly on the noise level, as one number for each of equal bands of it.
Nothing of one query is left when the next begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worker.attribution.gradients import matching
from worker.attribution.measure import masked_mean_square, schedule, values

if TYPE_CHECKING:
    from bench.faithfulness.setting import Setting
    from worker.attribution.measure import Probe
    from worker.attribution.types import Segments

WEIGHTS = r"^(transformer_blocks\.\d+\.ff\.|cross_attention_proj\.|global_proj\.)"
_TOLD = ("cross", "mask", "globals_")


@dataclass(frozen=True)
class Recipe:
    """How a query is forgotten; `rate` a tenth of the rate of training, `forget` the weight of the forget loss."""

    weights: str = WEIGHTS
    rate: float = 1e-4
    decay: float = 0.01
    retained: int = 64
    forgotten: int = 64
    forget: float = 0.2
    enough: float = 0.95
    most: int = 200
    look_every: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Forgotten:
    """A fine-tuned copy's trained weights, how many steps it took, and L_forget / L_null at the end.

    The weights are the unlearner's own, and so hold until it is asked again.
    """

    params: dict[str, Tensor]
    steps: int
    ratio: float


class Unlearner:
    """A copy of the trained weights, its optimiser and one batch; on a GPU a step is a captured graph.

    The batch holds the retained samples first, then the query's; it is filled before every step from a generator of
    the query's own, so an answer does not depend on what was asked before.
    """

    def __init__(self, setting: Setting, recipe: Recipe) -> None:
        self.setting, self.recipe, device = setting, recipe, setting.device
        self.resident = matching(setting.model, recipe.weights)
        self.params = {n: p.clone().requires_grad_() for n, p in self.resident.items()}
        size = recipe.retained + recipe.forgotten
        self.batch = setting.training[torch.zeros(size, dtype=torch.long, device=device)]
        self.level = torch.full((size,), 0.5, device=device)
        self.noise = torch.randn_like(self.batch.latents)
        self.null = torch.ones(recipe.forgotten, device=device)
        self.ratio = torch.zeros((), device=device)
        self.cuda = device.type == "cuda"
        self.optimiser = torch.optim.AdamW(
            self.params.values(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.decay,
            fused=self.cuda, capturable=self.cuda,
        )  # fmt: skip
        self.graph = self._captured() if self.cuda else None

    def forget(self, query: Segments, null_loss: Tensor, seed: int) -> Forgotten:
        """Fine-tune a fresh copy until `query` [one segment] is forgotten; null_loss: [] or [bands].

        L_forget and L_null are means over the draws of one step, which are spread evenly over the noise levels, and
        are looked at every few steps, the update of that step not yet in them.
        """
        draw = torch.Generator(self.setting.device).manual_seed(seed)
        self._reset(query)
        for step in range(1, self.recipe.most + 1):
            self._fill(null_loss.to(self.null), draw)
            self._step()
            if step % self.recipe.look_every == 0 and float(self.ratio) >= self.recipe.enough:
                break
        return Forgotten({n: p.detach() for n, p in self.params.items()}, step, float(self.ratio))

    def losses(self) -> Tensor:
        """Return the loss of every sample of the batch: [retained + forgotten]."""
        alpha, sigma = (x[:, None, None] for x in schedule(self.level))
        clean = self.batch.latents * self.batch.mask[:, None]
        noisy, target = alpha * clean + sigma * self.noise, alpha * self.noise - sigma * clean
        with torch.autocast(self.level.device.type, torch.bfloat16, enabled=self.cuda, cache_enabled=False):
            output = self.setting.model.output(self.params, noisy, self.level, self.batch.cond)
        return masked_mean_square(output.float() - target, self.batch.mask)

    def _update(self) -> None:
        found = self.losses()
        retained, forgotten = found[: self.recipe.retained], found[self.recipe.retained :]
        clamped = torch.minimum(forgotten, self.null).mean()
        self.optimiser.zero_grad(set_to_none=True)
        (retained.mean() - self.recipe.forget * clamped).backward()
        self.optimiser.step()
        self.ratio.copy_(forgotten.detach().mean() / self.null.mean())

    def _step(self) -> None:
        with torch.enable_grad():
            if self.graph is None:
                self._update()
            else:
                self.graph.replay()

    @torch.no_grad()
    def _reset(self, query: Segments) -> None:
        for name, weight in self.params.items():
            weight.copy_(self.resident[name])
        for state in self.optimiser.state.values():
            for value in state.values():
                value.zero_()
        self._put(slice(self.recipe.retained, None), query.to(self.setting.device))

    @torch.no_grad()
    def _fill(self, null_loss: Tensor, draw: torch.Generator) -> None:
        """Draw the retained windows, all noise levels and all noise; the query's levels are spread evenly."""
        kept, device = self.recipe.retained, self.setting.device
        rows = torch.randint(len(self.setting.training), (kept,), generator=draw, device=device)
        self._put(slice(0, kept), self.setting.training[rows])
        self.level.uniform_(generator=draw)
        spread = torch.arange(self.recipe.forgotten, device=device)
        self.level[kept:] = (spread + self.level[kept:]) / self.recipe.forgotten
        self.level.clamp_(1e-4, 1 - 1e-4)
        self.noise.normal_(generator=draw)
        profile = null_loss.reshape(-1)
        self.null.copy_(profile[(self.level[kept:] * len(profile)).long()])

    def _put(self, where: slice, segments: Segments) -> None:
        pairs = [(self.batch, segments, ("latents", "mask")), (self.batch.cond, segments.cond, _TOLD)]
        for kept, new, names in pairs:
            for name in names:
                getattr(kept, name)[where] = getattr(new, name)

    def _captured(self) -> torch.cuda.CUDAGraph:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.enable_grad():
            for _ in range(3):
                self._update()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph), torch.enable_grad():
            self._update()
        return graph


def ratio_scores(before: Tensor, after: Tensor) -> Tensor:
    """Return (L_u − L_t) / (L_u + L_t + 10⁻³) of each segment from its losses over the same draws, [n, draws] each."""
    if before.shape != after.shape:
        raise ValueError(f"measured on different draws: {list(before.shape)} and {list(after.shape)}")
    was, now = before.double().mean(1), after.double().mean(1)
    return ((now - was) / (now + was + 1e-3)).float()


def null_losses(setting: Setting, probe: Probe, bands: int = 8) -> Tensor:
    """Return each query's null loss in equal bands of noise level: [q, bands].

    It is the resident model's mean loss on the held-out recordings, music that it never learned, under the query's own
    kind of condition (caption or none), the query's own recording left out. Raises ValueError where nothing is left,
    or where a band has no draw.
    """
    band = (probe.grid.levels() * bands).long().to(setting.device)
    share = torch.nn.functional.one_hot(band, bands).to(setting.training.latents)
    if not bool(share.any(0).all()):
        raise ValueError(f"{probe.grid.draws} draws leave one of {bands} bands empty")
    profiles = values(setting.model, {}, setting.queries, probe) @ (share / share.sum(0))
    return torch.stack([profiles[_unlearned(setting, q)].mean(0) for q in range(len(setting.facts))])


def _unlearned(setting: Setting, query: int) -> list[int]:
    asked = setting.facts[query]
    found = [
        i
        for i, fact in enumerate(setting.facts)
        if fact["kind"] == "held_out" and fact["condition"] == asked["condition"]
        and (asked["song"] is None or fact["song"] != asked["song"])
    ]  # fmt: skip
    if not found:
        raise ValueError(f"no held-out recording is left for the null loss of {asked['id']}")
    return found


class Scorer:
    """Answers one query after another: segment scores [n], steps taken, and how far the query was forgotten."""

    def __init__(self, setting: Setting, unlearner: Unlearner, probe: Probe, null_loss: Tensor) -> None:
        self.setting, self.unlearner, self.probe, self.null_loss = setting, unlearner, probe, null_loss
        self.before = values(setting.model, {}, setting.training, probe)

    def scores(self, query: int) -> dict[str, Tensor]:
        """Return the answers by name."""
        one = self.setting.queries[query : query + 1]
        found = self.unlearner.forget(one, self.null_loss[query], self.unlearner.recipe.seed * 100_003 + query)
        after = values(self.setting.model, found.params, self.setting.training, self.probe)
        facts = {"steps": torch.tensor(float(found.steps)), "ratio": torch.tensor(found.ratio)}
        return {"mucs": ratio_scores(self.before, after), **facts}
