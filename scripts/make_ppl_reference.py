#!/usr/bin/env python3
"""Makes the text and the figures that tests/perplexity.rs compares with.

    pip install llama-cpp-python==0.3.36
    python scripts/make_ppl_reference.py text      ~/.cache/dovetail/SmolLM2-135M-Instruct.Q4_1.gguf
    python scripts/make_ppl_reference.py reference ~/.cache/dovetail/SmolLM2-135M-Instruct.Q4_1.gguf

and the same with ~/.cache/dovetail/Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf, which has a greedy text alone.

`text` lets the model itself write the texts of tests/data, so that nobody else's words are committed:
ppl_sampled.txt at temperature 1, full of surprises, by llama.cpp, and ppl_greedy.txt at temperature 0,
the answers that target/release/dovetail-run prints. `reference` measures each with llama.cpp and writes a .json beside it. Both
give the same output on every run on the same CPU; another CPU may sample another text.

The perplexity is that of llama.cpp's `perplexity` and of src/bin/dovetail-bench/ppl.rs: windows of
512 tokens, the first replaced by BOS where the tokenizer adds one; in each the tokens after the
middle are predicted from all before them. For each of these the reference has the likeliest token
and its margin, the hundredths of a logit by which it leads (999 for more).
"""

import hashlib
import json
import os
import subprocess
import sys

import environment

if __name__ == "__main__":
    environment.help(__doc__)

import llama_cpp
import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA = os.path.join(ROOT, "tests", "data")
RUN = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release/dovetail-run")
# Of each model the names of its texts, their temperatures, and the tokens that they have at least.
TEXTS = {
    "SmolLM2": {"ppl_sampled": (1.0, 23_000), "ppl_greedy": (0.0, 23_000)},
    "Qwen2.5-Coder": {"ppl_qwen_greedy": (0.0, 11_000)},
}
WINDOW = 512
# llama.cpp's threads wait for each other by spinning: on a busy machine one is faster than two. The
# figures are the same.
THREADS = int(os.environ.get("THREADS", "1"))
# Tokens of one answer at most.
ANSWER = 480

REQUESTS = [
    "Write an essay on why rivers shaped the first cities.",
    "Write a short story about a lighthouse keeper who finds a message in a bottle.",
    "Write a dialogue between a baker and a customer who is never satisfied.",
    "Write a Python program that counts the words in a file, with comments.",
    "Give a recipe for vegetable soup with a list of ingredients and numbered steps.",
    "Write a letter to a friend about moving to a new town.",
    "Make a Markdown table of ten animals with their weight, diet and habitat.",
    "List twenty things to check before a long journey by car.",
    "Write a news report about a storm that closed a harbour.",
    "Translate ten everyday sentences from English into French and show both.",
    "Explain how photosynthesis works to a ten-year-old.",
    "Write a poem in rhyme about the first snow.",
    "Write a JavaScript function that sorts a list of people by age, and explain it.",
    "Describe the life of a bee in the first person.",
    "Write a complaint to a railway company about a late train.",
    "Explain the difference between weather and climate.",
    "Write the opening scene of a play set in a hospital waiting room.",
    "Write a C program that prints the prime numbers below one hundred.",
    "Give step-by-step instructions for repairing a flat bicycle tyre.",
    "Write a diary entry of a sailor in a calm.",
    "Summarise the causes of the fall of a great empire.",
    "Write a job advertisement for a librarian.",
    "Solve these: 17 + 25, 9 times 14, 144 divided by 12; show the working.",
    "Write a fairy tale about a fox who wanted to be a king.",
    "Explain what a computer does when it adds two numbers.",
    "Translate a short text about food from English into Spanish.",
    "Write an interview with an astronaut who has returned from the Moon.",
    "Write a speech for the opening of a new school.",
    "Compare cats and dogs as pets in a list of advantages and disadvantages.",
    "Write an SQL query for the ten customers who spent most, and explain it.",
    "Describe a market in the early morning, with its sounds and smells.",
    "Write a detective story that begins with a missing clock.",
    "Explain how vaccines work.",
    "Write a product description of a waterproof watch.",
    "Write a dialogue in which a teacher explains fractions to a pupil.",
    "Give a weekly training plan for a first long run, day by day.",
    "Write an e-mail inviting colleagues to a meeting on Thursday.",
    "Explain supply and demand with the example of apples.",
    "Write a JSON document that describes three books.",
    "Write a review of a restaurant by the sea.",
    "Tell the history of the bicycle.",
    "Write a bedtime story about a dragon who could not breathe fire.",
    "Explain how to play a simple card game.",
    "Write an HTML page with a heading, a list and a form.",
    "Describe the water cycle in five steps.",
    "Write a monologue of an old tree.",
    "Write a travel guide to an imaginary island.",
    "Translate ten words about the house from English into German and Italian.",
    "Explain what democracy means, with examples.",
    "Write a shell script that backs up a folder, with comments.",
    "Write a scientific abstract about the sleep of fish.",
    "Write a debate between two people about school uniforms.",
    "List the planets with one fact about each.",
    "Write a love letter from a gardener.",
    "Explain how bread rises.",
    "Write a Rust function that reverses a string, and a test for it.",
    "Write the minutes of a meeting of a village council.",
    "Write a science-fiction story about a clock that runs backwards.",
    "Give advice to someone who speaks in public for the first time.",
    "Write ten riddles with their answers.",
]


def write_text(model, name, temperature, enough):
    """Asks for each text in turn, again with other seeds, until there is enough.

    A greedy answer is the same every time, so these are made longer by asking for more of them in
    other words.
    """
    llm = llama_cpp.Llama(model, n_ctx=1024, n_threads=THREADS, n_threads_batch=THREADS, verbose=False)
    text, tokens, asked = "", 0, 0
    while tokens < enough:
        request = REQUESTS[asked % len(REQUESTS)]
        if temperature == 0.0 and asked >= len(REQUESTS):
            request = "In simple words: " + request
        if temperature == 0.0:
            command = [RUN, model, "-p", request, "-n", str(ANSWER), "--temp", "0"]
            written = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        else:
            message = {"role": "user", "content": request}
            answer = llm.create_chat_completion(
                [message], seed=1000 + asked, max_tokens=ANSWER,
                temperature=temperature, top_k=64, top_p=1.0, min_p=0.0, repeat_penalty=1.0,
            )
            written = answer["choices"][0]["message"]["content"]
        # A character that was cut off, and what an editor would trip over, is left out.
        written = "".join(c for c in written if c == "\n" or (c.isprintable() and c != "\ufffd"))
        text += written.strip() + "\n\n"
        tokens = len(llm.tokenize(text.encode(), add_bos=False, special=False))
        asked += 1
        print(f"{asked} answers, {tokens} tokens", file=sys.stderr)
    with open(os.path.join(DATA, name + ".txt"), "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def measure(model, name, *_):
    """Perplexity and most likely tokens, with the plain C functions of llama.cpp."""
    text = open(os.path.join(DATA, name + ".txt"), "rb").read()
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    weights = llama_cpp.llama_model_load_from_file(model.encode(), params)
    vocab = llama_cpp.llama_model_get_vocab(weights)
    n_vocab = llama_cpp.llama_vocab_n_tokens(vocab)

    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = WINDOW
    params.n_threads = params.n_threads_batch = THREADS
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(weights, params)

    tokens = (llama_cpp.llama_token * (len(text) + 2))()
    n = llama_cpp.llama_tokenize(vocab, text, len(text), tokens, len(tokens), True, False)
    assert n > 0
    bos = llama_cpp.llama_vocab_bos(vocab) if llama_cpp.llama_vocab_get_add_bos(vocab) else None

    batch = llama_cpp.llama_batch_init(WINDOW, 0, 1)
    loss, top1, margins = 0.0, [], []
    for start in range(0, n - WINDOW + 1, WINDOW):
        window = list(tokens[start:start + WINDOW])
        if bos is not None:
            window[0] = bos
        counted = range(WINDOW // 2, WINDOW - 1)
        batch.n_tokens = WINDOW
        for i, token in enumerate(window):
            batch.token[i], batch.pos[i] = token, i
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            batch.logits[i] = i in counted
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        assert llama_cpp.llama_decode(context, batch) == 0
        rows = llama_cpp.llama_get_logits(context)
        rows = np.ctypeslib.as_array(rows, shape=(len(counted), n_vocab)).astype(np.float64)
        for position, row in zip(counted, rows):
            top = row.max()
            loss += top + np.log(np.exp(row - top).sum()) - row[window[position + 1]]
            top1.append(int(row.argmax()))
            second = np.partition(row, -2)[-2]
            margins.append(min(int((top - second) * 100), 999))
        print(f"{start + WINDOW}/{n}: {np.exp(loss / len(top1)):.4f}", file=sys.stderr)

    sha256 = lambda data: hashlib.sha256(data).hexdigest()
    head = {
        "model_sha256": sha256(open(model, "rb").read()),
        "model_bytes": os.path.getsize(model),
        "text_sha256": sha256(text),
        "llama_cpp_python": llama_cpp.__version__,
        "n_ctx": WINDOW,
        "n_text_tokens": n,
        "ppl": float(np.exp(loss / len(top1))),
        "tokens": len(top1),
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    rows = lambda x: [json.dumps(x[i:i + 20], separators=(",", ":"))[1:-1] for i in range(0, len(x), 20)]
    with open(os.path.join(DATA, name + ".json"), "w", encoding="utf-8") as file:
        file.write("{\n" + "\n".join(lines) + '\n "top1": [\n' + ",\n".join(rows(top1)))
        file.write('],\n "margins": [\n' + ",\n".join(rows(margins)) + "]\n}\n")
    print("\n".join(lines))


if __name__ == "__main__":
    modes = {"text": write_text, "reference": measure}
    if len(sys.argv) != 3 or sys.argv[1] not in modes:
        sys.exit(__doc__)
    texts = [texts for family, texts in TEXTS.items() if os.path.basename(sys.argv[2]).startswith(family)]
    if not texts:
        sys.exit(f"error: {sys.argv[2]} is none of {', '.join(TEXTS)}")
    for name, (temperature, enough) in texts[0].items():
        modes[sys.argv[1]](sys.argv[2], name, temperature, enough)
