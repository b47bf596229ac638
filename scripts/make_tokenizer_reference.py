#!/usr/bin/env python3
"""Writes tests/data/tokenizer_*.json: token ids as llama.cpp gives them, for tests/tokenizer.rs.

Run by hand when the corpus or the table of pre-tokenizers grows:

    pip install llama-cpp-python==0.3.36 regex
    cd ~/.cache/dovetail
    python .../make_tokenizer_reference.py SmolLM2-135M-Instruct.Q4_1.gguf Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf

The output is the same on every run. Vocabularies: the given models' own, of which only ids are kept; and some made here:
a byte-level one, so that every difference between pre-tokenizers shows in the ids; one of BPE on UTF-8, as Gemma 4 has;
a SentencePiece one, so that merging is hard; and small ones with special tokens. Files of several variants keep the ids of the
first, and of the others what differs from it.
"""

import collections
import ctypes
import json
import os
import struct
import sys
import tempfile

import environment

if __name__ == "__main__":
    environment.help(__doc__)

import llama_cpp
import regex

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data")
# The names in each row of the table in src/text/pre_tokenizers.rs that has byte-level words.
PRE_TOKENIZERS = [
    ["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
    ["default"],
    [
        "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "gigachat", "a.x-4.0", "mellum", "modern-bert",
        "roberta-bpe", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de", "jina-v2-code",
    ],
    ["falcon"],
    ["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
    ["glm4", "glm5"],
    ["dbrx", "smaug-bpe", "chatglm-bpe"],
    ["qwen2", "deepseek-r1-qwen", "stablelm2", "kormo", "f2llmv2", "megrez", "hunyuan", "solar-open", "grok-2"],
    ["qwen35"],
    ["tekken"],
    ["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
    ["granite-embed-multi-97m"],
    ["kimi-k2"],
    ["afmoe"],
    ["deepseek-llm"],
    ["deepseek-coder"],
    ["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
    ["poro-chat", "bloom", "gpt3-finnish"],
    ["viking"],
    ["chameleon"],
    ["tiny_aya", "cohere2moe"],
    ["superbpe"],
    ["bailingmoe", "bailingmoe2", "llada-moe"],
    ["seed-coder"],
    ["exaone-moe"],
    ["minicpm5"],
    ["youtu"],
    ["jais-2"],
    ["ufakzeka"],
    ["laguna"],
    ["spark2_5"],
]
# Patterns that llama.cpp only comes near: the ids are those of the models' own patterns, by another regex engine. Each
# pattern splits what the previous ones left. Does a word that is a token stay whole, and does a text begin with BOS?
UPPER, LOWER, END = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?"
WORDS = "[^\\r\\n\\p{{L}}\\p{{N}}]?{U}*{L}+{E}|[^\\r\\n\\p{{L}}\\p{{N}}]?{U}+{L}*{E}"
NOT_HAN = r"(?:(?!\p{{Han}}){})"
OTHERS = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = WORDS.format(U=UPPER, L=LOWER, E=END) + r"|\p{N}{1,3}" + OTHERS
KIMI_K2 = (
    r"\p{Han}+|" + WORDS.format(U=NOT_HAN.format(UPPER), L=NOT_HAN.format(LOWER), E=END)
    + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
AFMOE = [
    r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))",
    "[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff"
    "\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
]
PATTERNS = {
    "tekken": ([WORDS.format(U=UPPER, L=LOWER, E="") + r"|\p{N}" + OTHERS], True, True),
    "gpt-4o": ([GPT4O], False, False),
    "granite-embed-multi-97m": ([GPT4O], True, False),
    "kimi-k2": ([KIMI_K2], False, False),
    # In these two llama.cpp leaves what stands before digits with the first of them, so that the spaces of "  1" are cut.
    "afmoe": (AFMOE, False, False),
    "tiny_aya": ([r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O], False, False),
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
    "x  1  22\n  333 ", "abc1234567def 1234567abc 12ab", "１２３４５ ٣٤٥٦٧", "汉字's 漢字HELLOworld你好World'S 々〇ヶ", "e\u0301A\u0301bc 汉\u0301字x", "㐀𠀀豈ꀀ가각ꥠ",
    "二〇二〇二〇二〇年", "ꀀ가ꀀ가ꀀ가ꀀ가",
    "a <mask> b\t<mask>\n", "[MASK] x [MASK]  y", "[EMPTY_300][EMPTY_400]", "a\n\nb\n\n\nc\n\n\n\nd\n\n\n\n\n", "a\u0000b\u0000\u0000ab", "  two   three    four\t\ttabs",
    "<start_of_turn>user\nHi  there<end_of_turn>\n<unused7>", "ab<user>aba<user>", "the  the the   is▁is", "<0xE6><0xF0> 日本 中 é 🙂 ñ",
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
    """Nothing stops a merge here: words, digits, signs and lines grow together, so the ids tell where a pre-tokenizer cut."""
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
    return {
        "pieces": [(token, 3 if id < 2 else 1, 0.0) for id, token in enumerate(tokens)],
        "merges": [f"{left} {right}" for left, right in pairs],
        "keys": {"model": "gpt2", "bos_token_id": 0, "eos_token_id": 1},
    }


def sentence_bpe_vocabulary():
    """BPE on UTF-8, with `▁` for the space: characters that are no tokens are spelled in bytes."""
    # llama.cpp ends a piece at a zero.
    lines = [line.replace(" ", "▁") for text in [*HARD, *PROSE.split("\n")] if "\0" not in text for line in text.split("\n")]
    pairs = list(merged_pairs(lines, 400))
    pieces = [("<pad>", 3), ("<eos>", 3), ("<bos>", 3), ("<unk>", 2)]
    pieces += [(f"<0x{byte:02X}>", 6) for byte in range(256)]
    pieces += [("<user>", 4), ("<mask>", 4), ("<turn|>", 1), ("<|tool_response>", 3), ("</s>", 1), ("\t\t", 4)]
    # A run of three or five is a token, and four are not; merges make twos alone.
    pieces += [("\n" * n, 1) for n in (1, 2, 3, 5)]
    known = {piece for piece, _ in pieces}
    for piece in [*sorted(set("".join(PROSE.replace(" ", "▁").split("\n")))), *(part for pair in pairs for part in (*pair, "".join(pair)))]:
        if piece not in known:
            known.add(piece)
            pieces.append((piece, 1))
    return {
        "pieces": [(piece, kind, 0.0) for piece, kind in pieces],
        "merges": ["\n \n", *(f"{left} {right}" for left, right in pairs)],
        "keys": {"model": "gemma4", "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "unknown_token_id": 3},
    }


def spm_vocabulary():
    """Merges learnt from PROSE, and pieces that make merging hard."""
    pieces = [("<unk>", 2, 0.0), ("<s>", 3, 0.0), ("</s>", 3, 0.0)]
    pieces += [(f"<0x{byte:02X}>", 6, 0.0) for byte in range(256)]
    pieces += [("<user>", 4, 0.0), ("<user2>", 4, 0.0), ("▁▁▁▁", 4, 0.0), ("<|user|>", 3, 0.0), ("<|endoftext|>", 3, 0.0), ("<extra>", 5, 0.0)]
    known = {piece for piece, _, _ in pieces}
    # Words are repeated as often as they occur, so that frequent ones are learnt first.
    for rank, best in enumerate(merged_pairs(["▁" + word for word in PROSE.split()], 420)):
        piece = "".join(best)
        if piece not in known:
            known.add(piece)
            # Ties in score: then the place in the text decides.
            pieces.append((piece, 1, float(-(rank // 3))))
    characters = sorted(set(PROSE.replace(" ", "▁").replace("\n", "")) | set("ABCDXYZ0123456789é中文ñ"))
    # Unlike the rest, these have no single characters below them, overlap, or span words.
    odd = ["日本", "本語", "日本語", "ss", "sss", "is▁", "s▁the", "▁▁", "▁▁▁", "▁▁▁▁▁▁▁▁", "ab", "aba", "bab", "aa", "aaa", "aaaa", "é▁", "🙂🙂", "\n\n", "()", "):"]
    for piece in characters:
        if piece not in known and len(piece) == 1 and piece != "h":
            known.add(piece)
            pieces.append((piece, 1, -1000.0 - len(pieces) / 7.0))
    for i, piece in enumerate(odd):
        if piece not in known:
            known.add(piece)
            pieces.append((piece, 1, -0.25 * (i % 5) - (50.0 if i % 2 else 0.5)))
    return {"pieces": pieces, "keys": {"model": "llama"}}


def ids_of(vocabulary):
    return {piece: id for id, (piece, _, _) in enumerate(vocabulary["pieces"])}


def bpe_variants(vocabulary):
    """Special tokens of all kinds, and what drops white space beside them. A byte that is no token."""
    ids = ids_of(vocabulary)
    special = [
        ("<user>", 4), ("    ", 4), ("  ", 4), ("aba", 4), ("é", 4), ("<unk>", 2), ("<extra>", 5), ("<mask>", 3), ("[MASK]", 3), ("\n\n\n\n", 4), ("", 1),
        ("<0xE6>", 6),
    ]
    special = {"add": [(piece, kind, 0.0) for piece, kind in special if piece not in ids]}
    return [
        {**special, "keys": {"pre": "gpt-2"}},
        {**special, "keys": {"pre": "jina-v2-de", "add_bos_token": True, "add_eos_token": True}},
        {**special, "keys": {"pre": "qwen2", "general.name": "Modern-BERT"}},
        {"replace": {ids["Ā"]: ("xyzzy", 1, 0.0)}, "keys": {"pre": "gpt-2"}},
    ]


def sentence_bpe_variants(vocabulary):
    ids = ids_of(vocabulary)
    lacking = {"replace": {ids[f"<0x{byte:02X}>"]: (f"<0x{byte:02x}>", 1, 0.0) for byte in (0xAD, 0xE5, 0xF0)}}
    gpt2 = lambda pre: {"keys": {"model": "gpt2", "pre": pre}}
    return [
        {"keys": {}},
        {"keys": {"pre": "qwen2", "add_bos_token": False, "add_eos_token": True}},
        gpt2("gemma4"),
        gpt2("granite-embed-multi-311m"),
        gpt2("sarvam-moe"),
        {**lacking, "keys": {}},
    ]


def spm_variants(vocabulary):
    ids = ids_of(vocabulary)
    gemma = [("\n", 4), ("\n\n\n", 4), ("\t", 4), ("  ", 4), ("   ", 4), ("    ", 4), ("<mask>", 4), ("<start_of_turn>", 3), ("<end_of_turn>", 3), ("<unused7>", 3)]
    gemma_keys = {"bos_token_id": 2, "eos_token_id": 1, "unknown_token_id": 3, "padding_token_id": 0, "add_space_prefix": False}
    kinds = {ids["▁the"]: 5, ids["▁is"]: 3, ids["ss"]: 2, ids["ab"]: 4, ids["日本"]: 0, ids["aba"]: 4}
    pieces = vocabulary["pieces"]
    retyped = {id: (pieces[id][0], kind, pieces[id][2]) for id, kind in kinds.items()}
    # The byte itself stands in for its token.
    raw = {ids[f"<0x{byte:02X}>"]: ([byte], 1, 0.0) for byte in (0xE6, 0xF0, 0x9F, 0x99)}
    return [
        {"keys": {}},
        {"keys": {"add_space_prefix": False, "add_bos_token": False}},
        {"keys": {"add_eos_token": True, "general.name": "Phi-3 mini"}},
        {"keys": {"remove_extra_whitespaces": True, "pre": "llama-bpe"}},
        {"keys": {}, "scores": "none"},
        {"keys": {}, "scores": "integers"},
        {"keys": gemma_keys, "add": [(piece, kind, 0.0) for piece, kind in gemma]},
        {"keys": {}, "replace": retyped},
        {"keys": {}, "replace": {**raw, ids["<0xF1>"]: ("", 1, 0.0)}},
    ]


# Texts by which llama.cpp knows special tokens, and some by which it does not.
SPECIAL = [
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]", "<｜end▁of▁sentence｜>",
    "<end_of_utterance>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "</s>", "<|eom_id|>", "[EOS]", "<eos>", "<turn|>", "<|tool_response>", "[e~[",
    "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>", "<|prefix|>",
    "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>", "<|suffix|>",
    "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>", "<|middle|>",
    "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>",
    "<|channel|>", "<|message|>", "<|start|>", "<|constrain|>", "<|plamo:eos|>", "<|endofprompt|>", "<eod>", "</S>", "<bos>", "<file_sep>",
]


def special_cases():
    """Small vocabularies: (pieces, keys)."""
    alone = [([(text, kind, 0.0)], {}) for text in SPECIAL for kind in (1, 4)]
    together = [
        ["<|return|>", "<|call|>", "<|end|>"], ["<|return|>", "<|end|>"], ["<|call|>", "<|end|>"], ["<|return|>", "<|calls|>", "<|end|>"],
        ["<|flush|>", "<|calls|>", "<|end|>"], ["<|flush|>", "<|call|>", "<|end|>"], ["<|flush|>", "<|return|>", "<|end|>"],
        ["<|tool_response>", "</s>"], ["<|plamo:eos|>", "</s>"], ["<|im_end|>", "<|endoftext|>", "</s>"],
    ]
    together = [([(text, 3, 0.0) for text in texts], {}) for texts in together]
    keys = [
        ([("a", 1, 0.0), ("<|im_end|>", 1, 0.0), ("b", 1, 0.0)], {f"{key}_token_id": 2})
        for key in ("bos", "eos", "eot", "eom", "unknown", "padding", "fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep")
    ]
    # A key that names another token leaves the text alone; the old names of keys count, and last.
    keys += [
        ([("a", 1, 0.0), (text, 1, 0.0), ("b", 1, 0.0)], {f"{key}_token_id": 2})
        for key, text in [
            ("fim_pre", "<PRE>"), ("prefix", "<PRE>"), ("fim_suf", "<SUF>"), ("suffix", "<SUF>"), ("fim_mid", "<MID>"), ("middle", "<MID>"), ("fim_pad", "<PAD>"),
            ("fim_rep", "<REPO>"), ("fim_sep", "<|file_sep|>"), ("eom", "<|eom_id|>"),
        ]
    ]
    keys += [([("a", 1, 0.0), ("</s>", 1, 0.0), ("<|plamo:eos|>", 3, 0.0)], {"eos_token_id": 2})]
    return alone + together + keys


def metadata(vocabulary, variant):
    """The keys of a vocabulary with a variant's changes, as GGUF has them."""
    pieces = list(vocabulary["pieces"])
    for id, piece in variant.get("replace", {}).items():
        pieces[id] = piece
    pieces += variant.get("add", [])
    encode = lambda text: bytes(text) if isinstance(text, list) else text.encode()
    values = {
        "general.architecture": (8, b"llama"),
        "tokenizer.ggml.tokens": (9, (8, [encode(text) for text, _, _ in pieces])),
        "tokenizer.ggml.token_type": (9, (5, [kind for _, kind, _ in pieces])),
    }
    if "merges" in vocabulary:
        values["tokenizer.ggml.merges"] = (9, (8, [merge.encode() for merge in vocabulary["merges"]]))
    elif variant.get("scores") == "integers":
        values["tokenizer.ggml.scores"] = (9, (5, [int(score) for _, _, score in pieces]))
    elif variant.get("scores") != "none":
        values["tokenizer.ggml.scores"] = (9, (6, [score for _, _, score in pieces]))
    for key, value in {**vocabulary["keys"], **variant["keys"]}.items():
        key = key if "." in key else f"tokenizer.ggml.{key}"
        kind = {bool: 7, int: 4, str: 8}[type(value)]
        values[key] = (kind, value.encode() if kind == 8 else value)
    return values


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

    def detokenize(self, tokens, adds_space):
        """The pieces one after another. At once, llama.cpp also removes spaces before punctuation, which no stream can do."""
        out, buffer = b"", ctypes.create_string_buffer(4096)
        for i, token in enumerate(tokens):
            n = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, 4096, int(i == 0 and adds_space), True)
            assert n >= 0
            out += buffer.raw[:n]
        return out

    def special(self):
        """Which tokens end a generation, and which are control tokens."""
        ids = range(llama_cpp.llama_vocab_n_tokens(self.vocab))
        return {
            "eog": [id for id in ids if llama_cpp.llama_vocab_is_eog(self.vocab, id)],
            "control": [id for id in ids if llama_cpp.llama_vocab_get_attr(self.vocab, id) & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL],
        }

    def describe(self, texts, adds_space=False):
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
            data = self.detokenize(ids, adds_space)
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
# ASCII as a vertical tab, so it is in no range.
CUT_OTHERWISE = {
    "deepseek-llm": r"(?=\s)[\u0800-\u4e00]",
    "deepseek-coder": r"(?=\s)[\u0800-\u4e00]",
}


def split(pattern, text):
    """The matches, and what stands between them."""
    end = 0
    for match in pattern.finditer(text):
        yield from (text[end : match.start()], match.group())
        end = match.end()
    yield text[end:]


class ByPattern:
    """What a pattern and plain merging give, in the form of `Reference.describe`."""

    def __init__(self, tokens, merges, patterns, whole_words, adds_bos):
        self.patterns, self.whole_words, self.adds_bos = [*map(regex.compile, patterns)], whole_words, adds_bos
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
        words = [text]
        for pattern in self.patterns:
            words = [part for word in words for part in split(pattern, word) if part]
        return [id for word in words for id in self.word(word)]

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
        print(f"{found['names'][0]}: llama.cpp cuts {differ} of {len(texts)} texts otherwise")
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

        def load(vocabulary, variant):
            write_metadata(path, metadata(vocabulary, variant))
            return Reference(path)

        def differences(found, first):
            """Most texts have the same ids as in the first variant."""
            found["plain"] = {str(i): ids for i, ids in enumerate(found["plain"]) if ids != first["plain"][i]}
            return found

        def write_variants(name, vocabulary, variants, adds_space):
            described = []
            for variant in variants:
                space = adds_space and variant["keys"].get("add_space_prefix", True)
                described.append({**variant, **load(vocabulary, variant).describe(texts, space)})
            later = [differences(found, described[0]) for found in described[1:]]
            write(name, {**vocabulary, "variants": [described[0], *later]})

        for name, model in zip(["smollm", "qwen"], sys.argv[1:], strict=True):
            write(name, Reference(model).describe(texts))

        vocabulary = bpe_vocabulary()
        tokens = [token for token, _, _ in vocabulary["pieces"]]
        variants = []
        for names in PRE_TOKENIZERS:
            pre = names[0]
            found = load(vocabulary, {"keys": {"pre": pre}}).describe(texts)
            for name in names[1:]:
                assert found == load(vocabulary, {"keys": {"pre": name}}).describe(texts), name
            found = {"names": names, **found}
            if pre in PATTERNS:
                special = [tokens[id] for id in {found["bos"], *found["eog"]}]
                ByPattern(tokens, vocabulary["merges"], *PATTERNS[pre]).replace(found, texts, special)
            if pre in CUT_OTHERWISE:
                otherwise = regex.compile(CUT_OTHERWISE[pre])
                found["skipped"] = [i for i, text in enumerate(map(spelled, texts)) if otherwise.search(text)]
            variants.append(differences(found, variants[0]) if variants else found)
        for variant in bpe_variants(vocabulary):
            found = {"names": [variant["keys"]["pre"]], **variant, **load(vocabulary, variant).describe(texts)}
            variants.append(differences(found, variants[0]))
        write("bpe", {**vocabulary, "variants": variants})

        vocabulary = sentence_bpe_vocabulary()
        write_variants("sentence_bpe", vocabulary, sentence_bpe_variants(vocabulary), False)
        vocabulary = spm_vocabulary()
        write_variants("spm", vocabulary, spm_variants(vocabulary), True)

        cases = []
        for pieces, keys in special_cases():
            vocabulary = {"pieces": pieces, "merges": [], "keys": {"model": "gpt2", "pre": "gpt-2"}}
            cases.append({"pieces": pieces, "keys": keys, **load(vocabulary, {"keys": keys}).special()})
        write("special", cases)


if __name__ == "__main__":
    main()
