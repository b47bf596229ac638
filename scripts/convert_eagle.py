#!/usr/bin/env python3
"""Turns a published EAGLE checkpoint into a drafter that `dovetail-run -md` takes.

    python3 scripts/convert_eagle.py FOLDER TARGET.gguf --out NAME-dgf.gguf

FOLDER holds config.json and model.safetensors or pytorch_model.bin, TARGET.gguf is any quantisation of the model
the drafter was trained for. EAGLE-1 and 2 (arXiv 2401.15077, 2406.16858) become `dovetail-dgf` with the fusion
`eagle`, which docs/drafter-format.md tells; EAGLE-3 (arXiv 2503.01840) becomes `eagle3`, as llama.cpp names keys
and tensors, with the target's fingerprint in addition. It takes PyTorch, numpy, safetensors and gguf.
"""
import argparse
import json
import math
import pathlib
import sys

try:
    import gguf
    import numpy as np
    import torch

    from drafter import files, model
    from drafter.target import fail, fingerprint
    MISSING = None
except ModuleNotFoundError as error:
    MISSING = error.name  # --help needs no package

EAGLE3 = "eagle3"
BLOCK = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm"}


class Target:
    """What a drafter has to agree with."""

    def __init__(self, path):
        try:
            self.reader = gguf.GGUFReader(path)
        except (OSError, ValueError) as error:
            fail(f"cannot read {path} as GGUF: {error}; give the target's GGUF file")
        key = lambda name: self.reader.fields[name].contents()
        tensors = {tensor.name: tensor for tensor in self.reader.tensors}
        try:
            self.layers, self.width = (key(f"{key('general.architecture')}.{name}") for name in ("block_count", "embedding_length"))
            self.vocabulary = int(tensors["token_embd.weight"].shape[1])
            norm = tensors["output_norm.weight"]
        except KeyError as error:
            fail(f"{path} has no {error.args[0]}; give the GGUF file of a whole model")
        self.path, self.fingerprint = path, fingerprint(gguf.dequantize(norm.data, norm.tensor_type))


class Checkpoint:
    """Tensors in float32, taken one by one; in the end none may be left over."""

    def __init__(self, folder):
        self.folder, found = folder, sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
        if not (folder / "config.json").exists() or not found:
            fail(f"{folder} lacks config.json, *.safetensors or pytorch_model.bin; give the folder of an EAGLE checkpoint")
        self.tensors = {}
        try:
            self.config = json.loads((folder / "config.json").read_text())
            for file in found:
                if file.suffix == ".safetensors":
                    from safetensors.torch import load_file
                    self.tensors |= load_file(file)
                else:
                    self.tensors |= torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            fail(f"cannot read {folder}: {str(error).splitlines()[0]}; download it anew")
        # vLLM's speculators nest the block's settings and call the block `layers.0`.
        self.config |= self.config.get("transformer_layer_config") or {}
        named = ((name.removeprefix("model."), tensor) for name, tensor in self.tensors.items())
        self.tensors = {name: tensor for name, tensor in named if not name.endswith("rotary_emb.inv_freq")}
        if "fc.weight" not in self.tensors:
            fail(f"{folder} has no fc.weight; give the folder of an EAGLE-1, 2 or 3 checkpoint")

    def setting(self, name, default=None):
        value = self.config.get(name, default)
        if value is None:
            fail(f"config.json in {self.folder} has no {name}; download it anew")
        return value

    def take(self, name, *shape):
        if name not in self.tensors:
            fail(f"{self.folder} has no {name}; give an EAGLE checkpoint of the Llama kind")
        tensor = self.tensors.pop(name)
        if tuple(tensor.shape) != shape:
            fail(f"{name} in {self.folder} is {tuple(tensor.shape)}, not {shape}; its config.json or the target is of another model")
        return tensor.float()

    def finish(self):
        if self.tensors:
            fail(f"{self.folder} has {', '.join(sorted(self.tensors)[:3])}, which cannot be run; give an EAGLE checkpoint of the Llama kind")


class Shape:
    """Of the drafter's blocks."""

    def __init__(self, checkpoint):
        of = checkpoint.setting
        self.blocks, self.width, self.ffn = of("num_hidden_layers"), of("hidden_size"), of("intermediate_size")
        self.heads = of("num_attention_heads")
        self.kv_heads = of("num_key_value_heads", self.heads)
        self.head_size = checkpoint.config.get("head_dim") or self.width // self.heads
        self.epsilon, self.context = of("rms_norm_eps"), of("max_position_embeddings", 2048)
        rope = checkpoint.config.get("rope_parameters") or {}
        self.theta = rope.get("rope_theta") or of("rope_theta", 10000.0)
        self.scaling = checkpoint.config.get("rope_scaling") or rope
        self.scaled = self.scaling.get("rope_type") or self.scaling.get("type") or "default"
        if self.scaled not in ("default", "linear", "llama3"):
            fail(f"the RoPE scaling {self.scaled} cannot be converted; known: default, linear, llama3")

    def keys(self, writer):
        writer.add_block_count(self.blocks), writer.add_embedding_length(self.width), writer.add_feed_forward_length(self.ffn)
        writer.add_head_count(self.heads), writer.add_head_count_kv(self.kv_heads), writer.add_context_length(self.context)
        writer.add_key_length(self.head_size), writer.add_value_length(self.head_size), writer.add_layer_norm_rms_eps(self.epsilon)
        writer.add_rope_dimension_count(self.head_size), writer.add_rope_freq_base(self.theta)
        if self.scaled == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR), writer.add_rope_scaling_factor(self.scaling["factor"])

    def rope_factors(self):
        """Llama 3.1's divisors of frequencies: slow pairs `factor`, fast ones 1, smoothly between."""
        of = self.scaling
        old = of.get("original_max_position_embeddings", 8192)
        turns = old * self.theta ** (-np.arange(0, self.head_size, 2) / self.head_size) / (2 * math.pi)
        low, high = of.get("low_freq_factor", 1.0), of.get("high_freq_factor", 4.0)
        kept = np.clip((turns - low) / (high - low), 0, 1)
        return {"rope_freqs.weight": 1 / (kept + (1 - kept) / of.get("factor", 8.0))} if self.scaled == "llama3" else {}

    def block(self, checkpoint, theirs, n, attention_width):
        """A block's tensors by their GGUF names. Checkpoints rotate halves of a head, GGUF adjacent pairs."""
        query, key_value = self.heads * self.head_size, self.kv_heads * self.head_size
        shapes = {"attn_q": (query, attention_width), "attn_k": (key_value, attention_width), "attn_v": (key_value, attention_width),
                  "attn_output": (self.width, query), "ffn_gate": (self.ffn, self.width), "ffn_up": (self.ffn, self.width),
                  "ffn_down": (self.width, self.ffn), "ffn_norm": (self.width,)}
        taken = {ours: checkpoint.take(f"{theirs}.{name}.weight", *shapes[ours]) for name, ours in BLOCK.items()}
        for name in ("attn_q", "attn_k"):
            taken[name] = taken[name].unflatten(0, (-1, 2, self.head_size // 2)).transpose(1, 2).flatten(0, 2)
        return {f"blk.{n}.{name}.weight": tensor for name, tensor in taken.items()}


def eagle(checkpoint, shape, target):
    """EAGLE-1 and 2: keys and tensors."""
    tensors, width = {}, shape.width
    if width != target.width:
        fail(f"{checkpoint.folder} is {width} wide, {target.path} {target.width}; give the target it was trained for")
    # The target's own, saved beside what was trained.
    if "embed_tokens.weight" in checkpoint.tensors:
        checkpoint.take("embed_tokens.weight", target.vocabulary, width)
    tensors["fuse.weight"] = checkpoint.take("fc.weight", width, 2 * width)
    tensors["fuse.bias"] = checkpoint.take("fc.bias", width) if "fc.bias" in checkpoint.tensors else torch.zeros(width)
    for n in range(shape.blocks):
        if n > 0:
            tensors[f"blk.{n}.attn_norm.weight"] = checkpoint.take(f"layers.{n}.input_layernorm.weight", width)
        tensors |= shape.block(checkpoint, f"layers.{n}", n, width)

    def keys(writer):
        key = lambda name: f"{model.PREFIX}.{name}"
        writer.add_uint32(key("version"), files.VERSION), writer.add_uint32(key("target.vocabulary"), target.vocabulary)
        writer.add_string(key("fusion"), "eagle"), writer.add_uint32(key("unrolled_steps"), 1)

    return keys, tensors


def eagle3(checkpoint, shape, target, taps):
    """EAGLE-3: keys and tensors."""
    config, width, vocabulary = checkpoint.config, shape.width, target.vocabulary
    of_target = config.get("target_hidden_size") or width
    if of_target != target.width:
        fail(f"{checkpoint.folder} is for a target {of_target} wide, {target.path} is {target.width}; give the target it was trained for")
    if shape.blocks != 1:
        fail(f"{checkpoint.folder} has {shape.blocks} blocks; EAGLE-3 checkpoints of one block can be converted")
    theirs = "midlayer" if "midlayer.hidden_norm.weight" in checkpoint.tensors else "layers.0"
    tensors = shape.block(checkpoint, theirs, 0, 2 * width)
    for ours, name in {"blk.0.attn_norm": f"{theirs}.input_layernorm", "blk.0.attn_norm_2": f"{theirs}.hidden_norm", "output_norm": "norm"}.items():
        tensors[f"{ours}.weight"] = checkpoint.take(f"{name}.weight", width)
    tensors["fc.weight"] = checkpoint.take("fc.weight", width, len(taps) * of_target)
    draft = vocabulary
    if "d2t" in checkpoint.tensors:
        # The checkpoint has offsets, GGUF the target's tokens.
        offsets = checkpoint.tensors.pop("d2t").long().flatten()
        draft, tokens = len(offsets), offsets + torch.arange(len(offsets))
        if (tokens.diff() <= 0).any() or tokens[0] < 0 or tokens[-1] >= vocabulary:
            fail(f"d2t in {checkpoint.folder} does not ascend below {vocabulary} tokens; give the target it was trained for")
        if draft < vocabulary:
            tensors["d2t"] = tokens
    checkpoint.tensors.pop("t2d", None)
    for theirs, ours, rows in (("lm_head", "output", draft), ("embed_tokens", "token_embd", vocabulary)):
        if f"{theirs}.weight" in checkpoint.tensors:
            tensors[f"{ours}.weight"] = checkpoint.take(f"{theirs}.weight", rows, width)
        elif of_target != width:
            fail(f"{checkpoint.folder} is {width} wide and has no {theirs} of its own; give a complete checkpoint")

    def keys(writer):
        writer.add_vocab_size(vocabulary)
        writer.add_array(f"{EAGLE3}.extract_layers", taps)
        writer.add_uint32(f"{EAGLE3}.target_hidden_size", of_target)
        writer.add_bool(f"{EAGLE3}.norm_before_residual", bool(config.get("norm_before_residual")))
        # llama.cpp wants the target's tokenizer in the drafter's file.
        for name, field in target.reader.fields.items():
            if name.startswith("tokenizer."):
                writer.add_key_value(name, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)

    return keys, tensors


def taps_of(options, config, target):
    """Layers of the target, from 0, whose input the drafter reads."""
    usual = [2, target.layers // 2, target.layers - 3]
    if options.taps:
        taps = options.taps
    else:
        # Programs disagree on whether these are layers whose input or whose output is meant.
        named = config.get("eagle_aux_hidden_state_layer_ids") or (config.get("eagle_config") or {}).get("eagle_aux_hidden_state_layer_ids")
        if named and named not in (usual, [layer - 1 for layer in usual]):
            fail(f"config.json names the layers {named}; give --taps {','.join(map(str, named))} if it means their inputs (vLLM), "
                 f"--taps {','.join(str(layer + 1) for layer in named)} if their outputs (SGLang)")
        taps = usual
    if sorted(set(taps)) != taps or taps[0] < 0 or taps[-1] >= target.layers:
        fail(f"layers {taps} cannot be tapped in a target with {target.layers}; give others with --taps")
    return taps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="the EAGLE checkpoint")
    parser.add_argument("target", help="GGUF file of the model it was trained for")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the drafter's GGUF file; as NAME-dgf.gguf beside the target it is found unasked")
    parser.add_argument("--type", choices=["q8_0", "f16"], default="q8_0", help="of matrices [default: q8_0]")
    parser.add_argument("--taps", type=lambda text: [int(layer) for layer in text.split(",")],
                        help="EAGLE-3: layers of the target, from 0, whose input the drafter reads [default: 2, N/2, N-3]")
    options = parser.parse_args()
    if MISSING:
        sys.exit(f"error: the package {MISSING} is missing; pip install torch numpy safetensors gguf")
    checkpoint, target = Checkpoint(options.folder), Target(options.target)
    shape, vocabulary = Shape(checkpoint), checkpoint.setting("vocab_size")
    if vocabulary != target.vocabulary:
        fail(f"{options.folder} is for {vocabulary} tokens, {options.target} has {target.vocabulary}; give the target it was trained for")
    is_eagle3 = any(name.endswith("hidden_norm.weight") for name in checkpoint.tensors)
    if is_eagle3:
        architecture = EAGLE3
        own_keys, tensors = eagle3(checkpoint, shape, target, taps_of(options, checkpoint.config, target))
    else:
        architecture = model.PREFIX
        own_keys, tensors = eagle(checkpoint, shape, target)
    checkpoint.finish()

    def keys(writer):
        writer.add_name(options.out.stem)
        writer.add_string(f"{architecture}.target.fingerprint", target.fingerprint)
        writer.add_uint32(f"{architecture}.target.block_count", target.layers)
        shape.keys(writer), own_keys(writer)

    files.write(options.out, architecture, keys, tensors | shape.rope_factors(), options.type)


if __name__ == "__main__":
    main()
