"""torchaudio works beside a torch that its extension was not built for, and is left alone where the extension loads."""

import subprocess
import sys

PROBE = """
import torch
{torch_state}
from worker.diffusion.compat import guard_torchaudio
loaded = guard_torchaudio()
import torchaudio, torchaudio.transforms
resampled = torchaudio.functional.resample(torch.ones(1, 441), 44100, 24000)
spectrum = torchaudio.transforms.MelSpectrogram(8000, n_fft=256, n_mels=8)(torch.ones(1, 800))
try:
    torchaudio.functional.forced_align(torch.zeros(1, 2, 3), torch.ones(1, 1, dtype=torch.int32))
    refused = False
except AttributeError:  # asked of the extension, which is a stand-in in the second test
    refused = False
except RuntimeError:
    refused = True
import transformers, diffusers
diffusers.StableAudioPipeline
print(loaded, tuple(resampled.shape), tuple(spectrum.shape)[:2], refused)
"""
# What torch does with an extension that was built for another torch, and with one that fits.
UNFIT = """
def refuse(path): raise OSError(f"Could not load this library: {path}")
torch.ops.load_library = refuse
"""
FIT = """
extension = torch.library.Library("_torchaudio", "DEF")
extension.define("is_align_available() -> bool")
extension.define("cuda_version() -> int?")
extension.impl("is_align_available", lambda: True, "CompositeExplicitAutograd")
extension.impl("cuda_version", lambda: None, "CompositeExplicitAutograd")
loops = torch.library.Library("torchaudio", "DEF")
loops.define("_lfilter_core_loop(Tensor input, Tensor a, Tensor(a!) output) -> ()")
loops.define("_overdrive_core_loop(Tensor input, Tensor x, Tensor(a!) y, Tensor z, Tensor(b!) output) -> ()")
torch.ops.load_library = lambda path: None
"""


def outcome(torch_state: str) -> str:
    """Run the probe in a fresh interpreter in which torch is in `torch_state`."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(torch_state=torch_state)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_extension_that_does_not_load_is_done_without():
    assert outcome(UNFIT) == "False (1, 240) (1, 8) True"


def test_an_extension_that_loads_is_kept():
    assert outcome(FIT) == "True (1, 240) (1, 8) False"
