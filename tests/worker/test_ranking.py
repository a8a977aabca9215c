"""What is made of evidence: order, amounts, verdict, and when to keep silent."""

from dataclasses import replace

import pytest
import torch

from worker.attribution.calibrate import Background, Fit, Scale
from worker.attribution.provenance import UNKNOWN, Provenance
from worker.engine import Engine
from worker.index import Index
from worker.ranking import Check, Evidence, Meaning, Ranking, ranked, trusted, weighed, why_abstain

FIT = Fit(0.6, 1.0)
SCALE = Scale(0.5, 0.2, 0.01)


@pytest.fixture
def index(tiny_engine: Engine) -> Index:
    return tiny_engine.index


def evidence(index: Index, fit: Fit = FIT, noise: float = 1e-4) -> Evidence:
    """Scores that fall from song to song, from quarters that differ by `noise`, over a small background."""
    count, make = len(index.manifest.songs), torch.Generator().manual_seed(0)
    songs = torch.linspace(0.2, -0.1, count)
    return Evidence(
        scores=torch.linspace(1, 0, len(index)),
        songs=songs,
        window=torch.zeros(len(index), dtype=torch.long),
        groups=songs + noise * torch.randn(4, count, generator=make),
        background=Background(0.02 * torch.randn(40, count, generator=make)),
        checks={0: Check(0.3, 0.2), 1: Check(0.1, None)},
        linearisation=0.9,
        fit=fit,
        facts={"draws": 64},
    )


def answer(index: Index, found: Evidence, meaning: Meaning) -> Ranking:
    return ranked(index, found, [0.0], meaning)


def test_a_calibrated_answer_has_effects_shares_and_intervals(index: Index) -> None:
    own = Provenance("own", 0.99)
    found = answer(index, evidence(index), Meaning(own, SCALE))
    assert (found.provenance, found.calibrated, found.abstained) == (own, True, None)
    assert found.reference_loss == pytest.approx(0.4)
    first = found.influences[0]
    assert (first.key, first.check) == (index.manifest.songs[0].key, Check(0.3, 0.2))
    assert (first.effect, first.share) == pytest.approx((0.1, 0.25), rel=1e-6)
    half = 1.645 * ((0.2 * 0.1) ** 2 + 0.01**2) ** 0.5 / 0.4
    assert first.interval.share_low == pytest.approx(0.25 - half, rel=0.01)
    assert first.interval.share_high == pytest.approx(0.25 + half, rel=0.01)
    assert first.interval.score_low < first.score < first.interval.score_high
    assert found.unattributed + sum(row.share for row in found.influences) == pytest.approx(1)
    assert found.influences[-1].effect == 0


def test_without_a_scale_the_provisional_rule_holds(index: Index) -> None:
    found = answer(index, evidence(index), Meaning())
    assert (found.provenance, found.calibrated, found.abstained) == (UNKNOWN, False, None)
    assert {row.effect for row in found.influences} == {None}
    assert found.influences[0].share > 0


@pytest.mark.parametrize("scale", [None, SCALE])
@pytest.mark.parametrize(
    ("provenance", "changes", "why"),
    [
        (Provenance("foreign", 0.01), {}, "this model's"),
        (UNKNOWN, {"linearisation": 0.1}, "unreliable"),
        (UNKNOWN, {"fit": replace(FIT, loss=1.1)}, "nothing"),
    ],
)
def test_an_answer_that_abstains_ranks_but_shares_nothing(
    index: Index, scale: Scale | None, provenance: Provenance, changes: dict, why: str
) -> None:
    found = answer(index, replace(evidence(index), **changes), Meaning(provenance, scale))
    assert found.abstained is not None
    assert why in found.abstained
    assert found.unattributed == 1
    assert {row.share for row in found.influences} == {row.interval.share_high for row in found.influences} == {0.0}
    assert [row.key for row in found.influences] == [song.key for song in index.manifest.songs]


@pytest.mark.parametrize("verdict", ["own", "unsure", "unknown"])
def test_only_a_foreign_track_is_refused_shares_for_its_origin(index: Index, verdict: str) -> None:
    assert why_abstain(Provenance(verdict, None), trusted(evidence(index)), FIT) is None


def test_draws_that_disagree_widen_the_intervals_and_lower_the_verdict(index: Index) -> None:
    sure, unsure = evidence(index), evidence(index, noise=0.5)
    assert (trusted(sure).verdict, trusted(unsure).verdict) == ("good", "poor")
    narrow, wide = (weighed(each, SCALE, abstain=False).scores for each in (sure, unsure))
    assert bool(((wide.high - wide.low) > (narrow.high - narrow.low)).all())
