"""The peers of the topic `loading`: `loading.py make FOLDER` writes the files, `loading.py time FOLDER` reads them.

A CT-like int16 volume of 512 x 512 x 300 and a label map of 23 classes on its grid, as nibabel compresses them. One
thread; the best of several readings; sums of the values, for the proof that both read the same.
"""
import json
import pathlib
import sys
import time

import nibabel as nib
import numpy as np
import SimpleITK as sitk

SHAPE = (512, 512, 300)
REPEATS = 5


def make(folder):
    random = np.random.default_rng(3)
    i, j = np.meshgrid(np.linspace(-1, 1, SHAPE[0]), np.linspace(-1, 1, SHAPE[1]), indexing="ij")
    ct = np.empty(SHAPE, "i2", order="F")
    labels = np.zeros(SHAPE, "u1", order="F")
    for k in range(SHAPE[2]):
        body = (i / 0.8) ** 2 + (j / 0.6) ** 2 < 1
        tissue = 40 + 30 * np.sin(7 * i + k / 40) * np.cos(9 * j)
        # Noise as of a scanner: smooth over neighbours, some ten Hounsfield units.
        noise = random.normal(0, 30, SHAPE[:2])
        noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)) / 2
        ct[..., k] = np.where(body, tissue + noise, -1000 + noise / 4)
        for label in range(1, 24):
            x, y = 0.6 * np.sin(label), 0.4 * np.cos(3 * label)
            labels[..., k][(i - x) ** 2 + (j - y) ** 2 < 0.01 * (1.2 + np.sin(k / 50 + label))] = label
    affine = np.diag([-0.75, -0.75, 1.5, 1])
    nib.save(nib.Nifti1Image(ct, affine), folder / "ct.nii.gz")
    nib.save(nib.Nifti1Image(labels, affine), folder / "labels.nii.gz")


def best(read):
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        array = read()
        times.append(time.perf_counter() - start)
    if isinstance(array, sitk.Image):
        # Nothing is copied: the image has to live as long as its array.
        image, array = array, sitk.GetArrayViewFromImage(array)
    flat = array.ravel(order="F") if array.flags.f_contiguous else array.ravel()
    weights = np.arange(flat.size, dtype=np.int64) % 9973
    values = flat.astype(np.int64)
    return {"seconds": min(times), "sums": [int(values.sum()), int((values * weights).sum())]}


def measure(folder):
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    ct, labels = str(folder / "ct.nii.gz"), str(folder / "labels.nii.gz")
    return {
        "ct": {
            "nibabel, f32": best(lambda: nib.load(ct).get_fdata(dtype=np.float32)),
            "nibabel, as stored": best(lambda: np.asanyarray(nib.load(ct).dataobj)),
            "SimpleITK, f32": best(lambda: sitk.ReadImage(ct, sitk.sitkFloat32)),
            "SimpleITK, as stored": best(lambda: sitk.ReadImage(ct)),
        },
        "labels": {
            "nibabel, as stored": best(lambda: np.asanyarray(nib.load(labels).dataobj)),
            "SimpleITK, as stored": best(lambda: sitk.ReadImage(labels)),
        },
    }


folder = pathlib.Path(sys.argv[2])
if sys.argv[1] == "make":
    make(folder)
    print(json.dumps({}))
else:
    print(json.dumps(measure(folder)))
