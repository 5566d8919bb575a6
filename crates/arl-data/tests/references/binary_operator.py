"""What batchgeneratorsv2's operators on masks make of one mask: the voxels of the result, and the sum of their places.

    pip install batchgeneratorsv2 scikit-image numpy torch
    python binary_operator.py > binary_operator.json

Made with batchgeneratorsv2 0.3.6, scikit-image 0.26.0, torch 2.15.0.
"""

import json
import sys

import numpy as np
import torch
from batchgeneratorsv2.transforms.nnunet.random_binary_operator import (
    binary_closing_torch,
    binary_dilation_torch,
    binary_erosion_torch,
    binary_opening_torch,
)
from skimage.morphology import ball

d, h, w = np.mgrid[:17, :18, :19]
mask = ((d - 6) ** 2 + (h - 8) ** 2 + (w - 9) ** 2 < 30) | ((d > 12) & (h > 3) & (w < 15))
mask &= (d * 7 + h * 3 + w) % 11 > 0
operators = {"dilation": binary_dilation_torch, "erosion": binary_erosion_torch, "closing": binary_closing_torch, "opening": binary_opening_torch}
found = []
for name, operator in operators.items():
    for radius in (1, 2, 3, 5):
        result = operator(torch.from_numpy(mask), torch.from_numpy(ball(radius, dtype=bool))).numpy()
        places = np.flatnonzero(result)
        found.append({"operation": name, "radius": radius, "voxels": len(places), "weighted": int((places % 9973).sum())})
json.dump(found, sys.stdout)
