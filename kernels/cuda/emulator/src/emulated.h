// CUDA's words for code that runs on the CPU: what `common.cuh` includes instead of its instructions.
//
// A thread is a fiber (runtime.cpp). It runs until it has to wait for others: at a barrier for the block,
// at a collective for the lanes of a mask. `__global__`, `__shared__` and `__launch_bounds__` are not here:
// build.rs writes them anew.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __restrict__ __restrict
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static const

struct uint3 { unsigned x, y, z; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace emulated {

// What a kernel sees of itself; the rest of a thread is the runtime's.
struct Place {
    uint3 thread, block, block_dim, grid_dim;
};
extern __thread const Place *place;

// A kernel in the table of a file.
struct Kernel {
    const char *name;
    uint32_t args_bytes;
    uint32_t most_threads; // its launch bounds; 0 without
    void (*run)(const void *args);
};

// Where a thread waits.
struct Site {
    const char *what, *file;
    int line;
};

// Waits for all threads of the block that have not returned.
void barrier(Site site);

// Waits for the lanes of `mask`; who arrives last calls `exchange` for all. `lanes` are what each lane
// gave as `mine`.
void collective(Site site, unsigned mask, void *mine, void (*exchange)(void **lanes, unsigned mask));

// A shared variable of the block, its bytes not written before.
void *shared(const void *key, unsigned bytes);

// Ends the launch with an error. Does not return to the thread.
[[noreturn]] void fail(const char *what);

template <class To, class From> static inline To bits(From x) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}

static inline float f16_to_float(unsigned short x) {
    uint32_t exponent = x >> 10 & 31, mantissa = x & 1023;
    float y;
    if (exponent == 0) y = (float)mantissa * 0x1p-24f;
    else if (exponent == 31) y = bits<float>(0x7f800000u | mantissa << 13);
    else y = bits<float>((exponent + 112) << 23 | mantissa << 13);
    return x & 0x8000 ? -y : y;
}

// To the nearest, ties to even; infinity from 65520 on.
static inline unsigned short float_to_f16(float x) {
    uint32_t b = bits<uint32_t>(x), sign = b >> 16 & 0x8000;
    b &= 0x7fffffff;
    if (b > 0x7f800000u) return 0x7fff;
    if (b >= 0x477ff000u) return sign | 0x7c00;
    // Below the least normal half float: the last place of 0.5 is the least half float.
    if (b < 0x38800000u) return sign | (bits<uint32_t>(bits<float>(b) + 0.5f) - 0x3f000000u);
    b += 0xfff + (b >> 13 & 1);
    return sign | (b - 0x38000000u) >> 13;
}

} // namespace emulated

#define threadIdx (emulated::place->thread)
#define blockIdx (emulated::place->block)
#define blockDim (emulated::place->block_dim)
#define gridDim (emulated::place->grid_dim)
#define warpSize 32

// The line of the call is known by default arguments.
#define EMULATED_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

static inline void __syncthreads(EMULATED_SITE) { emulated::barrier({"__syncthreads", file, line}); }

static inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATED_SITE) {
    emulated::collective({"__syncwarp", file, line}, mask, nullptr, [](void **, unsigned) {});
}

namespace emulated {

template <class T> struct Shuffle {
    T value, result;
    unsigned source;
};

template <class T>
static inline T shuffle(Site site, unsigned mask, T value, unsigned source) {
    Shuffle<T> mine = {value, value, source};
    collective(site, mask, &mine, [](void **lanes, unsigned mask) {
        for (unsigned lane = 0; lane < 32; lane++) {
            if (!(mask >> lane & 1)) continue;
            Shuffle<T> *to = (Shuffle<T> *)lanes[lane];
            if (!(mask >> to->source & 1)) fail("a shuffle reads a lane that is not in its mask");
            to->result = ((Shuffle<T> *)lanes[to->source])->value;
        }
    });
    return mine.result;
}

static inline unsigned ballot(Site site, unsigned mask, bool predicate) {
    struct Vote {
        bool predicate;
        unsigned result;
    } mine = {predicate, 0};
    collective(site, mask, &mine, [](void **lanes, unsigned mask) {
        unsigned result = 0;
        for (unsigned lane = 0; lane < 32; lane++)
            if (mask >> lane & 1 && ((Vote *)lanes[lane])->predicate) result |= 1u << lane;
        for (unsigned lane = 0; lane < 32; lane++)
            if (mask >> lane & 1) ((Vote *)lanes[lane])->result = result;
    });
    return mine.result;
}

static inline unsigned lane() { return threadIdx.x % 32; }

} // namespace emulated

template <class T>
static inline T __shfl_sync(unsigned mask, T x, int source, int width = 32, EMULATED_SITE) {
    unsigned from = (emulated::lane() & ~(width - 1)) | (source & (width - 1));
    return emulated::shuffle({"__shfl_sync", file, line}, mask, x, from);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T x, int lanes, int width = 32, EMULATED_SITE) {
    unsigned mine = emulated::lane(), from = mine ^ lanes;
    if (from > (mine | (width - 1))) from = mine;
    return emulated::shuffle({"__shfl_xor_sync", file, line}, mask, x, from);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T x, unsigned by, int width = 32, EMULATED_SITE) {
    unsigned mine = emulated::lane(), from = mine + by;
    if (from > (mine | (width - 1))) from = mine;
    return emulated::shuffle({"__shfl_down_sync", file, line}, mask, x, from);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T x, unsigned by, int width = 32, EMULATED_SITE) {
    unsigned mine = emulated::lane(), from = mine - by;
    if (by > (mine & (width - 1))) from = mine;
    return emulated::shuffle({"__shfl_up_sync", file, line}, mask, x, from);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATED_SITE) {
    return emulated::ballot({"__ballot_sync", file, line}, mask, predicate);
}
static inline int __any_sync(unsigned mask, int predicate, EMULATED_SITE) {
    return emulated::ballot({"__any_sync", file, line}, mask, predicate) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, EMULATED_SITE) {
    return emulated::ballot({"__all_sync", file, line}, mask, predicate) == mask;
}
#undef EMULATED_SITE

template <class T> static inline T atomicAdd(T *p, T x) { return __atomic_fetch_add(p, x, __ATOMIC_SEQ_CST); }
static inline unsigned atomicAdd(unsigned *p, int x) { return atomicAdd(p, (unsigned)x); }
template <class T> static inline T atomicExch(T *p, T x) { return __atomic_exchange_n(p, x, __ATOMIC_SEQ_CST); }
template <class T> static inline T atomicCAS(T *p, T old, T x) {
    __atomic_compare_exchange_n(p, &old, x, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return old;
}
// Fibers take turns only where they wait: nothing comes between the two.
template <class T> static inline T atomicMax(T *p, T x) {
    T old = *p;
    if (x > old) *p = x;
    return old;
}
template <class T> static inline T atomicMin(T *p, T x) {
    T old = *p;
    if (x < old) *p = x;
    return old;
}
template <class T> static inline T atomicOr(T *p, T x) { return __atomic_fetch_or(p, x, __ATOMIC_SEQ_CST); }
static inline unsigned atomicInc(unsigned *p, unsigned last) {
    unsigned old = *p;
    *p = old >= last ? 0 : old + 1;
    return old;
}
static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
static inline unsigned __brev(unsigned x) {
    unsigned y = 0;
    for (int i = 0; i < 32; i++) y |= (x >> i & 1) << (31 - i);
    return y;
}
static inline unsigned __umulhi(unsigned x, unsigned y) { return (unsigned long long)x * y >> 32; }
static inline unsigned __float_as_uint(float x) { return emulated::bits<unsigned>(x); }
static inline int __float_as_int(float x) { return emulated::bits<int>(x); }
static inline float __uint_as_float(unsigned x) { return emulated::bits<float>(x); }
static inline float __int_as_float(int x) { return emulated::bits<float>(x); }
static inline float __fdividef(float x, float y) { return x / y; }
// The C library has these names too, some for itself.
#define __expf expf
#define __logf logf
#define rsqrtf(x) (1.0f / sqrtf(x))
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
template <class T> static inline T __ldg(const T *p) { return *p; }

static inline int min(int x, int y) { return x < y ? x : y; }
static inline int max(int x, int y) { return x > y ? x : y; }
static inline unsigned min(unsigned x, unsigned y) { return x < y ? x : y; }
static inline unsigned max(unsigned x, unsigned y) { return x > y ? x : y; }
static inline unsigned min(int x, unsigned y) { return min((unsigned)x, y); }
static inline unsigned max(int x, unsigned y) { return max((unsigned)x, y); }
static inline unsigned min(unsigned x, int y) { return min(x, (unsigned)y); }
static inline unsigned max(unsigned x, int y) { return max(x, (unsigned)y); }
static inline unsigned long long min(unsigned long long x, unsigned long long y) { return x < y ? x : y; }
static inline unsigned long long max(unsigned long long x, unsigned long long y) { return x > y ? x : y; }
static inline float min(float x, float y) { return fminf(x, y); }
static inline float max(float x, float y) { return fmaxf(x, y); }

// What `common.cuh` makes of instructions: see there.
static inline unsigned short to_f16(float x) {
    return emulated::float_to_f16(fminf(fmaxf(x, -65504.0f), 65504.0f));
}
static inline float from_f16(unsigned short x) { return emulated::f16_to_float(x); }
static inline unsigned sub_f16x2(unsigned x, unsigned y) {
    // The difference rounded to a float and then to a half float is the one rounded once: 24 ≥ 2 · 11 + 2.
    unsigned low = emulated::float_to_f16(from_f16(x & 0xffff) - from_f16(y & 0xffff));
    unsigned high = emulated::float_to_f16(from_f16(x >> 16) - from_f16(y >> 16));
    return high << 16 | low;
}
static inline unsigned permute_bytes(unsigned a, unsigned b, unsigned selector) {
    unsigned long long bytes = (unsigned long long)b << 32 | a;
    unsigned result = 0;
    for (int i = 0; i < 4; i++) result |= (unsigned)(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    return result;
}
static inline uint4 load_once(const void *p) { return *(const uint4 *)p; }
static inline uint4 load_host(const void *p) { return *(const uint4 *)p; }
static inline unsigned load_word(const unsigned *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void store_word(unsigned *p, unsigned x) { __atomic_store_n(p, x, __ATOMIC_RELEASE); }

namespace emulated {
struct Fragments {
    float *c;
    const unsigned *a, *b;
};
void multiply(void **lanes, unsigned mask);
} // namespace emulated

static inline void mma_16x8x16(float c[4], const unsigned a[4], const unsigned b[2],
                               const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    emulated::Fragments mine = {c, a, b};
    emulated::collective({"mma_16x8x16", file, line}, 0xffffffffu, &mine, emulated::multiply);
}
