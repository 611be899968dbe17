# SPDX-License-Identifier: Apache-2.0
"""PyTorch's side of a comparison, run by the Python that has it: KIND GIVEN.npz FOUND.npz, and again.

GIVEN has weights in ONNX's layouts, `x` [steps, ...], `label` [steps, ...], `rate` and `probes`. FOUND has
`loss` [steps], the weights after all steps, and what the net makes of the probes then.
"""

import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional

GATES = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 2, 3, 1]}  # PyTorch's, by ONNX's


def by_gate(array, order):
    return torch.cat([array.chunk(len(order))[k] for k in order])


class Cell:
    """An RNN, GRU (linear before reset) or LSTM; where ONNX has two biases that are added up, one is 0."""

    def __init__(self, kind, arrays):
        order, names = GATES[kind], ("W", "R", "B", "Bh")
        self.layer = getattr(nn, kind)(arrays["W"].shape[1], arrays["R"].shape[1])
        self.back = [order.index(k) for k in range(len(order))]
        self.weights = dict(zip(names, self.layer.parameters(), strict=True))
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(by_gate(arrays[name], order))
        if kind == "GRU":
            free = torch.zeros_like(self.weights["Bh"])
            free[-self.layer.hidden_size :] = 1
            self.weights["Bh"].register_hook(lambda g: g * free)
        else:
            self.weights["Bh"].requires_grad_(False)

    def __call__(self, x):
        return self.layer(x)[0]

    def learned(self):
        return {name: by_gate(weight, self.back) for name, weight in self.weights.items()}


class Normalized:
    """Conv, BatchNormalization by its own sample, Relu, Conv; running statistics as ONNX has them."""

    def __init__(self, _, arrays):
        self.share = 1 - float(arrays["momentum"])
        self.weights = {name: nn.Parameter(arrays[name]) for name in ("w", "scale", "bias", "v", "b")}
        self.mean, self.var, self.training = arrays["mean"], arrays["var"], True

    def __call__(self, x):
        w = self.weights
        y = functional.conv2d(x, w["w"])
        if self.training:
            mean, var = y.detach().mean((0, 2, 3)), y.detach().var((0, 2, 3), unbiased=False)
            self.mean = self.mean + self.share * (mean - self.mean)
            self.var = self.var + self.share * (var - self.var)
            y = functional.batch_norm(y, None, None, w["scale"], w["bias"], True, 0.0, 1e-3)
        else:
            y = functional.batch_norm(y, self.mean, self.var, w["scale"], w["bias"], False, 0.0, 1e-3)
        return functional.conv2d(functional.relu(y), w["v"], w["b"])

    def learned(self):
        return {**self.weights, "mean": self.mean, "var": self.var}


def learn(kind, given, found):
    arrays = {name: torch.tensor(array) for name, array in np.load(given).items()}
    net = (Normalized if kind == "BN" else Cell)(kind, arrays)
    optimizer = torch.optim.SGD([w for w in net.weights.values() if w.requires_grad], float(arrays["rate"]))
    losses = []
    for x, label in zip(arrays["x"], arrays["label"], strict=True):
        optimizer.zero_grad()
        loss = functional.mse_loss(net(x), label)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    net.training = False
    with torch.no_grad():
        outputs = torch.stack([net(x) for x in arrays["probes"]])
    learned = {name: weight.detach().numpy() for name, weight in net.learned().items()}
    np.savez(found, loss=np.array(losses), outputs=outputs.numpy(), **learned)


torch.set_num_threads(1)
for triple in zip(*(sys.argv[k::3] for k in (1, 2, 3)), strict=True):
    learn(*triple)
