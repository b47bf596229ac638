"""Ollama's client: chats, completions, models."""
import unittest

import ollama

from server_test import server

COUNT = [{"role": "user", "content": "Count from one to nine, in words."}]
OPTIONS = {"temperature": 0, "num_predict": 24}


def client():
    return ollama.Client(host=server.url(), headers={"Authorization": f"Bearer {server.KEY}"})


class Ollama(unittest.TestCase):
    def test_a_stream_is_the_whole_answer(self):
        name = client().list().models[0].model
        whole = client().chat(name, COUNT, options=OPTIONS)
        pieces = list(client().chat(name, COUNT, options=OPTIONS, stream=True))
        self.assertEqual("".join(piece.message.content for piece in pieces), whole.message.content)
        self.assertTrue(pieces[-1].done and not any(piece.done for piece in pieces[:-1]))
        self.assertEqual((pieces[-1].done_reason, pieces[-1].eval_count), (whole.done_reason, whole.eval_count))

    def test_completions_and_models(self):
        name = client().list().models[0].model
        whole = client().generate(name, "One, two, three,", options=OPTIONS, raw=True)
        self.assertGreater(len(whole.response), 5)
        self.assertIn("llama", str(client().show(name).modelinfo).lower())

    def test_embeddings(self):
        name = client().list().models[0].model
        both = client().embed(name, ["The sky is blue.", "One, two, three."])
        self.assertEqual(len(both.embeddings), 2)
        self.assertAlmostEqual(sum(x * x for x in both.embeddings[0]), 1, places=4)
        alone = client().embed(name, "One, two, three.").embeddings
        self.assertEqual(list(alone[0]), list(both.embeddings[1]))
        self.assertEqual(list(client().embeddings(name, "One, two, three.").embedding), list(alone[0]))
        with self.assertRaises(ollama.ResponseError) as caught:
            client().embed(name, "word " * 5000, truncate=False)
        self.assertEqual(caught.exception.status_code, 400)
        self.assertEqual(len(client().embed(name, "word " * 5000).embeddings), 1)

    def test_what_the_model_cannot_do_is_refused(self):
        name = client().list().models[0].model
        self.assertEqual(client().show(name).capabilities, ["completion", "embedding"])
        self.assertTrue(client().chat(name, COUNT, options=OPTIONS, think=False).message.content)
        for options in {"think": True}, {"tools": [lambda city: city]}:
            with self.assertRaises(ollama.ResponseError) as caught:
                client().chat(name, COUNT, **options)
            self.assertEqual(caught.exception.status_code, 400)

    def test_errors(self):
        with self.assertRaises(ollama.ResponseError) as caught:
            client().chat("default", COUNT, options={"temperature": "hot"})
        self.assertEqual(caught.exception.status_code, 400)
