//! Tests that, whatever is dropped from a transcript, the rest is accepted by providers and does
//! not mislead the model.

use abide_plugin::llm::{ChatMessage, ChatRole};
use proptest::prelude::*;

use crate::agent_tests::{call, lines};
use crate::results::UNKNOWN;
use crate::transcript::Transcript;

/// A note about an answer.
const NOTE: &str = "it was cut";

/// An operation on a transcript.
#[derive(Clone, Debug)]
enum Act {
    Begin(usize),
    /// A round of tools: for each call the size of its arguments and of its result, in bytes, and
    /// whether its outcome is unknown.
    Round(Vec<(usize, usize, bool)>),
    Hear(usize),
    End(usize, bool),
    MakeRoom(usize),
    CutResults(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let call = (0..400_usize, 0..3000_usize, prop::bool::weighted(0.2));
    let act = prop_oneof![
        3 => (0..800_usize).prop_map(Act::Begin),
        4 => prop::collection::vec(call, 1..4).prop_map(Act::Round),
        1 => (0..300_usize).prop_map(Act::Hear),
        3 => (0..800_usize, any::<bool>()).prop_map(|(size, note)| Act::End(size, note)),
        2 => (0..6000_usize).prop_map(Act::MakeRoom),
        1 => (0..6000_usize).prop_map(Act::CutResults),
    ];
    prop::collection::vec(act, 1..40)
}

/// Returns a unique text of that many bytes.
fn text(number: &mut usize, bytes: usize) -> String {
    *number += 1;
    format!("{number:6}{}", "x".repeat(bytes))
}

fn all(transcript: &Transcript) -> Vec<ChatMessage> {
    transcript.messages().cloned().collect()
}

/// Returns the messages at the end that the model has not answered yet, without the note about a
/// finished exchange.
fn unanswered(messages: &[ChatMessage]) -> &[ChatMessage] {
    let last = messages
        .iter()
        .rposition(|one| one.role == ChatRole::Assistant);
    match last {
        Some(last) if messages[last].tool_calls.is_empty() => {
            let rest = &messages[last + 1..];
            rest.strip_prefix(&[ChatMessage::user(NOTE)])
                .unwrap_or(rest)
        }
        Some(last) => &messages[last..],
        None => messages,
    }
}

/// Returns the ids of the calls whose outcome is unknown.
fn unknown(messages: &[ChatMessage]) -> Vec<&str> {
    let unknown = messages
        .iter()
        .filter(|one| one.content.starts_with(UNKNOWN));
    unknown
        .filter_map(|one| one.tool_call_id.as_deref())
        .collect()
}

/// Returns how many exchanges were dropped according to the note.
fn noted(transcript: &Transcript) -> usize {
    let note = transcript.note().map(|note| note.content);
    let words = note
        .as_deref()
        .map_or("0", |note| note.trim_start_matches('['));
    let count = words.split(' ').next().expect("there is a first word");
    count.parse().expect("it is a number")
}

proptest! {
    #[test]
    fn what_is_left_is_whole(acts in acts(), budget in 500_usize..6000) {
        let mut transcript = Transcript::default();
        let (mut number, mut exchanges, mut begun) = (0, 0, false);
        for act in acts {
            let before = all(&transcript);
            let open = unanswered(&before);
            match act {
                Act::Begin(bytes) if !begun => {
                    let input = vec![ChatMessage::user(text(&mut number, bytes))];
                    let fits = bytes + 6 + 64 <= budget;
                    begun = transcript.begin(input.clone(), budget).is_ok();
                    prop_assert_eq!(begun, fits);
                    exchanges += usize::from(begun);
                    if begun {
                        prop_assert!(all(&transcript).ends_with(&input));
                        prop_assert!(transcript.size() <= budget);
                    }
                }
                Act::Round(asked) if begun => {
                    let calls: Vec<_> = asked.iter().map(|(arguments, _, _)| {
                        let arguments = format!(r#"{{"a":"{}"}}"#, "y".repeat(*arguments));
                        call(&text(&mut number, 0), "t", &arguments)
                    }).collect();
                    transcript.push(ChatMessage {
                        tool_calls: calls.clone(),
                        ..ChatMessage::new(ChatRole::Assistant, "")
                    });
                    for (call, (_, bytes, unknown)) in calls.iter().zip(asked) {
                        let result = match unknown {
                            true => format!("{UNKNOWN}{}", text(&mut number, bytes)),
                            false => text(&mut number, bytes),
                        };
                        transcript.push(ChatMessage::tool(&call.id, result));
                    }
                }
                Act::Hear(bytes) if begun => {
                    transcript.push(ChatMessage::user(text(&mut number, bytes)));
                }
                Act::End(bytes, note) if begun => {
                    begun = false;
                    let answer = ChatMessage::new(ChatRole::Assistant, text(&mut number, bytes));
                    let note = note.then(|| ChatMessage::user(NOTE));
                    let reply: Vec<_> = [answer].into_iter().chain(note).collect();
                    transcript.end(reply.clone(), budget);
                    prop_assert!(transcript.size() <= budget);
                    let left = all(&transcript);
                    prop_assert!(left.is_empty() || left.ends_with(&reply));
                }
                Act::MakeRoom(budget) => {
                    let enough = transcript.make_room(budget);
                    prop_assert_eq!(enough, transcript.size() <= budget);
                    prop_assert!(all(&transcript).ends_with(open));
                }
                Act::CutResults(budget) => {
                    transcript.cut_results(budget);
                    let left = all(&transcript);
                    prop_assert_eq!(left.len(), before.len());
                    let seen = before.len() - open.len();
                    prop_assert_eq!(&left[..seen], &before[..seen]);
                    for (left, before) in left.iter().zip(&before) {
                        let cut = left.content.contains("\n[cut: ");
                        prop_assert!(left == before || before.role == ChatRole::Tool && cut);
                        prop_assert!(left.content.len() <= before.content.len());
                    }
                }
                _ => continue,
            }
            let left = all(&transcript);
            lines(&left);
            // No unknown outcome among the kept messages has become a known one.
            for id in unknown(&before) {
                let kept = left.iter().find(|one| one.tool_call_id.as_deref() == Some(id));
                prop_assert!(kept.is_none_or(|one| one.content.starts_with(UNKNOWN)));
            }
            // Each exchange is either kept or counted as dropped.
            let kept = left.iter().filter(|one| one.role != ChatRole::Assistant);
            let kept = kept.count();
            prop_assert!(noted(&transcript) <= exchanges);
            prop_assert!(noted(&transcript) < exchanges || kept == 0);
        }
    }
}

/// A server that caches a conversation's prefix can reuse it.
#[test]
fn a_conversation_that_is_full_does_not_begin_otherwise_in_every_turn() {
    let mut transcript = Transcript::default();
    let mut number = 0;
    let mut begins = Vec::new();
    for _ in 0..200 {
        let input = vec![ChatMessage::user(text(&mut number, 100))];
        transcript.begin(input, 10_000).expect("it is short");
        let reply = ChatMessage::new(ChatRole::Assistant, text(&mut number, 100));
        transcript.end(vec![reply], 10_000);
        begins.push(all(&transcript)[0].content.clone());
        begins.dedup();
    }
    assert!(begins.len() < 60, "{}", begins.len());
    assert!(transcript.size() > 8500, "{}", transcript.size());
}
