// Grows a tree by a level, and writes it out after the last: `TreeExpander::grow` of src/tree/grow.rs, bit for bit.
//
// The drafter's rows of all levels are the frontier, a tree whose node 0 is the root. What a pass proposes goes
// into a pool with the likelihood of the whole path,
//
//   path = path(parent) + min(log_prob, 0)        unless that is below `floor`,
//
// and the likeliest `width` of a level, of equal ones the first, are the next rows. In the end the likeliest
// `nodes − 1` of the pool are the tree: of equal ones those of earlier levels, then those that came first.
//
// The pool need not be kept, only its best `nodes − 1`: what has so many before it in the order of the pool
// has them in the end too. With a candidate its parent is kept, since no path is likelier than one it continues
// and the parent is of an earlier level. For the same reason growth ends where not even the first of the next
// rows is among the best: nothing that follows these rows could be.
//
// A candidate of a level has the key (path, complement of its number), where a candidate's number is row · width + k:
// keys differ, and their descending order is the stable one. Two orders are merged by counting: a new candidate
// stands behind all old ones that are as likely, an old one behind all new ones that are likelier.
//
//   growth            what is kept between the launches of a round: see `Growth`
//   rows              of the last pass; becomes those of the next, none where growth has ended
//   counts, tokens, log_probs   (rows), (rows, MAX_ROWS), (rows, MAX_ROWS): what topk left
//   target_tokens     the target's token of each in the draft vocabulary; null where they are the same
//   sequence          how many trees were written before; counted here
//   proposals         `proposal_slots` places, `slot_bytes` apart; the tree goes to number `sequence` of them,
//                     counted around, which the host sees
//
// Grid: one block. `level` says which pass came before, 0 being that of the entries, whose row 0 is the root;
// `last` that no pass follows, so that the tree is written.
#include "common.cuh"

struct Growth {
    // Written by `receive` for a round.
    u32 depth;
    u32 width;
    u32 nodes;
    float floor;
    u32 n_draft;
    u32 root_token;
    u32 root_slot;
    u32 entries_pass;
    // Written here, anew after the pass of entries.
    u32 failed;
    u32 n_frontier;
    u32 n_best;
    u32 unused;
    // The frontier: what a node sees, and its path.
    u64 masks[MAX_ROWS];
    float paths[MAX_ROWS];
    // The best of the pool, likeliest first: path, token in the draft vocabulary, the node of the frontier that
    // it follows, and the one that it became.
    float best_paths[MAX_ROWS];
    u32 best_tokens[MAX_ROWS];
    u32 best_parents[MAX_ROWS];
    u32 best_nodes[MAX_ROWS];
};

// What the host reads. Node 0 is the root; `len` is 0 where the drafter's probabilities were no numbers.
struct Proposals {
    u32 len;
    u32 unused;
    u32 tokens[MAX_ROWS];
    u32 parents[MAX_ROWS];
    u32 depths[MAX_ROWS];
    float log_probs[MAX_ROWS];
    u64 masks[MAX_ROWS];
};

struct grow_args {
    Growth *growth;
    Rows *rows;
    const u32 *counts;
    const u32 *tokens;
    const float *log_probs;
    const u32 *target_tokens;
    u32 *sequence;
    u8 *proposals;
    u32 proposal_slots;
    u32 slot_bytes;
    u32 level;
    u32 last;
};

#define THREADS 256
#define MAX_WIDTH (MAX_ROWS - 1)
#define MAX_CANDIDATES (MAX_WIDTH * MAX_WIDTH)
// Candidates of a thread, so many of which can be among the best of up to MAX_WIDTH threads.
#define MAX_LIKELY (MAX_WIDTH * ((MAX_CANDIDATES + THREADS - 1) / THREADS))

// A part of the pool, likeliest first.
struct Candidates {
    float paths[MAX_ROWS];
    u32 tokens[MAX_ROWS];
    u32 parents[MAX_ROWS];
    u32 nodes[MAX_ROWS];
};

// In the order of the paths, which are no NaNs, and more than 0, which is no candidate.
__device__ __forceinline__ u64 key_of(float path, u32 number) {
    u32 bits = __float_as_uint(path);
    bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (u64)bits << 32 | (u32)~number;
}

__device__ __forceinline__ float path_of(u64 key) {
    u32 bits = key >> 32;
    return __uint_as_float(bits >> 31 ? bits & 0x7fffffffu : ~bits);
}

// Writes the numbers of the largest `most` of `n` keys, in order, to `numbers`.
__device__ __forceinline__ void rank(const u64 *keys, u32 n, u32 most, u32 *numbers) {
    for (u32 i = threadIdx.x; i < n; i += THREADS) {
        u64 mine = keys[i];
        u32 larger = 0;
#pragma unroll 8
        for (u32 j = 0; j < n; j++) larger += keys[j] > mine;
        if (mine && larger < most) numbers[larger] = ~(u32)mine;
    }
}

// Writes the tree whose nodes are `best`.
__device__ __forceinline__ void write_tree(const grow_args &a, const Candidates &best, u32 n_best, u32 failed) {
    __shared__ u32 places[MAX_ROWS];  // of the nodes of the frontier in the tree
    __shared__ u32 parents[MAX_ROWS];
    u32 i = threadIdx.x;
    u32 sequence = *a.sequence;
    Proposals *out = (Proposals *)(a.proposals + (u64)(sequence % a.proposal_slots) * a.slot_bytes);
    if (i == 0) places[0] = 0;
    if (i < n_best && best.nodes[i] != NONE) places[best.nodes[i]] = i + 1;
    __syncthreads();
    if (i < n_best) parents[i + 1] = places[best.parents[i]];
    __syncthreads();
    if (i == 0) {
        *a.sequence = sequence + 1;
        out->len = failed ? 0 : n_best + 1;
        out->unused = 0;
    }
    if (i > n_best) return;
    u32 parent = i == 0 ? 0 : parents[i], depth = 0;
    u64 mask = 1;
    for (u32 node = i; node > 0; node = parents[node]) {
        mask |= (u64)1 << node;
        depth++;
    }
    u32 token = a.growth->root_token;
    if (i > 0) {
        token = best.tokens[i - 1];
        if (a.target_tokens) token = a.target_tokens[token];
    }
    out->tokens[i] = token;
    out->parents[i] = parent;
    out->depths[i] = depth;
    out->log_probs[i] = i == 0 ? 0.0f : best.paths[i - 1];
    out->masks[i] = mask;
}

extern "C" __global__ void __launch_bounds__(THREADS) grow(grow_args a) {
    __shared__ u64 keys[MAX_CANDIDATES];
    __shared__ u64 likely[MAX_LIKELY];
    __shared__ Candidates old;
    __shared__ Candidates best;
    __shared__ float paths[MAX_ROWS];   // of the new candidates
    __shared__ u32 numbers[MAX_ROWS];   // theirs
    __shared__ u64 maxima[THREADS];
    __shared__ u64 bound;
    __shared__ u32 n_likely;
    __shared__ u32 n_new;
    __shared__ u32 n_best;
    __shared__ u32 failed;
    __shared__ u32 goes_on;

    Growth &growth = *a.growth;
    u32 i = threadIdx.x, level = a.level;
    next_may_start();
    after_previous();
    u32 n_rows = a.rows->n;
    if (n_rows == 0 && level > 0 && !a.last) return;
    u32 width = min(growth.width, MAX_WIDTH), nodes = min(growth.nodes, MAX_ROWS);
    u32 most_best = max(nodes, 1) - 1;
    // The last level's rows are the last of the frontier.
    u32 n_frontier = 1, n_old = 0;
    if (level > 0) {
        n_frontier = growth.n_frontier;
        n_old = growth.n_best;
    } else {
        n_rows = min(n_rows, 1);
    }
    if (growth.depth <= level || width == 0 || most_best == 0) n_rows = 0;
    u32 first_node = n_frontier - n_rows;
    if (i < n_old) {
        old.paths[i] = growth.best_paths[i];
        old.tokens[i] = growth.best_tokens[i];
        old.parents[i] = growth.best_parents[i];
        old.nodes[i] = growth.best_nodes[i];
    }
    if (i == 0) {
        failed = level > 0 ? growth.failed : 0;
        n_likely = n_new = n_best = goes_on = 0;
        bound = 0;
    }
    if (i < MAX_ROWS) numbers[i] = NONE;
    __syncthreads();

    // Candidates of the level.
    u32 n_candidates = n_rows * width;
    u64 mine = 0;
    for (u32 number = i; number < n_candidates; number += THREADS) {
        u32 row = number / width, k = number % width, count = a.counts[row];
        u64 key = 0;
        if (count == NONE) {
            failed = 1;
        } else if (k < count) {
            float step = a.log_probs[row * MAX_ROWS + k];
            // What is no number is no candidate worth anything.
            step = step == step ? fminf(step, 0.0f) : -__uint_as_float(0x7f800000u);
            float path = (level > 0 ? growth.paths[first_node + row] : 0.0f) + step;
            if (path >= growth.floor) key = key_of(path, number);
        }
        keys[number] = key;
        mine = max(mine, key);
    }
    __syncthreads();
    u32 most_new = max(width, most_best);
    if (n_candidates <= THREADS) {
        rank(keys, n_candidates, most_new, numbers);
    } else {
        // So many threads have a candidate that is no less likely than the bound: no other can be among the best.
        maxima[i] = mine;
        __syncthreads();
        u32 larger = 0;
#pragma unroll 8
        for (u32 j = 0; j < THREADS; j++) larger += maxima[j] > mine;
        if (mine && larger == most_new - 1) bound = mine;
        __syncthreads();
        for (u32 number = i; number < n_candidates; number += THREADS)
            if (keys[number] && keys[number] >= bound) likely[atomicAdd(&n_likely, 1u)] = keys[number];
        __syncthreads();
        rank(likely, n_likely, most_new, numbers);
    }
    __syncthreads();
    if (i < MAX_ROWS && numbers[i] != NONE) {
        paths[i] = path_of(keys[numbers[i]]);
        if (i == MAX_ROWS - 1 || numbers[i + 1] == NONE) n_new = i + 1;
    }
    __syncthreads();

    // The best of old and new ones.
    u32 next_rows = min(min(width, n_new), MAX_ROWS - n_frontier);
    if (i < n_old) {
        u32 place = i;
        for (u32 j = 0; j < n_new; j++) place += paths[j] > old.paths[i];
        if (place < most_best) {
            best.paths[place] = old.paths[i];
            best.tokens[place] = old.tokens[i];
            best.parents[place] = old.parents[i];
            best.nodes[place] = old.nodes[i];
        }
    }
    u32 j = i - MAX_ROWS;
    if (i >= MAX_ROWS && j < n_new) {
        u32 place = j, number = numbers[j];
        for (u32 o = 0; o < n_old; o++) place += old.paths[o] >= paths[j];
        if (place < most_best) {
            best.paths[place] = paths[j];
            best.tokens[place] = a.tokens[number / width * MAX_ROWS + number % width];
            best.parents[place] = first_node + number / width;
            best.nodes[place] = j < next_rows ? n_frontier + j : NONE;
            if (j == 0) goes_on = 1;
        }
    }
    if (i == 0) n_best = min(n_old + n_new, most_best);
    __syncthreads();
    if (failed || growth.depth <= level + 1 || !goes_on) next_rows = 0;
    if (a.last) {
        next_rows = 0;
        write_tree(a, best, n_best, failed);
    }
    // After all have read what is written now.
    __syncthreads();

    // The next level.
    if (i < next_rows) {
        u32 node = n_frontier + i, parent = numbers[i] / width;
        u64 mask = (level > 0 ? growth.masks[first_node + parent] : 1) | (u64)1 << node;
        growth.masks[node] = mask;
        growth.paths[node] = paths[i];
        a.rows->slot[i] = growth.root_slot + node;
        a.rows->base[i] = growth.root_slot;
        a.rows->position[i] = growth.root_slot + level + 1;
        a.rows->token[i] = a.tokens[parent * MAX_ROWS + numbers[i] % width];
        a.rows->parent[i] = parent;
        a.rows->mask[i] = mask;
    }
    if (i < n_best) {
        growth.best_paths[i] = best.paths[i];
        growth.best_tokens[i] = best.tokens[i];
        growth.best_parents[i] = best.parents[i];
        growth.best_nodes[i] = best.nodes[i];
    }
    if (i == 0) {
        growth.failed = failed;
        growth.n_frontier = n_frontier + next_rows;
        growth.n_best = n_best;
        a.rows->n = next_rows;
    }
}
