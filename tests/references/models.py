"""Logits and gradients of the published networks in PyTorch, for weights that both sides compute by the same formula.

    pip install torch==2.15.0 numpy==2.4.6 dynamic-network-architectures==0.4.4 monai==1.6.1
    python models.py > models.json

nnU-Net's networks are those of its package `dynamic-network-architectures`, and once more MONAI's `DynUNet`, which is the plain one
without deep supervision and without biases before the normalisations and in the transposed convolutions. It is so only with the
same kernel at every resolution: on the way up it takes that of the next coarser one. V-Net and the first 3D U-Net are written out
from the papers, in `examples/pytorch/networks.py`. Nothing is random: see `noise`.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from monai import __version__ as MONAI_VERSION
from monai.networks.nets import DynUNet
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples" / "pytorch"))
from networks import CicekUNet, VNet  # noqa: E402

EVENLY, LARGEST = 32, 16
# Streams of `noise`; those of the parameters count from 0.
IMAGES, HEADS, STATISTICS, PROJECTIONS = 500, 600, 700, (800, 801)


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
            if kind in ("pointwise", "transposed"):
                value = u * (6 / shape[0]) ** 0.5
            elif kind == "weight":
                value = u * (6 / np.prod(shape[1:])) ** 0.5
            elif kind == "scale":
                value = 1 + 0.5 * u
            elif kind == "slope":
                value = 0.25 + 0.1 * u
            elif kind == "bias":
                value = 0.3 * u
            else:
                value = 0 * u
            parameter.copy_(value.transpose(0, 1) if kind == "pointwise" else value)


def fill_statistics(network, parameters):
    """Gives batch normalisations running statistics that are not 0 and 1, and says whether there are any."""
    norms = {id(module.weight): module for module in network.modules() if isinstance(module, nn.BatchNorm3d)}
    found = [norms[id(parameter)] for _, parameter in parameters if id(parameter) in norms]
    for i, norm in enumerate(found):
        norm.running_mean.copy_(torch.tensor(0.3 * noise(norm.num_features, STATISTICS + 2 * i)))
        norm.running_var.copy_(torch.tensor(1 + 0.5 * noise(norm.num_features, STATISTICS + 2 * i + 1)))
    return bool(found)


def ours(kind, tensor):
    return tensor.transpose(0, 1) if kind == "pointwise" else tensor


def samples(tensor, scale=None):
    """What a tensor is recognised by: values at even distances and the largest ones, the norm, and sums over all values, each
    times a number that depends on its place. Of a tensor that is zero but for rounding, `scale` says what is little."""
    flat = tensor.detach().reshape(-1).numpy()
    even = np.linspace(0, len(flat) - 1, EVENLY).astype(int)
    places = np.unique(np.concatenate([even, np.argsort(-np.abs(flat), kind="stable")[:LARGEST]]))
    found = {
        "places": places.tolist(),
        "values": [float(f"{flat[i]:.8g}") for i in places],
        "norm": float(np.linalg.norm(flat)),
        "projections": [float(flat @ noise(len(flat), stream)) for stream in PROJECTIONS],
    }
    return found if scale is None else {**found, "scale": scale}


def gradients(parameters):
    """The gradients' samples. A normalisation cancels the bias before it, whose gradient is zero but for rounding: it is little
    beside that of the weights of the same convolution."""
    found, before = [], 0.0
    for kind, parameter in parameters:
        entry = {"kind": kind, "shape": list(ours(kind, parameter).shape)}
        if kind != "zero":
            gradient = ours(kind, parameter.grad).contiguous()
            norm = float(gradient.norm())
            entry["gradient"] = samples(gradient, before if norm < 1e-9 * before else None)
            before = norm
        found.append(entry)
    return found


def reference(name, network, parameters, shape):
    network = network.double()
    covered = {id(parameter) for _, parameter in parameters}
    missing = [key for key, parameter in network.named_parameters() if id(parameter) not in covered]
    assert not missing, missing
    fill(parameters)
    images = torch.tensor(noise(int(np.prod(shape)), IMAGES).reshape(shape))
    found = {"name": name, "images": list(shape)}
    if fill_statistics(network, parameters):
        with torch.no_grad():
            logits = network.eval()(images)
        logits = logits[0] if isinstance(logits, (list, tuple)) else logits
        found["predicted"] = {"shape": list(logits.shape), **samples(logits)}
    logits = network.train()(images)
    logits = list(logits) if isinstance(logits, (list, tuple)) else [logits]
    loss = sum((head * torch.tensor(noise(head.numel(), HEADS + i).reshape(head.shape))).sum() for i, head in enumerate(logits))
    loss.backward()
    found["parameters"] = gradients(parameters)
    found["logits"] = [{"shape": list(head.shape), **samples(head)} for head in logits]
    return found


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


def monai(network):
    """Parameters of MONAI's DynUNet in the order of ARL's UNet, with a bias of zero, which is none of them, where it has none."""

    def biased(kind, convolution):
        channels = convolution.weight.shape[1 if kind == "transposed" else 0]
        missing = ("zero", torch.zeros(channels))
        return [(kind, convolution.weight), missing if convolution.bias is None else ("bias", convolution.bias)]

    def pair(block):
        found = []
        for convolution, norm in ((block.conv1, block.norm1), (block.conv2, block.norm2)):
            found += biased("weight", convolution.conv) + [("scale", norm.weight), ("bias", norm.bias)]
        return found

    found = []
    for stage in [network.input_block, *network.downsamples, network.bottleneck]:
        found += pair(stage)
    for stage in reversed(network.upsamples):
        found += biased("transposed", stage.transp_conv.conv) + pair(stage.conv_block)
    return found + biased("pointwise", network.output_block.conv.conv)


def by_name(network):
    """Parameters of the networks of `networks.py`, which has them in ARL's order."""
    kinds = {"bias": "bias", "norm.weight": "scale", "activation.weight": "slope", "upsample.weight": "transposed"}
    return [(next((kinds[end] for end in kinds if name.endswith(end)), "weight"), p) for name, p in network.named_parameters()]


def state(name, network):
    """Names and shapes that `load_state_dict` asks for."""
    return {"name": name, "tensors": {key: list(tensor.shape) for key, tensor in sorted(network.state_dict().items())}}


def main():
    stages = dict(features_per_stage=[4, 6, 8], kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]], strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]])
    plain = PlainConvUNet(input_channels=2, n_conv_per_stage=2, n_conv_per_stage_decoder=2, **stages, **common(3))
    residual = ResidualEncoderUNet(input_channels=2, n_blocks_per_stage=[1, 3, 2], n_conv_per_stage_decoder=1, **stages, **common(3))
    groups = dict(norm_op=lambda channels, **options: nn.GroupNorm(2, channels, **options), norm_op_kwargs={"eps": 1e-5}, nonlin=nn.ReLU)
    grouped = PlainConvUNet(input_channels=2, n_conv_per_stage=2, n_conv_per_stage_decoder=2, **stages, **common(3, **groups))
    batches = dict(norm_op=nn.BatchNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True})
    learned = with_prelu(ResidualEncoderUNet(input_channels=2, n_blocks_per_stage=[1, 2, 1], n_conv_per_stage_decoder=1, **stages, **common(3, **batches)))
    strides = stages["strides"]
    dynamic = DynUNet(3, 2, 3, [[3, 3, 5]] * 3, strides, strides[1:], filters=stages["features_per_stage"])
    paper, prototxt = VNet(1, 2, 2), VNet(2, 3, 2, prototxt=True)
    same, valid = CicekUNet(2, 3, 2), CicekUNet(1, 2, 1, padding=0)
    instances = dict(norm=lambda channels: nn.InstanceNorm3d(channels, affine=True), activation=lambda channels: nn.LeakyReLU(0.01))
    other_layers = dict(norm=lambda channels: nn.GroupNorm(2, channels), activation=nn.PReLU)
    json.dump(
        {
            "versions": {"torch": torch.__version__, "numpy": np.__version__, "monai": MONAI_VERSION},
            "networks": [
                reference("plain U-Net", plain, nnunet(plain, False), [2, 2, 6, 8, 12]),
                reference("residual encoder U-Net", residual, nnunet(residual, True), [2, 2, 6, 8, 12]),
                reference("plain U-Net, groups and ReLU", grouped, nnunet(grouped, False), [2, 2, 6, 8, 12]),
                reference("residual encoder U-Net, batches and PReLU", learned, nnunet(learned, True), [2, 2, 6, 8, 12]),
                reference("MONAI's DynUNet", dynamic, monai(dynamic), [2, 2, 6, 8, 12]),
                reference("V-Net of the paper", paper, by_name(paper), [1, 1, 16, 32, 16]),
                reference("V-Net of the prototxt", prototxt, by_name(prototxt), [2, 2, 16, 16, 32]),
                reference("first U-Net, padded", same, by_name(same), [2, 2, 16, 8, 24]),
                reference("first U-Net, valid", valid, by_name(valid), [1, 1, 92, 92, 100]),
            ],
            "states": [
                state("V-Net of the paper", paper),
                state("V-Net of the prototxt", prototxt),
                state("V-Net of the prototxt, instances and leaky ReLU", VNet(2, 3, 2, prototxt=True, **instances)),
                state("first U-Net, padded", same),
                state("first U-Net, groups and PReLU", CicekUNet(2, 3, 2, **other_layers)),
            ],
        },
        sys.stdout,
    )


main()
