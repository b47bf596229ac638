//! Attention: whatever a row sees, and whatever lies beside that, it has the bits of the naive version
//! on every instruction set, for every kind of cache and every way to cut a pass into work, with and without
//! soft caps and sinks.

mod common;

use common::{bits, gaussian, isas};
use dovetail_kernels::cpu::attention::{self, Cells, Half, Plan, Scratch, Shape, View};
use dovetail_kernels::cpu::attention::{Attention, Parts};
use dovetail_kernels::cpu::{CacheType, order};
use proptest::prelude::*;
use proptest::test_runner::TestRng;

/// Windows of every kind: none, of a few positions, up to longer ones than the rows have.
fn windows() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![Just(None), (1usize..80).prop_map(Some), (200usize..900).prop_map(Some)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn attention_is_alike_for_rows_that_see_any_number_of_positions(
        heads16 in 1usize..9, seed in any::<[u8; 32]>(), longest in 1usize..700, n in 1usize..9,
        group in 1usize..5, window in windows(),
    ) {
        let rng = &mut TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed);
        let paths: Vec<Vec<usize>> =
            (0..n).map(|_| (0..1 + rng.next_u32() as usize % longest).collect()).collect();
        let plain = |path: &Vec<usize>| View::plain(path.len()).within(window);
        let views: Vec<View> = paths.iter().map(plain).collect();
        check_attention(rng, 16 * heads16, group, &views, &paths);
    }

    #[test]
    fn attention_of_a_run_of_a_prompt_is_that_of_its_rows(
        heads16 in 1usize..5, seed in any::<[u8; 32]>(), before in 0usize..600, n in 1usize..120,
        group in 1usize..5, window in windows(),
    ) {
        let rng = &mut TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed);
        let paths: Vec<Vec<usize>> = (1..=n).map(|i| (0..before + i).collect()).collect();
        let plain = |path: &Vec<usize>| View::plain(path.len()).within(window);
        let views: Vec<View> = paths.iter().map(plain).collect();
        check_attention(rng, 16 * heads16, group, &views, &paths);
    }

    #[test]
    fn attention_of_a_tree_is_that_of_its_paths(
        heads16 in 1usize..9, seed in any::<[u8; 32]>(), multiple in 0usize..3, around in 0usize..70,
        n in 1usize..65, group in 1usize..4, bushy in 1u32..20, window in windows(),
    ) {
        let rng = &mut TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed);
        // Contexts around multiples of a chunk, so that trees lie across its edge.
        let prefix = (multiple * 256 + around).saturating_sub(64);
        let mut masks: Vec<u64> = Vec::new();
        for node in 0..n {
            let above = rng.next_u32() as usize % node.clamp(1, bushy as usize);
            let parent = if node > 0 { masks[node - 1 - above] } else { 0 };
            masks.push(parent | 1 << node);
        }
        let nodes = |mask: u64| (0..64).filter(move |j| mask >> j & 1 == 1);
        let paths: Vec<Vec<usize>> = masks
            .iter()
            .map(|&mask| (0..prefix).chain(nodes(mask).map(|j| prefix + j)).collect())
            .collect();
        let tree = |&mask: &u64| View::tree(prefix, mask).within(window);
        let views: Vec<View> = masks.iter().map(tree).collect();
        check_attention(rng, 16 * heads16, group, &views, &paths);
    }
}

#[test]
fn heads_wider_than_a_chunk_and_groups_larger_than_a_tile_are_attended() {
    let rng = &mut common::rng();
    for (head_dim, group) in [(272, 1), (512, 3), (32, 71)] {
        for (prefix, window) in [(0, None), (255, None), (256, None), (256, Some(4))] {
            let masks = [0b1, 0b11, 0b101, 0b1101, 0b1_0001];
            let nodes = |mask: u64| (0..64).filter(move |j| mask >> j & 1 == 1);
            let paths = masks.map(|m| (0..prefix).chain(nodes(m).map(|j| prefix + j)).collect());
            let views = masks.map(|mask| View::tree(prefix, mask).within(window));
            check_attention(rng, head_dim, group, &views, &paths);
        }
    }
}

/// Attention of the rows of one pass, through the plan that the engine uses, on every instruction set
/// and for every kind of cache, against the naive version over the positions that each row sees of its path.
fn check_attention(
    rng: &mut TestRng,
    head_dim: usize,
    group: usize,
    views: &[View],
    paths: &[Vec<usize>],
) {
    let kv_heads = 2;
    let positions = 1 + *paths.iter().flatten().max().unwrap();
    let seen: Vec<&[usize]> =
        paths.iter().zip(views).map(|(path, view)| &path[view.start()..]).collect();
    // Half of the time one position stays unwritten: it may show in the rows that see it, but in no
    // other.
    let drawn = seen[rng.next_u32() as usize % seen.len()];
    let poison = [drawn[0], drawn[drawn.len() - 1]][rng.next_u32() as usize % 2];
    let spares_some = seen.iter().any(|seen| !seen.contains(&poison));
    let poison = if rng.next_u32() & 1 == 0 && spares_some { poison } else { usize::MAX };
    let types = CacheType::ALL.into_iter().filter(|ty| ty.fits(head_dim));
    let pairs: Vec<_> = types.clone().flat_map(|k| types.clone().map(move |v| (k, v))).collect();
    let [first, some] = [pairs.len(), pairs.len().min(4)].map(|n| rng.next_u32() as usize % n);
    for ty in pairs.into_iter().cycle().skip(first).take(1 + some) {
        // What nobody has written is all ones: no number either.
        // A ring has room for the positions that are seen, and for no more.
        let lowest = *seen.iter().copied().flatten().min().unwrap();
        let lowest = [0, lowest][rng.next_u32() as usize % 2];
        let pieces = (positions - lowest).next_multiple_of(attention::CHUNK);
        let head_bytes = |ty: CacheType| pieces * ty.row_bytes(head_dim);
        let mut caches =
            [vec![0xff; kv_heads * head_bytes(ty.0)], vec![0xff; kv_heads * head_bytes(ty.1)]];
        let mut rows: [Vec<Vec<f32>>; 2] = [Vec::new(), Vec::new()]; // (kv_heads · positions)
        let halves = [(Half::Keys, ty.0), (Half::Values, ty.1)];
        for (cache, rows, (half, ty)) in
            caches.iter_mut().zip(&mut rows).zip(halves).map(|((a, b), c)| (a, b, c))
        {
            for cache in cache.chunks_mut(head_bytes(ty)) {
                for position in 0..positions {
                    let row = gaussian(rng, head_dim, 2.0);
                    if position != poison && position >= lowest {
                        ty.store(half, cache, position % pieces, &row);
                    }
                    rows.push(ty.rounded(&row));
                }
            }
        }
        let shape = Shape { kv_heads, group, head_dim };
        let queries = gaussian(rng, kv_heads * views.len() * group * head_dim, 1.0);
        let query = |head: usize, row: usize| {
            let at = (head / group * views.len() + row) * group + head % group;
            &queries[at * head_dim..][..head_dim]
        };
        let soft_cap = [None, Some(2.5)][rng.next_u32() as usize % 2];
        let n_sinks = [0, kv_heads * group][rng.next_u32() as usize % 2];
        let sinks = gaussian(rng, n_sinks, 8.0);
        let expected = |row: usize, head: usize| {
            let of = |rows: &[Vec<f32>]| {
                let base = head / group * positions;
                seen[row].iter().map(|p| rows[base + p].clone()).collect::<Vec<_>>()
            };
            let start = views[row].start();
            let scores = order::Scores { soft_cap, sink: sinks.get(head).copied() };
            let (keys, values) = (of(&rows[0]), of(&rows[1]));
            bits(&order::attention(query(head, row), start, &keys, &values, scores))
        };
        let members = 1 + rng.next_u32() as usize % 5;
        for k in isas() {
            let mut out = vec![f32::NAN; views.len() * kv_heads * group * head_dim];
            let mut scratch = Scratch::new(shape.unit_rows(), head_dim);
            let mut first = 0;
            while first < views.len() {
                let room = shape.room(views.len() / 2, positions);
                let plan = Plan::new(shape, views, [views.len()], first, room, members);
                let mut parts = vec![f32::NAN; plan.len()];
                for (i, parts) in parts.chunks_mut(plan.unit_len()).enumerate() {
                    let cells = |_, head: usize| {
                        let [keys, values] = [0, 1].map(|half| {
                            let ty = halves[half].1;
                            let bytes = &caches[half][head * head_bytes(ty)..][..head_bytes(ty)];
                            Cells::new(ty, halves[half].0, head_dim, bytes)
                        });
                        (keys, values)
                    };
                    let task = plan.task(i, &queries, views, cells);
                    (k.attention)(&Attention { soft_cap, ..task }, &mut scratch, parts);
                }
                for row in 0..plan.tokens() {
                    for head in 0..kv_heads * group {
                        let at = (first + row) * kv_heads * group + head;
                        let parts = plan.parts(&parts, row, head, &views[first + row]);
                        let parts = Parts { sink: sinks.get(head).copied(), ..parts };
                        (k.combine)(&parts, &mut out[at * head_dim..][..head_dim]);
                    }
                }
                first += plan.tokens();
            }
            for (i, out) in out.chunks(head_dim).enumerate() {
                let (row, head) = (i / (kv_heads * group), i % (kv_heads * group));
                if !seen[row].contains(&poison) {
                    assert_eq!(bits(out), expected(row, head), "{}, {ty:?}, row {row}", k.name);
                }
            }
        }
    }
}
