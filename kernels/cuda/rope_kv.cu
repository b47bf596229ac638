// Rotates queries and keys, and stores keys and values in the cache.
//
//   (x, y) = (a · cos − b · sin, a · sin + b · cos)   for neighbours a, b of a head and their pair's angle
//
// at the row's position; what lies behind the rotated pairs of a head stays as it is. Queries are scaled by
// 1 / √head_dim, so that attention need not. Half floats are never infinite or NaN (to_f16): attention may
// multiply cells that a row does not see by zero.
//
//   qkv        (rows, (heads + 2 · kv_heads) · head_dim): queries, keys, values of a row
//   rotations  (positions, pairs) cos and sin
//   queries    (rows, heads, head_dim)
//   keys       (kv_heads, slots, head_dim); values alike: the key of a row goes to slot `Rows.slot`
//
// Grid: rows × pieces of 1024 elements of a row of qkv; a thread has 4 elements.
#include "common.cuh"

struct rope_kv_args {
    const float *qkv;
    const float2 *rotations;
    const Rows *rows;
    f16 *queries;
    f16 *keys;
    f16 *values;
    u32 heads;
    u32 kv_heads;
    u32 head_dim;
    u32 pairs;
    u32 slots;
    float scale;
};

#define THREADS 256

__device__ __forceinline__ void rotate(float &a, float &b, float2 rotation) {
    float x = a * rotation.x - b * rotation.y;
    b = a * rotation.y + b * rotation.x;
    a = x;
}

extern "C" __global__ void __launch_bounds__(THREADS) rope_kv(rope_kv_args a) {
    next_may_start();
    after_previous();
    u32 r = blockIdx.x;
    u32 at = 4 * (blockIdx.y * THREADS + threadIdx.x);
    u32 width = (a.heads + 2 * a.kv_heads) * a.head_dim;
    if (r >= a.rows->n || at >= width) return;

    float4 x = *(const float4 *)(a.qkv + (u64)r * width + at);
    u32 head = at / a.head_dim, element = at % a.head_dim;
    if (head < a.heads + a.kv_heads) {
        const float2 *rotations = a.rotations + (u64)a.rows->position[r] * a.pairs;
        u32 pair = element / 2;
        if (pair < a.pairs) rotate(x.x, x.y, rotations[pair]);
        if (pair + 1 < a.pairs) rotate(x.z, x.w, rotations[pair + 1]);
    }

    float scale = 1.0f;
    f16 *out;
    if (head < a.heads) {
        out = a.queries + (u64)r * a.heads * a.head_dim + at;
        scale = a.scale;
    } else {
        u32 kv_head = head - a.heads;
        out = a.keys;
        if (kv_head >= a.kv_heads) {
            kv_head -= a.kv_heads;
            out = a.values;
        }
        out += ((u64)kv_head * a.slots + a.rows->slot[r]) * a.head_dim + element;
    }
    uint2 y;
    y.x = to_f16(x.x * scale) | (u32)to_f16(x.y * scale) << 16;
    y.y = to_f16(x.z * scale) | (u32)to_f16(x.w * scale) << 16;
    *(uint2 *)out = y;
}
