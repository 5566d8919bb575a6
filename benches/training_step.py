"""Times a training step of PyTorch, and its forward pass alone without gradients, for training_step.rs, which calls
this and reads the JSON that it prints.

    python training_step.py FEATURES PATCH BATCH CLASSES WARM_UP,ROUNDS,STEPS cpu|cuda WAYS

WAYS are `eager`, or some of `channels-last`, `compiled` and `amp` (bf16), with commas between; `kept-memory` says that the environment
tells the allocator to keep freed memory, and changes nothing here.
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
torch.backends.cudnn.benchmark = True
features = [int(text) for text in sys.argv[1].split(",")]
patch, batch, classes = map(int, sys.argv[2:5])
warm_up, rounds, steps = (int(text) for text in sys.argv[5].split(","))
device = torch.device(sys.argv[6])
ways = set(sys.argv[7].split(","))
if unknown := ways - {"eager", "channels-last", "compiled", "amp", "kept-memory"}:
    sys.exit(f"no way {unknown}")


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


def wait():
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(step):
    """The seconds of each of `steps` calls, in the fastest round."""
    for _ in range(warm_up):
        step()
    shortest = float("inf")
    for _ in range(rounds):
        wait()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
        shortest = min(shortest, (time.perf_counter() - start) / steps)
    return shortest


model = UNet().to(device)
images = torch.randn(batch, 1, patch, patch, patch, device=device)
labels = torch.randint(0, classes, (batch, patch, patch, patch), device=device)
if "channels-last" in ways:
    model = model.to(memory_format=torch.channels_last_3d)
    images = images.to(memory_format=torch.channels_last_3d)
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
network, loss = model, deep_loss
if "compiled" in ways:
    network, loss = torch.compile(model), torch.compile(deep_loss)
mixed = torch.autocast(device.type, torch.bfloat16, enabled="amp" in ways)


def train():
    optimizer.zero_grad()
    with mixed:
        outputs = network(images)
    # The loss in f32, as ours.
    loss([output.float() for output in outputs], labels).backward()
    optimizer.step()


def predict():
    with torch.no_grad(), mixed:
        network(images)


answer = {"parameters": sum(p.numel() for p in model.parameters()), "seconds": seconds(train)}
if device.type == "cuda":
    answer["bytes"] = torch.cuda.max_memory_reserved()
answer["forward"] = seconds(predict)
print(json.dumps(answer))
