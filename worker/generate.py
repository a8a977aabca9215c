"""Generate a track with a registered model: `python -m worker.generate --model FOLDER --prompt TEXT --out FILE.wav`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import soundfile
import structlog

from worker.diffusion.stable_audio import Sampling, load
from worker.engine import chosen_device, use_cores

log = structlog.get_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Generate tracks and write them as 16-bit PCM; equal arguments give equal files on one kind of device."""
    given = _parser().parse_args(arguments)
    use_cores(chosen_device(given.device))
    model = load(given.model / "pipeline", chosen_device(given.device))
    for take in range(given.takes):
        seed, out = given.seed + take, given.out if take == 0 else given.out.with_stem(f"{given.out.stem}-{take + 1}")
        audio = model.generate(given.prompt, seed, given.seconds, Sampling(given.steps, given.guidance))
        soundfile.write(out, audio.T, model.form.rate, subtype="PCM_16")
        log.info("track generated", file=str(out), seconds=audio.shape[-1] / model.form.rate, seed=seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="worker.generate", description=main.__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a registered model")
    parser.add_argument("--prompt", required=True, help="what the track shall be")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--takes", type=int, default=1, help="further ones are under the next seeds, as NAME-2.wav, …")
    parser.add_argument("--seconds", type=float, default=None, help="at most one window, which is the default")
    parser.add_argument("--steps", type=int, default=Sampling.steps)
    parser.add_argument("--guidance", type=float, default=Sampling.guidance)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--out", type=Path, required=True, help="the .wav file to write")
    return parser


if __name__ == "__main__":
    main()
