"""The gate and the scale are fitted on tuning data alone and find what made-up data hold."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bench.faithfulness.judge.truth import Family
from bench.starter.calibrate import Origin, Rises, gate_of, removals, scale_of, verdicts
from worker.attribution.calibrate import Scale


def made_up() -> list[Origin]:
    near, far = {"generated": 0.15, "generated_mp3": 0.2}, {"held_out": 0.9, "trained": 0.8}
    return [
        Origin(f"{kind}-{side}-{n}", kind, side, distance * (1 + 0.02 * n))
        for side in ("tune", "test")
        for kind, distance in (near | far).items()
        for n in range(8)
    ]


def test_a_gate_accepts_own_tracks_and_refuses_recordings() -> None:
    told = verdicts(gate_of(made_up()), made_up(), "test")
    assert [told[kind]["own"] for kind in ("generated", "generated_mp3")] == [1, 1]
    assert [told[kind]["foreign"] for kind in ("held_out", "trained")] == [1, 1]


def test_test_tracks_do_not_touch_the_gate() -> None:
    found = made_up()
    other = [Origin(o.name, o.kind, o.split, 9.0) if o.split == "test" else o for o in found]
    assert gate_of(other) == gate_of(found)


def test_the_scale_is_the_slope_that_made_the_losses() -> None:
    make = torch.Generator().manual_seed(0)
    kept = torch.rand(64, 30, generator=make) < 0.5
    scores = torch.rand(9, 30, generator=make).double()
    slope = torch.linspace(0.4, 0.8, 9).double()
    level = torch.rand(9, generator=make).double()  # a rise that all halves share is no song's
    losses = 0.5 + level + slope * ((~kept).double() @ scores.mT)
    rises = Rises.of(Family(kept, torch.arange(64), losses[None]), torch.full((9,), 0.5), scores, torch.arange(9))
    scale = scale_of(rises)
    assert (scale.slope, scale.low, scale.high) == pytest.approx((0.6, 0.42, 0.78))
    told = rises.told(scale)
    assert (told["median_slope"], told["median_correlation"]) == pytest.approx((1, 1), abs=1e-3)


def test_removals_are_predicted_from_what_was_removed(tmp_path: Path) -> None:
    groups = [{"query": 1, "songs": [0, 2], "mask": 0}, {"query": 0, "songs": [1], "mask": 1}]
    (tmp_path / "removals.json").write_text(json.dumps(groups))
    full = torch.tensor([[0.5, 0.6], [0.7, 0.8]])
    losses = torch.tensor([[0.0, 0.9], [0.0, 1.1], [0.65, 0.0]])
    save_file({"losses": full}, tmp_path / "truth-full.safetensors")
    save_file({"losses": losses, "mask": torch.tensor([0, 0, 1])}, tmp_path / "truth-removals.safetensors")
    scores = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, -0.6]])
    found = removals(tmp_path, scores, Scale(0.5, 0.25, 1.0))
    assert found["predicted"].tolist() == pytest.approx([0.2, 0.1])
    assert found["low"].tolist() == pytest.approx([0.1, 0.05])
    assert found["high"].tolist() == pytest.approx([0.4, 0.2])
    assert found["retrained"].tolist() == pytest.approx([0.3, 0.05])
    assert (found["query"].tolist(), found["songs"].tolist()) == ([1, 0], [2, 1])
    assert float(found["noise"][0]) == pytest.approx(1.645 * 0.02**0.5, rel=1e-3)
