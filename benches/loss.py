"""Times the adaptive region-specific loss in PyTorch, eager and compiled, and MONAI's Dice + CE, for loss.rs, which calls
this and reads the lines that it prints: name, forward ms, forward + backward ms, extra MiB.

    python loss.py IMAGES CLASSES EDGE REGION
"""

import os
import resource
import statistics
import sys
import time

import torch
from torch.nn import functional as F

A, B, S = 0.3, 0.4, 1e-5
images, classes, edge, region = map(int, sys.argv[1:])
torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())


def proc(file, name):
    with open(file) as text:
        return next(int(line.split()[1]) for line in text if line.startswith(name))


# Running out of memory must be an error of this process, not of the machine.
if os.path.exists("/proc/meminfo"):
    limit = proc("/proc/meminfo", "MemAvailable:") * 1024 * 9 // 10
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def arl(logits, labels):
    """The operations of the public implementation (average pooling over regions that divide the volume)."""
    p = logits.softmax(1)
    g = torch.zeros_like(p).scatter_(1, labels[:, None], 1)
    tp, fp, fn = (F.avg_pool3d(x, region) for x in (p * g, p * (1 - g), (1 - p) * g))
    alpha = A + B * (fp + S) / (fp + fn + S)
    beta = A + B * (fn + S) / (fp + fn + S)
    return (1 - (tp + S) / (tp + alpha * fp + beta * fn + S)).mean()


def median(run):
    run()
    times = []
    start = time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - start < 2 and len(times) < 50):
        before = time.perf_counter()
        run()
        times.append((time.perf_counter() - before) * 1e3)
    return statistics.median(times)


def report(name, loss):
    try:
        def forward():
            with torch.no_grad():
                loss(logits, labels)

        def both():
            z = logits.detach().requires_grad_()
            loss(z, labels).backward()

        forward_time, both_time, extra = median(forward), median(both), "-"
        if os.path.exists("/proc/self/clear_refs"):
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
            before = proc("/proc/self/status", "VmRSS:")
            both()
            extra = (proc("/proc/self/status", "VmHWM:") - before) / 1024
        print(name, forward_time, both_time, extra, sep="\t", flush=True)
    except Exception as error:  # Whatever it is, the other rows matter too.
        print(f"{name}: {str(error).strip().splitlines()[0][:100]}", flush=True)


torch.manual_seed(0)
logits = torch.randn(images, classes, edge, edge, edge) * 3
# Cubes of 8³ voxels, each of another class, as in loss.rs.
cubes = -(-edge // 8)
cube = torch.arange(images * cubes**3).view(images, cubes, cubes, cubes) * 7919 % classes
for axis in (1, 2, 3):
    cube = cube.repeat_interleave(8, axis)
labels = cube[:, :edge, :edge, :edge].contiguous()
report("ARL, PyTorch eager", arl)
report("ARL, PyTorch compiled", torch.compile(arl, dynamic=False))
try:
    from monai.losses import DiceCELoss
except ImportError:
    print("MONAI is not there")
else:
    monai = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    report("Dice + CE, MONAI", lambda z, y: monai(z, y[:, None]))
