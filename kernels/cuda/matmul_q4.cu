// Products with weights of 4 bits and a scale for 32: see matmul.cuh. The names end with the rows of activations and of the
// matrix that a block takes.
#include "matmul.cuh"

extern "C" __global__ void __launch_bounds__(32 * WARPS) matmul_q4_8_16(Matmul a) {
    matmul<Q4, 1, 1>(a);
}
extern "C" __global__ void __launch_bounds__(32 * WARPS) matmul_q4_8_32(Matmul a) {
    matmul<Q4, 1, 2>(a);
}
extern "C" __global__ void __launch_bounds__(32 * WARPS) matmul_q4_16_16(Matmul a) {
    matmul<Q4, 2, 1>(a);
}
extern "C" __global__ void __launch_bounds__(32 * WARPS) matmul_q4_16_32(Matmul a) {
    matmul<Q4, 2, 2>(a);
}
