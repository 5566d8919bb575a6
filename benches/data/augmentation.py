"""batchgeneratorsv2 on what augmentation.rs does: JSON with milliseconds per patch, of nnU-Net's training transforms and
of each transform alone.

Arguments: patches, repetitions of each transform, and a folder with the volume of augmentation.rs and what that made of
it with given angles and factor, which is compared. One thread.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

torch.set_num_threads(1)
torch.set_num_interop_threads(1)

from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

SOURCE, PATCH = 205, 128
patches, repetitions, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
DEGREES, FACTOR = (20, -15, 10), 1.2


def read(name, dtype, *shape):
    return torch.from_numpy(np.fromfile(folder / name, dtype).reshape(shape))


image = read("image", np.float32, 1, SOURCE, SOURCE, SOURCE)
labels = read("labels", np.int16, 1, SOURCE, SOURCE, SOURCE)
angle = 30 / 360 * 2 * np.pi
training = nnUNetTrainer.get_training_transforms(
    np.array([PATCH] * 3), (-angle, angle), None, (0, 1, 2), False
)
patch, patch_labels = (t[:, 38:166, 38:166, 38:166].contiguous() for t in (image, labels))
torch.manual_seed(0)
np.random.seed(0)


def clock(run, inputs, times):
    spent = []
    for _ in range(times):
        # The loader hands a fresh copy over in both programs; it isn't part of the time here.
        data = {name: tensor.clone() for name, tensor in inputs.items()}
        start = time.perf_counter()
        run(**data)
        spent.append(1000 * (time.perf_counter() - start))
    return spent


whole = {"image": image, "segmentation": labels}
small = {"image": patch, "segmentation": patch_labels}
alone = {}
for transform in training.transforms:
    inner = getattr(transform, "transform", transform)
    name = type(inner).__name__
    if name == "SpatialTransform":
        chances = inner.p_rotation, inner.p_scaling
        inner.p_rotation = inner.p_scaling = 1
        alone["spatial"] = min(clock(inner, whole, repetitions))
        inner.p_rotation, inner.p_scaling = chances
        continue
    if name == "RemoveLabelTransform":
        continue
    if name == "GammaTransform" and inner.p_invert_image:
        name = "inverted_gamma"
    chance = getattr(inner, "p_per_channel", None)
    if chance is not None:
        inner.p_per_channel = 1
    if isinstance(inner, MirrorTransform):
        run = lambda image, segmentation: (torch.flip(image, (1, 2, 3)), torch.flip(segmentation, (1, 2, 3)))
    else:
        run = inner
    clock(run, small, 2)
    alone[name] = min(clock(run, small, repetitions))
    if chance is not None:
        inner.p_per_channel = chance

# An even edge, so that both programs turn about the same point.
given = SpatialTransform(
    (PATCH,) * 3, 0, False,
    p_rotation=1, rotation=lambda image, dim: np.radians(DEGREES[dim]),
    p_scaling=1, scaling=FACTOR, border_mode_seg="constant", padding_value_seg=0,
)
even = {name: tensor[:, :-1, :-1, :-1].contiguous() for name, tensor in whole.items()}
out = given(**even)
difference = (out["image"] - read("turned_image", np.float32, 1, PATCH, PATCH, PATCH)).abs().max()
other_labels = (out["segmentation"] != read("turned_labels", np.int16, 1, PATCH, PATCH, PATCH)).sum()

spent = clock(training, whole, patches)
print(json.dumps({
    "patch": float(np.mean(spent)), "alone": alone,
    "difference": float(difference), "other_labels": int(other_labels),
}))
