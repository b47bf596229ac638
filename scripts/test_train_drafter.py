#!/usr/bin/env python3
"""Tests scripts/train_drafter.py on a CPU with a made-up target. Takes some minutes; run it by hand:

    pip install torch numpy gguf tokenizers jinja2
    python3 scripts/test_train_drafter.py
"""
import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import environment

if __name__ == "__main__":
    environment.help(__doc__)

import gguf
import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from drafter import evaluate, model, target as targets, train  # noqa: E402

TRAIN = ["--steps", "60", "--batch", "8", "--steps-ahead", "3", "--vocabulary", "96", "--look-every", "20", "--lr", "1e-2"]


class TrainDrafter(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.out = pathlib.Path(cls.folder.name)
        cls.model = str(cls.out / "tiny-target.gguf")
        prompts = [{"turns": ["Hello there, who are you?"], "category": "qa"}, {"turns": ["2 + 2"], "category": "math"},
                   {"turns": ["Say it again"], "category": "qa"}]
        (cls.out / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
        run("tiny", cls.model)
        run("generate", cls.model, "--out", cls.out, "--rows", 32, "--length", 320, "--batches", 2,
            "--prompts", cls.out / "prompts.jsonl", "--answer", 20)
        run("train", cls.model, "--out", cls.out, "--name", "whole", *TRAIN)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def checkpoint(self, name):
        return torch.load(self.out / f"{name}.ckpt", weights_only=False)

    def test_text_has_the_templates_turns_and_openings(self):
        data = np.load(self.out / "data-000.npz")
        _, tokenizer, chat = targets.load(self.model, torch.device("cpu"), torch.float32)
        for ids, roles in zip(data["ids"], data["roles"]):
            self.assertEqual(ids[: len(chat.before)].tolist(), chat.before)
            self.assertTrue((roles[: len(chat.before)] == 2).all())
            # An answer is preceded by all that leads to it.
            for at in np.flatnonzero((roles[1:] == 1) & (roles[:-1] == 2)) + 1:
                self.assertEqual(ids[at - len(chat.to_answer) : at].tolist(), chat.to_answer)
        self.assertGreater((data["roles"] == 1).mean(), 0.02)

    def test_greedy_answers_are_the_targets_likeliest_tokens(self):
        target, tokenizer, chat = targets.load(self.model, torch.device("cpu"), torch.float32)
        of = np.load(self.out / "answers.npz")
        for row, start, end in zip(of["ids"], of["starts"], of["ends"]):
            ids = torch.from_numpy(row[:end].astype(np.int64))[None]
            final, _ = target.forward(ids)
            self.assertEqual((final[0] @ target.head.T).argmax(-1)[start - 1 : -1].tolist(), ids[0, start:].tolist())

    def test_loss_falls(self):
        records = [json.loads(line) for line in (self.out / "whole.jsonl").read_text().splitlines()]
        losses = [r["first_loss"] for r in records if "loss" in r]
        self.assertLess(losses[-1], losses[0] - 0.02)
        self.assertIn("</svg>", (self.out / "whole.svg").read_text())

    def test_a_stopped_run_goes_on_to_the_same_weights(self):
        for optimiser in ("adamw", "muon"):
            options = [*TRAIN, "--optimiser", optimiser, "--blocks", 2, "--steps", 24, "--batch", 4, "--look-every", 10]
            run("train", self.model, "--out", self.out, "--name", f"unbroken-{optimiser}", *options)
            run("train", self.model, "--out", self.out, "--name", f"stopped-{optimiser}", *options, "--stop-at", 13)
            self.assertEqual(self.checkpoint(f"stopped-{optimiser}")["step"], 13)
            run("train", self.model, "--out", self.out, "--name", f"stopped-{optimiser}", *options)
            one, two = (self.checkpoint(f"{name}-{optimiser}")["weights"] for name in ("unbroken", "stopped"))
            for name, value in one.items():
                self.assertTrue(torch.equal(value, two[name]), name)
            logs = [(self.out / f"{name}-{optimiser}.jsonl").read_text().splitlines() for name in ("unbroken", "stopped")]
            logs = [[(r["step"], r.get("held_out")) for r in map(json.loads, log)] for log in logs]
            self.assertEqual(logs[0], logs[1])

    def test_a_training_starts_from_another_drafters_weights(self):
        run("export", self.model, "--out", self.out, "--name", "whole", "--type", "f16")
        half = str(self.out / "whole.f16.ckpt")
        run("train", self.model, "--out", self.out, "--name", "warm", *TRAIN, "--start", half, "--stop-at", 0)
        for name, value in self.checkpoint("warm")["weights"].items():
            self.assertTrue(torch.allclose(value, self.checkpoint("whole")["weights"][name], rtol=1e-3, atol=1e-4), name)

    def test_merged_attention_equals_plain_attention(self):
        torch.manual_seed(0)
        rows, make = 9, lambda heads: torch.randn(2, heads, 9, 16, requires_grad=True)
        q, k0, v0, later = make(4), make(4), make(4), [make(2) for _ in range(4)]
        wide = [t.repeat_interleave(2, 1) for t in later]
        scores = (q @ k0.transpose(-1, -2)).masked_fill(torch.ones(rows, rows).triu(1) > 0, -torch.inf)
        p = (torch.cat([scores, *((q * k).sum(-1, keepdim=True) for k in wide[0::2])], -1) / 4).softmax(-1)
        plain = p[..., :rows] @ v0 + sum(p[..., rows + j : rows + j + 1] * v for j, v in enumerate(wide[1::2]))
        merged = model.TestTimeAttention.apply(q, k0, v0, *later)
        self.assertTrue(torch.allclose(plain, merged, atol=1e-5))
        weight, leaves = torch.randn_like(plain), [q, k0, v0, *later]
        for one, two in zip(torch.autograd.grad((plain * weight).sum(), leaves), torch.autograd.grad((merged * weight).sum(), leaves)):
            self.assertTrue(torch.allclose(one, two, atol=1e-5))

    def test_head_loss_has_the_gradient_of_the_cross_entropy(self):
        torch.manual_seed(0)
        state, head = torch.randn(2, 5, 8, requires_grad=True), torch.randn(11, 8)
        truth, best, text = torch.randn(2, 5, 11), torch.randint(-1, 11, (2, 5)), torch.randint(-1, 11, (2, 5))
        weight, hard = torch.rand(2, 5), 0.25
        loss, of_text = model.HeadLoss.apply(state, head, model.cross_entropy, truth, truth.logsumexp(-1), best, text, weight, hard)
        log_q = (state @ head.T).log_softmax(-1)
        # A likeliest token outside the draft vocabulary gets nothing.
        moved = (hard * (best >= 0))[..., None]
        p = (1 - moved) * truth.softmax(-1) + moved * (torch.arange(11) == best[..., None])
        plain = -(p * log_q).sum(-1) * weight
        self.assertTrue(torch.allclose(loss, plain.sum(), atol=1e-5))
        inside = text >= 0
        self.assertTrue(torch.allclose(of_text[inside], log_q.gather(-1, text.clamp(min=0)[..., None])[..., 0][inside], atol=1e-5))
        one, = torch.autograd.grad(loss, state, retain_graph=True)
        two, = torch.autograd.grad(plain.sum(), state)
        self.assertTrue(torch.allclose(one, two, atol=1e-5))

    def test_export_is_read_back(self):
        for kind in ("f16", "q8_0"):
            run("export", self.model, "--out", self.out, "--name", "whole", "--type", kind)
            reader = gguf.GGUFReader(self.out / "whole.gguf")
            key = lambda name: reader.fields[f"{model.PREFIX}.{name}"].contents()
            self.assertEqual(reader.fields["general.architecture"].contents(), model.PREFIX)
            self.assertEqual((key("version"), key("fusion"), key("feature_layers")), (1, "dgf", [1, 2]))
            self.assertEqual(key("target.fingerprint"), targets.load(self.model, torch.device("cpu"), torch.float32)[0].fingerprint)
            self.assertEqual([key(name) for name in ("block_count", "embedding_length", "target.vocabulary")], [1, 64, 260])
            tensors, trained = {t.name: t for t in reader.tensors}, self.checkpoint("whole")
            draft = np.array(tensors.pop("draft_tokens").data)
            self.assertEqual((draft.dtype, len(draft)), (np.int32, 96))
            self.assertTrue((np.diff(draft) > 0).all())
            self.assertEqual(set(tensors), set(trained["weights"]))
            for name, tensor in tensors.items():
                value = trained["weights"][name].numpy()
                self.assertEqual(tensor.tensor_type.name, "F32" if value.ndim == 1 else kind.upper())
                error = np.abs(gguf.dequantize(tensor.data, tensor.tensor_type) - value).max()
                self.assertLess(error, 0.01 * np.abs(value).max())
        parity = json.loads((self.out / "whole.parity.json").read_text())
        self.assertEqual([len(step["tokens"]) for step in parity["steps"]], [8, 8, 8])

    def test_a_drafter_without_taps_is_exported(self):
        run("train", self.model, "--out", self.out, "--name", "final", *TRAIN, "--fusion", "fc", "--taps", "none", "--stop-at", 2)
        run("export", self.model, "--out", self.out, "--name", "final")
        reader = gguf.GGUFReader(self.out / "final.gguf")
        self.assertNotIn(f"{model.PREFIX}.feature_layers", reader.fields)
        self.assertNotIn("features.weight", {t.name for t in reader.tensors})
        told = json.loads((self.out / "final.parity.json").read_text())
        self.assertEqual(len(base64.b64decode(told["features_base64"])), (len(told["tokens"]) - 1) * 64 * 4)

    def test_tokens_of_the_prompt_are_drafted_if_asked_for(self):
        target, _, _ = targets.load(self.model, torch.device("cpu"), torch.float32)
        saved, of = self.checkpoint("whole"), np.load(self.out / "answers.npz")
        judge_of = lambda tokens: evaluate.Judge(model.Drafter(saved["config"]), saved["weights"], target, tokens, torch.float32)
        few, start, end = saved["order"][:40], int(of["starts"][0]), int(of["ends"][0])
        ids = torch.from_numpy(of["ids"][:1].astype(np.int64))
        told = ids, [start], [end], ["qa"]
        masked = evaluate.on_answers(judge_of(torch.arange(260)), *told, static=few)
        both = torch.cat((few, ids[0, :start])).unique()
        self.assertGreater(len(both), 40)
        self.assertEqual(masked, evaluate.on_answers(judge_of(both), *told))

    def test_muon_turns_each_matrix_by_itself(self):
        torch.manual_seed(0)
        start, gradients = torch.randn(3, 6, 4), torch.randn(2, 3, 6, 4)
        def after(which):
            parameters = [start[n].clone().requires_grad_() for n in which]
            optimiser = train.Muon(parameters, 0.1)
            for step in gradients:
                for p, n in zip(parameters, which):
                    p.grad = step[n].clone()
                optimiser.step()
            return dict(zip(which, parameters))
        together = after([0, 1, 2])
        for n in range(3):
            self.assertTrue(torch.allclose(together[n], after([n])[n], atol=1e-6))

    def test_evaluation_agrees_with_drafting_one_round_at_a_time(self):
        run("evaluate", self.model, "--out", self.out, "--name", "whole")
        told = json.loads((self.out / "whole.eval.json").read_text())["answers"]
        self.assertEqual(list(told)[:2], ["chain:3", "chain:5"])
        target, _, _ = targets.load(self.model, torch.device("cpu"), torch.float32)
        saved, of = self.checkpoint("whole"), np.load(self.out / "answers.npz")
        path = self.out / "whole.gguf"
        weights = {n: torch.from_numpy(np.array(gguf.dequantize(t.data, t.tensor_type))) for n, t in
                   ((t.name, t) for t in gguf.GGUFReader(path).tensors) if n != "draft_tokens"} if path.exists() else saved["weights"]
        judge = evaluate.Judge(model.Drafter(saved["config"]), weights, target, saved["draft_tokens"], torch.float32)
        per_category = {}
        for row, start, end, category in zip(of["ids"], of["starts"], of["ends"], of["categories"]):
            ids, root, rounds = torch.from_numpy(row.astype(np.int64))[None], int(start), 0
            while root < end - 1:
                known = ids[:, : root + 1]
                drafted = [g[0, -1, 0].item() for g in judge.drafts(known, judge.feature(known)[:, :-1], 3, own=True)]
                wanted = ids[0, root + 1 : min(root + 4, int(end))].tolist()
                same = next((n for n, (a, b) in enumerate(zip(drafted, wanted)) if a != b), len(wanted))
                root, rounds = root + same + 1, rounds + 1
            tokens = per_category.setdefault(str(category), [0, 0])
            tokens[0], tokens[1] = tokens[0] + int(end) - int(start) - 1, tokens[1] + rounds
        for category, (tokens, rounds) in per_category.items():
            name = "mt-bench" if category in evaluate.MT_BENCH else category
            self.assertAlmostEqual(told["chain:3"][name], tokens / rounds, places=6)
        means = [told[f"tree:{size}"]["mean"] for size in evaluate.TREES]
        self.assertEqual(means, sorted(means))

    def test_tree_ranks_agree_with_a_plain_tree(self):
        target, _, _ = targets.load(self.model, torch.device("cpu"), torch.float32)
        saved, of = self.checkpoint("whole"), np.load(self.out / "answers.npz")
        judge = evaluate.Judge(model.Drafter(saved["config"]), saved["weights"], target, saved["draft_tokens"], torch.float32)
        ids, root = torch.from_numpy(of["ids"][:1].astype(np.int64)), int(of["starts"][0]) + 3
        feature = judge.feature(ids)[:, :-1]
        got = evaluate.tree_ranks(judge, ids, feature, torch.tensor([[root, root + 4]]))[0, 0].tolist()
        # Path probabilities by drafting each path anew, as a chain whose fed tokens are given.
        def log_q(path):
            known = torch.cat((ids[:, : root + 1], torch.tensor([path], dtype=torch.long)), 1)
            fed = iter(known[0, root + 1 :].tolist())
            choose = lambda state: torch.full(state.shape[:2], next(fed))
            states = list(judge.drafter.unroll(judge.weights, target, known[:, : root + 1], feature[:, :root], len(path) + 1, choose))
            return judge.logits(states[-1][0, -1]).log_softmax(-1)
        nodes, frontier = [], [([], 0.0)]
        for depth in range(evaluate.DEPTH):
            children = []
            for path, confidence in frontier:
                gain, token = log_q(path).topk(evaluate.BREADTH)
                children += [(path + [saved["draft_tokens"][t].item()], confidence + g) for g, t in zip(gain.tolist(), token.tolist())]
            nodes += children
            frontier = sorted(children, key=lambda node: -node[1])[: evaluate.BREADTH]
        nodes = [path for path, _ in sorted(nodes, key=lambda node: -node[1])]
        truth = ids[0, root + 1 : root + 1 + evaluate.DEPTH].tolist()
        plain = [nodes.index(truth[: n + 1]) if truth[: n + 1] in nodes else len(nodes) for n in range(len(truth))]
        self.assertEqual([min(rank, len(nodes)) for rank in got[: len(plain)]], plain)

    def test_errors_are_one_line_with_the_next_step(self):
        said = run("train", str(self.out / "none.gguf"), "--out", self.out, fails=True)
        self.assertRegex(said, r"^error: there is no .*; give .*\n$")
        said = run("train", self.model, "--out", self.out / "empty", fails=True)
        self.assertRegex(said, r"^error: .* run `generate` first\n$")
        said = run("evaluate", self.model, "--out", self.out, "--name", "none", fails=True)
        self.assertRegex(said, r"^error: there is no .*; run `train` first\n$")
        said = run("train", self.model, "--out", self.out, "--name", "whole", *TRAIN, "--blocks", 2, fails=True)
        self.assertRegex(said, r"^error: .* another --name or remove it\n$")


def run(*arguments, fails=False):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, HERE / "train_drafter.py", *map(str, arguments)], capture_output=True, text=True, env=environment)
    if (done.returncode != 0) != fails:
        raise AssertionError(f"{arguments}: {done.stdout}{done.stderr}")
    return done.stderr


if __name__ == "__main__":
    unittest.main()
