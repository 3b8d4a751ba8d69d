"""The official client has tools called: whole and streamed, required, named, and left to the model."""

import json

import openai
from openai import OpenAI

client = OpenAI(max_retries=0)
ASKED = [{"role": "user", "content": "Is it warm?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"enum": ["Bern", "Oslo"]}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
WEATHER = {"type": "function", "function": {"name": "weather"}}


def ask(**parameters):
    return client.chat.completions.create(model="stub", messages=ASKED, tools=TOOLS, temperature=0, **parameters)


answer = ask(tool_choice=WEATHER)
(choice,) = answer.choices
assert choice.finish_reason == "tool_calls" and choice.message.content is None, choice
(call,) = choice.message.tool_calls
assert call.type == "function" and call.id.startswith("call_") and call.function.name == "weather"
assert json.loads(call.function.arguments)["city"] in ("Bern", "Oslo")

with client.chat.completions.stream(
    model="stub", messages=ASKED, tools=TOOLS, temperature=0, tool_choice=WEATHER
) as stream:
    stream.until_done()
    final = stream.get_final_completion().choices[0]
assert final.finish_reason == "tool_calls"
(streamed,) = final.message.tool_calls
assert (streamed.id, streamed.function.name) == (call.id, "weather")
assert streamed.function.arguments == call.function.arguments

# The call and what the tool said go back to the model.
messages = ASKED + [
    {"role": "assistant", "content": None, "tool_calls": [call.to_dict()]},
    {"role": "tool", "tool_call_id": call.id, "content": "11 degrees"},
]
after = client.chat.completions.create(model="stub", messages=messages, tools=TOOLS, max_tokens=8, temperature=0)
assert after.choices[0].message.content and after.choices[0].message.tool_calls is None

required = ask(tool_choice="required").choices[0]
assert required.message.tool_calls[0].function.name in ("weather", "now")
free = ask(max_tokens=8).choices[0]
assert free.message.content and free.finish_reason in ("length", "stop")
chunks = list(ask(max_tokens=8, stream=True))
assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices) == free.message.content

for wrong in ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, {"response_format": {"type": "json_object"}}):
    try:
        ask(**wrong)
    except openai.BadRequestError as error:
        assert error.code == "invalid_value", error
    else:
        raise AssertionError(f"{wrong} was taken")
