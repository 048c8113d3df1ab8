//! The component. How it writes and reads its state is a *variant*, which a test chooses by overwriting a
//! name within the component's bytes: so tests have versions of one plugin without building it again.
//!
//! | variant | its snapshots, and what it reads |
//! |---|---|
//! | `plain` | as the type is |
//! | `added` | the same; only the component's bytes differ |
//! | `retyped` | another encoding: reads only its own |
//! | `schema2` | of schema 2: reads 1 and 2 |
//! | `renamed` | a field has another name, and is its default where it is missing: it loses the state of others |
//! | `forgets` | the same, with another name of the field than the one that it was read by |
//! | `bad-turns` | as `plain`, but each turn traps |
//! | `other-turns` | as `plain`, but no turn does what it is told |
//! | `brittle` | as `plain`, but a turn whose script is called so traps once it has done what it is told |
//! | `hasty` | the same, but it asks the model something else before |
//! | `endless`, `hungry`, `refuses` | as `brittle`, but the turn does not end, takes more memory than there is, or returns an error |
//! | `flaky` | as `plain`, but two of three turns trap: before the first call of a tool, or at the end |
//! | `shut` | as `plain`, but no session can be created on it |
//! | `trap` | as `plain`, but `restore` traps |
//! | `loop` | as `plain`, but `restore` does not end |
//! | `greedy` | as `plain`, but `restore` takes more memory than there is |

use std::cell::Cell;
use std::hint::black_box;

use abide_plugin::bindings::exports::abide::session::guest::Guest;
use abide_plugin::llm::{ChatMessage, ChatRequest};
use abide_plugin::{Context, Instance, Message, RestoreError, State, bindings, llm};

use crate::Scripted;

/// What is overwritten: the name has 16 bytes, filled up with blanks.
static VARIANT: [u8; 24] = *b"variant:plain           ";
/// The name of a field, and the one that it has in `renamed`.
const FIELD: &[u8; 5] = b"turns";
const RENAMED: &[u8; 5] = b"count";
/// A state in which that field is its default.
const EMPTY: &[u8] = b"\x81\xa5turns\0";
/// What snapshots of `retyped` begin with.
const RETYPED: u8 = 0xc1;
/// The script whose turn fails in some variants.
const BRITTLE: &str = r#""id":"brittle""#;

thread_local! {
    /// Whether the state was read by the other name of its field.
    static IS_RENAMED: Cell<bool> = const { Cell::new(false) };
    static INSTANCE: Instance<Scripted> = const { Instance::new() };
}

/// Returns the variant's name.
fn variant() -> String {
    // Not folded into the code: the bytes are overwritten after it was compiled.
    let name = &black_box(&VARIANT)["variant:".len()..];
    String::from_utf8_lossy(name).trim_end().to_owned()
}

/// Replaces the first occurrence of a field's name. Returns whether there was one.
fn replace(data: &mut [u8], from: &[u8; 5], to: &[u8; 5]) -> bool {
    let at = data.windows(from.len()).position(|window| window == from);
    if let Some(at) = at {
        data[at..at + to.len()].copy_from_slice(to);
    }
    at.is_some()
}

struct Component;

impl Guest for Component {
    fn open(context: Context) -> Result<(), String> {
        if variant() == "shut" {
            return Err("it is shut".to_owned());
        }
        INSTANCE.with(|instance| instance.open(&context))
    }

    fn turn(input: Vec<Message>) -> Result<(), String> {
        match &*variant() {
            "bad-turns" => core::arch::wasm32::unreachable(),
            "other-turns" => return Ok(()),
            _ => {}
        }
        let text = input.last().map_or("", |message| &message.text);
        if variant() == "flaky" && text.bytes().map(u32::from).sum::<u32>() % 3 != 0 {
            let calls = [r#""act":"call"#, r#""act":"http"#];
            if !calls.iter().any(|call| text.contains(call)) {
                let _ = INSTANCE.with(|instance| instance.turn(&input));
            }
            core::arch::wasm32::unreachable();
        }
        if !text.contains(BRITTLE) {
            return INSTANCE.with(|instance| instance.turn(&input));
        }
        if variant() == "hasty" {
            let _ = llm::chat(&ChatRequest::new(vec![ChatMessage::user("something else")]));
        }
        let done = INSTANCE.with(|instance| instance.turn(&input));
        match &*variant() {
            "brittle" | "hasty" => core::arch::wasm32::unreachable(),
            "endless" => loop {
                black_box(());
            },
            "hungry" => {
                drop(black_box(vec![1_u8; 1 << 30]));
                done
            }
            "refuses" => Err("it refuses".to_owned()),
            _ => done,
        }
    }

    fn snapshot() -> State {
        let mut state = INSTANCE.with(Instance::snapshot);
        match &*variant() {
            "retyped" => state.data.insert(0, RETYPED),
            "schema2" => state.schema = 2,
            "renamed" => drop(replace(&mut state.data, FIELD, RENAMED)),
            "forgets" if !IS_RENAMED.get() => drop(replace(&mut state.data, FIELD, RENAMED)),
            _ => {}
        }
        state
    }

    fn restore(_context: Context, mut snapshot: State) -> Result<(), RestoreError> {
        match &*variant() {
            "retyped" => {
                if snapshot.data.first() != Some(&RETYPED) {
                    let reason = "invalid type: integer, expected a string".to_owned();
                    return Err(RestoreError::Invalid(reason));
                }
                snapshot.data.remove(0);
            }
            "schema2" => snapshot.schema = snapshot.schema.min(1),
            "renamed" if !replace(&mut snapshot.data, RENAMED, FIELD) => {
                snapshot.data = EMPTY.to_vec();
            }
            "forgets" => IS_RENAMED.set(replace(&mut snapshot.data, RENAMED, FIELD)),
            "trap" => core::arch::wasm32::unreachable(),
            "loop" => loop {
                black_box(());
            },
            "greedy" => drop(black_box(vec![1_u8; 1 << 30])),
            _ => {}
        }
        INSTANCE.with(|instance| instance.restore(&snapshot))
    }
}

bindings::export!(Component with_types_in bindings);
