"""Makes surfaces.json: metrics of random label maps by MONAI, distance transforms by SciPy.

Written with monai 1.6.1, scipy and numpy as printed in the file; run it in this folder.
"""

import json
import warnings

import monai
import numpy as np
import scipy
import torch
from monai.metrics import (
    HausdorffDistanceMetric,
    SurfaceDiceMetric,
    SurfaceDistanceMetric,
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    compute_surface_dice,
)
from scipy import ndimage

warnings.filterwarnings("ignore")
random = np.random.default_rng(4)
IGNORE = 4


def blobs(shape, classes):
    """Smooth noise cut into classes: ragged blobs that touch the volume's border."""
    noise = ndimage.gaussian_filter(random.normal(size=shape), 2.0)
    cuts = np.quantile(noise, np.linspace(0.6, 0.95, classes))
    return np.digitize(noise, cuts).astype(np.uint8), noise, cuts


def changed(noise, cuts, amount):
    other = noise + amount * noise.std() * ndimage.gaussian_filter(random.normal(size=noise.shape), 1.0) * 8
    return np.digitize(np.roll(other, 1, axis=2), cuts).astype(np.uint8)


def runs(labels):
    """Run lengths: label, count, label, count, ..."""
    flat = labels.ravel()
    starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]])
    counts = np.diff(np.r_[starts, flat.size])
    return [int(value) for pair in zip(flat[starts], counts) for value in pair]


def finite(value):
    value = float(value)
    return None if np.isnan(value) else "inf" if np.isinf(value) else value


def masks(labels, structure):
    return torch.from_numpy(np.isin(labels, structure))[None, None]


def scores(prediction, reference, structure, spacing, tolerance):
    if len(prediction) == 1:  # A 2D image.
        prediction, reference, spacing = prediction[0], reference[0], spacing[1:]
    pair = (masks(prediction, structure), masks(reference, structure))
    surface = {"include_background": True, "spacing": spacing}
    values = {
        "Dice": compute_dice(pair[0].float(), pair[1].float(), ignore_empty=False),
        "IoU": compute_iou(pair[0].float(), pair[1].float(), ignore_empty=False),
        "HD": compute_hausdorff_distance(*pair, **surface),
        "HD95": compute_hausdorff_distance(*pair, percentile=95, **surface),
        "ASSD": compute_average_surface_distance(*pair, symmetric=True, **surface),
        "NSD": compute_surface_dice(*pair, class_thresholds=[tolerance], **surface),
    }
    return {name: finite(value.squeeze()) for name, value in values.items()}


def ignoring(prediction, reference, structure, spacing, tolerance):
    """As MONAI's metrics with ignore_index, whose channel comes last."""
    ignored = masks(reference, [IGNORE])
    pair = [torch.cat([masks(labels, structure), ignored], 1).float() for labels in (prediction, reference)]
    options = {"include_background": True, "ignore_index": 1}
    metrics = {
        "HD": HausdorffDistanceMetric(**options),
        "HD95": HausdorffDistanceMetric(percentile=95, **options),
        "ASSD": SurfaceDistanceMetric(symmetric=True, **options),
        "NSD": SurfaceDiceMetric(class_thresholds=[tolerance, tolerance], **options),
    }
    values = {name: metric(*pair, spacing=spacing)[0, 0] for name, metric in metrics.items()}
    return {name: finite(value) for name, value in values.items()}


cases = []
for shape, spacing, amount, tolerance, ignore in [
    ((12, 20, 24), (3.0, 0.8, 0.8), 0.5, 1.0, False),
    ((24, 20, 12), (1.0, 1.0, 1.0), 1.0, 2.0, False),
    ((10, 16, 70), (0.7, 2.5, 1.3), 2.0, 2.5, False),
    ((1, 30, 40), (5.0, 0.9, 1.1), 1.0, 1.0, False),
    ((16, 20, 24), (1.5, 0.8, 1.2), 1.0, 1.2, True),
]:
    reference, noise, cuts = blobs(shape, 4 if ignore else 3)
    prediction = changed(noise, cuts[:3], amount)
    compute = ignoring if ignore else scores
    structures = [[1], [2], [3], [1, 2, 3], [2, 3]]
    cases.append(
        {
            "shape": shape,
            "spacing": spacing,
            "tolerance": tolerance,
            "ignore": IGNORE if ignore else None,
            "prediction": runs(prediction),
            "reference": runs(reference),
            "scores": [
                {"labels": structure, **compute(prediction, reference, structure, spacing, tolerance)}
                for structure in structures
            ],
        }
    )

transforms = []
for shape, spacing in [((7, 9, 11), (3.0, 0.8, 0.8)), ((5, 1, 13), (1.0, 2.0, 0.3)), ((9, 8, 7), (1.0, 1.0, 1.0))]:
    mask = random.random(shape) < 0.04
    mask[0, 0, 3] = True  # SciPy's answer for an empty mask is arbitrary.
    distances = ndimage.distance_transform_edt(~mask, sampling=spacing)
    transforms.append(
        {"shape": shape, "spacing": spacing, "mask": runs(mask.astype(np.uint8)), "distances": distances.ravel().tolist()}
    )

made_with = f"monai {monai.__version__}, scipy {scipy.__version__}, numpy {np.__version__}, torch {torch.__version__}"
with open("surfaces.json", "w") as file:
    json.dump({"made_with": made_with, "cases": cases, "transforms": transforms}, file, separators=(",", ":"))
