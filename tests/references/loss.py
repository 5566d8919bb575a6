"""Writes loss.json: reference values of the losses from PyTorch and MONAI, in float64.

    python -m venv venv && venv/bin/pip install torch monai && venv/bin/python loss.py

The adaptive region-specific loss is written here from its formula, with average pooling for the means.
"""

import json
from pathlib import Path

import monai
import torch
from monai.losses import DiceLoss
from torch.nn import functional as F

A, B, S = 0.3, 0.4, 1e-5


def arl(logits, labels, size, batch, detach=False):
    p = logits.softmax(1)
    g = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(p)
    tp, fp, fn = (F.avg_pool3d(x, size) for x in (p * g, p * (1 - g), (1 - p) * g))
    if batch:
        tp, fp, fn = (x.sum(0, keepdim=True) for x in (tp, fp, fn))
    alpha = A + B * (fp + S) / (fp + fn + S)
    beta = A + B * (fn + S) / (fp + fn + S)
    if detach:
        alpha, beta = alpha.detach(), beta.detach()
    return (1 - (tp + S) / (tp + alpha * fp + beta * fn + S)).mean()


def dice(logits, labels, batch):
    loss = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, smooth_nr=S, smooth_dr=S, batch=batch)
    return loss(logits, labels[:, None])


def case(n, c, d, h, w, size, seed):
    # Exact in f32, so that every precision starts from the same numbers.
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(-96, 97, (n, c, d, h, w), generator=generator).double() / 32
    labels = torch.randint(0, c, (n, d, h, w), generator=generator)
    losses = {
        "arl": lambda z: arl(z, labels, size, False),
        "arl-batch": lambda z: arl(z, labels, size, True),
        "arl-detached": lambda z: arl(z, labels, size, False, detach=True),
        "dice": lambda z: dice(z, labels, False),
        "dice-batch": lambda z: dice(z, labels, True),
        "ce": lambda z: F.cross_entropy(z, labels),
        "ce-ignore-0": lambda z: F.cross_entropy(z, labels, ignore_index=0),
        "ce-weighted": lambda z: F.cross_entropy(z, labels, weight=torch.arange(1, c + 1).double()),
    }
    results = {}
    for name, loss in losses.items():
        z = logits.clone().requires_grad_()
        value = loss(z)
        value.backward()
        results[name] = {"value": value.item(), "gradient": z.grad.flatten()[::17].tolist()}
    return {
        "shape": [n, c, d, h, w],
        "region_size": list(size),
        "logits_times_32": (logits.flatten() * 32).int().tolist(),
        "labels": labels.flatten().tolist(),
        "losses": results,
    }


def main():
    reference = {
        "versions": {"torch": torch.__version__, "monai": monai.__version__},
        "gradient_step": 17,
        "cases": [case(2, 3, 4, 6, 8, (2, 3, 4), 1), case(1, 5, 4, 4, 4, (4, 4, 2), 2)],
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(reference, separators=(",", ":")) + "\n")


main()
