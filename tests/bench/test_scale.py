"""Every part of the scale bench runs in small, survives a failing one, goes on where it stopped, and merges."""

import json
from pathlib import Path

import pytest

from bench.scale.__main__ import World, main, parts
from bench.scale.merge import collected
from bench.scale.merge import main as merge
from bench.scale.plan import tiny

SMALL = ["--tiny", "--device", "cpu"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale")
    assert main([*SMALL, "--out", str(folder)]) == 0
    return folder


def test_every_part_is_written_with_its_sizes_and_the_machine(measured: Path):
    found = collected([measured])
    assert set(found) == set(parts(World(tiny(measured))))
    for part in found.values():
        assert part["result"]
        assert part["plan"]["songs"] == 40
        assert {"cpu", "torch", "commit", "date"} <= set(part["hardware"])


def test_what_is_measured_obeys_the_laws(measured: Path):
    laws = json.loads((measured / "laws.json").read_text())["result"]
    assert laws["rows_repeat_bit_for_bit"] == laws["weights_bit_identical"] == 1
    assert min(laws["rows_cosine_to_float32"], laws["scores_spearman_to_batch_24"]) > 0.9999
    assert max(laws["sketch_error"], laws["scan_error"]) < 1e-5


def test_a_part_that_is_there_is_not_measured_again(measured: Path):
    before = (measured / "scan.json").read_bytes()
    assert main([*SMALL, "--out", str(measured), "--only", "scan"]) == 0
    assert (measured / "scan.json").read_bytes() == before


def test_a_failing_part_is_recorded_and_the_next_one_runs(tmp_path: Path):
    assert main([*SMALL, "--out", str(tmp_path), "--only", "starter-busy", "sweep"]) == 1
    found = collected([tmp_path])
    assert "starter-floor.json" in found["starter-busy"]["error"]
    assert found["sweep"]["result"]["catalogues"]


def test_parts_merge_into_one_result_with_pictures(measured: Path, tmp_path: Path):
    out = tmp_path / "scale.json"
    history = tmp_path / "history.json"
    history.write_text(json.dumps({"history_p99_ms": 12.5}))
    words = [str(measured), "--out", str(out), "--images", str(tmp_path), "--history", str(history)]
    assert merge(words) == 0
    assert json.loads(out.read_text())["history_p99_ms"] == 12.5
    made = json.loads(out.read_text())
    for name in ("starter", "full_size"):
        query = made["query"][name]
        assert 0 < query["p50_s"] <= query["p95_s"]
        assert query["with_check"]["p50_s"] > 0
    assert made["gradient_over_floor"] > 0
    assert made["build_over_floor"] > 0
    assert made["scan_ms"] > 0
    assert made["index_gb_a_measure"] * 2 == pytest.approx(made["index_gb"], abs=1e-3)
    assert made["cheaper_than_finite_step"] > 0
    assert "cheaper_than_finite_step" in made["extrapolated_keys"]
    assert made["four_bits"]["index_gb_a_measure"] * 2 == pytest.approx(made["index_gb_a_measure"], abs=1e-3)
    assert made["four_bits"]["scan_ms"] > 0
    assert made["queries_per_gpu_hour"]["full"]["queries_per_gpu_hour"] > 0
    assert made["speedup_4_gpus"] is None
    assert made["speedup_4_gpus_reason"]
    assert (tmp_path / "scale-catalogue.png").stat().st_size > 0
    assert (tmp_path / "scale-length.png").stat().st_size > 0


def test_processes_build_beside_each_other(tmp_path: Path):
    assert main([*SMALL, "--out", str(tmp_path), "--only", "spread", "--gpus", "2"]) == 0
    made = collected([tmp_path])["spread"]["result"]
    assert made["processes"] == 2
    assert made["speedup_2"] > 0
