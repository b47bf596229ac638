"""Training: what the drafter says is compared with what the target says, on text the target wrote.

The steps are unrolled as they will be in drafting (arXiv 2503.01840, "training-time test"). A step's loss is the
cross entropy with the target's distribution over the draft vocabulary, weighed by the share of the whole
probability that the draft vocabulary has, by what kind of text it is, and by STEP_DECAY to the step's number.
"""
import glob
import json
import math
import os
import time
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from . import evaluate, model, target as targets, writing
from .files import read_checkpoint
from .target import compiled, fail

# Rows kept out of training, and how many of them are looked at while training.
HELD_OUT, LOOKED_AT = 128, 32
# What a position of the user's text counts when an answer's counts 1.
USER_WEIGHT = 0.1
STEP_DECAY = 0.85
LOG_EVERY, WARM_UP, MEASURED = 20, 100, 60
# Share of the steps that the plot leaves out at its beginning.
SKIPPED = 0.02


class Data:
    """Self-written text on the device: ids, roles (rows, length), and what is held out."""

    def __init__(self, folder, device, files=None):
        paths = sorted(glob.glob(str(folder / "data-[0-9][0-9][0-9].npz")))[:files]
        if not paths:
            fail(f"{folder} has no data-*.npz; run `generate` first")
        parts = [np.load(path) for path in paths]
        take = lambda name: np.concatenate([part[name] for part in parts])
        ids, roles = torch.from_numpy(take("ids").astype(np.int32)), torch.from_numpy(take("roles"))
        kept_out = np.flatnonzero(take("greedy"))[: min(HELD_OUT, len(ids) // 8)]
        trained = np.setdiff1d(np.arange(len(ids)), kept_out)
        self.ids, self.roles = ids[trained].to(device), roles[trained].to(device)
        self.held_ids, self.held_roles = ids[kept_out].to(device), roles[kept_out].to(device)

    def by_frequency(self, vocabulary, always):
        """Token ids, most frequent in answers first."""
        count = torch.zeros(vocabulary, dtype=torch.float64)
        for weight, mine in ((1.0, self.roles == writing.ANSWER), (0.02, self.roles == writing.USER)):
            count += weight * torch.bincount(self.ids[mine].long(), minlength=vocabulary).double().cpu()
        count[always] = math.inf
        order = count.argsort(descending=True, stable=True)
        return order, (count[order].nan_to_num(posinf=0).cumsum(0) / count.nan_to_num(posinf=0).sum())

    def batch(self, step, rows, seed):
        """The rows of a step: each epoch has its own order, made from the seed."""
        per_epoch = max(len(self.ids) // rows, 1)
        order = torch.randperm(len(self.ids), generator=torch.Generator().manual_seed(seed * 1000 + step // per_epoch))
        mine = order[step % per_epoch * rows :][:rows].to(self.ids.device)
        return self.ids[mine].long(), self.roles[mine]


def truth_of(final, head, draft_tokens, to_draft):
    """The target's logits over the draft vocabulary, the log of their sum of exponentials, the share of the
    whole probability they have, and the draft index of the likeliest token, −1 if it is not among them."""
    logits = F.linear(final, head)
    truth = logits.index_select(-1, draft_tokens)
    log_sum = truth.float().logsumexp(-1)
    return truth, log_sum, (log_sum - logits.float().logsumexp(-1)).exp(), to_draft[logits.argmax(-1)]


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix is brought near an orthogonal one by Newton–Schulz steps (arXiv 2502.16982)."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                kept = self.state[p].setdefault("momentum", torch.zeros_like(p))
                kept.mul_(group["momentum"]).add_(p.grad)
            for same in by_shape(group["params"]):
                x = torch.stack([p.grad.add(self.state[p]["momentum"], alpha=group["momentum"]) for p in same])
                x = x.to(torch.bfloat16 if x.is_cuda else x.dtype)
                tall = x.shape[1] > x.shape[2]
                x = x.mT if tall else x
                x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
                for _ in range(5):
                    square = x @ x.mT
                    x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
                x = x.mT if tall else x
                for p, turned in zip(same, x.to(same[0].dtype)):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(turned, alpha=-group["lr"] * 0.2 * math.sqrt(max(p.shape)))


def by_shape(parameters):
    same = {}
    for p in parameters:
        same.setdefault(p.shape, []).append(p)
    return same.values()


def optimisers_of(weights, options):
    matrices = [p for p in weights.values() if p.ndim == 2]
    vectors = [p for p in weights.values() if p.ndim == 1]
    settings = {"lr": options.lr, "betas": (0.9, 0.95), "weight_decay": 0.01}
    if options.optimiser == "muon":
        return [Muon(matrices, options.lr), torch.optim.AdamW(vectors, **settings)]
    return [torch.optim.AdamW(matrices + vectors, **settings, fused=matrices[0].is_cuda)]


class Training:
    """One drafter's training, from its checkpoint on if there is one."""

    def __init__(self, options, target, chat):
        self.options, self.target, device = options, target, target.device
        self.path, self.log = options.out / f"{options.name}.ckpt", options.out / f"{options.name}.jsonl"
        self.data = Data(options.out, device, options.files)
        self.order, covered = self.data.by_frequency(target.shape.vocabulary, [chat.answer_end, *chat.stops])
        size = min(options.vocabulary, target.shape.vocabulary)
        self.draft_tokens = self.order[:size].sort().values.to(device)
        self.taps = taps_of(options.taps, target.shape.layers)
        shape = replace(target.shape, layers=options.blocks, ffn=options.ffn or target.shape.ffn)
        self.config = model.Config(shape, options.fusion, self.taps, options.steps_ahead)
        self.weights = model.initial(self.config, target, torch.Generator().manual_seed(options.seed))
        for p in self.weights.values():
            p.requires_grad_(True)
        self.optimisers = optimisers_of(self.weights, options)
        self.step, self.total, self.graph = 0, options.steps, None
        if self.path.exists():
            self.go_on()
        elif options.start:
            self.take_weights(self.read(options.start))
        n_weights = sum(p.numel() for p in self.weights.values())
        self.recipe = lambda: (
            f"{options.fusion}, {options.blocks} blocks, {n_weights / 1e6:.1f} M weights; {self.data.ids.numel() / 1e6:.1f} M "
            f"self-written tokens, {self.step} steps of {options.batch} x {self.data.ids.shape[1]}, {size} draft tokens, {options.steps_ahead} steps unrolled, "
            f"{options.optimiser} {options.lr:g}, hard {options.hard:g}, align {options.align:g}, seed {options.seed}")
        print(f"{options.name}: {n_weights / 1e6:.2f} M weights, {len(self.data.ids)} rows, draft vocabulary {size} covers "
              f"{covered[size - 1]:.4f} of the answers; from step {self.step}", flush=True)

        on_gpu = device.type == "cuda"
        fast = compiled if on_gpu else lambda function: function
        self.truth_of, self.cross_entropy = fast(truth_of), fast(model.cross_entropy)
        self.target_layer = fast(targets.target_layer)
        self.drafter = model.Drafter(self.config, fused=on_gpu)
        self.dtype = torch.bfloat16 if on_gpu else torch.float32
        self.head = target.head[self.draft_tokens].to(self.dtype)
        self.to_draft = torch.full((target.shape.vocabulary,), -1, device=device)
        self.to_draft[self.draft_tokens] = torch.arange(size, device=device)

    def read(self, path):
        saved = read_checkpoint(path, self.target.device)
        if saved["config"] != self.config or saved["draft_tokens"].tolist() != self.draft_tokens.tolist():
            fail(f"{path} is of another drafter; give another --name or remove it")
        return saved

    def take_weights(self, saved):
        for name, p in self.weights.items():
            p.data.copy_(saved["weights"][name])

    def go_on(self):
        saved = self.read(self.path)
        if not saved["optimisers"]:
            fail(f"{self.path} has no optimiser state; give it as --start and another --name")
        self.step, self.total = saved["step"], saved["total"]
        self.take_weights(saved)
        for optimiser, state in zip(self.optimisers, saved["optimisers"]):
            optimiser.load_state_dict(state)
        torch.set_rng_state(saved["random"].cpu())
        lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True) if self.log.exists() else []
        self.log.write_text("".join(line for line in lines if json.loads(line)["step"] <= self.step), encoding="utf-8")

    def save(self):
        part = self.path.with_suffix(".part")
        torch.save({
            "config": self.config, "draft_tokens": self.draft_tokens.cpu(), "order": self.order, "step": self.step,
            "total": self.total, "weights": {name: p.detach() for name, p in self.weights.items()}, "recipe": self.recipe(),
            "random": torch.get_rng_state(), "optimisers": [optimiser.state_dict() for optimiser in self.optimisers]}, part)
        os.replace(part, self.path)

    def tell(self, **what):
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(json.dumps({"step": self.step, **what}) + "\n")

    def loss(self, ids, roles):
        """The sum over the unrolled steps, and the first step's part."""
        options, target = self.options, self.target
        rows = ids.shape[1] - options.steps_ahead - 1
        final, tapped = target.forward(ids, self.taps)
        with torch.no_grad():
            truth, log_sum, mass, best = self.truth_of(final, target.head, self.draft_tokens, self.to_draft)
        text = self.to_draft[ids]
        w = {name: p.to(self.dtype) for name, p in self.weights.items()}
        tapped = tapped[:, :rows].to(self.dtype) if self.taps else None
        feature = self.drafter.first_feature(w, final[:, :rows].to(self.dtype), tapped)
        counted = torch.where(roles == writing.ANSWER, 1.0, USER_WEIGHT)
        reach, parts = torch.ones(len(ids), rows, device=ids.device), []
        for k, state in enumerate(self.drafter.unroll(w, target, ids, feature, options.steps_ahead)):
            # The step at row i is compared with the target at i + 1 + k and drafts token i + 2 + k.
            here, there = slice(1 + k, 1 + k + rows), slice(2 + k, 2 + k + rows)
            weight = counted[:, there] * (1 - options.align + options.align * reach)
            weight = STEP_DECAY**k * weight * mass[:, here] / weight.sum()
            loss, of_text = model.HeadLoss.apply(
                state, self.head, self.cross_entropy, truth[:, here], log_sum[:, here], best[:, here], text[:, there],
                weight, options.hard)
            parts.append(loss)
            reach = reach * of_text.detach().exp()
        return sum(parts), parts[0].detach()

    def gradients(self, ids, roles):
        """The gradients of a batch in the weights' `grad`, and the loss and its first step's part, not yet waited
        for. On a GPU these thousands of small operations are one graph, made at the first batch."""
        if self.graph is None and self.target.device.type == "cuda" and not self.options.eager:
            self.capture(ids, roles)
        if self.graph is None:
            return self.forward_and_backward(ids, roles)
        for to, value in zip(self.fed, (ids, roles)):
            to.copy_(value)
        self.graph.replay()
        return self.told.clone()

    def forward_and_backward(self, ids, roles):
        for p in self.weights.values():
            p.grad = None
        loss, first = self.loss(ids, roles)
        loss.backward()
        return torch.stack([loss.detach(), first])

    def capture(self, ids, roles):
        self.fed = ids.clone(), roles.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.forward_and_backward(*self.fed)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.told = self.forward_and_backward(*self.fed)
        self.graph = graph

    def update(self):
        """One optimiser step; returns the loss and its first step's part, not yet waited for."""
        options, scale = self.options, min(1, (self.step + 1) / WARM_UP)
        if self.total:
            scale *= 0.02 + 0.98 * (1 + math.cos(math.pi * self.step / self.total)) / 2
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = options.lr * scale
        both = self.gradients(*self.data.batch(self.step, options.batch, options.seed))
        torch.nn.utils.clip_grad_norm_(list(self.weights.values()), options.clip)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        return both

    def look(self):
        """Acceptance on held-out text."""
        judge = evaluate.Judge(model.Drafter(self.config), self.weights, self.target, self.draft_tokens, self.dtype)
        ids, roles = self.data.held_ids[-LOOKED_AT:].long(), self.data.held_roles[-LOOKED_AT:]
        return evaluate.held_out(judge, ids, roles, rows_at_once=self.options.batch)

    def run(self):
        options, per_step = self.options, self.options.batch * self.data.ids.shape[1]
        begin = clock = time.time()
        losses, start, clocked, last = [], self.step, self.step, math.nan
        while (self.total is None or self.step < self.total) and self.step != options.stop_at:
            losses.append(self.update())
            if self.total is None and self.step == start + MEASURED:
                # The first steps compile; the rest of the time has the speed of the steps since LOG_EVERY.
                losses[-1].tolist()
                per_second = (self.step - clocked) / (time.time() - clock)
                left = options.minutes * 60 - (time.time() - begin)
                self.total = self.step + max(1, int(per_second * left))
                print(f"{per_second:.1f} steps/s, {self.total} steps", flush=True)
            if self.step % LOG_EVERY == 0:
                (last, first), losses = torch.stack(losses).mean(0).tolist(), []
                if not math.isfinite(last):
                    fail(f"the loss is {last} at step {self.step}; give a smaller --lr")
                rate = (self.step - clocked) * per_step / (time.time() - clock)
                # Until the number of steps is known, the clock runs from the end of compiling.
                if self.step <= start + LOG_EVERY or self.total:
                    clock, clocked = time.time(), self.step
                self.tell(loss=last, first_loss=first, lr=self.optimisers[0].param_groups[0]["lr"],
                          tokens_per_second=round(rate), seconds=round(time.time() - begin, 1))
            if self.step % options.look_every == 0 or self.step == self.total:
                seen = self.look()
                self.tell(held_out=seen)
                print(f"step {self.step} of {self.total}: loss {last:.4f}, chain {seen['chain']:.3f}, top-1 "
                      + " ".join(f"{x:.3f}" for x in seen["top1"]), f"{time.time() - begin:.0f} s", flush=True)
                self.save()
                clock, clocked = time.time(), self.step
        self.save()


def train(options, target, tokenizer, chat):
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.manual_seed(options.seed)
    training = Training(options, target, chat)
    target.layer = training.target_layer
    try:
        training.run()
    finally:
        target.layer = targets.target_layer
        torch.use_deterministic_algorithms(False)
    if training.log.exists():
        plot(training.log, options.out / f"{options.name}.svg", options.name)


def taps_of(text, layers):
    """The layers whose input is tapped: three as in EAGLE-3, none, or a list."""
    if text == "none":
        return []
    taps = sorted({2, layers // 2, layers - 3}) if text == "default" else [int(n) for n in text.split(",")]
    if taps != sorted(set(taps)) or not all(0 <= n < layers for n in taps):
        fail(f"--taps {','.join(map(str, taps))} does not ascend within the {layers} layers; give other layers or none")
    return taps


def plot(log, path, name):
    """Loss and held-out chain length over the steps, as a plain SVG."""
    records = [json.loads(line) for line in open(log, encoding="utf-8")]
    most = max((r["step"] for r in records), default=1)
    # The first steps' loss would leave the rest a flat line.
    records = [r for r in records if r["step"] > SKIPPED * most]
    curves = [("loss", "#1f77b4", [(r["step"], r["loss"]) for r in records if "loss" in r]),
              ("accepted + 1, chain of 7, held out", "#d62728", [(r["step"], r["held_out"]["chain"]) for r in records if "held_out" in r])]
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="720" height="400" font-family="sans-serif" font-size="12">',
             '<rect width="720" height="400" fill="white"/>', f'<text x="360" y="20" text-anchor="middle">{name}</text>']
    for n, (label, colour, points) in enumerate(curves):
        if not points:
            continue
        low, high = min(y for _, y in points), max(y for _, y in points)
        span = high - low or 1.0
        place = lambda x, y: f"{60 + 600 * x / most:.1f},{350 - 300 * (y - low) / span:.1f}"
        parts.append(f'<polyline fill="none" stroke="{colour}" points="{" ".join(place(*p) for p in points)}"/>')
        x, anchor = (55, "end") if n == 0 else (665, "start")
        parts += [f'<text x="{x}" y="{350 - 300 * at}" text-anchor="{anchor}" fill="{colour}">{low + span * at:.2f}</text>'
                  for at in (0, 0.25, 0.5, 0.75, 1)]
        parts.append(f'<text x="{60 + 300 * n}" y="390" fill="{colour}">{label}</text>')
    parts += [f'<text x="{60 + 600 * at}" y="370" text-anchor="middle">{int(most * at)}</text>' for at in (0, 0.5, 1)]
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")
