//! A grammar along a sequence, and along the trees that are drafted behind it.
//!
//! The parser stands behind the sequence, or behind a node of a tree: it goes to a node by taking back the tokens that
//! do not lead there, and by reading those that do. What it reads of a tree must not show in the text. So if a limit of
//! the parser is exceeded after it has read drafted tokens, it starts again without them.

use crate::text::{Constraint, TokenMask};
use crate::tree::{GrowingTree, MAX_NODES, Tree};
use smallvec::SmallVec;
use std::time::{Duration, Instant};

/// Largest number of tokens that must follow and enter one tree.
pub(crate) const MAX_FORCED: usize = 15;

/// The parser's limits count from one mask to the next, so there is one after so many tokens.
const MASK_EVERY: usize = 32;

/// The tokens that may follow a sequence, or a node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// All of them.
    All,
    /// None, since the node ends the text.
    Nothing,
    /// This one alone.
    One(u32),
    /// Those of which [`Constrained::allows`] or [`Constrained::node_mask`] says so.
    Some,
}

/// The constraint of a generation. See the module.
pub(crate) struct Constrained {
    constraint: Constraint,
    /// The constraint before the generation, whose first token is the token `start` of the sequence.
    origin: Constraint,
    start: usize,
    /// Number of the sequence's tokens that the parser has read, or that came before the generation.
    len: usize,
    /// The tokens that must follow them; `None` until that is asked for.
    forced: Option<Vec<u32>>,
    /// How many of the sequence's tokens the parser had read when it was asked for them.
    forced_at: usize,
    /// What must follow nodes of this round's tree, by the drafted tokens that lead there from `root` tokens on.
    behind_nodes: Vec<(SmallVec<[u32; MAX_NODES]>, Vec<u32>)>,
    root: usize,
    /// The drafted tokens that the parser has read behind the sequence.
    drafted: SmallVec<[u32; MAX_NODES]>,
    /// Whether drafted tokens were tried since it started.
    has_drafted: bool,
    /// Whether it reads drafted tokens, which it does until they exceed a limit.
    is_for_drafts: bool,
    /// Whether it was asked about the tree of this round.
    is_asked: bool,
    /// Length of the sequence at which the parser's limits were exceeded.
    exhausted_at: Option<usize>,
    /// Time of all this since [`Constrained::take_time`].
    time: Duration,
}

impl Constrained {
    /// A constraint of what follows `len` tokens.
    pub fn new(constraint: Constraint, len: usize) -> Constrained {
        Constrained {
            origin: constraint.clone(),
            constraint,
            start: len,
            len,
            forced: None,
            forced_at: len,
            behind_nodes: Vec::new(),
            root: len,
            drafted: SmallVec::new(),
            has_drafted: false,
            is_for_drafts: true,
            is_asked: false,
            exhausted_at: None,
            time: Duration::ZERO,
        }
    }

    /// Which tokens may follow `tokens`; `None` if all may, or if limits were exceeded.
    pub fn mask(&mut self, tokens: &[u32]) -> Option<TokenMask> {
        self.timed(|this| if this.advance(tokens) { this.sequence_mask(tokens) } else { None })
    }

    /// What may follow `tokens`; `None` if only [`Constrained::mask`] tells, as it must for each [`MASK_EVERY`]th token.
    pub fn next(&mut self, tokens: &[u32]) -> Option<Allowed> {
        self.timed(|this| {
            if !this.advance(tokens) {
                return None;
            }
            if this.constraint.is_free() {
                return Some(Allowed::All);
            }
            match this.forced_next().first() {
                Some(token) => Some(Allowed::One(*token)),
                None => (!tokens.len().is_multiple_of(MASK_EVERY)).then_some(Allowed::Some),
            }
        })
    }

    /// The tokens that must follow `tokens`, at most `most`.
    pub fn forced(&mut self, tokens: &[u32], most: usize) -> Vec<u32> {
        self.is_asked = false;
        self.behind_nodes.clear();
        self.root = tokens.len();
        if most == 0 {
            return Vec::new();
        }
        self.timed(|this| {
            let can_go_on = this.advance(tokens);
            let forced = if can_go_on { this.forced_next() } else { &[] };
            forced[..forced.len().min(most)].to_vec()
        })
    }

    /// The token that ends the text, if it is complete behind `tokens` and nothing else may follow.
    pub fn end(&mut self, tokens: &[u32]) -> Option<u32> {
        self.timed(|this| if this.advance(tokens) { this.constraint.end() } else { None })
    }

    /// Goes to a node of a tree whose root is the last of `tokens`, and returns what may follow it.
    pub(super) fn go_to(&mut self, tokens: &[u32], tree: &Tree, node: usize) -> Allowed {
        self.is_asked = true;
        self.timed(|this| this.node_allows(tokens, tree, node))
    }

    /// Whether this token may follow the sequence or node where it is.
    pub fn allows(&mut self, token: u32) -> bool {
        self.timed(|this| this.constraint.allows(token))
    }

    /// How many of these tokens may follow the node where it is, one after another.
    pub(super) fn count_allowed(&mut self, tokens: &[u32]) -> usize {
        self.timed(|this| this.constraint.count_allowed(tokens))
    }

    /// The tokens that may follow the node where it is; `None` if a limit is exceeded.
    pub(super) fn node_mask(&mut self) -> Option<TokenMask> {
        self.timed(|this| this.constraint.mask().ok().flatten())
    }

    /// Drops the drafted nodes that may not follow, unless the drafter asked for that when it proposed them.
    pub(super) fn prune(&mut self, tokens: &[u32], tree: &mut GrowingTree) {
        if self.is_asked || !tree.may_be_pruned() {
            return;
        }
        let values = self.timed(|this| this.values(tokens, tree));
        let allowed = values.iter().filter(|value| **value > 0.0).count();
        tree.tree_mut().prune_by(allowed, &values);
    }

    /// Adds what must follow the end of the likeliest path of a drafted tree.
    pub(super) fn extend(&mut self, tokens: &[u32], tree: &mut GrowingTree) {
        if !tree.may_be_pruned() {
            return;
        }
        let leaf = tree.tree().likeliest_leaf();
        let forced = self.timed(|this| match this.node_allows(tokens, tree.tree(), leaf) {
            Allowed::One(_) => this.constraint.forced().to_vec(),
            _ => Vec::new(),
        });
        tree.extend(&forced[..forced.len().min(MAX_FORCED)]);
    }

    /// Whether all tokens may follow, since the grammar has not begun.
    pub fn is_free(&self) -> bool {
        self.constraint.is_free()
    }

    /// Length of the sequence behind which the constraint cannot go on.
    pub fn exhausted_at(&self) -> Option<usize> {
        self.exhausted_at
    }

    /// The time spent since the last call.
    pub fn take_time(&mut self) -> Duration {
        std::mem::take(&mut self.time)
    }

    fn timed<T>(&mut self, work: impl FnOnce(&mut Constrained) -> T) -> T {
        let start = Instant::now();
        let done = work(self);
        self.time += start.elapsed();
        done
    }

    /// [`Constrained::mask`] where the parser has read all tokens.
    fn sequence_mask(&mut self, tokens: &[u32]) -> Option<TokenMask> {
        if let Some(token) = self.forced_next().first() {
            return Some(TokenMask::One(*token));
        }
        match self.constraint.mask() {
            Ok(mask) => mask,
            Err(_) if self.start_again(tokens) => self.sequence_mask(tokens),
            Err(_) => {
                self.exhausted_at = Some(tokens.len());
                None
            }
        }
    }

    /// The tokens that must follow the sequence.
    fn forced_next(&mut self) -> &[u32] {
        self.forced.get_or_insert_with(|| {
            self.forced_at = self.len;
            self.constraint.forced().to_vec()
        })
    }

    /// [`Constrained::go_to`] without the clock.
    fn node_allows(&mut self, tokens: &[u32], tree: &Tree, node: usize) -> Allowed {
        if self.len < tokens.len() {
            self.advance(tokens);
        }
        if self.exhausted_at.is_some() || !self.is_for_drafts || self.constraint.is_free() {
            return Allowed::All;
        }
        let path = tree.path(node);
        if path.iter().any(|token| self.constraint.is_end(*token)) {
            return Allowed::Nothing;
        }
        if !self.read_drafted(&path) {
            return Allowed::All;
        }
        let behind_sequence = self.forced.as_ref().map(|forced| forced.strip_prefix(&path[..]));
        let next = match behind_sequence {
            Some(Some([next, ..])) => Some(*next),
            Some(Some([])) if path.is_empty() => None,
            _ => {
                let forced = self.constraint.forced();
                let next = forced.first().copied();
                self.behind_nodes.push((path, forced.to_vec()));
                next
            }
        };
        next.map_or(Allowed::Some, Allowed::One)
    }

    /// Lets the parser stand behind the sequence and these drafted tokens. Returns whether it does.
    fn read_drafted(&mut self, path: &[u32]) -> bool {
        let same = self.drafted.iter().zip(path).take_while(|(a, b)| a == b).count();
        let back = self.drafted.len() - same;
        self.has_drafted = true;
        let read = (back == 0 || self.constraint.rollback(back).is_ok())
            && path[same..].iter().all(|token| self.constraint.append(*token).is_ok());
        self.drafted.truncate(same);
        self.drafted.extend_from_slice(&path[same..]);
        self.is_for_drafts = read;
        read
    }

    /// For each node of a tree whether it may follow: 1, or 0.
    fn values(&mut self, tokens: &[u32], tree: &GrowingTree) -> SmallVec<[f32; MAX_NODES]> {
        let (n_forced, tree) = (tree.n_forced(), tree.tree());
        let mut values = SmallVec::from_elem(1.0, n_forced + 1);
        let mut last = None;
        for node in n_forced + 1..tree.len() {
            let parent = tree.parent(node).expect("not the root");
            let allowed = match last {
                _ if values[parent] == 0.0 => Allowed::Nothing,
                Some((place, allowed)) if place == parent => allowed,
                _ => self.node_allows(tokens, tree, parent),
            };
            if values[parent] > 0.0 {
                last = Some((parent, allowed));
            }
            let token = tree.tokens()[node];
            let may_follow = match allowed {
                Allowed::All => true,
                Allowed::Nothing => false,
                Allowed::One(only) => token == only,
                Allowed::Some => self.constraint.allows(token),
            };
            values.push(f32::from(u8::from(may_follow)));
        }
        values
    }

    /// Lets the parser stand behind `tokens`. Returns whether it can go on.
    fn advance(&mut self, tokens: &[u32]) -> bool {
        let back = std::mem::take(&mut self.drafted).len();
        if back > 0 && self.constraint.rollback(back).is_err() {
            self.start_again(tokens);
        }
        let before = self.len;
        while self.exhausted_at.is_none() && self.len < tokens.len() {
            let token = tokens[self.len];
            let read = self.constraint.append(token).is_ok()
                || (self.start_again(tokens) && self.constraint.append(token).is_ok());
            self.len += 1;
            if !read {
                // A mask has allowed the token, so it stays.
                self.exhausted_at = Some(self.len);
            }
            let rest = self.forced.take().filter(|forced| forced.first() == Some(&token));
            self.forced = rest.map(|forced| forced[1..].to_vec()).filter(|rest| !rest.is_empty());
        }
        // A parser that has exceeded a limit reads nothing more: having read a token since, it had not.
        if self.forced.is_none() && self.len > before.max(self.root) {
            let path = &tokens[self.root..self.len];
            let known = self.behind_nodes.iter().find(|(node, _)| node[..] == *path);
            self.forced = known.map(|(_, forced)| forced.clone());
            self.forced_at = self.len;
        }
        self.exhausted_at.is_none()
    }

    /// Starts the parser again behind the same tokens, for good without drafted ones; `false` if it has read none.
    fn start_again(&mut self, tokens: &[u32]) -> bool {
        if !std::mem::take(&mut self.has_drafted) {
            return false;
        }
        self.constraint = self.origin.clone();
        self.drafted.clear();
        self.behind_nodes.clear();
        self.is_for_drafts = false;
        // What cannot be read again fails where it was asked for. Working out what must follow may exceed a limit too, which
        // shows at the next token: so it is done again where it was done.
        let known = &tokens[..self.len];
        for at in self.start..=known.len() {
            if self.forced.is_some() && at == self.forced_at {
                self.constraint.forced();
            }
            let Some(token) = known.get(at) else { break };
            let has_mask = !at.is_multiple_of(MASK_EVERY) || self.constraint.mask().is_ok();
            if !has_mask || self.constraint.append(*token).is_err() {
                break;
            }
        }
        true
    }
}
