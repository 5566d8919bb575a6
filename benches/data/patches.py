"""Random patches of the case that patches.rs wrote: from blosc2 files as nnU-Net v2 writes them, and from memory maps."""

import json
import os
import sys
import time
from pathlib import Path

import blosc2
import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

words = json.loads(sys.argv[1])
folder = Path(words["folder"])
shape, patch = tuple(words["shape"]), words["patch"]
data = np.fromfile(folder / "image", np.float32).reshape((1, *shape))
seg = np.fromfile(folder / "labels", np.int16).reshape((1, *shape))


def forget(path):
    with open(path) as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(files, read):
    seconds, counts, sums = [0.0, 0.0], [0, 0], []
    for i, start in enumerate(words["starts"]):
        cold = i < words["cold"]
        if cold:
            for file in files:
                forget(file)
        box = (slice(None), *(slice(s, s + p) for s, p in zip(start, patch)))
        begun = time.perf_counter()
        image, labels = read(box)
        seconds[not cold] += time.perf_counter() - begun
        counts[not cold] += 1
        sums.append((float(image.sum(dtype=np.float64)), int(labels.sum(dtype=np.int64))))
    return {
        "cold": counts[0] / seconds[0],
        "warm": counts[1] / seconds[1],
        "bytes": sum(os.path.getsize(file) for file in files),
        "sums": sums,
    }


blocks, chunks = comp_blosc2_params(data.shape, patch, data.itemsize)
blocks_seg, chunks_seg = comp_blosc2_params(seg.shape, patch, seg.itemsize)
name = str(folder / "case")
nnUNetDatasetBlosc2.save_case(
    data, seg, {}, name, chunks=chunks, blocks=blocks, chunks_seg=chunks_seg, blocks_seg=blocks_seg
)
blosc2.set_nthreads(1)


def read_blosc2(box):
    # Opened for each patch, as nnU-Net's data loader does.
    dparams = {"nthreads": 1}
    image = blosc2.open(urlpath=f"{name}.b2nd", mode="r", dparams=dparams, mmap_mode="r")
    labels = blosc2.open(urlpath=f"{name}_seg.b2nd", mode="r", dparams=dparams, mmap_mode="r")
    return image[box], labels[box]


def read_memmap(box):
    image = np.memmap(folder / "image", np.float32, "r", shape=data.shape)
    labels = np.memmap(folder / "labels", np.int16, "r", shape=seg.shape)
    return np.array(image[box]), np.array(labels[box])


result = {
    "blosc2": measure([f"{name}.b2nd", f"{name}_seg.b2nd"], read_blosc2),
    "memmap": measure([folder / "image", folder / "labels"], read_memmap),
}
print(json.dumps(result))
