"""HD95 and NSD by MONAI and by surface-distance, distance transforms by SciPy and edt: FOLDER THREADS.

FOLDER holds reference.u8 and prediction.u8, 256**3 labels each. Every function gets ready-made masks, one class at a time.
"""

import json
import sys
import time
import warnings

import edt
import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage
from surface_distance import metrics as deepmind

warnings.filterwarnings("ignore")

SIDE = 256
SPACING = (1.5, 0.8, 0.8)
TOLERANCE = 2.0

folder, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)


def labels(name):
    return np.fromfile(f"{folder}/{name}.u8", dtype=np.uint8).reshape(SIDE, SIDE, SIDE)


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


reference, prediction = labels("reference"), labels("prediction")
classes = range(1, int(reference.max()) + 1)
monai = {"hd95": [], "nsd": [], "seconds": 0.0}
surface_distance = {"hd95": [], "nsd": [], "seconds": 0.0}
for label in classes:
    pair = [torch.from_numpy(volume == label)[None, None] for volume in (prediction, reference)]

    def by_monai():
        hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=SPACING)
        nsd = compute_surface_dice(*pair, class_thresholds=[TOLERANCE], include_background=True, spacing=SPACING)
        monai["hd95"].append(hd95.item())
        monai["nsd"].append(nsd.item())

    monai["seconds"] += seconds(by_monai)
    masks = (reference == label, prediction == label)

    def by_surface_distance():
        distances = deepmind.compute_surface_distances(*masks, SPACING)
        surface_distance["hd95"].append(float(deepmind.compute_robust_hausdorff(distances, 95)))
        surface_distance["nsd"].append(float(deepmind.compute_surface_dice_at_tolerance(distances, TOLERANCE)))

    surface_distance["seconds"] += seconds(by_surface_distance)

outside = reference != 1
result = {
    "monai": monai,
    "surface_distance": surface_distance,
    "scipy_transform": seconds(lambda: ndimage.distance_transform_edt(outside, sampling=SPACING)),
    "edt_transform": seconds(lambda: edt.edtsq(outside, anisotropy=SPACING, parallel=threads)),
}
print(json.dumps(result))
