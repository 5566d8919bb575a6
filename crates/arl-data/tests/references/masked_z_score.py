"""Makes masked_z_score.bin: what nnU-Net v2's crop and masked z-score make of a small noisy volume.

python masked_z_score.py

Packages: nnunetv2 2.8.1, scipy 1.17.1, numpy 2.4.6. The volume, which the test computes again, is `noise` of resampling.py in a
ball with holes, some of them open to the outside. f32, little-endian, row-major, of the shape that the crop leaves.
"""

from pathlib import Path

import numpy as np
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.normalization.default_normalization_schemes import ZScoreNormalization

SHAPE = (14, 15, 17)

index = np.arange(np.prod(SHAPE), dtype=np.uint64)
mixed = (index + 1) * np.uint64(0x9E3779B97F4A7C15)
mixed ^= mixed >> np.uint64(29)
mixed *= np.uint64(0xBF58476D1CE4E5B9)
noise = (mixed >> np.uint64(52)).astype(np.float32).reshape(SHAPE)
d, h, w = np.indices(SHAPE)
ball = (d - 6) ** 2 + (h - 7) ** 2 + (w - 9) ** 2 < 40
# Every third voxel or so is a hole.
data = np.where(ball & (noise % 3 > 0), noise, 0)[None].astype(np.float32)

cropped, seg, bounds = crop_to_nonzero(data)
assert cropped.shape != data.shape
enclosed = (seg[0] >= 0) & (cropped[0] == 0)
assert enclosed.sum() > 20 and (seg < 0).sum() > 20
normalised = ZScoreNormalization(use_mask_for_norm=True, intensityproperties={}).run(cropped[0].copy(), seg[0])
print(bounds, normalised.shape, enclosed.sum())
(Path(__file__).parent / "masked_z_score.bin").write_bytes(normalised.astype("<f4").tobytes())
