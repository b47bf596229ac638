// Products with weights of 8 bits and a scale for 32: see matmul.cuh. The names end with the rows of activations and of the
// matrix that a block takes.
#include "matmul.cuh"

extern "C" __global__ void __launch_bounds__(32 * WARPS) matmul_q8_8_16(Matmul a) {
    matmul<Q8, 1, 1>(a);
}
extern "C" __global__ void __launch_bounds__(32 * WARPS) matmul_q8_8_32(Matmul a) {
    matmul<Q8, 1, 2>(a);
}
extern "C" __global__ void __launch_bounds__(32 * WARPS) matmul_q8_16_16(Matmul a) {
    matmul<Q8, 2, 1>(a);
}
extern "C" __global__ void __launch_bounds__(32 * WARPS) matmul_q8_16_32(Matmul a) {
    matmul<Q8, 2, 2>(a);
}
