"""Steps tend to their first order, EK-FAC to its definition, MUCS forgets; the command writes what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench.faithfulness import mucs, score  # first: it makes torchaudio importable

# isort: split
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench import tiny
from bench.faithfulness.ekfac import EKFAC, Basis, fit
from bench.faithfulness.gradient_methods import METHODS, kernel_scores, projected, song_scores
from bench.faithfulness.gradients_gram import Grams
from bench.faithfulness.gradients_rows import spans_of
from bench.faithfulness.resumable import OtherSettings, Task, answer_all
from bench.faithfulness.setting import Setting
from bench.faithfulness.unlearning_methods import GRID_SEED, Forgetting, Mirror, diagonal_curvature, frozen_probe
from tests.attribution.toy import looped, random_segments, toy, train
from worker.attribution.hooks import UnsupportedWeight
from worker.attribution.measure import Measure, Probe, measured, values
from worker.attribution.noise import Grid
from worker.attribution.unlearn import Step, step_length
from worker.diffusion.stable_audio import StableAudio

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = r"^(to_[qkvo]|up|down)\.weight$"
FACTS = (
    {"id": "g", "kind": "generated", "condition": "caption", "split": "tune", "prompt": "slow low tune", "song": None},
    {"id": "a", "kind": "held_out", "condition": "caption", "split": "test", "prompt": "fast high tune", "song": "x"},
    {"id": "b", "kind": "held_out", "condition": "caption", "split": "test", "prompt": "noisy low drum", "song": "y"},
    {"id": "c", "kind": "held_out", "condition": "null", "split": "tune", "prompt": None, "song": "x"},
    {"id": "d", "kind": "held_out", "condition": "null", "split": "tune", "prompt": None, "song": "y"},
)
HOW = Forgetting(weights=WEIGHTS, steps=(1e-7,), query_draws=6, draws=4, fisher_draws=3, damping=0.1, batch=16)


def setting(dtype: torch.dtype = torch.float64) -> Setting:
    song = torch.tensor([0, 0, 1, 2, 2])
    return Setting(
        toy(dtype), random_segments(5, dtype), song, torch.ones(5), 3, random_segments(5, dtype, seed=8), FACTS
    )


def first_order(one: Setting, direction: dict[str, Tensor]) -> Tensor:
    rows = looped(one.model, one.training, Probe(Measure.LOSS, Grid(GRID_SEED, HOW.draws), 4), WEIGHTS)
    return rows @ torch.cat([direction[name].flatten() for name in one.model.params(WEIGHTS)])


def test_finite_steps_of_both_curvatures_tend_to_their_first_order() -> None:
    one = setting()
    probe = frozen_probe(one, HOW.fisher_draws, 4)
    bases = fit(one.model, one.training, probe, WEIGHTS)
    for curvature in (diagonal_curvature(one, HOW), EKFAC.of(bases, 0.1), EKFAC.of(bases, 0.1, per_layer=True)):
        mirror = Mirror(one, HOW, curvature)
        direction = mirror.direction(one.queries[1:2])
        eta = step_length(one.model.params(WEIGHTS), direction, Step(1e-7))
        found = mirror.changes(1)["step 1e-07"]
        torch.testing.assert_close(found / eta, first_order(one, direction), rtol=1e-3, atol=1e-6)


def dense_fisher(one: Setting, draws: int) -> Tensor:
    """The oracle: E (∇M)(∇M)ᵀ over single segments and draws, all weights side by side."""
    grids = [Grid(GRID_SEED, 1, first=d) for d in range(draws)]
    rows = torch.cat([looped(one.model, one.training, Probe(Measure.LOSS, g, 1), WEIGHTS) for g in grids])
    return rows.mT @ rows / len(rows)


def test_ekfac_is_the_dense_fishers_diagonal_in_the_kronecker_basis() -> None:
    one = setting()
    bases = fit(one.model, one.training, frozen_probe(one, 3, 4), WEIGHTS)
    dense, gradient = dense_fisher(one, 3), {n: torch.randn_like(p) for n, p in one.model.params(WEIGHTS).items()}
    curvature = EKFAC.of(bases, 0.2)
    found = curvature.direction(gradient)
    for name, (start, end) in spans_of(one.model, WEIGHTS).items():
        basis = bases[name]
        turn = torch.kron(basis.outputs, basis.inputs)
        inside = turn.mT @ dense[start:end, start:end] @ turn
        torch.testing.assert_close(basis.values.flatten(), inside.diagonal())
        approximate = turn @ torch.diag(inside.diagonal()) @ turn.mT
        damped = approximate + curvature.floors[name] * torch.eye(end - start, dtype=torch.float64)
        expected = torch.linalg.solve(damped, gradient[name].flatten())
        torch.testing.assert_close(found[name].flatten(), expected)
    rows = torch.cat([gradient[n].flatten() for n in one.model.params(WEIGHTS)])[None]
    solved = curvature.solved_rows(rows, spans_of(one.model, WEIGHTS))
    torch.testing.assert_close(solved[0], torch.cat([found[n].flatten() for n in one.model.params(WEIGHTS)]))


def test_ekfacs_bases_are_those_of_inputs_and_output_gradients() -> None:
    one = setting()
    probe = frozen_probe(one, 3, 64)
    basis = fit(one.model, one.training, probe, r"^down\.weight$")["down.weight"]
    caught: dict[str, Tensor] = {}
    layer = one.model.module.down

    def keep(_: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        caught["x"] = inputs[0].detach().flatten(0, -2)
        output.register_hook(lambda delta: caught.update(delta=delta.flatten(0, -2)))

    handle = layer.register_forward_hook(keep)
    measured(one.model, {}, one.training, probe).sum().backward()
    handle.remove()
    one.model.module.zero_grad(set_to_none=True)
    for turn, found in ((basis.inputs, caught["x"]), (basis.outputs, caught["delta"])):
        inside = turn.mT @ (found.mT @ found) @ turn
        torch.testing.assert_close(inside, torch.diag(inside.diagonal()), rtol=0, atol=1e-9 * float(inside.max()))


def test_ekfac_is_the_dense_inverse_where_inputs_and_output_gradients_are_independent() -> None:
    source = torch.Generator().manual_seed(0)
    x, delta = (torch.randn(7, size, generator=source, dtype=torch.float64) for size in (3, 2))
    gradients = torch.einsum("ao,bi->aboi", delta, x).flatten(0, 1)
    outputs, inputs = (torch.linalg.eigh(z.mT @ z / 7).eigenvectors for z in (delta, x))
    raw = Basis(outputs, inputs, torch.empty(0))
    basis = replace(raw, values=raw.rotated(gradients).square().mean(0))
    flat = gradients.flatten(1)
    dense = flat.mT @ flat / len(flat)
    floor = 0.1 * float(dense.diagonal().mean())
    asked = torch.randn(2, 3, generator=source, dtype=torch.float64)
    expected = torch.linalg.solve(dense + floor * torch.eye(6, dtype=torch.float64), asked.flatten())
    torch.testing.assert_close(EKFAC.of({"w": basis}, 0.1).direction({"w": asked})["w"].flatten(), expected)


def test_ekfac_leaves_the_model_as_it_was_and_refuses_what_it_cannot_factor() -> None:
    one = setting()
    before = {n: (p.detach().clone(), p.requires_grad, p.grad) for n, p in one.model.module.named_parameters()}
    fit(one.model, one.training, frozen_probe(one, 2, 4), WEIGHTS)
    for name, parameter in one.model.module.named_parameters():
        assert torch.equal(parameter, before[name][0])
        assert (parameter.requires_grad, parameter.grad) == before[name][1:]
    assert not any(m._forward_hooks for m in one.model.module.modules())
    for pattern in (r"^down\.", r"^smooth\.weight$"):
        with pytest.raises(UnsupportedWeight):
            fit(one.model, one.training, frozen_probe(one, 2, 4), pattern)
    with pytest.raises(ValueError, match="undamped"):
        EKFAC.of({"w": Basis(torch.eye(2), torch.eye(2), torch.ones(2, 2))}, 0.0)


RECIPE = mucs.Recipe(weights=r"^(up|down)\.", rate=3e-3, retained=8, forgotten=16, forget=2.0, most=120)


def learned() -> Setting:
    """A setting whose model has learned its training segments, of which the first query is one."""
    one = setting(torch.float32)
    train(one.model, one.training, 400)
    one.model.module.requires_grad_(False)
    return replace(one, queries=one.training)


def test_mucs_forgets_the_query_until_its_rule_says_so_and_leaves_the_resident_model_alone() -> None:
    one = learned()
    probe = frozen_probe(one, 32, 64)
    before = {n: p.clone() for n, p in one.model.module.state_dict().items()}
    start = values(one.model, {}, one.queries[:1], probe).mean()
    unlearner = mucs.Unlearner(one, RECIPE)
    found = unlearner.forget(one.queries[:1], 1.3 * start, seed=1)
    after = values(one.model, found.params, one.queries[:1], probe).mean()
    assert found.steps < RECIPE.most
    assert found.ratio >= RECIPE.enough
    assert after > 1.1 * start
    assert all(torch.equal(p, before[n]) for n, p in one.model.module.state_dict().items())
    assert {n.split(".")[0] for n in found.params} == {"up", "down"}


def test_mucs_stops_at_its_most_steps_and_forgets_nothing_beyond_the_null_loss() -> None:
    one = learned()
    unlearner = mucs.Unlearner(one, replace(RECIPE, most=7, forget=1.0, decay=0.0))
    assert unlearner.forget(one.queries[:1], torch.tensor(1e9), seed=1).steps == 7
    reached = unlearner.forget(one.queries[:1], torch.tensor(1e-9), seed=1)
    assert reached.steps == RECIPE.look_every
    unlearner._fill(torch.tensor([1.0, 2.0]), torch.Generator().manual_seed(0))
    assert torch.equal(unlearner.null, torch.tensor([1.0] * 8 + [2.0] * 8))


def test_mucs_answers_do_not_depend_on_what_was_asked_before() -> None:
    one = learned()
    null = mucs.null_losses(one, frozen_probe(one, 16, 64), bands=2)
    scorer = mucs.Scorer(one, mucs.Unlearner(one, replace(RECIPE, most=6)), frozen_probe(one, 4, 64), null)
    first = scorer.scores(0)["mucs"]
    scorer.scores(3)
    assert torch.equal(scorer.scores(0)["mucs"], first)
    assert first.shape == (5,)


def test_the_null_loss_is_that_of_the_other_held_out_recordings_under_the_same_condition() -> None:
    one = setting(torch.float32)
    probe = frozen_probe(one, 16, 64)
    found = mucs.null_losses(one, probe, bands=2)
    mean = values(one.model, {}, one.queries, probe)
    low = probe.grid.levels() < 0.5
    loss = torch.stack([mean[:, low].mean(1), mean[:, ~low].mean(1)], 1)
    expected = torch.stack([(loss[1] + loss[2]) / 2, loss[2], loss[1], loss[4], loss[3]])
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="empty"):
        mucs.null_losses(one, frozen_probe(one, 2, 64), bands=8)
    alone = replace(one, queries=one.queries[:2], facts=FACTS[:2])
    with pytest.raises(ValueError, match="no held-out recording"):
        mucs.null_losses(alone, probe, bands=2)


def test_ratio_scores_follow_their_equation() -> None:
    before, after = torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([[2.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(mucs.ratio_scores(before, after), torch.tensor([1 / 5.001, 0.0]))
    with pytest.raises(ValueError, match="different draws"):
        mucs.ratio_scores(before, after[:, :1])


def test_answers_are_kept_and_gone_on_with(tmp_path: Path) -> None:
    asked: list[int] = []

    def answer(query: int) -> dict[str, Tensor]:
        asked.append(query)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return {"x": torch.full((2,), float(query))}

    task = Task(tmp_path / "x.safetensors", {"a": (1, 2)}, [0, 2, 3], 5, every=1)
    with pytest.raises(KeyboardInterrupt):
        answer_all(task, answer)
    found = answer_all(task, answer)
    assert asked == [0, 2, 3, 3]
    assert found["x"][:, 0].nan_to_num(-1).tolist() == [0, -1, 2, 3, -1]
    assert found["seconds"].isfinite().tolist() == [True, False, True, True, False]
    with pytest.raises(OtherSettings):
        answer_all(replace(task, settings={"a": [1, 3]}), answer)
    late = answer_all(replace(task, path=tmp_path / "y.safetensors", limit_s=-1.0), answer)
    assert late == {}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An untrained tiny pipeline, and a working folder of its songs and five queries."""
    model_folder, work = (tmp_path_factory.mktemp(name) for name in ("model", "work"))
    pipeline = tiny.untrained(tiny.spectral())
    pipeline.save_pretrained(model_folder / "pipeline", safe_serialization=True)
    training = tiny.training_set(StableAudio(pipeline), tiny.SONGS[:3])
    training.save(work / "training.safetensors")
    (work / "queries.json").write_text(json.dumps(FACTS))
    save_file({"latents": training.latents[:5].half().contiguous()}, work / "queries.safetensors")
    return model_folder, work


def run(folders: tuple[Path, Path], out: Path, method: str, *options: str) -> dict[str, dict[str, Tensor]]:
    score.main([method, *map(str, folders), str(out), *options])
    return {path.stem: dict(load_file(path)) for path in out.glob("scores-*.safetensors")}


def test_the_setting_tells_segments_and_queries_what_they_are_told_elsewhere(folders: tuple[Path, Path]) -> None:
    one = Setting.load(*folders, "cpu")
    model = one.model
    assert one.songs == 3
    assert len(one.training) == 12
    second = model.condition([tiny.SONGS[1].caption], torch.tensor([0.0]), torch.tensor([4.096]))
    torch.testing.assert_close(one.training.cond.cross[4:5], second.cross)
    told = model.condition(["slow low tune", None], torch.zeros(2), torch.full((2,), 1.024))
    torch.testing.assert_close(one.queries.cond.cross[[0, 3]], told.cross)
    torch.testing.assert_close(one.queries.cond.globals_[[0, 3]], told.globals_)
    assert one.chosen("tune") == [0, 3, 4]
    assert one.chosen("all") == list(range(5))
    with pytest.raises(ValueError, match="split"):
        one.chosen("other")


def test_the_command_writes_inner_products_and_das(folders: tuple[Path, Path], tmp_path: Path) -> None:
    small = ("--song-draws", "4", "--query-draws", "8", "--dim", "64", "--seeds", "2", "--directions", "4")
    scores = run(folders, tmp_path, "grams", "--keep-rows", "--groups", *small)
    assert set(scores) == {"scores-diagonal"}
    grams = Grams.load(*tmp_path.glob("gram-*"), *tmp_path.glob("projected-*"), *tmp_path.glob("groups-*"))
    for method in METHODS.values():
        found = song_scores(grams, projected(method, 64, 1) if "@" in method.measure else method)
        assert found.shape == (5, 3)
        assert bool(found.isfinite().all())
    parts = [kernel_scores(grams, name) for name in grams.named if name.startswith("loss/")]
    torch.testing.assert_close(sum(parts), kernel_scores(grams, "loss"), rtol=1e-2, atol=1e-3)
    assert (tmp_path / "rows-loss.safetensors").exists()
    das = run(folders, tmp_path, "das", *small)["scores-das"]
    assert das["das@0.1"].shape == (5, 3)
    assert bool((das["das@0.1"] >= 0).all())


@pytest.mark.parametrize(
    ("method", "name", "options"),
    [
        ("unlearn", "finite-step@0.001", ()),
        ("ekfac", "abu-ekfac@0.001", ("--song-draws", "4", "--fisher-draws", "4")),
        ("mucs", "mucs", ("--most-steps", "2", "--null-bands", "2")),
    ],
)
def test_the_command_scores_query_by_query_and_goes_on(
    folders: tuple[Path, Path], tmp_path: Path, method: str, name: str, options: tuple[str, ...]
) -> None:
    small = ("--query-draws", "8", "--draws", "2", "--fisher-draws", "2", "--batch", "64", *options)
    part = run(folders, tmp_path, method, "--queries", "tune", *small)[f"scores-{method}"][name]
    assert part.isfinite().all(1).tolist() == [True, False, False, True, True]
    whole = run(folders, tmp_path, method, "--queries", "all", *small)[f"scores-{method}"][name]
    assert bool(whole.isfinite().all())
    assert torch.equal(whole[[0, 3, 4]], part[[0, 3, 4]])
    assert float(whole.std()) > 0
