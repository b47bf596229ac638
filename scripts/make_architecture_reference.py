#!/usr/bin/env python3
"""Writes tests/data/architectures/*.json: tiny random models of each architecture, and their logits, for
tests/architectures.rs.

    pip install llama-cpp-python==0.3.36 gguf==0.19.0
    python scripts/make_architecture_reference.py [NAME ...]

A file has the keys and, for each tensor, its shape and what its numbers are drawn from by a hash of its name, so the
test makes the same model. "logits" are those of the last rows by `specification`, in double precision; llama.cpp has to
come near, in one pass and token by token, or the model is not written (GELU, which ggml reads from a table of half
floats, may be further away). The output is the same on every run.
"""

import ctypes
import json
import math
import os
import sys
import tempfile

import environment

if __name__ == "__main__":
    environment.help(__doc__)

import gguf
import llama_cpp as llama
import numpy as np

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "architectures")
VOCAB, CONTEXT, ROWS = 273, 256, 4
TOKENS = [(17 * i * i + 101 * i + 7) % 268 for i in range(40)]


# ---- models


def drawn(model, name, shape, mean, deviation):
    """Numbers of a uniform distribution, from a hash of the names and each number's place."""
    seed = 0xCBF29CE484222325
    for byte in f"{model}/{name}".encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(math.prod(shape), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = (z ^ (z >> np.uint64(31))) >> np.uint64(40)
    unit = 2.0 * (z.astype(np.float64) / 2**24) - 1.0
    return (unit * (deviation * math.sqrt(3.0)) + mean).astype(np.float32).reshape(shape)


class Model:
    """Keys and tensors of one file. Shapes have rows first."""

    def __init__(self, name, arch, width=64, layers=3, heads=4, kv_heads=2, ff=96, head=None, rotated=None,
                 base=5000.0, eps=3e-5):
        self.name, self.arch, self.width, self.layers = name, arch, width, layers
        self.heads, self.kv_heads, self.ff = [heads] * layers, [kv_heads] * layers, [ff] * layers
        self.head = [head or width // heads] * layers
        self.keys, self.tensors = {}, {}
        self.set(context_length=128, embedding_length=width, block_count=layers, feed_forward_length=ff)
        self.set(**{"attention.head_count": heads, "attention.head_count_kv": kv_heads,
                    "attention.layer_norm_rms_epsilon": eps, "rope.dimension_count": rotated or self.head[0],
                    "rope.freq_base": base})
        if head:
            self.set(**{"attention.key_length": head, "attention.value_length": head})

    def set(self, **keys):
        self.keys.update(keys)

    def get(self, key, default=None):
        return self.keys.get(key, default)

    def matrix(self, name, rows, columns, gain=1.0):
        self.tensors[name + ".weight"] = ([rows, columns], 0.0, gain / math.sqrt(columns))

    def norm(self, name, n):
        self.tensors[name + ".weight"] = ([n], 1.0, 0.25)

    def bias(self, name, n):
        self.tensors[name + ".bias"] = ([n], 0.0, 0.3)

    def values(self, name, values):
        self.tensors[name] = ([len(values)], [float(np.float32(x)) for x in values], None)

    def numbers(self, name):
        shape, mean, deviation = self.tensors[name]
        if deviation is None:
            return np.array(mean, np.float32)
        return drawn(self.name, name, shape, mean, deviation)

    def ends(self, tied=False):
        self.matrix("token_embd", VOCAB, self.width, math.sqrt(self.width) if not tied else 1.5)
        self.norm("output_norm", self.width)
        if not tied:
            self.matrix("output", VOCAB, self.width, 1.5)
        return self

    def blocks(self, norms=("attn_norm", "ffn_norm"), biases=(), fused_qkv=False, fused_up=False, qk=None, gate=False):
        for i in range(self.layers):
            at, head, ff = f"blk.{i}.", self.head[i], self.ff[i]
            q, kv = self.heads[i] * head, self.kv_heads[i] * head
            for norm in norms:
                self.norm(at + norm, self.width)
            if fused_qkv:
                self.matrix(at + "attn_qkv", q + 2 * kv, self.width, 1.3)
            else:
                for part, rows, gain in (("q", q, 1.4), ("k", kv, 1.4), ("v", kv, 1.0)):
                    self.matrix(at + "attn_" + part, rows, self.width, gain)
            if gate:
                self.matrix(at + "attn_gate", q, self.width)
            self.matrix(at + "attn_output", self.width, q)
            if not fused_up:
                self.matrix(at + "ffn_gate", ff, self.width, 1.3)
            self.matrix(at + "ffn_up", ff * (2 if fused_up else 1), self.width, 1.3)
            self.matrix(at + "ffn_down", self.width, ff, 1.5)
            if qk:
                self.norm(at + "attn_q_norm", head if qk == "heads" else q)
                self.norm(at + "attn_k_norm", head if qk == "heads" else kv)
            for part in biases:
                self.bias(at + part, self.tensors[at + part + ".weight"][0][0])
        return self

    def write(self, path):
        writer = gguf.GGUFWriter(path, self.arch)
        for key, value in self.keys.items():
            key = f"{self.arch}.{key}"
            add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string,
                   list: writer.add_array}[type(value)]
            add(key, value)
        letters = [chr(byte) if 33 <= byte < 127 else chr(256 + byte) for byte in range(256)]
        writer.add_string("tokenizer.ggml.model", "gpt2")
        writer.add_string("tokenizer.ggml.pre", "gpt-2")
        writer.add_array("tokenizer.ggml.tokens", letters + [f"<{i}>" for i in range(256, VOCAB)])
        writer.add_array("tokenizer.ggml.token_type", [1] * 256 + [3] * (VOCAB - 256))
        writer.add_array("tokenizer.ggml.merges", ["a b"])
        for name in self.tensors:
            writer.add_tensor(name, self.numbers(name))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


QKV = ("attn_q", "attn_k", "attn_v")
FOUR_NORMS = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
NORMS_BEHIND = ("post_attention_norm", "post_ffw_norm")
WINDOW = {"attention.sliding_window": 12}
YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 8.0, "rope.scaling.original_context_length": 256}


def models():
    def make(name, arch=None, tied=False, keys=None, sizes=None, **blocks):
        model = Model(name, arch or name, **(sizes or {})).ends(tied).blocks(**blocks)
        model.set(**(keys or {}))
        return model

    odd = {"head": 24}
    large = {"width": 32, "heads": 2, "kv_heads": 1, "ff": 64, "head": 32}
    yield make("llama", sizes=odd)
    everywhere = (*QKV, "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    yield make("llama-biases", "llama", biases=everywhere,
               keys={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0})
    yield make("llama-longrope", "llama", keys={"rope.scaling.type": "longrope", "rope.scaling.factor": 4.0})
    yield make("llama-yarn", "llama", keys={**YARN, "rope.scaling.attn_factor": 1.2})
    freqs = make("llama-freqs", "llama", tied=True)
    freqs.values("rope_freqs.weight", np.geomspace(1.0, 8.0, freqs.head[0] // 2))
    yield freqs
    yield make("internlm2")
    yield make("ernie4_5", tied=True)
    yield make("exaone")
    yield make("xverse")
    yield make("baichuan", sizes={**large, "head": None, "layers": 32})
    yield make("chatglm", fused_qkv=True, fused_up=True, biases=("attn_qkv",), sizes={"rotated": 8})
    yield make("maincoder", tied=True, qk="heads")
    yield make("pangu-embedded", tied=True, biases=(*QKV, "attn_output"))
    openelm = Model("openelm", "openelm")
    openelm.heads, openelm.kv_heads, openelm.ff = [2, 4, 4], [1, 2, 1], [96, 64, 160]
    openelm.set(**{"attention.head_count": openelm.heads, "attention.head_count_kv": openelm.kv_heads,
                   "feed_forward_length": openelm.ff, "attention.key_length": 16, "attention.value_length": 16})
    yield openelm.ends(True).blocks(fused_qkv=True, qk="heads")
    yield make("qwen2", tied=True, biases=QKV)
    yield make("qwen3", tied=True, qk="heads", sizes=odd)
    yield make("qwen3vl", tied=True, qk="heads", keys={"rope.dimension_sections": [3, 3, 2, 0], "n_deepstack_layers": 2})
    yield make("seed_oss", norms=("attn_norm", "post_attention_norm"), biases=QKV, sizes=odd)
    yield make("glm4", norms=FOUR_NORMS, biases=QKV, fused_up=True, sizes={"head": 24, "rotated": 12})
    yield make("smollm3", tied=True, sizes={"layers": 5})
    scales = {"embedding_scale": 5.0, "residual_scale": 0.6, "logit_scale": 0.6}
    granite = {**scales, "attention.scale": 0.1}
    yield make("granite", tied=True, keys=granite)
    yield make("granite-nope", "granite", tied=True, keys={**granite, "rope.scaling.finetuned": False})
    yield make("minicpm", tied=True, keys=scales)
    yield make("minicpm-first", "minicpm", tied=True, keys={"logit_scale": 0.6})
    yield make("mistral3", sizes={"head": 24, "base": 100.0}, keys={
        "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 16,
        "rope.scaling.yarn_beta_fast": 1.5, "rope.scaling.yarn_beta_slow": 0.25,
        "rope.scaling.yarn_log_multiplier": 0.5, "attention.temperature_scale": 0.3})
    for name, original in (("phi3", 32), ("phi3-short", 4096)):
        phi3 = make(name, "phi3", tied=True, fused_qkv=True, fused_up=True, sizes={"rotated": 12}, keys={
            **WINDOW, "rope.scaling.original_context_length": original, "rope.scaling.attn_factor": 1.19})
        phi3.values("rope_factors_long.weight", np.geomspace(1.0, 20.0, 6))
        phi3.values("rope_factors_short.weight", np.linspace(1.0, 1.6, 6))
        yield phi3
    yield make("hunyuan-dense", tied=True, qk="heads", keys={"rope.scaling.alpha": 50.0}, sizes=odd)
    yield make("gemma", tied=True, sizes=odd)
    caps = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
    yield make("gemma2", tied=True, norms=FOUR_NORMS, keys={**WINDOW, **caps}, sizes={"layers": 4, "head": 24})
    yield make("gemma2-27b", "gemma2", tied=True, norms=FOUR_NORMS, keys=WINDOW, sizes={**large, "layers": 46})
    yield make("gemma3", tied=True, norms=FOUR_NORMS, qk="heads", sizes={"layers": 7, "head": 24, "base": 1e6}, keys={
        **WINDOW, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0})
    yield make("gemma3-27b", "gemma3", tied=True, norms=FOUR_NORMS, qk="heads", keys={
        **WINDOW, "rope.freq_base_swa": 500.0}, sizes={**large, "layers": 62, "base": 1e6})
    yield make("olmo2", norms=NORMS_BEHIND, qk="rows")
    yield make("olmo3", "olmo2", norms=NORMS_BEHIND, qk="rows", sizes={"layers": 5}, keys={
        **WINDOW, **YARN, "rope.scaling.attn_factor": 1.1})
    yield make("exaone4", norms=NORMS_BEHIND, qk="heads")
    yield make("exaone4-32b", "exaone4", norms=NORMS_BEHIND, qk="heads", keys=WINDOW, sizes={"layers": 64})
    yield make("muse-glimmer", norms=FOUR_NORMS, qk="heads", gate=True, keys={
        **WINDOW, "attention.sliding_window_pattern": [True, False, True, True, False], "logit_scale": 0.7,
        "final_logit_softcapping": 2.0}, sizes={"layers": 5, "head": 24, "eps": 0.05})
    yield gemma4("gemma4", 7, kv_heads=[2, 2, 2, 2, 2, 1, 2])
    yield gemma4("gemma4-e2b", 8, kv_heads=[1] * 8, shared=4, ff=[96] * 4 + [160] * 4, embeddings=16)
    lists = Model("llama-lists", "llama")
    lists.set(**{"attention.head_count": lists.heads, "attention.head_count_kv": lists.kv_heads,
                 "feed_forward_length": lists.ff})
    yield lists.ends().blocks()
    cohere2 = make("cohere2", tied=True, norms=("attn_norm",), keys={**WINDOW, "logit_scale": 0.6}, sizes={"layers": 5})
    del cohere2.keys["attention.layer_norm_rms_epsilon"]
    cohere2.set(**{"attention.layer_norm_epsilon": 1e-4})
    yield cohere2


def gemma4(name, layers, kv_heads, shared=0, ff=None, embeddings=0):
    """Every fourth block sees all, with wider heads, of which half of the pairs turn. With `shared` blocks at the end
    that have no keys and values, or with `embeddings` for each block."""
    m = Model(name, "gemma4", layers=layers, heads=2, base=1e6)
    windowed = [(i + 1) % 4 != 0 for i in range(layers)]
    m.kv_heads, m.ff, m.head = kv_heads, ff or m.ff, [24 if window else 48 for window in windowed]
    m.set(**WINDOW, **{
        "attention.key_length": 48, "attention.value_length": 48, "attention.key_length_swa": 24,
        "attention.value_length_swa": 24, "rope.dimension_count": 48, "rope.dimension_count_swa": 24,
        "rope.freq_base_swa": 500.0, "attention.sliding_window_pattern": windowed, "final_logit_softcapping": 3.0,
        "attention.head_count_kv": kv_heads, "feed_forward_length": m.ff})
    m.set(embedding_length_per_layer_input=embeddings)
    if shared:
        m.set(**{"attention.shared_kv_layers": shared})
    m.ends(True).blocks(norms=FOUR_NORMS, qk="heads")
    m.values("rope_freqs.weight", [1.0] * 12 + [1e30] * 12)
    for i in range(layers):
        at = f"blk.{i}."
        m.values(at + "layer_output_scale.weight", [0.8 + 0.1 * i])
        for part in ("attn_k.weight", "attn_v.weight", "attn_k_norm.weight"):
            if i >= layers - shared or part == "attn_v.weight" and not windowed[i] and not shared:
                del m.tensors[at + part]
        if embeddings:
            m.matrix(at + "inp_gate", embeddings, m.width, 1.3)
            m.matrix(at + "proj", m.width, embeddings)
            m.norm(at + "post_norm", m.width)
    if embeddings:
        m.matrix("per_layer_token_embd", VOCAB, embeddings * layers, math.sqrt(layers))
        m.matrix("per_layer_model_proj", embeddings * layers, m.width, math.sqrt(m.width))
        m.norm("per_layer_proj_norm", embeddings)
    return m


# ---- what llama.cpp does, as formulas

HALVES = {"qwen2", "qwen3", "qwen3vl", "gemma", "gemma2", "gemma3", "gemma4", "phi3", "olmo2", "seed_oss", "hunyuan-dense", "exaone",
          "exaone4", "openelm", "pangu-embedded"}
WINDOW_PERIODS = {"gemma2": 2, "gemma3": 6, "olmo2": 4, "cohere2": 4, "muse-glimmer": 4, "exaone4": 4}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def rms(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def layer_norm(x, weight, eps):
    return rms(x - x.mean(-1, keepdims=True), weight, eps)


def turned(x, angles, halves, factor):
    """x: (rows, heads, head); angles: (rows, pairs)."""
    n = angles.shape[1]
    a, b = (slice(0, n), slice(n, 2 * n)) if halves else (slice(0, 2 * n, 2), slice(1, 2 * n, 2))
    cos, sin, out = np.cos(angles)[:, None] * factor, np.sin(angles)[:, None] * factor, x.copy()
    out[..., a] = x[..., a] * cos - x[..., b] * sin
    out[..., b] = x[..., a] * sin + x[..., b] * cos
    return out


class Rotation:
    """Radians a position of each pair, for blocks that see all and for those with a window."""

    def __init__(self, m, tensors):
        get, n, n_rotated = m.get, m.get("rope.dimension_count") // 2, m.get("rope.dimension_count")
        base = get("rope.freq_base")
        if get("rope.scaling.alpha"):
            base *= get("rope.scaling.alpha") ** (n_rotated / (n_rotated - 2))
        plain = lambda base, n=n: base ** (-np.arange(n) / n)
        self.full, self.factor = plain(base), get("rope.scaling.attn_factor", 1.0)
        factor = get("rope.scaling.factor", 1.0)
        if get("rope.scaling.type") == "yarn":
            fast, slow = get("rope.scaling.yarn_beta_fast", 32.0), get("rope.scaling.yarn_beta_slow", 1.0)
            original = get("rope.scaling.original_context_length")
            pair = lambda turns: n_rotated * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))
            low, high = max(0.0, math.floor(pair(fast))), min(n_rotated - 1.0, math.ceil(pair(slow)))
            kept = 1 - np.clip((np.arange(n) - low) / max(0.001, high - low), 0, 1)
            self.full = self.full * kept + self.full / factor * (1 - kept)
            grown = lambda times: 0.1 * times * math.log(factor) + 1
            self.factor *= grown(1) / grown(get("rope.scaling.yarn_log_multiplier", 0.0))
        else:
            self.full = self.full / factor
        if "rope_factors_long.weight" in tensors:
            which = "long" if CONTEXT > get("rope.scaling.original_context_length") else "short"
            self.full = self.full / tensors[f"rope_factors_{which}.weight"]
        if "rope_freqs.weight" in tensors:
            self.full = self.full / tensors["rope_freqs.weight"]
        self.windowed, self.windowed_factor = self.full, self.factor
        if m.arch == "gemma4":
            self.windowed = plain(get("rope.freq_base_swa"), get("rope.dimension_count_swa") // 2)
        if m.arch in ("gemma3", "olmo2"):
            swa = get("rope.freq_base_swa", 10000.0) if m.arch == "gemma3" else base
            self.windowed, self.windowed_factor = plain(swa), 1.0

    def of(self, m, i, window):
        """Frequencies and factor of block `i`; None where it embeds no positions."""
        nowhere = m.arch == "granite" and m.get("rope.scaling.finetuned") is False
        nowhere |= m.arch == "smollm3" and (i + 1) % 4 == 0
        nowhere |= m.arch in ("cohere2", "muse-glimmer") and not window
        nowhere |= m.name == "exaone4-32b" and not window
        if nowhere:
            return None
        return (self.windowed, self.windowed_factor) if window else (self.full, self.factor)


def specification(m, tokens):
    """Logits of every row."""
    t = {name: m.numbers(name).astype(np.float64) for name in m.tensors}
    get, arch, n = m.get, m.arch, len(tokens)
    positions = np.arange(n, dtype=np.float64)
    eps = get("attention.layer_norm_epsilon") or get("attention.layer_norm_rms_epsilon")
    normed = layer_norm if arch == "cohere2" else rms
    post_eps = 1e-8 if arch == "muse-glimmer" else eps
    rotation = Rotation(m, t)
    width = 0 if arch == "phi3" else get("attention.sliding_window", 0)
    period = WINDOW_PERIODS.get(arch, 1)
    pattern = get("attention.sliding_window_pattern") or [(i + 1) % period != 0 for i in range(m.layers)]
    activation = gelu if arch.startswith("gemma") else silu

    def linear(x, name):
        return x @ t[name + ".weight"].T + t.get(name + ".bias", 0.0)

    def attention(x, i):
        at, h, kv, hd = f"blk.{i}.", m.heads[i], m.kv_heads[i], m.head[i]
        if at + "attn_qkv.weight" in t:
            q, k, v = np.split(linear(x, at + "attn_qkv"), [h * hd, (h + kv) * hd], 1)
        elif at + "attn_k.weight" in t:
            q, k = (linear(x, at + part) for part in ("attn_q", "attn_k"))
            v = linear(x, at + "attn_v") if at + "attn_v.weight" in t else k
        else:
            q, k, v = linear(x, at + "attn_q"), np.zeros((n, kv * hd)), np.zeros((n, kv * hd))
        norms = [t.get(at + f"attn_{part}_norm.weight", 1.0) for part in "qk"] if at + "attn_q_norm.weight" in t else None
        if norms and arch == "olmo2":
            q, k, norms = rms(q, norms[0], eps), rms(k, norms[1], eps), None
        q, k, v = q.reshape(n, h, hd), k.reshape(n, kv, hd), v.reshape(n, kv, hd)
        if arch == "gemma4":
            v = rms(v, 1.0, eps)
        late = arch in ("hunyuan-dense", "maincoder")
        if norms and not late:
            q, k = rms(q, norms[0], eps), rms(k, norms[1], eps)
        window = width if width and pattern[i] else 0
        of = rotation.of(m, i, window)
        if of:
            q, k = (turned(x, positions[:, None] * of[0], arch in HALVES, of[1]) for x in (q, k))
        if norms and late:
            q, k = rms(q, norms[0], eps), rms(k, norms[1], eps)
        scale = hd**-0.5
        if (arch, m.layers) in (("gemma2", 46), ("gemma3", 62)):
            scale = (m.width // h) ** -0.5
        if arch == "granite":
            scale = get("attention.scale")
        if arch == "gemma4":
            scale = 1.0
        grown = np.ones(n)
        if get("attention.temperature_scale"):
            original = get("rope.scaling.original_context_length")
            grown = 1 + get("attention.temperature_scale") * np.log(np.floor(positions / original) + 1)
        if at + "attn_k.weight" in t or at + "attn_qkv.weight" in t:
            caches[bool(window)] = (k, v)
        k, v = (np.repeat(x, h // kv, 1) for x in caches[bool(window)])
        scores = np.einsum("qhd,khd->hqk", q * grown[:, None, None], k) * scale
        if arch == "gemma2":
            cap = get("attn_logit_softcapping", 50.0)
            scores = cap * np.tanh(scores / cap)
        distance = positions[:, None] - positions[None]
        hidden = (distance < 0) | ((distance >= window) if window else False)
        weights = np.exp(np.where(hidden, -np.inf, scores))
        weights /= weights.sum(-1, keepdims=True)
        out = np.einsum("hqk,khd->qhd", weights, v).reshape(n, -1)
        if at + "attn_gate.weight" in t:
            out = out * sigmoid(linear(x, at + "attn_gate"))
        return linear(out, at + "attn_output")

    def feed_forward(x, i):
        at = f"blk.{i}.ffn_"
        if at + "gate.weight" in t:
            return linear(activation(linear(x, at + "gate")) * linear(x, at + "up"), at + "down")
        gate, up = np.split(linear(x, at + "up"), 2, 1)
        return linear(activation(gate) * up, at + "down")

    def with_embeddings(x, i):
        at = f"blk.{i}."
        if at + "inp_gate.weight" in t:
            y = linear(gelu(linear(x, at + "inp_gate")) * embeddings[:, i], at + "proj")
            x = x + rms(y, t[at + "post_norm.weight"], eps)
        return x * t.get(at + "layer_output_scale.weight", 1.0)

    def block(x, i):
        norm = lambda x, name, eps: normed(x, t[name], eps) if (name := f"blk.{i}.{name}.weight") in t else x
        scale = get("residual_scale", 1.4 / math.sqrt(m.layers) if arch == "minicpm" else 1.0)
        y = norm(x, "attn_norm", eps)
        if arch == "cohere2":
            return x + attention(y, i) + feed_forward(y, i)
        y = attention(y, i)
        before = "post_attention_norm" if arch == "seed_oss" else "ffn_norm"
        if arch != "seed_oss":
            y = norm(y, "post_attention_norm", post_eps)
        x = x + scale * y
        return x + scale * norm(feed_forward(norm(x, before, eps), i), "post_ffw_norm", post_eps)

    x = t["token_embd.weight"][tokens]
    if arch.startswith("gemma"):
        x = x * math.sqrt(m.width)
    if arch == "muse-glimmer":
        x = rms(x, 1.0, eps)
    x = x * get("embedding_scale", 12.0 if arch == "minicpm" else 1.0)
    if get("embedding_length_per_layer_input"):
        shape = (n, m.layers, get("embedding_length_per_layer_input"))
        projected = linear(x, "per_layer_model_proj").reshape(shape) / math.sqrt(m.width)
        own = t["per_layer_token_embd.weight"][tokens].reshape(shape) * math.sqrt(shape[2])
        embeddings = (rms(projected, t["per_layer_proj_norm.weight"], eps) + own) / math.sqrt(2)
    caches = {}
    for i in range(m.layers):
        x = with_embeddings(block(x, i), i)
    head = t.get("output.weight", t["token_embd.weight"])
    logits = normed(x, t["output_norm.weight"], eps) @ head.T
    scale = get("logit_scale", 1.0)
    logits = logits / scale if arch in ("granite", "minicpm") else logits * scale
    cap = get("final_logit_softcapping", 30.0 if arch == "gemma2" else 0.0)
    return cap * np.tanh(logits / cap) if cap else logits


# ---- llama.cpp itself


def by_llama_cpp(path, tokens, chunks):
    """Logits of every row, with a cache of F32 and without flash attention."""
    params = llama.llama_model_default_params()
    params.n_gpu_layers, params.use_extra_bufts = 0, False
    model = llama.llama_model_load_from_file(path.encode(), params)
    assert model, f"llama.cpp does not load {path}"
    params = llama.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = CONTEXT
    params.n_threads = params.n_threads_batch = 1
    params.flash_attn_type = params.type_k = params.type_v = 0
    context, rows, first = llama.llama_init_from_model(model, params), [], 0
    for n in chunks:
        batch = llama.llama_batch_init(n, 0, 1)
        batch.n_tokens = n
        for k in range(n):
            batch.token[k], batch.pos[k], batch.n_seq_id[k], batch.logits[k] = tokens[first + k], first + k, 1, 1
            batch.seq_id[k][0] = 0
        assert llama.llama_decode(context, batch) == 0
        rows += [np.ctypeslib.as_array(llama.llama_get_logits_ith(context, k), (VOCAB,)).copy() for k in range(n)]
        llama.llama_batch_free(batch)
        first += n
    llama.llama_free(context)
    llama.llama_model_free(model)
    return np.stack(rows)


def main():
    os.makedirs(DATA, exist_ok=True)
    quiet = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(quiet, ctypes.c_void_p(0))
    llama.llama_backend_init()
    wrong = 0
    for model in models():
        if sys.argv[1:] and model.name not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.gguf")
            model.write(path)
            whole = by_llama_cpp(path, TOKENS, [len(TOKENS)])
            steps = by_llama_cpp(path, TOKENS, [1] * len(TOKENS))
        exact = specification(model, TOKENS)
        largest = np.abs(exact).max()
        far = max(np.abs(exact - whole).max(), np.abs(exact - steps).max()) / largest
        allowed = 3e-2 if model.arch.startswith("gemma") else 2e-5
        print(f"{model.name:16} largest logit {largest:5.2f}, llama.cpp {far:.1e} away"
              f"{'' if far < allowed else '   WRONG'}", flush=True)
        if far >= allowed:
            wrong += 1
            continue
        rounded = lambda rows: [[float(f"{x:.7g}") for x in row] for row in rows[-ROWS:]]
        tensors = [[name, *spec] for name, spec in model.tensors.items()]
        out = {"name": model.name, "architecture": model.arch, "keys": model.keys, "tensors": tensors, "tokens": TOKENS,
               "logits": rounded(exact)}
        with open(os.path.join(DATA, model.name + ".json"), "w") as file:
            json.dump(out, file, separators=(",", ":"))
            file.write("\n")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
