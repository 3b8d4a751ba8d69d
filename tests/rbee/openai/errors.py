"""What is wrong with a request comes as the official client's typed exceptions."""

import openai
from openai import OpenAI

MODEL = "smollm2-135m"
ASKED = [{"role": "user", "content": "Hello"}]

client = OpenAI(max_retries=0)


def refused(kind, status, call, code=None, param=None):
    try:
        call()
    except kind as error:
        assert error.status_code == status, error
        body = error.body
        assert set(body) == {"message", "type", "param", "code"}, body
        assert body["message"] and body["type"], body
        assert code is None or error.code == code, body
        assert param is None or error.param == param, body
        return error
    raise AssertionError(f"no {kind.__name__}")


def chat(**parameters):
    parameters = {"model": MODEL, "messages": ASKED, "max_tokens": 2} | parameters
    return lambda: client.chat.completions.create(**parameters)


for wrong, code, param in [
    ({"messages": []}, "invalid_value", "messages"),
    ({"messages": "hello"}, "wrong_type", "messages"),
    ({"messages": [{"role": "user"}]}, "missing_field", "messages[0].content"),
    ({"messages": [{"content": "x"}]}, "missing_field", "messages[0].role"),
    ({"temperature": 3}, "out_of_range", "temperature"),
    ({"temperature": "hot"}, "wrong_type", "temperature"),
    ({"max_tokens": 2**63}, "out_of_range", "max_tokens"),
    ({"max_tokens": 0}, "out_of_range", "max_tokens"),
    ({"n": 10**6}, "out_of_range", "n"),
    ({"top_logprobs": 3, "logprobs": False}, "invalid_value", "top_logprobs"),
    ({"stop": [""]}, "invalid_value", "stop"),
    ({"stream": "yes"}, "wrong_type", "stream"),
    ({"stream_options": "all"}, "wrong_type", "stream_options"),
    ({"model": 7}, "wrong_type", "model"),
    ({"extra_body": {"colour": "red"}}, "unknown_parameter", "colour"),
    ({"logit_bias": {"5": 1}}, "unsupported", "logit_bias"),
]:
    refused(openai.BadRequestError, 400, chat(**wrong), code, param)

post = lambda path, **options: lambda: client.post(path, cast_to=object, **options)
json = {"headers": {"Content-Type": "application/json"}}
refused(openai.BadRequestError, 400, post("/chat/completions", content=b"{", options=json), "invalid_json")
refused(openai.BadRequestError, 400, post("/chat/completions", content=b"\xff", options=json), "invalid_json")
refused(openai.BadRequestError, 400, post("/chat/completions", content=b"[]", options=json), "invalid_json")
deep = b'{"messages":' + b"[" * 100_000
refused(openai.BadRequestError, 400, post("/chat/completions", content=deep, options=json), "invalid_json")
wide = b'{"messages":[' + b"[]," * 300_000 + b"[]]}"
refused(openai.BadRequestError, 400, post("/chat/completions", content=wide, options=json), "invalid_json")
large = b'{"messages":"' + b"x" * (17 << 20) + b'"}'
refused(openai.APIStatusError, 413, post("/chat/completions", content=large, options=json), "too_large")

refused(openai.BadRequestError, 400, lambda: client.completions.create(model=MODEL, prompt=5), "wrong_type", "prompt")
refused(openai.NotFoundError, 404, lambda: client.embeddings.create(model=MODEL, input="x"), "unsupported_endpoint")
refused(openai.NotFoundError, 404, lambda: client.get("/nothing", cast_to=object), "not_found")
refused(openai.APIStatusError, 405, lambda: client.delete("/models", cast_to=object), "method_not_allowed")
refused(openai.AuthenticationError, 401, OpenAI(api_key="wrong", max_retries=0).models.list, "invalid_token")
refused(openai.NotFoundError, 404, lambda: client.batches.retrieve("batch_nothing"), "not_found")
refused(openai.NotFoundError, 404, lambda: client.files.retrieve("file_nothing"), "not_found")
refused(openai.NotFoundError, 404, lambda: client.files.content("file_nothing"), "not_found")
refused(openai.NotFoundError, 404, lambda: client.files.delete("file_nothing"), "not_found")
refused(openai.BadRequestError, 400, lambda: client.batches.list(limit="many"))

batch = {"input_file_id": "file_nothing", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
create = lambda **changes: lambda: client.batches.create(**(batch | changes))
refused(openai.NotFoundError, 404, create(), "not_found", "input_file_id")
file = client.files.create(file=("in.jsonl", b"{}\n"), purpose="batch")
batch["input_file_id"] = file.id
refused(openai.BadRequestError, 400, create(endpoint="/v1/images"), "invalid_value", "endpoint")
refused(openai.BadRequestError, 400, create(completion_window="soon"), "invalid_value", "completion_window")
refused(openai.BadRequestError, 400, create(metadata={"a": "x" * 513}), "invalid_value", "metadata")
refused(openai.BadRequestError, 400, create(metadata={str(n): "x" for n in range(17)}), "invalid_value", "metadata")
refused(
    openai.BadRequestError,
    400,
    lambda: client.files.create(file=b"x", purpose="fine-tune"),
    "invalid_value",
    "purpose",
)
refused(openai.BadRequestError, 400, post("/files", files={"purpose": (None, b"batch")}), None)
