"""The official client asks a real model: whole answers, streams, several at once, and what goes wrong."""

import asyncio
import json
from typing import Literal

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field

MODEL = "smollm2-135m"
ASKED = [{"role": "user", "content": "Name a colour."}]

client = OpenAI()


def whole_answer():
    answer = client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=12, temperature=0)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL
    assert answer.created > 1_700_000_000
    (choice,) = answer.choices
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens > 0 and 0 < answer.usage.completion_tokens <= 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    return answer


def stream_is_the_whole_answer_in_pieces(answer):
    text, chunks = "", []
    with client.chat.completions.create(
        model=MODEL, messages=ASKED, max_tokens=12, temperature=0, stream=True
    ) as stream:
        for chunk in stream:
            chunks.append(chunk)
            assert chunk.object == "chat.completion.chunk"
            assert chunk.usage is None
            for choice in chunk.choices:
                text += choice.delta.content or ""
    assert text == answer.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == answer.choices[0].finish_reason
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert {chunk.created for chunk in chunks} == {chunks[0].created}
    assert len(chunks) > 3, "the text came all at once"


def usage_comes_last_where_it_is_wanted(answer):
    stream = client.chat.completions.create(
        model=MODEL,
        messages=ASKED,
        max_tokens=12,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[-1].choices == []
    assert chunks[-1].usage == answer.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def several_choices_and_their_logprobs():
    answer = client.chat.completions.create(
        model=MODEL, messages=ASKED, max_tokens=6, n=3, temperature=1, logprobs=True, top_logprobs=2
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        tokens = choice.logprobs.content
        assert 0 < len(tokens) <= 6
        assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)
    streamed = client.chat.completions.create(
        model=MODEL,
        messages=ASKED,
        max_tokens=6,
        n=3,
        temperature=1,
        logprobs=True,
        top_logprobs=2,
        stream=True,
    )
    texts, tokens = ["", "", ""], [[], [], []]
    for chunk in streamed:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.logprobs:
                tokens[choice.index] += choice.logprobs.content
    assert texts == [choice.message.content for choice in answer.choices]
    assert tokens == [choice.logprobs.content for choice in answer.choices]


def sampling_is_as_it_is_asked_for():
    def ask(**parameters):
        answer = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Tell me a story."}], max_tokens=16, **parameters
        )
        return answer.choices[0]

    assert ask(seed=1).message.content == ask(seed=1).message.content
    assert ask(seed=1).message.content != ask(seed=2).message.content
    greedy = ask(temperature=0).message.content
    assert greedy == ask(temperature=0, seed=5).message.content
    word = greedy.split()[3]
    stopped = ask(temperature=0, stop=[word])
    assert stopped.finish_reason == "stop" and word not in stopped.message.content
    assert greedy.startswith(stopped.message.content)
    assert ask(max_completion_tokens=3).finish_reason == "length"


def texts_are_continued():
    answer = client.completions.create(model=MODEL, prompt="One, two, three,", max_tokens=8, temperature=0, logprobs=2)
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-")
    (choice,) = answer.choices
    assert choice.text
    assert len(choice.logprobs.tokens) == answer.usage.completion_tokens
    stream = client.completions.create(
        model=MODEL, prompt="One, two, three,", max_tokens=8, temperature=0, stream=True
    )
    assert "".join(choice.text for chunk in stream for choice in chunk.choices) == choice.text


def answers_are_instances_of_a_model():
    class Review(BaseModel):
        verdict: Literal["good", "bad"]
        stars: int = Field(ge=1, le=5)
        dishes: list[Literal["soup", "bread", "cake"]] = Field(max_length=2)

    asked = [{"role": "user", "content": "The soup was cold. Rate it."}]
    parsed = client.chat.completions.parse(
        model=MODEL, messages=asked, response_format=Review, max_tokens=100, temperature=0
    )
    review = parsed.choices[0].message.parsed
    assert isinstance(review, Review) and 1 <= review.stars <= 5, parsed
    with client.chat.completions.stream(
        model=MODEL, messages=asked, response_format=Review, max_tokens=100, temperature=0
    ) as stream:
        stream.until_done()
        assert stream.get_final_completion().choices[0].message.parsed == review
    answer = client.chat.completions.create(
        model=MODEL, messages=asked, response_format={"type": "json_object"}, max_tokens=200, temperature=0
    )
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)
    try:
        client.chat.completions.parse(
            model=MODEL, messages=asked, response_format=Review, max_tokens=2, temperature=0
        )
    except openai.LengthFinishReasonError:
        pass
    else:
        raise AssertionError("an answer that is cut off was parsed")
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    try:
        client.chat.completions.create(
            model=MODEL,
            messages=asked,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        )
    except openai.BadRequestError as error:
        assert error.code == "invalid_response_format" and "uniqueItems" in error.message, error
    else:
        raise AssertionError("a schema that cannot be kept to was taken")


async def many_ask_at_once():
    async with AsyncOpenAI() as many:

        async def ask(number):
            answer = await many.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": f"What comes after {number}?"}],
                max_tokens=4,
                temperature=0,
            )
            return answer.choices[0].message.content

        async def stream(number):
            pieces = await many.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": f"What comes after {number}?"}],
                max_tokens=4,
                temperature=0,
                stream=True,
            )
            return "".join([piece.choices[0].delta.content or "" async for piece in pieces])

        numbers = range(12)
        whole = await asyncio.gather(*(ask(number) for number in numbers))
        streamed = await asyncio.gather(*(stream(number) for number in numbers))
        assert whole == streamed, (whole, streamed)


def models_are_listed():
    listed = client.models.list()
    assert MODEL in [model.id for model in listed]
    model = client.models.retrieve(MODEL)
    assert (model.id, model.object) == (MODEL, "model")
    try:
        client.models.retrieve("no-such/model")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"
    else:
        raise AssertionError("a model that is not there was found")


def prompt_that_is_too_long_has_its_status_even_as_a_stream():
    long = [{"role": "user", "content": "word " * 20_000}]
    for stream in (False, True):
        try:
            client.chat.completions.create(model=MODEL, messages=long, stream=stream)
        except openai.BadRequestError as error:
            assert error.code == "context_length_exceeded", error
        else:
            raise AssertionError("a prompt over the context was answered")


answer = whole_answer()
stream_is_the_whole_answer_in_pieces(answer)
usage_comes_last_where_it_is_wanted(answer)
several_choices_and_their_logprobs()
sampling_is_as_it_is_asked_for()
texts_are_continued()
answers_are_instances_of_a_model()
asyncio.run(many_ask_at_once())
models_are_listed()
prompt_that_is_too_long_has_its_status_even_as_a_stream()
print(json.dumps(answer.to_dict()))
