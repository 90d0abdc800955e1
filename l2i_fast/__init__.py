"""Hear why an audio network decided what it decided."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from l2i_fast.backends.dispatch import get_gpu_precision, set_gpu_precision
    from l2i_fast.stream.device import DeviceStreams
    from l2i_fast.model import L2I, load
    from l2i_fast.nmf import activations, learn_dictionary, learn_dictionary_online
    from l2i_fast.nmf.estimator import NMF
    from l2i_fast.backends.precision import get_cpu_precision, set_cpu_precision
    from l2i_fast.results.result import Explanation, Result
    from l2i_fast.stream import StreamDecoder

# Four names are those of their modules, too: imported here, so that the functions win. Where the native module
# does not load, the package still does, and `l2i doctor` can say why.
_failure: ImportError | None = None
try:
    from l2i_fast.ops.analyze import analyze
    from l2i_fast.ops.log_mel import log_mel
    from l2i_fast.ops.soft_mask import decode, soft_mask
    from l2i_fast.ops.stft import istft, stft
    from l2i_fast.backends.threads import get_num_threads, set_num_threads
except ImportError as error:
    _failure = error

__version__ = "0.1.0"
__all__ = [
    "L2I",
    "NMF",
    "DeviceStreams",
    "Explanation",
    "Result",
    "StreamDecoder",
    "activations",
    "analyze",
    "decode",
    "get_cpu_precision",
    "get_gpu_precision",
    "get_num_threads",
    "istft",
    "learn_dictionary",
    "learn_dictionary_online",
    "load",
    "log_mel",
    "set_cpu_precision",
    "set_gpu_precision",
    "set_num_threads",
    "soft_mask",
    "stft",
]

# What needs torch or scikit-learn is imported when it is asked for: `import l2i_fast` alone is quick.
_MODULES = {
    "L2I": "model",
    "load": "model",
    "Explanation": "results.result",
    "Result": "results.result",
    "NMF": "nmf.estimator",
    "StreamDecoder": "stream",
    "DeviceStreams": "stream.device",
    "activations": "nmf",
    "get_cpu_precision": "backends.precision",
    "set_cpu_precision": "backends.precision",
    "get_gpu_precision": "backends.dispatch",
    "set_gpu_precision": "backends.dispatch",
    "learn_dictionary": "nmf",
    "learn_dictionary_online": "nmf",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"l2i_fast.{_MODULES[name]}"), name)
    if _failure and name in __all__:
        raise _failure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
