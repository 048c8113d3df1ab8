//! The code that wit-bindgen generates from the contract. Not for plugin authors: it is public only
//! because [`export!`](crate::export!) needs it; the rest of the crate re-exports its types.

wit_bindgen::generate!({
    path: "../wit/v0.1.0",
    world: "plugin",
    pub_export_macro: true,
    additional_derives: [Clone, PartialEq, ::serde::Serialize, ::serde::Deserialize],
    // Errors are our own types of the same shape, whose `Display` is a sentence instead of debug
    // output.
    with: {
        "abide:session/types@0.1.0/step-error": crate::StepError,
        "abide:session/types@0.1.0/restore-error": crate::RestoreError,
        "abide:session/output@0.1.0/output-error": crate::OutputError,
        "abide:session/timer@0.1.0/timer-error": crate::TimerError,
    },
    // Transcripts are stored in snapshots: omit empty fields to save space.
    additional_member_attributes: {
        "abide:session/llm@0.1.0/chat-message.tool-calls":
            [#[serde(default, skip_serializing_if = "Vec::is_empty")]],
        "abide:session/llm@0.1.0/chat-message.tool-call-id":
            [#[serde(default, skip_serializing_if = "Option::is_none")]],
    },
});
