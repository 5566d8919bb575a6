"""batchgeneratorsv2 on what augmentation.rs does: JSON with milliseconds per patch, of nnU-Net's training transforms and
of each transform alone.

Arguments: patches, repetitions of each transform. One thread. The volume is the one of augmentation.rs.
"""

import json
import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

torch.set_num_threads(1)
torch.set_num_interop_threads(1)

from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

SOURCE, PATCH = 205, 128
patches, repetitions = int(sys.argv[1]), int(sys.argv[2])


def volume():
    z, y, x = np.meshgrid(*[np.arange(SOURCE, dtype=np.float32)] * 3, indexing="ij")
    noise = np.random.default_rng(0).standard_normal((SOURCE,) * 3, dtype=np.float32)
    image = np.sin(z / 9) + np.cos(y / 13) * np.sin(x / 7) + 0.1 * noise
    labels = np.zeros((SOURCE,) * 3, np.int16)
    for label, (cz, cy, cx, radius) in enumerate([(60, 90, 70, 40), (130, 110, 120, 50), (100, 60, 150, 35)], 1):
        labels[(z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < radius**2] = label
    return torch.from_numpy(image)[None], torch.from_numpy(labels)[None]


angle = 30 / 360 * 2 * np.pi
training = nnUNetTrainer.get_training_transforms(
    np.array([PATCH] * 3), (-angle, angle), None, (0, 1, 2), False
)
image, labels = volume()
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

spent = clock(training, whole, patches)
print(json.dumps({"patch": float(np.mean(spent)), "median": float(np.median(spent)), "alone": alone}))
