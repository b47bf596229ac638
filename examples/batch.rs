//! Several prompts at once, one pass over the weights for all:
//! `cargo run --release --example batch -- model.gguf "A prompt" "Another"`.

use dovetail::{Options, Request, Result};
use std::collections::HashMap;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or("model.gguf".into());
    let options = Options::default();
    let model = options.model(path.as_ref(), &mut ())?;
    let mut engine = options.engine(model.clone(), 4, &mut ())?;
    let mut waiting = arguments;
    let mut answers = HashMap::new();
    loop {
        while engine.has_room() {
            let Some(prompt) = waiting.next() else { break };
            let tokens = model.tokenizer().encode_prompt(&prompt)?;
            answers.insert(engine.add(Request::new(tokens, 100))?, prompt);
        }
        if answers.is_empty() {
            return Ok(());
        }
        engine.step(&mut |id, piece| {
            if let Some(text) = answers.get_mut(&id) {
                *text += &piece.text;
            }
        })?;
        let ended = answers.extract_if(|id, _| engine.stop(*id).is_some());
        for (id, text) in ended.collect::<Vec<_>>() {
            println!("{text}\n");
            engine.remove(id);
        }
    }
}
