"""Makes augmentation/references.json: what batchgeneratorsv2 (nnU-Net's transforms), PyTorch, SciPy and NumPy make of a
small volume with given parameters.

Run: python make_augmentation.py
Made with Python 3.11, batchgeneratorsv2 0.3.6, torch 2.15.0, scipy 1.17.1, numpy 2.4.6.
The volume is computed here and in tests/augmentation.rs by the same formula, so it isn't stored.
"""

import json
import math
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy.interpolate
import torch
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import blur_dimension
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.spatial import (
    SpatialTransform,
    _convert_my_grid_to_grid_sample_grid,
    _create_centered_identity_grid2,
    create_affine_matrix_3d,
)
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform

SOURCE = (10, 11, 13)
PATCH = (6, 7, 9)
OUTSIDE = -1


def volume():
    d, h, w = np.meshgrid(*[np.arange(n) for n in SOURCE], indexing="ij")
    channels = [((c * 31 + d * 17 + h * 5 + w * 3 + d * h * w) % 23) / 7 - 1 for c in range(2)]
    labels = (d // 4 + (h * 2 + w) // 7) % 5
    image = torch.from_numpy(np.stack(channels).astype(np.float32))
    return image, torch.from_numpy(labels.astype(np.int16))[None]


def one_channel():
    return volume()[0][:1]


def numbers(tensor):
    return [round(float(v), 5) for v in np.asarray(tensor).ravel()]


def result(image, labels):
    return {"image": numbers(image), "labels": [int(v) for v in np.asarray(labels).ravel()]}


def transform(angles, factors, patch=PATCH):
    return SpatialTransform(
        patch, 0, False,
        p_rotation=1, rotation=lambda image, dim: math.radians(angles[dim]),
        p_scaling=1, scaling=lambda image, dim: factors[dim],
        border_mode_seg="constant", padding_value_seg=OUTSIDE,
    )


def affine(degrees, factors, mirrored):
    image, labels = volume()
    out = transform(degrees, factors)(image=image, segmentation=labels)
    axes = [axis + 1 for axis in range(3) if mirrored[axis]]
    out = {name: torch.flip(tensor, axes) for name, tensor in out.items()}
    return {"degrees": degrees, "factors": factors, "mirrored": mirrored} | result(out["image"], out["segmentation"])


def in_plane(degrees, factor):
    # Flat patches: the slices are channels of a 2D image, whose angle is the last one that is drawn.
    image, labels = volume()
    margin = (SOURCE[0] - PATCH[0]) // 2
    keep = slice(margin, margin + PATCH[0])
    data = {"image": image[:, keep], "segmentation": labels[:, keep]}
    data = Convert3DTo2DTransform()(**data)
    data = transform([0, degrees], [factor, factor], PATCH[1:])(**data)
    out = Convert2DTo3DTransform()(**data)
    return {"degrees": [degrees, 0, 0], "factors": [1, factor, factor], "mirrored": [False] * 3} | result(
        out["image"], out["segmentation"]
    )


def elastic(degrees, factors):
    points = (5, 4, 7)
    rng = np.random.default_rng(1)
    coefficients = rng.uniform(-2, 2, (3, *points)).round(4)
    offsets = np.stack([spline(component, points) for component in coefficients], -1)
    image, labels = volume()
    grid = _create_centered_identity_grid2(PATCH).float() + torch.from_numpy(offsets).float()
    matrix = create_affine_matrix_3d([math.radians(angle) for angle in degrees], factors)
    grid = torch.matmul(grid, torch.from_numpy(matrix.T).float())
    grid = _convert_my_grid_to_grid_sample_grid(grid, SOURCE)
    peer = transform(degrees, factors)
    out = result(peer._apply_to_image(image, grid=grid), peer._apply_to_segmentation(labels, grid=grid.clone()))
    return {
        "degrees": degrees, "factors": factors, "points": points,
        "coefficients": [numbers(component) for component in coefficients],
    } | out


def spline(coefficients, points):
    """The tensor product of uniform cubic B-splines, with the patch from the second control point to the last but one."""
    values = coefficients
    for axis in range(3):
        n = points[axis]
        knots = np.arange(-3, n + 1)
        at = np.arange(PATCH[axis]) / (PATCH[axis] - 1) * (n - 3)
        values = np.moveaxis(scipy.interpolate.BSpline(knots, np.moveaxis(values, axis, 0), 3)(at), 0, axis)
    return values


def blur(sigma):
    image = one_channel()
    for axis in range(3):
        image = blur_dimension(image, sigma, axis)
    return {"deviation": sigma, "image": numbers(image)}


def contrast(factor):
    image = one_channel()
    out = ContrastTransform((factor, factor), True, False)(image=image)
    return {"factor": factor, "image": numbers(out["image"])}


def gamma(power, invert):
    image = one_channel()
    out = GammaTransform((power, power), float(invert), False, 1, 1)(image=image)
    return {"power": power, "invert": invert, "image": numbers(out["image"])}


def low_resolution(scale, axes):
    image = one_channel()
    ignored = tuple(axis for axis in range(3) if axis not in axes) or None
    out = SimulateLowResolutionTransform((scale, scale), False, True, ignored)(image=image)
    return {"scale": scale, "axes": axes, "image": numbers(out["image"])}


def spectrum(axis, response):
    image = one_channel()
    waves = np.fft.fft(image.numpy().astype(np.float64), axis=axis + 1)
    cycles = np.abs(np.fft.fftfreq(SOURCE[axis], 1 / SOURCE[axis])).round()
    shape = [1, 1, 1, 1]
    shape[axis + 1] = -1
    return np.fft.ifft(waves * response(cycles).reshape(shape), axis=axis + 1).real


def ghosting(axis, ghosts, intensity, restored):
    def response(cycles):
        weak = (cycles % ghosts == 0) & (cycles > restored * SOURCE[axis] / 2) & (cycles > 0)
        return np.where(weak, 1 - intensity, 1.0)

    return {
        "axis": axis, "ghosts": ghosts, "intensity": intensity, "restored": restored,
        "image": numbers(spectrum(axis, response)),
    }


def gibbs(axis, kept):
    image = spectrum(axis, lambda cycles: (cycles <= kept * SOURCE[axis] / 2).astype(float))
    return {"axis": axis, "kept": kept, "image": numbers(image)}


def bias_field(order, coefficient):
    image = one_channel()
    d, h, w = np.meshgrid(*[np.linspace(-1, 1, n) for n in SOURCE], indexing="ij")
    field = sum(
        coefficient * d**i * h**j * w**k
        for i in range(order + 1) for j in range(order + 1) for k in range(order + 1)
        if 0 < i + j + k <= order
    )
    return {"order": order, "coefficient": coefficient, "image": numbers(image.numpy() * np.exp(field))}


torch.manual_seed(0)
np.random.seed(0)
none = [False] * 3
references = {
    "versions": {name: version(name) for name in ["batchgeneratorsv2", "torch", "scipy", "numpy"]},
    "affine": [
        affine([0, 0, 0], [1, 1, 1], none),
        affine([12, 0, 0], [1, 1, 1], none),
        affine([0, -25, 0], [1, 1, 1], none),
        affine([0, 0, 30], [1, 1, 1], none),
        affine([17, -23, 29], [0.8, 0.8, 0.8], none),
        affine([-30, 21, 8], [1.4, 1.4, 1.4], [True, False, True]),
        affine([0, 0, 0], [0.7, 1.1, 1.3], [False, True, False]),
        affine([0, 0, 0], [1.45, 1.45, 1.45], none),
        in_plane(77, 1.2),
        in_plane(-180, 0.7),
    ],
    "half_way": [affine([0, 0, 0], [1.5, 1.5, 1.5], none)],
    "elastic": [elastic([0, 0, 0], [1, 1, 1]), elastic([10, -20, 30], [1.1, 1.1, 1.1])],
    "blur": [blur(sigma) for sigma in (0.5, 0.7, 1.0)],
    "contrast": [contrast(factor) for factor in (0.75, 1.2)],
    "gamma": [gamma(power, invert) for power in (0.7, 1.5) for invert in (False, True)],
    "low_resolution": [low_resolution(0.5, [0, 1, 2]), low_resolution(0.63, [0, 1, 2]), low_resolution(0.8, [1, 2])],
    "ghosting": [ghosting(2, 4, 0.75, 0.02), ghosting(1, 3, 0.5, 0.5)],
    "gibbs": [gibbs(0, 0.5), gibbs(2, 0.7)],
    "bias_field": [bias_field(3, 0.3), bias_field(2, -0.4)],
}
path = Path(__file__).parent / "augmentation" / "references.json"
path.write_text(json.dumps(references, separators=(",", ":")))
print(path, path.stat().st_size, references["versions"])
