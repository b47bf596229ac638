// The likeliest tokens of each row of logits.
//
//   log_prob[i] = logit[i] − max − log Σ exp(logit − max)
//
// in descending order, of equal logits the lower index first; the order is total, 0 before −0. A logit becomes
// a key: a number of 32 bits in the order of the logits, and in front of equal ones the complement of the
// index. All keys of a row differ, so what is the largest does not depend on who looks first.
//
//   logits     (rows, stride), `n_draft` of which count
//   counts     (rows) how many tokens follow: `width`, or all that there are; NONE where maximum or sum is no
//              number
//   tokens     (rows, MAX_ROWS), log_probs alike
//   keys       (rows, splits, MAX_ROWS), sums (rows, splits) of a maximum and a sum: what splits found
//   arrived    (rows), zero between launches
//
// Grid: rows × splits of 8192 logits; only row 0 has work if `first_row_only`. A thread has 32 logits and the
// largest of each half of them. The `width`th largest of the 64 of a warp is a bound: so many are no
// smaller. The best bound of the warps leaves a few more logits than asked for, whose ranks are
// counted. Where it leaves too many, which takes equal logits or an odd order, the largest is looked for
// `width` times. Who arrives last of a row's splits ranks what they found.
#include "common.cuh"

struct topk_args {
    const float *logits;
    const Rows *rows;
    const u32 *n_draft;
    const u32 *width;
    u32 *counts;
    u32 *tokens;
    float *log_probs;
    u64 *keys;
    float2 *sums;
    u32 *arrived;
    u32 stride;
    u32 splits;
    u32 first_row_only;
    u32 unused;
};

#define THREADS 256
#define WARPS (THREADS / 32)
// Logits of a thread, in fours.
#define FOURS 8
#define SPLIT (THREADS * FOURS * 4)
#define MAX_SPLITS 64
// Most keys whose ranks are counted in a split, and among all splits.
#define MAX_RANKED 1024
#define MAX_KEYS (MAX_SPLITS * (MAX_ROWS - 1))
#define ALL 0xffffffffu
#define LARGEST 3.402823466e38f
#define LEAST -LARGEST

// Never 0 for what is a number: 0 is no logit.
__device__ __forceinline__ u32 key_of(float x) {
    u32 bits = __float_as_uint(x);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float of_key(u32 key) {
    return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key);
}
__device__ __forceinline__ u64 with_index(u32 key, u32 index) { return key ? (u64)key << 32 | (u32)~index : 0; }

// Puts the `width` largest of the first `n` keys, all different but for zeros, in order into `best`.
__device__ __forceinline__ void rank(const u64 *keys, u32 n, u32 width, u64 *best) {
    for (u32 i = threadIdx.x; i < n; i += THREADS) {
        u64 mine = keys[i];
        u32 larger = 0;
#pragma unroll 8
        for (u32 j = 0; j < n; j++) larger += keys[j] > mine;
        if (mine && larger < width) best[larger] = mine;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) topk(topk_args a) {
    __shared__ u64 keys[MAX_KEYS];
    __shared__ u64 best[MAX_ROWS];
    __shared__ u64 largest_of_warp[WARPS];
    __shared__ u32 bounds[WARPS];
    __shared__ u32 largest[WARPS];
    __shared__ float sums[WARPS];
    __shared__ u32 n_keys;
    __shared__ u32 arrived_before;
    __shared__ float2 row_sum;

    u32 r = blockIdx.x, split = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    next_may_start();
    after_previous();
    u32 n_rows = a.rows->n;
    if (r >= n_rows || (a.first_row_only && r > 0)) return;
    u32 n_draft = min(*a.n_draft, a.stride), width = min(*a.width, MAX_ROWS - 1);
    u32 splits = max((n_draft + SPLIT - 1) / SPLIT, 1);
    if (split >= splits) return;

    float4 x[FOURS];
    u32 first = split * SPLIT + 4 * threadIdx.x;
    const float *logits = a.logits + (u64)r * a.stride + first;
#pragma unroll
    for (int i = 0; i < FOURS; i++)
        if (first + 4 * THREADS * i < n_draft) x[i] = *(const float4 *)(logits + 4 * THREADS * i);
    // The key of element `c` of four `i`.
    auto logit = [&](int i, int c) { return c == 0 ? x[i].x : c == 1 ? x[i].y : c == 2 ? x[i].z : x[i].w; };
    auto index = [&](int i, int c) { return first + 4 * THREADS * i + c; };
    auto key = [&](int i, int c) { return index(i, c) < n_draft ? key_of(logit(i, c)) : 0; };

    u32 half[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < FOURS; i++)
#pragma unroll
        for (int c = 0; c < 4; c++) half[i / (FOURS / 2)] = max(half[i / (FOURS / 2)], key(i, c));
    // Ranks of this lane's two among those of the warp; of equal ones that of the lower lane, first half
    // first.
    u32 larger[2] = {half[1] > half[0], half[0] >= half[1]};
    for (u32 j = 1; j < 32; j++) {
        u32 other = lane ^ j;
        u32 a0 = __shfl_xor_sync(ALL, half[0], j), a1 = __shfl_xor_sync(ALL, half[1], j);
        for (int h = 0; h < 2; h++) {
            larger[h] += a0 > half[h] || (a0 == half[h] && (other < lane));
            larger[h] += a1 > half[h] || (a1 == half[h] && (other < lane));
        }
    }
    for (int h = 0; h < 2; h++) {
        if (larger[h] == 0) largest[warp] = half[h];
        if (larger[h] == width - 1) bounds[warp] = half[h];
    }
    if (width == 0 && lane == 0) bounds[warp] = ALL;
    if (threadIdx.x == 0) n_keys = 0;
    if (threadIdx.x < MAX_ROWS) best[threadIdx.x] = 0;
    __syncthreads();
    u32 bound = 1, most = 0;
    for (u32 w = 0; w < WARPS; w++) {
        bound = max(bound, bounds[w]);
        most = max(most, largest[w]);
    }

    // Where there is nothing but −∞, its distance to itself would be no number.
    float maximum = fmaxf(of_key(most), LEAST), sum = 0.0f;
#pragma unroll
    for (int i = 0; i < FOURS; i++)
#pragma unroll
        for (int c = 0; c < 4; c++) {
            if (index(i, c) < n_draft) sum += expf(logit(i, c) - maximum);
            if (key(i, c) >= bound) {
                u32 at = atomicAdd(&n_keys, 1u);
                if (at < MAX_RANKED) keys[at] = with_index(key(i, c), index(i, c));
            }
        }
    sum = warp_sum(sum);
    if (lane == 0) sums[warp] = sum;
    __syncthreads();
    sum = 0.0f;
    for (u32 w = 0; w < WARPS; w++) sum += sums[w];
    if (n_keys <= MAX_RANKED) {
        rank(keys, n_keys, width, best);
        __syncthreads();
    } else {
        u64 last = ~(u64)0;
        for (u32 n = 0; n < width; n++) {
            u64 mine = 0;
#pragma unroll
            for (int i = 0; i < FOURS; i++)
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    u64 k = with_index(key(i, c), index(i, c));
                    if (k < last && k > mine) mine = k;
                }
            for (int offset = 16; offset > 0; offset /= 2) mine = max(mine, __shfl_xor_sync(ALL, mine, offset));
            if (lane == 0) largest_of_warp[warp] = mine;
            __syncthreads();
            last = 0;
            for (u32 w = 0; w < WARPS; w++) last = max(last, largest_of_warp[w]);
            if (threadIdx.x == 0) best[n] = last;
            __syncthreads();
        }
    }

    if (splits > 1) {
        // The last of the splits to arrive ranks what all found.
        u64 place = (u64)r * a.splits + split;
        if (threadIdx.x < width) a.keys[place * MAX_ROWS + threadIdx.x] = best[threadIdx.x];
        if (threadIdx.x == 0) a.sums[place] = make_float2(maximum, sum);
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) arrived_before = atomicAdd(&a.arrived[r], 1u);
        __syncthreads();
        if (arrived_before != splits - 1) return;
        __threadfence();
        if (threadIdx.x == 0) a.arrived[r] = 0;
        u64 row = (u64)r * a.splits;
        for (u32 i = threadIdx.x; i < splits * width; i += THREADS)
            keys[i] = a.keys[(row + i / width) * MAX_ROWS + i % width];
        if (threadIdx.x < MAX_ROWS) best[threadIdx.x] = 0;
        if (warp == 0) {
            float2 part[MAX_SPLITS / 32];
            float all = LEAST, total = 0.0f;
            for (u32 i = 0; i < MAX_SPLITS / 32; i++) {
                u32 s = lane + 32 * i;
                part[i] = s < splits ? a.sums[row + s] : make_float2(LEAST, 0.0f);
                all = fmaxf(all, part[i].x);
            }
            all = warp_max(all);
            for (u32 i = 0; i < MAX_SPLITS / 32; i++) total += part[i].y * expf(part[i].x - all);
            total = warp_sum(total);
            if (lane == 0) row_sum = make_float2(all, total);
        }
        __syncthreads();
        rank(keys, splits * width, width, best);
        __syncthreads();
        maximum = row_sum.x;
        sum = row_sum.y;
    }

    float log_sum = logf(sum);
    // Not so for infinities, NaNs and sums of nothing.
    bool numbers = fabsf(maximum) <= LARGEST && fabsf(log_sum) <= LARGEST;
    if (threadIdx.x == 0) a.counts[r] = numbers ? min(width, n_draft) : NONE;
    if (threadIdx.x < width && best[threadIdx.x]) {
        u64 k = best[threadIdx.x];
        a.tokens[r * MAX_ROWS + threadIdx.x] = ~(u32)k;
        a.log_probs[r * MAX_ROWS + threadIdx.x] = of_key(k >> 32) - maximum - log_sum;
    }
}
