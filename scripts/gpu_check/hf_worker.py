"""Hugging Face Transformers in float32 on the CPU at a GGUF model's shape, for scripts/gpu-check.

    python3 scripts/hf_worker.py MODEL.gguf THREADS TOKENS

Prints one line of JSON: tokens per second of greedy decoding behind a short prompt. No weight is read or
fetched: values do not matter to the time. But they are written, since pages that nobody has written are
one page of zeros, which the caches hold.
"""
import contextlib
import json
import os
import statistics
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
import gguf
import torch
import transformers

PROMPT, WARM_UP = 8, 3  # tokens


def config_of(path):
    """The configuration of a model of the file's shape."""
    reader = gguf.GGUFReader(path)
    key = lambda name: reader.fields[f"llama.{name}"].contents()
    heads = key("attention.head_count")
    embedding = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
    return transformers.LlamaConfig(
        hidden_size=key("embedding_length"), intermediate_size=key("feed_forward_length"),
        num_hidden_layers=key("block_count"), num_attention_heads=heads,
        num_key_value_heads=key("attention.head_count_kv"), head_dim=key("embedding_length") // heads,
        vocab_size=int(embedding.shape[1]), tie_word_embeddings=False, use_cache=True,
    )


def made_up(config):
    """A model of this shape whose weights are all one number."""
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    model = model.to(torch.float32).to_empty(device="cpu").eval()
    for weight in model.parameters():
        weight.fill_(1e-3)
    # What is computed once and is no parameter.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model


def speed(model, tokens):
    """Tokens per second, one at a time: of the median time."""
    out = model(torch.ones(1, PROMPT, dtype=torch.long), use_cache=True)
    times = []
    for _ in range(WARM_UP + tokens):
        start = time.perf_counter()
        token = out.logits[:, -1:].argmax(-1)
        out = model(token, past_key_values=out.past_key_values, use_cache=True)
        times.append(time.perf_counter() - start)
    return 1 / statistics.median(times[WARM_UP:])


def main():
    path, threads, tokens = sys.argv[1:]
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")  # if memory runs out, this process is the one to end
    torch.set_num_threads(int(threads))
    with torch.inference_mode():
        model = made_up(config_of(path))
        size = sum(weight.nbytes for weight in model.parameters())
        print(json.dumps({
            "tokens_per_second": speed(model, int(tokens)), "weight_bytes": size,
            "torch": torch.__version__, "transformers": transformers.__version__,
        }))


if __name__ == "__main__":
    main()
