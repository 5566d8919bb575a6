"""Writes `sampler/starts.json`: where nnU-Net's loader cuts its patches.

Run from this folder: python make_sampler.py
Made with Python 3.11, nnunetv2 2.8.1, numpy 2.4.6.

For each shape and patch: the bounds between which the first voxel of a patch is drawn, and where the patch around a
given foreground voxel begins. Patches are read in their final size here (nnU-Net reads larger ones, to have something to
turn into view, and cuts them down to their middle). And for each batch size, which samples must hold foreground.
"""
import json
import pathlib
from unittest import mock

import numpy as np
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

OUT = pathlib.Path(__file__).parent / "sampler" / "starts.json"


def loader(patch, batch_size=2, fraction=0.33):
    made = object.__new__(nnUNetDataLoader)
    made.patch_size = patch
    made.need_to_pad = np.zeros(3, int)
    made.has_ignore = False
    made.annotated_classes_key = (-1, 0, 1)
    made.batch_size = batch_size
    made.oversample_foreground_percent = fraction
    return made


def main():
    rng = np.random.default_rng(7)
    starts = []
    for _ in range(60):
        shape = [int(n) for n in rng.integers(1, 40, 3)]
        patch = [int(n) for n in rng.integers(1, 40, 3)]
        voxel = [int(rng.integers(n)) for n in shape]
        drawn = []
        with mock.patch("numpy.random.randint", lambda low, high: drawn.append((low, high)) or low):
            loader(patch).get_bbox(np.array(shape), False, None)
        start, _ = loader(patch).get_bbox(np.array(shape), True, {1: np.array([[0, *voxel]])})
        starts.append({
            "shape": shape,
            "patch": patch,
            "lower": [int(low) for low, _ in drawn],
            "upper": [int(high) - 1 for _, high in drawn],
            "voxel": voxel,
            "start": [int(s) for s in start],
        })
    forced = []
    for fraction in (0.33, 0.5, 0.67):
        for batch_size in [*range(2, 13), 50]:
            made = loader([1, 1, 1], batch_size, fraction)
            flags = [bool(made._oversample_last_XX_percent(i)) for i in range(batch_size)]
            forced.append({"fraction": fraction, "batch_size": batch_size, "forced": flags.count(True)})
            assert flags == sorted(flags)
    OUT.write_text(json.dumps({"starts": starts, "forced": forced}) + "\n")


if __name__ == "__main__":
    main()
