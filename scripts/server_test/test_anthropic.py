"""Anthropic's client: messages, their stream, token counts, errors."""
import unittest

import anthropic

from server_test import server

COUNT = [{"role": "user", "content": "Count from one to nine, in words."}]


def client():
    return anthropic.Anthropic(base_url=server.url(), api_key=server.KEY, max_retries=0)


def message(**fields):
    fields = {"model": "default", "messages": COUNT, "max_tokens": 24, "extra_body": {"temperature": 0}, **fields}
    return client().messages.create(**fields)


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

    def test_errors(self):
        with self.assertRaises(anthropic.AuthenticationError):
            anthropic.Anthropic(base_url=server.url(), api_key="wrong", max_retries=0).messages.create(
                model="default", messages=COUNT, max_tokens=1)
        with self.assertRaises(anthropic.BadRequestError) as caught:
            message(extra_body={"temperature": "hot"})
        self.assertEqual(caught.exception.body["type"], "error")
        self.assertEqual(caught.exception.body["error"]["type"], "invalid_request_error")
