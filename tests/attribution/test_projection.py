"""Projections keep inner products, are the same everywhere, and have an exact transpose."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.attribution.projection import SJLT, Identity, pull_back

CPU = torch.device("cpu")


def projected(sketch: SJLT, x: torch.Tensor) -> torch.Tensor:
    return sketch.slice("weight", x.shape[1], CPU).project(x)


@pytest.mark.parametrize("nonzeros", [1, 4])
@pytest.mark.parametrize("kind", ["dense", "heavy", "rank one"])
def test_inner_products_are_unbiased_and_within_the_stated_variance(nonzeros: int, kind: str) -> None:
    size, dim, seeds = 40 * 30, 64, 400
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 1, size, generator=draw, dtype=torch.float64)
    if kind == "heavy":
        x, y = x**5, y**5
    if kind == "rank one":
        left, right = (
            torch.randn(2, 40, 1, generator=draw).double() ** 3,
            torch.randn(2, 1, 30, generator=draw).double(),
        )
        x, y = (left * right).view(2, 1, size)
    exact = float(x @ y.mT)
    found = torch.stack([projected(SJLT(s, dim, nonzeros), torch.cat([x, y])).prod(0).sum() for s in range(seeds)])
    deviation = float(((x.norm() * y.norm()) ** 2 + exact**2) / dim) ** 0.5
    assert abs(float(found.mean()) - exact) < 4 * deviation / seeds**0.5
    assert float(found.std()) < 1.2 * deviation


@given(st.integers(0, 2**40), st.integers(1, 70), st.sampled_from([(8, 1), (8, 4), (8, 8), (64, 2)]))
def test_the_transpose_is_exact(seed: int, size: int, shape: tuple[int, int]) -> None:
    sketch = SJLT(seed, *shape)
    part = sketch.slice("w", size, CPU)
    g, u = torch.randn(1, size, dtype=torch.float64), torch.randn(shape[0], dtype=torch.float64)
    torch.testing.assert_close(g[0] @ part.pull_back(u), part.project(g)[0] @ u)


@settings(max_examples=20)
@given(st.integers(1, 70))
def test_every_column_has_as_many_non_zeros_as_stated_and_unit_length(size: int) -> None:
    matrix = projected(SJLT(3, 12, 4), torch.eye(size, dtype=torch.float64))
    assert bool(((matrix != 0).sum(1) == 4).all())
    torch.testing.assert_close(matrix.norm(dim=1), torch.ones(size, dtype=torch.float64))
    per_block = (matrix.view(size, 4, 3) != 0).sum(2)
    assert bool((per_block == 1).all())


def test_weights_and_seeds_have_projections_of_their_own() -> None:
    x = torch.randn(1, 50)
    rows = [SJLT(s, 16).slice(n, 50, CPU).project(x) for s in (0, 1) for n in ("a", "b")]
    assert all(not torch.allclose(rows[i], rows[j]) for i in range(4) for j in range(i))


def test_another_process_projects_alike() -> None:
    code = (
        "import torch; from worker.attribution.projection import SJLT;"
        "print(SJLT(5, 6, 2).slice('blocks.0.to_k', 9, torch.device('cpu')).project(torch.arange(9.)[None]).tolist())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = SJLT(5, 6, 2).slice("blocks.0.to_k", 9, CPU).project(torch.arange(9.0)[None])
    assert printed.strip() == str(here.tolist())


def test_identity_lays_weights_side_by_side() -> None:
    params = {"a": torch.randn(2, 3), "b": torch.randn(4)}
    layout = Identity.of(params)
    rows = sum(layout.slice(n, p.numel(), CPU).project(p.view(1, -1)) for n, p in params.items())
    assert torch.equal(rows[0], torch.cat([params["a"].flatten(), params["b"]]))
    back = pull_back(layout, rows[0], params)
    assert all(torch.equal(back[n], params[n]) for n in params)


def test_a_projected_direction_becomes_one_of_the_weights() -> None:
    params = {"a": torch.randn(2, 3, dtype=torch.float64), "b": torch.randn(4, dtype=torch.float64)}
    sketch, u = SJLT(1, 8), torch.randn(8, dtype=torch.float64)
    back = pull_back(sketch, u, params)
    inner = sum((params[n] * back[n]).sum() for n in params)
    projected_params = sum(sketch.slice(n, p.numel(), CPU).project(p.view(1, -1))[0] for n, p in params.items())
    torch.testing.assert_close(inner, projected_params @ u)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="dividing"):
        SJLT(0, 10, 3)
    with pytest.raises(ValueError, match=r"\[8\]"):
        pull_back(SJLT(0, 8), torch.zeros(7), {})
    with pytest.raises(ValueError, match="expected 5"):
        SJLT(0, 8).slice("w", 5, CPU).project(torch.zeros(1, 6))
    layout = Identity.of({"a": torch.zeros(2)})
    with pytest.raises(ValueError, match="no place"):
        layout.slice("b", 2, CPU)
    with pytest.raises(ValueError, match="expected 2"):
        layout.slice("a", 3, CPU)
