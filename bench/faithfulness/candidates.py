"""Every method of the table under every setting that tuning may choose, from what the runs left.

    ours    τ = row_i · C⁻¹ row_q,  rows of the squared v- and noise prediction, each projected and at unit length, side
            by side: their kernel is the sum of the two kernels;  score of a song  s |s|^(power − 1),  s = Σ_segments τ

A setting's matrices are [q, songs] before the power, one a projection seed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

from bench.faithfulness.again import SHIPPED  # first: it makes torchaudio importable

# isort: split
from bench.faithfulness.judge.embedding import Pooling, cosine
from bench.faithfulness.judge.embedding import by_song as pooled

# isort: split
import torch
from safetensors.torch import load_file
from torch import Tensor

from bench.faithfulness.gradient_methods import solved, thresholded
from bench.faithfulness.gradients_gram import Kernel
from bench.faithfulness.raw import filled
from worker.attribution.influence import by_song, signed_power

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.faithfulness.costs import Costs
    from bench.faithfulness.raw import Answers, Raw

DEFAULT = "ours"
DAMPINGS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
KEPT = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02)
OUR_DAMPINGS, POWERS = DAMPINGS[1:5], (1.0, 2.0, 3.0)
OUTPUT, NOISE, LOSS = "squared_output", "squared_noise", "loss"
POOLED: tuple[Pooling, ...] = ("sum", "max")


@dataclass(frozen=True)
class Variant:
    """One setting: matrices [q, songs], one a projection seed; the power that their sums are raised to; its costs."""

    scores: tuple[Tensor, ...]
    power: float = 1.0
    facts: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def powered(self) -> list[Tensor]:
        """The scores themselves."""
        return [signed_power(one.double(), self.power) for one in self.scores]


@dataclass(frozen=True)
class Method:
    """One row of the table: its settings by name; a rival, or a part or version of ours that is none."""

    name: str
    variants: dict[str, Variant]
    rival: bool = True


@dataclass(frozen=True)
class Candidates:
    """The methods that the raw answers hold."""

    raw: Raw
    costs: Costs

    def all(self) -> list[Method]:
        """Return every method, ours first."""
        found = [*self.ours(), *self.plain(), *self.kernels(), *self.first_orders(), *self.stepped()]
        found += [*self.packaged(), *self.alike()]
        return [method for method in found if method.variants]

    def ours(self) -> Iterator[Method]:
        """The default under either power, its parts alone, and the same from whole gradients."""
        both = (OUTPUT, NOISE)
        yield Method(DEFAULT, dict(self.joint(both, POWERS)), rival=False)
        yield Method("ours, v alone", dict(self.joint((OUTPUT,))), rival=False)
        yield Method("ours, noise alone", dict(self.joint((NOISE,))), rival=False)
        yield Method("ours, unprojected", dict(self.joint(both, whole=True)), rival=False)
        yield self.all_projections(both)
        yield Method(SHIPPED, dict(self.shipped(both)), rival=False)

    def shipped(self, measures: tuple[str, ...]) -> Iterator[tuple[str, Variant]]:
        """Yield the scores that the index in the starter gives, its rows in bytes, as the service gives them."""
        for path in self.raw.last("index-scores.safetensors").values():
            for digest, matrix in load_file(path).items():
                yield f"index={digest[:12]}", Variant((matrix,), 1.0, self.costs.gradients(measures, whole=False))

    def all_projections(self, measures: tuple[str, ...]) -> Method:
        """Return ours with the rows of all projections side by side, as one of so many times the numbers would be."""
        tags = self.tags(measures, whole=False)
        facts = self.costs.gradients(measures, whole=False)
        facts["bytes_per_segment"] *= len(tags)
        kernels = [self.raw.kernels[m + tag].unit() for m in measures for tag in tags]
        variants = {
            f"damping={damping:g},power=2": Variant((self.songs(solved(side_by_side(*kernels), damping)),), 2.0, facts)
            for damping in (OUR_DAMPINGS if kernels else ())
        }
        return Method(f"ours, {len(tags)} projections side by side", variants, rival=False)

    def joint(
        self, measures: tuple[str, ...], powers: tuple[float, ...] = (2.0,), whole: bool = False
    ) -> Iterator[tuple[str, Variant]]:
        """Yield the settings of unit rows of `measures` side by side."""
        facts = self.costs.gradients(measures, whole)
        for damping in OUR_DAMPINGS:
            scores = tuple(self.joint_scores(measures, tag, damping) for tag in self.tags(measures, whole))
            for power in powers if scores else ():
                yield f"damping={damping:g},power={power:g}", Variant(scores, power, facts)

    def joint_scores(self, measures: tuple[str, ...], tag: str, damping: float) -> Tensor:
        """Return τ by song [q, songs] of unit rows side by side; `tag` names the projection, "" for whole rows."""
        return self.songs(solved(side_by_side(*(self.raw.kernels[m + tag].unit() for m in measures)), damping))

    def tags(self, measures: tuple[str, ...], whole: bool) -> list[str]:
        """Return the projections that all of `measures` have, or the one of whole rows."""
        if whole:
            return [""] if all(m in self.raw.kernels for m in measures) else []
        projections = [{n.removeprefix(m) for n in self.raw.kernels if n.startswith(f"{m}@")} for m in measures]
        return sorted(set.intersection(*projections))

    def plain(self) -> Iterator[Method]:
        """Inner products and cosines of the loss gradients, of which thresholding keeps a part."""
        for name, unit in (("gradient-dot", False), ("gradient-cosine", True)):
            if LOSS not in self.raw.kernels:
                return
            kernel = self.raw.kernels[LOSS].unit() if unit else self.raw.kernels[LOSS]
            facts = self.costs.gradients((LOSS,), whole=True)
            yield Method(
                name, {f"kept={k:g}": Variant((self.songs(thresholded(kernel.cross, k)),), 1.0, facts) for k in KEPT}
            )

    def kernels(self) -> Iterator[Method]:
        """Damped kernels of one measure, of whole and of projected rows; and D-TRAK with our square."""
        yield Method("loss-kernel", dict(self.kernel(LOSS, whole=True)))
        yield Method("trak", dict(self.kernel(LOSS)))
        for name, measure in (("d-trak-v", OUTPUT), ("d-trak-eps", NOISE)):
            whole = dict(self.kernel(measure, whole=True))
            yield Method(name, whole)
            yield Method(f"{name} projected", dict(self.kernel(measure)))
            yield Method(f"{name} squared", squared(whole), rival=False)

    def kernel(self, measure: str, whole: bool = False) -> Iterator[tuple[str, Variant]]:
        """Yield every damping with raw and with unit rows of `measure`."""
        facts = self.costs.gradients((measure,), whole)
        for unit, damping in product((False, True), DAMPINGS):
            kernels = [self.raw.kernels[measure + tag] for tag in self.tags((measure,), whole)]
            scores = tuple(self.songs(solved(k.unit() if unit else k, damping)) for k in kernels)
            if scores:
                yield f"rows={'unit' if unit else 'raw'},damping={damping:g}", Variant(scores, 1.0, facts)

    def first_orders(self) -> Iterator[Method]:
        """What the runs wrote as song scores: diagonal and EK-FAC first orders, and DAS."""
        facts = self.costs.gradients((LOSS,), whole=True)
        yield Method("diagonal-first-order", self.written("diagonal-first-order", facts))
        yield Method("ekfac-influence", self.written("ekfac-influence", facts))
        yield Method("das", self.written("das", self.costs.das(LOSS)))

    def written(self, name: str, facts: dict[str, Any]) -> dict[str, Variant]:
        """Return the settings of matrices called NAME@DAMPING, NAME-song@DAMPING or NAME@DAMPING per layer."""
        found = {}
        for key, matrix in self.raw.scores.items():
            family, _, setting = key.partition("@")
            if family in (name, f"{name}-song"):
                damping, layered = setting.removesuffix(" per layer"), setting.endswith(" per layer")
                kind = ",squared=song" if family != name else ",relative=layer" if layered else ""
                found[f"damping={damping}{kind}"] = Variant((matrix,), 1.0, facts)
        return found

    def stepped(self) -> Iterator[Method]:
        """Finite steps of both curvatures and fine-tuning, as far as queries were asked; EK-FAC with our square."""
        ekfac = self.steps("ekfac*.safetensors")
        yield Method("finite-step", self.steps("unlearn*.safetensors"))
        yield Method("abu-ekfac", ekfac)
        yield Method("abu-ekfac squared", squared(ekfac), rival=False)
        yield Method("mucs", self.tuned())

    def steps(self, pattern: str) -> dict[str, Variant]:
        """Return one setting a step length; of a query that was asked several times, the answer of most draws."""
        runs = sorted(self.raw.answers(pattern), key=lambda run: -run.settings["draws"])
        lengths = sorted({step for run in runs for step in run.steps})
        return {f"step={step:g}": self.step([run for run in runs if step in run.steps], step) for step in lengths}

    def step(self, runs: list[Answers], step: float) -> Variant:
        """Return the changes of one step length, `runs` in the order of preference; its costs are of the first."""
        change = runs[0].steps[step]
        for other in runs[1:]:
            change = torch.where(change.isfinite().all(1, keepdim=True), change, other.steps[step])
        facts = self.costs.a_query_at_a_time(runs[0])
        facts["draws"] |= {"segment": [run.settings["draws"] for run in runs]}
        return Variant((self.songs(change),), 1.0, facts)

    def tuned(self) -> dict[str, Variant]:
        """Return MUCS by its own stopping rule, from its longest run."""
        runs = self.raw.answers("mucs*.safetensors")
        return {
            f"draws={run.settings['draws']}": Variant((self.songs(run.values["mucs"]),), 1.0, self.costs.tuned(run))
            for run in runs
        }

    def packaged(self) -> Iterator[Method]:
        """What public packages said (`bench.faithfulness.packages`): matrices called NAME,SETTING=VALUE,…."""
        found: dict[str, dict[str, Variant]] = defaultdict(dict)
        for key, matrix in self.raw.scores.items():
            name, comma, setting = key.partition(",")
            if comma and key in self.costs.packages:
                facts = self.costs.package(key)
                found[name][setting] = Variant((filled(matrix, self.raw.queries),), 1.0, facts)
        for name, variants in found.items():
            yield Method(name, variants)

    def alike(self) -> Iterator[Method]:
        """Similarity of embeddings, summed or the highest of a song."""
        found: dict[str, dict[str, Variant]] = defaultdict(dict)
        for key, matrix in self.raw.scores.items():
            space, _, pooling = key.rpartition("-")
            if pooling in POOLED:
                found[space][f"pooling={pooling}"] = Variant((matrix,), 1.0, self.costs.embedding(space))
        for space, variants in found.items():
            yield Method(f"similarity of {space.replace('_', ' ')}", variants)
        yield Method("similarity of a music tagger", self.tagged())

    def tagged(self) -> dict[str, Variant]:
        """Return the cosine of a pretrained music tagger's embeddings, as `bench.faithfulness.tagger` left them."""
        found = {}
        for path in self.raw.last("tagger.safetensors").values():
            stored, song = load_file(path), self.raw.grams.song
            similarity, facts = (
                cosine(stored["queries"], stored["songs"]),
                self.costs.features(stored["songs"].shape[1]),
            )
            for pooling in POOLED:
                scores = pooled(similarity, song, self.raw.grams.songs, pooling)
                found[f"pooling={pooling}"] = Variant((scores,), 1.0, facts)
        return found

    def songs(self, segments: Tensor) -> Tensor:
        """Return song scores [q, songs] of segment scores [q, n]."""
        grams = self.raw.grams
        return by_song(segments, grams.song, grams.weight, grams.songs).float()


def side_by_side(*kernels: Kernel) -> Kernel:
    """Return the kernel of rows joined end to end, which is the sum of theirs."""
    parts = [torch.stack([getattr(k, name) for k in kernels]).sum(0) for name in ("songs", "cross", "queries")]
    return Kernel(*parts)


def squared(variants: dict[str, Variant]) -> dict[str, Variant]:
    """Return the same settings with our signed square of a song's sum."""
    return {name: Variant(v.scores, 2.0, v.facts) for name, v in variants.items()}
