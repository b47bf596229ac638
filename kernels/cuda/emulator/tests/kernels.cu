// Kernels for tests of the emulator itself.
#include "common.cuh"

struct AddArgs {
    const float *x;
    const float *y;
    float *sum;
    u32 n;
    u32 unused;
};

extern "C" __global__ void test_add(AddArgs a) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.n) return;
    a.sum[i] = a.x[i] + a.y[i];
}

struct test_reduce_args {
    const float *x; // (gridDim.y, gridDim.x, blockDim.x)
    float *sum;     // (gridDim.y, gridDim.x)
};

template <int THREADS> __device__ float block_sum(float x) {
    __shared__ float part[THREADS];
    part[threadIdx.x] = x;
    __syncthreads();
    for (u32 half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
        __syncthreads();
    }
    return part[0];
}

template <int THREADS> __device__ void reduce(test_reduce_args a) {
    u32 block = blockIdx.y * gridDim.x + blockIdx.x;
    float sum = block_sum<THREADS>(a.x[block * THREADS + threadIdx.x]);
    if (threadIdx.x == 0) a.sum[block] = sum;
}

#define REDUCE(THREADS) \
    extern "C" __global__ void __launch_bounds__(THREADS) test_reduce_##THREADS(test_reduce_args a) { \
        reduce<THREADS>(a); \
    }
REDUCE(64)
REDUCE(256)

struct WarpArgs {
    const u32 *x;
    u32 *out; // (8, 32)
};

extern "C" __global__ void test_warp(WarpArgs a) {
    u32 lane = threadIdx.x;
    u32 x = a.x[lane];
    a.out[lane] = (u32)warp_sum((float)x);
    a.out[32 + lane] = __shfl_sync(0xffffffffu, x, 5);
    a.out[64 + lane] = __shfl_down_sync(0xffffffffu, x, 3);
    a.out[96 + lane] = __shfl_up_sync(0xffffffffu, x, 3);
    a.out[128 + lane] = __ballot_sync(0xffffffffu, x & 1);
    a.out[160 + lane] = (u32)__shfl_xor_sync(0xffffffffu, (u64)x << 20, 1) + __any_sync(0xffffffffu, lane == 3);
    // Halves of a warp apart.
    if (lane < 16) a.out[192 + lane] = __shfl_xor_sync(0x0000ffffu, x, 8);
    else a.out[192 + lane] = __shfl_xor_sync(0xffff0000u, x, 4);
    a.out[224 + lane] = __all_sync(0xffffffffu, lane < 31);
}

struct MmaArgs {
    const f16 *x; // (16, 16)
    const f16 *y; // (8, 16): columns
    float *z;     // (16, 8)
};

extern "C" __global__ void test_mma(MmaArgs m) {
    u32 g = threadIdx.x / 4, t = threadIdx.x % 4;
    u32 a[4], b[2];
    float c[4];
    for (u32 i = 0; i < 4; i++) {
        a[i] = *(const u32 *)(m.x + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8);
        c[i] = m.z[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
    }
    for (u32 i = 0; i < 2; i++) b[i] = *(const u32 *)(m.y + g * 16 + 2 * t + i * 8);
    mma_16x8x16(c, a, b);
    for (u32 i = 0; i < 4; i++) m.z[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = c[i];
}

struct HalfArgs {
    const float *x;
    u32 *out; // to_f16, then back; sub_f16x2 of neighbours
    u32 n;
    u32 unused;
};

extern "C" __global__ void test_half(HalfArgs a) {
    for (u32 i = threadIdx.x; i < a.n; i += blockDim.x) {
        f16 x = to_f16(a.x[i]), y = to_f16(a.x[(i + 1) % a.n]);
        a.out[3 * i] = x;
        a.out[3 * i + 1] = __float_as_uint(from_f16(x));
        a.out[3 * i + 2] = sub_f16x2(x | (u32)y << 16, y | (u32)x << 16);
    }
}

struct WrongArgs {
    u32 *out; // (64)
    u32 how;
    u32 unused;
};

// In the order of tests/emulator.rs.
extern "C" __global__ void test_wrong(WrongArgs a) {
    __shared__ float part[64];
    __shared__ u32 arrived_before;
    const u32 i = threadIdx.x, block = blockIdx.x;
    switch (a.how) {
    case 0: // half of the block at another barrier
        if (i < 32) __syncthreads();
        else
            __syncthreads();
        break;
    case 1: // a lane of the mask does not come
        if (i != 7) part[i] = __shfl_xor_sync(0xffffffffu, i, 1);
        break;
    case 2: // who has returned is not waited for
        if (i >= 32) return;
        __syncthreads();
        break;
    case 3: // not in its own mask
        __syncwarp(0x7fffffffu);
        break;
    case 4: // reads what was not written
        if (block == 0) a.out[i] = part[i] == part[i];
        break;
    case 5: // one warp reads what another writes
        part[i] = i;
        part[i] += part[i ^ 32];
        break;
    case 6: {
        __shared__ float large[12288];
        large[i] = 1;
        part[i] = 1;
        break;
    }
    case 7:
        a.out[64 + i] = 1;
        break;
    case 8:
        part[64 + i] = 1;
        break;
    case 9:
        *(u32 *)(u64)(16 + 4 * i) = 1;
        break;
    case 10:
        *(u64 *)(a.out + 1) = 1;
        break;
    case 11: // blocks write to the same place
        a.out[i] = block;
        break;
    case 12:
        a.out[i] = 1;
        break;
    case 13: // one lane reads what another writes
        part[i] = i;
        part[i] += part[i ^ 1];
        break;
    case 14:
        part[i] = i;
        __syncwarp();
        a.out[0] = part[i ^ 1] >= 0 ? 1 : 0;
        break;
    default: // the last block to arrive adds what others wrote
        if (i >= 30) return;
        a.out[30 * block + i] = i;
        __threadfence();
        __syncthreads();
        if (i == 0) arrived_before = atomicAdd(&a.out[60], 1u) - 7;
        __syncthreads();
        if (arrived_before == gridDim.x - 1) a.out[i] += a.out[30 + i];
    }
}
