"""Makes resampling/: what nnU-Net v2's own `resample_data_or_seg_to_shape` returns for small noisy volumes.

python resampling.py

Packages: nnunetv2 2.8.1, batchgenerators 0.25.1, scikit-image 0.26.0, scipy 1.17.1, numpy 2.4.6. Kinds: `image` is order 3,
`labels` is order 1 per label, `probabilities` is order 1; all with order 0 along a coarse axis, as nnU-Net plans them.
(From 0.25.4 on, batchgenerators gives a voxel to the label with the largest share instead of the last with half of it.)
The inputs are `noise` below, which the test computes again. `cases.json` lists the cases in the order of
`values.bin`: f32 (image, probabilities) or u8 (labels), little-endian, row-major.
"""

import json
from pathlib import Path

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

HERE = Path(__file__).parent / "resampling"

# kind, shape, spacing in mm, new shape, new spacing in mm, labels
CASES = [
    ("image", (9, 10, 11), (1, 1, 1), (14, 13, 17), (0.64, 0.77, 0.65), 0),
    ("image", (16, 18, 20), (1, 1, 1), (7, 9, 11), (2.3, 2.0, 1.8), 0),
    ("image", (40, 6, 7), (1, 1, 1), (61, 6, 7), (0.66, 1, 1), 0),
    ("image", (8, 9, 10), (1, 1, 1), (8, 5, 13), (1, 1.8, 0.77), 0),
    ("image", (1, 12, 9), (2, 1, 1), (1, 17, 7), (2, 0.7, 1.3), 0),
    ("image", (2, 3, 4), (1, 1, 1), (5, 7, 3), (0.4, 0.43, 1.33), 0),
    ("image", (6, 12, 14), (5, 1, 1), (13, 9, 17), (2.3, 1.33, 0.82), 0),
    ("image", (12, 5, 14), (1, 5, 1), (9, 11, 17), (1.33, 2.3, 0.82), 0),
    ("image", (12, 14, 5), (1, 1, 5), (9, 17, 11), (1.33, 0.82, 2.3), 0),
    ("image", (12, 14, 15), (1, 1, 1), (3, 9, 17), (4, 1.5, 0.88), 0),
    ("image", (6, 12, 14), (5, 1, 1), (6, 9, 17), (5, 1.33, 0.82), 0),
    ("image", (2, 7, 8), (6, 1, 1), (49, 7, 8), (0.25, 1, 1), 0),
    ("labels", (9, 10, 11), (1, 1, 1), (14, 13, 17), (0.64, 0.77, 0.65), 3),
    ("labels", (9, 10, 11), (1, 1, 1), (18, 20, 22), (0.5, 0.5, 0.5), 30),
    ("labels", (9, 10, 12), (1, 1, 1), (6, 5, 8), (1.5, 2, 1.5), 4),
    ("labels", (6, 12, 14), (5, 1, 1), (13, 9, 17), (2.3, 1.33, 0.82), 5),
    ("labels", (12, 5, 14), (1, 5, 1), (18, 11, 17), (0.67, 2.3, 0.82), 2),
    ("labels", (12, 14, 5), (1, 1, 5), (9, 21, 11), (1.33, 0.67, 2.3), 23),
    ("probabilities", (9, 10, 11), (1, 1, 1), (14, 13, 17), (0.64, 0.77, 0.65), 0),
    ("probabilities", (16, 18, 20), (1, 1, 1), (7, 9, 11), (2.3, 2.0, 1.8), 0),
    ("probabilities", (6, 12, 14), (5, 1, 1), (13, 9, 17), (2.3, 1.33, 0.82), 0),
]


def noise(shape):
    """Whole numbers from 0 to 4095 that look random."""
    index = np.arange(np.prod(shape), dtype=np.uint64)
    mixed = (index + 1) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(52)).astype(np.float32).reshape(shape)


def blocks(shape, labels):
    """Labels in blocks of 2 voxels along each axis, so that some voxels have no majority and others do."""
    small = noise([(n + 1) // 2 for n in shape]) % labels
    for axis in range(3):
        small = np.repeat(small, 2, axis)
    return small[: shape[0], : shape[1], : shape[2]].astype(np.int16)


HERE.mkdir(exist_ok=True)
described, values = [], b""
for kind, shape, spacing, new_shape, new_spacing, labels in CASES:
    data = blocks(shape, labels) if kind == "labels" else noise(shape)
    result = resample_data_or_seg_to_shape(
        data[None],
        new_shape,
        spacing,
        new_spacing,
        is_seg=kind == "labels",
        order=3 if kind == "image" else 1,
        order_z=0,
        force_separate_z=None,
    )[0]
    assert result.shape == new_shape
    values += result.astype("u1" if kind == "labels" else "<f4").tobytes()
    described.append(
        dict(kind=kind, shape=shape, spacing=spacing, new_shape=new_shape, new_spacing=new_spacing, labels=labels)
    )
(HERE / "cases.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in described) + "\n]\n")
(HERE / "values.bin").write_bytes(values)
