"""The gate and the scale are fitted on tuning data alone and find what made-up data hold."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bench.starter.calibrate import Origin, Removals, gate_of, scale_of, verdicts
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


def made_up_removals(scale: Scale, count: int = 4000) -> Removals:
    make = torch.Generator().manual_seed(0)
    score = 2 * torch.rand(count, generator=make, dtype=torch.float64)
    slopes, noise = (torch.randn(count, generator=make, dtype=torch.float64) for _ in range(2))
    rise = scale.slope * (1 + scale.spread * slopes) * score + scale.noise * noise
    deviation = torch.full_like(score, scale.noise / (1 + 1 / 6) ** 0.5)
    return Removals(score, rise, deviation, torch.arange(count) // 2, torch.ones(count, dtype=torch.long), 6)


def test_the_scale_is_what_made_the_losses() -> None:
    made = Scale(0.6, 0.4, 0.05)
    found = scale_of(made_up_removals(made))
    assert (found.slope, found.spread, found.noise) == pytest.approx((0.6, 0.4, 0.05), rel=0.05)


def test_removals_are_predicted_from_what_was_removed(tmp_path: Path) -> None:
    groups = [{"query": 1, "songs": [0, 2], "mask": 0}, {"query": 0, "songs": [1], "mask": 1}]
    (tmp_path / "removals.json").write_text(json.dumps(groups))
    full = torch.tensor([[0.5, 0.6], [0.7, 0.8]])
    losses = torch.tensor([[0.0, 0.9], [0.0, 1.1], [0.65, 0.0]])
    save_file({"losses": full}, tmp_path / "truth-full.safetensors")
    save_file({"losses": losses, "mask": torch.tensor([0, 0, 1])}, tmp_path / "truth-removals.safetensors")
    found = Removals.load(tmp_path, torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, -0.6]]))
    assert found.score.tolist() == pytest.approx([0.4, 0.4, 0.2])
    assert found.rise.tolist() == pytest.approx([0.2, 0.4, 0.05])
    assert found.deviation.tolist() == pytest.approx([0.02**0.5] * 3)
    assert (found.query.tolist(), found.size.tolist(), found.models) == ([1, 1, 0], [2, 2, 1], 2)
    told = found.of(torch.tensor([True, False, True])).effects(Scale(0.5, 0.0, 0.1))
    assert told["predicted"].tolist() == pytest.approx([0.2, 0.1])
    assert told["high"].tolist() == pytest.approx([0.2 + 0.1645, 0.1 + 0.1645])
    assert told["retrained"].tolist() == pytest.approx([0.2, 0.05])
