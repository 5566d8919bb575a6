"""Makes a dataset far larger than memory that needs little disk, and measures the memory of a command. Standard library only.

    python3 benches/data/large_dataset.py make DATASET
    python3 benches/data/large_dataset.py measure target/debug/arl train DATASET --out RUN --epochs 1 --steps-per-epoch 5
    python3 benches/data/large_dataset.py measure target/debug/arl train DATASET --out RUN --resume --epochs 2

The second command preprocesses and trains; the third, which finds the cache, only trains. `make` writes a few CT-like
volumes of boxes, which gzip shrinks a hundredfold, and links them under the names of many cases: 40 GiB as float32, in which
nnU-Net and MONAI hold images, and half as much as int16 in the files. A cache that doesn't compress takes those 40 GiB of disk.
`measure` polls /proc and so needs Linux.
"""

import argparse
import gzip
import json
import os
import struct
import subprocess
import sys
import time

LABELS = {"background": 0, "liver": 1, "kidney": 2, "spleen": 3, "bone": 4}
# Corners as shares of the volume (x, y, z), label, Hounsfield units; later boxes lie over earlier ones.
BOXES = [
    ((0.10, 0.15, 0.00), (0.90, 0.85, 1.00), 0, 40),
    ((0.18, 0.25, 0.30), (0.48, 0.60, 0.60), 1, 105),
    ((0.60, 0.55, 0.25), (0.70, 0.68, 0.50), 2, 180),
    ((0.65, 0.35, 0.45), (0.80, 0.55, 0.65), 3, 130),
    ((0.45, 0.68, 0.00), (0.55, 0.80, 1.00), 4, 420),
]
AIR = -1000


def header(shape, spacing, bits):
    """NIfTI-1, int16 or uint8, with an axis-aligned sform."""
    x, y, z = shape
    dx, dy, dz = spacing
    code = {16: 4, 8: 2}[bits]
    head = struct.pack("<i36x8h14x2hh8f", 348, 3, x, y, z, 1, 1, 1, 1, code, bits, 0, 1, dx, dy, dz, 1, 1, 1, 1)
    head += struct.pack("<f2f", 352, 1, 0)  # vox_offset, scl_slope, scl_inter
    head = head.ljust(123, b"\0") + b"\x02"  # millimetres
    head = head.ljust(252, b"\0") + struct.pack("<2h6f", 0, 1, *[0] * 6)
    head += struct.pack("<12f", dx, 0, 0, 0, 0, dy, 0, 0, 0, 0, dz, 0)
    return head.ljust(344, b"\0") + b"n+1\0" + bytes(4)


def slice_of(shape, boxes, z, values, outside, code):
    """One slice, row by row; rows that cross the same boxes are the same."""
    width, height, _ = shape
    rows = {}
    lines = []
    for y in range(height):
        crossed = tuple(i for i, (low, high) in enumerate(boxes) if low[1] <= y < high[1] and low[2] <= z < high[2])
        if crossed not in rows:
            row = [outside] * width
            for i in crossed:
                (low, _, _), (high, _, _) = boxes[i]
                row[low:high] = [values[i]] * (high - low)
            rows[crossed] = struct.pack(f"<{width}{code}", *row)
        lines.append(rows[crossed])
    return b"".join(lines)


def volume(number, shape, spacing, image, label):
    """Writes an image and its labels; each number has its boxes elsewhere and its own intensities."""
    shift = [0.02 * (number % 3), 0.02 * (number // 3 % 3), 0.05 * (number % 2)]
    boxes = []
    for low, high, _, _ in BOXES:
        corner = lambda point: [min(int((p + s) * n), n) for p, s, n in zip(point, shift, shape)]
        boxes.append((corner(low), corner(high)))
    labels = [label for _, _, label, _ in BOXES]
    with gzip.open(image, "wb", compresslevel=1) as images, gzip.open(label, "wb", compresslevel=1) as masks:
        images.write(header(shape, spacing, 16))
        masks.write(header(shape, spacing, 8))
        for z in range(shape[2]):
            units = [hu + 5 * number + z % 16 for _, _, _, hu in BOXES]
            images.write(slice_of(shape, boxes, z, units, AIR, "h"))
            masks.write(slice_of(shape, boxes, z, labels, 0, "B"))


def make(arguments):
    shape, spacing = tuple(arguments.shape), (0.8, 0.8, 1.0)
    voxels = shape[0] * shape[1] * shape[2]
    cases = max(arguments.distinct, round(arguments.gib * 2**30 / (4 * voxels)))
    images, labels = (os.path.join(arguments.dataset, name) for name in ("imagesTr", "labelsTr"))
    for folder in (images, labels):
        os.makedirs(folder)
    names = [(f"{images}/box_{case:04}_0000.nii.gz", f"{labels}/box_{case:04}.nii.gz") for case in range(cases)]
    for case, (image, label) in enumerate(names):
        if case < arguments.distinct:
            volume(case, shape, spacing, image, label)
            print(f"{image}: {os.path.getsize(image) / 2**20:.1f} MiB", flush=True)
        else:
            for name, kind in ((image, 0), (label, 1)):
                os.link(names[case % arguments.distinct][kind], name)
    description = {
        "name": "boxes",
        "channel_names": {"0": "CT"},
        "labels": LABELS,
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    with open(os.path.join(arguments.dataset, "dataset.json"), "w") as file:
        json.dump(description, file, indent=1)
    print(f"{cases} cases of {shape} voxels: {cases * voxels * 4 / 2**30:.1f} GiB as float32")


def measure(arguments):
    start = time.monotonic()
    child = subprocess.Popen(arguments.command)
    # HWM: the most that was ever resident. Anon: memory of its own. File: pages of files, which the kernel may take back.
    peaks = dict.fromkeys(("VmHWM", "RssAnon", "RssFile"), 0)
    while child.poll() is None:
        try:
            with open(f"/proc/{child.pid}/status") as status:
                fields = dict(line.split(":", 1) for line in status)
        except OSError:
            break
        for name in peaks:
            if name in fields:
                peaks[name] = max(peaks[name], int(fields[name].split()[0]))
        time.sleep(0.05)
    code = child.wait()
    text = ", ".join(f"{name} {peak / 2**20:.2f} GiB" for name, peak in peaks.items())
    print(f"peaks: {text}; {time.monotonic() - start:.0f} s; exit status {code}")
    return code


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("make", help="write the dataset, in nnU-Net's raw layout, to a new directory")
    verb.add_argument("dataset")
    verb.add_argument("--gib", type=float, default=40, help="size of all images as float32 [40]")
    verb.add_argument("--distinct", type=int, default=4, help="volumes that are written; the others are hard links [4]")
    verb.add_argument("--shape", type=int, nargs=3, default=(512, 512, 320), metavar=("X", "Y", "Z"))
    verb = verbs.add_parser("measure", help="run a command and print the most memory that it had")
    verb.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    sys.exit(make(arguments) if arguments.verb == "make" else measure(arguments))


if __name__ == "__main__":
    main()
