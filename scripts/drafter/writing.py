"""The target writes dialogues with itself, many rows at a time, and answers given prompts.

All rows stand at the same position. A row's next token is forced while a piece (a template's text, an
opening) is unfinished, and the target's choice otherwise. A step is one graph on a GPU; steps that see
equally many blocks of the cache share it.
"""
import math

import numpy as np
import torch
import torch.nn.functional as F

from . import openings
from .target import rms_norm, rotate

USER, ANSWER, FORCED = 0, 1, 2
BLOCK = 128
USER_TEMPERATURE, ANSWER_TEMPERATURE = 1.0, 0.8
# A sampled token has at least this share of the likeliest one's probability.
MIN_P = 0.02
TURNS = 8
AFTER_ENDING = (2, 60)
# An answer is cut here: greedy ones of a small target tend to go round in circles.
LONGEST_ANSWER = 256
TO_ANSWER = 0
# What is planned of a user turn: pieces and numbers of tokens, as in openings.Turn.
FIELDS = [(name, np.int64) for name in ("opening", "least", "most", "ending", "ending_after")]


class Writer:
    """Rows of `length` tokens. `pieces` are lists of token ids, the first leads from a user turn to the answer;
    with `only_answers` so do all others."""

    def __init__(self, target, chat, tokenizer, rows, length, pieces, turns, only_answers=False):
        device = self.device = target.device
        s, self.target, self.length = target.shape, target, length
        self.groups = s.heads // s.kv_heads
        self.span = -(-length // BLOCK) * BLOCK
        self.keys = torch.zeros(s.layers, rows, s.kv_heads, self.span, s.head_size, device=device, dtype=target.dtype)
        self.values = torch.zeros_like(self.keys)
        self.cos, self.sin = target.rope(0, self.span)
        longest = max(map(len, pieces))
        padded = [piece + [0] * (longest - len(piece)) for piece in pieces]
        self.pieces = torch.tensor(padded, device=device)
        self.lengths = torch.tensor([len(piece) for piece in pieces], device=device)
        self.leads = torch.tensor([n == TO_ANSWER or only_answers for n in range(len(pieces))], device=device)
        names = (tokenizer.id_to_token(n) or "" for n in range(s.vocabulary))
        self.sentence_end = torch.tensor([name.endswith((".", "Ċ")) for name in names], device=device)
        self.stops = {chat.user_end, chat.answer_end, *chat.stops}
        # Indexed by role.
        self.ends = torch.tensor([chat.user_end, chat.answer_end, -1], device=device)
        self.temperatures = torch.tensor([USER_TEMPERATURE, ANSWER_TEMPERATURE, 1.0], device=device)
        integer = lambda *size: torch.zeros(*size, dtype=torch.long, device=device)
        self.ids, self.roles = integer(rows, length + 1), integer(rows, length + 1)
        self.at, self.role, self.piece, self.offset, self.since, self.turn = integer(1), *(integer(rows) for _ in range(5))
        self.ended_once, self.greedy = integer(rows).bool(), integer(rows).bool()
        self.plan = {name: torch.zeros(rows, turns, dtype=torch.long, device=device) for name, _ in FIELDS}
        self.longest_answer = length if only_answers else LONGEST_ANSWER
        self.graphs = {}

    @torch.no_grad()
    def write(self, plan, greedy, seed):
        """`plan`: a structured array (rows, turns), see `planned`. Returns ids and roles, (rows, length)."""
        if self.device.type == "cuda" and not self.graphs:
            self.graphs = self.captured()
        for name, to in self.plan.items():
            to.copy_(torch.from_numpy(np.ascontiguousarray(plan[name])))
        self.greedy.copy_(torch.from_numpy(greedy))
        for state in (self.at, self.role, self.since, self.turn, self.ended_once):
            state.zero_()
        self.piece.copy_(self.plan["opening"][:, 0])
        self.offset.fill_(1)
        self.ids[:, 0] = self.pieces[self.piece, 0]
        self.roles[:, 0] = FORCED
        torch.manual_seed(seed)
        for t in range(self.length - 1):
            span = (t // BLOCK + 1) * BLOCK
            self.graphs[span].replay() if self.graphs else self.advance(span)
        return self.ids[:, : self.length].cpu(), self.roles[:, : self.length].to(torch.uint8).cpu()

    def captured(self):
        """A graph for each span, all made before the first draw, so that a seed means the same in every batch."""
        graphs, stream = {}, torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.advance(BLOCK)
        torch.cuda.current_stream().wait_stream(stream)
        for span in range(BLOCK, self.span + 1, BLOCK):
            graphs[span] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graphs[span], pool=graphs[BLOCK].pool() if span > BLOCK else None):
                self.advance(span)
        return graphs

    def advance(self, span):
        """One token for every row; keys beyond `span` are not looked at."""
        target, s = self.target, self.target.shape
        query, key_value = s.heads * s.head_size, s.kv_heads * s.head_size
        x = F.embedding(self.ids.index_select(1, self.at)[:, 0], target.embedding)
        cos, sin = self.cos.index_select(0, self.at), self.sin.index_select(0, self.at)
        unseen = torch.arange(span, device=self.device) > self.at
        mask = torch.zeros(span, device=self.device, dtype=x.dtype).masked_fill(unseen, -math.inf)
        for w, keys, values in zip(target.layers, self.keys, self.values):
            h = F.linear(F.rms_norm(x, (s.width,), w["attn_norm"], s.epsilon), w["qkv"])
            q, v = h[:, :query], h[:, query + key_value:]
            # (rows, heads, 1, head_size), queries and keys at once
            turned = rotate(h[:, : query + key_value].unflatten(-1, (-1, 1, s.head_size)), cos, sin)
            q, k = turned[:, : s.heads], turned[:, s.heads:]
            keys.index_copy_(2, self.at, k)
            values.index_copy_(2, self.at, v.unflatten(-1, (-1, 1, s.head_size)))
            q = q.unflatten(1, (s.kv_heads, self.groups))[:, :, :, 0] * s.head_size**-0.5
            scores = torch.matmul(q, keys[:, :, :span].transpose(-1, -2)) + mask
            out = torch.matmul(scores.softmax(-1), values[:, :, :span])
            x = torch.addmm(x, out.flatten(1), w["attn_output"].T)
            h = F.rms_norm(x, (s.width,), w["ffn_norm"], s.epsilon)
            gate, up = F.linear(h, w["gate_up"]).chunk(2, -1)
            x = torch.addmm(x, F.silu(gate) * up, w["ffn_down"].T)
        self.choose(F.linear(rms_norm(x, target.output_norm, s.epsilon), target.head))
        self.at += 1

    def choose(self, logits):
        """The next token of each row and the row's new state. logits: (rows, vocabulary)"""
        user, forced = self.role == USER, self.piece >= 0
        plan = {name: value.gather(1, self.turn[:, None])[:, 0] for name, value in self.plan.items()}
        asked = self.ended_once & user
        least = plan["least"].masked_fill(asked, AFTER_ENDING[0])
        most = plan["most"].masked_fill(asked, AFTER_ENDING[1]).masked_fill(~user, self.longest_answer)
        logits = logits.float() / self.temperatures[self.role][:, None]
        early = (user & (self.since < least))[:, None]
        for stop in self.stops:
            logits[:, stop : stop + 1].masked_fill_(early, -math.inf)
        # argmax(logits + Gumbel noise) is a draw from softmax(logits), without noise it is the likeliest token.
        noise = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-12, 1 - 1e-7)))
        noise *= ~(self.greedy & ~user)[:, None]
        likely = logits >= logits.amax(-1, keepdim=True) + math.log(MIN_P)
        token = (logits + noise).masked_fill(~likely, -math.inf).argmax(-1)

        stopped = sum(token == stop for stop in self.stops) > 0
        ended = ~forced & (stopped | (self.since >= most))
        token = torch.where(ended, self.ends[self.role], token)
        token = torch.where(forced, self.pieces[self.piece.clamp(min=0), self.offset], token)
        self.ids.index_copy_(1, self.at + 1, token[:, None])
        self.roles.index_copy_(1, self.at + 1, self.role.masked_fill(forced, FORCED)[:, None])

        asking = (~forced & user & ~ended & ~self.ended_once & (plan["ending"] >= 0)
                  & (self.since >= plan["ending_after"]) & self.sentence_end[token])
        done = forced & (self.offset + 1 >= self.lengths[self.piece.clamp(min=0)])
        self.since.add_(1).masked_fill_(forced, 0)
        self.role.masked_fill_(done & self.leads[self.piece.clamp(min=0)], ANSWER)
        self.offset.add_(1).masked_fill_(~forced | done, 0)
        self.piece.masked_fill_(done, -1)
        answered = ended & ~user
        self.turn.copy_((self.turn + answered).clamp(max=self.plan["opening"].shape[1] - 1))
        next_opening = self.plan["opening"].gather(1, self.turn[:, None])[:, 0]
        following = torch.where(answered, next_opening, torch.where(asking, plan["ending"], self.piece))
        self.piece.copy_(following.masked_fill(ended & user, TO_ANSWER))
        self.role.masked_fill_(answered, USER)
        self.ended_once.copy_((self.ended_once | asking) & ~answered)


def planned(chat, seed, rows):
    """Plans of `rows` dialogues as an array (rows, TURNS), the kind of each first turn, and all pieces."""
    pieces, known = [chat.to_answer[1:]], {}

    def number(ids):
        key = tuple(ids)
        if key not in known:
            known[key] = len(pieces)
            pieces.append(list(ids))
        return known[key]

    out, kinds = np.zeros((rows, TURNS), FIELDS), []
    for row, turns in enumerate(openings.plans(seed, rows, TURNS)):
        kinds.append(turns[0].kind)
        for n, turn in enumerate(turns):
            header = chat.to_user[1:] if n else chat.before
            ending = number(chat.encode(turn.ending)) if turn.ending else -1
            out[row, n] = (number(header + chat.encode(turn.opening)), turn.least, turn.most, ending, turn.ending_after)
    return out, np.array(kinds), pieces


def dialogues(target, chat, tokenizer, seed, rows, length, batches, save):
    """Calls save(batch, ids, roles, greedy, kinds) for each batch of rows; three in five of them answer greedily."""
    plan, kinds, pieces = planned(chat, seed, rows * max(batches) + rows)
    writer = Writer(target, chat, tokenizer, rows, length, pieces, TURNS)
    for batch in batches:
        mine = slice(batch * rows, batch * rows + rows)
        greedy = np.arange(rows) % 5 < 3
        ids, roles = writer.write(plan[mine], greedy, seed * 1000 + batch)
        save(batch, ids, roles, greedy, kinds[mine])


def answers(target, chat, tokenizer, prompts, count):
    """Greedy answers to prompts given as token ids. Returns ids (prompts, length), the prompts' lengths and
    those of the whole; an answer's last token is the one that ends it, if it came within `count`."""
    starts = [len(prompt) for prompt in prompts]
    length = max(starts) + count
    plan = np.zeros((len(prompts), 1), FIELDS)
    plan["opening"][:, 0] = np.arange(len(prompts)) + 1
    plan["ending"] = -1
    pieces = [chat.to_answer[1:], *prompts]
    writer = Writer(target, chat, tokenizer, len(prompts), length, pieces, 1, only_answers=True)
    ids, roles = writer.write(plan, np.ones(len(prompts), bool), 0)
    ends = []
    for row, start in zip(ids, starts):
        stops = (row[start : start + count] == chat.answer_end).nonzero()
        ends.append(start + (int(stops[0, 0]) + 1 if len(stops) else count))
    return ids, starts, ends
