//! The same answer without a drafter and with each kind of drafter, and how much faster it comes:
//! `cargo run --release --example speculation -- model.gguf`.

use dovetail::draft::SpecType;
use dovetail::speculate::SpecOptions;
use dovetail::{Options, Result, Sampling};

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).unwrap_or("model.gguf".into());
    let model = Options::default().model(path.as_ref(), &mut ())?;
    let text = "Name the planets, the nearest to the sun first, and say a word about each.";
    let prompt = model.tokenizer().encode_prompt(text)?;
    let mut plain = None;
    for name in ["none", "ngram", "auto"] {
        let kind: SpecType = name.parse().expect("it is one of them");
        let speculation = SpecOptions { kind, ..SpecOptions::default() };
        let options = Options { speculation, ..Options::default() };
        let mut session = options.session(model.clone(), &mut ())?;
        session.prompt(&prompt, &mut |_, _| true)?;
        let pieces = session.generate(&Sampling::default(), 200);
        let answer = pieces.map(|piece| Ok(piece?.text)).collect::<Result<String>>()?;
        let stats = session.stats();
        let speed = stats.predicted_n as f64 / stats.predicted_time.as_secs_f64();
        let (first, first_speed) = plain.get_or_insert((answer.clone(), speed));
        assert_eq!(*first, answer, "no drafter changes the text");
        let accepted = session.rounds().map_or(0, |rounds| rounds.accepted);
        let faster = speed / *first_speed;
        println!("{name}: {speed:.1} tokens/s, {faster:.2} x plain, {accepted} accepted");
    }
    Ok(())
}
