"""Writes loss.json: reference values of the losses from PyTorch and MONAI, in float64.

    python -m venv venv && venv/bin/pip install torch monai && venv/bin/python loss.py

The adaptive region-specific loss is written here from its formula, with average pooling for the means.
"""

import json
from pathlib import Path

import monai
import torch
from monai.losses import DiceLoss, FocalLoss, GeneralizedDiceLoss, TverskyLoss
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


def top_k(logits, labels, share):
    """nnU-Net's TopKLoss."""
    entropy = F.cross_entropy(logits, labels, reduction="none").flatten()
    return entropy.topk(int(entropy.numel() * share)).values.mean()


def focal_ce(logits, labels, gamma):
    """The sum over classes and mean over voxels: MONAI's mean, which is over classes too, times their number."""
    loss = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=gamma)
    return loss(logits, labels[:, None]) * logits.shape[1]


def case(n, c, d, h, w, size, seed):
    # Exact in f32, so that every precision starts from the same numbers.
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(-96, 97, (n, c, d, h, w), generator=generator).double() / 32
    labels = torch.randint(0, c, (n, d, h, w), generator=generator)
    # Shares in sixteenths, of which those of one voxel do not add up to 1: for sigmoid.
    shares = torch.randint(0, 17, (n, c, d, h, w), generator=generator).double() / 16
    monai_dice = lambda **options: DiceLoss(smooth_nr=S, smooth_dr=S, **options)
    one_hot = {"to_onehot_y": True, "softmax": True}
    indices = labels[:, None]
    losses = {
        "arl": lambda z: arl(z, labels, size, False),
        "arl-batch": lambda z: arl(z, labels, size, True),
        "arl-detached": lambda z: arl(z, labels, size, False, detach=True),
        "dice": lambda z: monai_dice(include_background=False, **one_hot)(z, indices),
        "dice-batch": lambda z: monai_dice(include_background=False, batch=True, **one_hot)(z, indices),
        "dice-total": lambda z: monai_dice(reduction="sum", **one_hot)(z, indices),
        "dice-squared": lambda z: monai_dice(squared_pred=True, **one_hot)(z, indices),
        "dice-sigmoid-shares": lambda z: monai_dice(sigmoid=True, soft_label=False)(z, (shares > 0.5).double()),
        "jaccard": lambda z: monai_dice(jaccard=True, **one_hot)(z, indices),
        "tversky": lambda z: TverskyLoss(alpha=0.3, beta=0.7, **one_hot)(z, indices),
        "tversky-sigmoid": lambda z: TverskyLoss(alpha=0.3, beta=0.7, sigmoid=True, to_onehot_y=True)(z, indices),
        "focal-tversky": lambda z: (TverskyLoss(alpha=0.3, beta=0.7, reduction="none", **one_hot)(z, indices) ** 0.75).mean(),
        "generalized-dice": lambda z: GeneralizedDiceLoss(**one_hot)(z, indices),
        "generalized-dice-simple-batch": lambda z: GeneralizedDiceLoss(w_type="simple", batch=True, **one_hot)(z, indices),
        "focal": lambda z: focal_ce(z, labels, 2.0),
        "focal-1.5": lambda z: focal_ce(z, labels, 1.5),
        "focal-sigmoid": lambda z: FocalLoss(to_onehot_y=True, gamma=2.0)(z, indices),
        "bce-shares": lambda z: F.binary_cross_entropy_with_logits(z, shares),
        "ce-shares": lambda z: F.cross_entropy(z, shares / shares.sum(1, keepdim=True)),
        "ce-smoothed": lambda z: F.cross_entropy(z, labels, label_smoothing=0.1),
        "ce-smoothed-weighted": lambda z: F.cross_entropy(
            z, labels, label_smoothing=0.1, weight=torch.arange(1, c + 1).double()
        ),
        "ce-top-k": lambda z: top_k(z, labels, 0.1),
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
        "shares_times_16": (shares.flatten() * 16).int().tolist(),
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
