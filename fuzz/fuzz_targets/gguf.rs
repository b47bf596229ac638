//! Any bytes as a model file: parsing, the tokenizer and the chat template end without a panic.
//!
//! `cargo +nightly fuzz run gguf`. Without small vocabularies to start from it stays in the header:
//! `scripts/make_tokenizer_reference.py` can write some (`write_metadata`).
#![no_main]

use dovetail::gguf::Gguf;
use dovetail::text::{ChatTemplate, Message, Tokenizer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(gguf) = Gguf::from_bytes(data) else { return };
    for tensor in gguf.tensors() {
        assert_eq!(tensor.bytes().len(), tensor.info().bytes);
    }
    if let Ok(tokenizer) = Tokenizer::from_gguf(gguf.metadata()) {
        for parse_special in [false, true] {
            if let Ok(tokens) = tokenizer.encode("Hello, <s>wörld</s>\n 123", true, parse_special)
            {
                tokenizer.decode(&tokens, true);
            }
        }
    }
    if let Ok(Some(template)) = ChatTemplate::from_gguf(gguf.metadata()) {
        let _ = template.render(&[Message::new("user", "Hi")], true, "<s>", "</s>");
    }
});
