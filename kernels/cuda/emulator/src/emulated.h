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

// What a kernel sees of itself. The thread that a function runs in does not change.
unsigned thread_x() __attribute__((const));
unsigned block_x() __attribute__((const));
unsigned block_y() __attribute__((const));
unsigned block_dim() __attribute__((const));
unsigned grid_x() __attribute__((const));
unsigned grid_y() __attribute__((const));

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

// A shared variable of the block.
void *shared(const void *key, const char *name, unsigned bytes);

// What a thread says before an atomic operation.
void before_atomic(const void *p, unsigned bytes);

void fence();

// Ends the launch: a shuffle reads a lane that is not in its mask.
[[noreturn]] void no_such_lane();

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

#define threadIdx (uint3{emulated::thread_x(), 0, 0})
#define blockIdx (uint3{emulated::block_x(), emulated::block_y(), 0})
#define blockDim (uint3{emulated::block_dim(), 1, 1})
#define gridDim (uint3{emulated::grid_x(), emulated::grid_y(), 1})
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
            if (!(mask >> to->source & 1)) no_such_lane();
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

// Fibers take turns only where they wait, so nothing comes between reading and writing.
#define EMULATED_ATOMIC(NAME, RESULT)                                                          \
    template <class T>                                                                         \
    __attribute__((no_sanitize("thread"), noinline)) static T NAME(T *p, decltype(T() + 0) x) { \
        emulated::before_atomic(p, sizeof *p);                                                 \
        const T old = *p;                                                                      \
        *p = (RESULT);                                                                         \
        return old;                                                                            \
    }
EMULATED_ATOMIC(atomicAdd, old + x)
EMULATED_ATOMIC(atomicExch, x)
EMULATED_ATOMIC(atomicMax, old > (T)x ? old : x)
EMULATED_ATOMIC(atomicMin, old < (T)x ? old : x)
EMULATED_ATOMIC(atomicOr, old | x)
EMULATED_ATOMIC(atomicAnd, old & x)
EMULATED_ATOMIC(atomicInc, old >= (T)x ? 0 : old + 1)
#undef EMULATED_ATOMIC
static inline void __threadfence() { emulated::fence(); }
static inline void __threadfence_block() { emulated::fence(); }
static inline void __threadfence_system() { emulated::fence(); }

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
// The host is another thread of the machine.
__attribute__((no_sanitize("thread"), noinline)) static unsigned load_word(const unsigned *p) {
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
__attribute__((no_sanitize("thread"), noinline)) static void store_word(unsigned *p, unsigned x) {
    __atomic_store_n(p, x, __ATOMIC_RELEASE);
}
static inline void next_may_start() {}
static inline void after_previous() {}

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
