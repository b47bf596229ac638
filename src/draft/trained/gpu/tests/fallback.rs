//! A device that fails, or has no room: the text goes on, and so does drafting, on the CPU.

use super::Emulated;
use super::common::answers::{greedy, warm};
use super::common::bits::sequence;
use super::common::drafter::{SHAPES, Shape};
use super::common::tiny::{N_VOCAB, tensor, tiny, types};
use crate::draft::trained::placement::TrainedDrafter;
use crate::draft::{DraftDevice, Drafter, Placement};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::tree::TreeShape;
use dovetail::speculate::Speculation;
use dovetail::{Sampling, Session, SessionOptions};
use std::collections::BTreeSet;
use std::sync::Arc;
use tempfile::NamedTempFile;

const GROWTH: TreeShape = TreeShape { depth: 3, width: 2, nodes: 6 };
/// An answer is taken in so many parts of so many tokens.
const PARTS: [usize; 2] = [6, 5];

/// When a failure showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Opening,
    Prompt,
    FirstRounds,
    Later,
}

fn session(target: &Arc<Model>) -> Session {
    let options = SessionOptions { threads: 2, n_ubatch: 16, ..SessionOptions::default() };
    Session::new(target.clone(), options).unwrap()
}

/// A drafter's file for this session.
fn file(session: &Session, shape: Shape) -> NamedTempFile {
    shape.parts(tiny("f32"), session.model()).write()
}

/// The drafter of a file on the emulator, once that was prepared.
fn open(
    session: &Session,
    file: &NamedTempFile,
    device: DraftDevice,
    prepare: impl Fn(&mut Emulated) + Send + 'static,
) -> Result<TrainedDrafter> {
    let growth = Some(GROWTH);
    let placement = Placement { device, growth, ..Placement::default() };
    let setup = crate::draft::DrafterContext { placement, ..session.setup(Some(file.path())) };
    TrainedDrafter::open(&setup, move |_| {
        let mut device = Emulated::new(0);
        prepare(&mut device);
        Ok((Box::new(device), "an emulator".into()))
    })
}

/// The sequence after an answer, and what the drafter said on the way: when, what, and how many draft tokens had
/// been verified by then.
fn answer(
    session: &mut Session,
    prompt: &[u32],
    how: &Sampling,
) -> (Vec<u32>, Vec<(Stage, String, usize)>) {
    let mut said = Vec::new();
    let mut listen = |session: &mut Session, stage: Stage| {
        let drafted = session.rounds().map_or(0, |rounds| rounds.drafted);
        said.extend(session.take_drafter_notice().map(|notice| (stage, notice, drafted)));
    };
    listen(session, Stage::Opening);
    session.prompt(prompt, &mut |_, _| true).unwrap();
    listen(session, Stage::Prompt);
    for part in 0..PARTS[0] {
        session.generate(how, PARTS[1]).ignore_end().for_each(|piece| drop(piece.unwrap()));
        listen(session, if part == 0 { Stage::FirstRounds } else { Stage::Later });
    }
    (session.tokens().to_vec(), said)
}

#[test]
fn a_failure_at_any_time_leaves_the_text_and_the_cpu_drafts_on() {
    let target = Arc::new(tiny("f32").parts().load().unwrap());
    // The ring does not hold all of it: a failure in the prompt shows there.
    let prompt = sequence(230, N_VOCAB, 3);
    let all = [Stage::Opening, Stage::Prompt, Stage::FirstRounds, Stage::Later];
    for (shape, how) in [(SHAPES[0], greedy()), (SHAPES[4], warm(5))] {
        let (expected, _) = answer(&mut session(&target), &prompt, &how);
        let file = file(&session(&target), shape);
        // Where the drafter was in the end, what it said, and draft tokens in all.
        let run = |n_launches: u32| {
            let mut session = session(&target);
            let prepare = move |device: &mut Emulated| device.fail_after(n_launches);
            let drafter = open(&session, &file, DraftDevice::Auto, prepare).unwrap();
            session.speculate(Some(Speculation::new(Box::new(drafter), GROWTH))).unwrap();
            let (found, said) = answer(&mut session, &prompt, &how);
            assert_eq!(found, expected, "{shape:?}, {n_launches} launches, {said:?}");
            assert!(session.take_drafter_error().is_none());
            let drafted = session.rounds().unwrap().drafted;
            let speculation = session.speculate(None).unwrap().unwrap();
            (speculation.drafter().place().to_owned(), said, drafted)
        };
        let (mut stages, mut n_launches) = (BTreeSet::new(), 0);
        while stages.len() < all.len() {
            let (place, said, drafted) = run(n_launches);
            let [(stage, notice, drafted_before)] = &said[..] else { panic!("{said:?}") };
            let about = format!("{shape:?}, {n_launches} launches, {said:?}");
            assert!(notice.contains("as a test asked") && !notice.contains('\n'), "{about}");
            assert_eq!(place, "on the CPU");
            assert!(drafted > *drafted_before, "{about}");
            stages.insert(*stage);
            n_launches += 1 + n_launches / 2;
        }
        let (place, said, drafted) = run(u32::MAX);
        assert!(place.starts_with("on an emulator (") && said.is_empty(), "{place}: {said:?}");
        assert!(drafted > 0);
    }
}

/// Launches of the round that is run when a drafter is opened.
fn launches_of_opening(target: &Arc<Model>, file: &NamedTempFile) -> u32 {
    let opens = |n: &u32| {
        let n = *n;
        let prepare = move |device: &mut Emulated| device.fail_after(n);
        open(&session(target), file, DraftDevice::Gpu(None), prepare).is_ok()
    };
    (0..).find(opens).unwrap()
}

#[test]
fn the_cpu_drafts_no_worse_after_a_failure_in_the_prompt() {
    let target = Arc::new(tiny("f32").parts().load().unwrap());
    let prompt = sequence(90, N_VOCAB, 3);
    let mut session = session(&target);
    let file = file(&session, SHAPES[0]);
    let n_launches = launches_of_opening(&target, &file);
    let prepare = move |device: &mut Emulated| device.fail_after(n_launches);
    let drafter = open(&session, &file, DraftDevice::Gpu(None), prepare).unwrap();
    session.speculate(Some(Speculation::new(Box::new(drafter), GROWTH))).unwrap();
    let (_, said) = answer(&mut session, &prompt, &greedy());
    assert_eq!(said.len(), 1, "{said:?}");
    let rounds = session.rounds().unwrap();
    // The first round may have been without a tree, and the last of each part is.
    assert!(rounds.depths[0].0 + 1 >= rounds.rounds - PARTS[0], "{rounds:?}");
}

#[test]
fn where_the_cpu_cannot_go_on_the_answer_does_without_a_drafter() {
    let target = Arc::new(tiny("f32").parts().load().unwrap());
    let prompt = sequence(90, N_VOCAB, 3);
    let (expected, _) = answer(&mut session(&target), &prompt, &greedy());
    let mut session = session(&target);
    let file = file(&session, SHAPES[0]);
    let n_launches = launches_of_opening(&target, &file);
    let prepare = move |device: &mut Emulated| device.fail_after(n_launches);
    let drafter = open(&session, &file, DraftDevice::Auto, prepare).unwrap();
    session.speculate(Some(Speculation::new(Box::new(drafter), GROWTH))).unwrap();
    drop(file);
    let (found, said) = answer(&mut session, &prompt, &greedy());
    assert_eq!((found, said.len()), (expected, 0));
    let error = session.take_drafter_error().unwrap().to_string();
    assert!(error.contains("as a test asked; and it cannot go on on the CPU: "), "{error}");
    assert!(error.contains("no such file"), "{error}");
}

#[test]
fn without_room_it_runs_on_the_cpu_unless_a_gpu_was_asked_for() {
    let target = Arc::new(tiny("f32").parts().load().unwrap());
    let session = session(&target);
    let file = file(&session, SHAPES[0]);
    let no_room = |device: &mut Emulated| device.limit(10_000);
    let mut drafter = open(&session, &file, DraftDevice::Auto, no_room).unwrap();
    assert_eq!((drafter.place(), drafter.why_there()), ("on the CPU", None));
    let notice = drafter.take_notice().unwrap();
    assert_eq!(notice, "the drafter runs on the CPU: there is no room");
    assert_eq!(drafter.take_notice(), None);
    for device in [DraftDevice::Gpu(None), DraftDevice::Gpu(Some(3))] {
        let error = open(&session, &file, device, no_room).err().unwrap();
        assert_eq!(error.to_string(), format!("no drafting on {device}: there is no room"));
    }
}

#[test]
fn what_no_gpu_runs_is_on_the_cpu_without_a_word() {
    let target = Arc::new(tiny("f32").parts().load().unwrap());
    let session = session(&target);
    let eagle3 = SHAPES.into_iter().find(|shape| shape.is_eagle3()).unwrap();
    let [dgf, eagle3] = [SHAPES[0], eagle3].map(|shape| file(&session, shape));
    let mut drafter = open(&session, &eagle3, DraftDevice::Auto, |_| {}).unwrap();
    assert!(drafter.why_there().unwrap().contains("EAGLE-3"));
    assert_eq!(drafter.place(), "on the CPU");
    assert_eq!(drafter.take_notice(), None);
    let error = open(&session, &eagle3, DraftDevice::Gpu(None), |_| {}).err().unwrap();
    let Error::Drafting { error: why, .. } = &error else { panic!("{error}") };
    assert!(matches!(**why, Error::Unsupported(_)) && error.to_string().contains("EAGLE-3"));
    let mut biased = SHAPES[0].parts(tiny("f32"), session.model());
    let n = biased.tensor("blk.0.attn_k.weight").shape[1] as usize;
    biased.tensors.push(tensor("blk.0.attn_k.bias", types::F32, &[n], &vec![0.5; n]));
    let drafter = open(&session, &biased.write(), DraftDevice::Auto, |_| {}).unwrap();
    assert_eq!(drafter.why_there(), Some("drafters with biases run on the CPU"));

    let drafter = open(&session, &dgf, DraftDevice::Cpu, |_| panic!("nobody asked")).unwrap();
    assert_eq!((drafter.place(), drafter.why_there()), ("on the CPU", None));
    let drafter = open(&session, &dgf, DraftDevice::Auto, |_| {}).unwrap();
    assert!(drafter.place().starts_with("on an emulator ("), "{}", drafter.place());
}
