// Attention of the rows of a pass over the cache and the tree in it.
//
//   out = Σ w[s] · V[s] / Σ w[s],   w[s] = exp(q · K[s] − max)   over the slots s that the row sees:
//
// all below `Rows.base`, and base + j where bit j of `Rows.mask` is set.
//
//   queries  (rows, heads, head_dim), scaled
//   keys     (kv_heads, slots, head_dim); values alike; slots a multiple of 16
//   out      (rows, out_stride) in panels, the heads of a row one after the other
//   parts    (kv_heads · tiles, splits, 16 · (head_dim + 2)): outputs, largest scores, sums of weights
//   arrived  (kv_heads · tiles), zero between launches
//
// The queries of a KV head are (rows · group): row by row, the heads of its group. A tile is 16 of them, rows
// of the tensor cores' products. Keys come in blocks of 64. Grid: (KV heads · tiles) × splits; the blocks of
// keys that the tile sees are shared out evenly over the splits, as many neighbours to each; how many of the
// splits get any depends on the context.
//
// Each of the four warps takes 16 keys of a block of 64 and keeps maximum, sum and output of its own: nobody
// waits for another until the end. Each key is read once, by the warp that needs it and in the form that it
// needs, so cells go from memory to registers: shared memory would add a stop. A head is cut into strides
// of 32 elements. The products' inner index may be permuted as one likes, if it is for both factors: lane t
// of a group of four takes elements 8 t … 8 t + 7 of a stride, 16 bytes at once. Likewise the outer index
// of values: column g of the c-th of four products is element 4 g + c.
//
// In the end the block adds its warps, in their order. Who arrives last of a tile's splits adds those, in their
// order. Blocks without work return; nothing is written for rows past the last.
#include "common.cuh"

struct attention_tree_args {
    const f16 *queries;
    const f16 *keys;
    const f16 *values;
    const Rows *rows;
    f16 *out;
    float *parts;
    u32 *arrived;
    u32 kv_heads;
    u32 group;
    u32 head_dim;
    u32 slots;
    u32 out_stride;
    u32 tiles;
    u32 splits;
    u32 unused;
};

#define WARPS 4
#define THREADS (32 * WARPS)
#define TILE 16
#define WARP_KEYS 16
#define BLOCK_KEYS (WARPS * WARP_KEYS)
#define MAX_SPLITS 32
// Below all scores: half floats of at most 256 elements make no sum as large.
#define HIDDEN -1e30f
// Strides that warps add up at once, and floats of a row of them: one stride is 32 floats, and 4 more put
// neighbouring rows in other banks.
#define STRIP 4
#define STRIP_ROW (32 * STRIP + 4)

// What a row sees.
struct Sight {
    u32 base;
    u64 mask;
    __device__ __forceinline__ bool sees(u32 slot) const {
        if (slot < base) return true;
        u32 node = slot - base;
        return node < 64 && (mask >> (node & 63) & 1);
    }
    // The slot after the last that it sees.
    __device__ __forceinline__ u32 end() const { return base + 64 - __clzll((long long)mask); }
};

// What query `q` of a KV head sees.
__device__ __forceinline__ Sight sight(const attention_tree_args &a, u32 q) {
    u32 r = q / a.group;
    Sight sight;
    sight.base = a.rows->base[r];
    sight.mask = a.rows->mask[r];
    return sight;
}

// Weight, relative to the maximum of all, of what was summed relative to a maximum of its own.
__device__ __forceinline__ float weight(float own, float all) { return expf(own - all); }

// Of a row that sees nothing the output is zero.
__device__ __forceinline__ float inverse(float sum) { return sum > 0.0f ? 1.0f / sum : 0.0f; }

__device__ __forceinline__ void store_f16x4(f16 *out, float4 x, float factor) {
    uint2 y;
    y.x = to_f16(x.x * factor) | (u32)to_f16(x.y * factor) << 16;
    y.y = to_f16(x.z * factor) | (u32)to_f16(x.w * factor) << 16;
    *(uint2 *)out = y;
}

// Heads of up to 32 · STRIDES elements.
template <int STRIDES> __device__ __forceinline__ void attend(const attention_tree_args &a) {
    __shared__ float strips[WARPS][TILE][STRIP_ROW];
    __shared__ float largest[MAX_SPLITS][TILE];
    __shared__ float sums[MAX_SPLITS][TILE];
    __shared__ u32 arrived_before;

    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    u32 g = lane / 4, t = lane % 4;
    u32 kv_head = blockIdx.x / a.tiles, first_query = blockIdx.x % a.tiles * TILE;
    next_may_start();
    after_previous();
    u32 n_queries = a.rows->n * a.group, hd = a.head_dim;
    if (first_query >= n_queries) return;

    // Which keys the tile sees, and which of them are this split's.
    u32 query[2];
    Sight row[2];
    for (u32 i = 0; i < 2; i++) {
        query[i] = min(first_query + g + 8 * i, n_queries - 1);
        row[i] = sight(a, query[i]);
    }
    u32 n_keys = max(row[0].end(), row[1].end());
    for (int offset = 16; offset >= 4; offset /= 2)
        n_keys = max(n_keys, __shfl_xor_sync(0xffffffffu, n_keys, offset));
    u32 n_blocks = max((n_keys + BLOCK_KEYS - 1) / BLOCK_KEYS, 1);
    u32 blocks = (n_blocks + a.splits - 1) / a.splits;
    u32 splits = (n_blocks + blocks - 1) / blocks;
    if (blockIdx.y >= splits) return;
    u32 first_key = blockIdx.y * blocks * BLOCK_KEYS + warp * WARP_KEYS;
    n_keys = min(n_keys, (blockIdx.y + 1) * blocks * BLOCK_KEYS);

    // Queries as left factors: of each stride two products' worth.
    uint4 q[2][STRIDES];
#pragma unroll
    for (int s = 0; s < STRIDES; s++) {
        u32 element = 32 * s + 8 * t;
        for (u32 i = 0; i < 2; i++) {
            u32 r = query[i] / a.group, head = kv_head * a.group + query[i] % a.group;
            const f16 *from = a.queries + ((u64)r * a.kv_heads * a.group + head) * hd + element;
            q[i][s] = element < hd ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
        }
    }

    const f16 *keys = a.keys + (u64)kv_head * a.slots * hd;
    const f16 *values = a.values + (u64)kv_head * a.slots * hd;
    float out[STRIDES][4][4];
#pragma unroll
    for (int s = 0; s < STRIDES; s++)
        for (int c = 0; c < 4; c++)
            for (int i = 0; i < 4; i++) out[s][c][i] = 0.0f;
    float most[2] = {HIDDEN, HIDDEN}, sum[2] = {0.0f, 0.0f};

    for (u32 key = first_key; key < n_keys; key += BLOCK_KEYS) {
        // Keys key + g and key + 8 + g.
        uint4 k[2][STRIDES];
#pragma unroll
    for (int s = 0; s < STRIDES; s++) {
            u32 element = 32 * s + 8 * t;
            for (u32 i = 0; i < 2; i++) {
                const f16 *from = keys + (u64)(key + 8 * i + g) * hd + element;
                k[i][s] = element < hd ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
            }
        }
        // Values of keys 2 t, 2 t + 1, 2 t + 8 and 2 t + 9: on their way while the scores are computed.
        uint2 v[4][STRIDES];
#pragma unroll
    for (int s = 0; s < STRIDES; s++) {
            u32 element = 32 * s + 4 * g;
            for (u32 i = 0; i < 4; i++) {
                const f16 *from = values + (u64)(key + 2 * t + i % 2 + i / 2 * 8) * hd + element;
                v[i][s] = element < hd ? *(const uint2 *)from : make_uint2(0, 0);
            }
        }

        float scores[2][4] = {};
#pragma unroll
    for (int s = 0; s < STRIDES; s++) {
            u32 left[2][4] = {{q[0][s].x, q[1][s].x, q[0][s].y, q[1][s].y},
                              {q[0][s].z, q[1][s].z, q[0][s].w, q[1][s].w}};
            for (u32 i = 0; i < 2; i++) {
                u32 right[2][2] = {{k[i][s].x, k[i][s].y}, {k[i][s].z, k[i][s].w}};
                mma_16x8x16(scores[i], left[0], right[0]);
                mma_16x8x16(scores[i], left[1], right[1]);
            }
        }
        // scores[i][2 r + j]: row g + 8 r, key 8 i + 2 t + j.
        float now[2] = {most[0], most[1]};
        for (u32 i = 0; i < 2; i++)
            for (u32 r = 0; r < 2; r++)
                for (u32 j = 0; j < 2; j++) {
                    float &score = scores[i][2 * r + j];
                    if (!row[r].sees(key + 8 * i + 2 * t + j)) score = HIDDEN;
                    now[r] = fmaxf(now[r], score);
                }
        u32 weights[4];
        float fade[2];
        for (u32 r = 0; r < 2; r++) {
            now[r] = fmaxf(now[r], __shfl_xor_sync(0xffffffffu, now[r], 1));
            now[r] = fmaxf(now[r], __shfl_xor_sync(0xffffffffu, now[r], 2));
            fade[r] = weight(most[r], now[r]);
            most[r] = now[r];
            sum[r] *= fade[r];
            for (u32 i = 0; i < 2; i++) {
                f16 w[2];
                for (u32 j = 0; j < 2; j++) {
                    float score = scores[i][2 * r + j];
                    w[j] = score > HIDDEN ? to_f16(expf(score - now[r])) : 0;
                    // As they are multiplied, so that weights sum to one.
                    sum[r] += from_f16(w[j]);
                }
                weights[2 * i + r] = w[0] | (u32)w[1] << 16;
            }
        }
#pragma unroll
    for (int s = 0; s < STRIDES; s++)
            for (u32 c = 0; c < 4; c++) {
                u32 half = c % 2 ? 0x7632 : 0x5410;
                u32 word[4];
                for (u32 i = 0; i < 4; i++) word[i] = c < 2 ? v[i][s].x : v[i][s].y;
                u32 right[2] = {permute_bytes(word[0], word[1], half), permute_bytes(word[2], word[3], half)};
                for (u32 i = 0; i < 4; i++) out[s][c][i] *= fade[i / 2];
                mma_16x8x16(out[s][c], weights, right);
            }
    }

    // Maximum of the warps, and what they weigh.
    for (u32 r = 0; r < 2; r++) {
        sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
        sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
        if (t == 0) {
            largest[warp][g + 8 * r] = most[r];
            sums[warp][g + 8 * r] = sum[r];
        }
    }
    __syncthreads();
    float block_most[2], warp_weight[2];
    for (u32 r = 0; r < 2; r++) {
        block_most[r] = HIDDEN;
        for (u32 w = 0; w < WARPS; w++) block_most[r] = fmaxf(block_most[r], largest[w][g + 8 * r]);
        warp_weight[r] = weight(most[r], block_most[r]);
    }
    u32 n_rows = min(n_queries - first_query, TILE);
    u64 part_len = TILE * (hd + 2);
    float *part = a.parts + ((u64)blockIdx.x * a.splits + blockIdx.y) * part_len;
    bool alone = splits == 1;
    if (threadIdx.x < TILE) {
        u32 i = threadIdx.x;
        float all = HIDDEN, total = 0.0f;
        for (u32 w = 0; w < WARPS; w++) all = fmaxf(all, largest[w][i]);
        for (u32 w = 0; w < WARPS; w++) total += sums[w][i] * weight(largest[w][i], all);
        // Behind those of the warps, which others still read.
        sums[WARPS][i] = total;
        if (!alone) {
            part[TILE * hd + i] = all;
            part[TILE * (hd + 1) + i] = total;
        }
    }

    for (u32 strip = 0; strip < (hd + 32 * STRIP - 1) / (32 * STRIP); strip++) {
#pragma unroll
    for (int s = 0; s < STRIDES; s++)
            if (s / STRIP == strip)
                for (u32 r = 0; r < 2; r++)
                    for (u32 j = 0; j < 2; j++) {
                        float4 x;
                        x.x = out[s][0][2 * r + j] * warp_weight[r];
                        x.y = out[s][1][2 * r + j] * warp_weight[r];
                        x.z = out[s][2][2 * r + j] * warp_weight[r];
                        x.w = out[s][3][2 * r + j] * warp_weight[r];
                        *(float4 *)&strips[warp][g + 8 * r][32 * (s % STRIP) + 8 * t + 4 * j] = x;
                    }
        __syncthreads();
        u32 width = min(hd - 32 * STRIP * strip, 32 * STRIP);
        for (u32 i = threadIdx.x; i < n_rows * width / 4; i += THREADS) {
            u32 r = i / (width / 4), from = i % (width / 4) * 4, element = 32 * STRIP * strip + from;
            float4 x = *(const float4 *)&strips[0][r][from];
            for (u32 w = 1; w < WARPS; w++) {
                float4 y = *(const float4 *)&strips[w][r][from];
                x.x += y.x;
                x.y += y.y;
                x.z += y.z;
                x.w += y.w;
            }
            if (alone) {
                u32 query = first_query + r;
                u32 at = (kv_head * a.group + query % a.group) * hd + element;
                store_f16x4(a.out + panel(query / a.group, at, a.out_stride), x, inverse(sums[WARPS][r]));
            } else {
                *(float4 *)&part[r * hd + element] = x;
            }
        }
        __syncthreads();
    }
    if (alone) return;

    // The last of the splits to arrive adds them all.
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) arrived_before = atomicAdd(&a.arrived[blockIdx.x], 1u);
    __syncthreads();
    if (arrived_before != splits - 1) return;
    __threadfence();
    if (threadIdx.x == 0) a.arrived[blockIdx.x] = 0;
    const float *parts = a.parts + (u64)blockIdx.x * a.splits * part_len;
    for (u32 i = threadIdx.x; i < splits * TILE; i += THREADS) {
        const float *of_split = parts + i / TILE * part_len + TILE * hd + i % TILE;
        largest[i / TILE][i % TILE] = of_split[0];
        sums[i / TILE][i % TILE] = of_split[TILE];
    }
    __syncthreads();
    float own[MAX_SPLITS * TILE / THREADS];
    for (u32 n = 0; n < MAX_SPLITS * TILE / THREADS; n++) {
        u32 i = n * THREADS + threadIdx.x;
        own[n] = 0.0f;
        if (i < splits * TILE) {
            float all = HIDDEN;
            for (u32 split = 0; split < splits; split++) all = fmaxf(all, largest[split][i % TILE]);
            own[n] = weight(largest[i / TILE][i % TILE], all);
        }
    }
    __syncthreads();
    for (u32 n = 0; n < MAX_SPLITS * TILE / THREADS; n++) {
        u32 i = n * THREADS + threadIdx.x;
        if (i < splits * TILE) largest[i / TILE][i % TILE] = own[n];
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < n_rows * hd / 4; i += THREADS) {
        u32 r = i / (hd / 4), element = i % (hd / 4) * 4;
        float total = 0.0f;
        float4 x = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 4
        for (u32 split = 0; split < splits; split++) {
            float w = largest[split][r];
            float4 y = *(const float4 *)(parts + split * part_len + r * hd + element);
            total += w * sums[split][r];
            x.x += w * y.x;
            x.y += w * y.y;
            x.z += w * y.z;
            x.w += w * y.w;
        }
        u32 query = first_query + r;
        u32 at = (kv_head * a.group + query % a.group) * hd + element;
        store_f16x4(a.out + panel(query / a.group, at, a.out_stride), x, inverse(total));
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_tree_64(attention_tree_args a) { attend<2>(a); }
extern "C" __global__ void __launch_bounds__(THREADS) attention_tree_128(attention_tree_args a) { attend<4>(a); }
extern "C" __global__ void __launch_bounds__(THREADS) attention_tree_256(attention_tree_args a) { attend<8>(a); }
