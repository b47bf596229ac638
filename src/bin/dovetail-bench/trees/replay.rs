//! Replays recorded answers under policies of tree sizes and a table of costs.
//!
//! The answer is known, and what the drafter says at each of its positions: so each policy walks over the same
//! answers, grows its trees from the recorded ones, takes over what the answer agrees with, and pays what the table
//! says.

use dovetail::tree::confidence::ByTemperature;
use dovetail::tree::cost::Costs;
use dovetail::tree::plan::Taken;
use dovetail::tree::{Grower, Planner, Policy, Proposal, Tree};
use dovetail::{Error, Result};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

/// A recorded answer.
pub struct Answer {
    category: String,
    prompt_tokens: usize,
    tokens: Vec<u32>,
    /// What was grown behind each token but the last.
    trees: Vec<Tree>,
}

/// Reads a record.
pub fn read(path: &Path) -> Result<Vec<Answer>> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let mut answers = Vec::new();
    for (i, line) in text.lines().enumerate().skip(1) {
        let wrong =
            || Error::Invalid(format!("{}, line {}: no recorded answer", path.display(), i + 1));
        let value: Value = serde_json::from_str(line).map_err(|_| wrong())?;
        answers.push(answer(&value).ok_or_else(wrong)?);
    }
    Ok(answers)
}

fn answer(value: &Value) -> Option<Answer> {
    let numbers = |value: &Value| -> Option<Vec<f64>> {
        value.as_array()?.iter().map(Value::as_f64).collect()
    };
    let tokens: Vec<u32> = numbers(&value["tokens"])?.into_iter().map(|n| n as u32).collect();
    let trees = value["trees"].as_array()?.iter().zip(&tokens).map(|(tree, root)| {
        let mut grown = Tree::new(*root);
        let nodes = numbers(&tree["parents"])?.into_iter().zip(numbers(&tree["tokens"])?);
        for ((parent, token), path) in nodes.zip(numbers(&tree["log_probs"])?) {
            let parent = parent as usize;
            let before = *grown.log_probs().get(parent)?;
            grown.push(parent, token as u32, path as f32 - before)?;
        }
        Some(grown)
    });
    Some(Answer {
        category: value["category"].as_str()?.to_owned(),
        prompt_tokens: value["prompt_tokens"].as_u64()? as usize,
        trees: trees.collect::<Option<_>>()?,
        tokens,
    })
}

/// What a policy made of the answers of a category.
#[derive(Clone, Copy, Default)]
pub struct Sum {
    pub tokens: usize,
    pub rounds: usize,
    pub nodes: usize,
    pub expected: f64,
    pub seconds: f64,
    pub plain_seconds: f64,
}

impl Sum {
    pub fn speedup(&self) -> f64 {
        self.plain_seconds / self.seconds
    }

    pub fn add(&mut self, other: &Sum) {
        self.tokens += other.tokens;
        self.rounds += other.rounds;
        self.nodes += other.nodes;
        self.expected += other.expected;
        self.seconds += other.seconds;
        self.plain_seconds += other.plain_seconds;
    }
}

/// Walks over the answers as the policy would.
pub fn replay(
    answers: &[Answer],
    costs: &Costs,
    policy: Policy,
    rest: f64,
) -> BTreeMap<String, Sum> {
    let planner = Planner::new(policy, costs.clone(), ByTemperature::default());
    let planner = RefCell::new(planner);
    let mut grower = Grower::default();
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for answer in answers {
        let sum = sums.entry(answer.category.clone()).or_default();
        let mut at = 0;
        while at < answer.trees.len() {
            let left = answer.trees.len() - at;
            let context = answer.prompt_tokens + at;
            planner.borrow_mut().begin(1, context);
            let growth = planner.borrow_mut().tree(left, 64);
            let recorded = &answer.trees[at];
            let mut tree = Tree::new(answer.tokens[at]);
            let mut draft = 0.0;
            if !growth.is_none() {
                let mut places = vec![0];
                let propose =
                    |frontier: &Tree, level: std::ops::Range<usize>, out: &mut Vec<Proposal>| {
                        draft += if level.start == 0 {
                            costs.draft.first
                        } else {
                            costs.draft.level.seconds(level.len())
                        };
                        for node in level {
                            if let Some(parent) = frontier.parent(node) {
                                let place = recorded.child(places[parent], frontier.tokens()[node]);
                                places.push(place.expect("it was proposed"));
                            }
                            let before = recorded.log_probs()[places[node]];
                            out.extend(recorded.children(places[node]).take(growth.width).map(
                                |child| Proposal {
                                    parent: node,
                                    token: recorded.tokens()[child],
                                    log_prob: recorded.log_probs()[child] - before,
                                },
                            ));
                        }
                        Ok(())
                    };
                let next = |depth: usize, frontier: &Tree, guesses: &[Proposal]| {
                    planner.borrow_mut().next(depth, frontier, guesses)
                };
                grower
                    .grow(growth, f32::NEG_INFINITY, &mut tree, propose, next)
                    .expect("nothing fails");
            }
            planner.borrow_mut().grown(&tree);
            planner.borrow_mut().choose(&mut [&mut tree]);
            let mut path = vec![0];
            while let Some(token) = answer.tokens.get(at + path.len())
                && let Some(child) = tree.child(path[path.len() - 1], *token)
            {
                path.push(child);
            }
            let verify = costs.verify.seconds(1, context, tree.len());
            let whole = draft + verify + rest;
            planner.borrow_mut().accepted(&tree, &path);
            planner.borrow_mut().end(Taken { draft, verify, whole });
            at += path.len();
            sum.rounds += 1;
            sum.tokens += path.len();
            sum.nodes += tree.len();
            sum.seconds += whole;
            sum.plain_seconds += path.len() as f64 * (costs.verify.seconds(1, context, 1) + rest);
        }
    }
    sums
}
