"""Curvatures equal their dense definitions and refuse to divide undamped."""

import pytest
import torch

from tests.attribution.test_gradients import odd
from tests.attribution.toy import LINEAR, looped, probe, random_segments, sample_gradient, toy
from worker.attribution.curvature import DiagonalFisher, ProjectedCurvature, fisher_diagonal
from worker.attribution.hooks import UnsupportedWeight
from worker.attribution.measure import Measure, Probe


def random_rows(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize("damping", [1e-3, 0.1, 10.0])
def test_solving_equals_the_dense_inverse_fewer_rows_than_columns_included(count: int, damping: float) -> None:
    rows, size = random_rows(count, 12), 12
    second = rows.mT @ rows / count
    dense = torch.linalg.inv(second + damping * second.trace() / min(count, size) * torch.eye(size))
    vectors = torch.randn(2, 5, size, dtype=torch.float64)
    found = ProjectedCurvature.fit(rows, damping).solve(vectors)
    torch.testing.assert_close(found, vectors @ dense)
    torch.testing.assert_close(ProjectedCurvature.fit(rows, damping).solve(vectors[0, 0]), dense @ vectors[0, 0])


def test_damping_means_the_same_at_every_scale_of_the_rows() -> None:
    rows, vector = random_rows(20, 6), torch.randn(6, dtype=torch.float64)
    small, large = (ProjectedCurvature.fit(c * rows, 0.3).solve(vector) * c**2 for c in (1e-4, 1e4))
    torch.testing.assert_close(small, large)


def test_solving_keeps_the_precision_of_what_is_solved() -> None:
    curvature = ProjectedCurvature.fit(random_rows(9, 4).float(), 0.1)
    assert curvature.factor.dtype is torch.float64
    assert curvature.solve(torch.ones(3, 4)).dtype is torch.float32


def test_a_curvature_saved_and_loaded_is_the_same_bit_for_bit() -> None:
    curvature = ProjectedCurvature.fit(random_rows(9, 5), 0.1)
    state = curvature.state_dict()
    assert state["triangle"].numel() == 15
    assert torch.equal(ProjectedCurvature.from_state(state).factor, curvature.factor)


@pytest.mark.parametrize("damping", [0.0, -1.0, float("nan"), float("inf")])
def test_undamped_division_is_refused(damping: float) -> None:
    with pytest.raises(ValueError, match=r"damp|mean"):
        ProjectedCurvature.fit(random_rows(5, 3), damping)
    with pytest.raises(ValueError, match=r"damp|mean"):
        DiagonalFisher.of({"w": torch.ones(3)}, damping)


def test_rows_that_say_nothing_are_refused() -> None:
    for rows in (torch.zeros(4, 3), torch.full((4, 3), torch.nan), torch.ones(0, 3), torch.ones(3)):
        with pytest.raises(ValueError, match=r"mean eigenvalue|rows are"):
            ProjectedCurvature.fit(rows, 0.1)
    with pytest.raises(ValueError, match="of 3 numbers"):
        ProjectedCurvature.fit(torch.ones(4, 3), 0.1).solve(torch.ones(4))


@pytest.mark.parametrize("measure", list(Measure))
def test_the_fisher_diagonal_is_the_mean_of_squared_gradients_of_single_samples(measure: Measure) -> None:
    model, segments, one = toy(), random_segments(4), probe(measure, draws=3, batch=5)
    found = fisher_diagonal(model, segments, one, LINEAR)
    squares = []
    for i in range(4):
        for d in range(3):
            single = Probe(measure, one.grid.subset(range(d, d + 1)))
            gradient = sample_gradient(model, segments[i : i + 1], single, LINEAR)
            squares.append(torch.cat([g.flatten().square() for g in gradient.values()]))
    torch.testing.assert_close(torch.cat([f.flatten() for f in found.values()]), torch.stack(squares).mean(0))
    assert {n: f.shape for n, f in found.items()} == {n: p.shape for n, p in model.params(LINEAR).items()}


def test_the_fisher_is_larger_than_squares_of_averaged_gradients() -> None:
    model, segments, one = toy(), random_segments(3), probe()
    found = torch.cat([f.flatten() for f in fisher_diagonal(model, segments, one, LINEAR).values()])
    assert bool((found >= looped(model, segments, one, LINEAR).square().mean(0) * (1 - 1e-9)).all())


def test_a_layer_used_twice_has_no_fisher_by_use() -> None:
    model = odd()
    with pytest.raises(UnsupportedWeight, match="twice"):
        fisher_diagonal(model, random_segments(2), probe(), r"^twice\.")
    assert all(p.requires_grad and p.grad is None for p in model.module.parameters())


def test_the_direction_is_damped_by_the_mean_over_all_weights() -> None:
    diagonal = {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([[8.0]])}
    fisher = DiagonalFisher.of(diagonal, 0.5)
    found = fisher.direction({"a": torch.ones(2), "b": torch.ones(1, 1)})
    torch.testing.assert_close(found["a"], torch.tensor([1 / 3, 1 / 5]))
    torch.testing.assert_close(found["b"], torch.tensor([[1 / 10]]))
    with pytest.raises(ValueError, match="different weights"):
        fisher.direction({"a": torch.ones(2)})
