"""The audio classifier of Kumar et al. (ICASSP 2018), the network that Listen to Interpret explains."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from l2i_fast.arguments import integer, number
from l2i_fast.networks.convolution import Conv2d

#: Frames of a piece, and of its surroundings, when a long input is read in pieces; multiples of those behind a column
#: of `Classifier.front`.
_PIECE, _HALO = 4096, 16
#: Output channels of the two convolutions of each block at width 1; the last block has one.
BLOCKS = ((16, 16), (32, 32), (64, 64), (128, 128), (256, 256), (512,))


class Classifier(nn.Module):
    """Convolutional classifier of log-mel spectrograms.

    Six blocks of 3x3 convolution, batch normalisation and ReLU, each followed by 2x2 max pooling; a 2x2 convolution
    without padding to 1024 channels; a 1x1 convolution to the embedding; global max pooling; dropout; a linear layer.

    Parameters
    ----------
    n_classes : int
        Number of classes C.
    n_mels : int
        Mel bands of the input; at least 128, a multiple of 64.
    embedding : int
        Size of the last hidden layer: 256 for one label, 512 for several in the paper.
    width : float
        Factor on every channel count but `embedding`, from 0.01 to 4; 1 is the paper's network.
    dropout : float
        Dropout before the linear layer: 0.2 for one label, 0.15 for several in the paper.

    Notes
    -----
    The modules ``blocks.3``, ``blocks.4`` and ``blocks.5`` return the maps before pooling: the layers that the
    interpreter reads. The input is normalised by the buffers `mean` and `std` (one value a band), which training sets.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        n_classes: int,
        n_mels: int = 128,
        embedding: int = 256,
        width: float = 1.0,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        n_classes, embedding = integer(n_classes, "n_classes"), integer(embedding, "embedding")
        width, dropout = number(width, "width", 0.01, 4), number(dropout, "dropout", 0, 1)
        n_mels = integer(n_mels, "n_mels")
        if n_mels < 128 or n_mels % 64:
            raise ValueError(f"n_mels is {n_mels}, but must be a multiple of 64 and at least 128")
        #: The arguments that build this network again.
        self.config = {
            "n_classes": n_classes,
            "n_mels": n_mels,
            "embedding": embedding,
            "width": width,
            "dropout": dropout,
        }
        self.register_buffer("mean", torch.zeros(n_mels))
        self.register_buffer("std", torch.ones(n_mels))
        channels = [[max(8, round(width * c)) for c in block] for block in BLOCKS]
        self.blocks = nn.ModuleList()
        previous = 1
        for block in channels:
            modules: list[nn.Module] = []
            for c in block:
                modules += [
                    Conv2d(previous, c, 3, padding=1, bias=False),
                    nn.BatchNorm2d(c),
                    nn.ReLU(inplace=True),
                ]
                previous = c
            self.blocks.append(nn.Sequential(*modules))
        self.pool = nn.MaxPool2d(2)
        top = max(8, round(width * 1024))
        self.top = nn.Sequential(Conv2d(previous, top, 2, bias=False), nn.BatchNorm2d(top), nn.ReLU(inplace=True))
        self.embed = nn.Sequential(Conv2d(top, embedding, 1), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(embedding, n_classes)
        #: Channels of the maps that the interpreter reads, in the order of `layers`.
        self.hidden_channels = tuple(block[-1] for block in channels[3:])
        self.float()  # whatever the default dtype is

    #: Names of the modules whose outputs the interpreter reads.
    layers = ("blocks.3", "blocks.4", "blocks.5")
    #: Fewest frames of input that reach the 2x2 convolution.
    min_frames = 128
    #: Columns of input behind a column of a block after pooling, and columns on either side that it reads, too.
    stride, reach = 2, 2

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, C) of log-mel spectrograms `x` (B, 1, T, n_mels) in dB, T at least `min_frames`."""
        if x.shape[-1] != len(self.mean):
            raise ValueError(f"x has {x.shape[-1]} mel bands, but {len(self.mean)} are needed")
        return self.back(self.front(x))

    def after(self, layer: str, x: Tensor) -> Tensor:
        """Return logits (B, C) of `x`, the output of a module among `layers`: the rest of `forward`."""
        return self.back(self.pool(x), 4 + self.layers.index(layer))

    def fused(self) -> Classifier:
        """Return a copy for inference, with every batch normalisation folded into the convolution before it."""
        net = copy.deepcopy(self).eval()
        for sequence in (*net.blocks, net.top):
            assert isinstance(sequence, nn.Sequential)
            for i in range(0, len(sequence), 3):  # convolution, normalisation, ReLU
                convolution, normalisation = sequence[i], sequence[i + 1]
                assert isinstance(convolution, Conv2d)
                assert isinstance(normalisation, nn.BatchNorm2d)
                sequence[i] = fuse_conv_bn_eval(convolution, normalisation)
                sequence[i + 1] = nn.Identity()
        return net

    def front(self, x: Tensor) -> Tensor:
        """Apply normalisation and the first three blocks, whose maps are the largest: long inputs in pieces.

        Each piece brings more frames on either side than a column reads (14), so the result is the same.
        """
        n = x.shape[2]
        if self.training or n <= 2 * _PIECE:
            return self._front_piece(x)
        pieces, stride = [], self.stride**3
        for start in range(0, n, _PIECE):
            left, right = max(0, start - _HALO), min(n, start + _PIECE + _HALO)
            piece = self._front_piece(x[:, :, left:right])
            first, last = ((at - left) // stride for at in (start, min(start + _PIECE, n)))
            pieces.append(piece[:, :, first:last])
        return torch.cat(pieces, dim=2)

    def _front_piece(self, x: Tensor) -> Tensor:
        for i in range(3):
            x = self.pooled_block(i, x)
        return x

    def pooled_block(self, i: int, x: Tensor) -> Tensor:
        """Apply the block with the index `i` and the pooling behind it; the first one normalises what it reads."""
        y: Tensor = self.pool(self.blocks[i](x if i else self.normalized(x)))
        return y

    def back(self, x: Tensor, first: int = 3) -> Tensor:
        """Return logits (B, C) of the input of the block with the index `first`; that of the fourth is `front`."""
        for i in range(first, len(self.blocks)):
            x = self.pooled_block(i, x)
        x = self.embed(self.top(x)).amax(dim=(2, 3))
        logits: Tensor = self.out(self.dropout(x))
        return logits

    def normalized(self, x: Tensor) -> Tensor:
        """Return log-mel spectrograms as the first block reads them."""
        return (x - self.mean) / self.std
