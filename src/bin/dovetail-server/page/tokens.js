// Tokens in the conversation: the one under the pointer shows its round, and those of the round that is shown are marked.

// Connects the tokens in `log`. `find` gives the answer that a token belongs to, `viewOf` the element of an answer;
// `point` is called with the answer and the round of a token under the pointer, `leave` when the pointer leaves them.
// Returns `mark`, which marks a round of an answer, or none if it is null, and `remark`, to be called when an answer has
// been drawn again.
export function createTokens(log, { find, viewOf, point, leave }) {
  const marked = { answer: null, round: null };

  log.addEventListener("pointerover", ({ target }) => {
    if (!target.dataset?.round || !document.body.classList.contains("coloured")) return;
    const answer = find(target);
    const round = Number(target.dataset.round);
    target.title = describe(answer.rounds[round], round, target.classList.contains("drafted"));
    point(answer, round);
  });
  log.addEventListener("pointerleave", () => {
    mark(null, null);
    leave();
  });

  function mark(answer, round) {
    log.querySelectorAll(".token.marked").forEach((token) => token.classList.remove("marked"));
    Object.assign(marked, { answer, round });
    if (round === null) return;
    viewOf(answer)?.querySelectorAll(`[data-round="${round}"]`).forEach((token) => token.classList.add("marked"));
  }

  return { mark, remark: (answer) => answer === marked.answer && mark(answer, marked.round) };
}

function describe({ ms }, round, isDrafted) {
  const time = ms === null ? "" : `, ${ms.toFixed(1)} ms`;
  return `Round ${round + 1}${time}: ${isDrafted ? "drafted" : "the model's own"}`;
}
