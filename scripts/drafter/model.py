"""The drafter: a gated fusion of the target's feature and the next token's embedding, then Llama blocks.

    step 0   f = Wfc · [RMSNorm_j(tap_j)]_j           or, without taps, the target's state after its final norm
    deeper   f = the drafter's own last block output
    a  = W1 · RMSNorm_f(f)      b = SiLU(W2 · RMSNorm_e(E[t]))      z = sigmoid(Wz · [a; b])
    h0 = z ⊙ a + (1 − z) ⊙ b                          fusion "dgf": arXiv 2412.18934, section "DGF"
    h0 = W · [RMSNorm_e(E[t]); RMSNorm_f(f)]          fusion "fc"

The step at position i takes f_i and t_{i+1} and predicts t_{i+2} with the target's head, restricted to the
draft vocabulary. Weights are a dict of GGUF names.
"""
import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from .target import Shape, compiled, rms_norm, rotate, split_heads

PREFIX = "dovetail-dgf"


@dataclass
class Config:
    shape: Shape                      # width, heads and rope of the target; layers are the drafter's blocks
    fusion: str
    taps: list = field(default_factory=list)
    unrolled: int = 6


def initial(config, target, generator):
    """Random weights: what is added to the residual stream starts small, norms at one."""
    s, width = config.shape, config.shape.width
    query, key_value = s.heads * s.head_size, s.kv_heads * s.head_size
    w = {}

    def matrix(name, rows, columns, scale=1.0):
        w[name + ".weight"] = torch.randn(rows, columns, generator=generator) * scale / math.sqrt(columns)

    def norm(name):
        w[name + ".weight"] = torch.ones(width)

    for j in range(len(config.taps)):
        norm(f"feature_norm.{j}")
    if config.taps:
        matrix("features", width, width * len(config.taps))
    norm("fuse_feature_norm")
    norm("fuse_token_norm")
    if config.fusion == "dgf":
        matrix("fuse_feature", width, width)
        matrix("fuse_token", width, width)
        matrix("fuse_gate", width, 2 * width, 0.1)
    else:
        matrix("fuse", width, 2 * width)
    for n in range(s.layers):
        norm(f"blk.{n}.attn_norm")
        matrix(f"blk.{n}.attn_q", query, width)
        matrix(f"blk.{n}.attn_k", key_value, width)
        matrix(f"blk.{n}.attn_v", key_value, width)
        matrix(f"blk.{n}.attn_output", width, query, 0.2)
        norm(f"blk.{n}.ffn_norm")
        matrix(f"blk.{n}.ffn_gate", s.ffn, width)
        matrix(f"blk.{n}.ffn_up", s.ffn, width)
        matrix(f"blk.{n}.ffn_down", width, s.ffn, 0.2)
    w["output_norm.weight"] = target.output_norm.float().cpu().clone()
    return {name: value.to(target.device) for name, value in w.items()}


def fuse_dgf(f, e, feature_norm, token_norm, w1, w2, wz, epsilon):
    a = F.linear(rms_norm(f, feature_norm, epsilon), w1)
    b = F.silu(F.linear(rms_norm(e, token_norm, epsilon), w2))
    z = torch.sigmoid(F.linear(torch.cat((a, b), -1), wz))
    return z * a + (1 - z) * b


def fuse_fc(f, e, feature_norm, token_norm, w, epsilon):
    return F.linear(torch.cat((rms_norm(e, token_norm, epsilon), rms_norm(f, feature_norm, epsilon)), -1), w)


def before_attention(x, norm, wq, wk, wv, cos, sin, head_size, epsilon):
    """Rotated queries and keys, and values: (batch, heads, positions, head_size)"""
    h = rms_norm(x, norm, epsilon)
    q, k, v = (split_heads(F.linear(h, weight), head_size) for weight in (wq, wk, wv))
    return rotate(q, cos, sin), rotate(k, cos, sin), v.contiguous()


def after_attention(x, out, wo, norm, w_gate, w_up, w_down, epsilon):
    """x: (batch, positions, width), out: (batch, heads, positions, head_size)"""
    x = x + F.linear(out.transpose(1, 2).flatten(-2), wo)
    h = rms_norm(x, norm, epsilon)
    return x + F.linear(F.silu(F.linear(h, w_gate)) * F.linear(h, w_up), w_down)


class Drafter:
    def __init__(self, config, fused=False):
        """`fused`: for many steps of one shape on a GPU."""
        self.config, faster = config, compiled if fused else lambda function: function
        self.fuse_function = faster(fuse_dgf if config.fusion == "dgf" else fuse_fc)
        self.before, self.after, self.output = map(faster, (before_attention, after_attention, rms_norm))

    def first_feature(self, w, final, taps):
        """final: (…, width), taps: (…, taps, width)"""
        if not self.config.taps:
            return final
        epsilon = self.config.shape.epsilon
        normed = [rms_norm(taps[..., j, :], w[f"feature_norm.{j}.weight"], epsilon) for j in range(taps.shape[-2])]
        return F.linear(torch.cat(normed, -1), w["features.weight"])

    def fuse(self, w, f, e):
        matrices = ("fuse_feature", "fuse_token", "fuse_gate") if self.config.fusion == "dgf" else ("fuse",)
        names = ("fuse_feature_norm", "fuse_token_norm", *matrices)
        return self.fuse_function(f, e, *(w[name + ".weight"] for name in names), self.config.shape.epsilon)

    def blocks(self, w, x, cos, sin, attend):
        """x: (batch, positions, width); attend(block, q, k, v) gives (batch, heads, positions, head_size)"""
        s = self.config.shape
        for n in range(s.layers):
            of = lambda *names: [w[f"blk.{n}.{name}.weight"] for name in names]
            q, k, v = self.before(x, *of("attn_norm", "attn_q", "attn_k", "attn_v"), cos, sin, s.head_size, s.epsilon)
            weights = of("attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
            x = self.after(x, attend(n, q, k, v), *weights, s.epsilon)
        return x

    def unroll(self, w, target, ids, feature, steps, choose=None):
        """Training-time test (arXiv 2503.01840): all positions draft `steps` tokens at once, step k of position i
        attending to step 0 of positions 0 … i and to its own steps 1 … k, at RoPE position i + k.

        ids: (batch, positions), feature: step 0's (batch, rows, width). Yields normed states (batch, rows, width),
        whose step k at row i predicts ids[i + 2 + k]. The tokens fed are those of `ids`, from the second step
        on those that choose(state) returns if it is given.
        """
        rows, s = feature.shape[1], self.config.shape
        cos, sin = target.rope(0, rows + steps)
        kept = [[] for _ in range(s.layers)]
        groups = s.heads // s.kv_heads
        x, state = feature, None
        for step in range(steps):
            fed = choose(state) if step and choose else ids[:, 1 + step : 1 + step + rows]
            x = self.fuse(w, x, F.embedding(fed, target.embedding).to(x.dtype))

            def attend(n, q, k, v):
                if not kept[n]:
                    k, v = (t.repeat_interleave(groups, 1) for t in (k, v))
                kept[n] += [k, v]
                return TestTimeAttention.apply(q, *kept[n])

            x = self.blocks(w, x, cos[step : step + rows], sin[step : step + rows], attend)
            state = self.output(x, w["output_norm.weight"], s.epsilon)
            yield state


def flash(q, k, v):
    if q.is_cuda:
        out = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, True)
        return out[0], out[1], out[2:8]
    return *torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True), ()


def flash_backward(grad, q, k, v, out, log_sum, rest):
    if not rest:
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, log_sum, 0.0, True)
    cum_q, cum_k, max_q, max_k, seed, offset = rest
    return torch.ops.aten._scaled_dot_product_flash_attention_backward(
        grad, q, k, v, out, log_sum, cum_q, cum_k, max_q, max_k, 0.0, True, seed, offset)


class TestTimeAttention(torch.autograd.Function):
    """Causal attention to step 0's keys and to one key a row of each later step, under one softmax.

    Flash attention does the first part; its result and the log of its sum are merged with the rest. Flash
    attention's backward takes the probabilities from the log of the sum and the result it is given, so with
    the merged ones it returns the gradients of the merged softmax.

    q, k0, v0: (batch, heads, rows, head_size); k and v of later steps: (batch, kv_heads, rows, head_size)
    """

    @staticmethod
    def forward(ctx, q, k0, v0, *later):
        out, log_sum, rest = flash(q, k0, v0)
        scale = q.shape[-1] ** -0.5
        kv_heads = later[0].shape[1] if later else q.shape[1]
        grouped = lambda t: t.unflatten(1, (kv_heads, -1))
        if later:
            scores = [(grouped(q) * k[:, :, None]).sum(-1, dtype=torch.float32) * scale for k in later[0::2]]
            merged = torch.stack([grouped(log_sum), *scores]).logsumexp(0)
            total = grouped(out) * (grouped(log_sum) - merged).exp()[..., None].to(out.dtype)
            for score, v in zip(scores, later[1::2]):
                total = total + (score - merged).exp()[..., None].to(out.dtype) * v[:, :, None]
            out, log_sum = total.flatten(1, 2), merged.flatten(1, 2)
        ctx.save_for_backward(q, k0, v0, out, log_sum, *later)
        ctx.rest = rest
        return out.contiguous()

    @staticmethod
    def backward(ctx, grad):
        q, k0, v0, out, log_sum, *later = ctx.saved_tensors
        dq, dk0, dv0 = flash_backward(grad.contiguous(), q, k0, v0, out, log_sum, ctx.rest)
        if not later:
            return dq, dk0, dv0
        scale = q.shape[-1] ** -0.5
        grouped = lambda t: t.unflatten(1, (later[0].shape[1], -1))
        q, grad, dq = grouped(q), grouped(grad), grouped(dq)
        delta = (grad * grouped(out)).sum(-1, dtype=torch.float32)
        grads = []
        for k, v in zip(later[0::2], later[1::2]):
            k, v = k[:, :, None], v[:, :, None]
            p = ((q * k).sum(-1, dtype=torch.float32) * scale - grouped(log_sum)).exp()
            ds = (p * ((grad * v).sum(-1, dtype=torch.float32) - delta) * scale)[..., None].to(q.dtype)
            dq = dq + ds * k
            grads += [(ds * q).sum(2), (p[..., None].to(q.dtype) * grad).sum(2)]
        return dq.flatten(1, 2), dk0, dv0, *grads


def cross_entropy(logits, truth, truth_log_sum, best, text, weight, hard):
    """Rows' losses Σ_v p(v) · −log q(v), their gradients by the logits times `weight`, and log q of the text.

    p is the target's distribution over the draft vocabulary, the share `hard` of it moved to its likeliest token.
    logits, truth: (…, draft vocabulary); truth_log_sum, weight: (…); best, text: draft indices (…), −1 for none.
    """
    dtype, logits = logits.dtype, logits.float()
    log_sum = logits.logsumexp(-1)
    column = torch.arange(logits.shape[-1], device=logits.device)
    moved = (hard * (best >= 0))[..., None]
    p = (1 - moved) * (truth.float() - truth_log_sum[..., None]).exp() + moved * (column == best[..., None])
    loss = log_sum - (p * logits).sum(-1)
    of_text = torch.where(column == text[..., None], logits, 0.0).sum(-1)
    of_text = torch.where(text >= 0, of_text - log_sum, -math.inf)
    gradient = ((logits - log_sum[..., None]).exp() - p) * weight[..., None]
    return loss, gradient.to(dtype), of_text


class HeadLoss(torch.autograd.Function):
    """The weighted sum of cross entropies through the frozen head; logits live only inside."""

    @staticmethod
    def forward(ctx, state, head, function, truth, truth_log_sum, best, text, weight, hard):
        loss, gradient, of_text = function(F.linear(state, head), truth, truth_log_sum, best, text, weight, hard)
        ctx.save_for_backward(gradient @ head)
        ctx.mark_non_differentiable(of_text)
        return (loss * weight).sum(), of_text

    @staticmethod
    def backward(ctx, grad, _):
        return ctx.saved_tensors[0] * grad.to(ctx.saved_tensors[0].dtype), *[None] * 8
