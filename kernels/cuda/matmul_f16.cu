// Products with weights of half floats: see matmul.cuh. The names end with the rows of activations and of the
// matrix that a block takes.
#include "matmul.cuh"

extern "C" __global__ void __launch_bounds__(32 * WARPS) matmul_f16_8_16(Matmul a) {
    matmul<F16, 1, 1>(a);
}
extern "C" __global__ void __launch_bounds__(32 * WARPS) matmul_f16_8_32(Matmul a) {
    matmul<F16, 1, 2>(a);
}
extern "C" __global__ void __launch_bounds__(32 * WARPS) matmul_f16_16_16(Matmul a) {
    matmul<F16, 2, 1>(a);
}
extern "C" __global__ void __launch_bounds__(32 * WARPS) matmul_f16_16_32(Matmul a) {
    matmul<F16, 2, 2>(a);
}
