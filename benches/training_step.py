"""Times a training step of PyTorch, and its forward pass alone without gradients, for training_step.rs, which calls
this and reads the JSON that it prints.

    python training_step.py FEATURES PATCH BATCH CLASSES STEPS
"""

import json
import os
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
torch.manual_seed(0)
features = [int(text) for text in sys.argv[1].split(",")]
patch, batch, classes, steps = map(int, sys.argv[2:])


def stage(inputs, outputs, stride=1):
    layers = []
    for i in range(2):
        layers += [
            nn.Conv3d(outputs if i else inputs, outputs, 3, 1 if i else stride, 1),
            nn.InstanceNorm3d(outputs, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        pairs = list(zip(features, features[1:]))
        self.encoder = nn.ModuleList([stage(1, features[0])] + [stage(a, b, 2) for a, b in pairs])
        self.up = nn.ModuleList([nn.ConvTranspose3d(b, a, 2, 2) for a, b in pairs])
        self.decoder = nn.ModuleList([stage(2 * a, a) for a, _ in pairs])
        self.heads = nn.ModuleList([nn.Conv3d(a, classes, 1) for a, _ in pairs])

    def forward(self, x):
        skips = []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
        outputs = []
        for i in reversed(range(len(self.up))):
            x = self.decoder[i](torch.cat([self.up[i](x), skips[i]], 1))
            outputs.append(self.heads[i](x))
        return outputs[::-1]


def arl_ce(logits, labels, region, a=0.3, b=0.4, s=1e-5):
    """The operations of the public implementations: average pooling of three products with one-hot labels."""
    p = logits.softmax(1)
    onehot = torch.zeros_like(p).scatter_(1, labels[:, None], 1)
    tp, fp, fn = (F.avg_pool3d(t, region) for t in (p * onehot, p * (1 - onehot), (1 - p) * onehot))
    alpha, beta = a + b * (fp + s) / (fp + fn + s), a + b * (fn + s) / (fp + fn + s)
    return (1 - (tp + s) / (tp + alpha * fp + beta * fn + s)).mean() + F.cross_entropy(logits, labels)


def deep_loss(outputs, labels):
    weights = [0.5**i for i in range(len(outputs))]
    weights[-1] = 0 if len(outputs) > 1 else 1
    total = 0
    for i, (output, weight) in enumerate(zip(outputs, weights)):
        if weight:
            step = 2**i
            total = total + weight / sum(weights) * arl_ce(output, labels[:, ::step, ::step, ::step], max(16 // step, 1))
    return total


model = UNet()
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
images = torch.randn(batch, 1, patch, patch, patch)
labels = torch.randint(0, classes, (batch, patch, patch, patch))
times = []
for _ in range(steps + 1):
    start = time.perf_counter()
    optimizer.zero_grad()
    deep_loss(model(images), labels).backward()
    optimizer.step()
    times.append(time.perf_counter() - start)
parameters = sum(p.numel() for p in model.parameters())
forwards = []
with torch.no_grad():
    for _ in range(steps + 1):
        start = time.perf_counter()
        model(images)
        forwards.append(time.perf_counter() - start)
print(json.dumps({"seconds": min(times[1:]), "forward": min(forwards[1:]), "parameters": parameters}))
