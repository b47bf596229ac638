// What the small build takes from us instead of from ggml's C++ files: the lock around one-time
// initialisation, the three conversion tables of the dot products, and ends for the calls that
// graphs would make. Plain C, so that the product needs neither a C++ compiler nor its runtime.

#include <stdlib.h>

#include "ggml-backend.h"
#include "ggml-impl.h"
#include "ggml-threading.h"

// ggml holds the lock while it builds a code book for quantisation: seconds, so waiters must sleep.
#ifdef _WIN32
#include <windows.h>
static SRWLOCK lock = SRWLOCK_INIT;
void ggml_critical_section_start(void) { AcquireSRWLockExclusive(&lock); }
void ggml_critical_section_end(void) { ReleaseSRWLockExclusive(&lock); }
#else
#include <pthread.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
void ggml_critical_section_start(void) { pthread_mutex_lock(&lock); }
void ggml_critical_section_end(void) { pthread_mutex_unlock(&lock); }
#endif

float ggml_table_f32_f16[1 << 16];
float ggml_table_f32_e8m0_half[1 << 8];
float ggml_table_f32_ue4m3[1 << 8];

// Must have returned once before any dot product runs; the caller sees to it that it runs once only.
void dovetail_ggml_fill_tables(void) {
    for (uint32_t bits = 0; bits < 1 << 16; bits++) {
        ggml_table_f32_f16[bits] = ggml_fp16_to_fp32((ggml_fp16_t) bits);
    }
    for (uint32_t bits = 0; bits < 1 << 8; bits++) {
        ggml_table_f32_e8m0_half[bits] = GGML_E8M0_TO_FP32_HALF((uint8_t) bits);
        ggml_table_f32_ue4m3[bits] = ggml_ue4m3_to_fp32((uint8_t) bits);
    }
}

// ggml.c names these three in its graph functions, which nothing in this build calls. Rust's linker
// drops such functions; a C program that links our static library may not, and needs the names.
void ggml_backend_tensor_set(struct ggml_tensor *tensor, const void *data, size_t offset,
                             size_t size) {
    (void) tensor, (void) data, (void) offset, (void) size;
    abort();
}

void ggml_backend_tensor_memset(struct ggml_tensor *tensor, uint8_t value, size_t offset,
                                size_t size) {
    (void) tensor, (void) value, (void) offset, (void) size;
    abort();
}

enum ggml_backend_buffer_usage ggml_backend_buffer_get_usage(ggml_backend_buffer_t buffer) {
    (void) buffer;
    abort();
}
