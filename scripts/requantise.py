"""A copy of a model with all matrices of one type, made by llama.cpp: scripts/bench-peers --types calls it.

    python scripts/requantise.py MODEL.gguf COPY.gguf TYPE
"""
import os
import sys

import environment

if __name__ == "__main__":
    environment.help(__doc__)

import llama_cpp


def file_type(name):
    """llama.cpp's number of a kind of file, by the name of its matrices' type."""
    for constant in (f"LLAMA_FTYPE_MOSTLY_{name}", f"LLAMA_FTYPE_MOSTLY_{name}_S", f"LLAMA_FTYPE_ALL_{name}"):
        if hasattr(llama_cpp, constant):
            return getattr(llama_cpp, constant)
    prefix = "LLAMA_FTYPE_MOSTLY_"
    known = sorted(constant.removeprefix(prefix) for constant in dir(llama_cpp) if constant.startswith(prefix))
    sys.exit(f"error: {name} is no type of llama.cpp's; it has {', '.join(known)}")


def main():
    model, copy, name = sys.argv[1:]
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type(name)
    params.allow_requantize = params.pure = True
    if llama_cpp.llama_model_quantize(os.fsencode(model), os.fsencode(copy), params):
        sys.exit(f"error: llama.cpp cannot make a copy of type {name}; what it said stands above")


if __name__ == "__main__":
    main()
