"""Generation with the GPT of bench_worker in PyTorch. Run by compare.py, see worker.cpp for the lines.

    torch_generate.py cacheless|cached --data FILE --weights FILE [--threads N] [--dim D]

cacheless: as OmniJet-alpha's code does it (gabbro/models/backbone.py, generate_batch): every step puts all tokens so far
through the model and takes the logits of the last. cached: keys and values of earlier tokens are kept. Both draw 128 tokens
a sequence, never start or stop, and look up nothing twice that could be kept.
"""
import argparse

import numpy as np
import torch
import torch.nn.functional as F

import peer
from torch_peer import GPT_LAYERS, GPT_POSITIONS, GPT_VOCABULARY, Model

TOKENS, START = GPT_POSITIONS - 1, GPT_VOCABULARY - 2
HEADS = 8


def all_logits(model, tokens):
    x = model.token(tokens) + model.position(torch.arange(tokens.shape[1]))
    for block in model.blocks:
        x = block(x, None, tokens.shape, None)
    return model.head(model.norm(x))


def draw(logits, greedy):
    logits[:, START:] = -torch.inf
    if greedy:
        return logits.argmax(-1, keepdim=True)
    return torch.multinomial(F.softmax(logits, -1), 1)


class Cacheless:
    def __init__(self, model):
        self.model = model

    def run(self, sequences, greedy):
        tokens = torch.full((sequences, 1), START)
        for _ in range(TOKENS):
            tokens = torch.cat([tokens, draw(all_logits(self.model, tokens)[:, -1], greedy)], 1)
        return tokens[:, 1:]

    def timed(self, sequences):
        if sequences == 1:
            return peer.timed(lambda: self.run(1, False))[1]
        # The cost of a step rises evenly with the tokens so far: steps in between are read off the line through these.
        at, spent = [1, 32, 64, 96, 128], []
        for length in at:
            tokens = torch.randint(0, START, (sequences, length))
            spent.append(peer.timed(lambda: draw(all_logits(self.model, tokens)[:, -1], False))[1])
        return {clock: float(np.interp(np.arange(1, TOKENS + 1), at, [s[clock] for s in spent]).sum()) for clock in ("cpu", "wall")}


class Cached:
    def __init__(self, model):
        self.model = model

    def run(self, sequences, greedy):
        model, dim = self.model, self.model.token.weight.shape[1]
        shape = (sequences, HEADS, GPT_POSITIONS, dim // HEADS)
        keys, values = [torch.zeros(shape) for _ in model.blocks], [torch.zeros(shape) for _ in model.blocks]
        token, made = torch.full((sequences, 1), START), []
        for step in range(TOKENS):
            x = model.token(token[:, 0]) + model.position.weight[step]
            for block, k, v in zip(model.blocks, keys, values):
                q, k[:, :, step], v[:, :, step] = block.qkv(block.norm1(x)).view(sequences, 3, HEADS, dim // HEADS).unbind(1)
                y = F.scaled_dot_product_attention(q[:, :, None], k[:, :, : step + 1], v[:, :, : step + 1])
                x = x + block.out(y.reshape(sequences, dim))
                x = x + block.down(F.gelu(block.up(block.norm2(x)), approximate="tanh"))
            token = draw(model.head(model.norm(x)), greedy)
            made.append(token)
        return torch.cat(made, 1)

    def timed(self, sequences):
        return peer.timed(lambda: self.run(sequences, False))[1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["cacheless", "cached"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dim", type=int, default=256)
    options = parser.parse_args()
    memory_at_start = peer.peak_memory()
    torch.set_num_threads(options.threads)
    model = Model(GPT_VOCABULARY, GPT_POSITIONS, options.dim, HEADS, GPT_LAYERS, True)
    model.load(peer.read_weights(options.weights))
    model.eval()
    engine = Cacheless(model) if options.mode == "cacheless" else Cached(model)

    def answer(verb, sequences):
        if verb == "generate":
            return engine.timed(sequences) | {"tokens": sequences * TOKENS}
        if verb != "greedy":
            raise ValueError(f"torch_generate: no verb {verb}")
        tokens, times = peer.timed(lambda: engine.run(sequences, True))
        logits = all_logits(model, F.pad(tokens, (1, 0), value=START)[:, :-1])
        logp = F.log_softmax(logits, -1).gather(-1, tokens[:, :, None]).mean()
        return times | {"tokens": tokens.numel(), "ids": int(tokens.sum()), "logp": float(logp)}

    with torch.inference_mode():
        peer.serve({"engine": f"PyTorch {torch.__version__}"}, answer, memory_at_start)


if __name__ == "__main__":
    main()
