"""Writes the small dataset `fingerprint/Dataset001_Small` and `fingerprint/expected.json`, nnU-Net's fingerprint of it.

Run from this folder: python make_fingerprint.py
Made with Python 3.11, nnunetv2 2.8.1, nibabel 5.4.2, numpy 2.4.6.

The three cases differ in spacing, in size, in intensity and, by a factor of about five, in the number of foreground
voxels. A part of the foreground lies where every channel is zero, outside of what cropping keeps. nnU-Net draws 10^6
voxels from each case instead of 10^8 from all of them, which takes gigabytes; either has the same expectation.
"""
import json
import os
import pathlib
import shutil
import tempfile

HERE = pathlib.Path(__file__).parent / "fingerprint"
work = pathlib.Path(tempfile.mkdtemp())
os.environ["nnUNet_raw"] = str(HERE)
for name in ("nnUNet_preprocessed", "nnUNet_results"):
    (work / name).mkdir()
    os.environ[name] = str(work / name)

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (  # noqa: E402
    DatasetFingerprintExtractor,
)

DATASET = "Dataset001_Small"
# (i, j, k), mm, mean of the foreground, edge of the foreground in voxels.
CASES = {
    "a": ((18, 22, 14), (0.8, 0.8, 3.0), 100, 11),
    "b": ((16, 16, 20), (1.0, 1.0, 1.0), 400, 8),
    "c": ((20, 14, 12), (0.7, 0.9, 2.5), 250, 6),
}


def write():
    root = HERE / DATASET
    shutil.rmtree(HERE, ignore_errors=True)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(3)
    for name, (shape, spacing, mean, edge) in CASES.items():
        affine = np.diag([*spacing, 1.0])
        body = np.zeros(shape, bool)
        body[2:-3, 1:-1, 2:-4] = True
        labels = np.zeros(shape, np.uint8)
        labels[3:3 + edge, 2:2 + edge, 3:3 + edge] = 1
        labels[3, 2:2 + edge, 3:3 + edge] = 2
        labels[0, 0, :5] = 2
        for channel, scale in enumerate((1.0, 0.1)):
            image = np.where(body, rng.normal(mean * scale, 60 * scale, shape).round(), 0).astype(np.int16)
            nib.save(nib.Nifti1Image(image, affine), root / "imagesTr" / f"{name}_{channel:04d}.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), root / "labelsTr" / f"{name}.nii.gz")
    (root / "dataset.json").write_text(json.dumps({
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "organ": 1, "rim": 2},
        "numTraining": len(CASES),
        "file_ending": ".nii.gz",
    }, indent=2) + "\n")


def main():
    write()
    extractor = DatasetFingerprintExtractor(DATASET, num_processes=1)
    extractor.num_foreground_voxels_for_intensitystats = 1e6 * len(CASES)
    extractor.run(overwrite_existing=True)
    made = work / "nnUNet_preprocessed" / DATASET / "dataset_fingerprint.json"
    (HERE / "expected.json").write_text(made.read_text() + "\n")


if __name__ == "__main__":
    main()
