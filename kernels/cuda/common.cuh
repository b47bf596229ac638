// What all kernels share: sizes, the structures that pass between them, and the few instructions that C++
// has no word for.
//
// Every kernel is `extern "C" __global__ void NAME(NAME_args a)`: one structure by value, whose twin in
// Rust (src/gpu/launch/) has the same fields in the same order. Shared memory is static. Device
// pointers are 8 bytes; structures are padded by hand, so both sides agree without a packing rule.
//
// The same sources are compiled for the CPU by the emulator (emulator/), which brings these instructions
// with it: DOVETAIL_EMULATED is defined there.
#pragma once

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short f16; // bits of a half float
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;

// Most rows of a pass, and most nodes of a tree: bits of a mask.
#define MAX_ROWS 64
// No node, no row.
#define NONE 0xffffffffu

// What the rows of a pass are: written by `receive` for the entries of a sequence and by `grow` for a level
// of the tree. Row 0 of a pass of entries is the newest one, the root.
struct Rows {
    u32 n;                   // rows of this pass, at most MAX_ROWS
    u32 unused;
    u32 slot[MAX_ROWS];      // where keys and values of the row go in the cache
    u32 base[MAX_ROWS];      // the row sees slots below `base`, and `base + j` where bit j of `mask` is set
    u32 position[MAX_ROWS];  // for the rotation
    u32 token[MAX_ROWS];     // index in the draft vocabulary of the row's token; NONE where the host sent
                             // its embedding
    u32 parent[MAX_ROWS];    // row of the last pass whose output is this row's feature; NONE as above
    u64 mask[MAX_ROWS];
};

// What the host asks for with the last rows of a message: the beginning of what `grow` keeps.
struct Asked {
    u32 depth;       // levels of the tree
    u32 width;       // candidates after a node, and nodes of a level, at most
    u32 nodes;       // of the tree, the root included
    float floor;     // least logarithm of the probability of a path
    u32 n_draft;     // draft tokens at present
    u32 root_token;  // token of the target
    u32 root_slot;   // slot of its row in the cache
    u32 unused;
};

#ifdef DOVETAIL_EMULATED
#include "emulated.h"
#else

// Half floats. Too large a number becomes the largest half float, not infinity.
__device__ __forceinline__ f16 to_f16(float x) {
    f16 y;
    x = fminf(fmaxf(x, -65504.0f), 65504.0f);
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float from_f16(f16 x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
}

// Pairs of half floats in a word, the first one in the low half: x − y.
__device__ __forceinline__ u32 sub_f16x2(u32 x, u32 y) {
    u32 z;
    asm("sub.f16x2 %0, %1, %2;" : "=r"(z) : "r"(x), "r"(y));
    return z;
}

// Four bytes of the eight in (b, a), each chosen by a digit of `selector`: PTX `prmt.b32`.
__device__ __forceinline__ u32 permute_bytes(u32 a, u32 b, u32 selector) {
    return __byte_perm(a, b, selector);
}

// c += a · b of one warp: a is 16 × 16 and b 16 × 8 half floats, c is 16 × 8 floats. With g = lane / 4 and
// t = lane % 4, each word two neighbours in k:
//   a[0] = A[g][2t..]  a[1] = A[g + 8][2t..]  a[2] = A[g][2t + 8..]  a[3] = A[g + 8][2t + 8..]
//   b[0] = B[2t..][g]  b[1] = B[2t + 8..][g]
//   c[0], c[1] = C[g][2t], C[g][2t + 1]       c[2], c[3] = C[g + 8][2t], C[g + 8][2t + 1]
__device__ __forceinline__ void mma_16x8x16(float c[4], const u32 a[4], const u32 b[2]) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[2]), "r"(a[3]), "r"(b[1]));
#endif
}

// 16 bytes that nobody writes while the kernel runs, not kept in the first cache: weights are read once.
__device__ __forceinline__ uint4 load_once(const void *p) {
    uint4 v;
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
        : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
        : "l"(p));
    return v;
}

// 16 bytes that the host has written, past all caches.
__device__ __forceinline__ uint4 load_host(const void *p) {
    uint4 v;
    asm volatile("ld.volatile.global.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p)
                 : "memory");
    return v;
}

// The kernel after this one may be set up while this one runs: what it reads of this one's work it reads behind
// `after_previous`, which waits for all that was launched before. Every thread calls both, before it reads or
// writes anything but weights. (Programmatic dependent launch; on older GPUs kernels follow each other anyway.)
__device__ __forceinline__ void next_may_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}
__device__ __forceinline__ void after_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Words that the host waits for and rings: see src/ring/mod.rs on ordering.
__device__ __forceinline__ u32 load_word(const u32 *p) {
    u32 x;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(x) : "l"(p) : "memory");
    return x;
}
__device__ __forceinline__ void store_word(u32 *p, u32 x) {
    asm volatile("st.release.sys.global.u32 [%0], %1;" : : "l"(p), "r"(x) : "memory");
}

#endif

// Sum and maximum over a warp, the same bits in all lanes.
__device__ __forceinline__ float warp_sum(float x) {
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}
__device__ __forceinline__ float warp_max(float x) {
    for (int offset = 16; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
    return x;
}

// Sum over a block of at most 1024 threads, the same bits in all of them; `shared` holds one float for each
// warp. All threads must take part.
__device__ __forceinline__ float block_sum(float x, float *shared) {
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
    __syncthreads();
    float sum = 0.0f;
    for (int i = 0; i < blockDim.x / 32; i++) sum += shared[i];
    return sum;
}

// Where column `c` of row `r` of activations is. They lie as the tensor cores take them: in panels of 8 rows by 32
// columns, 512 bytes, all panels of 8 rows side by side; `stride` is how many columns there is room for.
__device__ __forceinline__ u64 panel(u32 r, u32 c, u32 stride) {
    return (u64)(r / 8) * 8 * stride + c / 32 * 256 + r % 8 * 32 + c % 32;
}
