"""Answers of a JSON schema through OpenAI's client, at temperature 0 and above it."""
import enum
import json
import unittest

import openai
import pydantic

from server_test.test_openai import chat, client


class Colour(str, enum.Enum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


class Thing(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    colour: Colour
    sizes: list[int] = pydantic.Field(max_length=3)


class Grammar(unittest.TestCase):
    def test_a_schema_of_pydantic(self):
        messages = [{"role": "user", "content": "Describe a thing."}]
        for i in range(20):
            answer = client().chat.completions.parse(model="default", messages=messages, response_format=Thing, seed=i,
                                                     max_tokens=300, temperature=0.8 * (i % 2))
            self.assertIsInstance(answer.choices[0].message.parsed, Thing)

    def test_objects_and_grammars(self):
        text = chat(response_format={"type": "json_object"}, max_tokens=300).choices[0].message.content
        self.assertIsInstance(json.loads(text), dict)
        text = chat(extra_body={"grammar": 'root ::= "a" [0-9]{3}'}).choices[0].message.content
        self.assertRegex(text, r"^a\d{3}$")
        for how in ("off", "on"):
            body = {"json_schema": {"type": "integer", "minimum": 10, "maximum": 99}, "dovetail": {"drafting": how}}
            self.assertRegex(chat(extra_body=body, temperature=0.8, seed=1).choices[0].message.content, r"^\d\d$")

    def test_what_is_no_grammar_is_refused(self):
        for body in [{"grammar": "root ::= ("}, {"json_schema": {"type": "colour"}}, {"json_schema": False},
                     {"grammar": 'root ::= "a"', "json_schema": {}}]:
            with self.assertRaises(openai.BadRequestError):
                chat(extra_body=body)
