// Skinny matrix products: a matrix of weights times 1 to 64 rows of activations.
//
//   y[r][m] = factor[r] · sum_k w[m][k] · x[r][k]        x in half floats, sums in floats
//
// Weights lie in *tiles* of 1024 bytes: 16 rows of the matrix by 32 (f16), 64 (q8) or 128 (q4) columns, tile
// after tile along k. A *unit* is 32 columns, and a tile has 1, 2 or 4 of them. With g = lane / 4 and
// t = lane % 4, bytes 16·lane.. of a tile hold row g and bytes 512 + 16·lane.. row g + 8, of each unit the
// columns 8t to 8t + 7: what one lane feeds to the tensor cores, so a warp reads whole lines. Each unit of
// each row has a scale (q8, q4): value = scale · code, codes being stored with 128 (q8) or 8 (q4) added.
// Nibble j of a word of q4 is column 8t + 2j, nibble j + 4 the one after it.
//
// Grid: x = blocks of 16·MT rows of the matrix, y = jobs, times groups of 8·NT rows of activations. The 8 warps of a block take every eighth tile each;
// their sums meet in shared memory in a fixed order, and what happens to them is the epilogue's:
//
//   STORE   out32[r][m] = y
//   PAIR    out16[r][job·out_rows + m] = y, SiLU(y) in job 1
//   SWIGLU  out16[r][m] = SiLU(y of an even tile) · y of the odd tile after it
//   SET     h = y + bias            GATE  h = z·a + (1 − z)·b, z = sigmoid(y), (a, b) the rows of `pair`
//   ADD     h = hidden[r][m] + y
// The last three write hidden[r][m] = h, and for the RMSNorm before the next product out16[r][m] = norm[m] · h
// and sums_out[r][block] = the block's sum of h²: that product then has the factor
// 1 / sqrt(sum of sums / width + eps).
#pragma once
#include "common.cuh"

#define WARPS 8
#define F16 0
#define Q8 1
#define Q4 2

#define STORE 0
#define PAIR 1
#define SWIGLU 2
#define SET 3
#define GATE 4
#define ADD 5

struct Job {
    const u8 *weights;
    const f16 *scales; // (row tiles, column tiles, 16, units)
    const f16 *input;  // (rows, stride) in panels, zero behind the matrix's columns
    u64 stride;
};

struct Matmul {
    Job jobs[2];
    const u32 *n;       // rows of activations
    const float *sums;  // (MAX_ROWS, parts), none for a factor of 1
    float *out32;       // (rows, out_rows)
    f16 *out16;         // (rows, out_stride) in panels
    float *hidden;      // (rows, out_rows)
    const float *norm;  // (out_rows)
    const float *bias;  // (out_rows), or none
    const f16 *pair;    // (rows, pair_stride) in panels, 2·out_rows of which count
    float *sums_out;    // (MAX_ROWS, gridDim.x)
    const u32 *n_out;   // rows of the matrix that count at present, none for all
    u32 out_stride;
    u32 pair_stride;
    u32 out_rows;
    u32 column_tiles;
    u32 epilogue;
    u32 parts;
    u32 groups;
    u32 unused;
    float width;        // of the norm that `sums` are of
    float eps;
};

// The eight columns of a unit that a lane holds, as four pairs of half floats.
template <int TYPE>
__device__ __forceinline__ void codes(const uint4 &v, int unit, u32 out[4]) {
    if (TYPE == F16) {
        out[0] = v.x;
        out[1] = v.y;
        out[2] = v.z;
        out[3] = v.w;
    } else if (TYPE == Q8) {
        const u32 low = unit == 0 ? v.x : v.z, high = unit == 0 ? v.y : v.w;
        // 0x6400 + u is 1024 + u as a half float.
        out[0] = sub_f16x2(permute_bytes(low, 0x64646464u, 0x4140), 0x64806480u);
        out[1] = sub_f16x2(permute_bytes(low, 0x64646464u, 0x4342), 0x64806480u);
        out[2] = sub_f16x2(permute_bytes(high, 0x64646464u, 0x4140), 0x64806480u);
        out[3] = sub_f16x2(permute_bytes(high, 0x64646464u, 0x4342), 0x64806480u);
    } else {
        const u32 word = unit == 0 ? v.x : unit == 1 ? v.y : unit == 2 ? v.z : v.w;
#pragma unroll
        for (int j = 0; j < 4; j++)
            out[j] = sub_f16x2((word >> (4 * j) & 0x000f000fu) | 0x64006400u, 0x64086408u);
    }
}

// What a lane holds of MT tiles, one below the other.
template <int TYPE, int MT>
struct Tiles {
    uint4 low[MT], high[MT];             // rows g and g + 8
    uint2 scale_low[MT], scale_high[MT]; // of the units, half floats

    __device__ __forceinline__ void load(const Job &job, u32 column_tiles, u32 k, int lane) {
#pragma unroll
        for (int i = 0; i < MT; i++) {
            const u64 tile = (u64)(blockIdx.x * MT + i) * column_tiles + k;
            low[i] = load_once(job.weights + tile * 1024 + lane * 16);
            high[i] = load_once(job.weights + tile * 1024 + 512 + lane * 16);
            const f16 *scales = job.scales + tile * 16 * UNITS + lane / 4 * UNITS;
            if (TYPE == Q8) {
                scale_low[i].x = *(const u32 *)scales;
                scale_high[i].x = *(const u32 *)(scales + 8 * UNITS);
            } else if (TYPE == Q4) {
                scale_low[i] = *(const uint2 *)scales;
                scale_high[i] = *(const uint2 *)(scales + 8 * UNITS);
            }
        }
    }

    __device__ __forceinline__ float scale(uint2 scales, int unit) const {
        const u32 pair = unit < 2 ? scales.x : scales.y;
        return from_f16(unit % 2 == 0 ? pair & 0xffff : pair >> 16);
    }

    static const int UNITS = TYPE == F16 ? 1 : TYPE == Q8 ? 2 : 4;
};

__device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }

// Adds a tile's products with the rows whose panels begin at `x`, `group_stride` apart.
template <int TYPE, int NT, int MT>
__device__ __forceinline__ void multiply(
    const Tiles<TYPE, MT> &tiles, const f16 *x, u64 group_stride, int n, float sum[MT][NT][4]) {
#pragma unroll
    for (int u = 0; u < Tiles<TYPE, MT>::UNITS; u++) {
        u32 first[MT][4], second[MT][4];
#pragma unroll
        for (int i = 0; i < MT; i++) {
            codes<TYPE>(tiles.low[i], u, first[i]);
            codes<TYPE>(tiles.high[i], u, second[i]);
        }
#pragma unroll
        for (int j = 0; j < NT; j++) {
            if (8 * j >= n) break;
            const uint4 b = *(const uint4 *)(x + j * group_stride + 256 * u);
            const u32 b0[2] = {b.x, b.y}, b1[2] = {b.z, b.w};
#pragma unroll
            for (int i = 0; i < MT; i++) {
                const u32 a0[4] = {first[i][0], second[i][0], first[i][1], second[i][1]};
                const u32 a1[4] = {first[i][2], second[i][2], first[i][3], second[i][3]};
                if (TYPE == F16) {
                    mma_16x8x16(sum[i][j], a0, b0);
                    mma_16x8x16(sum[i][j], a1, b1);
                } else {
                    float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
                    mma_16x8x16(c, a0, b0);
                    mma_16x8x16(c, a1, b1);
                    const float d = tiles.scale(tiles.scale_low[i], u), e = tiles.scale(tiles.scale_high[i], u);
                    sum[i][j][0] += d * c[0];
                    sum[i][j][1] += d * c[1];
                    sum[i][j][2] += e * c[2];
                    sum[i][j][3] += e * c[3];
                }
            }
        }
    }
}

// NT: groups of 8 rows of activations; MT: groups of 16 rows of the matrix.
template <int TYPE, int NT, int MT>
__device__ __forceinline__ void matmul(const Matmul &a) {
    const int UNITS = TYPE == F16 ? 1 : TYPE == Q8 ? 2 : 4;
    const int M = 16 * MT, N = 8 * NT, PITCH = M + 4;
    // Tiles on the way: the memory is far.
    const int DEPTH = MT == 2 ? 2 : 3;
    __shared__ float part[WARPS * N * PITCH];
    __shared__ float factors[N];
    const u32 job_number = blockIdx.y / a.groups, r0 = blockIdx.y % a.groups * N;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const Job &job = a.jobs[job_number];
    const u32 tiles = a.column_tiles;
    next_may_start();
    Tiles<TYPE, MT> ahead[DEPTH];
#pragma unroll
    for (int d = 0; d < DEPTH; d++)
        if (warp + d * WARPS < tiles) ahead[d].load(job, tiles, warp + d * WARPS, lane);
    after_previous();
    const int n = min((int)*a.n - (int)r0, N);
    const u32 m0 = blockIdx.x * M;
    const u32 out_rows = a.n_out ? min(*a.n_out, a.out_rows) : a.out_rows;
    if (n <= 0 || (a.epilogue == SWIGLU ? m0 / 2 : m0) >= out_rows) return;

    float sum[MT][NT][4];
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < NT; j++)
#pragma unroll
            for (int c = 0; c < 4; c++) sum[i][j][c] = 0.0f;

    const f16 *x = job.input + (u64)r0 * job.stride + 8 * lane;
    for (u32 first = warp; first < tiles; first += DEPTH * WARPS) {
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            const u32 k = first + d * WARPS;
            if (k < tiles) {
                multiply<TYPE, NT, MT>(ahead[d], x + (u64)k * UNITS * 256, 8 * job.stride, n, sum);
                if (k + DEPTH * WARPS < tiles) ahead[d].load(job, tiles, k + DEPTH * WARPS, lane);
            }
        }
    }

    // The factors of the rows, each by one warp.
#pragma unroll 1
    for (int r = warp; r < n; r += WARPS) {
        float squares = 0.0f;
        if (a.sums)
            for (u32 p = lane; p < a.parts; p += 32) squares += a.sums[(r0 + r) * a.parts + p];
        squares = warp_sum(squares);
        if (lane == 0) factors[r] = a.sums ? 1.0f / sqrtf(squares / a.width + a.eps) : 1.0f;
    }
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < NT; j++) {
            float *out = part + (warp * N + 8 * j + 2 * t) * PITCH + 16 * i + g;
            out[0] = sum[i][j][0];
            out[PITCH] = sum[i][j][1];
            out[8] = sum[i][j][2];
            out[PITCH + 8] = sum[i][j][3];
        }
    __syncthreads();

    // Row r by lanes next to each other: in the loop all lanes of a warp stay together for its shuffles.
#pragma unroll 1
    for (int at = threadIdx.x; at < N * M; at += 32 * WARPS) {
        const u32 local = at / M, m = at % M, r = r0 + local;
        const bool row = (int)local < n;
        float y = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) y += part[(w * N + local) * PITCH + m];
        y *= row ? factors[local] : 0.0f;
        if (a.epilogue == SWIGLU) {
            const float up = MT == 2 ? __shfl_xor_sync(0xffffffffu, y, 16) : 0.0f;
            const u32 out = m0 / 2 + m;
            if (row && m < 16 && out < out_rows) a.out16[panel(r, out, a.out_stride)] = to_f16(silu(y) * up);
            continue;
        }
        const u32 out = m0 + m;
        const bool inside = row && out < out_rows;
        if (a.epilogue == STORE) {
            if (inside) a.out32[(u64)r * a.out_rows + out] = y;
        } else if (a.epilogue == PAIR) {
            if (inside)
                a.out16[panel(r, job_number * a.out_rows + out, a.out_stride)] =
                    to_f16(job_number ? silu(y) : y);
        } else {
            float h = 0.0f;
            if (inside) {
                float *hidden = a.hidden + (u64)r * a.out_rows + out;
                if (a.epilogue == ADD) {
                    h = *hidden + y;
                } else if (a.epilogue == GATE) {
                    const f16 left = a.pair[panel(r, out, a.pair_stride)];
                    const f16 right = a.pair[panel(r, a.out_rows + out, a.pair_stride)];
                    const float z = 1.0f / (1.0f + expf(-y));
                    h = z * from_f16(left) + (1.0f - z) * from_f16(right);
                } else {
                    h = y + (a.bias ? a.bias[out] : 0.0f);
                }
                *hidden = h;
                a.out16[panel(r, out, a.out_stride)] = to_f16(h * a.norm[out]);
            }
            float square = h * h;
            for (int offset = M / 2; offset > 0; offset /= 2)
                square += __shfl_xor_sync(0xffffffffu, square, offset);
            if (row && m == 0) a.sums_out[r * gridDim.x + blockIdx.x] = square;
        }
    }
}
