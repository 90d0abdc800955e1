"""Hear why an audio network decided what it decided."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from l2i_fast.forks import importing
from l2i_fast.version import __version__

if TYPE_CHECKING:
    from l2i_fast.archive.batch import Batch
    from l2i_fast.evaluation.fitting import fit
    from l2i_fast.model import L2I, load
    from l2i_fast.model.wrapping import wrap
    from l2i_fast.networks.suggest import suggest_layers
    from l2i_fast.nmf.activations import activations
    from l2i_fast.nmf.dictionary import learn_dictionary
    from l2i_fast.nmf.estimator import NMF
    from l2i_fast.nmf.online import learn_dictionary_online
    from l2i_fast.results import Explanation, Result
    from l2i_fast.stream.decoder import StreamDecoder
    from l2i_fast.stream.device import DeviceStreams
    from l2i_fast.training.post_hoc import FitConfig

# The package can be imported without the native module, so that `l2i doctor` can report why it does not load.
_failure = ""
try:
    from l2i_fast.backends.precision import get_cpu_precision, get_gpu_precision, set_cpu_precision, set_gpu_precision
    from l2i_fast.backends.threads import get_num_threads, set_num_threads
    from l2i_fast.ops.analyze import analyze
    from l2i_fast.ops.log_mel import log_mel
    from l2i_fast.ops.soft_mask import decode, soft_mask
    from l2i_fast.ops.stft import istft, stft
except ImportError as error:
    _failure = str(error)

__all__ = [
    "L2I",
    "NMF",
    "Batch",
    "DeviceStreams",
    "Explanation",
    "FitConfig",
    "Result",
    "StreamDecoder",
    "__version__",
    "activations",
    "analyze",
    "decode",
    "fit",
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
    "suggest_layers",
    "wrap",
]

# Names that need torch or scikit-learn are imported at their first use, so that `import l2i_fast` is quick.
_MODULES = {
    "Batch": "archive.batch",
    "L2I": "model",
    "load": "model",
    "wrap": "model.wrapping",
    "suggest_layers": "networks.suggest",
    "fit": "evaluation.fitting",
    "FitConfig": "training.post_hoc",
    "Explanation": "results",
    "Result": "results",
    "NMF": "nmf.estimator",
    "StreamDecoder": "stream.decoder",
    "DeviceStreams": "stream.device",
    "activations": "nmf.activations",
    "learn_dictionary": "nmf.dictionary",
    "learn_dictionary_online": "nmf.online",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        with importing:
            module = import_module(f"l2i_fast.{_MODULES[name]}")
        return getattr(module, name)
    if _failure and name in __all__:
        raise ImportError(_failure)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
