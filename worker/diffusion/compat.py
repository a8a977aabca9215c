"""Make `import torchaudio` work whether or not its compiled extension fits the installed torch."""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_EXTENSION = "torchaudio._extension"


def guard_torchaudio() -> bool:
    """Import torchaudio, without its compiled extension where that does not load, and say whether it loaded.

    torchaudio's extension is built against one torch build; beside another its import raises, and with it that of
    every transformers model. Only `rnnt_loss` and `forced_align` need it: resampling and spectra do not. Call before
    transformers or diffusers are imported. Raises ImportError where torchaudio is not installed at all.
    """
    try:
        torchaudio = importlib.import_module("torchaudio")
    except (OSError, RuntimeError):
        _forget("torchaudio")
        sys.modules[_EXTENSION] = _absent_extension()
        torchaudio = importlib.import_module("torchaudio")
    return bool(torchaudio._extension._IS_TORCHAUDIO_EXT_AVAILABLE)


def _forget(package: str) -> None:
    for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
        del sys.modules[name]


def _absent_extension() -> ModuleType:
    stand_in = ModuleType(_EXTENSION, "Stands in for torchaudio's compiled extension, which does not load here.")
    stand_in.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False, fail_if_no_align=_needs_extension
    )
    return stand_in


def _needs_extension(function: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError(f"{function.__name__} needs torchaudio's extension, which does not load beside this torch")

    return refuse


def quiet_transformers() -> None:
    """Silence transformers' advice on optional packages, and its progress bars, in a service's logs."""
    reporting = importlib.import_module("transformers.utils.logging")
    reporting.set_verbosity_error()
    reporting.disable_progress_bar()
