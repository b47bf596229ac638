"""The files a drafter is kept in: its checkpoint, the GGUF of docs/drafter-format.md, and what to compare with."""
import base64
import json
import math
import os

import numpy as np
import torch
import torch.nn.functional as F

from . import evaluate, model, target as targets
from .target import fail

VERSION = 1


def read_checkpoint(path, device="cpu"):
    if not os.path.exists(path):
        fail(f"there is no {path}; run `train` first")
    return torch.load(path, map_location=device, weights_only=False)


def draft_tokens_of(saved, options):
    """The trained draft vocabulary, or its most frequent part if fewer are asked for."""
    if options.vocabulary < len(saved["draft_tokens"]):
        return saved["order"][: options.vocabulary].sort().values
    return saved["draft_tokens"]


def read_weights(path):
    """A drafter's tensors as float32, and its draft tokens."""
    import gguf
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    draft = torch.from_numpy(np.array(tensors.pop("draft_tokens").data)).long() if "draft_tokens" in tensors else None
    return {name: torch.from_numpy(np.array(gguf.dequantize(t.data, t.tensor_type))) for name, t in tensors.items()}, draft


def write(path, architecture, keys, tensors, kind):
    """A GGUF file: `keys` adds them to the writer, matrices become `kind`, vectors float32, integers stay as they are."""
    import gguf
    kind, part = gguf.GGMLQuantizationType[kind.upper()], path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, architecture)
    keys(writer)
    for name, value in tensors.items():
        value = torch.as_tensor(value)
        value = (value.float() if value.is_floating_point() else value).cpu().numpy()
        if value.ndim == 1:
            writer.add_tensor(name, value)
            continue
        columns, (block, _) = value.shape[1], gguf.GGML_QUANT_SIZES[kind]
        if columns % block:
            fail(f"{name} has {columns} columns, which {kind.name} cannot hold; give --type f16")
        writer.add_tensor(name, gguf.quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(part, path)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def export(options, target, tokenizer, chat):
    """docs/drafter-format.md"""
    import gguf
    saved, path = read_checkpoint(options.out / f"{options.name}.ckpt"), options.out / f"{options.name}.gguf"
    config, draft, p = saved["config"], draft_tokens_of(saved, options), model.PREFIX
    s = config.shape

    def keys(writer):
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
        if config.taps:
            writer.add_key_value(f"{p}.feature_layers", config.taps, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32)

    tensors = dict(saved["weights"])
    if len(draft) < target.shape.vocabulary:
        tensors["draft_tokens"] = draft.int()
    if target.rope_factors is not None:
        tensors["rope_freqs.weight"] = torch.tensor(np.array(target.rope_factors, np.float32))
    write(path, p, keys, tensors, options.type)
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
    judge = evaluate.Judge(model.Drafter(config), weights, exact, draft, torch.float32)
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
    writer.add_layer_norm_rms_eps(1e-5), writer.add_rope_dimension_count(width // heads), writer.add_context_length(1024)
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
