//! Runs the conversation: a line, its answer, the next line.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::super::approvals::Decision;
use super::super::args::Chat;
use super::super::client::{Client, ClientError};
use super::super::error::CliError;
use super::super::global::Global;
use super::super::out::{Out, Tone};
use super::super::send::new_key;
use super::super::target;
use super::follow::{Items, follow};
use super::input::{Input, Terminal, Typist};
use super::join::{history, join, summary, trouble};
use super::screen::Screen;
use super::view::{ChatItem, ChatView, ShownPiece, aside};
use crate::domain::{
    ApprovalId, ApprovalStatus, EventBody, EventId, MessageId, Role, SessionId, SessionState,
    TurnStatus,
};

/// While nothing arrives, how often to query whether the session can run at all.
const LOOK_AFTER: Duration = Duration::from_secs(5);

const HELP: &str = "\
/status   what the session is doing
/cancel   cut the running turn (^C does the same while you wait)
/quit     leave (^D does the same); the session stays
//text    say a text that begins with a slash";

/// Runs the command. Returns `false` if a turn of a piped line failed.
pub(crate) async fn run(global: &Global, args: Chat) -> Result<bool, CliError> {
    let client = Client::new(target::find(global)?)?;
    let _terminal = Terminal::remember();
    let session = join(
        &client,
        &args.id,
        args.plugin.as_deref(),
        args.args.as_ref(),
    )
    .await?;
    let generation = match client.daemon().await {
        Ok(daemon) => Some(daemon.generation.0),
        // Who may not look at the daemon talks without knowing of its restarts.
        Err(error) if error.status() == Some(403) => None,
        Err(error) => return Err(error.into()),
    };
    let (view, pieces) = history(&client, &session).await?;

    let out = Out::new(global.no_color);
    let terminal = out.is_tty() && std::io::IsTerminal::is_terminal(&std::io::stdin());
    let (typist, beside) = if terminal {
        let (typist, beside) = Typist::at_terminal()?;
        (typist, Some(beside))
    } else {
        (Typist::piped()?, None)
    };
    let from = EventId {
        cursor: view.cursor(),
        timeline: session.timeline,
    };
    let items = follow(client.clone(), args.id.clone(), from, generation);
    let mut talk = ChatSession {
        client,
        id: args.id,
        view,
        screen: Screen::new(out, beside),
        typist,
        items,
        all_well: true,
    };
    if talk.screen.is_interactive() {
        talk.screen.show(&pieces)?;
    }
    talk.go().await?;
    // A user at a terminal has seen what failed; a script checks the exit code.
    Ok(talk.all_well || talk.screen.is_interactive())
}

struct ChatSession {
    client: Client,
    id: SessionId,
    view: ChatView,
    screen: Screen,
    typist: Typist,
    items: Items,
    all_well: bool,
}

/// The meaning of a typed line.
#[derive(Debug, PartialEq, Eq)]
enum LineCommand<'a> {
    Say(&'a str),
    Status,
    Cancel,
    Quit,
    Help,
    Nothing,
    Unknown(&'a str),
}

/// Parses a line: a command begins with one slash.
fn asked(line: &str) -> LineCommand<'_> {
    match line.trim() {
        "" => LineCommand::Nothing,
        "/status" => LineCommand::Status,
        "/cancel" => LineCommand::Cancel,
        "/quit" | "/exit" => LineCommand::Quit,
        "/help" | "/?" => LineCommand::Help,
        text => match text.strip_prefix('/') {
            Some(rest) if rest.starts_with('/') => LineCommand::Say(rest),
            Some(_) => LineCommand::Unknown(text),
            None => LineCommand::Say(line.trim_end()),
        },
    }
}

impl ChatSession {
    async fn go(&mut self) -> Result<(), CliError> {
        loop {
            let line = match self.read().await? {
                Input::Line(line) => line,
                Input::Interrupted => continue,
                Input::End => return Ok(()),
                Input::Failed(reason) => {
                    return Err(CliError::Failed(format!(
                        "cannot read what is typed: {reason}"
                    )));
                }
            };
            // There are no commands in a pipe: every line that is not blank is sent.
            let asked = match asked(&line) {
                LineCommand::Nothing => LineCommand::Nothing,
                _ if !self.screen.is_interactive() => LineCommand::Say(&line),
                asked => asked,
            };
            match asked {
                LineCommand::Nothing => {}
                LineCommand::Quit => return Ok(()),
                LineCommand::Help => self
                    .screen
                    .show(&[ShownPiece::Line(Tone::Dim, HELP.to_owned())])?,
                LineCommand::Unknown(command) => {
                    let text = format!("there is no {command}; /help lists what there is");
                    self.screen.show(&[aside(&text)])?;
                }
                LineCommand::Status => {
                    let pieces = match self.client.session(&self.id).await {
                        Ok(session) => std::iter::once(summary(&session))
                            .chain(trouble(&session))
                            .collect(),
                        Err(error) => vec![complaint(&error)],
                    };
                    self.screen.show(&pieces)?;
                }
                LineCommand::Cancel => self.cancel().await?,
                LineCommand::Say(text) => self.say(text).await?,
            }
        }
    }

    /// Returns the next line. Events that arrive meanwhile are shown above it.
    async fn read(&mut self) -> Result<Input, CliError> {
        self.typist.ask().await;
        loop {
            tokio::select! {
                input = self.typist.next() => return Ok(input),
                item = self.items.recv() => {
                    let item = alive(item)?;
                    let pieces = self.view.apply(&item);
                    if self.concerns(&item, None) {
                        self.screen.show_beside(&pieces)?;
                    }
                }
            }
        }
    }

    /// Returns whether an item is shown: on a terminal every item, in a pipe only the turns of its
    /// own lines.
    fn concerns(&self, item: &ChatItem, turn: Option<u64>) -> bool {
        match item {
            ChatItem::Event(event) if !self.screen.is_interactive() => {
                turn.is_some() && event.turn == turn
            }
            _ => true,
        }
    }

    async fn cancel(&mut self) -> Result<(), CliError> {
        if let Err(error) = self.client.cancel(&self.id).await {
            self.screen.show(&[complaint(&error)])?;
        }
        Ok(())
    }

    /// Sends a message, and shows what arrives until it is answered.
    async fn say(&mut self, text: &str) -> Result<(), CliError> {
        let Some(message) = self.hand_over(text).await? else {
            return Ok(());
        };
        self.view.typed(message.clone());
        let interactive = self.screen.is_interactive();
        self.view.set_live(interactive);
        let done = self.wait_for(&message).await;
        let pieces = self.view.set_live(false);
        self.screen.show(&pieces)?;
        self.screen.rest();
        done
    }

    /// Sends a message until it is accepted. Returns `None` if the daemon refused it and the user
    /// can try another.
    async fn hand_over(&mut self, text: &str) -> Result<Option<MessageId>, CliError> {
        self.screen.wait("sending");
        let key = new_key();
        let mut notified = false;
        let screen = &mut self.screen;
        let sent = self
            .client
            .message(&self.id, text, &key, Duration::ZERO, |_| {
                if !std::mem::replace(&mut notified, true) {
                    screen.wait("sending again, as soon as the daemon answers");
                }
            })
            .await;
        match sent {
            Ok((accepted, _)) => Ok(Some(accepted.message)),
            Err(error @ ClientError::Problem(_))
                if self.screen.is_interactive() && error.status() != Some(410) =>
            {
                self.screen.show(&[complaint(&error)])?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks the user to decide about a tool call. Returns `false` if that is left for later.
    async fn decide(&mut self, id: &ApprovalId) -> Result<bool, CliError> {
        let text = "y makes the call; always makes it, and each one like it in this session; n, or n and a \
                    reason, does not; anything else leaves it for later";
        // A standing approval may have decided it already.
        match self.client.approval(id.as_str()).await {
            Ok(approval) if !approval.waits() => return Ok(true),
            _ => {}
        }
        self.screen.show(&[aside(text)])?;
        self.typist.ask().await;
        let Input::Line(line) = self.typist.next().await else {
            return Ok(false);
        };
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let (approve, always) = match (word, rest) {
            ("y" | "yes", "") => (true, false),
            ("always", "") => (true, true),
            ("n" | "no", _) => (false, false),
            _ => {
                let text = format!("it waits; abide approvals approve {id}, or deny {id}");
                self.screen.show(&[aside(&text)])?;
                return Ok(false);
            }
        };
        let reason = Some(rest.trim()).filter(|reason| !reason.is_empty());
        let decision = Decision {
            approve,
            always,
            reason: reason.map(str::to_owned),
        };
        if let Err(error) = self.client.decide(id.as_str(), &decision).await {
            self.screen.show(&[complaint(&error)])?;
        }
        Ok(true)
    }

    async fn wait_for(&mut self, message: &MessageId) -> Result<(), CliError> {
        let mut waiting = "waiting for the answer (^C cancels)";
        self.screen.wait(waiting);
        let mut look = Instant::now() + LOOK_AFTER;
        let mut turn = None;
        loop {
            tokio::select! {
                item = self.items.recv() => {
                    let item = alive(item)?;
                    waiting = match item {
                        ChatItem::Lost => "waiting for the daemon",
                        _ => "waiting for the answer (^C cancels)",
                    };
                    let status = turn_of(&item, message);
                    if let Some((number, _)) = status {
                        turn = number;
                    }
                    let pieces = self.view.apply(&item);
                    if self.concerns(&item, turn) {
                        self.screen.show(&pieces)?;
                    }
                    match status {
                        Some((_, TurnStatus::Started)) => {}
                        None => {
                            if let Some(approval) = asks(&item)
                                && self.screen.is_interactive()
                                && !self.decide(&approval).await?
                            {
                                return Ok(());
                            }
                        }
                        Some((_, status)) => {
                            self.all_well &= status == TurnStatus::Completed;
                            return Ok(());
                        }
                    }
                    if !is_answer(&item) {
                        self.screen.wait(waiting);
                    }
                    look = Instant::now() + LOOK_AFTER;
                }
                () = sleep_until(look) => {
                    look = Instant::now() + LOOK_AFTER;
                    // Reachability of the daemon is the follower's concern.
                    let Ok(session) = self.client.session(&self.id).await else { continue };
                    if matches!(session.state, SessionState::Faulted | SessionState::Parked) {
                        let pieces: Vec<ShownPiece> = trouble(&session).into_iter().collect();
                        self.screen.show(&pieces)?;
                        self.all_well = false;
                        return Ok(());
                    }
                    // There is no event for a message that was cancelled before it had a turn.
                    if turn.is_none() && session.dead > 0
                        && let Ok(Some(letter)) = self.client.discarded(&self.id, message).await
                    {
                        let text = format!("— {} —", letter.reason.text);
                        self.screen.show(&[ShownPiece::Line(Tone::Bad, text)])?;
                        self.all_well = false;
                        return Ok(());
                    }
                }
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    if !self.screen.is_interactive() {
                        return Err(CliError::Failed("interrupted; the message stays accepted".to_owned()));
                    }
                    if let Err(error) = self.client.cancel(&self.id).await {
                        // There is no turn to cancel: leave the message in the queue, and the
                        // answer for later.
                        let text = "not waiting any longer; the answer is shown when it comes";
                        self.screen.show(&[complaint(&error), aside(text)])?;
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Returns the approval that the item asks for.
fn asks(item: &ChatItem) -> Option<ApprovalId> {
    match item {
        ChatItem::Event(event) => match &event.body {
            EventBody::Approval {
                approval,
                status: ApprovalStatus::Asked,
                ..
            } => Some(approval.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// Unwraps the follower's item. The end of the follower ends the conversation.
fn alive(item: Option<Result<ChatItem, ClientError>>) -> Result<ChatItem, CliError> {
    match item {
        Some(item) => Ok(item?),
        None => Err(CliError::Failed(
            "the stream ended without a reason; join again".to_owned(),
        )),
    }
}

/// Returns the status of the turn that consumes this message, and the turn's number, if the item
/// reports it.
fn turn_of(item: &ChatItem, of: &MessageId) -> Option<(Option<u64>, TurnStatus)> {
    match item {
        ChatItem::Event(event) => match &event.body {
            EventBody::Turn {
                status, message, ..
            } if message == of => Some((event.turn, *status)),
            _ => None,
        },
        _ => None,
    }
}

/// Returns whether the item is the answer or a part of it, after which no spinner is shown.
fn is_answer(item: &ChatItem) -> bool {
    match item {
        ChatItem::Delta(_) => true,
        ChatItem::Event(event) => matches!(
            event.body,
            EventBody::Message {
                from: Role::Assistant,
                ..
            }
        ),
        ChatItem::Lost | ChatItem::Back(_) | ChatItem::Trimmed(_) | ChatItem::Cut(_) => false,
    }
}

fn complaint(error: &ClientError) -> ShownPiece {
    ShownPiece::Line(Tone::Bad, format!("— {error} —"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slash_commands_and_two_say() {
        assert_eq!(asked("/quit "), LineCommand::Quit);
        assert_eq!(asked("//quit"), LineCommand::Say("/quit"));
        assert_eq!(asked("/nope"), LineCommand::Unknown("/nope"));
        assert_eq!(asked("  "), LineCommand::Nothing);
        assert_eq!(asked("  hi "), LineCommand::Say("  hi"));
    }
}
