"""Checkpoints as PyTorch writes them, good and refused, for the reader of `arl-models`.

    pip install torch==2.15.0 numpy
    python pytorch.py pytorch

writes the folder `pytorch`. The tensors of `kinds.pth` hold 0, 1, 2, … in row-major order (`middle`: from 6 on).
"""

import collections
import pathlib
import sys

import numpy as np
import torch

OUT = pathlib.Path(sys.argv[1])
OUT.mkdir(parents=True, exist_ok=True)


def save(name, value, **options):
    torch.save(value, OUT / f"{name}.pth", **options)


count = torch.arange(12.0)
network = collections.OrderedDict(
    float=count.reshape(3, 4),
    same=count.reshape(3, 4),
    middle=count[6:].reshape(2, 3),
    permuted=torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1).contiguous().permute(1, 2, 0),
    half=torch.arange(9).half(),
    bfloat=torch.arange(9).bfloat16(),
    double=torch.arange(5).double(),
    count=torch.tensor(0),
    empty=torch.zeros(0, 3),
    parameter=torch.nn.Parameter(torch.arange(4.0)),
    buffer=torch.nn.Buffer(torch.arange(3.0)),
)
network._metadata = {"": {"version": 1}}
log = {"dice": [[np.float32(0.5), np.float64(0.25)]], "loss": [0.1, float("nan")], "large": 2**70, "device": torch.device("cpu")}
save("kinds", {"network_weights": network, "logging": log, "init_args": {"configuration": "3d_fullres"}, "mirroring": (0, 1, 2)})
save("expanded", {"network_weights": {"a": torch.zeros(1).expand(1000000)}})
shared = torch.zeros(2000)
save("repeated", {"network_weights": {f"a{i}": shared for i in range(20)}})
save("integers", {"state_dict": {"a": torch.zeros(2), "mask": torch.zeros(2, dtype=torch.int32)}})
save("numbers", {"a": torch.zeros(2), "epoch": 3})
save("list", [torch.zeros(2)])
save("module", torch.nn.Linear(2, 2))
save("legacy", {"a": torch.zeros(2)}, _use_new_zipfile_serialization=False)
