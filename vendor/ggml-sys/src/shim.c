// What the small build takes from us instead of from ggml's CPU backend: the lock around one-time
// initialisation and the three conversion tables of the dot products. Plain C, so that the product
// needs neither a C++ compiler nor the C++ runtime.

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
