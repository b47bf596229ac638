// What enters the fusion: of each row its token's embedding and its feature, each normed, side by side.
//
//   out_token[r] = RMSNorm_e(E[token])    out_feature[r] = RMSNorm_f(f)    RMSNorm(x) = w · x / sqrt(mean x² + eps)
//
// Rows of entries bring their embedding and feature with them; a node of the tree has a token of the draft
// vocabulary, and its feature is the output of the row of the last pass that is its parent.
//
// Grid: x = row. Written: rows of out_token and out_feature, half floats.
#include "common.cuh"

struct Fuse {
    const Rows *rows;
    const f16 *table;          // (draft tokens, width)
    const f16 *sent;           // embeddings of entries: (rows, width)
    const float *feature;      // features of entries: (rows, width)
    const float *hidden;       // output of the last pass: (rows, width)
    const float *token_norm;   // (width), or none: nothing is normed then
    const float *feature_norm; // (width)
    f16 *out_token;            // (rows, stride)
    f16 *out_feature;          // (rows, stride)
    u32 width;
    u32 stride;
    float eps;
    u32 unused;
};

extern "C" __global__ void __launch_bounds__(256) fuse(Fuse a) {
    __shared__ float sums[8];
    const u32 r = blockIdx.x;
    next_may_start();
    after_previous();
    if (r >= a.rows->n) return;
    const u32 token = a.rows->token[r], parent = a.rows->parent[r];
    const f16 *e = token == NONE ? a.sent + (u64)r * a.width : a.table + (u64)token * a.width;
    const float *f = token == NONE ? a.feature + (u64)r * a.width : a.hidden + (u64)parent * a.width;
    float token_factor = 1.0f, feature_factor = 1.0f;
    if (a.token_norm) {
        float token_squares = 0.0f, feature_squares = 0.0f;
        for (u32 i = threadIdx.x; i < a.width; i += blockDim.x) {
            const float x = from_f16(e[i]), y = f[i];
            token_squares += x * x;
            feature_squares += y * y;
        }
        token_factor = 1.0f / sqrtf(block_sum(token_squares, sums) / a.width + a.eps);
        feature_factor = 1.0f / sqrtf(block_sum(feature_squares, sums) / a.width + a.eps);
    }
    for (u32 i = threadIdx.x; i < a.width; i += blockDim.x) {
        const float x = from_f16(e[i]) * token_factor, y = f[i] * feature_factor;
        a.out_token[panel(r, i, a.stride)] = to_f16(a.token_norm ? x * a.token_norm[i] : x);
        a.out_feature[panel(r, i, a.stride)] = to_f16(a.token_norm ? y * a.feature_norm[i] : y);
    }
}
