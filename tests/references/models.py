"""Logits and gradients of the published networks in PyTorch, for weights that both sides compute by the same formula.

    pip install torch==2.15.0 numpy==2.4.6 dynamic-network-architectures==0.4.4
    python models.py > models.json

nnU-Net's networks are those of its package `dynamic-network-architectures`; V-Net and the first 3D U-Net are written out
here from the papers (Milletari et al., 3DV 2016, and the authors' `train_noPooling_ResNet_cinque.prototxt`; Çiçek et al.,
MICCAI 2016). Nothing is random: see `noise`.
"""

import json
import sys

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

SAMPLES = 48


def noise(count, stream):
    """`count` numbers in [-1, 1), the same as in ../model_references.rs."""
    x = (np.arange(1, count + 1, dtype=np.uint64) * 2654435761 + (stream + 1) * 97) % 2**32
    x ^= x >> np.uint64(16)
    x = x * np.uint64(2246822519) % 2**32
    x ^= x >> np.uint64(13)
    return x.astype(np.float64) / 2**31 - 1


def fill(parameters):
    """Gives the parameters their values; `pointwise` weights lie transposed in ARL: `[in, out, 1, 1, 1]`."""
    with torch.no_grad():
        for stream, (kind, parameter) in enumerate(parameters):
            shape = ours(kind, parameter).shape
            u = torch.tensor(noise(parameter.numel(), stream).reshape(shape), dtype=parameter.dtype)
            if kind == "pointwise":
                value = u * (6 / shape[0]) ** 0.5
            elif kind == "transposed":
                value = u * (6 / shape[0]) ** 0.5
            elif kind == "weight":
                value = u * (6 / np.prod(shape[1:])) ** 0.5
            elif kind == "scale":
                value = 1 + 0.5 * u
            elif kind == "slope":
                value = 0.25 + 0.1 * u
            else:
                value = 0.3 * u
            parameter.copy_(value.transpose(0, 1) if kind == "pointwise" else value)


def ours(kind, tensor):
    return tensor.transpose(0, 1) if kind == "pointwise" else tensor


def samples(tensor):
    flat = tensor.detach().reshape(-1).numpy()
    places = np.unique(np.linspace(0, len(flat) - 1, SAMPLES).astype(int))
    return {"places": places.tolist(), "values": [float(f"{flat[i]:.8g}") for i in places], "norm": float(np.linalg.norm(flat))}


def reference(name, network, parameters, shape):
    network = network.double()
    covered = {id(parameter) for _, parameter in parameters}
    missing = [key for key, parameter in network.named_parameters() if id(parameter) not in covered]
    assert not missing, missing
    fill(parameters)
    images = torch.tensor(noise(int(np.prod(shape)), 500).reshape(shape))
    logits = network(images)
    logits = list(logits) if isinstance(logits, (list, tuple)) else [logits]
    loss = sum((head * torch.tensor(noise(head.numel(), 600 + i).reshape(head.shape))).sum() for i, head in enumerate(logits))
    loss.backward()
    return {
        "name": name,
        "images": list(shape),
        "parameters": [{"kind": kind, "shape": list(ours(kind, p).shape), "gradient": samples(ours(kind, p.grad).contiguous())} for kind, p in parameters],
        "logits": [{"shape": list(head.shape), **samples(head)} for head in logits],
    }


def block(conv_norm):
    """Parameters of nnU-Net's ConvDropoutNormReLU."""
    bias = [] if conv_norm.conv.bias is None else [("bias", conv_norm.conv.bias)]
    slope = [("slope", conv_norm.nonlin.weight)] if isinstance(getattr(conv_norm, "nonlin", None), nn.PReLU) else []
    return [("weight", conv_norm.conv.weight), *bias, ("scale", conv_norm.norm.weight), ("bias", conv_norm.norm.bias), *slope]


def nnunet(network, residual):
    """Parameters of nnU-Net's networks in the order of ARL's UNet: stem, encoder, decoder, heads, each finest first."""
    found = []
    if residual:
        found += block(network.encoder.stem.convs[0])
        for stage in network.encoder.stages:
            for unit in stage.blocks:
                found += block(unit.conv1) + block(unit.conv2)
                projections = [m for m in unit.skip if hasattr(m, "conv")] if isinstance(unit.skip, nn.Sequential) else []
                for projection in projections:
                    found += block(projection)
                found += [("slope", unit.nonlin2.weight)] if isinstance(unit.nonlin2, nn.PReLU) else []
    else:
        for stage in network.encoder.stages:
            for unit in stage[0].convs:
                found += block(unit)
    decoder = network.decoder
    for upsample, stage in reversed(list(zip(decoder.transpconvs, decoder.stages))):
        found += [("transposed", upsample.weight), ("bias", upsample.bias)]
        for unit in stage.convs:
            found += block(unit)
    for head in reversed(decoder.seg_layers):
        found += [("pointwise", head.weight), ("bias", head.bias)]
    return found


def common(n_stages, **other):
    return dict(
        conv_op=nn.Conv3d, conv_bias=True, deep_supervision=True, num_classes=3, n_stages=n_stages,
        **{"norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}, **other},
    )


def with_prelu(network):
    """Has a slope per channel instead of each leaky ReLU; the package has but one for all channels."""
    for module in list(network.modules()):
        if hasattr(module, "conv") and hasattr(module, "nonlin"):
            module.nonlin = nn.PReLU(module.conv.out_channels)
            module.all_modules[-1] = module.nonlin
        elif hasattr(module, "nonlin2"):
            module.nonlin2 = nn.PReLU(module.conv2.conv.out_channels)
    return network


class Activated(nn.Module):
    def __init__(self, before, after, kernel, stride=1):
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.convolution = nn.Conv3d(before, after, kernel, stride, padding)
        self.activation = nn.PReLU(after)

    def parts(self):
        return [("weight", self.convolution.weight), ("bias", self.convolution.bias), ("slope", self.activation.weight)]


class VNet(nn.Module):
    def __init__(self, channels, classes, features, down, up, prototxt):
        super().__init__()
        width = [features * 2**level for level in range(5)]
        self.reduce = nn.ModuleList([Activated(width[level - 1], width[level], 2, 2) for level in range(1, 5)])
        self.down = nn.ModuleList(
            [nn.ModuleList([Activated(channels if level == 0 and i == 0 else width[level], width[level], 5) for i in range(count)]) for level, count in enumerate(down)]
        )
        below = [2 * width[1], 2 * width[2], 2 * width[3], width[4]]
        self.raise_ = nn.ModuleList([nn.ConvTranspose3d(below[level], width[level], 2, 2) for level in range(4)])
        self.slopes = nn.ModuleList([nn.PReLU(width[level]) for level in range(4)])
        self.up = nn.ModuleList([nn.ModuleList([Activated(2 * width[level], 2 * width[level], 5) for _ in range(count)]) for level, count in enumerate(up)])
        self.before = Activated(2 * features, classes, 5) if prototxt else None
        self.last = nn.Conv3d(classes if prototxt else 2 * features, classes, 1)

    @staticmethod
    def stage(units, x):
        inner = x
        for unit in units[:-1]:
            inner = unit.activation(unit.convolution(inner))
        inner = units[-1].convolution(inner)
        return units[-1].activation(inner + x.repeat(1, inner.shape[1] // x.shape[1], 1, 1, 1))

    def forward(self, x):
        skips = []
        for level in range(5):
            if level:
                reduce = self.reduce[level - 1]
                x = reduce.activation(reduce.convolution(x))
            x = self.stage(self.down[level], x)
            skips.append(x)
        for level in reversed(range(4)):
            x = self.slopes[level](self.raise_[level](x))
            x = self.stage(self.up[level], torch.cat([x, skips[level]], 1))
        if self.before is not None:
            x = self.before.activation(self.before.convolution(x))
        return self.last(x)

    def ordered(self):
        found = []
        for level in range(5):
            found += self.reduce[level - 1].parts() if level else []
            for unit in self.down[level]:
                found += unit.parts()
        for level in range(4):
            found += [("transposed", self.raise_[level].weight), ("bias", self.raise_[level].bias), ("slope", self.slopes[level].weight)]
            for unit in self.up[level]:
                found += unit.parts()
        found += self.before.parts() if self.before is not None else []
        return found + [("weight", self.last.weight), ("bias", self.last.bias)]


class CicekUNet(nn.Module):
    def __init__(self, channels, classes, features, padding):
        super().__init__()

        def pair(before, between, after):
            return nn.ModuleList([nn.Conv3d(before, between, 3, 1, padding), nn.Conv3d(between, after, 3, 1, padding), nn.BatchNorm3d(between), nn.BatchNorm3d(after)])

        first = [features * 2**level for level in range(4)]
        self.down = nn.ModuleList([pair(channels if level == 0 else first[level], first[level], 2 * first[level]) for level in range(4)])
        self.raise_ = nn.ModuleList([nn.ConvTranspose3d(4 * first[level], 4 * first[level], 2, 2) for level in range(3)])
        self.up = nn.ModuleList([pair(6 * first[level], 2 * first[level], 2 * first[level]) for level in range(3)])
        self.head = nn.Conv3d(2 * features, classes, 1)

    @staticmethod
    def pair(modules, x):
        first, second, norm, last_norm = modules
        return torch.relu(last_norm(second(torch.relu(norm(first(x))))))

    def forward(self, x):
        skips = []
        for level in range(4):
            x = self.pair(self.down[level], nn.functional.max_pool3d(x, 2) if level else x)
            skips.append(x)
        for level in reversed(range(3)):
            x = self.raise_[level](x)
            skip = skips[level]
            start = [(a - b) // 2 for a, b in zip(skip.shape[2:], x.shape[2:])]
            d, h, w = [slice(s, s + n) for s, n in zip(start, x.shape[2:])]
            x = self.pair(self.up[level], torch.cat([x, skip[:, :, d, h, w]], 1))
        return self.head(x)

    def ordered(self):
        def parts(modules):
            first, second, *norms = modules
            found = []
            for convolution, norm in zip((first, second), norms):
                found += [("weight", convolution.weight), ("bias", convolution.bias), ("scale", norm.weight), ("bias", norm.bias)]
            return found

        found = []
        for level in range(4):
            found += parts(self.down[level])
        for level in range(3):
            found += [("transposed", self.raise_[level].weight), ("bias", self.raise_[level].bias)] + parts(self.up[level])
        return found + [("weight", self.head.weight), ("bias", self.head.bias)]


def main():
    stages = dict(features_per_stage=[4, 6, 8], kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]], strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]])
    plain = PlainConvUNet(input_channels=2, n_conv_per_stage=2, n_conv_per_stage_decoder=2, **stages, **common(3))
    residual = ResidualEncoderUNet(input_channels=2, n_blocks_per_stage=[1, 3, 2], n_conv_per_stage_decoder=1, **stages, **common(3))
    groups = dict(norm_op=lambda channels, **options: nn.GroupNorm(2, channels, **options), norm_op_kwargs={"eps": 1e-5}, nonlin=nn.ReLU)
    grouped = PlainConvUNet(input_channels=2, n_conv_per_stage=2, n_conv_per_stage_decoder=2, **stages, **common(3, **groups))
    batches = dict(norm_op=nn.BatchNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True})
    learned = with_prelu(ResidualEncoderUNet(input_channels=2, n_blocks_per_stage=[1, 2, 1], n_conv_per_stage_decoder=1, **stages, **common(3, **batches)))
    paper = VNet(1, 2, 2, [1, 2, 3, 3, 3], [1, 2, 3, 3], False)
    prototxt = VNet(2, 3, 2, [1, 1, 2, 3, 3], [1, 1, 2, 3], True)
    same, valid = CicekUNet(2, 3, 2, 1), CicekUNet(1, 2, 1, 0)
    json.dump(
        {
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
            "networks": [
                reference("plain U-Net", plain, nnunet(plain, False), [2, 2, 6, 8, 12]),
                reference("residual encoder U-Net", residual, nnunet(residual, True), [2, 2, 6, 8, 12]),
                reference("plain U-Net, groups and ReLU", grouped, nnunet(grouped, False), [2, 2, 6, 8, 12]),
                reference("residual encoder U-Net, batches and PReLU", learned, nnunet(learned, True), [2, 2, 6, 8, 12]),
                reference("V-Net of the paper", paper, paper.ordered(), [1, 1, 16, 32, 16]),
                reference("V-Net of the prototxt", prototxt, prototxt.ordered(), [2, 2, 16, 16, 32]),
                reference("first U-Net, padded", same, same.ordered(), [2, 2, 16, 8, 24]),
                reference("first U-Net, valid", valid, valid.ordered(), [1, 1, 92, 92, 100]),
            ],
        },
        sys.stdout,
    )


main()
