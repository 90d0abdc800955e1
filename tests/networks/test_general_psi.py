"""Psi for maps of any size: each place of a map is read once, standardised and brought to the frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from l2i_fast.networks.general_psi import GeneralPsi
from l2i_fast.networks.interpreter import Interpreter

from ..helpers import refused, relative

CHANNELS, ROWS, COLUMNS = (3, 5, 2), (1, 4, 20), (7, 20, 3)


def maps(batch: int = 2, seed: int = 0) -> list[Tensor]:
    torch.manual_seed(seed)
    return [3 + 2 * torch.randn(batch, c, t, r) for c, r, t in zip(CHANNELS, ROWS, COLUMNS, strict=True)]


@pytest.fixture
def psi() -> GeneralPsi:
    torch.manual_seed(0)
    return GeneralPsi(CHANNELS, 6, ROWS, 0.1)


def slow(psi: GeneralPsi, found: list[Tensor], n_frames: int) -> Tensor:
    """Return activations by the definition, one map and one column at a time."""
    parts, at = [], 0
    for x, read in zip(found, psi.reads, strict=True):
        if x.shape[3] > 8:
            x = F.adaptive_avg_pool2d(x, (x.shape[2], 8))
        size = x.shape[1] * x.shape[3]
        columns = torch.stack([x[:, :, t].reshape(len(x), size) for t in range(x.shape[2])], 2)
        mean, std = psi.mean[at : at + size], psi.std[at : at + size]
        at += size
        standard = (columns - mean[:, None]) / std[:, None]
        projected = torch.einsum("oi,bit->bot", read.weight[..., 0], standard) + read.bias[:, None]
        parts.append(F.interpolate(torch.relu(projected), size=max(COLUMNS), mode="linear"))
    x = F.interpolate(torch.relu(psi.merge(torch.cat(parts, 1))), size=n_frames, mode="linear")
    return torch.relu(psi.second(torch.relu(psi.first(x))))


@pytest.mark.parametrize("n_frames", [1, 19, 50])
def test_activations_are_those_of_the_definition(psi: GeneralPsi, n_frames: int) -> None:
    psi.standardize([maps(seed=1), maps(seed=2)])
    with torch.no_grad():
        H = psi(maps(), n_frames)
        assert H.shape == (2, 6, n_frames)
        assert relative(H, slow(psi, maps(), n_frames)) < 1e-5
    assert bool((H > 0).any())


def test_standardised_columns(psi: GeneralPsi) -> None:
    batches = [maps(3, seed) for seed in range(40)]
    for found in batches:
        found[1][:, 2] = 7.0  # never varies
    psi.standardize(batches)
    columns = [torch.cat(parts) for parts in zip(*(psi.standardized(found) for found in batches), strict=True)]
    constant = slice(2 * 4, 3 * 4)
    for i, x in enumerate(columns):
        varying = torch.cat([x[:, : constant.start], x[:, constant.stop :]], 1) if i == 1 else x
        assert float(varying.mean((0, 2)).abs().max()) < 1e-5
        np.testing.assert_allclose(varying.std((0, 2), correction=0), 1, atol=1e-4)
    assert float(columns[1][:, constant].abs().max()) < 1e-5


def test_what_hardly_varies_is_not_enlarged(psi: GeneralPsi) -> None:
    batches = [maps(3, seed) for seed in range(4)]
    for found in batches:
        found[1][:, 2] *= 1e-4
    psi.standardize(batches)
    found = maps(3, 9)
    found[1][:, 2] *= 1e-4
    assert float(psi.standardized(found)[1][:, 8:12].std()) < 0.02
    found[0][0, 0, 0, 0] = 1e6
    assert float(psi.standardized(found)[0].max()) == 10


def test_an_interpreter_reads_maps_of_any_size() -> None:
    torch.manual_seed(0)
    net = Interpreter(torch.rand(9, 6), 4, CHANNELS, rows=ROWS, width=0.1, updates=2)
    H, z, logits = net(maps(), 30)
    assert (H.shape, z.shape, logits.shape) == ((2, 6, 30), (2, 6), (2, 4))
    again = Interpreter(torch.rand(9, 6), **net.config)
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(maps(), 30)[0], net.eval()(maps(), 30)[0])


def test_wrong_maps(psi: GeneralPsi) -> None:
    with refused(ValueError, "maps has length 2, but one for each of 3 maps is needed"):
        psi(maps()[:2], 10)
    with refused(ValueError, "maps[1] has shape (2, 5, 20, 3), but (2, 5, time, 4) is needed"):
        psi([x[..., :3] if i == 1 else x for i, x in enumerate(maps())], 10)
    with refused(ValueError, "rows has length 1, but one number for each of 2 maps is needed"):
        GeneralPsi([3, 4], 5, [1])
    with refused(TypeError, "hidden_channels is [], but must be a list of integers"):
        GeneralPsi([], 5, [])
    with refused(ValueError, "rows[0] is 0, but must be at least 1"):
        GeneralPsi([3], 5, [0])
