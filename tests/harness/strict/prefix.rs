//! What a provider's prompt cache hits: the beginning of a conversation, as long as its bytes stay
//! the same.

use serde_json::Value;

use super::role;

/// The placeholder for omitted messages. A conversation that was shortened starts a new prefix.
const DROPPED: &str = "dropped to save room";

/// Checks that a request keeps the bytes of an earlier request of the same conversation, up to that
/// one's last assistant or tool message. Exempt are a conversation that was shortened, and one
/// whose last turn was abandoned and is not in it any more; but what remains of it must be at its
/// place as before, and the system message never changes.
///
/// # Errors
/// The difference.
pub fn kept(earlier: &[Value], later: &[Value]) -> Result<(), String> {
    let is_news = |line: &&Value| line.to_string().contains(DROPPED) && !earlier.contains(line);
    if earlier.is_empty() || later.iter().any(|line| is_news(&line)) {
        return Ok(());
    }
    let system = |lines: &[Value]| lines.first().filter(|line| role(line) == "system").cloned();
    let (before, now) = (system(earlier), system(later));
    if before != now {
        return Err(format!("the system message was {before:?} and is {now:?}"));
    }
    let is_reply = |line: &&Value| ["assistant", "tool"].contains(&role(line));
    let reply = earlier.iter().rposition(|line| is_reply(&line));
    let stable = &earlier[..reply.map_or(0, |at| at + 1)];
    let differs = |at: &usize| later.get(*at) != stable.get(*at);
    let Some(at) = (0..stable.len()).find(differs) else {
        return Ok(());
    };
    let Some(now) = later.get(at) else {
        // The rest of it is missing as a whole.
        return Ok(());
    };
    // Turns begin with a user message: an abandoned turn is replaced by another one.
    let given_up = role(now) == "user" && role(&stable[at]) == "user";
    let rest = &later[at + 1..];
    let remains = stable[at + 1..]
        .iter()
        .any(|line| is_reply(&line) && rest.contains(line));
    if given_up && !remains {
        return Ok(());
    }
    Err(format!("message {at} was {} and is {now}", stable[at]))
}
