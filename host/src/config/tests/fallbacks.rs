//! Tests of the fallbacks of model providers.

use super::bad_input::refused;
use super::with_echo;

fn providers(fallbacks: &[(&str, &str)]) -> String {
    let sections = fallbacks.iter().map(|(name, fallback)| {
        format!("[llm.{name}]\nbase_url = \"http://x\"\nmodel = \"m\"\nfallback = \"{fallback}\"\n")
    });
    with_echo(&sections.collect::<String>())
}

#[test]
fn a_fallback_is_another_provider_that_is_there() {
    refused(
        &providers(&[("a", "local"), ("locla", "a")]),
        &[
            "llm.a.fallback: there is no model provider `local`",
            "did you mean `locla`?",
        ],
    );
    refused(
        &providers(&[("a", "a")]),
        &["llm.a.fallback: it goes in a circle: a -> a"],
    );
    // `c` is not part of the cycle.
    refused(
        &providers(&[("b", "a"), ("c", "b"), ("a", "b")]),
        &["llm.a.fallback: it goes in a circle: a -> b -> a"],
    );
}
