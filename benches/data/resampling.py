"""nnU-Net v2's resampling of the volumes that resampling.rs wrote."""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

words = json.loads(sys.argv[1])
folder = Path(words["folder"])


def resample(name, dtype, shape, new_shape, seg):
    data = np.fromfile(folder / name, dtype).reshape(shape)[None]
    begun = time.perf_counter()
    result = resample_data_or_seg_to_shape(
        data, new_shape, words["spacing"], words["new_spacing"], is_seg=seg, order=1 if seg else 3, order_z=0,
        force_separate_z=None,
    )
    seconds = time.perf_counter() - begun
    result[0].astype(dtype).tofile(folder / f"{name}_out")
    return seconds


image = resample("image", np.float32, words["shape"], words["new_shape"], False)
labels = resample("labels", np.uint8, words["label_shape"], words["new_label_shape"], True)
print(json.dumps({"image_seconds": image, "label_seconds": labels, "batchgenerators": version("batchgenerators")}))
