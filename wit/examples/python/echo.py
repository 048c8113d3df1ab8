"""The echo plugin in Python: answers every message of its input with `#<turn> <role>: <text>`."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import output
from wit_world.imports.types import (
    Context,
    Message,
    RestoreError_Invalid,
    RestoreError_NewerSchema,
    State,
)

SCHEMA = 1

# The host makes a fresh instance for every turn; this is filled by `restore`.
state = {"turns": 0}


class Guest(exports.Guest):
    def open(self, context: Context) -> None:
        pass

    def turn(self, input: list[Message]) -> None:
        state["turns"] += 1
        for message in input:
            output.text(f"#{state['turns']} {message.role.name.lower()}: {message.text}")

    def snapshot(self) -> State:
        # Sorted keys: the same state must give the same bytes.
        return State(SCHEMA, json.dumps(state, sort_keys=True).encode())

    def restore(self, context: Context, snapshot: State) -> None:
        if snapshot.schema > SCHEMA:
            raise Err(RestoreError_NewerSchema(snapshot.schema))
        try:
            state.update(json.loads(snapshot.data))
        except ValueError as error:
            raise Err(RestoreError_Invalid(str(error)))
