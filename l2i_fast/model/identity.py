"""Fingerprints of models, by which finished work is recognised."""

from __future__ import annotations

import hashlib

from l2i_fast.model.l2i import L2I


def identity_of(model: L2I) -> str:
    """Return a fingerprint of the weights and settings of a model."""
    digest = hashlib.blake2b(repr(model.settings).encode(), digest_size=16)
    digest.update(getattr(model.network, "fingerprint", "").encode())
    modules = [model.interpreter, getattr(model.network, "module", None)]
    for module in modules:
        for name, value in module.state_dict().items() if module is not None else ():
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
