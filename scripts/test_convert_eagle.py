#!/usr/bin/env python3
"""Tests scripts/convert_eagle.py with made-up checkpoints: what a GGUF file computes is what the checkpoint computes,
both in a few lines from the papers. Run it by hand:

    pip install torch numpy gguf safetensors
    python3 scripts/test_convert_eagle.py
"""
import argparse
import hashlib
import json
import math
import pathlib
import sys
import tempfile
import unittest
import unittest.mock

import environment

if __name__ == "__main__":
    environment.help(__doc__)

import gguf
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import convert_eagle  # noqa: E402
from drafter import files  # noqa: E402

# Of the target that `files.tiny` makes up; heads and feed-forward width of the drafters.
WIDTH, VOCABULARY, HEADS, KV_HEADS, FFN, EPSILON = 64, 260, 4, 2, 96, 1e-5
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
# GGUF names of a block's tensors by those of the checkpoints.
BLOCK = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "post_attention_layernorm": "ffn_norm", "input_layernorm": "attn_norm", "hidden_norm": "attn_norm_2"}


def norm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * weight


def halves(x, angles):
    """x: (heads, positions, size). Element d turns with element d + size/2, as Hugging Face has it."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1)


def pairs(x, angles):
    """Element 2d turns with element 2d + 1, as GGUF's llama and eagle3 have it."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1).flatten(-2)


def block(w, p, x, read, rotate, rates):
    """One Llama block whose attention reads `read`. x: (positions, width)"""
    split = lambda name: F.linear(read, w[f"{p}.self_attn.{name}_proj.weight"]).unflatten(-1, (-1, 2 * len(rates))).transpose(0, 1)
    angles = torch.arange(len(x))[:, None] * rates
    q, k, v = rotate(split("q"), angles), rotate(split("k"), angles), split("v")
    k, v = (t.repeat_interleave(len(q) // len(t), 0) for t in (k, v))
    hidden = torch.ones(len(x), len(x)).triu(1) > 0
    p_attention = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).masked_fill(hidden, -torch.inf).softmax(-1)
    x = x + F.linear((p_attention @ v).transpose(0, 1).flatten(1), w[f"{p}.self_attn.o_proj.weight"])
    h = norm(x, w[f"{p}.post_attention_layernorm.weight"])
    gate, up = (F.linear(h, w[f"{p}.mlp.{name}_proj.weight"]) for name in ("gate", "up"))
    return x + F.linear(F.silu(gate) * up, w[f"{p}.mlp.down_proj.weight"])


def eagle(w, feature, embedded, blocks, rotate, rates):
    """EAGLE-1 and 2: the feature they predict, which the target's head reads without a norm."""
    x = F.linear(torch.cat((embedded, feature), -1), w["fc.weight"], w.get("fc.bias"))
    for n in range(blocks):
        x = block(w, f"layers.{n}", x, norm(x, w[f"layers.{n}.input_layernorm.weight"]) if n else x, rotate, rates)
    return x


def eagle3(w, states, embedded, p, normed, rotate, rates):
    """EAGLE-3: logits of the draft vocabulary."""
    feature = F.linear(states, w["fc.weight"])
    h = norm(feature, w[f"{p}.hidden_norm.weight"])
    read = torch.cat((norm(embedded, w[f"{p}.input_layernorm.weight"]), h), -1)
    x = block(w, p, h if normed else feature, read, rotate, rates)
    return F.linear(norm(x, w["norm.weight"]), w["lm_head.weight"])


class ConvertEagle(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.out = pathlib.Path(cls.temporary.name)
        cls.target = cls.out / "target.gguf"
        files.tiny(argparse.Namespace(model=str(cls.target), seed=1))
        cls.rates = 10000.0 ** (-torch.arange(0, 16, 2) / 16)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def setUp(self):
        torch.manual_seed(7)

    def checkpoint(self, name, tensors, binary=False, **config):
        folder = self.out / name
        folder.mkdir()
        base = {"hidden_size": WIDTH, "intermediate_size": FFN, "num_hidden_layers": 1, "num_attention_heads": HEADS,
                "num_key_value_heads": KV_HEADS, "rms_norm_eps": EPSILON, "vocab_size": VOCABULARY, "rope_scaling": None}
        (folder / "config.json").write_text(json.dumps(base | config))
        if binary:
            torch.save(tensors, folder / "pytorch_model.bin")
        else:
            save_file(tensors, folder / "model.safetensors")
        return folder

    def block_tensors(self, p, attention_width, width=WIDTH):
        shapes = {"self_attn.q_proj": (HEADS * 16, attention_width), "self_attn.k_proj": (KV_HEADS * 16, attention_width),
                  "self_attn.v_proj": (KV_HEADS * 16, attention_width), "self_attn.o_proj": (width, HEADS * 16),
                  "mlp.gate_proj": (FFN, width), "mlp.up_proj": (FFN, width), "mlp.down_proj": (width, FFN)}
        matrices = {f"{p}.{name}.weight": matrix(*shape) for name, shape in shapes.items()}
        return matrices | {f"{p}.post_attention_layernorm.weight": weights(width)}

    def eagle_tensors(self, blocks=1):
        tensors = {"fc.weight": matrix(WIDTH, 2 * WIDTH), "fc.bias": torch.randn(WIDTH), "embed_tokens.weight": matrix(VOCABULARY, WIDTH)}
        for n in range(blocks):
            tensors |= self.block_tensors(f"layers.{n}", WIDTH)
            if n > 0:
                tensors[f"layers.{n}.input_layernorm.weight"] = weights(WIDTH)
        return tensors

    def eagle3_tensors(self, p="midlayer", width=WIDTH, draft=96):
        tensors = self.block_tensors(p, 2 * width, width) | {"fc.weight": matrix(width, 3 * WIDTH), "lm_head.weight": matrix(draft, width)}
        return tensors | {name: weights(width) for name in (f"{p}.hidden_norm.weight", f"{p}.input_layernorm.weight", "norm.weight")}

    def converted(self, folder, *options):
        out = self.out / f"{folder.name}-{len(options)}-dgf.gguf"
        self.assertIsNone(run(folder, self.target, "--out", out, "--type", "f16", *options))
        reader = gguf.GGUFReader(out)
        tensors = {t.name: np.array(t.data) if t.name == "d2t" else torch.tensor(gguf.dequantize(t.data, t.tensor_type)) for t in reader.tensors}
        return {name: field.contents() for name, field in reader.fields.items()}, tensors

    def renamed(self, tensors, prefix):
        """GGUF's tensors by a checkpoint's names; `prefix` is that of block 0."""
        names = {"fuse.weight": "fc.weight", "fuse.bias": "fc.bias", "output.weight": "lm_head.weight", "output_norm.weight": "norm.weight"}
        for n in range(4):
            p = prefix if n == 0 else f"layers.{n}"
            names |= {f"blk.{n}.{ours}.weight": f"{p}.{theirs}.weight" for theirs, ours in BLOCK.items()}
        return {names.get(name, name): tensor for name, tensor in tensors.items()}

    def test_eagle_computes_what_the_checkpoint_computes(self):
        feature, embedded = torch.randn(9, WIDTH), torch.randn(9, WIDTH)
        for name, blocks, binary in (("eagle1", 1, True), ("eagle2", 2, False)):
            theirs = self.eagle_tensors(blocks)
            folder = self.checkpoint(name, theirs, binary, num_hidden_layers=blocks, rope_theta=10000.0)
            keys, ours = self.converted(folder)
            key = lambda name: keys[f"dovetail-dgf.{name}"]
            self.assertEqual((key("version"), key("fusion"), key("block_count")), (1, "eagle", blocks))
            self.assertEqual((key("target.block_count"), key("target.vocabulary"), key("attention.key_length")), (4, VOCABULARY, 16))
            norm = next(t for t in gguf.GGUFReader(self.target).tensors if t.name == "output_norm.weight")
            self.assertEqual(key("target.fingerprint"), hashlib.sha256(norm.data.tobytes()).hexdigest())
            expected = eagle(theirs, feature, embedded, blocks, halves, self.rates)
            found = eagle(self.renamed(ours, "layers.0"), feature, embedded, blocks, pairs, self.rates)
            self.assertLess((found - expected).abs().max(), 0.01)
        # Without a bias the file has one of zeros.
        theirs.pop("fc.bias")
        _, ours = self.converted(self.checkpoint("no-bias", theirs, num_hidden_layers=2))
        self.assertEqual(ours["fuse.bias"].abs().max(), 0)

    def test_eagle3_computes_what_the_checkpoint_computes(self):
        states = torch.randn(9, 3 * WIDTH)
        chosen = torch.randperm(VOCABULARY)[:96].sort().values
        for name, prefix, width, normed in (("eagle3", "midlayer", WIDTH, False), ("apart", "layers.0", 32, True)):
            theirs = self.eagle3_tensors(prefix, width)
            theirs |= {"d2t": chosen - torch.arange(96), "t2d": torch.isin(torch.arange(VOCABULARY), chosen)}
            config = {"draft_vocab_size": 96, "head_dim": 16, "rope_scaling": LLAMA3}
            if normed:
                theirs["embed_tokens.weight"] = matrix(VOCABULARY, width)
                config |= {"target_hidden_size": WIDTH, "hidden_size": width, "norm_before_residual": True}
            keys, ours = self.converted(self.checkpoint(name, theirs, **config), "--taps", "0,1,3")
            key = lambda name: keys[f"eagle3.{name}"]
            self.assertEqual((key("extract_layers"), key("target_hidden_size"), key("embedding_length")), ([0, 1, 3], WIDTH, width))
            self.assertEqual((key("norm_before_residual"), key("vocab_size")), (normed, VOCABULARY))
            self.assertEqual(len(keys["tokenizer.ggml.tokens"]), VOCABULARY)
            self.assertEqual((ours["d2t"].dtype, ours["d2t"].tolist()), (np.int64, chosen.tolist()))
            self.assertEqual("token_embd.weight" in ours, normed)
            # Llama 3.1: slow pairs turn eight times slower, the tensor has the divisors.
            length = 2 * math.pi / self.rates
            smooth = (64 / length - 1) / 3
            rates = torch.where(length > 64, self.rates / 8, torch.where(length < 16, self.rates, (1 - smooth) * self.rates / 8 + smooth * self.rates))
            embedded = torch.randn(9, width)
            expected = eagle3(theirs, states, embedded, prefix, normed, halves, rates)
            found = eagle3(self.renamed(ours, prefix), states, embedded, prefix, normed, pairs, self.rates / ours["rope_freqs.weight"])
            self.assertLess((found - expected).abs().max(), 0.01)

    def test_matrices_are_quantised(self):
        folder, out = self.checkpoint("small", self.eagle_tensors()), self.out / "small.gguf"
        self.assertIsNone(run(folder, self.target, "--out", out))
        types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(out).tensors}
        self.assertEqual({types["fuse.weight"], types["blk.0.attn_q.weight"]}, {"Q8_0"})
        self.assertEqual({types["fuse.bias"], types["blk.0.ffn_norm.weight"]}, {"F32"})

    def test_errors_are_one_line_with_the_next_step(self):
        out = self.out / "none.gguf"
        with_ = lambda **changes: {name: changes.get(name.replace(".", "_"), tensor) for name, tensor in self.eagle_tensors().items()}
        good = self.checkpoint("good", self.eagle_tensors())
        three = lambda name, **config: self.checkpoint(name, self.eagle3_tensors(draft=VOCABULARY), **config)
        bad = self.eagle3_tensors() | {"d2t": torch.full((96,), 400)}
        for folder, target, options, part in (
                (self.out / "nowhere", self.target, [], "give the folder"),
                (good, self.out / "nowhere.gguf", [], "give the target's GGUF file"),
                (self.checkpoint("llama", {"lm_head.weight": matrix(4, 4)}), self.target, [], "no fc.weight"),
                (self.checkpoint("other", self.eagle_tensors(), vocab_size=32000), self.target, [], "32000 tokens"),
                (self.checkpoint("wide", self.eagle_tensors(), hidden_size=128), self.target, [], "128 wide"),
                (self.checkpoint("shape", with_(fc_weight=matrix(WIDTH, WIDTH))), self.target, [], "fc.weight"),
                (self.checkpoint("bias", self.eagle_tensors() | {"layers.0.self_attn.q_proj.bias": weights(64)}), self.target, [], "q_proj.bias"),
                (self.checkpoint("dynamic", self.eagle_tensors(), rope_scaling={"type": "dynamic", "factor": 2}), self.target, [], "dynamic"),
                (three("few"), self.target, [], "give others with --taps"),
                (three("taps", eagle_aux_hidden_state_layer_ids=[1, 2, 9]), self.target, [], "--taps 2,3,10"),
                (three("blocks", num_hidden_layers=2), self.target, ["--taps", "0,1,2"], "of one block"),
                (self.checkpoint("d2t", bad), self.target, ["--taps", "0,1,2"], "d2t"),
                (three("narrow", target_hidden_size=32), self.target, ["--taps", "0,1,2"], "32 wide")):
            said = run(folder, target, "--out", out, *options)
            self.assertRegex(said, r"\Aerror: [^\n]*; [^\n]*\Z")
            self.assertIn(part, said)
            self.assertFalse(out.exists())


def matrix(rows, columns):
    return torch.randn(rows, columns) / math.sqrt(columns)


def weights(width):
    return 1 + torch.randn(width) / 5


def run(*arguments):
    """What it says if it fails."""
    with unittest.mock.patch("sys.argv", ["convert_eagle.py", *map(str, arguments)]):
        try:
            convert_eagle.main()
        except SystemExit as end:
            return end.code


if __name__ == "__main__":
    unittest.main()
