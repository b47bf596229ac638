//! How families of models split text into words, before BPE merges each word: a table.
//!
//! The patterns belong to the models. A file selects them by a name in `tokenizer.ggml.pre`; the names are llama.cpp's.
//! Where llama.cpp only comes near the published pattern (`gpt-4o`, `tekken`, `kimi-k2`; the digits of `afmoe` and
//! `tiny_aya`), the published one stands here. A pattern has to take linear time on every text.
//!
//! To add a pre-tokenizer: a row in [`PRE_TOKENIZERS`], and its ids in `tests/data` (see
//! `scripts/make_tokenizer_reference.py`).

use super::vocab::Spelling;

/// How a family of models splits text.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    /// Values of `tokenizer.ggml.pre`.
    pub(super) names: &'static [&'static str],
    /// Each pattern splits the parts that the previous ones left.
    pub(super) patterns: &'static [&'static str],
    /// How the vocabulary spells text.
    pub(super) spelling: Spelling,
    /// Words that are looked up whole.
    pub(super) whole: Whole,
    /// Whether a text begins with BOS.
    pub(super) add_bos: AddBos,
}

/// The words that are taken whole if they are tokens, even if merging would not produce them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    None,
    All,
    /// Words of newlines alone.
    Newlines,
}

/// Whether a text begins with BOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddBos {
    /// Not unless the file says so.
    No,
    /// Unless the file says otherwise.
    Yes,
    /// Whatever the file says.
    Always,
}

/// The pre-tokenizer of that name.
pub(super) fn find(name: &str) -> Option<&'static PreTokenizer> {
    PRE_TOKENIZERS.iter().find(|pre| pre.names.contains(&name))
}

/// All names, in the order of the table.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    PRE_TOKENIZERS.iter().flat_map(|pre| pre.names).copied()
}

/// Words of GPT-2: contractions, then letters, digits or other characters with one space before them.
const GPT2: &str =
    concat!(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+", r"| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+");
/// Contractions in either case, written out because `(?i)` would also match the long s.
macro_rules! contractions {
    () => {
        r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
    };
}
/// What stands between words: signs with the newlines behind them, and white space.
macro_rules! signs_and_spaces {
    () => {
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    };
}
/// Words that one sign may begin.
macro_rules! signed_words {
    () => {
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##
    };
}
/// Words of Llama 3: any one other character may begin a word, digits come in threes, newlines end a word.
const LLAMA3: &str =
    concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}", signs_and_spaces!());
/// Words of Qwen 2: as in Llama 3, but each digit alone.
const QWEN2: &str =
    concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}", signs_and_spaces!());
/// Words of Qwen 3.5: as in Qwen 2, but combining marks stay with their letters.
const QWEN35: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// A word is capitals, then small letters, then perhaps a contraction. `$but` takes scripts away.
macro_rules! cased_words {
    ($but:expr, $end:expr) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}",
            $but,
            r"]*[\p{Ll}\p{Lm}\p{Lo}\p{M}",
            $but,
            "]+",
            $end,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}",
            $but,
            r"]+[\p{Ll}\p{Lm}\p{Lo}\p{M}",
            $but,
            "]*",
            $end
        )
    };
}
/// Words of GPT-4o and its kin; slashes are part of the signs.
macro_rules! gpt4o {
    ($end:expr, $digits:expr) => {
        concat!(
            cased_words!("", $end),
            "|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}
const GPT4O: &str = gpt4o!(concat!("(?:", contractions!(), ")?"), r"\p{N}{1,3}");
const TEKKEN: &str = gpt4o!("", r"\p{N}");
/// Words of Kimi K2: Han characters are words of their own.
const KIMI_K2: &str = concat!(
    r"\p{Han}+|",
    cased_words!(r"&&[^\p{Han}]", concat!("(?:", contractions!(), ")?")),
    r"|\p{N}{1,3}",
    signs_and_spaces!()
);
/// Words of DeepSeek 3, between digits and the scripts of East Asia.
const DEEPSEEK3: &str =
    concat!(signed_words!(), r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+");
/// Letters of scripts with capitals, in the first models of DeepSeek.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[",
    "A-Za-z\u{b5}\u{c0}-\u{d6}\u{d8}-\u{f6}\u{f8}-\u{1ba}\u{1bc}-\u{1bf}\u{1c4}-\u{293}\u{295}-",
    "\u{2af}\u{370}-\u{373}\u{376}\u{377}\u{37b}-\u{37d}\u{37f}\u{386}\u{388}-\u{38a}\u{38c}\u{38e}-",
    "\u{3a1}\u{3a3}-\u{3f5}\u{3f7}-\u{481}\u{48a}-\u{52f}\u{531}-\u{556}\u{10a0}-\u{10c5}\u{13a0}-",
    "\u{13f5}\u{13f8}-\u{13fd}\u{1c90}-\u{1cba}\u{1cbd}-\u{1cbf}\u{1d00}-\u{1d2b}\u{1d6b}-\u{1d77}",
    "\u{1d79}-\u{1d9a}\u{1e00}-\u{1f15}\u{1f18}-\u{1f1d}\u{1f20}-\u{1f45}\u{1f48}-\u{1f4d}\u{1f50}-",
    "\u{1f57}\u{1f59}\u{1f5b}\u{1f5d}\u{1f5f}-\u{1f7d}\u{1f80}-\u{1fb4}\u{1fb6}-\u{1fbc}\u{1fbe}",
    "\u{1fc2}-\u{1fc4}\u{1fc6}-\u{1fcc}\u{1fd0}-\u{1fd3}\u{1fd6}-\u{1fdb}\u{1fe0}-\u{1fec}\u{1ff2}-",
    "\u{1ff4}\u{1ff6}-\u{1ffc}\u{2102}\u{2107}\u{210a}-\u{2113}\u{2115}\u{2119}-\u{211d}\u{2124}",
    "\u{2126}\u{2128}\u{212a}-\u{212d}\u{212f}-\u{2134}\u{2139}\u{213c}-\u{213f}\u{2145}-\u{2149}",
    "\u{214e}\u{2183}\u{2184}\u{2c00}-\u{2c7b}\u{2c7e}-\u{2ce4}\u{2ceb}-\u{2cee}\u{2cf2}\u{2cf3}",
    "\u{a640}-\u{a66d}\u{a680}-\u{a69b}\u{a722}-\u{a76f}\u{a771}-\u{a787}\u{a78b}-\u{a78e}\u{ab70}-",
    "\u{abbf}\u{fb00}-\u{fb06}\u{fb13}-\u{fb17}\u{ff21}-\u{ff3a}\u{ff41}-\u{ff5a}\u{10400}-\u{1044f}",
    "\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}",
    "\u{1e900}-\u{1e943}",
    "]+"
);
/// Everything but what ends a word, in BLOOM and those after it.
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const EAST_ASIA: &str = "[一-龥\u{3040}-ゟ゠-ヿ]+";
const CHINESE_TO_KOREAN: &str = "[一-龥ࠀ-一가-\u{d7ff}]+";
const ONE_TO_THREE: &str = r"\p{N}{1,3}";
/// Scripts without spaces between words, in AFMoE. The range from U+8C48 is the model's.
const WITHOUT_SPACES: &str = concat!(
    "[\u{4e00}-\u{9fff}\u{3400}-\u{4dbf}\u{8c48}-\u{faff}\u{3040}-\u{30ff}\u{ff65}-\u{ff9f}",
    "\u{2f00}-\u{2fdf}\u{e40}-\u{eff}\u{1780}-\u{17ff}\u{1000}-\u{109f}\u{aa60}-\u{aa7f}",
    "\u{a9e0}-\u{a9ff}\u{ac00}-\u{d7af}\u{1100}-\u{11ff}]+"
);
const NUMBER: &str = r"\p{N}+";
/// The digits of a number in threes, counted from its end. The number has to be a part of its own.
const THREES_FROM_END: &str = r"\A\p{N}{1,2}(?=(?:\p{N}{3})+\z)|\p{N}{3}";
/// `(?=(\d{3})+(?!\d))` in two steps, since looking for the end of a number at every digit takes quadratic time: the
/// first place in a number that threes lead from to its end, then threes from there on.
const FIRST_THREE: &str = r"(?<!\d\d\d)(?=(?:\d{3})+(?!\d))";
const FURTHER_THREES: &str = r"\G\d{3}(?=\d)";
/// `\d{1,3}(?=(?:\d{3})*\b)` in two steps for the same reason: digits up to a boundary, then these in threes from their
/// end. Elsewhere a letter follows the digits, which the next pattern would put in threes from their beginning anyway.
const DIGITS_TO_BOUNDARY: &str = r"\d+\b";
const THREES_TO_BOUNDARY: &str = r"\A\d{1,3}(?=(?:\d{3})*\z)|\G\d{3}";
const LINES: &str = r"[^\n]+|[\n]+";
const DIGIT: &str = r"\p{N}";
const THREE_DIGITS: &str = "[0-9][0-9][0-9]";

/// What most rows have in common.
const PLAIN: PreTokenizer = PreTokenizer {
    names: &[],
    patterns: &[],
    spelling: Spelling::ByteLevel,
    whole: Whole::None,
    add_bos: AddBos::No,
};

static PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, NUMBER, THREE_DIGITS],
        ..PLAIN
    },
    PreTokenizer {
        names: &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "roberta-bpe",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
        ],
        patterns: &[GPT2],
        ..PLAIN
    },
    PreTokenizer {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        patterns: &[DIGIT, GPT2],
        ..PLAIN
    },
    PreTokenizer {
        names: &["falcon"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, THREE_DIGITS],
        ..PLAIN
    },
    PreTokenizer {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        patterns: &[LLAMA3],
        whole: Whole::All,
        add_bos: AddBos::Yes,
        ..PLAIN
    },
    PreTokenizer { names: &["glm4", "glm5"], patterns: &[LLAMA3], whole: Whole::All, ..PLAIN },
    PreTokenizer { names: &["dbrx", "smaug-bpe", "chatglm-bpe"], patterns: &[LLAMA3], ..PLAIN },
    PreTokenizer {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "stablelm2",
            "kormo",
            "f2llmv2",
            "megrez",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        patterns: &[QWEN2],
        ..PLAIN
    },
    PreTokenizer { names: &["qwen35"], patterns: &[QWEN35], ..PLAIN },
    PreTokenizer {
        names: &["tekken"],
        patterns: &[TEKKEN],
        whole: Whole::All,
        add_bos: AddBos::Yes,
        ..PLAIN
    },
    PreTokenizer {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        patterns: &[GPT4O],
        ..PLAIN
    },
    PreTokenizer {
        names: &["granite-embed-multi-97m"],
        patterns: &[GPT4O],
        whole: Whole::All,
        ..PLAIN
    },
    PreTokenizer { names: &["kimi-k2"], patterns: &[KIMI_K2], ..PLAIN },
    PreTokenizer {
        names: &["afmoe"],
        patterns: &[NUMBER, THREES_FROM_END, WITHOUT_SPACES, DEEPSEEK3],
        ..PLAIN
    },
    PreTokenizer {
        names: &["deepseek-llm"],
        patterns: &[
            r"[\r\n]",
            DEEPSEEK_LETTERS,
            "\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+",
            r"\s+$",
            CHINESE_TO_KOREAN,
            NUMBER,
        ],
        ..PLAIN
    },
    PreTokenizer {
        names: &["deepseek-coder"],
        patterns: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CHINESE_TO_KOREAN, DIGIT],
        ..PLAIN
    },
    PreTokenizer {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        patterns: &[ONE_TO_THREE, EAST_ASIA, DEEPSEEK3],
        ..PLAIN
    },
    PreTokenizer {
        names: &["spark2_5"],
        patterns: &[
            ONE_TO_THREE,
            EAST_ASIA,
            concat!(signed_words!(), r"| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"),
            DIGIT,
        ],
        ..PLAIN
    },
    PreTokenizer { names: &["poro-chat", "bloom", "gpt3-finnish"], patterns: &[BLOOM], ..PLAIN },
    PreTokenizer { names: &["viking"], patterns: &[BLOOM, DIGIT], ..PLAIN },
    PreTokenizer {
        names: &["chameleon"],
        patterns: &[
            r"<sentinel:[0-9]+>",
            "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
            r"([\t\n]|    |  )",
            DIGIT,
            r"[\p{P}!-/:-@\[-`{-~]",
            GPT2,
        ],
        add_bos: AddBos::Yes,
        ..PLAIN
    },
    PreTokenizer {
        names: &["tiny_aya", "cohere2moe"],
        patterns: &[DIGITS_TO_BOUNDARY, THREES_TO_BOUNDARY, GPT4O],
        ..PLAIN
    },
    PreTokenizer {
        names: &["superbpe"],
        patterns: &[NUMBER, FIRST_THREE, FURTHER_THREES],
        ..PLAIN
    },
    PreTokenizer {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        patterns: &[concat!(
            r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
        )],
        ..PLAIN
    },
    PreTokenizer {
        names: &["seed-coder"],
        patterns: &[concat!(
            contractions!(),
            r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        ..PLAIN
    },
    PreTokenizer {
        names: &["exaone-moe"],
        patterns: &[concat!(
            contractions!(),
            r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}",
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
        )],
        ..PLAIN
    },
    PreTokenizer {
        names: &["minicpm5"],
        patterns: &[
            ONE_TO_THREE,
            concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+", signs_and_spaces!()),
        ],
        whole: Whole::All,
        ..PLAIN
    },
    PreTokenizer {
        names: &["youtu"],
        patterns: &[
            "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u{3040}-ゟ゠-ヿ]+",
            gpt4o!(concat!("(?:", contractions!(), ")?"), r"\p{N}"),
        ],
        whole: Whole::All,
        ..PLAIN
    },
    PreTokenizer {
        names: &["jais-2"],
        patterns: &[concat!(
            contractions!(),
            r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
            r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)",
            r"|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}"
        )],
        ..PLAIN
    },
    PreTokenizer {
        names: &["ufakzeka"],
        patterns: &[concat!(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}", signs_and_spaces!())],
        ..PLAIN
    },
    PreTokenizer { names: &["laguna"], patterns: &[LINES, QWEN2], ..PLAIN },
    PreTokenizer {
        names: &["gemma4", "granite-embed-multi-311m"],
        patterns: &[LINES],
        spelling: Spelling::Sentence,
        whole: Whole::Newlines,
        add_bos: AddBos::Always,
    },
    PreTokenizer {
        names: &["sarvam-moe"],
        patterns: &[LINES],
        spelling: Spelling::Sentence,
        ..PLAIN
    },
];
