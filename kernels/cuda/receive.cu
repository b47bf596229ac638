// Takes the next message of the host out of the ring: what was accepted since the last one.
//
//   x[r] = [RMSNorm_0(f_0); RMSNorm_1(f_1); …]     f the features of row r, one for each tap
//
// The message (src/ring/message.rs) has its oldest row first; row 0 of the pass is the newest one, the root of
// the next tree. Features are copied as they are where there are no norms, and become floats where no matrix
// follows.
//
// Grid: x = row, y unused. Written: Rows, Asked, the rows' features and embeddings. The last block to arrive
// counts the message.
#include "common.cuh"

// Words of a message before its rows.
#define HEADER_WORDS 72

struct Receive {
    const u8 *slots;
    u32 *sequence;       // messages taken, then blocks that have arrived
    Rows *rows;
    Asked *asked;        // the beginning of a Growth
    f16 *sent;           // (rows, embedding)
    f16 *x;              // (rows, stride) in panels, or none
    float *feature;      // (rows, width), where x is none
    const float *norms;  // (width), or none
    u32 slot_bytes;
    u32 slots_mask;      // slots − 1
    u32 width;           // of the features of a row: taps · tap_width
    u32 tap_width;
    u32 embedding;
    u32 stride;
    float eps;
    u32 unused;
};

extern "C" __global__ void __launch_bounds__(256) receive(Receive a) {
    __shared__ float sums[8];
    __shared__ u32 header[HEADER_WORDS];
    next_may_start();
    after_previous();
    const u32 sequence = *(volatile u32 *)a.sequence;
    const u8 *message = a.slots + (u64)(sequence & a.slots_mask) * a.slot_bytes;
    if (threadIdx.x < HEADER_WORDS / 4) ((uint4 *)header)[threadIdx.x] = load_host(message + 16 * threadIdx.x);
    __syncthreads();
    const u32 n = min(header[0], MAX_ROWS), first = header[1], r = blockIdx.x;
    if (threadIdx.x == 0 && atomicAdd(a.sequence + 1, 1) == gridDim.x - 1) {
        a.sequence[1] = 0;
        a.sequence[0] = sequence + 1;
    }
    if (r == 0 && threadIdx.x == 0) {
        a.rows->n = n;
        a.asked->depth = header[3];
        a.asked->width = header[4];
        a.asked->nodes = header[5];
        a.asked->floor = __uint_as_float(header[6]);
        a.asked->n_draft = header[7];
        a.asked->root_token = n ? header[7 + n] : 0;
        a.asked->root_slot = first + n - 1;
    }
    if (r >= n) return;
    const u32 row = n - 1 - r;
    if (threadIdx.x == 0) {
        a.rows->slot[r] = first + row;
        a.rows->base[r] = first + row;
        a.rows->position[r] = first + row;
        a.rows->token[r] = NONE;
        a.rows->parent[r] = NONE;
        a.rows->mask[r] = 1;
    }
    const u8 *features = message + 4 * HEADER_WORDS + (u64)row * (a.width + a.embedding) * 2;
    const u8 *embedding = features + (u64)a.width * 2;
    for (u32 i = threadIdx.x; i < a.embedding / 8; i += blockDim.x)
        ((uint4 *)(a.sent + (u64)r * a.embedding))[i] = load_host(embedding + 16 * i);
    if (!a.x) {
        for (u32 i = threadIdx.x; i < a.width / 8; i += blockDim.x) {
            const uint4 words = load_host(features + 16 * i);
            for (int j = 0; j < 8; j++)
                a.feature[(u64)r * a.width + 8 * i + j] = from_f16(((const f16 *)&words)[j]);
        }
        return;
    }
    for (u32 i = threadIdx.x; i < a.width / 8; i += blockDim.x)
        *(uint4 *)(a.x + panel(r, 8 * i, a.stride)) = load_host(features + 16 * i);
    if (!a.norms) return;
    __syncthreads();
    for (u32 tap = 0; tap < a.width; tap += a.tap_width) {
        float squares = 0.0f;
        for (u32 i = tap + threadIdx.x; i < tap + a.tap_width; i += blockDim.x) {
            const float f = from_f16(a.x[panel(r, i, a.stride)]);
            squares += f * f;
        }
        const float factor = 1.0f / sqrtf(block_sum(squares, sums) / a.tap_width + a.eps);
        for (u32 i = tap + threadIdx.x; i < tap + a.tap_width; i += blockDim.x) {
            f16 &x = a.x[panel(r, i, a.stride)];
            x = to_f16(a.norms[i] * (from_f16(x) * factor));
        }
    }
}
