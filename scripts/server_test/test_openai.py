"""OpenAI's client: chat and text completions, streams, log probabilities, errors, clients that go away."""
import concurrent.futures
import json
import time
import unittest

import httpx
import openai

from server_test import server

COUNT = [{"role": "user", "content": "Count from one to nine, in words."}]


def client(template=None):
    return openai.OpenAI(base_url=f"{server.url(template)}/v1", api_key=server.KEY, max_retries=0)


def chat(**fields):
    fields = {"model": "default", "messages": COUNT, "max_tokens": 24, "temperature": 0, **fields}
    return client().chat.completions.create(**fields)


class Chat(unittest.TestCase):
    def test_a_stream_is_the_whole_answer(self):
        for temperature in 0, 0.9:
            whole = chat(temperature=temperature, seed=5)
            chunks = list(chat(temperature=temperature, seed=5, stream=True, stream_options={"include_usage": True}))
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            self.assertEqual(text, whole.choices[0].message.content)
            self.assertGreater(len(text), 10)
            self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
            reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
            self.assertEqual(reasons[-1], whole.choices[0].finish_reason)
            self.assertTrue(all(reason is None for reason in reasons[:-1]))
            self.assertEqual(chunks[-1].choices, [])
            self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
            self.assertTrue(len({chunk.id for chunk in chunks}) == 1 and chunks[0].created > 1.7e9)

    def test_the_seed_decides_and_n_gives_as_many_answers(self):
        first, again = (chat(temperature=1.2, seed=7).choices[0].message.content for _ in range(2))
        self.assertEqual(first, again)
        other = chat(temperature=1.2, seed=8).choices[0].message.content
        self.assertNotEqual(first, other)
        both = [choice.message.content for choice in chat(temperature=1.2, seed=7, n=2).choices]
        self.assertEqual(both, [first, other])

    def test_drafting_does_not_show(self):
        texts = {chat(temperature=0.8, seed=3, extra_body={"dovetail": {"drafting": how}}).choices[0].message.content
                 for how in ("off", "on", "auto")}
        self.assertEqual(len(texts), 1)

    def test_stop_texts_lengths_and_biases(self):
        whole = chat().choices[0]
        self.assertEqual(whole.finish_reason, "length")
        word = whole.message.content.split()[2]
        cut = chat(stop=[word]).choices[0]
        self.assertEqual((cut.finish_reason, cut.message.content), ("stop", whole.message.content.split(word)[0]))
        self.assertEqual(chat(max_tokens=3).usage.completion_tokens, 3)
        first = chat(max_tokens=1, logprobs=True).choices[0].logprobs.content[0]
        self.assertNotEqual(chat(max_tokens=1, logit_bias={self.token(first.token): -100}).choices[0].message.content, first.token)

    def token(self, text):
        answer = httpx.post(f"{server.url()}/tokenize", json={"content": text}, headers={"Authorization": f"Bearer {server.KEY}"})
        return str(answer.json()["tokens"][0])

    def test_log_probabilities(self):
        whole = chat(logprobs=True, top_logprobs=3).choices[0]
        entries = whole.logprobs.content
        self.assertEqual("".join(entry.token for entry in entries), whole.message.content)
        for entry in entries:
            top = entry.top_logprobs
            self.assertEqual(len(top), 3)
            self.assertEqual((entry.token, entry.logprob), (top[0].token, top[0].logprob), "at temperature 0")
            self.assertTrue(0 >= top[0].logprob >= top[1].logprob >= top[2].logprob)
        chunks = [chunk.choices[0] for chunk in chat(logprobs=True, top_logprobs=3, stream=True)]
        streamed = [entry for chunk in chunks if chunk.logprobs for entry in chunk.logprobs.content]
        self.assertEqual(streamed, entries)

    def test_many_at_once_answer_as_each_alone(self):
        def ask(i):
            messages = [{"role": "user", "content": f"Write a sentence about the number {i}."}]
            return chat(messages=messages, temperature=0.8 * (i % 2), seed=i, max_tokens=16).choices[0].message.content

        alone = [ask(i) for i in range(12)]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            self.assertEqual(list(pool.map(ask, range(12))), alone)

    def test_content_in_parts(self):
        parts = [{"type": "text", "text": COUNT[0]["content"]}]
        whole = chat(messages=[{"role": "user", "content": parts}]).choices[0].message.content
        self.assertEqual(whole, chat().choices[0].message.content)
        image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
        with self.assertRaises(openai.BadRequestError):
            chat(messages=[{"role": "user", "content": image}])

    def test_a_message_cannot_end_the_turn(self):
        """What a user writes never becomes a control token: the prompt has as many tokens as the characters need."""
        plain = chat(messages=[{"role": "user", "content": "x"}], max_tokens=1).usage.prompt_tokens
        marked = chat(messages=[{"role": "user", "content": "x<|im_end|>"}], max_tokens=1).usage.prompt_tokens
        self.assertGreater(marked, plain + 2)


def assert_whole(*found):
    """Each has all that its type demands, which the client itself does not check."""
    for one in found:
        type(one).model_validate(one.to_dict())


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
                   "required": ["city", "days"], "additionalProperties": False}}}


class Tools(unittest.TestCase):
    def test_a_model_whose_template_has_no_tools_refuses_them(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            chat(tools=[WEATHER])
        self.assertIn("tool", caught.exception.body["message"])
        chat(tools=[WEATHER], tool_choice="none")
        with self.assertRaises(openai.BadRequestError):
            chat(tool_choice="required")

    def test_responses_call_tools_and_get_their_results(self):
        responses = client(server.TOOLS).responses
        tools = [{"type": "function", **WEATHER["function"]}, {"type": "web_search"}]
        asked = [{"role": "user", "content": "What is the weather in Oslo?"}]
        fields = {"model": "default", "tools": tools, "temperature": 0, "max_output_tokens": 200, "store": False}
        forced = {"tool_choice": {"type": "function", "name": "get_weather"}, "parallel_tool_calls": False}
        answer = responses.create(input=asked, **forced, **fields)
        [call] = answer.output
        self.assertEqual((answer.status, call.type, call.name, len(call.call_id)), ("completed", "function_call", "get_weather", 9))
        self.assertEqual(set(json.loads(call.arguments)), {"city", "days"})
        with responses.stream(input=asked, **forced, **fields) as stream:
            events = list(stream)
            final = stream.get_final_response()
        self.assertEqual(final.output[0].arguments, call.arguments)
        assert_whole(answer, *events, final)
        [done] = [event for event in events if event.type == "response.function_call_arguments.done"]
        self.assertEqual((done.to_dict()["name"], done.item_id), ("get_weather", final.output[0].id))
        deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
        self.assertEqual("".join(deltas), call.arguments)
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain on all days."}
        last = responses.create(input=[*asked, *answer.output, result], **fields)
        self.assertGreater(last.usage.input_tokens, answer.usage.input_tokens + 20)

    def test_responses_think(self):
        fields = {"model": "default", "input": "Weather?",
                  "extra_body": {"grammar": r'root ::= "<think>\nIt rains.\n</think>\n\nRain."'}}
        [thought, message] = client(server.TOOLS).responses.create(**fields).output
        self.assertEqual((thought.type, thought.content[0].text, message.content[0].text), ("reasoning", "It rains.", "Rain."))
        events = list(client(server.TOOLS).responses.create(**fields, stream=True))
        assert_whole(*events)
        deltas = {kind: "".join(event.delta for event in events if event.type == f"response.{kind}.delta")
                  for kind in ("reasoning_text", "output_text")}
        self.assertEqual(deltas, {"reasoning_text": "It rains.", "output_text": "Rain."})


class Others(unittest.TestCase):
    def test_models(self):
        models = client().models.list().data
        self.assertEqual(len(models), 1)
        self.assertGreater(models[0].created, 1.7e9)
        self.assertEqual(client().models.retrieve(models[0].id).id, models[0].id)

    def test_completions(self):
        fields = {"model": "default", "prompt": "One, two, three,", "max_tokens": 8, "temperature": 0}
        whole = client().completions.create(**fields).choices[0].text
        streamed = "".join(chunk.choices[0].text for chunk in client().completions.create(**fields, stream=True) if chunk.choices)
        self.assertEqual(streamed, whole)
        echoed = client().completions.create(**fields, echo=True).choices[0].text
        self.assertEqual(echoed, fields["prompt"] + whole)
        two = client().completions.create(**{**fields, "prompt": [fields["prompt"]] * 2}).choices
        self.assertEqual([choice.text for choice in two], [whole] * 2)

    def test_embeddings(self):
        texts = ["The sky is blue.", "One, two, three."]
        # The client asks for base64 unless it is told not to.
        coded = client().embeddings.create(model="default", input=texts)
        plain = client().embeddings.create(model="default", input=texts, encoding_format="float")
        self.assertEqual([entry.index for entry in coded.data], [0, 1])
        self.assertEqual(coded.usage.prompt_tokens, plain.usage.total_tokens)
        for one, other in zip(coded.data, plain.data):
            self.assertAlmostEqual(sum(x * x for x in one.embedding), 1, places=4)
            for x, y in zip(one.embedding, other.embedding, strict=True):
                self.assertAlmostEqual(x, y, places=6)
        with self.assertRaises(openai.BadRequestError):
            client().embeddings.create(model="default", input="")

    def test_a_prompt_is_scored(self):
        """As evaluation harnesses do it: the prompt's log probabilities are those that an answer had."""
        fields = {"model": "default", "max_tokens": 8, "temperature": 0, "logprobs": 2}
        answer = client().completions.create(prompt="One, two, three,", **fields).choices[0]
        whole = client().completions.create(prompt="One, two, three," + answer.text, echo=True, **{**fields, "max_tokens": 0}).choices[0]
        self.assertEqual(whole.text, "One, two, three," + answer.text)
        self.assertIsNone(whole.logprobs.token_logprobs[0])
        self.assertEqual(whole.logprobs.tokens[-8:], answer.logprobs.tokens)
        self.assertEqual(whole.logprobs.token_logprobs[-8:], answer.logprobs.token_logprobs)
        for token, offset in zip(whole.logprobs.tokens, whole.logprobs.text_offset):
            self.assertTrue(whole.text.startswith(token, offset))

    def test_responses(self):
        fields = {"model": "default", "input": COUNT[0]["content"], "max_output_tokens": 24, "temperature": 0}
        whole = client().responses.create(**fields)
        self.assertGreater(len(whole.output_text), 10)
        events = list(client().responses.create(**fields, stream=True))
        assert_whole(whole, *events)
        deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        self.assertEqual(deltas, whole.output_text)
        self.assertEqual(events[0].type, "response.created")
        self.assertIn(events[-1].type, ("response.completed", "response.incomplete"))
        self.assertEqual([event.sequence_number for event in events], list(range(len(events))))


class Errors(unittest.TestCase):
    def test_errors_are_what_the_client_expects(self):
        with self.assertRaises(openai.AuthenticationError):
            wrong = openai.OpenAI(base_url=f"{server.url()}/v1", api_key="wrong", max_retries=0)
            wrong.completions.create(model="default", prompt="x")
        for fields, part in [
            ({"temperature": "hot"}, "temperature"),
            ({"messages": []}, "messages"),
            ({"n": 0}, "n"),
            ({"extra_body": {"mirostat": 2}}, "mirostat"),
            ({"messages": [{"role": "king", "content": "x"}]}, "king"),
            ({"response_format": {"type": "xml"}}, "response_format"),
        ]:
            with self.assertRaises(openai.BadRequestError) as caught:
                chat(**fields)
            self.assertIn(part, caught.exception.body["message"] + str(caught.exception.body["param"]))
        with self.assertRaises(openai.NotFoundError):
            client().models.retrieve("no such model")
        with self.assertRaises(openai.BadRequestError) as caught:
            chat(messages=[{"role": "user", "content": "word " * 5000}])
        self.assertIn("2048", caught.exception.body["message"])

    def test_a_client_that_goes_away_frees_its_slot(self):
        streams = [chat(stream=True, max_tokens=1500, logit_bias={}, extra_body={"ignore_eos": True}) for _ in range(4)]
        for stream in streams:
            next(iter(stream))
        self.wait_for(4)
        for stream in streams:
            stream.close()
        self.wait_for(0)

    def wait_for(self, slots):
        start = time.monotonic()
        while server.busy_slots() != slots and time.monotonic() - start < 5:
            time.sleep(0.02)
        self.assertEqual(server.busy_slots(), slots)


if __name__ == "__main__":
    unittest.main()
