"""A working folder with a known truth is judged as it should be, from files to accuracy.json and pictures."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from bench.faithfulness.judge import __main__ as command
from bench.faithfulness.judge.report import accuracy
from bench.faithfulness.judge.work import Work
from worker.attribution.evaluate import Bootstrap

SONGS, GENERATED, RECORDINGS, HALVES = 30, 24, 12, 96
FEW = Bootstrap(resamples=60)
PNG = b"\x89PNG"


class World:
    """Songs by six artists; a query's losses are linear in the songs kept; two seeds, eight bands of noise."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.draw = folder, torch.Generator().manual_seed(0)
        self.rows = self.queries()
        shared = torch.randn(SONGS, generator=self.draw)
        self.true = torch.randn(len(self.rows), SONGS, generator=self.draw) + 0.7 * shared

    def queries(self) -> list[dict]:
        """A third for tuning; recordings once under their caption and once under none."""
        rows = [
            {"id": f"g{n}", "kind": "generated", "condition": "caption", "prompt": f"word{n % 6} music", "song": None,
             "split": "tune" if n < GENERATED // 3 else "test", "seed": n, "model_digest": "x"}
            for n in range(GENERATED)
        ]  # fmt: skip
        for condition in ("caption", "null"):
            rows += [
                {"id": f"h{n}-{condition}", "kind": "held_out", "condition": condition, "song": f"held{n}",
                 "prompt": f"word{n % 6} music" if condition == "caption" else None,
                 "split": "tune" if n < RECORDINGS // 3 else "test"}
                for n in range(RECORDINGS)
            ]  # fmt: skip
        return rows

    def losses(self, kept: Tensor, noise: float = 0.3) -> Tensor:
        clean = 5 - kept.float() @ self.true.mT / SONGS**0.5
        noisy = clean + noise * torch.randn(clean.shape, generator=self.draw)
        return noisy[:, :, None] + torch.linspace(-1, 1, 8)

    def retrained(self, name: str, subsets: int, seeds: int) -> None:
        masks = (torch.rand(subsets, SONGS, generator=self.draw) < 0.5).to(torch.uint8)
        kept = masks.repeat(seeds, 1)
        mask, seed = torch.arange(subsets).repeat(seeds), torch.arange(seeds).repeat_interleave(subsets)
        self.save(f"truth-{name}", kept=kept, mask=mask, seed=seed, losses=self.losses(kept))

    def save(self, name: str, **tensors: Tensor) -> None:
        save_file({k: v.contiguous() for k, v in tensors.items()}, self.folder / f"{name}.safetensors")

    def noisy(self, amount: float) -> Tensor:
        return self.true + amount * torch.randn(self.true.shape, generator=self.draw)

    def write(self) -> None:
        (self.folder / "queries.json").write_text(json.dumps(self.rows))
        self.songs("songs.csv", [f"song{n}" for n in range(SONGS)])
        self.songs("held_out.csv", [f"held{n}" for n in range(RECORDINGS)])
        self.retrained("halves", HALVES, 2)
        self.retrained("artists", 24, 1)
        self.scores()
        self.removals()
        self.causes()

    def songs(self, name: str, keys: list[str]) -> None:
        with (self.folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, ("key", "artist", "package", "caption", "duration_s"))
            writer.writeheader()
            for n, key in enumerate(keys):
                writer.writerow({"key": key, "artist": f"artist{n % 6}", "package": f"source{n % 3}",
                                 "caption": f"word{n % 6} music", "duration_s": 30 + n})  # fmt: skip

    def scores(self) -> None:
        partly = self.noisy(1.0)
        partly[10 : GENERATED - 2] = torch.nan
        self.save("scores-a", **{f"hash-{n}": self.noisy(0.3) for n in range(3)}, rival=self.noisy(1.5), partly=partly)
        self.save("scores-b", **{f"step {n}": self.noisy(n) for n in (1.0, 2.0, 3.0)})
        methods = {
            "ours": {
                "rival": False,
                "scores": [f"hash-{n}" for n in range(3)],
                "query_gpu_s": 0.5,
                "bytes_per_segment": 9,
            },
            "rival": {"query_gpu_s": 20.0},
            "partly": {},
            "stepping": {"variants": {f"step={n}": f"step {n}" for n in (1.0, 2.0, 3.0)}, "query_gpu_s": 3.0},
        }
        (self.folder / "methods.json").write_text(json.dumps({"default": "ours", "methods": methods}))

    def removals(self) -> None:
        groups, kept = [], []
        for query in range(8, 16):
            for method, order in (
                ("ours", self.true[query].argsort(descending=True)),
                ("artist_matched", torch.arange(SONGS)),
            ):
                groups.append({"query": query, "method": method, "songs": order[:5].tolist()})
                kept.append(torch.ones(SONGS).index_fill_(0, order[:5], 0))
        kept = torch.stack(kept).to(torch.uint8)
        (self.folder / "removals.json").write_text(json.dumps(groups))
        for name, masks in (("removals", kept), ("full", torch.ones(1, SONGS, dtype=torch.uint8))):
            rows = masks.repeat(2, 1)
            seed = torch.arange(2).repeat_interleave(len(masks))
            self.save(f"truth-{name}", kept=rows, mask=torch.arange(len(masks)).repeat(2), seed=seed,
                      losses=self.losses(rows, 0.02))  # fmt: skip

    def causes(self) -> None:
        dose = torch.tensor([1] * 15 + [d for d in (0, 2, 4, 8, 16) for _ in range(3)])
        scores = dose.log1p() * 3 + torch.randn(20, SONGS, generator=self.draw)
        for model in range(2):
            self.save(f"copies-{model}", dose=dose, own=torch.arange(20) + 10, **{"scores.ours": scores,
                      "calls.ours": (scores > 4).to(torch.uint8), "scores.rival": scores.flip(1)})  # fmt: skip
        self.save("retrieval", own=torch.arange(SONGS), ours=torch.eye(SONGS), rival=-torch.eye(SONGS))
        x = torch.randn(60, generator=self.draw)
        y = x + torch.randn(60, generator=self.draw)
        self.save("effects", predicted=x, low=x - 1.645, high=x + 1.645, retrained=y, query=torch.arange(60) // 3)
        (self.folder / "gate.json").write_text('{"accepted": 0.99}')


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    World(folder).write()
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict:
    return accuracy(Work(folder), FEW)


@pytest.fixture(scope="module")
def methods(found: dict) -> dict:
    return {row["name"]: row for row in found["methods"]}


def test_the_table_puts_the_better_method_first_and_says_by_how_much(found: dict, methods: dict) -> None:
    assert found["default"] == "ours"
    assert not methods["ours"]["rival"]
    for panel in ("generated", "held_out", "held_out_null"):
        for kind in ("raw", "centred"):
            assert methods["ours"]["lds"][panel][kind] > methods["rival"]["lds"][panel][kind]
            bounds = methods["rival"]["lds_interval"][panel][kind]
            assert bounds["low"] < methods["rival"]["lds"][panel][kind] < bounds["high"]
    assert methods["rival"]["minus_default"]["raw"]["high"] < 0
    assert methods["ours"]["minus_default"]["raw"] == {"value": 0, "low": 0, "high": 0}
    assert methods["ours"]["query_gpu_s"] == 0.5
    assert methods["ours"]["bytes_per_segment"] == 9


def test_ceilings_fractions_and_seeds_stand_beside(found: dict, methods: dict) -> None:
    assert 0.5 < found["ceiling"]["generated"]["raw"] < 1
    whole = methods["ours"]["lds"]["generated"]["raw"] / found["ceiling"]["generated"]["raw"]
    assert methods["ours"]["fraction_of_ceiling"]["generated"]["raw"]["value"] == pytest.approx(whole, abs=1e-4)
    seeds = methods["ours"]["projection_seeds"]["generated"]["raw"]
    assert sum(seeds["values"]) / 3 == pytest.approx(methods["ours"]["lds"]["generated"]["raw"], abs=1e-4)
    assert "projection_seeds" not in methods["rival"]
    assert found["truth"]["halves"]["generated"]["subsets"] == HALVES - 64
    assert found["truth"]["halves"]["generated"]["seeds"] == 2
    assert found["truth"]["artists"]["generated"]["ceiling"] == {}
    assert set(methods["ours"]["families"]) == {"artists"}


def test_every_method_has_a_row_and_one_that_was_asked_little_has_none_there(methods: dict) -> None:
    humble = {"same_artist", "same_source", "shared_words", "shared_rare_words", "duration", "random", "song_values"}
    assert set(methods) == humble | {"ours", "rival", "partly", "stepping", "mean_of_others(ours)"}
    assert set(methods["partly"]["lds"]) == {"held_out", "held_out_null"}
    assert methods["random"]["query_gpu_s"] == 0


def test_tuning_chooses_and_the_chosen_matrix_is_judged(found: dict, methods: dict) -> None:
    log = found["tuning"]["methods"]["stepping"]
    assert log["chosen"] == "step=1.0"
    assert found["tuning"]["at_edge"] == {"stepping": ["step"]}
    assert methods["stepping"]["lds"]["generated"]["raw"] > methods["rival"]["lds"]["generated"]["raw"]
    assert "variants" not in methods["stepping"]


def test_the_best_rival_is_named_with_the_paired_difference(found: dict, methods: dict) -> None:
    against = found["default_minus_best_rival"]["generated"]["raw"]
    there = [m for m in methods.values() if m["rival"] and "generated" in m["lds"]]
    assert against["rival"] == max(there, key=lambda m: m["lds"]["generated"]["raw"])["name"]
    assert against["lowest_low"] <= against["low"] < against["value"]


def test_removals_causes_and_effects_have_their_sections(found: dict) -> None:
    removed = found["leave_k_out"]["removed"]["5"]
    assert removed["queries"] == 8
    assert removed["methods"]["ours"]["minus_matched"]["low"] > 0
    assert removed["methods"]["artist_matched"]["minus_default"]["high"] < 0
    copied = found["known_cause"]["copies"]["methods"]["ours"]
    assert (
        copied["score_by_dose"][16]["value"] > copied["score_by_dose"][2]["value"] > copied["score_by_dose"][0]["value"]
    )
    assert copied["called_by_dose"][8]["value"] > 0.9
    assert copied["own"]["spearman"] > 0.8
    retrieved = found["known_cause"]["retrieval"]["methods"]
    assert (retrieved["ours"]["mean_rank"]["value"], retrieved["rival"]["mean_rank"]["value"]) == (1, SONGS)
    assert found["dose_response"]["slope"]["value"] == pytest.approx(1, abs=0.35)
    assert found["gate"] == {"accepted": 0.99}


def test_what_has_no_inputs_is_left_out(folder: Path, tmp_path: Path) -> None:
    for name in ("queries.json", "truth-halves.safetensors", "scores-a.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    found = accuracy(Work(tmp_path), FEW)
    assert set(found) == {"bootstrap", "default", "retrained", "centring", "ceiling", "truth", "methods"}
    assert found["retrained"] == {"halves": {"models": 2 * HALVES, "seeds": [0, 1]}}
    names = {row["name"] for row in found["methods"]}
    assert names == {"hash-0", "hash-1", "hash-2", "rival", "partly", "song_values"}
    assert accuracy(Work(tmp_path / "nothing"), FEW).keys() == {"bootstrap", "default"}


def test_the_command_writes_the_file_and_small_pictures(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "accuracy.json"), "--images", str(tmp_path), "--resamples", "20"]
    monkeypatch.setattr(sys, "argv", ["judge", str(folder), *out])
    command.main()
    written = json.loads((tmp_path / "accuracy.json").read_text())
    assert written["default"] == "ours"
    assert written["hardware"]["cores"] >= 1
    assert "same_artist" in capsys.readouterr().out
    pictures = sorted(path.stem for path in tmp_path.glob("*.png"))
    assert pictures == ["accuracy-copies", "accuracy-cost", "accuracy-dose-response", "accuracy-lds"]
    for path in tmp_path.glob("*.png"):
        assert path.read_bytes().startswith(PNG)
        assert path.stat().st_size < 120_000
