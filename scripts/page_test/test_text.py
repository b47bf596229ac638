"""Events out of bytes, answers out of events."""
from .browser import PageCase
from .mock import delta

PARSE = """
  const bytes = new Uint8Array(a.bytes), found = [], parser = m.eventParser();
  let at = 0;
  for (const cut of [...a.cuts, bytes.length]) { found.push(...parser.push(bytes.slice(at, cut))); at = cut; }
  return [...found, ...parser.end()];"""


class Events(PageCase):
    STREAM = ": comment\r\n\r\ndata: {\"text\": \"grün 漢字 🦀\"}\r\n\r\nevent: error\rdata: a\rdata:b\r\rid: 7\ndata\n\nevent: x\r\ndata: 1\r\ndata: 2\r\n\r\ndata: [DONE]\n\n"
    FOUND = [("message", '{"text": "grün 漢字 🦀"}'), ("error", "a\nb"), ("message", ""), ("x", "1\n2"), ("message", "[DONE]")]

    def parse(self, text, cuts=()):
        found = self.run_js("sse.js", PARSE, {"bytes": list(text.encode()), "cuts": list(cuts)})
        return [(event["event"], event["data"]) for event in found]

    def test_every_cut_of_the_stream_gives_the_same_events(self):
        length = len(self.STREAM.encode())
        found = self.run_js("sse.js", """
          const bytes = new Uint8Array(a), all = [];
          for (let i = 0; i <= bytes.length; i++) for (let j = i; j <= bytes.length; j += 7) {
            const parser = m.eventParser();
            const events = [bytes.slice(0, i), bytes.slice(i, j), bytes.slice(j)].flatMap((part) => parser.push(part));
            all.push(JSON.stringify([...events, ...parser.end()]));
          }
          return [...new Set(all)].map((each) => JSON.parse(each));""", list(self.STREAM.encode()))
        self.assertEqual([[(e["event"], e["data"]) for e in each] for each in found], [self.FOUND])
        self.assertEqual(self.parse(self.STREAM, range(1, length)), self.FOUND, "byte by byte")

    def test_an_event_that_the_end_cuts_off_is_delivered(self):
        self.assertEqual(self.parse("data: a\n\ndata: [DONE]"), [("message", "a"), ("message", "[DONE]")])
        self.assertEqual(self.parse("data: a\r"), [("message", "a")])
        self.assertEqual(self.parse("\n\n: nothing\n\nevent: x\n\n"), [])

    def test_a_line_without_end_is_refused(self):
        said = self.run_js("sse.js", """
          const parser = m.eventParser(), megabyte = new Uint8Array(1 << 20).fill(97);
          try { for (let i = 0; i < 20; i++) parser.push(megabyte); } catch (error) { return error.message; }""")
        self.assertIn("16 MB", said)


class Answers(PageCase):
    def take(self, *chunks):
        return self.run_js("answer.js", "const answer = m.newAnswer(); a.forEach((c) => m.take(answer, c)); return answer;",
                           list(chunks))

    def spans(self, content, rounds, reasoning=""):
        pieces = [{"pieces": [{"text": text, "drafted": drafted} for text, drafted in each]} for each in rounds]
        found = self.run_js("answer.js", "return m.spans(a);", {"content": content, "reasoning": reasoning, "rounds": pieces})
        return [(content[s["from"]:s["to"]], s["drafted"], s["round"]) for s in found]

    def test_malformed_fields_are_passed_over(self):
        strange = [None, 5, "x", [], {}, {"pieces": 5}, {"pieces": [None, 5, {"text": 5}], "round": {"nodes": 5, "accepted": "no"}}]
        chunks = [{"dovetail": each, "choices": each, "timings": each, "usage": each} for each in strange]
        answer = self.take(*chunks, delta("word"))
        self.assertEqual((answer["content"], len(answer["rounds"])), ("word", 1))
        self.assertEqual(answer["rounds"][0], {"n": None, "ms": None, "nodes": [], "accepted": [], "pieces": []})

    def test_nodes_hang_on_nodes_before_them(self):
        nodes = [{"text": "a", "parent": None}, {"text": "b", "parent": 0, "p": 7}, {"text": "c", "parent": 2}, {"text": "d", "parent": -1, "p": 0.5}]
        answer = self.take({"dovetail": {"pieces": [], "round": {"nodes": nodes, "accepted": [0, 9, "1", 1]}}})
        [found] = answer["rounds"]
        self.assertEqual([(n["parent"], n["p"]) for n in found["nodes"]], [(None, None), (0, 1), (None, None), (None, 0.5)])
        self.assertEqual(found["accepted"], [0, 1])

    def test_a_tree_has_at_most_64_nodes(self):
        nodes = [{"text": "a", "parent": None}] * 1000
        self.assertEqual(len(self.take({"dovetail": {"pieces": [], "round": {"nodes": nodes}}})["rounds"][0]["nodes"]), 64)

    def test_other_choices_are_left_out(self):
        other = {"choices": [{"index": 1, "delta": {"content": "no"}}, {"index": 0, "delta": {"content": "yes"}}]}
        self.assertEqual(self.take(other)["content"], "yes")

    def test_pieces_are_found_in_the_content(self):
        rounds = [[("The", True), (" sky", False)], [(" is", True), (" blue", True)]]
        whole = [("The", True, 0), (" sky", False, 0), (" is", True, 1), (" blue", True, 1)]
        self.assertEqual(self.spans("The sky is blue", rounds), whole)
        self.assertEqual(self.spans("The sky is blue and", rounds), whole, "pieces that lag behind")
        self.assertEqual(self.spans("The sky i", rounds), [*whole[:2], (" i", True, 1)], "pieces that run ahead")
        self.assertEqual(self.spans("sky is blue", rounds)[0], ("sky", False, 0), "white space that was cut off")
        self.assertEqual(self.spans("Something else", rounds), [])
        self.assertEqual(self.spans("", rounds), [])

    def test_reasoning_and_markers_stand_before_the_content(self):
        rounds = [[("<think>", False), ("The", True)], [(" sky</think>", False), ("\n\n", True)], [("The", True), (" end", False)]]
        self.assertEqual(self.spans("The end", rounds, reasoning="The sky"), [("The", True, 2), (" end", False, 2)])
        self.assertEqual(self.spans("The end", rounds[2:], reasoning="The sky"), [("The", True, 0), (" end", False, 0)])

    def test_texts_are_compared_to_the_character(self):
        compare = "return a.map(([x, y]) => m.difference(x, y));"
        pairs = [["", ""], ["abc", "abc"], ["abc", "abd"], ["abc", "ab"], ["", "a"]]
        self.assertEqual(self.run_js("compare.js", compare, pairs), [None, None, 2, 2, 0])
