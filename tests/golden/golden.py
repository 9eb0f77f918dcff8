"""Golden files: what PyTorch, or FastJet, computes, for tests that run without it. Written by the other scripts of this folder.

Everything is computed in double precision and stored as little-endian f32. Layout of a file:

    8 bytes  "BLGOLD1\\n"
    u32      number of arrays, then for each:
             u32 length of name, name, u32 number of dimensions, u64 each dimension, values (f32, row-major)

ops_<file>.golden holds the ops of common/nn/ops/<file>.hpp. Arrays of a case: <case>/input0 … (what is differentiated),
<case>/<constant> (ids, offsets, masks, …), <case>/value (the op's result, or the sum of a loss), <case>/cotangent
(d loss / d value; not for a loss) and <case>/gradient0 … (d loss / d input).
"""
import struct

import numpy as np

try:
    import torch
except ImportError:  # a script whose numbers come from elsewhere needs none
    torch = None


def write(path, arrays):
    with open(path, "wb") as file:
        file.write(b"BLGOLD1\n" + struct.pack("<I", len(arrays)))
        for name, value in arrays.items():
            value = np.asarray(value.detach() if torch and torch.is_tensor(value) else value).astype("<f4")
            file.write(struct.pack("<I", len(name)) + name.encode() + struct.pack("<I", value.ndim))
            file.write(struct.pack(f"<{value.ndim}Q", *value.shape) + value.tobytes())


class Cases:
    """Cases of one file. Inputs are tensors; a function makes a matrix, or a scalar: the sum of a loss."""

    def __init__(self, seed):
        torch.set_num_threads(1)
        self.generator = torch.Generator().manual_seed(seed)
        self.arrays = {}

    def normal(self, *shape, scale=1.0):
        return torch.randn(shape, generator=self.generator) * scale

    def integers(self, below, *shape):
        return torch.randint(below, shape, generator=self.generator)

    def add(self, name, function, inputs, **constants):
        """function(*inputs, **constants) with the inputs rounded to f32 and turned to double."""
        leaves = [x.detach().float().double().requires_grad_() for x in inputs]
        fixed = {k: v.float().double() if torch.is_tensor(v) and v.is_floating_point() else v for k, v in constants.items()}
        value = function(*leaves, **fixed)
        if value.ndim > 0:
            cotangent = self.normal(*value.shape).double()
            self.arrays[f"{name}/cotangent"] = cotangent
            value.backward(cotangent)
        else:
            value.backward()
        self.arrays[f"{name}/value"] = value
        for i, leaf in enumerate(leaves):
            self.arrays[f"{name}/input{i}"] = leaf
            self.arrays[f"{name}/gradient{i}"] = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        for key, constant in fixed.items():
            self.arrays[f"{name}/{key}"] = torch.as_tensor(constant)

    def write(self, path):
        write(path, self.arrays)
