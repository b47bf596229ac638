"""Anthropic's client: messages, their stream, tools, thoughts, token counts, errors."""
import unittest

import anthropic

from server_test import server

COUNT = [{"role": "user", "content": "Count from one to nine, in words."}]


def client(template=None):
    return anthropic.Anthropic(base_url=server.url(template), api_key=server.KEY, max_retries=0)


def message(**fields):
    fields = {"model": "default", "messages": COUNT, "max_tokens": 24, "extra_body": {"temperature": 0}, **fields}
    return client().messages.create(**fields)


WEATHER = {"name": "get_weather", "description": "The weather of a city.", "input_schema": {
    "type": "object", "required": ["city", "days"], "additionalProperties": False,
    "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 1, "maximum": 9}}}}
ASKED = [{"role": "user", "content": "What is the weather in Oslo?"}]


class Messages(unittest.TestCase):
    def test_a_stream_is_the_whole_answer(self):
        whole = message(system="Be brief.")
        self.assertEqual((whole.type, whole.role, whole.stop_reason), ("message", "assistant", "end_turn"))
        fields = {"model": "default", "messages": COUNT, "max_tokens": 24, "extra_body": {"temperature": 0}, "system": [{"type": "text", "text": "Be brief."}]}
        with client().messages.stream(**fields) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_message()
        self.assertEqual(final.content[0].text, whole.content[0].text)
        self.assertEqual((final.stop_reason, final.usage.output_tokens), (whole.stop_reason, whole.usage.output_tokens))
        self.assertEqual((kinds[0], kinds[-1]), ("message_start", "message_stop"))

    def test_stop_sequences_and_counts(self):
        word = message().content[0].text.split()[2]
        cut = message(stop_sequences=[word])
        self.assertEqual((cut.stop_reason, cut.stop_sequence), ("stop_sequence", word))
        counted = client().messages.count_tokens(model="default", messages=COUNT)
        usage = message().usage
        self.assertEqual(counted.input_tokens, usage.input_tokens + usage.cache_read_input_tokens)

    def test_tools(self):
        messages = client(server.TOOLS).messages
        fields = {"model": "default", "max_tokens": 200, "tools": [WEATHER, {"type": "web_search_20250305", "name": "web_search"}],
                  "extra_body": {"temperature": 0}}
        forced = {"tool_choice": {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}}
        answer = messages.create(messages=ASKED, **forced, **fields)
        [call] = answer.content
        self.assertEqual((answer.stop_reason, call.type, call.name), ("tool_use", "tool_use", "get_weather"))
        self.assertEqual(set(call.input), {"city", "days"})
        with messages.stream(messages=ASKED, **forced, **fields) as stream:
            events = list(stream)
            final = stream.get_final_message()
        self.assertEqual((final.content[0].input, final.stop_reason), (call.input, "tool_use"))
        partial = [event for event in events if event.type == "input_json"]
        self.assertEqual(partial[-1].snapshot, call.input)

        result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "Rain on all days."}]}
        turns = [*ASKED, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
        last = messages.create(messages=turns, **fields)
        counted = messages.count_tokens(model="default", messages=turns, tools=fields["tools"])
        self.assertEqual(counted.input_tokens, last.usage.input_tokens + last.usage.cache_read_input_tokens)
        self.assertGreater(counted.input_tokens, messages.count_tokens(model="default", messages=turns).input_tokens + 20)

    def test_thoughts(self):
        messages = client(server.TOOLS).messages
        fields = {"model": "default", "max_tokens": 2000, "messages": ASKED, "thinking": {"type": "enabled", "budget_tokens": 1024},
                  "extra_body": {"grammar": r'root ::= "<think>\nIt rains.\n</think>\n\nRain."'}}
        with messages.stream(**fields) as stream:
            streamed = stream.get_final_message()
        for answer in messages.create(**fields), streamed:
            [thought, text] = answer.content
            self.assertEqual((thought.type, thought.thinking, text.text), ("thinking", "It rains.", "Rain."))
        turns = [*ASKED, {"role": "assistant", "content": answer.content}, ASKED[0]]
        self.assertEqual(messages.create(**{**fields, "messages": turns}).content[1].text, "Rain.")

    def test_errors(self):
        with self.assertRaises(anthropic.AuthenticationError):
            anthropic.Anthropic(base_url=server.url(), api_key="wrong", max_retries=0).messages.create(
                model="default", messages=COUNT, max_tokens=1)
        with self.assertRaises(anthropic.BadRequestError) as caught:
            message(extra_body={"temperature": "hot"})
        self.assertEqual(caught.exception.body["type"], "error")
        self.assertEqual(caught.exception.body["error"]["type"], "invalid_request_error")
