"""How far an answer is to be believed."""

import pytest
import torch

from worker.attribution.calibrate import Background
from worker.attribution.reliability import agreement, draw_agreement, effective_rank, hub_agreement, reliability


@pytest.mark.parametrize(
    ("draws", "linearisation", "hubs", "verdict"),
    [
        (0.9, 0.85, 0.1, "good"),
        (0.9, None, 0.1, "good"),
        (0.9, 0.6, 0.1, "fair"),
        (0.55, 0.99, 0.1, "fair"),
        (0.2, 0.9, 0.1, "poor"),
        (0.95, 0.95, 0.93, "fair"),
        (0.2, 0.95, 0.93, "poor"),
    ],
)
def test_the_weaker_sign_decides_and_hubs_are_fair_at_best(
    draws: float, linearisation: float | None, hubs: float, verdict: str
) -> None:
    found = reliability(draws, linearisation, hubs)
    assert (found.draws, found.linearisation, found.hubs, found.verdict) == (draws, linearisation, hubs, verdict)


def test_the_agreement_of_groups_foretells_that_of_all_draws() -> None:
    make = torch.Generator().manual_seed(5)
    song, noise = torch.randn(4000, generator=make), torch.randn(8, 4000, generator=make)
    once, again = (song + 1.5 * part for part in noise.split(4))
    assert draw_agreement(once) == pytest.approx(agreement(once.mean(0), again.mean(0)), abs=0.03)
    assert draw_agreement(torch.stack([song, -song])) == 0
    with pytest.raises(ValueError, match="two groups"):
        draw_agreement(song[None])


def test_agreement_is_of_ranks() -> None:
    x = torch.randn(50)
    assert agreement(x, x.exp()) == pytest.approx(1)
    assert agreement(x, -x) == pytest.approx(-1)
    assert agreement(x, torch.zeros(50)) == 0


def test_hubs_show() -> None:
    base = torch.randn(30, dtype=torch.float64)
    crowd = Background(base + 0.01 * torch.randn(20, 30, dtype=torch.float64))
    assert hub_agreement(base, crowd) > 0.99
    assert effective_rank(crowd.scores) < 1.1
    assert effective_rank(torch.eye(7)) == pytest.approx(7)
    with pytest.raises(ValueError, match="zeros"):
        effective_rank(torch.zeros(2, 2))
