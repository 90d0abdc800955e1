"""The networks against their definitions: shapes, the paper's sizes, pieces of long inputs, hooks, relevance."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import l2i_fast as l2i
from l2i_fast.model import LogMel
from l2i_fast.networks import classifier as classifier_module
from l2i_fast.networks.classifier import Classifier
from l2i_fast.networks.convolution import Conv1d, Conv2d, packed
from l2i_fast.networks.hidden import HiddenMaps
from l2i_fast.networks.interpreter import Interpreter
from l2i_fast.networks.psi import Psi
from l2i_fast.networks.theta import ThetaAttention, ThetaMax
from l2i_fast.settings import Analysis

from ..helpers import refused


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_papers_classifier_has_its_maps() -> None:
    net = Classifier(50).eval()
    hidden = HiddenMaps(net, net.layers)
    with torch.inference_mode():
        logits, maps = hidden(torch.randn(1, 1, 431, 128))
    assert logits.shape == (1, 50)
    assert [tuple(m.shape[1:]) for m in maps] == [(128, 53, 16), (256, 26, 8), (512, 13, 4)]
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [16, 16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 1024, 256]


def test_psi_of_the_paper_has_its_size() -> None:
    assert 2.8e6 < parameters(Psi((128, 256, 512), 100)) < 3.0e6


def psi_at_fixed_length(psi: Psi, maps: list[torch.Tensor], n: int, n_frames: int) -> torch.Tensor:
    """The paper's network with every size written out for n columns of c6, on (B, channels, frequency, time) maps."""

    def resized(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        return F.interpolate(x, size=(rows, columns), mode="bilinear", align_corners=True)

    c4, c5, c6 = maps
    a = torch.relu(psi.a(resized(c5[:, :, :, : 2 * n], 8, 4 * n)))
    a = 0.5 * (a[:, :, 0::2] + a[:, :, 1::2])
    b = resized(torch.relu(psi.b(resized(c6, 4, 2 * n))), 4, 4 * n)
    c = torch.relu(psi.c(c4[:, :, :, : 4 * n]))
    x = torch.cat((a, b, c), 1)
    x = resized(torch.relu(psi.merge(resized(x, 4, 8 * n))), 4, 16 * n)
    x = torch.relu(psi.fold(x))[:, :, 0]
    x = resized(x[:, :, None], 1, n_frames)[:, :, 0]
    return torch.relu(psi.second(torch.relu(psi.first(x[:, :, None]))))[:, :, 0]


@pytest.mark.parametrize(("n_frames", "columns"), [(431, (53, 26, 13)), (862, (107, 53, 26))])
def test_psi_equals_the_fixed_length_form(n_frames: int, columns: tuple[int, int, int]) -> None:
    psi = Psi((12, 24, 40), 9, width=0.125).eval()
    maps = [torch.rand(2, c, t, m) for c, t, m in zip((12, 24, 40), columns, (16, 8, 4), strict=True)]
    with torch.inference_mode():
        H = psi(maps, n_frames)
        wanted = psi_at_fixed_length(psi, [m.transpose(2, 3) for m in maps], columns[2], n_frames)
    assert H.shape == (2, 9, n_frames)
    assert float(wanted.max()) > 0
    torch.testing.assert_close(H, wanted)


def psi_on_the_grid(psi: Psi, maps: list[torch.Tensor], n: int, n_frames: int) -> torch.Tensor:
    """The streamable network with every interpolation written out, on (B, channels, frequency, time) maps."""

    def doubled(x: torch.Tensor) -> torch.Tensor:
        before = torch.cat((x[..., :1], x[..., :-1]), -1)
        after = torch.cat((x[..., 1:], x[..., -1:]), -1)
        return torch.stack(((before + 3 * x) / 4, (3 * x + after) / 4), -1).flatten(-2)

    c4, c5, c6 = maps
    a = torch.relu(psi.a(doubled(c5[:, :, :, : 2 * n])))
    a = 0.5 * (a[:, :, 0::2] + a[:, :, 1::2])
    b = doubled(torch.relu(psi.b(doubled(c6))))
    c = torch.relu(psi.c(c4[:, :, :, : 4 * n]))
    x = doubled(torch.relu(psi.merge(doubled(torch.cat((a, b, c), 1)))))
    x = doubled(torch.relu(psi.fold(x))[:, :, 0])
    x = torch.cat([x] + [x[..., -1:]] * (n_frames - x.shape[2]), -1)
    return torch.relu(psi.second(torch.relu(psi.first(x[:, :, None]))))[:, :, 0]


@pytest.mark.parametrize(("n_frames", "columns"), [(431, (53, 26, 13)), (862, (107, 53, 26)), (448, (56, 28, 14))])
def test_the_streamable_psi_equals_its_written_out_form(n_frames: int, columns: tuple[int, int, int]) -> None:
    psi = Psi((12, 24, 40), 9, width=0.125, streamable=True).eval()
    maps = [torch.rand(2, c, t, m) for c, t, m in zip((12, 24, 40), columns, (16, 8, 4), strict=True)]
    with torch.inference_mode():
        H = psi(maps, n_frames)
        wanted = psi_on_the_grid(psi, [m.transpose(2, 3) for m in maps], columns[2], n_frames)
    assert H.shape == (2, 9, n_frames)
    assert float(wanted.max()) > 0
    torch.testing.assert_close(H, wanted)


@pytest.mark.parametrize("size", [(1, 3), (2, 7), (5, 8), (40, 30)])
def test_inference_convolves_as_training_does(size: tuple[int, int]) -> None:
    layer = Conv2d(6, 5, (2, 3), stride=(1, 2), padding=(1, 0))
    x = torch.randn(2, 6, *size)
    wanted = layer(x)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), wanted)
        torch.testing.assert_close(packed(torch.nn.Sequential(layer))(x), wanted)
        rectified = packed(torch.nn.Sequential(layer, torch.nn.Identity(), torch.nn.ReLU(inplace=True)))
        torch.testing.assert_close(rectified(x), wanted.relu())


def test_a_row_is_convolved_as_a_sequence() -> None:
    layer = Conv1d(6, 5, 3, padding=1)
    x = torch.randn(2, 6, 1, 40)
    wanted = torch.nn.functional.conv1d(x.squeeze(2), layer.weight, layer.bias, padding=1).unsqueeze(2)
    torch.testing.assert_close(layer(x), wanted)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), wanted)
        torch.testing.assert_close(packed(torch.nn.Sequential(layer))(x), wanted)


@given(n_frames=st.integers(128, 700), streamable=st.booleans())
@settings(max_examples=12, deadline=None)
def test_any_length_gives_activations_of_that_length(n_frames: int, streamable: bool) -> None:
    net = Classifier(3, width=0.0625, embedding=16).eval()
    interpreter = Interpreter(
        torch.rand(513, 7), 3, net.hidden_channels, "max", width=0.0625, streamable=streamable
    ).eval()
    with torch.inference_mode():
        _, maps = HiddenMaps(net, net.layers)(torch.randn(1, 1, n_frames, 128))
        H, z, logits = interpreter(maps, n_frames)
    assert H.shape == (1, 7, n_frames)
    assert z.shape == (1, 7)
    assert logits.shape == (1, 3)
    assert bool((H >= 0).all())


@pytest.mark.parametrize("n_frames", [641, 700, 1000, 1023])
def test_long_inputs_in_pieces_equal_the_whole(n_frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Classifier(3, width=0.125).eval()
    x = torch.randn(1, 1, n_frames, 128)
    hidden = HiddenMaps(net, net.layers)
    with torch.inference_mode():
        whole, whole_maps = hidden(x)
        monkeypatch.setattr(classifier_module, "_PIECE", 320)
        pieces, pieces_maps = hidden(x)
    torch.testing.assert_close(pieces, whole)
    for a, b in zip(pieces_maps, whole_maps, strict=True):
        torch.testing.assert_close(a, b)


def test_the_fused_copy_equals_the_network() -> None:
    net = Classifier(3, width=0.125)
    net.train()
    for _ in range(3):  # running statistics that are not those of a new network
        net(3 * torch.randn(4, 1, 150, 128) + 1)
    net.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fused = net.fused()
    x = torch.randn(2, 1, 300, 128)
    with torch.inference_mode():
        (a, maps), (b, fused_maps) = HiddenMaps(net, net.layers)(x), HiddenMaps(fused, net.layers)(x)
    torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)
    for m, n in zip(maps, fused_maps, strict=True):
        torch.testing.assert_close(n, m, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_log_mel_for_training_equals_the_public_one(rng: np.random.Generator) -> None:
    analysis = Analysis()
    y = rng.standard_normal(30000).astype(np.float32)
    y[10000:20000] = 0
    X = l2i.stft(y, n_fft=1024, hop_length=512)
    wanted = l2i.log_mel(X, amin=analysis.amin)
    got = LogMel(analysis).of_magnitude(torch.from_numpy(np.abs(X).T.copy())[None])[0, 0].numpy().T
    np.testing.assert_allclose(got, wanted, atol=2e-4)


def test_theta_attention_follows_its_formula() -> None:
    theta = ThetaAttention(6, 3).eval()
    H = torch.rand(2, 6, 11)
    z, logits = theta(H)
    h = H[1].T.double()
    P, Q, w = (layer.double() for layer in (theta.P, theta.Q, theta.w))
    score = (torch.tanh(P(h)) * torch.relu(Q(h))) @ w.weight[0] + w.bias
    weight = torch.exp(score) / torch.exp(score).sum()
    wanted = (weight[:, None] * h).sum(0)
    torch.testing.assert_close(z[1].double(), wanted)
    torch.testing.assert_close(logits[1].double(), theta.out.weight.double() @ wanted)


def test_theta_max_takes_the_maximum() -> None:
    theta = ThetaMax(6, 3).eval()
    H = torch.rand(2, 6, 11)
    z, logits = theta(H)
    assert torch.equal(z, H.max(dim=2).values)
    torch.testing.assert_close(logits, z @ theta.out.weight.T)


def test_relevance_by_hand() -> None:
    interpreter = Interpreter(torch.rand(33, 3), 2, (8, 8, 8), "max")
    with torch.no_grad():
        interpreter.theta.out.weight.copy_(torch.tensor([[1.0, -1.0, 0.5], [-1.0, -1.0, -2.0]]))
    z = torch.tensor([[2.0, 3.0, 1.0]] * 2)
    r = interpreter.relevance(z, torch.tensor([0, 1]))
    torch.testing.assert_close(r[0], torch.tensor([1.0, -1.5, 0.25]))
    assert torch.equal(r[1], torch.zeros(3)), "no positive product: nothing supports the class"


def test_activations_are_fitted_to_the_spectrogram() -> None:
    W = torch.rand(33, 6) ** 3
    W /= W.norm(dim=0)
    H, V = torch.rand(2, 6, 9) * (torch.rand(2, 6, 9) < 0.7), torch.rand(2, 33, 9)
    V[0, :, 3] = 0
    interpreter = Interpreter(W, 2, (8, 8, 8), updates=12)
    fitted = interpreter.fit(H, V)
    expected = l2i.activations(V, W, n_iter=12, H0=H + 0.02 * (W.T @ V))
    torch.testing.assert_close(fitted, expected, rtol=1e-4, atol=1e-6)
    assert fitted[0, :, 3].max() < 1e-9, "silence is explained by nothing"
    errors = [float((V - W @ h).norm()) for h in (H, interpreter.fit(H, V))]
    assert errors[1] < errors[0]
    assert Interpreter(W, 2, (8, 8, 8)).fit(H, V) is H


def test_the_fit_has_gradients() -> None:
    interpreter = Interpreter(torch.rand(17, 4), 2, (8, 8, 8), updates=3).double()
    V = torch.rand(1, 17, 3, dtype=torch.float64)
    H = (torch.rand(1, 4, 3, dtype=torch.float64) + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda h: interpreter.fit(h, V), (H,))


def test_hidden_maps_keep_threads_apart() -> None:
    net = Classifier(3, width=0.125).eval()
    hidden = HiddenMaps(net, net.layers)
    inputs = [torch.randn(1, 1, 128 + 32 * i, 128) for i in range(4)]
    with torch.inference_mode():
        wanted = [hidden(x)[1] for x in inputs]
    failures = []

    def work(i: int) -> None:
        with torch.inference_mode():
            for _ in range(5):
                maps = hidden(inputs[i])[1]
                if not all(torch.allclose(a, b, atol=1e-5) for a, b in zip(maps, wanted[i], strict=True)):
                    failures.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_bad_settings_are_named() -> None:
    with refused(ValueError, "n_mels is 100, but must be a multiple of 64 and at least 128"):
        Classifier(3, n_mels=100)
    with refused(ValueError, "width is 0, but must be at least 0.01"):
        Classifier(3, width=0)
    with refused(ValueError, "theta is 'mean', but must be one of attention, max"):
        Interpreter(torch.rand(5, 2), 3, (8, 8, 8), "mean")
    classifier = Classifier(3, width=0.0625)
    known = ", ".join(sorted(name for name, _ in classifier.named_modules() if name))
    with refused(ValueError, f"layers names 'blocks.9', but must name submodules of the network: {known}"):
        HiddenMaps(classifier, ["blocks.9"])
