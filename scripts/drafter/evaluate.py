"""What a drafter's tokens are worth: on held-out text, and on greedy answers to prompts, for chains and trees."""
import torch
import torch.nn.functional as F

from .target import rms_norm, rotate
from .writing import ANSWER

CHAINS = (3, 5)
TREES = (4, 8, 16, 32, 60)
DEPTH = 7
# Of each level the likeliest BREADTH nodes get BREADTH children each.
BREADTH = 10
# Spec-Bench counts these eight as one.
MT_BENCH = {"writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"}


class Judge:
    """A drafter with its weights and draft vocabulary, ready to draft for a target."""

    def __init__(self, drafter, weights, target, draft_tokens, dtype):
        self.drafter, self.target, self.dtype = drafter, target, dtype
        self.weights = {name: value.to(dtype) for name, value in weights.items()}
        self.draft_tokens = draft_tokens.to(target.device)
        self.head = target.head[self.draft_tokens].to(dtype)
        self.open = None        # (texts, draft vocabulary): what may be drafted in each text, if not all

    def logits(self, state):
        logits = F.linear(state, self.head).float()
        return logits if self.open is None else logits.masked_fill_(~self.open[:, None], -torch.inf)

    def feature(self, ids):
        final, taps = self.target.forward(ids, self.drafter.config.taps)
        return self.drafter.first_feature(self.weights, final.to(self.dtype), taps.to(self.dtype) if taps is not None else None)

    def drafts(self, ids, feature, steps, own):
        """The four likeliest tokens of each step, (batch, rows, 4); `own` feeds back the drafted ones, not the text."""
        likeliest = lambda state: self.draft_tokens[self.logits(state).topk(4, -1).indices]
        choose = (lambda state: likeliest(state)[..., 0]) if own else None
        for state in self.drafter.unroll(self.weights, self.target, ids, feature, steps, choose):
            yield likeliest(state)


@torch.no_grad()
def held_out(judge, ids, roles, steps=DEPTH, rows_at_once=8):
    """Acceptance of step k given that all before it were accepted, among the 1, 2 and 4 likeliest, and the
    mean length of an accepted chain of `steps` plus one. Counts where the first draft token is of an answer."""
    hits, reached = torch.zeros(steps, 3, dtype=torch.float64), torch.zeros(steps, dtype=torch.float64)
    for first in range(0, len(ids), rows_at_once):
        x = ids[first : first + rows_at_once]
        rows = x.shape[1] - steps - 1
        alive = roles[first : first + rows_at_once, 2 : 2 + rows] == ANSWER
        for k, drafted in enumerate(judge.drafts(x, judge.feature(x)[:, :rows], steps, own=False)):
            hit = (drafted == x[:, 2 + k : 2 + k + rows, None]) & alive[..., None]
            reached[k] += alive.sum().item()
            hits[k] += torch.stack([hit[..., :n].any(-1).sum() for n in (1, 2, 4)]).double().cpu()
            alive = hit[..., 0]
    conditional = hits / reached.clamp(min=1)[:, None]
    return {"top1": conditional[:, 0].tolist(), "top2": conditional[:, 1].tolist(), "top4": conditional[:, 2].tolist(),
            "chain": 1 + (hits[:, 0] / reached[0].clamp(min=1)).sum().item()}


@torch.no_grad()
def tree_ranks(judge, ids, feature, roots):
    """EAGLE-2 growth from many roots of some texts, and how early it has the true next tokens.

    ids: (texts, positions), feature: step 0's (texts, positions − 1, width), roots: (texts, R) indices of root
    tokens. Returns (texts, R, DEPTH): the place of the d-th true token's node among all candidates by path
    probability, if the whole path to it was proposed, else a number past all.
    """
    d, w, target, s = judge.drafter, judge.weights, judge.target, judge.drafter.config.shape
    texts, R = roots.shape
    groups, device = s.heads // s.kv_heads, ids.device
    length, nodes = ids.shape[1], R * BREADTH
    cos, sin = target.rope(0, length + DEPTH)
    kept, levels = [], []
    merged_scale = s.head_size**-0.5

    def attend_text(n, q, k, v):
        k, v = (t.repeat_interleave(groups, 1) for t in (k, v))
        kept.append((k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    x = d.fuse(w, feature, F.embedding(ids[:, 1:], target.embedding).to(judge.dtype))
    x = d.blocks(w, x, cos[: length - 1], sin[: length - 1], attend_text)
    at = roots - 1                                                              # positions of the roots' steps
    x = x.gather(1, at[..., None].expand(-1, -1, s.width))                      # (texts, R, width)
    seen = torch.arange(length - 1, device=device) <= at[..., None]             # (texts, R, positions − 1)
    seen = seen.repeat_interleave(BREADTH, 1)[:, None]                          # (texts, 1, nodes, positions − 1)
    own_keys = [[] for _ in range(s.layers)]                                    # per block and level (texts, heads, R, BREADTH, head_size)
    ancestors = torch.zeros(texts, R, BREADTH, 0, dtype=torch.bool, device=device)

    logq = F.log_softmax(judge.logits(rms_norm(x, w["output_norm.weight"], s.epsilon)), -1)
    confidence, token = logq.topk(BREADTH, -1)                                  # (texts, R, BREADTH)
    token = judge.draft_tokens[token]
    number = torch.arange(BREADTH, device=device).expand_as(token)              # a node's index among all candidates
    levels.append((token, torch.full_like(number, -1), confidence))
    count, x = BREADTH, x[:, :, None].expand(-1, -1, BREADTH, -1)

    for depth in range(1, DEPTH):
        position = (at + depth)[..., None].expand(-1, -1, BREADTH).flatten(1)   # (texts, nodes)
        here = torch.eye(BREADTH, dtype=torch.bool, device=device).expand(texts, R, -1, -1)
        ancestors = torch.cat((ancestors, here), -1)

        def attend_tree(n, q, k, v):
            # Rotated here, as each text has its own positions.
            q, k = (rotate(t, cos[position][:, None], sin[position][:, None]) for t in (q, k))
            k, v = (t.repeat_interleave(groups, 1).unflatten(2, (R, BREADTH)) for t in (k, v))
            own_keys[n].append((k, v))
            k, v = (torch.cat(parts, 3) for parts in zip(*own_keys[n]))
            k0, v0 = kept[n]
            far = (q.float() @ k0.float().transpose(-1, -2)).masked_fill(~seen, -torch.inf)
            near = q.unflatten(2, (R, BREADTH)).float() @ k.float().transpose(-1, -2)
            near = near.masked_fill(~ancestors[:, None], -torch.inf).flatten(2, 3)
            p = (torch.cat((far, near), -1) * merged_scale).softmax(-1).to(q.dtype)
            far, near = p[..., : length - 1], p[..., length - 1 :]
            return far @ v0 + (near.unflatten(2, (R, BREADTH)) @ v).flatten(2, 3)

        still = torch.ones_like(cos[:1]), torch.zeros_like(sin[:1])
        x = d.fuse(w, x.flatten(1, 2), F.embedding(token.flatten(1), target.embedding).to(judge.dtype))
        x = d.blocks(w, x, *still, attend_tree)
        logq = F.log_softmax(judge.logits(rms_norm(x, w["output_norm.weight"], s.epsilon)), -1)
        gain, child = logq.topk(BREADTH, -1)                                    # (texts, nodes, BREADTH)
        path = (confidence.flatten(1)[..., None] + gain).unflatten(1, (R, BREADTH)).flatten(2)
        child = judge.draft_tokens[child].unflatten(1, (R, BREADTH)).flatten(2)
        levels.append((child, number.repeat_interleave(BREADTH, -1), path))
        confidence, best = path.topk(BREADTH, -1)
        parent = best // BREADTH
        token, number = child.gather(-1, best), count + best
        x = x.unflatten(1, (R, BREADTH)).gather(2, parent[..., None].expand(-1, -1, -1, s.width))
        ancestors = ancestors.gather(2, parent[..., None].expand(-1, -1, -1, ancestors.shape[-1]))
        count += BREADTH * BREADTH

    order = torch.argsort(torch.cat([path for _, _, path in levels], -1), dim=-1, descending=True, stable=True)
    place = torch.empty_like(order).scatter_(-1, order, torch.arange(order.shape[-1], device=device).expand_as(order))
    node, ranks, first = torch.full_like(roots, -1), [], 0
    for depth, (token, parent, _) in enumerate(levels):
        truth = ids.gather(1, (roots + 1 + depth).clamp(max=length - 1))
        match = (token == truth[..., None]) & (parent == node[..., None])
        found = match.any(-1)
        node = torch.where(found, first + match.to(torch.uint8).argmax(-1), -2)
        rank = place.gather(-1, node.clamp(min=0)[..., None])[..., 0]
        ranks.append(torch.where(found, rank, count))
        first += token.shape[-1]
    return torch.stack(ranks, -1)


@torch.no_grad()
def on_answers(judge, ids, starts, ends, categories, texts_at_once=8, static=None):
    """Mean tokens a round yields (accepted + 1), the rounds of an answer one after the other, the last cut off
    at its end. Per category and as the mean of the categories: {shape: {category: length}}.

    With `static` tokens given, only these and those of its prompt are drafted in a text; the judge drafts all."""
    taken = {}
    for first in range(0, len(ids), texts_at_once):
        mine = range(first, min(first + texts_at_once, len(ids)))
        longest = max(ends[n] for n in mine)
        x = ids[first : first + texts_at_once, :longest]
        feature = judge.feature(x)[:, :-1]
        if static is not None:
            judge.open = torch.zeros(len(x), len(judge.draft_tokens), dtype=torch.bool, device=ids.device)
            judge.open[:, static] = True
            for row, n in enumerate(mine):
                judge.open[row, ids[n, : starts[n]]] = True
        R = max(ends[n] - starts[n] for n in mine)
        roots = torch.tensor([[min(starts[n] + r, ends[n] - 1) for r in range(R)] for n in mine], device=ids.device)
        padded = F.pad(x, (0, DEPTH + 2), value=-1)
        truth = torch.stack([padded.gather(1, roots + 1 + k) for k in range(DEPTH)], -1)
        ranks = tree_ranks(judge, x, feature, roots)
        # Past the longest text nothing is true; past a shorter one's end the walk stops by itself.
        ranks = torch.where(truth < 0, 1 << 30, ranks)
        accepted = {f"tree:{size}": (ranks < size - 1).sum(-1) for size in TREES}
        drafted = [g[..., 0] for g in judge.drafts(x, feature, max(CHAINS), own=True)]
        drafted = torch.stack(drafted, -1).gather(1, (roots - 1)[..., None].expand(-1, -1, max(CHAINS)))
        right = (drafted == truth[..., : max(CHAINS)]).cumprod(-1)
        accepted |= {f"chain:{size}": right[..., :size].sum(-1) for size in CHAINS}
        for name, lengths in accepted.items():
            lengths = lengths.tolist()
            for row, n in enumerate(mine):
                root, rounds = 0, 0
                last = ends[n] - starts[n] - 1
                while root < last:
                    root, rounds = root + lengths[row][root] + 1, rounds + 1
                category = "mt-bench" if categories[n] in MT_BENCH else categories[n]
                tokens = taken.setdefault(name, {}).setdefault(category, [0, 0])
                tokens[0] += last
                tokens[1] += rounds
    judge.open, out = None, {}
    for name, of in sorted(taken.items(), key=lambda item: (item[0][0], int(item[0].split(":")[1]))):
        out[name] = {category: tokens / max(rounds, 1) for category, (tokens, rounds) in sorted(of.items())}
        out[name]["mean"] = sum(out[name].values()) / len(of)
    return out
