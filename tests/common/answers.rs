//! Answers of a session, and how they are drawn.

use dovetail::{Generation, Result, Sampling, Session};

/// The most likely token each time.
pub fn greedy() -> Sampling {
    Sampling { temperature: 0.0, ..Sampling::default() }
}

/// A draw with penalties.
pub fn warm(seed: u64) -> Sampling {
    Sampling { temperature: 0.8, repeat_penalty: 1.1, seed, ..Sampling::default() }
}

/// Up to `n` tokens, end tokens or not.
pub fn generation(how: &Sampling, n: usize) -> Generation {
    Generation { sampling: how.clone(), n_predict: n, ignore_end: true, ..Generation::default() }
}

/// All tokens after an answer of up to `n` more, and the answer's text.
pub fn write(s: &mut Session, prompt: &[u32], how: &Sampling, n: usize) -> (Vec<u32>, String) {
    assert!(s.prompt(prompt, &mut |_, _| true).unwrap());
    let pieces: Vec<_> = s.generate(how, n).ignore_end().collect::<Result<_>>().unwrap();
    (s.tokens().to_vec(), pieces.into_iter().map(|piece| piece.text).collect())
}
