"""What Schemathesis has to know of this API beyond its document.

- What would harm the machine or last too long is changed before it is sent.
- After a drain it waits until the daemon has been started again.
- A valid request that is refused for a reason that JSON Schema cannot express is no finding.
- Requests are counted by phase and status, for the program that has started this.
"""

import atexit
import collections
import hashlib
import json
import os
import re
import socket
import time

import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData

PORT = int(os.environ["ABIDE_API_FUZZ_PORT"])
BACKUPS = os.environ["ABIDE_API_FUZZ_BACKUPS"]
COUNTS = os.environ["ABIDE_API_FUZZ_COUNTS"]
# How long a daemon may take to stop, or to start, in seconds.
PATIENCE = 60
LONG_WAIT = re.compile(r"[0-9]+(s|m|h)")
# Problems that a request of the right form never has.
OF_FORM = {"bad-request", "bad-session-id", "malformed-json", "unsupported-media-type", "invalid"}
# A text is refused by its length in bytes, of a token one that has expired, and the thousandth.
BEYOND_SCHEMAS = re.compile(
    r"session id of \d+ bytes|label `.*` is too long|pattern has 1 to|would be of no use"
    r"|tokens already|name of a caller|1 to 256 visible",
    re.DOTALL,
)
# Operations some of whose rules join several fields: the last message must be the user's, a scope goes
# without a message.
JOINED = {"create_chat_completion", "cancel_turns"}

counts = collections.Counter()


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    folder = body.get("folder") if isinstance(body, dict) else None
    # The daemon would take its backup anywhere.
    if isinstance(folder, str) and folder.startswith("/"):
        digest = hashlib.sha256(folder.encode("utf-8", "surrogatepass")).hexdigest()
        body["folder"] = f"{BACKUPS}/{digest}"
    query = case.query or {}
    if isinstance(query.get("wait"), str) and LONG_WAIT.search(query["wait"]):
        query["wait"] = "1s"


@schemathesis.hook
def after_call(context, case, response):
    phase = case.meta.phase.name.value if case.meta else "other"
    counts[f"{phase} {response.status_code}"] += 1
    operation = case.operation.definition.raw.get("operationId")
    if operation == "drain_daemon" and response.status_code == 202:
        until(lambda: not is_listening())
        until(is_listening)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    if not isinstance(failure, RejectedPositiveData) or response.status_code not in (400, 422):
        return True
    if case.operation.definition.raw.get("operationId") in JOINED and response.status_code == 400:
        return False
    problem = json.loads(response.content)
    name = problem.get("type", "").removeprefix("urn:abide:problem:")
    if "error" in problem:
        name = problem["error"]["code"]
    return name in OF_FORM and not BEYOND_SCHEMAS.search(problem.get("detail", ""))


def is_listening():
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the daemon has neither stopped nor started again")
        time.sleep(0.002)


@atexit.register
def write_counts():
    with open(COUNTS, "w", encoding="utf-8") as file:
        json.dump(counts, file)
