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
import json
import os
import pathlib
import sys
import time

# Sums in a fixed order, so that a run that was stopped and goes on gives what an unbroken one gives.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

try:
    import numpy as np
    import torch

    from drafter import evaluate, files, model, target as targets, train, writing
    from drafter.target import fail
    MISSING = None
except ModuleNotFoundError as error:
    MISSING = error.name  # --help needs no package

# Of 2e-3 to 2.5e-2 Muon learned faster the higher it was in 240 steps; AdamW was tried with 1e-3 alone.
LEARNING_RATES = {"muon": 1.5e-2, "adamw": 1e-3}


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


def evaluated(options, target, tokenizer, chat):
    """The drafter as exported if it was, else as trained; `--vocabulary` below the trained one restricts it."""
    saved, path = files.read_checkpoint(options.out / f"{options.name}.ckpt"), options.out / f"{options.name}.gguf"
    weights = files.read_weights(path)[0] if path.exists() else saved["weights"]
    draft = files.draft_tokens_of(saved, options)
    dtype = torch.bfloat16 if target.device.type == "cuda" else torch.float32
    on_device = {name: value.to(target.device) for name, value in weights.items()}
    judge_of = lambda tokens: evaluate.Judge(model.Drafter(saved["config"]), on_device, target, tokens, dtype)
    judge = judge_of(draft)
    data = train.Data(options.out, target.device, options.files)
    result = {"drafter": str(path.name if path.exists() else options.name), "draft_tokens": len(draft), "recipe": saved["recipe"],
              "held_out": evaluate.held_out(judge, data.held_ids.long(), data.held_roles)}
    answers = options.out / "answers.npz"
    if answers.exists():
        of = np.load(answers)
        ids = torch.from_numpy(of["ids"].astype(np.int64)).to(target.device)
        told = ids, of["starts"].tolist(), of["ends"].tolist(), of["categories"].tolist()
        result["answers"] = evaluate.on_answers(judge, *told)
        if options.prompt_tokens:
            judge = judge_of(torch.arange(target.shape.vocabulary))
            result["answers_with_prompt_tokens"] = evaluate.on_answers(judge, *told, static=draft.to(target.device))
    (options.out / f"{options.name}.eval.json").write_text(json.dumps(result, indent=1) + "\n")
    held = result["held_out"]
    print(f"{result['drafter']}, {len(draft)} draft tokens: held out, chain of {evaluate.DEPTH}: {held['chain']:.3f}")
    for which in ("top1", "top2", "top4"):
        print(f"  {which}  " + " ".join(f"{x:.3f}" for x in held[which]))
    for name in ("answers", "answers_with_prompt_tokens"):
        for n, (shape, lengths) in enumerate(result.get(name, {}).items()):
            if n == 0:
                print(f"  {name}\n  " + " " * 8 + "".join(f"{category[:12]:>14}" for category in lengths))
            print(f"  {shape:8}" + "".join(f"{length:14.2f}" for length in lengths.values()), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["generate", "train", "evaluate", "export", "all", "tiny"])
    parser.add_argument("model", help="GGUF file or safetensors folder of the target")
    add = parser.add_argument
    add("--out", type=pathlib.Path, default=pathlib.Path("."), help="folder of all files [default: .]")
    add("--name", default="drafter", help="of the drafter's files [default: drafter]")
    add("--seed", type=int, default=1)
    add("--device", help="[default: cuda if there is a GPU, else cpu]")
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
    add("--steps-ahead", type=int, default=5, help="train: steps unrolled [default: 5]")
    add("--minutes", type=float, default=4, help="train: how long, unless --steps [default: 4]")
    add("--steps", type=int, help="train: optimiser steps")
    add("--stop-at", type=int, help="train: stop after this step as if interrupted")
    add("--look-every", type=int, default=500, help="train: steps between looks at held-out text and checkpoints [default: 500]")
    add("--batch", type=int, default=16, help="train: dialogues a step [default: 16]")
    add("--start", type=pathlib.Path, help="train: begin with the weights of this checkpoint, of the same shape")
    add("--eager", action="store_true", help="train: operation by operation on a GPU too, not as a graph")
    add("--prompt-tokens", action="store_true", help="evaluate: let the tokens of an answer's prompt be drafted too")
    add("--optimiser", choices=["muon", "adamw"], default="muon")
    add("--lr", type=float, help=f"train: highest learning rate [default: {LEARNING_RATES}]")
    add("--clip", type=float, default=0.5)
    add("--hard", type=float, default=0.3, help="train: share of the target's probability moved to its likeliest token [default: 0.3]")
    add("--align", type=float, default=0.0, help="train: how far a step's weight follows the chance of being reached [default: 0]")
    add("--type", choices=["q8_0", "q4_0", "f16"], default="q8_0", help="export: of matrices [default: q8_0]")
    add("--licence", default="apache-2.0", help="export: the target's licence, whose text it was made from [default: apache-2.0]")
    options = parser.parse_args()
    if MISSING:
        sys.exit(f"error: the package {MISSING} is missing; pip install torch numpy gguf tokenizers jinja2")
    commands = {"generate": [generate], "train": [train.train], "evaluate": [evaluated], "export": [files.export],
                "all": [generate, train.train, files.export, evaluated]}
    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    options.lr = options.lr or LEARNING_RATES[options.optimiser]
    if options.command == "tiny":
        return files.tiny(options)
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
