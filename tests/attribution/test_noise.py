"""The grid is a pure function of (seed, draw)."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worker.attribution.noise import Grid

SHAPE = (3, 7)
FROZEN_LEVELS = torch.tensor([0.06661862134933472, 0.6846525073051453], dtype=torch.float64)
FROZEN_NOISE = torch.tensor(
    [
        [[0.15975746512413025, -0.963719367980957, -1.8000062704086304]],
        [[0.5854918956756592, 0.7299773693084717, -0.2018883228302002]],
    ]
)
seeds = st.integers(0, 2**63)


@given(seeds, st.integers(1, 40), st.integers(1, 40))
def test_adding_draws_changes_no_earlier_one(seed: int, few: int, more: int) -> None:
    small, large = Grid(seed, few), Grid(seed, few + more)
    assert torch.equal(small.levels(), large.levels()[:few])
    assert torch.equal(small.noise(SHAPE), large.noise(SHAPE)[:few])


@given(seeds, st.integers(1, 200))
def test_levels_lie_inside_the_unit_interval_in_single_precision_too(seed: int, draws: int) -> None:
    levels = Grid(seed, draws).levels().float()
    assert bool(((levels > 0) & (levels < 1)).all())


@given(seeds)
def test_levels_spread_more_evenly_than_chance(seed: int) -> None:
    gaps = Grid(seed, 64).levels().sort().values.diff()
    assert float(gaps.max()) < 3 / 64  # golden-ratio gaps take three sizes, all near 1/64; chance leaves 4/64 and more


def test_a_part_of_a_grid_is_the_same_draws() -> None:
    grid = Grid(5, 20)
    part = grid.subset(range(3, 15, 4)).subset(range(1, 3))
    assert list(part.indices) == [7, 11]
    assert torch.equal(part.noise(SHAPE), grid.noise(SHAPE)[[7, 11]])
    assert torch.equal(part.levels(), grid.levels()[[7, 11]])


def test_parts_are_interleaved_and_equal() -> None:
    assert [list(part.indices) for part in Grid(5, 6).parts(3)] == [[0, 3], [1, 4], [2, 5]]
    for draws, parts in ((7, 2), (4, 0)):
        with pytest.raises(ValueError, match="equal parts"):
            Grid(5, draws).parts(parts)


def test_another_process_sees_the_same_noise() -> None:
    show = "print(g.noise((2, 2)).tolist(), g.levels().tolist())"
    code = f"from worker.attribution.noise import Grid; g = Grid(11, 3); {show}"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    grid = Grid(11, 3)
    assert printed.strip() == f"{grid.noise((2, 2)).tolist()} {grid.levels().tolist()}"


def test_noise_is_frozen_for_ever() -> None:
    grid = Grid(0, 2)
    assert torch.allclose(grid.noise((1, 3)), FROZEN_NOISE, atol=1e-6)
    assert torch.allclose(grid.levels(), FROZEN_LEVELS, atol=1e-6)


def test_noise_is_standard_normal_and_independent_between_draws_and_seeds() -> None:
    noise = Grid(1, 50).noise((8, 100)).flatten(1)
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02
    correlation = torch.corrcoef(torch.cat([noise, Grid(2, 50).noise((8, 100)).flatten(1)]))
    assert float((correlation - torch.eye(100)).abs().max()) < 0.2


def test_what_a_caller_writes_into_noise_stays_with_the_caller() -> None:
    Grid(4, 1).noise(SHAPE).zero_()
    assert float(Grid(4, 1).noise(SHAPE).abs().sum()) > 0


@pytest.mark.parametrize("wrong", [(-1, 2), (0, 0), (0, 2, -1), (0, 2, 0, 0)])
def test_grids_that_mean_nothing_are_refused(wrong: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="grid"):
        Grid(*wrong)


@pytest.mark.parametrize("positions", [range(0), range(2, 6), range(-1, 2), range(3, 0, -1)])
def test_positions_outside_of_a_grid_are_refused(positions: range) -> None:
    with pytest.raises(ValueError, match="positions"):
        Grid(0, 5).subset(positions)
