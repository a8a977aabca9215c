"""What the runs left becomes a folder that the judge reads, with the best settings chosen on tuning data alone."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.faithfulness import collect, dosed
from bench.faithfulness.candidates import DEFAULT, Candidates, side_by_side, squared
from bench.faithfulness.costs import Costs, row_bytes
from bench.faithfulness.gradients_gram import Grams, gram
from bench.faithfulness.judge.causes import copies_section
from bench.faithfulness.judge.report import accuracy
from bench.faithfulness.judge.work import Work
from bench.faithfulness.raw import Answers, Raw, compact, filled
from bench.faithfulness.retrain import FAMILIES
from worker.attribution.evaluate import Bootstrap

SONGS, SEGMENTS, GENERATED, WINDOWS, HALVES, DIM = 20, 40, 24, 16, 80, 12
QUERIES = GENERATED + WINDOWS
SONG = torch.arange(SONGS).repeat_interleave(SEGMENTS // SONGS)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def write_work(folder: Path) -> None:
    folder.mkdir(parents=True)
    rows = [
        {"id": f"q{n}", "kind": "generated" if n < GENERATED else "held_out", "condition": "caption",
         "split": "tune" if n % 3 == 0 else "test", "prompt": "slow music", "seed": n,
         "song": None if n < GENERATED else "held0", "model_digest": "x"}
        for n in range(QUERIES)
    ]  # fmt: skip
    (folder / "queries.json").write_text(json.dumps(rows))
    for name, keys in (("songs.csv", [f"song{n}" for n in range(SONGS)]), ("held_out.csv", ["held0"])):
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([("key", "artist", "package", "caption", "duration_s")])
            writer.writerows((key, f"artist{n % 4}", f"source{n % 2}", "slow music", 60) for n, key in enumerate(keys))
    latents = {"latents": torch.zeros(SEGMENTS, 4, 5)}
    save_file(latents, folder / "training.safetensors")
    transformer = folder / "pipeline" / "transformer"
    transformer.mkdir(parents=True)
    save_file({"transformer_blocks.0.attn1.to_q.weight": torch.zeros(3, 7)}, transformer / "x.safetensors")


def write_grams(folder: Path, queries: int, seed: int = 0) -> torch.Tensor:
    """Rows of both measures, noisy versions of the same true rows; returns the true song scores [queries, songs]."""
    folder.mkdir(parents=True, exist_ok=True)
    songs, asked = draw(SEGMENTS, DIM, seed=seed), draw(queries, DIM, seed=seed + 1)
    for number, measure in enumerate(("squared_output", "squared_noise")):
        named = {}
        for projection in range(2):
            noise = draw(SEGMENTS, DIM, seed=10 * number + projection + 2)
            named[f"{measure}@{DIM}-{projection}"] = gram((songs + 0.3 * noise)[None], asked[None])
        grams = Grams(named, SONG, torch.ones(SEGMENTS), SONGS)
        grams.save(folder / f"projected-{measure}.safetensors")
    seconds = {"squared_output rows of queries": 4.0, "squared_noise rows of queries": 6.0}
    job = {"query_draws": 8, "draws": 4, "dim": DIM}
    (folder / "timing-grams.json").write_text(json.dumps({"seconds": seconds, "job": job}))
    sums = torch.zeros(queries, SONGS).index_add_(1, SONG, asked @ songs.mT)
    return sums.sign() * sums.square()


def write_truth(folder: Path, true: torch.Tensor) -> None:
    folder.mkdir(parents=True)
    kept = (torch.rand(HALVES, SONGS, generator=torch.Generator().manual_seed(3)) < 0.5).to(torch.uint8)
    losses = (9 - kept.float() @ true.mT / true.abs().mean())[:, :, None].repeat(1, 1, 8)
    full = {"kept": torch.ones(1, SONGS, dtype=torch.uint8), "mask": torch.tensor([0]), "seed": torch.tensor([11])}
    for part in range(2):
        rows = torch.arange(HALVES)
        halves = {"kept": kept, "mask": rows.flip(0), "seed": torch.full((HALVES,), part)}
        every = {name: torch.cat([halves[name], full[name]] if part else [halves[name]]) for name in halves}
        count = len(every["mask"])
        family = [FAMILIES.index("halves")] * HALVES + [FAMILIES.index("full")] * part
        save_file(
            {**every, "losses": losses[torch.arange(count) % HALVES].clone(), "final": torch.zeros(count),
             "family": torch.tensor(family)},
            folder / f"part-{part}.safetensors",
        )  # fmt: skip


def write_answers(folder: Path, name: str, values: torch.Tensor, draws: int) -> None:
    settings = json.dumps({"draws": draws, "query_draws": 8})
    tensors = {"step 0.01": values, "seconds": torch.full((len(values),), 2.0)}
    save_file(tensors, folder / name, metadata={"settings": settings})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("collect")
    write_work(top / "work")
    true = write_grams(top / "scores", QUERIES)
    write_truth(top / "truth", true)
    for model in range(2):
        queries = SONGS
        dosed_folder = top / f"dosed{model}"
        write_grams(dosed_folder, queries, seed=20 * model)
        (dosed_folder / "queries.json").write_text(json.dumps([{"song": f"song{n}"} for n in range(queries)]))
        copies = [0, 0, 0, 8, 8] + [1] * (SONGS - 5)
        (dosed_folder / "doses.json").write_text(json.dumps(copies[model:] + copies[:model]))
    return top


@pytest.fixture(scope="module")
def out(folder: Path) -> Path:
    target = folder / "out"
    places = [folder / name for name in ("work", "truth", "scores", "dosed0", "dosed1")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["collect", *map(str, places), str(target), "--made-on", "a machine"])
        collect.main()
    return target


def test_the_truth_is_split_by_family_and_averaged_over_bands(out: Path) -> None:
    halves, full = (load_file(out / f"truth-{name}.safetensors") for name in ("halves", "full"))
    assert halves["losses"].shape == (2 * HALVES, QUERIES)
    assert halves["mask"].tolist() == 2 * list(range(HALVES))
    assert halves["seed"].tolist() == [0] * HALVES + [1] * HALVES
    assert full["seed"].tolist() == [11]
    assert bool(full["kept"].all())


def test_the_square_is_found_on_tuning_data_and_judged_as_ours(out: Path) -> None:
    work = Work(out)
    assert work.made_on == "a machine"
    assert work.facts[DEFAULT]["power"] == 2
    assert work.facts[collect.PLAIN] | {"power": 2.0} == work.facts[DEFAULT]
    found = accuracy(work, Bootstrap(resamples=20))
    lds = {row["name"]: row["lds"]["generated"]["raw"] for row in found["methods"]}
    assert lds[DEFAULT] > max(0.8, lds[collect.PLAIN])
    assert found["tuning"]["methods"][DEFAULT]["queries"] == GENERATED // 3
    assert {"ours, v alone", "d-trak-v projected", "same_artist"} <= set(lds)


def test_matrices_that_methods_share_are_kept_once(out: Path) -> None:
    facts = Work(out).facts
    assert facts[collect.PLAIN]["scores"] == facts[DEFAULT]["scores"] == [f"{DEFAULT}@seed0", f"{DEFAULT}@seed1"]


def test_costs_come_from_the_clocks_and_from_what_is_kept(out: Path, folder: Path) -> None:
    facts = Work(out).facts
    assert facts[DEFAULT]["query_gpu_s"] == pytest.approx(10 / QUERIES)
    assert facts[DEFAULT]["bytes_per_segment"] == 2 * row_bytes(DIM) == 2 * (DIM + 4)
    costs = Costs(folder / "work", Raw((folder / "scores",), QUERIES))
    assert costs.gradients(("squared_noise",), whole=True)["bytes_per_segment"] == 4 * 3 * 7
    assert costs.gradients(("loss",), whole=True)["query_gpu_s"] is None
    assert costs.latents == 2 * 4 * 5


def test_thresholds_come_from_the_other_dosed_model(out: Path, folder: Path) -> None:
    files = [load_file(out / f"copies-{n}.safetensors") for n in range(2)]
    with (out / "songs.csv").open() as file:
        keys = [row["key"] for row in csv.DictReader(file)]
    facts = json.loads((out / "methods.json").read_text())["methods"]
    other = dosed.Dosed.load(folder / "dosed1", facts, keys)
    planted = other.planted_units(DEFAULT)
    expected = [float(planted.quantile(0.95)), float(planted.max())]
    assert files[0][f"threshold.{DEFAULT}"].tolist() == pytest.approx(expected, rel=1e-5)
    assert len(planted) == 3
    assert files[0]["own"].tolist() == list(range(SONGS))
    found = accuracy(Work(out), Bootstrap(resamples=20))["known_cause"]["copies"]
    assert found["models"] == 2
    assert found["by_model"][1][DEFAULT]["own_called_above_highest"][8]["n"] == 2


def test_models_that_set_thresholds_are_not_judged_by_them(out: Path, folder: Path, tmp_path: Path) -> None:
    for name in ("methods.json", "songs.csv"):
        shutil.copy(out / name, tmp_path / name)
    dosed.write([folder / "dosed0", folder / "dosed1", folder / "dosed0"], tmp_path)
    files = [load_file(tmp_path / f"copies-{n}.safetensors") for n in range(3)]
    assert [f"threshold.{DEFAULT}" in file for file in files] == [False, False, True]
    found = copies_section(Work(tmp_path), Bootstrap(resamples=20))["copies"]
    assert (found["tuning_models"], found["models"], len(found["by_model"])) == (2, 1, 1)


def test_of_several_answers_that_of_most_draws_counts(tmp_path: Path, folder: Path) -> None:
    many = torch.full((QUERIES, SEGMENTS), torch.nan)
    many[0] = 1.0
    write_answers(tmp_path, "unlearn.safetensors", many, 16)
    write_answers(tmp_path, "unlearn-large.safetensors", torch.full((2, SEGMENTS), 5.0), 10)
    raw = Raw((folder / "scores", tmp_path), QUERIES)
    steps = Candidates(raw, Costs(folder / "work", raw)).steps("unlearn*.safetensors")
    (scores,) = steps["step=0.01"].scores
    assert scores[:2, 0].tolist() == [2.0, 10.0]
    assert bool(scores[2:].isnan().all())
    assert steps["step=0.01"].facts["draws"] == {"query": 8, "segment": [16, 10]}
    assert squared(steps)["step=0.01"].powered[0][1, 0] == 100
    assert Answers.load(tmp_path / "unlearn-large.safetensors", QUERIES).seconds == 2


def test_joined_rows_have_the_sum_of_the_kernels() -> None:
    a, b, q = draw(6, 4), draw(6, 5, seed=1), draw(3, 9, seed=2)
    joint = gram(torch.cat([a, b], 1)[None], q[None]).kernel()
    summed = side_by_side(gram(a[None], q[None, :, :4]).kernel(), gram(b[None], q[None, :, 4:]).kernel())
    for name in ("songs", "cross", "queries"):
        torch.testing.assert_close(getattr(summed, name), getattr(joint, name), rtol=1e-5, atol=1e-5)


def test_compact_rows_keep_their_order_and_what_was_not_asked() -> None:
    scores = draw(4, 50) * 1e-9
    scores[2] = torch.nan
    small = compact(scores)
    assert bool(small[2].isnan().all())
    kept = [0, 1, 3]
    expected = torch.nn.functional.normalize(scores[kept].double(), dim=1) * 50**0.5
    torch.testing.assert_close(small[kept].double(), expected, rtol=1e-3, atol=1e-4)
    assert filled(small, 6)[4:].isnan().all()
