#!/usr/bin/env python3
"""Writes tests/data/tokenizer_*.json: token ids as llama.cpp gives them, for tests/tokenizer.rs.

Run by hand when the corpus or the table of pre-tokenizers grows:

    pip install llama-cpp-python==0.3.36 regex
    python scripts/make_tokenizer_reference.py ~/.cache/dovetail/SmolLM2-135M-Instruct.Q4_1.gguf

The output is the same on every run. Vocabularies: the given model's own, of which only ids are kept;
a byte-level one made here so that every difference between pre-tokenizers shows in the ids; and a
SentencePiece one made here so that merging is hard.
"""

import collections
import ctypes
import json
import os
import struct
import sys
import tempfile

import llama_cpp
import regex

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data")
# One name for each row of the table in src/text/bpe.rs.
PRE_TOKENIZERS = [
    "smollm", "default", "gpt-2", "falcon", "llama-bpe", "glm4", "dbrx", "qwen2", "qwen35", "tekken", "gpt-4o", "deepseek-llm",
    "deepseek-coder", "deepseek-v3", "poro-chat", "viking", "chameleon", "tiny_aya", "superbpe", "bailingmoe", "seed-coder",
    "exaone-moe", "minicpm5", "youtu", "jais-2", "ufakzeka", "laguna", "spark2_5",
]
# Patterns that llama.cpp only comes near: the ids are those of the models' own patterns, by another regex engine. Does a
# word that is a token stay whole, and does a text begin with BOS?
UPPER, LOWER, END = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?"
WORDS = "[^\\r\\n\\p{{L}}\\p{{N}}]?{U}*{L}+{E}|[^\\r\\n\\p{{L}}\\p{{N}}]?{U}+{L}*{E}"
OTHERS = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    "tekken": (WORDS.format(U=UPPER, L=LOWER, E="") + r"|\p{N}" + OTHERS, True, True),
    "gpt-4o": (WORDS.format(U=UPPER, L=LOWER, E=END) + r"|\p{N}{1,3}" + OTHERS, False, False),
}

HARD = [
    "", " ", "  ", "   ", "\t", "\n", "\r\n", "\n\n\n", " \n", "\n ", " \t \n\t ", "a", " a", "a ", "  a  b   c    ",
    "Hello world", "Hello, world!", " Hello", "Hello\n", "Hello \n\n world", "Hello\r\nworld\r\n\r\n", "\tindented\n\t\ttwice\n",
    "1", "12", "123", "1234", "12345", "123456", "1234567", "12345678", "123456789", "1234567890", "12345678901", "123456789012",
    " 1 22 333 4444 ", "3.14159, -2.5e-10; 0x1F", "1,234,567.89", "2024-02-29T23:59:60Z", "v1.2.3-rc4", "½ ² ³ Ⅷ ① ٣٤٥ १२३ 一二三",
    "I'm you're he's we'll they'd I've can't", "I'M YOU'RE HE'S WE'LL THEY'D I'VE CAN'T", "'s 't 're 've 'm 'll 'd", "'S'T'RE'x' 'ſ 'ſ",
    "''s '''", "don’t ‘quote’ “double”", "rock'n'roll o'clock",
    "!", "!!!", "?!?!", " ...", "... ...", "@#$%^&*()_+-=[]{}|;:'\",.<>/?`~", "$100 + 5% <= `x^2` ~ |y|", "a.b,c;d:e!f?g", "(a)[b]{c}<d>",
    "http://example.com/path?query=1&x=%20#frag", "user.name+tag@mail.example.org", "C:\\Users\\x\\file.txt", "--flag=value -x /dev/null",
    "snake_case camelCase PascalCase kebab-case SCREAMING_SNAKE", "iPhone XMLHttpRequest HTMLParser2Go", "ABC abc Abc aBC",
    "def f(x):\n    return x ** 2  # square\n\n\nclass A:\n\tpass\n", "for (int i = 0; i < n; ++i) { a[i] += b[i]; }\n",
    "fn main() -> Result<(), Box<dyn Error>> {\n    println!(\"{:?}\", x);\n    Ok(())\n}\n", "SELECT * FROM t WHERE a >= 10 AND b != 'x';",
    "<html><body class=\"c\">text</body></html>", "{\"key\": [1, 2.0, null, true], \"k2\": \"v\\n\"}", "if x:\n        y\n      z\n   w\n", "a=b==c!=d&&e||f",
    "é è ê ë ē ė ę", "e\u0301 e\u0300 a\u0308\u0304 n\u0303", "ÅÄÖ åäö ß ẞ ŒÆ", "naïve café résumé Über", "ﬁ ﬂ Ⅳ ㎏ ﷺ",
    "Привет, мир! Съешь ещё этих мягких булок", "Γειά σου Κόσμε", "Բարեւ աշխարհ", "გამარჯობა მსოფლიო",
    "你好，世界！今天天气很好。", "日本語のテキスト、カタカナとひらがな。", "안녕하세요 세계", "한글 jamo ㄱㄴㄷ 각", "中文English混合123文字", "「引用」、『二重』・…‥〜",
    "مرحبا بالعالم", "السَّلامُ عَلَيْكُم", "שלום עולם", "שָׁלוֹם", "سلام دنیا ۱۲۳", "नमस्ते दुनिया", "ক্ষমা বাংলা", "தமிழ் மொழி", "สวัสดีชาวโลก", "ภาษาไทยไม่มีวรรค", "မြန်မာ", "ខ្មែរ", "བོད་ཡིག",
    "🙂", "🙂🙃😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈 🇩🇪🇫🇷", "text🙂text 🙂 text", "❤️ ☺️ ©️ ™", "🧑🏿‍🚀!",
    "\u200b", "a\u200bb", "\u200d\u200c", "\ufeffBOM", "a\u00a0b\u202fc\u3000d", "\u2028line\u2029para", "x\u0085y", "\u00ad soft", "\u202eRTL\u202c",
    "\u0000", "a\u0000b", "\u0001\u0002\u001f\u007f", "\u001c\u001d\u001e", "\x0b\x0c", "\ufffd\ufffe", "\U0010ffff", "\U000e0041\U000e0042", "𝓗𝓮𝓵𝓵𝓸 𝕎𝕠𝕣𝕝𝕕", "𐍈𐌰𐌹", "\ue000\uf8ff",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|im_start|><|im_end|>", " <|im_end|> ", "<|im_end", "im_end|>", "<|endoftext|>", "a<|endoftext|>b <|endoftext|> c",
    "<s>", "</s>", "<s>Hello</s>", " <s> Hello </s> ", "<unk>", "<unk>x<unk>", "<0x0A>", "<0x41><0x42>", "[INST] x [/INST]", "<user> and <user>s", "<user><user2>", "<extra>", "▁", "▁a ▁b", "a▁▁b", "<|user|> <|eot_id|> <repo_name>x<file_sep>", "<s> \n x<|endoftext|> y<|user|> \t z<user>  w</s>  <|user|>  ",
    "The quick brown fox jumps over the lazy dog.", "the the the the the", "internationalization antidisestablishmentarianism", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "abababababababababab", "hhhellooo wwwoorrlldd", "  leading and trailing  ",
    "Mississippi river's rivers", "unhappiness unhappily happy", "nnnnnn tttttt sssss", "\n\n  \n\n x", " \u00a0 \u2003 x", "x   \n", "x   \n   y", "\t\t\tx\t \ty", "end.\n\n\nStart", "!\n!\r\n!\r", "a/b//c///\n/d",
    "Zażółć gęślą jaźń", "Đây là tiếng Việt có dấu", "Türkçe İstanbul ılık", "þæð Íslenska", "ʻOkina ʼn ŉ", "x̂ ŷ ẑ ∑∫√∞ ≈≠≤≥ αβγ", "H₂O CO₂ x² yⁿ", "→ ← ↑ ⇒ ■ ● ★", "№ § ¶ † ‡ • ‰ €£¥₹₿", "½¼¾ 1½ x¼",
]
# Runs, as (text, times).
RUNS = [(" ", 1000), ("a", 1000), ("\n", 500), ("1", 333), ("🙂", 100), ("ab ", 200), ("\t", 300), ("=", 257), ("é", 200), (" \n", 150), ("-", 64), ("日", 100), ("the ", 150)]
POOLS = ["abcdefghijklmnopqrstuvwxyz", "etaoin ", "ABCXYZ", "0123456789", "    \n\t\r", ".,;:!?'\"`", "<>|_-+=^~$", "éüñß", "日本中文", "กขคไ", "ابت", "\u0301\u200d\u00a0", "🙂👍🏽", "▁"]

PROSE = """The tree of guesses is sized by measured cost. The target reads its weights once for every pass and the
drafter proposes the next tokens. When the target agrees with the drafter, several tokens are accepted together; when it
does not, the first token that differs is taken from the target and the rest of the branch is dropped. Nothing is lost:
the text is the same with and without the drafter. A river runs over the stones, and the rivers of the north run over
them too. She sells the shells, he tells the tale, they sell the tales of the shells. Happiness, unhappiness; happily,
unhappily. Internationalization of the nation's stations. In the interest of interesting interests, the tester tests the
tests. The mission of the Mississippi is to miss the sea. return x; for the int i in the range: print the string.
The weather is better than the letter. There is nothing there. 12 of the 34, 2024 and 1999, 100 percent.
"""


class Random:
    """A linear congruential generator, so that no library version changes the corpus."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n


def corpus():
    random = Random(1)
    texts = list(HARD)
    for _ in range(60):
        parts = []
        for _ in range(2 + random.below(10)):
            pool = POOLS[random.below(len(POOLS))]
            parts += [pool[random.below(len(pool))] for _ in range(1 + random.below(5))]
        texts.append("".join(parts))
    return texts + [list(run) for run in RUNS]


def spelled(text):
    return text if isinstance(text, str) else text[0] * text[1]


# ---- GGUF, as much as vocabularies need -------------------------------------------------------------

WIDTHS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def write_metadata(path, metadata):
    def packed(kind, value):
        if kind == 8:
            return struct.pack("<Q", len(value)) + value
        if kind == 9:
            item, items = value
            return struct.pack("<IQ", item, len(items)) + b"".join(packed(item, i) for i in items)
        return struct.pack("<" + WIDTHS[kind], value)

    with open(path, "wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(metadata)))
        for key, (kind, value) in metadata.items():
            name = key.encode()
            file.write(struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + packed(kind, value))


# ---- Made-up vocabularies -----------------------------------------------------------------------------


def merged_pairs(sequences, n_merges):
    """Byte-pair encoding learnt over whole sequences; yields the pairs, the most frequent first."""
    sequences = [list(sequence) for sequence in sequences]
    for _ in range(n_merges):
        pairs = collections.Counter()
        for parts in sequences:
            pairs.update(zip(parts, parts[1:]))
        if not pairs:
            return
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        for i, parts in enumerate(sequences):
            merged = []
            for part in parts:
                if merged and (merged[-1], part) == best:
                    merged[-1] += part
                else:
                    merged.append(part)
            sequences[i] = merged
        yield best


def byte_characters():
    """GPT-2's character for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{byte: chr(byte) for byte in printable}, **{byte: chr(0x100 + i) for i, byte in enumerate(others)}}


def bpe_vocabulary():
    """Tokens and merges. Nothing stops a merge here: words, digits, signs and lines grow together, so
    the ids tell where a pre-tokenizer cut."""
    table = byte_characters()
    spell = lambda text: "".join(table[byte] for byte in text.encode())
    digits = ["0123456789" * 3, "1234 5678 9012 3456", "12 123 1234 12345"]
    pairs = list(merged_pairs([spell(text) for text in [*HARD, *digits, *PROSE.split("\n")]], 700))
    # BOS, EOS, bytes, merges. Two merges happen to make the texts of the former.
    tokens = ["<s>", "<|im_end|>", *(table[byte] for byte in range(256))]
    tokens = list(dict.fromkeys([*tokens, *(left + right for left, right in pairs)]))
    # Whole words that no merge reaches: some models take them nevertheless.
    words = ["Hello", "world", " world", "quick", " fox", "12", "123", "\n\n", "..", " Привет", "你好"]
    tokens += [spell(word) for word in words if spell(word) not in tokens]
    return tokens, [f"{left} {right}" for left, right in pairs]


def bpe_metadata(tokens, merges, pre):
    return {
        "general.architecture": (8, b"llama"),
        "tokenizer.ggml.model": (8, b"gpt2"),
        "tokenizer.ggml.pre": (8, pre.encode()),
        "tokenizer.ggml.tokens": (9, (8, [token.encode() for token in tokens])),
        "tokenizer.ggml.token_type": (9, (5, [3, 3] + [1] * (len(tokens) - 2))),
        "tokenizer.ggml.merges": (9, (8, [merge.encode() for merge in merges])),
        "tokenizer.ggml.bos_token_id": (4, 0),
        "tokenizer.ggml.eos_token_id": (4, 1),
    }


def spm_vocabulary():
    """Pieces, scores and types: merges learnt from PROSE, plus pieces that make merging hard."""
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    pieces += [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    pieces += [("<user>", 0.0, 4), ("<user2>", 0.0, 4), ("▁▁▁▁", 0.0, 4), ("<|user|>", 0.0, 3), ("<|endoftext|>", 0.0, 3), ("<extra>", 0.0, 5)]
    known = {piece for piece, _, _ in pieces}
    # Words are repeated as often as they occur, so that frequent ones are learnt first.
    for rank, best in enumerate(merged_pairs(["▁" + word for word in PROSE.split()], 420)):
        piece = "".join(best)
        if piece not in known:
            known.add(piece)
            # Ties in score: then the place in the text decides.
            pieces.append((piece, float(-(rank // 3)), 1))
    characters = sorted(set(PROSE.replace(" ", "▁").replace("\n", "")) | set("ABCDXYZ0123456789é中文ñ"))
    # Unlike the rest, these have no single characters below them, overlap, or span words.
    odd = ["日本", "本語", "日本語", "ss", "sss", "is▁", "s▁the", "▁▁", "▁▁▁", "▁▁▁▁▁▁▁▁", "ab", "aba", "bab", "aa", "aaa", "aaaa", "é▁", "🙂🙂", "\n\n", "()", "):"]
    for piece in characters:
        if piece not in known and len(piece) == 1 and piece != "h":
            known.add(piece)
            pieces.append((piece, -1000.0 - len(pieces) / 7.0, 1))
    for i, piece in enumerate(odd):
        if piece not in known:
            known.add(piece)
            pieces.append((piece, -0.25 * (i % 5) - (50.0 if i % 2 else 0.5), 1))
    return pieces


def spm_metadata(pieces, flags):
    metadata = {
        "general.architecture": (8, b"llama"),
        "tokenizer.ggml.model": (8, b"llama"),
        "tokenizer.ggml.tokens": (9, (8, [piece.encode() for piece, _, _ in pieces])),
        "tokenizer.ggml.scores": (9, (6, [score for _, score, _ in pieces])),
        "tokenizer.ggml.token_type": (9, (5, [kind for _, _, kind in pieces])),
    }
    for key, flag in flags.items():
        kind = 8 if isinstance(flag, str) else 7
        metadata[key] = (kind, flag.encode() if kind == 8 else flag)
    return metadata


# ---- llama.cpp --------------------------------------------------------------------------------------


class Reference:
    def __init__(self, path):
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), params)
        assert self.model, path
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)

    def tokenize(self, text, add_special, parse_special):
        data = text.encode()
        size = len(data) + 16
        tokens = (llama_cpp.llama_token * size)()
        n = llama_cpp.llama_tokenize(self.vocab, data, len(data), tokens, size, add_special, parse_special)
        assert n >= 0
        return list(tokens[:n])

    def detokenize(self, tokens):
        size = 64 * len(tokens) + 64
        out = ctypes.create_string_buffer(size)
        ids = (llama_cpp.llama_token * len(tokens))(*tokens)
        n = llama_cpp.llama_detokenize(self.vocab, ids, len(tokens), out, size, False, True)
        assert n >= 0
        return out.raw[:n]

    def describe(self, texts):
        n_vocab = llama_cpp.llama_vocab_n_tokens(self.vocab)
        bos, eos = llama_cpp.llama_vocab_bos(self.vocab), llama_cpp.llama_vocab_eos(self.vocab)
        first = [bos] if llama_cpp.llama_vocab_get_add_bos(self.vocab) else []
        last = [eos] if llama_cpp.llama_vocab_get_add_eos(self.vocab) else []
        plain, parsed, decoded = [], {}, {}
        for i, text in enumerate(map(spelled, texts)):
            ids = self.tokenize(text, False, False)
            plain.append(ids)
            special = self.tokenize(text, True, True)
            if special != first + ids + last:
                parsed[str(i)] = special
            data = self.detokenize(ids)
            if data != text.encode():
                decoded[str(i)] = data.decode("utf-8", "replace")
        return {
            "bos": bos,
            "eos": eos,
            "eog": [id for id in range(n_vocab) if llama_cpp.llama_vocab_is_eog(self.vocab, id)],
            # What add_special puts around every text.
            "first": first,
            "last": last,
            # Without special tokens; with them only where that changes more than the ends.
            "plain": plain,
            "parsed": parsed,
            # What comes back from `plain`, where it is not the text.
            "decoded": decoded,
        }


# Texts that llama.cpp cuts otherwise than the pattern says, and which are not compared: it reads every whitespace beyond
# ASCII as a vertical tab, so it is in no range, and to it only ASCII has digits and words.
CUT_OTHERWISE = {
    "deepseek-llm": r"(?=\s)[\u0800-\u4e00]",
    "deepseek-coder": r"(?=\s)[\u0800-\u4e00]",
    "tiny_aya": r"[^\x00-\x7f]\d|\d[^\x00-\x7f]|(?=\d)[^\x00-\x7f]",
}


class ByPattern:
    """What a pattern and plain merging give, in the form of `Reference.describe`."""

    def __init__(self, tokens, merges, pattern, whole_words, adds_bos):
        self.pattern, self.whole_words, self.adds_bos = regex.compile(pattern), whole_words, adds_bos
        self.ids = {token: id for id, token in enumerate(tokens)}
        self.ranks = {tuple(merge.split(" ")): rank for rank, merge in reversed(list(enumerate(merges)))}
        self.table = byte_characters()

    def word(self, word):
        parts = [self.table[byte] for byte in word.encode()]
        if self.whole_words and "".join(parts) in self.ids:
            return [self.ids["".join(parts)]]
        while True:
            pairs = [(self.ranks[pair], i) for i, pair in enumerate(zip(parts, parts[1:])) if pair in self.ranks]
            if not pairs:
                return [self.ids[part] for part in parts]
            _, i = min(pairs)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]

    def tokenize(self, text):
        ids, end = [], 0
        for match in self.pattern.finditer(text):
            for word in (text[end : match.start()], match.group()):
                ids += self.word(word) if word else []
            end = match.end()
        return ids + (self.word(text[end:]) if text[end:] else [])

    def replace(self, found, texts, special):
        """Puts these ids in the place of llama.cpp's."""
        differ = 0
        found["parsed"] = {}
        for i, text in enumerate(map(spelled, texts)):
            plain = self.tokenize(text)
            differ += plain != found["plain"][i]
            found["plain"][i] = plain
            parsed = list(found["first"])
            for part in regex.split("(" + "|".join(map(regex.escape, special)) + ")", text):
                parsed += [self.ids[part]] if part in special else self.tokenize(part)
            parsed += found["last"]
            if parsed != found["first"] + plain + found["last"]:
                found["parsed"][str(i)] = parsed
        print(f"{found['pre']}: llama.cpp cuts {differ} of {len(texts)} texts otherwise")
        assert found["first"] == ([found["bos"]] if self.adds_bos else [])


def write(name, value):
    # The corpus holds characters that editors hide or reorder: it stays ASCII.
    with open(os.path.join(DATA, f"tokenizer_{name}.json"), "w", encoding="utf-8") as file:
        json.dump(value, file, separators=(",", ":"), ensure_ascii=name == "corpus")
        file.write("\n")


def main():
    silence = llama_cpp.llama_log_callback(lambda *_: None)  # must outlive every call
    llama_cpp.llama_log_set(silence, None)
    texts = corpus()
    write("corpus", texts)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "vocabulary.gguf")

        def reference(metadata):
            write_metadata(path, metadata)
            return Reference(path).describe(texts)

        write("smollm", Reference(sys.argv[1]).describe(texts))

        tokens, merges = bpe_vocabulary()
        variants = []
        for pre in PRE_TOKENIZERS:
            found = {"pre": pre, **reference(bpe_metadata(tokens, merges, pre))}
            if pre in PATTERNS:
                special = [tokens[id] for id in {found["bos"], *found["eog"]}]
                ByPattern(tokens, merges, *PATTERNS[pre]).replace(found, texts, special)
            if pre in CUT_OTHERWISE:
                otherwise = regex.compile(CUT_OTHERWISE[pre])
                found["skipped"] = [i for i, text in enumerate(map(spelled, texts)) if otherwise.search(text)]
            if variants:
                # As a difference from the first: most texts are cut alike.
                first = variants[0]["plain"]
                found["plain"] = {str(i): ids for i, ids in enumerate(found["plain"]) if ids != first[i]}
            variants.append(found)
        write("bpe", {"tokens": tokens, "merges": merges, "variants": variants})

        pieces = spm_vocabulary()
        variants = []
        for flags in [
            {},
            {"tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.add_bos_token": False},
            {"tokenizer.ggml.add_eos_token": True, "general.name": "Phi-3 mini"},
        ]:
            variants.append({"flags": flags, **reference(spm_metadata(pieces, flags))})
        write("spm", {"pieces": pieces, "variants": variants})


if __name__ == "__main__":
    main()
