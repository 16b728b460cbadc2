"""How does a language model behind a chat endpoint rewrite responses, one answer at a time and each kept?

Any server with the OpenAI interface serves: Ollama, vLLM, llama.cpp, or a hosted one. Each answer is appended to a
jsonl file as it arrives, under a digest of everything that shapes it, so that an interrupted job goes on where it
stopped, and a changed prompt, model or seed asks anew. Failures are counted by reason; only a server that is not there,
or does not let one in, ends the job.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ReadTimeoutError

from datamodules.errors import InputError, Rejected
from datamodules.files import digest_of, drop_torn_line, require_output
from datamodules.json_rows import iter_json_lines
from datamodules.rewrites import Key, Rewrite, Rewrites, count_losses, why_unusable
from datamodules.web import LOOPBACK, PASSING, Address, Patience, TryAgain, Web, WebError, persistently, retry_after

PROMPT_VERSION = 1
SYSTEM_PROMPT = """\
You reword messages that an AI assistant wrote. You get one message between <message> and </message>. Write it again \
in other words.

- Keep the meaning, every fact, name, number, link, quotation and piece of code, and the order of ideas.
- Keep the attitude: a refusal stays a refusal, advice stays the same advice, however good or bad it is. Do not judge, \
correct, soften, continue or answer the message.
- Keep the language, the approximate length, the tone and the layout (paragraphs, lists).
- Write the reworded message only: no introduction, no comment, no tags, no "Human:" or "Assistant:"."""
USER_PROMPT = "<message>\n{text}\n</message>"
PROMPT_DIGEST = digest_of([PROMPT_VERSION, SYSTEM_PROMPT, USER_PROMPT])

# A server that fails this often in a row is down, not unlucky.
MOST_FAILURES_IN_A_ROW = 10
# Redirects, keys that are not let in, and addresses or models that are not there: no other text changes that.
NEVER = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405})
PATIENCE = Patience(attempts=4, stall=120.0)
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_TAGS = re.compile(r"\A\s*<message>(.*?)(?:</message>\s*)?\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ChatEndpoint:
    """A model behind an OpenAI-compatible chat endpoint.

    Attributes:
        url: Base URL; `/v1/chat/completions` is appended, after a `/v1` that it may end with.
        model: Name of the model, as the server knows it.
        key_variable: Environment variable that holds the API key; empty where the server wants none.
        seed: Sent with every request; temperature is 0. Few servers promise the same answer for the same seed.
        max_tokens: Longest answer; a longer one is left out as `cut-off`.
        patience: How often to try and how long to wait; `stall` is the time to wait for one answer.
    """

    url: str
    model: str
    key_variable: str = ""
    seed: int = 0
    max_tokens: int = 2048
    patience: Patience = PATIENCE

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"endpoint {self.url!r}", "a URL such as http://localhost:11434", "the url setting")
        if not self.model:
            raise InputError("no model", "the name of a model that the endpoint serves", "the model setting")

    @property
    def address(self) -> str:
        """URL that requests go to."""
        return f"{self.url.rstrip('/').removesuffix('/v1')}/v1/chat/completions"

    def cache_key(self, text: str) -> str:
        """Return the digest of everything that shapes the answer for a text; the server's place does not."""
        return digest_of([PROMPT_DIGEST, self.model, self.seed, self.max_tokens, text])


def rewrite_by_endpoint(
    responses: dict[Key, str],
    endpoint: ChatEndpoint,
    cache: Path,
    *,
    say: Callable[[str], None] = lambda line: None,
    on_done: Callable[[int], None] = lambda n: None,
) -> Rewrites:
    """Have a model rewrite responses; equal responses are asked for once.

    Args:
        responses: From `rewrites.responses_of`.
        endpoint: The model.
        cache: Jsonl file of answers; is read, and appended to.
        say: Told what is waited for.
        on_done: Called with the number of responses done, for a progress bar.

    Raises:
        InputError: The key's variable is not set, or a key would be sent unencrypted; the first request finds no
            server, or ten requests in a row fail; the server refuses the key, the address or the model; or the cache is
            no jsonl file. What was answered until then is in the cache.
    """
    key = _api_key(endpoint)
    require_output(cache, "the cache setting")
    answers = _read_cache(cache)
    kept: list[Rewrite] = []
    left_out, not_returned = Counter[str](), Counter[str]()
    variant = f"{endpoint.model}-s{endpoint.seed}"
    source = f"{endpoint.model}, prompt {PROMPT_VERSION} ({PROMPT_DIGEST[:8]}), seed {endpoint.seed}"
    n_in_a_row = 0
    with cache.open("a", encoding="utf-8") as file, requests.Session() as session:
        web = Web(session, endpoint.patience, say)
        for (pair_id, side), original in responses.items():
            cache_key = endpoint.cache_key(original)
            try:
                if cache_key not in answers:
                    answers[cache_key] = _ask(original, endpoint, key, web)
                    file.write(json.dumps({"key": cache_key, "text": answers[cache_key]}) + "\n")
                    file.flush()
                    n_in_a_row = 0
                text = _bare(answers[cache_key])
                if reason := why_unusable(text, original):
                    left_out[reason] += 1
                else:
                    kept.append(Rewrite(pair_id, side, variant, text, source))
            except Rejected as garbage:
                left_out[garbage.reason] += 1
                n_in_a_row = 0
            except WebError as error:
                reason = _why_not(error)
                not_returned[reason] += 1
                n_in_a_row += 1
                _stop_if_down(error, reason, n_in_a_row, endpoint, is_first=n_in_a_row == 1 and not answers)
            on_done(1)
    attrition = count_losses(responses, kept, not_returned=not_returned, left_out=left_out)
    return Rewrites(tuple(kept), attrition)


def _api_key(endpoint: ChatEndpoint) -> str:
    if not endpoint.key_variable:
        return ""
    key = os.environ.get(endpoint.key_variable, "").strip()
    if not key:
        found = f"no API key in the environment variable {endpoint.key_variable}"
        raise InputError(
            found, f"the key of {endpoint.url}", f"set {endpoint.key_variable}, or the key_variable setting"
        )
    parts = urlsplit(endpoint.url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        found = f"an API key for {endpoint.url}, where anybody on the way can read it"
        raise InputError(found, "an https address", "the url setting, or leave the key_variable setting empty")
    return key


def _read_cache(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    drop_torn_line(path)
    fix = f"remove {path}, or name another cache"
    answers = {}
    for number, row in enumerate(iter_json_lines(path, fix), start=1):
        if not (isinstance(row.get("key"), str) and isinstance(row.get("text"), str)):
            raise InputError(f"row {number} of {path}, which is no kept answer", "the fields key and text", fix)
        answers[row["key"]] = row["text"]
    return answers


def _ask(text: str, endpoint: ChatEndpoint, key: str, web: Web) -> str:
    """Return the model's answer as it came.

    Raises:
        WebError: No answer after all tries, or one that no further try would change.
        Rejected: An answer that is none: `not-json`, `no-choices`, `cut-off`.
    """
    message = {
        "model": endpoint.model,
        "messages": [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": USER_PROMPT.format(text=text)},
        ],
        "temperature": 0,
        "seed": endpoint.seed,
        "max_tokens": endpoint.max_tokens,
        "stream": False,
    }
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    address = Address(endpoint.address, mirror_variable="", token_variable=endpoint.key_variable)
    response = persistently(lambda: _post(endpoint, message, headers, web), address, web)
    return _content(response)


def _post(endpoint: ChatEndpoint, message: dict[str, Any], headers: dict[str, str], web: Web) -> requests.Response:
    patience = web.patience
    try:
        response = web.session.post(
            endpoint.address,
            json=message,
            headers=headers,
            # A redirect would carry the key elsewhere.
            allow_redirects=False,
            timeout=(patience.connect, patience.stall),
            # Keeps requests from looking up credentials in .netrc.
            auth=lambda request: request,
        )
    except requests.exceptions.Timeout as error:
        is_unreachable = isinstance(error, requests.exceptions.ConnectTimeout)
        raise TryAgain("unreachable" if is_unreachable else "timeout", is_unreachable=is_unreachable) from error
    except requests.exceptions.ConnectionError as error:
        # So requests names a body that stalls.
        if error.args and isinstance(error.args[0], ReadTimeoutError):
            raise TryAgain("timeout") from error
        raise TryAgain("unreachable", is_unreachable=True) from error
    except requests.exceptions.RequestException as error:
        raise TryAgain("broken-off") from error
    if response.status_code in PASSING:
        raise TryAgain(f"http-{response.status_code}", retry_after(response), status=response.status_code)
    if response.status_code != 200:
        raise _refused(response, endpoint)
    return response


class _Refused(WebError):
    """The server says no, and would say so again."""

    def __init__(self, found: str, needed: str, fix: str, status: int) -> None:
        super().__init__(found, needed, fix)
        self.status = status


def _refused(response: requests.Response, endpoint: ChatEndpoint) -> _Refused:
    status = response.status_code
    found = f"HTTP {status} from {endpoint.address}: {' '.join(response.text[:200].split())}"
    if status in (401, 403):
        return _Refused(found, "leave to ask", f"the key_variable setting (now {endpoint.key_variable!r})", status)
    if status in (404, 405) or response.is_redirect:
        return _Refused(found, f"a chat endpoint that serves {endpoint.model!r}", "the url or model setting", status)
    return _Refused(found, "an answer", "the settings of the endpoint", status)


def _content(response: requests.Response) -> str:
    try:
        answer = response.json()
    except ValueError as error:
        raise Rejected("not-json") from error
    try:
        choice = answer["choices"][0]
        content = choice["message"]["content"]
    except (TypeError, KeyError, IndexError) as error:
        raise Rejected("no-choices") from error
    if choice.get("finish_reason") == "length":
        raise Rejected("cut-off")
    if content is None:
        return ""
    if not isinstance(content, str):
        raise Rejected("no-choices")
    return content


def _bare(answer: str) -> str:
    """Return an answer without a reasoning model's thoughts before it and without the tags of the prompt."""
    answer = _THOUGHTS.sub("", answer)
    tagged = _TAGS.match(answer)
    return (tagged[1] if tagged else answer).strip()


def _why_not(error: WebError) -> str:
    if isinstance(error, _Refused):
        return f"http-{error.status}"
    return error.__cause__.reason if isinstance(error.__cause__, TryAgain) else "unreachable"


def _stop_if_down(error: WebError, reason: str, n_in_a_row: int, endpoint: ChatEndpoint, *, is_first: bool) -> None:
    is_down = n_in_a_row >= MOST_FAILURES_IN_A_ROW
    if isinstance(error, _Refused) and (is_down or error.status in NEVER):
        raise error
    if is_down or (reason == "unreachable" and is_first):
        raise InputError(
            f"no answer from {endpoint.address} to {n_in_a_row} requests in a row ({reason})",
            "a chat endpoint that answers (HTTPS_PROXY, HTTP_PROXY and NO_PROXY are honoured)",
            "start the server, or the url setting; what was answered is kept and not asked again",
        ) from error
