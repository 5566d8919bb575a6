"""V-Net and the first 3D U-Net in PyTorch, with the names and shapes that `arl export` writes.

    from safetensors.torch import load_file
    import networks

    network = networks.VNet(channels=1, classes=3)
    network.load_state_dict(load_file("model.safetensors"))
    network.eval()

What the network was made with is in the file: `safetensors.safe_open("model.safetensors", "pt").metadata()["network"]`. `norm` and
`activation` make the layer for a number of channels; a network trained with `--normalization` or `--activation` needs the same here:

    none         None                                                       relu               lambda channels: nn.ReLU()
    instance     lambda channels: nn.InstanceNorm3d(channels, affine=True)  leaky-relu:0.01    lambda channels: nn.LeakyReLU(0.01)
    batch        nn.BatchNorm3d                                             prelu              nn.PReLU
    group:8      lambda channels: nn.GroupNorm(8, channels)

Dropout has no weights and is not built here. ARL's own networks are held to these: names, shapes, logits and gradients.
"""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional


def row(**layers):
    """Layers one after the other, by name; those that are `None` are left out."""
    return nn.Sequential(OrderedDict((name, layer) for name, layer in layers.items() if layer is not None))


def block(conv, norm, activation):
    """A convolution and what follows it."""
    channels = conv.out_channels
    return row(conv=conv, norm=norm and norm(channels), activation=activation and activation(channels))


class ResidualConvolutions(nn.Module):
    """5×5×5 convolutions whose input is added before the last activation, to each channel where it has fewer."""

    def __init__(self, before, after, count, norm, activation):
        super().__init__()
        inputs = [before] + [after] * (count - 1)
        activations = [activation] * (count - 1) + [None]
        self.blocks = nn.Sequential(*[block(nn.Conv3d(n, after, 5, padding=2), norm, a) for n, a in zip(inputs, activations)])
        self.activation = activation(after)

    def forward(self, x):
        inner = self.blocks(x)
        return self.activation(inner + x.repeat(1, inner.shape[1] // x.shape[1], 1, 1, 1))


class UpStage(nn.Module):
    """One resolution of V-Net on the way up."""

    def __init__(self, below, features, count, norm, activation):
        super().__init__()
        self.upsample = nn.ConvTranspose3d(below, features, 2, 2)
        self.norm = norm(features) if norm else nn.Identity()
        self.activation = activation(features)
        self.convolutions = ResidualConvolutions(2 * features, 2 * features, count, norm, activation)

    def forward(self, x, skip):
        x = self.activation(self.norm(self.upsample(x)))
        return self.convolutions(torch.cat([x, skip], 1))


class VNet(nn.Module):
    """Milletari et al., 3DV 2016, as in the paper's figure 2, or as in the authors' `train_noPooling_ResNet_cinque.prototxt`."""

    def __init__(self, channels, classes, features=16, prototxt=False, norm=None, activation=nn.PReLU):
        super().__init__()
        counts_down, counts_up = ([1, 1, 2, 3, 3], [1, 1, 2, 3]) if prototxt else ([1, 2, 3, 3, 3], [1, 2, 3, 3])
        width = [features * 2**level for level in range(5)]

        def down(level):
            reduce = block(nn.Conv3d(width[level - 1], width[level], 2, 2), norm, activation) if level else None
            inputs = width[level] if level else channels
            return row(reduce=reduce, convolutions=ResidualConvolutions(inputs, width[level], counts_down[level], norm, activation))

        below = [2 * width[1], 2 * width[2], 2 * width[3], width[4]]
        self.down = nn.ModuleList([down(level) for level in range(5)])
        self.up = nn.ModuleList([UpStage(below[level], width[level], counts_up[level], norm, activation) for level in range(4)])
        before = block(nn.Conv3d(2 * features, classes, 5, padding=2), None, activation) if prototxt else None
        self.head = row(before=before, last=nn.Conv3d(classes if prototxt else 2 * features, classes, 1))

    def forward(self, x):
        skips = []
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        for stage, skip in zip(reversed(self.up), reversed(skips[:-1])):
            x = stage(x, skip)
        return self.head(x)


class UpStep(nn.Module):
    """One resolution of the first 3D U-Net on the way up. Of the skipped features it takes the middle that fits."""

    def __init__(self, below, convolutions):
        super().__init__()
        self.upsample = nn.ConvTranspose3d(below, below, 2, 2)
        self.convolutions = convolutions

    def forward(self, x, skip):
        x = self.upsample(x)
        for axis in range(2, 5):
            skip = skip.narrow(axis, (skip.shape[axis] - x.shape[axis]) // 2, x.shape[axis])
        return self.convolutions(torch.cat([x, skip], 1))


class CicekUNet(nn.Module):
    """The first 3D U-Net: Çiçek et al., MICCAI 2016. The paper's has `padding=0`."""

    def __init__(self, channels, classes, features=32, padding=1, norm=nn.BatchNorm3d, activation=lambda channels: nn.ReLU()):
        super().__init__()

        def pair(before, between, after):
            convolutions = [nn.Conv3d(before, between, 3, padding=padding), nn.Conv3d(between, after, 3, padding=padding)]
            return row(blocks=nn.Sequential(*[block(conv, norm, activation) for conv in convolutions]))

        first = [features * 2**level for level in range(4)]
        self.down = nn.ModuleList([pair(channels if level == 0 else first[level], first[level], 2 * first[level]) for level in range(4)])
        self.up = nn.ModuleList([UpStep(4 * n, pair(6 * n, 2 * n, 2 * n)) for n in first[:3]])
        self.head = nn.Conv3d(2 * features, classes, 1)

    def forward(self, x):
        skips = []
        for level, stage in enumerate(self.down):
            x = stage(functional.max_pool3d(x, 2) if level else x)
            skips.append(x)
        for step, skip in zip(reversed(self.up), reversed(skips[:-1])):
            x = step(x, skip)
        return self.head(x)
