"""One peer engine with one model, in a process of its own: scripts/bench-peers starts it and asks.

    python scripts/peer_worker.py llama.cpp repack MODEL.gguf THREADS N_CTX

Requests come as JSON lines on standard input, answers go as JSON lines to standard output; all that the
engine itself prints goes to standard error. The process may die at any moment, which is the point.
"""
import ctypes
import json
import os
import sys
import time

import environment

if __name__ == "__main__":
    environment.help(__doc__)

import numpy as np

N_BATCH = 512


class Engine:
    """What both peers offer, under their common names."""

    def __init__(self, package, threads, n_ctx):
        self.package = package
        self.params = package.llama_context_default_params()
        self.params.n_ctx = n_ctx
        self.params.n_batch = self.params.n_ubatch = N_BATCH
        self.params.n_threads = self.params.n_threads_batch = threads
        # One batch for all passes; it only points to these.
        int32 = ctypes.c_int32 * N_BATCH
        self.token, self.pos, self.wanted = int32(), int32(), (ctypes.c_int8 * N_BATCH)()
        self.one, self.sequence = int32(*[1] * N_BATCH), (ctypes.c_int32 * 1)(0)
        pointer = ctypes.POINTER(ctypes.c_int32)
        self.sequences = (pointer * N_BATCH)(*[ctypes.cast(self.sequence, pointer)] * N_BATCH)
        self.batch = package.llama_batch(
            token=ctypes.cast(self.token, pointer), pos=ctypes.cast(self.pos, pointer),
            n_seq_id=ctypes.cast(self.one, pointer),
            seq_id=ctypes.cast(self.sequences, ctypes.POINTER(pointer)),
            logits=ctypes.cast(self.wanted, ctypes.POINTER(ctypes.c_int8)),
        )

    def open(self, model):
        if not model:
            raise RuntimeError("it cannot load this file")
        self.context = self.package.llama_init_from_model(model, self.params)
        if not self.context:
            raise RuntimeError("it cannot make a context")
        self.n_vocab = self.package.llama_vocab_n_tokens(self.package.llama_model_get_vocab(model))

    def append(self, tokens, at, wanted):
        """One pass over `tokens`, behind `at` others, with the logits of the last `wanted`."""
        n = len(tokens)
        self.token[:n] = tokens
        self.pos[:n] = range(at, at + n)
        self.wanted[:n] = [0] * (n - wanted) + [1] * wanted
        self.batch.n_tokens = n
        if self.package.llama_decode(self.context, self.batch):
            raise RuntimeError(f"its llama_decode of {n} tokens fails")
        self.synchronize()

    def logits(self, row):
        values = self.package.llama_get_logits_ith(self.context, row)
        return np.ctypeslib.as_array(values, (self.n_vocab,)).copy()


class LlamaCpp(Engine):
    """llama.cpp; `repack` is its default, `mapped` multiplies the file's own bytes."""

    def __init__(self, setting, path, threads, n_ctx):
        import llama_cpp

        super().__init__(llama_cpp, threads, n_ctx)
        params = llama_cpp.llama_model_default_params()
        params.use_extra_bufts = setting == "repack"
        self.open(llama_cpp.llama_model_load_from_file(os.fsencode(path), params))
        self.memory = llama_cpp.llama_get_memory(self.context)

    def truncate(self, n):
        self.package.llama_memory_seq_rm(self.memory, 0, n, -1)

    def synchronize(self):
        self.package.llama_synchronize(self.context)

    def system(self):
        return self.package.llama_print_system_info().decode()


class Ik(Engine):
    """ik_llama.cpp; `mapped` is its default, `repack` its run-time repacking.

    Its package names only part of the library; the rest is declared here after its llama.h.
    """

    def __init__(self, setting, path, threads, n_ctx):
        import ik_llama_cpp._ctypes_api as package

        super().__init__(package, threads, n_ctx)
        self.library = package._lib
        self.library.llama_kv_cache_seq_rm.argtypes = [ctypes.c_void_p] + [ctypes.c_int32] * 3
        self.library.llama_synchronize.argtypes = [ctypes.c_void_p]
        self.library.llama_print_system_info.restype = ctypes.c_char_p
        params = package.llama_model_default_params()
        params.repack_tensors = setting == "repack"
        self.open(package.llama_model_load_from_file(os.fsencode(path), params))

    def truncate(self, n):
        self.library.llama_kv_cache_seq_rm(self.context, 0, n, -1)

    def synchronize(self):
        self.library.llama_synchronize(self.context)

    def system(self):
        return self.library.llama_print_system_info().decode()


PEERS = {"llama.cpp": LlamaCpp, "ik_llama.cpp": Ik}


def speed(engine, tests):
    """Tokens per second of each (tokens, rows a pass); once to warm up, once to count."""
    speeds = []
    for counted in (False, True):
        for n, rows in tests:
            # The tokens of src/bin/dovetail-bench/speed.rs.
            tokens = [(i * 7919 + 13) % engine.n_vocab for i in range(n)]
            engine.truncate(0)
            start = time.perf_counter()
            for at in range(0, n, rows):
                engine.append(tokens[at : at + rows], at, 1)
            if counted:
                speeds.append(n / (time.perf_counter() - start))
    return speeds


def curve_tokens(engine, context, most):
    """The tokens of src/bin/dovetail-bench/curve.rs; those of the context are appended."""
    tokens = [(i * 31 + 7) % engine.n_vocab for i in range(context + most)]
    engine.truncate(0)
    for at in range(0, context, N_BATCH):
        engine.append(tokens[at : min(at + N_BATCH, context)], at, 1)
    return tokens[context:]


def curve(engine, context, rows):
    """Milliseconds of a pass of each number of rows; once to warm up, once to count."""
    tokens = curve_tokens(engine, context, max(rows))
    for _ in range(2):
        times = []
        for n in rows:
            start = time.perf_counter()
            engine.append(tokens[:n], context, n)
            times.append((time.perf_counter() - start) * 1e3)
            engine.truncate(context)
    return times


def agreement(engine, context, rows):
    """For each number of rows the lowest correlation of a row's logits with those of a pass of one."""
    tokens = curve_tokens(engine, context, max(rows))
    alone = []
    for i, token in enumerate(tokens):
        engine.append([token], context + i, 1)
        alone.append(engine.logits(0))
    out = []
    for n in rows:
        engine.truncate(context)
        engine.append(tokens[:n], context, n)
        pairs = [(alone[i], engine.logits(i)) for i in range(n)]
        finite = all(np.isfinite(b).all() for _, b in pairs)
        out.append(float(min(np.corrcoef(a, b)[0, 1] for a, b in pairs)) if finite else 0.0)
    return out


COMMANDS = {"speed": speed, "curve": curve, "agreement": agreement}


def main():
    name, setting, path, threads, n_ctx = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        engine = PEERS[name](setting, path, int(threads), int(n_ctx))
        print(json.dumps({"ok": engine.system()}), file=answers)
        for line in sys.stdin:
            command, *arguments = json.loads(line)
            print(json.dumps({"ok": COMMANDS[command](engine, *arguments)}), file=answers)
    except (ImportError, OSError, RuntimeError) as error:
        print(json.dumps({"error": str(error)}), file=answers)


if __name__ == "__main__":
    main()
