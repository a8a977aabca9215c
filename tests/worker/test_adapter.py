"""The adapter shows the pipeline as it is at generation, and takes any decoded audio."""

import json
import math
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import tiny
from worker.diffusion.layout import UnsupportedPipeline, digest, load_pipeline
from worker.diffusion.stable_audio import Sampling, StableAudio, load, timestep
from worker.diffusion.windows import WindowFormat, cut, remix, resample_to

FORM = WindowFormat(rate=8000, channels=1, frames=32, hop=256)
WINDOW = FORM.samples


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> StableAudio:
    return load(tiny_folder / "pipeline", "cpu")


def tone(seconds: float, rate: int = 8000, channels: int = 1) -> torch.Tensor:
    time = torch.arange(int(seconds * rate)) / rate
    return (0.3 * torch.sin(2 * math.pi * 440 * time)).expand(channels, -1).clone()


def seen_by_the_denoiser(model: StableAudio, prompt: str, guidance: float, seconds: float) -> dict[str, torch.Tensor]:
    """What the pipeline hands to its transformer in the first step of a generation."""
    seen: list[dict[str, torch.Tensor]] = []
    hook = model.module.register_forward_pre_hook(
        lambda _, inputs, named: seen.append({"noisy": inputs[0], "timestep": inputs[1], **named}), with_kwargs=True
    )
    model.generate(prompt, 3, seconds, Sampling(steps=2, guidance=guidance))
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("prompt", ["slow low tune", "noisy", "slow low tune fast high drum noisy tune"])
def test_conditioning_is_what_the_pipeline_makes_at_generation(model: StableAudio, prompt: str):
    seen = seen_by_the_denoiser(model, prompt, 5.0, 0.7)
    start, total = torch.zeros(2), torch.full((2,), 0.7)
    cond = model.condition([None, prompt], start, total)
    torch.testing.assert_close(cond.cross, seen["encoder_hidden_states"], rtol=0, atol=1e-6)
    torch.testing.assert_close(cond.globals_, seen["global_hidden_states"], rtol=0, atol=1e-6)
    assert not cond.mask[0].any()
    assert cond.mask[1].sum() == min(len(prompt.split()), 6) + 2


def test_output_is_the_transformers_at_the_same_step(model: StableAudio):
    seen = seen_by_the_denoiser(model, "slow low tune", 1.0, 1.0)
    sigma = model.pipeline.scheduler.config.sigma_max
    level = torch.tensor([math.atan(sigma) * 2 / math.pi])
    cond = model.condition(["slow low tune"], torch.zeros(1), torch.ones(1))
    torch.testing.assert_close(timestep(model.pipeline.scheduler, level), seen["timestep"], rtol=0, atol=1e-4)
    own = model.output({}, seen["noisy"], level, cond)
    with torch.no_grad():
        theirs = model.module(seen["noisy"], seen["timestep"], **{k: v for k, v in seen.items() if k[0] in "egr"})[0]
    torch.testing.assert_close(own, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.8, 0.95])
def test_the_schedulers_denoised_estimate_is_alpha_x_minus_sigma_v(model: StableAudio, level: float):
    scheduler = model.pipeline.scheduler
    alpha, sigma = math.cos(level * math.pi / 2), math.sin(level * math.pi / 2)
    noisy = torch.randn(1, 16, tiny.FRAMES)
    cond = model.condition(["fast high tune"], torch.zeros(1), torch.ones(1))
    v = model.output({}, noisy, torch.tensor([level]), cond)
    ratio = torch.tensor(sigma / alpha)
    sample = noisy / alpha
    torch.testing.assert_close(scheduler.precondition_inputs(sample, ratio), noisy)
    torch.testing.assert_close(scheduler.precondition_outputs(sample, v, ratio), alpha * noisy - sigma * v)


def test_the_other_schedulers_time_is_the_level_itself():
    class Cosine:
        """`CosineDPMSolverMultistepScheduler.precondition_noise`, which needs a package that is not installed."""

        @staticmethod
        def precondition_noise(sigma: torch.Tensor) -> torch.Tensor:
            return sigma.atan() / math.pi * 2

    level = torch.linspace(0.01, 0.99, 9)
    torch.testing.assert_close(timestep(Cosine, level), level)


def test_weights_are_an_argument(model: StableAudio):
    cond = model.condition(["fast high tune"], torch.zeros(1), torch.ones(1))
    noisy, level = torch.randn(1, 16, tiny.FRAMES), torch.tensor([0.5])
    weights = model.params(r"attn2\.to_[kv]\.weight$")
    assert len(weights) == 4
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    plain = model.output({}, noisy, level, cond)
    torch.testing.assert_close(model.output(weights, noisy, level, cond), plain)
    moved = {name: weight * 2 for name, weight in weights.items()}
    assert not torch.allclose(model.output(moved, noisy, level, cond), plain)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.module.state_dict().items())


def test_generation_is_bit_equal_per_seed_and_differs_between_seeds_and_prompts(model: StableAudio, tiny_folder: Path):
    how = Sampling(steps=4)
    first = model.generate("slow low tune", 1, 0.5, how)
    assert first.shape == (1, 4000)
    assert np.array_equal(first, load(tiny_folder / "pipeline", "cpu").generate("slow low tune", 1, 0.5, how))
    assert not np.allclose(first, model.generate("slow low tune", 2, 0.5, how), atol=1e-3)
    assert not np.allclose(first, model.generate("noisy high drum", 1, 0.5, how), atol=1e-3)


def test_latents_do_not_depend_on_the_windows_beside(model: StableAudio):
    audio = torch.cat([tiny.windows_of(model, song).audio for song in tiny.SONGS[:3]])
    together = model.latents(audio)
    apart = torch.cat([model.latents(audio[i : i + 1]) for i in range(len(audio))])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
    assert together.shape == (12, 16, tiny.FRAMES)


def test_stable_audios_own_autoencoder_is_served_too(tmp_path: Path):
    tiny.untrained(tiny.oobleck()).save_pretrained(tmp_path, safe_serialization=True)
    model = load(tmp_path, "cpu")
    latents = model.latents(tone(FORM.seconds)[None])
    assert latents.shape == (1, 16, tiny.FRAMES)
    assert torch.equal(latents, model.latents(tone(FORM.seconds)[None])), "the mode, not a sample"
    assert model.generate("slow low tune", 1, 0.5, Sampling(steps=2)).shape == (1, 4000)


def test_a_window_carries_its_place_in_the_song(model: StableAudio):
    windows = cut(tone(3 * FORM.seconds), 8000, FORM)
    segments = model.encode(windows, "slow low tune")
    expected = model.condition(
        ["slow low tune"] * 3, torch.arange(3) * FORM.seconds, torch.full((3,), 3 * FORM.seconds)
    )
    assert torch.equal(segments.cond.cross, expected.cross)
    assert not torch.equal(segments.cond.globals_[0], segments.cond.globals_[1])


def test_padding_and_silence_are_masked():
    song = torch.cat([tone(FORM.seconds), torch.zeros(1, WINDOW), tone(0.5 * FORM.seconds)], 1)
    windows = cut(song, 8000, FORM)
    assert windows.starts.tolist() == [0.0, pytest.approx(2 * FORM.seconds)], "the silent window is left out"
    assert windows.mask[0].all()
    assert windows.mask[1].tolist() == [1.0] * 16 + [0.0] * 16
    assert windows.total == pytest.approx(2.5 * FORM.seconds)
    assert windows.audio.shape == (2, 1, WINDOW)


def test_a_sole_window_is_kept_however_little_is_in_it():
    assert len(cut(tone(0.05), 8000, FORM)) == 1
    assert not cut(torch.zeros(1, 4000), 8000, FORM).mask.any()


def test_channels_are_mixed_down_and_up():
    stereo = torch.stack([torch.ones(4), torch.zeros(4)])
    assert remix(stereo, 1).tolist() == [[0.5] * 4]
    assert remix(torch.ones(1, 4), 2).shape == (2, 4)
    assert remix(stereo, 2) is stereo
    assert remix(torch.ones(6, 4), 2).tolist() == [[1.0] * 4] * 2


@pytest.mark.parametrize("rate", [16000, 11025, 44100, 96000, 44101, 191999])
def test_any_rate_becomes_the_models(rate: int):
    heard = resample_to(tone(1.0, rate), rate, 8000)
    assert abs(heard.shape[1] - 8000) < 10
    wave = tone(1.0)[0, 100:-100]
    similarity = torch.nn.functional.cosine_similarity(heard[0, 100:7900], wave[:7800], 0)
    assert similarity > (0.999 if rate < 44101 or rate == 96000 else 0.8)


def test_the_digest_tells_any_change(tiny_folder: Path, own_folder: Path):
    original = digest(tiny_folder / "pipeline")
    assert digest(own_folder / "pipeline") == original
    config = own_folder / "pipeline" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text() + " ")
    assert digest(own_folder / "pipeline") != original
    config.rename(config.with_name("renamed.json"))
    assert digest(own_folder / "pipeline") != original


def change(folder: Path, file: str, **values: object) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def spoil_class(folder: Path) -> None:
    change(folder, "model_index.json", vae=["os", "system"])


def spoil_kind(folder: Path) -> None:
    change(folder, "model_index.json", _class_name="MusicLDMPipeline")


def spoil_prediction(folder: Path) -> None:
    change(folder, "scheduler/scheduler_config.json", prediction_type="epsilon")


def spoil_deviation(folder: Path) -> None:
    change(folder, "scheduler/scheduler_config.json", sigma_data=0.5)


def spoil_weights(folder: Path) -> None:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def spoil_safety(folder: Path) -> None:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    torch.save({}, path.with_suffix(".bin"))
    path.unlink()


def spoil_presence(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")


@pytest.mark.parametrize(
    "spoil",
    [spoil_class, spoil_kind, spoil_prediction, spoil_deviation, spoil_weights, spoil_safety, spoil_presence],
)
def test_what_cannot_be_served_faithfully_is_refused(own_folder: Path, spoil: object):
    assert callable(spoil)
    spoil(own_folder / "pipeline")
    with pytest.raises(UnsupportedPipeline):
        load_pipeline(own_folder / "pipeline", torch.device("cpu"))


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.sign),)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "projection_model"])
@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "pytorch_model.bin", "model.pt", "model.ckpt"])
def test_weights_that_could_be_code_are_refused_unread(own_folder: Path, tmp_path: Path, part: str, name: str):
    (weights,) = (own_folder / "pipeline" / part).glob("*.safetensors")
    weights.unlink()
    sign = tmp_path / "it ran"
    (weights.parent / name).write_bytes(pickle.dumps({"weight": Trap(sign)}))
    with pytest.raises(UnsupportedPipeline):
        load_pipeline(own_folder / "pipeline", torch.device("cpu"))
    assert not sign.exists()


def test_a_missing_folder_is_refused(tmp_path: Path):
    with pytest.raises(UnsupportedPipeline):
        load_pipeline(tmp_path / "nowhere", torch.device("cpu"))
