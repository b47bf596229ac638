#!/usr/bin/env python3
"""Trains a drafter for a Llama from text that the Llama writes itself, and writes it as GGUF.

    python3 scripts/train_drafter.py generate MODEL.gguf --out DIR        # DIR/data-*.npz, and answers to --prompts
    python3 scripts/train_drafter.py train    MODEL.gguf --out DIR        # DIR/NAME.ckpt, .jsonl, .svg; goes on where it stopped
    python3 scripts/train_drafter.py evaluate MODEL.gguf --out DIR        # DIR/NAME.eval.json, from the GGUF if there is one
    python3 scripts/train_drafter.py export   MODEL.gguf --out DIR        # DIR/NAME.gguf and NAME.parity.json
    python3 scripts/train_drafter.py all      MODEL.gguf --out DIR        # these four
    python3 scripts/train_drafter.py tiny     TINY.gguf                   # a made-up target for trying all this on a CPU

MODEL may be a folder of safetensors. It takes PyTorch, numpy, gguf, tokenizers and jinja2, and one GPU: about
ten minutes for a model of 135 M weights. The format is told in docs/drafter-format.md, what is trained in
scripts/drafter/model.py.
"""
import argparse
import base64
import collections
import glob
import json
import math
import os
import pathlib
import time

# Sums in a fixed order, so that a run that was stopped and goes on gives what an unbroken one gives.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch
import torch.nn.functional as F

from drafter import evaluate as judging
from drafter import model, target as targets, writing
from drafter.target import compiled, fail, rms_norm

VERSION = 1
# Rows kept out of training, and how many of them are looked at while training.
HELD_OUT, LOOKED_AT = 128, 32
# What a position of the user's text counts when an answer's counts 1.
USER_WEIGHT = 0.1
STEP_DECAY = 0.85
LOG_EVERY, WARM_UP, MEASURED = 20, 100, 60


def generate(options, target, tokenizer, chat):
    """Batches of dialogues that are not there yet, and greedy answers to the prompts."""
    out = options.out
    if options.prompts and not (out / "answers.npz").exists():
        records = [json.loads(line) for line in open(options.prompts, encoding="utf-8")]
        prompts = [chat.prompt(record["turns"][0]) for record in records]
        ids, starts, ends = writing.answers(target, chat, tokenizer, prompts, options.answer)
        categories = [record["category"] for record in records]
        np.savez_compressed(out / "answers.npz", ids=ids.numpy().astype(np.uint32), starts=starts, ends=ends, categories=categories)
        print(f"answers to {len(prompts)} prompts, {sum(ends) - sum(starts)} tokens", flush=True)
    begin, rows, length = time.time(), options.rows, options.length
    batches = [n for n in range(options.batches) if not (out / f"data-{n:03}.npz").exists()]

    def save(batch, ids, roles, greedy, kinds):
        kept = np.uint16 if target.shape.vocabulary <= 1 << 16 else np.uint32
        np.savez_compressed(out / f"data-{batch:03}.part.npz", ids=ids.numpy().astype(kept), roles=roles.numpy(),
                            greedy=greedy, kinds=kinds)
        os.replace(out / f"data-{batch:03}.part.npz", out / f"data-{batch:03}.npz")
        of_answers = (roles == writing.ANSWER).float().mean()
        print(f"batch {batch}: {rows * length} tokens, {of_answers:.0%} of answers, {time.time() - begin:.0f} s", flush=True)

    if batches:
        writing.dialogues(target, chat, tokenizer, options.seed, rows, length, batches, save)


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
                x = p.grad.add(kept, alpha=group["momentum"])
                x = x.to(torch.bfloat16 if x.is_cuda else x.dtype)
                tall = x.shape[0] > x.shape[1]
                x = x.T if tall else x
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    square = x @ x.T
                    x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
                x = x.T if tall else x
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(x.to(p.dtype), alpha=-group["lr"] * 0.2 * math.sqrt(max(p.shape)))


def optimisers_of(weights, options):
    matrices = [p for p in weights.values() if p.ndim == 2]
    vectors = [p for p in weights.values() if p.ndim == 1]
    settings = {"lr": options.lr, "betas": (0.9, 0.95), "weight_decay": 0.01}
    if options.optimiser == "muon":
        return [Muon(matrices, options.lr), torch.optim.AdamW(vectors, **settings)]
    return [torch.optim.AdamW(matrices + vectors, **settings, fused=matrices[0].is_cuda)]


def train(options, target, tokenizer, chat):
    device, path = target.device, options.out / f"{options.name}.ckpt"
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.manual_seed(options.seed)
    data = Data(options.out, device, options.files)
    order, covered = data.by_frequency(target.shape.vocabulary, [chat.answer_end, *chat.stops])
    size = min(options.vocabulary, target.shape.vocabulary)
    draft_tokens = order[:size].sort().values.to(device)
    taps = default_taps(options.taps, target.shape.layers)
    shape = targets.Shape(**{**vars(target.shape), "layers": options.blocks, "ffn": options.ffn or target.shape.ffn})
    config = model.Config(shape, options.fusion, taps, options.steps_ahead)
    weights = model.initial(config, target, torch.Generator().manual_seed(options.seed))
    for p in weights.values():
        p.requires_grad_(True)
    optimisers = optimisers_of(weights, options)
    step, total = 0, options.steps
    saved = torch.load(path, map_location=device, weights_only=False) if path.exists() else None
    if saved:
        if saved["config"] != config or saved["draft_tokens"].tolist() != draft_tokens.tolist():
            fail(f"{path} is of another drafter; give another --name or remove it")
        step, total = saved["step"], saved["total"]
        for name, p in weights.items():
            p.data.copy_(saved["weights"][name])
        for optimiser, state in zip(optimisers, saved["optimisers"]):
            optimiser.load_state_dict(state)
        torch.set_rng_state(saved["random"].cpu())
    n_weights = sum(p.numel() for p in weights.values())
    print(f"{options.name}: {n_weights / 1e6:.2f} M weights, {len(data.ids)} rows, draft vocabulary {size} covers "
          f"{covered[size - 1]:.4f} of the answers; from step {step}", flush=True)

    on_gpu = device.type == "cuda"
    fast = compiled if on_gpu else lambda function: function
    target.layer, truth_function, loss_function = fast(targets.target_layer), fast(truth_of), fast(model.cross_entropy)
    drafter = model.Drafter(config, fused=on_gpu)
    dtype = torch.bfloat16 if on_gpu else torch.float32
    head = target.head[draft_tokens].to(dtype)
    to_draft = torch.full((target.shape.vocabulary,), -1, device=device)
    to_draft[draft_tokens] = torch.arange(size, device=device)
    log = open(options.out / f"{options.name}.jsonl", "a", encoding="utf-8")

    def save():
        part = path.with_suffix(".part")
        torch.save({"config": config, "draft_tokens": draft_tokens.cpu(), "order": order, "step": step, "total": total,
                    "weights": {name: p.detach() for name, p in weights.items()}, "random": torch.get_rng_state(),
                    "optimisers": [optimiser.state_dict() for optimiser in optimisers],
                    "recipe": recipe(options, data, n_weights)}, part)
        os.replace(part, path)

    def tell(**what):
        log.write(json.dumps({"step": step, **what}) + "\n")
        log.flush()

    begin = clock = time.time()
    losses, since, clocked, last = [], step, step, math.nan
    while total is None or step < total:
        if options.stop_at is not None and step >= options.stop_at:
            break
        scale = min(1, (step + 1) / WARM_UP)
        if total:
            scale *= 0.02 + 0.98 * (1 + math.cos(math.pi * step / total)) / 2
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = options.lr * scale
        ids, roles = data.batch(step, options.batch, options.seed)
        rows = ids.shape[1] - options.steps_ahead - 1
        final, tapped = target.forward(ids, taps)
        with torch.no_grad():
            truth, log_sum, mass, best = truth_function(final, target.head, draft_tokens, to_draft)
        text = to_draft[ids]
        w = {name: p.to(dtype) for name, p in weights.items()}
        feature = drafter.first_feature(w, final[:, :rows].to(dtype), tapped[:, :rows].to(dtype) if taps else None)
        counted = torch.where(roles == writing.ANSWER, 1.0, USER_WEIGHT)
        reach, parts = torch.ones(len(ids), rows, device=device), []
        for k, state in enumerate(drafter.unroll(w, target, ids, feature, options.steps_ahead)):
            # The step at row i is compared with the target at i + 1 + k and drafts token i + 2 + k.
            here, there = slice(1 + k, 1 + k + rows), slice(2 + k, 2 + k + rows)
            weight = counted[:, there] * (1 - options.align + options.align * reach)
            weight = STEP_DECAY**k * weight * mass[:, here] / weight.sum()
            loss, of_text = model.HeadLoss.apply(state, head, loss_function, truth[:, here], log_sum[:, here], best[:, here],
                                                 text[:, there], weight, options.hard)
            parts.append(loss)
            reach = reach * of_text.detach().exp()
        loss = sum(parts)
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(weights.values()), options.clip)
        for optimiser in optimisers:
            optimiser.step()
        losses.append(torch.stack([loss.detach(), parts[0].detach()]))
        step += 1
        if total is None and step == since + MEASURED:
            # The first steps compile; the rest of the time has the speed of the steps since LOG_EVERY.
            losses[-1].tolist()
            per_second = (step - clocked) / (time.time() - clock)
            total = step + max(1, int(per_second * (options.minutes * 60 - (time.time() - begin))))
            print(f"{per_second:.1f} steps/s, {total} steps", flush=True)
        if step % LOG_EVERY == 0:
            means, losses = torch.stack(losses).mean(0).tolist(), []
            last = means[0]
            if not math.isfinite(means[0]):
                fail(f"the loss is {means[0]} at step {step}; give a smaller --lr")
            # Until the number of steps is known, the clock runs from the end of compiling.
            if step <= since + LOG_EVERY or total:
                rate = (step - clocked) * ids.numel() / (time.time() - clock)
                clock, clocked = time.time(), step
            tell(loss=means[0], first_loss=means[1], lr=options.lr * scale, tokens_per_second=round(rate),
                 seconds=round(time.time() - begin, 1))
        if step % options.look_every == 0 or step == total:
            judge = judging.Judge(model.Drafter(config), weights, target, draft_tokens, dtype)
            seen = judging.held_out(judge, data.held_ids[-LOOKED_AT:].long(), data.held_roles[-LOOKED_AT:], rows_at_once=options.batch)
            tell(held_out=seen)
            print(f"step {step} of {total}: loss {last:.4f}, chain {seen['chain']:.3f}, top-1 "
                  + " ".join(f"{x:.3f}" for x in seen["top1"]), f"{time.time() - begin:.0f} s", flush=True)
            save()
            clock, clocked = time.time(), step
    save()
    plot(options.out / f"{options.name}.jsonl", options.out / f"{options.name}.svg", options.name)
    target.layer = targets.target_layer


def recipe(options, data, n_weights):
    return (f"{options.fusion}, {options.blocks} blocks, {n_weights / 1e6:.1f} M weights; {data.ids.numel() / 1e6:.1f} M self-written tokens, "
            f"batch {options.batch} x {data.ids.shape[1]}, {options.steps_ahead} steps unrolled, {options.optimiser} {options.lr:g}, "
            f"hard {options.hard:g}, align {options.align:g}, seed {options.seed}")


def default_taps(text, layers):
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
    curves = [("loss", "#1f77b4", [(r["step"], r["loss"]) for r in records if "loss" in r]),
              ("accepted + 1, chain of 7, held out", "#d62728", [(r["step"], r["held_out"]["chain"]) for r in records if "held_out" in r])]
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="720" height="400" font-family="sans-serif" font-size="12">',
             '<rect width="720" height="400" fill="white"/>', f'<text x="360" y="20" text-anchor="middle">{name}</text>']
    most = max((r["step"] for r in records), default=1)
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


def trained(options):
    path = options.out / f"{options.name}.ckpt"
    if not path.exists():
        fail(f"there is no {path}; run `train` first")
    return torch.load(path, map_location="cpu", weights_only=False)


def evaluate(options, target, tokenizer, chat):
    """The drafter as exported if it was, else as trained; `--vocabulary` below the trained one restricts it."""
    saved, path = trained(options), options.out / f"{options.name}.gguf"
    weights = read_weights(path)[0] if path.exists() else saved["weights"]
    draft = saved["draft_tokens"]
    if options.vocabulary < len(draft):
        draft = saved["order"][: options.vocabulary].sort().values
    dtype = torch.bfloat16 if target.device.type == "cuda" else torch.float32
    on_device = {name: value.to(target.device) for name, value in weights.items()}
    judge = judging.Judge(model.Drafter(saved["config"]), on_device, target, draft, dtype)
    data = Data(options.out, target.device, options.files)
    result = {"drafter": str(path.name if path.exists() else options.name), "draft_tokens": len(draft), "recipe": saved["recipe"],
              "held_out": judging.held_out(judge, data.held_ids.long(), data.held_roles)}
    answers = options.out / "answers.npz"
    if answers.exists():
        of = np.load(answers)
        ids = torch.from_numpy(of["ids"].astype(np.int64)).to(target.device)
        result["answers"] = judging.on_answers(judge, ids, of["starts"].tolist(), of["ends"].tolist(), of["categories"].tolist())
    (options.out / f"{options.name}.eval.json").write_text(json.dumps(result, indent=1) + "\n")
    held = result["held_out"]
    print(f"{result['drafter']}, {len(draft)} draft tokens: held out, chain of {judging.DEPTH}: {held['chain']:.3f}")
    for which in ("top1", "top2", "top4"):
        print(f"  {which}  " + " ".join(f"{x:.3f}" for x in held[which]))
    for n, (shape, lengths) in enumerate(result.get("answers", {}).items()):
        if n == 0:
            print("  " + " " * 8 + "".join(f"{category[:12]:>14}" for category in lengths))
        print(f"  {shape:8}" + "".join(f"{length:14.2f}" for length in lengths.values()), flush=True)


def read_weights(path):
    """A drafter's tensors as float32, and its draft tokens."""
    import gguf
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    draft = torch.from_numpy(np.array(tensors.pop("draft_tokens").data)).long() if "draft_tokens" in tensors else None
    return {name: torch.from_numpy(np.array(gguf.dequantize(t.data, t.tensor_type))) for name, t in tensors.items()}, draft


def export(options, target, tokenizer, chat):
    """docs/drafter-format.md"""
    import gguf
    saved, path = trained(options), options.out / f"{options.name}.gguf"
    config, draft, p = saved["config"], saved["draft_tokens"], model.PREFIX
    if options.vocabulary < len(draft):
        draft = saved["order"][: options.vocabulary].sort().values
    kind = gguf.GGMLQuantizationType[options.type.upper()]
    part = path.with_suffix(".part")
    writer, s = gguf.GGUFWriter(part, p), config.shape
    writer.add_name(options.name)
    writer.add_description(saved["recipe"])
    writer.add_license(options.licence)
    writer.add_uint32(f"{p}.version", VERSION)
    writer.add_string(f"{p}.target.fingerprint", target.fingerprint)
    for name, value in {
            "target.block_count": target.shape.layers, "target.vocabulary": target.shape.vocabulary, "block_count": s.layers,
            "embedding_length": s.width, "feed_forward_length": s.ffn, "attention.head_count": s.heads,
            "attention.head_count_kv": s.kv_heads, "attention.key_length": s.head_size, "rope.dimension_count": s.rope_dims,
            "unrolled_steps": config.unrolled}.items():
        writer.add_uint32(f"{p}.{name}", value)
    writer.add_float32(f"{p}.attention.layer_norm_rms_epsilon", s.epsilon)
    writer.add_float32(f"{p}.rope.freq_base", s.theta)
    writer.add_string(f"{p}.fusion", config.fusion)
    writer.add_key_value(f"{p}.feature_layers", config.taps, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32)
    for name, value in saved["weights"].items():
        value = value.float().cpu().numpy()
        if value.ndim == 1:
            writer.add_tensor(name, value)
        else:
            writer.add_tensor(name, gguf.quantize(value, kind), raw_dtype=kind)
    if len(draft) < target.shape.vocabulary:
        writer.add_tensor("draft_tokens", draft.numpy().astype(np.int32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(part, path)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    half = {name: value.half() if value.ndim == 2 else value for name, value in saved["weights"].items()}
    torch.save({**saved, "weights": half, "optimisers": None}, options.out / f"{options.name}.f16.ckpt")
    parity(options, config, chat, path)


@torch.no_grad()
def parity(options, config, chat, path, steps=3, length=24):
    """What the exported drafter says in float32 on the CPU after a fixed text, for a test of another implementation."""
    exact, _, _ = targets.load(options.model, torch.device("cpu"), torch.float32)
    weights, draft = read_weights(path)
    draft = draft if draft is not None else torch.arange(exact.shape.vocabulary)
    ids = torch.tensor([chat.prompt("Why is the sky blue?")[-length:]])
    final, taps = exact.forward(ids, config.taps)
    judge = judging.Judge(model.Drafter(config), weights, exact, draft, torch.float32)
    rows = ids.shape[1] - 1
    seen = (taps.flatten(2) if config.taps else final)[:, :rows]
    feature = judge.drafter.first_feature(weights, final[:, :rows], taps[:, :rows] if config.taps else None)
    told = []
    pick = lambda state: draft[judge.logits(state).argmax(-1)]
    for state in judge.drafter.unroll(weights, exact, ids, feature, steps, pick):
        log_q, best = F.log_softmax(judge.logits(state[0, -1]), -1).topk(min(8, len(draft)))
        told.append({"tokens": draft[best].tolist(), "log_probabilities": [round(x, 6) for x in log_q.tolist()]})
    record = {"drafter": path.name, "tokens": ids[0].tolist(),
              "features": "little-endian float32, base64: (tokens - 1, taps * width) states entering the feature layers side by side, "
                          "or (tokens - 1, width) states after the final norm if there are no taps",
              "features_base64": base64.b64encode(seen[0].numpy().astype("<f4").tobytes()).decode(),
              "steps": told, "steps_are": "after the last token; each step feeds the likeliest token of the one before"}
    (options.out / f"{options.name}.parity.json").write_text(json.dumps(record, indent=1) + "\n")


def tiny(options):
    """A made-up target of random weights: bytes as tokens, ChatML turns."""
    import gguf
    width, ffn, layers, heads, kv_heads, rng = 64, 128, 4, 4, 2, np.random.default_rng(options.seed)
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names = {byte: chr(byte) for byte in printed}
    names |= {byte: chr(256 + n) for n, byte in enumerate(byte for byte in range(256) if byte not in names)}
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(names[byte] for byte in range(256)), "th"]
    writer = gguf.GGUFWriter(options.model, "llama")
    writer.add_block_count(layers), writer.add_embedding_length(width), writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads), writer.add_head_count_kv(kv_heads), writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5), writer.add_rope_dimension_count(width // heads)
    writer.add_tokenizer_model("gpt2"), writer.add_tokenizer_pre("smollm"), writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * 257), writer.add_token_merges(["t h"])
    writer.add_bos_token_id(1), writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
                             "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")

    def add(name, *shape, scale=1.0):
        value = rng.standard_normal(shape) * scale / math.sqrt(shape[-1]) if len(shape) > 1 else np.ones(shape)
        writer.add_tensor(name + ".weight", value.astype(np.float32))

    add("token_embd", len(tokens), width, scale=4.0)
    for n in range(layers):
        for name, rows, columns in (("attn_q", width, width), ("attn_k", width // 2, width), ("attn_v", width // 2, width),
                                    ("attn_output", width, width), ("ffn_gate", ffn, width), ("ffn_up", ffn, width), ("ffn_down", width, ffn)):
            add(f"blk.{n}.{name}", rows, columns)
        add(f"blk.{n}.attn_norm", width), add(f"blk.{n}.ffn_norm", width)
    add("output_norm", width)
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file(), writer.close()
    print(f"{options.model}: a made-up target of {layers} layers")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = {"generate": [generate], "train": [train], "evaluate": [evaluate], "export": [export],
                "all": [generate, train, export, evaluate], "tiny": []}
    parser.add_argument("command", choices=commands)
    parser.add_argument("model", help="GGUF file or safetensors folder of the target")
    add = parser.add_argument
    add("--out", type=pathlib.Path, default=pathlib.Path("."), help="folder of all files [default: .]")
    add("--name", default="drafter", help="of the drafter's files [default: drafter]")
    add("--seed", type=int, default=1)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--target-dtype", default=None, help="[default: float16 on a GPU, float32 on a CPU]")
    add("--prompts", help="generate: JSON lines with `turns` and `category`, answered greedily for evaluation")
    add("--answer", type=int, default=128, help="generate: tokens of an answer [default: 128]")
    add("--rows", type=int, default=2048, help="generate: dialogues a batch [default: 2048]")
    add("--length", type=int, default=1024, help="generate: tokens a dialogue [default: 1024]")
    add("--batches", type=int, default=12, help="generate: batches of dialogues [default: 12]")
    add("--files", type=int, help="train: use the first so many data files")
    add("--fusion", choices=["dgf", "fc"], default="dgf")
    add("--taps", default="default", help="layers whose input is the feature, `none`, or `default`: 2, N/2, N-3")
    add("--blocks", type=int, default=1, help="Llama blocks of the drafter [default: 1]")
    add("--ffn", type=int, help="their feed-forward width [default: the target's]")
    add("--vocabulary", type=int, default=16384, help="draft tokens; fewer than trained: restrict [default: 16384]")
    add("--steps-ahead", type=int, default=6, help="train: steps unrolled [default: 6]")
    add("--minutes", type=float, default=4, help="train: how long, unless --steps [default: 4]")
    add("--steps", type=int, help="train: optimiser steps")
    add("--stop-at", type=int, help="train: stop after this step as if interrupted")
    add("--look-every", type=int, default=500, help="train: steps between looks at held-out text and checkpoints [default: 500]")
    add("--batch", type=int, default=16, help="train: dialogues a step [default: 16]")
    add("--optimiser", choices=["adamw", "muon"], default="adamw")
    add("--lr", type=float, default=1e-3)
    add("--clip", type=float, default=0.5)
    add("--hard", type=float, default=0.0, help="train: share of the target's probability moved to its likeliest token [default: 0]")
    add("--align", type=float, default=0.0, help="train: how far a step's weight follows the chance of being reached [default: 0]")
    add("--type", choices=["q8_0", "q4_0", "f16"], default="q8_0", help="export: of matrices [default: q8_0]")
    add("--licence", default="apache-2.0", help="export: the target's licence, whose text it was made from [default: apache-2.0]")
    options = parser.parse_args()
    if options.command == "tiny":
        return tiny(options)
    options.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(options.device)
    dtype = options.target_dtype or ("float16" if device.type == "cuda" else "float32")
    if dtype not in ("float16", "bfloat16", "float32"):
        fail(f"--target-dtype {dtype} is not known; give float16, bfloat16 or float32")
    loaded = targets.load(options.model, device, getattr(torch, dtype))
    for command in commands[options.command]:
        command(options, *loaded)


if __name__ == "__main__":
    main()
