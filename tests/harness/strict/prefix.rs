//! What a provider's prompt cache hits: the beginning of a conversation, as long as its bytes stay.

use serde_json::Value;

use super::role;

/// What stands where something was left out. A conversation that was shortened begins anew.
const DROPPED: &str = "dropped to save room";

/// Whether a request keeps the bytes of what an earlier one of the same conversation sent, up to
/// that one's last assistant or tool message. One that was shortened need not, nor one whose last
/// turn was given up and is not in it any more; but what still stands in it must stand there as
/// before, and the system message never changes.
///
/// # Errors
/// What is not as it was.
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
        // The rest of it is gone as a whole.
        return Ok(());
    };
    // Turns begin with the user's message: one that was given up leaves another in its place.
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
