//! Which slot gets a prompt, and where the keys and values of its beginning come from.

use super::drafting::speculations;
use super::engine::Engine;
use super::request::Slot;
use smallvec::SmallVec;

/// A slot is preferred for a prompt if its sequence shares at least 1 / `COMMON_PART` of the prompt.
const COMMON_PART: usize = 10;

/// Fewer tokens are rather read again than copied.
const LEAST_COPIED: usize = 32;

/// A sequence is kept only if a prompt replaces at least 1 / `KEPT_PART` of it: the whole of it is copied.
const KEPT_PART: usize = 16;

impl Engine {
    /// The free slot for a prompt.
    pub(super) fn choose_slot(&self, prompt: &[u32]) -> Option<usize> {
        let free = self.slots.iter().enumerate().filter(|(_, slot)| slot.request.is_none());
        let least = prompt.len().div_ceil(COMMON_PART);
        let worth = |slot: &Slot| {
            let common = slot.stream.common_with(prompt);
            let common = if common >= least { common } else { 0 };
            (common, std::cmp::Reverse(slot.last_used))
        };
        free.max_by_key(|(place, slot)| (worth(slot), std::cmp::Reverse(*place))).map(|(i, _)| i)
    }

    /// Sets how much memory may hold sequences that no slot holds any more; 0, the default, for none. A prompt that
    /// begins as one of them does is not read anew. If the model has windows, half of the memory is for what the slots'
    /// sequences need to go back to a common beginning.
    pub fn set_prefix_cache(&mut self, bytes: usize) {
        let windows = self.slots.iter().any(|slot| slot.stream.has_windows());
        let for_slots = if windows { bytes / 2 } else { 0 };
        self.prefixes.set_limit(bytes - for_slots);
        let each = for_slots / self.slots.len();
        self.slots.iter_mut().for_each(|slot| slot.stream.set_checkpoint_bytes(each));
    }

    /// Keeps a free slot's sequence if a prompt is to replace much of it, and copies the prefix to it that another
    /// slot's sequence, or one that was kept, shares with the prompt.
    pub(super) fn bring_prefix(&mut self, place: usize, prompt: &[u32]) {
        let mut drafters: SmallVec<[_; 4]> = speculations(&mut self.drafters).collect();
        let own = self.slots[place].stream.cached_with(prompt);
        let others = self.slots.iter().enumerate().filter(|(other, _)| *other != place);
        let others = others.map(|(other, slot)| (slot.stream.cached_with(prompt), other));
        let (shared, other) = others.max_by_key(|(shared, _)| *shared).unwrap_or((0, place));
        let stream = &mut self.slots[place].stream;
        let replaced = stream.context().saturating_sub(own);
        if replaced >= LEAST_COPIED.max(stream.context() / KEPT_PART)
            && self.prefixes.can_hold(stream.prefix_bytes(stream.context()))
            && let Some(saved) = stream.save_prefix(stream.context(), &mut drafters)
        {
            self.prefixes.insert(saved);
        }
        let kept = self.prefixes.find(prompt);
        let kept = kept.filter(|(_, common)| *common >= own + LEAST_COPIED);
        if let Some((i, common)) = kept
            && common >= shared
        {
            self.slots[place].stream.load_prefix(self.prefixes.get(i), &mut drafters);
        } else if shared >= own + LEAST_COPIED {
            let saved = self.slots[other].stream.save_prefix(shared, &mut drafters);
            if let Some(saved) = saved {
                self.slots[place].stream.load_prefix(&saved, &mut drafters);
            }
        }
    }
}
