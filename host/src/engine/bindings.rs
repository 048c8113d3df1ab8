//! Bindings that are generated from the contract. Steps may wait and may end the turn, so they are
//! async and may trap; all other imports return immediately.
#![allow(missing_docs, unreachable_pub, clippy::all)]

wasmtime::component::bindgen!({
    path: "../wit/v0.1.0",
    world: "plugin",
    imports: {
        "abide:session/llm": async | trappable,
        "abide:session/tools": async | trappable,
        "abide:session/http": async | trappable,
        "abide:session/inbox": async | trappable,
    },
    exports: { default: async },
});
