"""The target: a Llama read from a GGUF file or a safetensors folder, its tokenizer and its chat turns.

Every matrix is held as (outputs, inputs). Queries and keys are rotated in adjacent pairs, as GGUF's llama
has it; a folder's halves are permuted on the way in.
"""
import hashlib
import json
import os
import sys
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

# How a tokenizer named in `tokenizer.ggml.pre` splits text before merging: digits one by one or not, and
# a pattern, None standing for GPT-2's.
LLAMA_BPE = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{%s}| ?[^\s\p{L}\p{N}]+[\r\n]*"
             r"|\s*[\r\n]+|\s+(?!\S)|\s+")
PRE_TOKENIZERS = {"smollm": (True, None), "gpt-2": (False, None), "llama-bpe": (False, LLAMA_BPE % "1,3"),
                  "qwen2": (False, LLAMA_BPE % "1")}
CONTROL = 3


def fingerprint(norm):
    """Of the target with this last norm, as docs/drafter-format.md has it."""
    return hashlib.sha256(norm.astype("<f4").tobytes()).hexdigest()


def fail(message):
    sys.exit(f"error: {message}")


@dataclass
class Shape:
    vocabulary: int
    width: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    rope_dims: int
    theta: float
    epsilon: float


def compiled(function):
    """The function with its many small operations fused, anew for each shape of its arguments."""
    return torch.compile(function, dynamic=False)


def rms_norm(x, weight, epsilon):
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return wide.to(x.dtype) * weight.to(x.dtype)


def rotate(x, cos, sin):
    """Rotary position embedding in adjacent pairs. x: (…, positions, head_size), cos: (positions, head_size/2)."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


def split_heads(x, head_size):
    """(batch, positions, heads · head_size) → (batch, heads, positions, head_size)"""
    return x.unflatten(-1, (-1, head_size)).transpose(1, 2)


def target_layer(x, w, cos, sin, shape):
    """One pre-norm block over whole sequences. x: (batch, positions, width)"""
    query, key_value = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    h = F.linear(rms_norm(x, w["attn_norm"], shape.epsilon), w["qkv"])
    q, k, v = (split_heads(part, shape.head_size) for part in h.split((query, key_value, key_value), -1))
    out = F.scaled_dot_product_attention(
        rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True, enable_gqa=True)
    x = x + F.linear(out.transpose(1, 2).flatten(-2), w["attn_output"])
    gate, up = F.linear(rms_norm(x, w["ffn_norm"], shape.epsilon), w["gate_up"]).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, w["ffn_down"])


class Target:
    def __init__(self, shape, tensors, device, dtype, rope_factors=None):
        """`tensors` has GGUF's names."""
        self.shape, self.device, self.dtype = shape, device, dtype
        self.fingerprint = fingerprint(tensors["output_norm.weight"])

        def take(*names):
            parts = [torch.from_numpy(np.array(tensors[name], np.float32)) for name in names]
            return torch.cat(parts).to(device, dtype)

        self.embedding = take("token_embd.weight")
        tied = "output.weight" not in tensors
        self.head = self.embedding if tied else take("output.weight")
        self.output_norm = take("output_norm.weight")
        self.layers = []
        for n in range(shape.layers):
            p = f"blk.{n}."
            self.layers.append({
                "attn_norm": take(p + "attn_norm.weight"), "ffn_norm": take(p + "ffn_norm.weight"),
                "qkv": take(p + "attn_q.weight", p + "attn_k.weight", p + "attn_v.weight"),
                "attn_output": take(p + "attn_output.weight"), "ffn_down": take(p + "ffn_down.weight"),
                "gate_up": take(p + "ffn_gate.weight", p + "ffn_up.weight")})
        # Pairs past rope_dims are turned by nothing.
        rates = torch.zeros(shape.head_size // 2, dtype=torch.float64)
        rates[: shape.rope_dims // 2] = shape.theta ** (-torch.arange(0, shape.rope_dims, 2) / shape.rope_dims)
        if rope_factors is not None:
            rates[: len(rope_factors)] /= torch.from_numpy(np.array(rope_factors, np.float64))
        self.rope_factors, self.rates, self.ropes = rope_factors, rates, {}
        self.layer, self.checked = target_layer, False

    def rope(self, first, count):
        """cos and sin of positions first … first + count − 1, each (count, head_size/2)"""
        if (first, count) not in self.ropes:
            angles = torch.arange(first, first + count, dtype=torch.float64)[:, None] * self.rates
            self.ropes[first, count] = angles.cos().float().to(self.device), angles.sin().float().to(self.device)
        return self.ropes[first, count]

    @torch.no_grad()
    def forward(self, ids, taps=()):
        """ids: (batch, positions). The hidden state after the final norm, (batch, positions, width), and
        the states that enter the layers `taps`, (batch, positions, taps, width) or None."""
        x, tapped = F.embedding(ids, self.embedding), {}
        cos, sin = self.rope(0, ids.shape[1])
        for n, w in enumerate(self.layers):
            if n in taps:
                tapped[n] = x
            x = self.layer(x, w, cos, sin, self.shape)
        final = rms_norm(x, self.output_norm, self.shape.epsilon)
        if not self.checked and not torch.isfinite(final).all():
            fail(f"the target overflows {self.dtype}; give --target-dtype bfloat16")
        self.checked = True
        return final, torch.stack([tapped[n] for n in taps], 2) if taps else None


def load(path, device, dtype):
    """A Target, its tokenizer and its Chat."""
    if not os.path.exists(path):
        fail(f"there is no {path}; give a GGUF file or a folder with config.json and *.safetensors")
    return load_folder(path, device, dtype) if os.path.isdir(path) else load_gguf(path, device, dtype)


def load_gguf(path, device, dtype):
    import gguf
    try:
        reader = gguf.GGUFReader(path)
    except (OSError, ValueError) as error:
        fail(f"cannot read {path} as GGUF: {error}; give a GGUF file")
    key = lambda name, default=None: reader.fields[name].contents() if name in reader.fields else default
    architecture = key("general.architecture")
    if architecture != "llama":
        fail(f"{path} is of the architecture {architecture}; take one of llama")
    if key("tokenizer.ggml.model") != "gpt2" or key("tokenizer.ggml.pre") not in PRE_TOKENIZERS:
        fail(f"the tokenizer {key('tokenizer.ggml.model')}/{key('tokenizer.ggml.pre')} of {path} is not known; "
             "take the model's safetensors folder, whose tokenizer.json is read")
    tensors = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    width, heads = key("llama.embedding_length"), key("llama.attention.head_count")
    head_size = key("llama.attention.key_length", width // heads)
    shape = Shape(
        len(tensors["token_embd.weight"]), width, key("llama.feed_forward_length"), key("llama.block_count"), heads,
        key("llama.attention.head_count_kv", heads), head_size, key("llama.rope.dimension_count", head_size),
        key("llama.rope.freq_base", 10000.0), key("llama.attention.layer_norm_rms_epsilon"))
    names = key("tokenizer.ggml.tokens")
    control = [name for name, kind in zip(names, key("tokenizer.ggml.token_type")) if kind == CONTROL]
    tokenizer = byte_level_bpe(names, key("tokenizer.ggml.merges"), control, key("tokenizer.ggml.pre"))
    named = lambda which: names[key(f"tokenizer.ggml.{which}_token_id", 0)]
    chat = Chat(tokenizer, key("tokenizer.chat_template", ""), named("bos"), named("eos"))
    return Target(shape, tensors, device, dtype, tensors.get("rope_freqs.weight")), tokenizer, chat


def load_folder(path, device, dtype):
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    try:
        read = lambda name: json.load(open(os.path.join(path, name), encoding="utf-8"))
        config, told = read("config.json"), read("tokenizer_config.json")
        tokenizer = Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
    except (OSError, ValueError) as error:
        fail(f"cannot read the model in {path}: {error}; give a folder as transformers saves it")
    if config.get("model_type") != "llama" or config.get("rope_scaling"):
        fail(f"{path} is no plain llama; convert it to GGUF with llama.cpp and give that")
    width, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads, head_size = config.get("num_key_value_heads", heads), config.get("head_dim") or width // heads
    shape = Shape(config["vocab_size"], width, config["intermediate_size"], config["num_hidden_layers"], heads,
                  kv_heads, head_size, head_size, config.get("rope_theta", 10000.0), config["rms_norm_eps"])
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
             "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
             "model.layers": "blk"}
    tensors = {}
    for file in sorted(name for name in os.listdir(path) if name.endswith(".safetensors")):
        for name, tensor in load_file(os.path.join(path, file)).items():
            tensor = tensor.float()
            for theirs, ours in names.items():
                name = name.replace(theirs, ours)
            if "attn_q" in name or "attn_k" in name:
                tensor = tensor.unflatten(0, (-1, 2, head_size // 2)).transpose(1, 2).flatten(0, 2)
            tensors[name] = tensor.numpy()
    text = lambda value: value["content"] if isinstance(value, dict) else value or ""
    chat = Chat(tokenizer, told.get("chat_template", ""), text(told.get("bos_token")), text(told.get("eos_token")))
    return Target(shape, tensors, device, dtype), tokenizer, chat


def byte_level_bpe(names, merges, control, pre):
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    tokenizer = Tokenizer(models.BPE(
        vocab={name: n for n, name in enumerate(names)}, merges=[tuple(merge.split(" ")) for merge in merges]))
    digits, pattern = PRE_TOKENIZERS[pre]
    steps = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    if pattern:
        steps.append(pre_tokenizers.Split(Regex(pattern), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in control])
    return tokenizer


class Chat:
    """The template's fixed text, found by filling it with marks: before the first user turn, from a user's
    end to the answer, and from an answer's end to the next user turn. All as token ids."""

    def __init__(self, tokenizer, template, bos, eos):
        import jinja2.sandbox
        if not template:
            fail("the model has no chat template; take an instruct model, which has one")
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["strftime_now"] = lambda form: "1 Jan 2025"
        turns = [{"role": role, "content": f"@{n}@"} for n, role in enumerate(("user", "assistant", "user"))]
        text = environment.from_string(template).render(
            messages=turns, add_generation_prompt=True, bos_token=bos, eos_token=eos)
        before, rest = text.split("@0@")
        to_answer, rest = rest.split("@1@")
        to_user, _ = rest.split("@2@")
        self.encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
        self.before, self.to_answer, self.to_user = map(self.encode, (before, to_answer, to_user))
        # The first token of what follows a turn is what ends it.
        self.user_end, self.answer_end = self.to_answer[0], self.to_user[0]
        stops = (tokenizer.token_to_id(name) for name in (eos, "<|endoftext|>", "</s>"))
        self.stops = [stop for stop in stops if stop is not None]
        self.parts = before, to_answer

    def prompt(self, user):
        return self.encode(self.parts[0] + user + self.parts[1])
