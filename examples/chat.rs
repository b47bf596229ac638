//! A conversation: `cargo run --release --example chat -- model.gguf`.

use dovetail::{ChatTemplate, Error, Message, Options, Result, Sampling};
use std::io::Write;

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).unwrap_or("model.gguf".into());
    let mut session = dovetail::open(path, &Options::default())?;
    let template = ChatTemplate::from_gguf(session.model().gguf().metadata())?
        .ok_or(Error::Template("the model has none".into()))?;
    let mut messages = Vec::new();
    for line in std::io::stdin().lines().map_while(|line| line.ok()) {
        messages.push(Message::new("user", &line));
        let (tokenizer, n_ctx) = (session.model().tokenizer(), session.n_ctx());
        let prompt = template.prompt(tokenizer, &messages, true, n_ctx)?;
        session.prompt(&prompt, &mut |_, _| true)?;
        let mut answer = String::new();
        for piece in session.generate(&Sampling::default(), usize::MAX) {
            let text = piece?.text;
            print!("{text}");
            let _ = std::io::stdout().flush();
            answer += &text;
        }
        println!();
        messages.push(Message::new("assistant", &answer));
    }
    Ok(())
}
