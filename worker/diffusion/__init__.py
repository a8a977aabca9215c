"""Adapters: a diffusers audio pipeline seen as an `attribution.types.Model`.

Importing anything here first makes torchaudio importable (see `compat`), because transformers imports it too.
"""

from worker.diffusion.compat import guard_torchaudio, quiet_transformers

guard_torchaudio()
quiet_transformers()
