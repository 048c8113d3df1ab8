use super::*;
use crate::domain::{ModelUsage, UnixMillis};

fn view() -> ChatView {
    let mut view = ChatView::new("s", 0);
    view.set_live(true);
    view
}

fn event(cursor: u64, turn: Option<u64>, body: EventBody) -> ChatItem {
    ChatItem::Event(Event {
        cursor,
        timeline: None,
        turn,
        at: UnixMillis(0),
        body,
    })
}

fn says(cursor: u64, from: Role, text: &str) -> ChatItem {
    let turn = (from == Role::Assistant).then_some(1);
    let body = EventBody::Message {
        message: MessageId::on(None, cursor),
        from,
        name: None,
        text: text.into(),
        due: None,
        sender: None,
    };
    event(cursor, turn, body)
}

fn turn(cursor: u64, status: TurnStatus, reason: Option<&str>) -> ChatItem {
    let body = EventBody::Turn {
        status,
        message: MessageId::on(None, 1),
        received: Vec::new(),
        reason: reason.map(str::to_owned),
        usage: ModelUsage::default(),
    };
    event(cursor, Some(1), body)
}

fn delta(attempt: u32, step: u32, text: &str) -> ChatItem {
    delta_of(attempt, step, 1, text)
}

fn delta_of(attempt: u32, step: u32, request: u32, text: &str) -> ChatItem {
    ChatItem::Delta(Delta {
        text: text.into(),
        turn: 1,
        attempt,
        step,
        request,
    })
}

/// Returns what a human would read as one string, with `|` for the end of a paragraph.
fn shown(view: &mut ChatView, items: &[ChatItem]) -> String {
    let mut text = String::new();
    for piece in items.iter().flat_map(|item| view.apply(item)) {
        match piece {
            ShownPiece::Text(more) => text.push_str(&more),
            ShownPiece::Break => text.push('|'),
            ShownPiece::Line(_, line) => text.push_str(&format!("{line}|")),
        }
    }
    text
}

#[test]
fn a_streamed_answer_is_shown_once() {
    let items = [
        delta(1, 1, "Good "),
        delta(1, 1, "morning"),
        says(2, Role::Assistant, "Good morning"),
        turn(3, TurnStatus::Completed, None),
    ];
    assert_eq!(shown(&mut view(), &items), "Good morning|");
}

#[test]
fn what_the_draft_lacked_is_added() {
    let items = [
        delta(1, 1, "Good "),
        says(2, Role::Assistant, "Good morning"),
    ];
    assert_eq!(shown(&mut view(), &items), "Good morning|");
}

#[test]
fn an_answer_that_was_not_streamed_is_a_line() {
    let items = [
        says(2, Role::Assistant, "one"),
        says(3, Role::Assistant, "two"),
    ];
    assert_eq!(shown(&mut view(), &items), "one|two|");
}

#[test]
fn an_answer_that_was_cut_is_told_as_that() {
    let custom = |cursor, name: &str| {
        let data = serde_json::json!({"reason": "max_tokens"});
        let name = name.to_owned();
        event(cursor, Some(1), EventBody::Custom { name, data })
    };
    let items = [
        delta(1, 1, "Once upon a"),
        says(2, Role::Assistant, "Once upon a"),
        custom(3, "truncated"),
        custom(4, "other"),
        turn(5, TurnStatus::Completed, None),
    ];
    assert_eq!(
        shown(&mut view(), &items),
        "Once upon a|— cut at the token limit; say \"go on\" —|\
         · other {\"reason\":\"max_tokens\"}|"
    );
}

#[test]
fn a_new_attempt_voids_the_old_draft() {
    let items = [
        delta(1, 1, "Goo"),
        ChatItem::Back(Absence::Connection),
        delta(1, 1, "late"),
        delta(2, 1, "Hello"),
        delta(1, 1, "later still"),
        says(2, Role::Assistant, "Hello"),
    ];
    assert_eq!(
        shown(&mut view(), &items),
        "Goo|— begun anew; the text above is void —|Hello|"
    );
}

#[test]
fn a_model_that_is_asked_again_within_a_step_voids_what_it_said() {
    let items = [
        delta_of(1, 1, 1, "Goo"),
        delta_of(1, 1, 2, "Hel"),
        // A late delta of the request that broke off.
        delta_of(1, 1, 1, "d"),
        delta_of(1, 1, 2, "lo"),
        says(2, Role::Assistant, "Hello"),
    ];
    assert_eq!(
        shown(&mut view(), &items),
        "Goo|— begun anew; the text above is void —|Hello|"
    );
}

#[test]
fn a_draft_that_was_not_the_answer_is_called_void() {
    let items = [
        delta(1, 1, "Goo"),
        ChatItem::Lost,
        ChatItem::Back(Absence::Connection),
        says(2, Role::Assistant, "Hello"),
    ];
    assert_eq!(
        shown(&mut view(), &items),
        "Goo|— the connection is lost; trying again —|— connected again; resumed where we were —|\
         — the text above is void; this is the answer: —|Hello|"
    );
}

#[test]
fn after_a_gap_only_the_rest_is_shown() {
    let items = [
        delta(1, 1, "Good "),
        ChatItem::Back(Absence::Connection),
        delta(1, 1, "ning"),
        says(2, Role::Assistant, "Good morning"),
    ];
    assert_eq!(shown(&mut view(), &items), "Good |… morning|");
}

#[test]
fn steps_are_paragraphs_and_the_last_is_the_answer() {
    let items = [
        delta(1, 1, "Let me look."),
        event(
            2,
            Some(1),
            EventBody::Tool {
                name: "find".into(),
                step: 1,
                status: crate::domain::ToolStatus::Started,
            },
        ),
        delta(1, 3, "Found."),
        says(3, Role::Assistant, "Found."),
    ];
    assert_eq!(
        shown(&mut view(), &items),
        "Let me look.|· find started|Found.|"
    );
}

#[test]
fn events_come_once_and_ones_own_words_are_not_repeated() {
    let mut view = view();
    view.typed(MessageId::on(None, 1));
    let items = [
        says(1, Role::User, "hi"),
        says(2, Role::User, "hi from elsewhere"),
        says(2, Role::User, "hi from elsewhere"),
        says(3, Role::Assistant, "hello"),
        says(3, Role::Assistant, "hello"),
    ];
    assert_eq!(shown(&mut view, &items), "> hi from elsewhere|hello|");
    assert_eq!(view.cursor(), 3);
}

#[test]
fn deltas_wait_beside_an_edited_line_and_after_the_end() {
    let mut view = view();
    view.set_live(false);
    let items = [
        delta(1, 1, "Hel"),
        says(2, Role::Assistant, "Hello"),
        turn(3, TurnStatus::Completed, None),
    ];
    assert_eq!(shown(&mut view, &items), "Hello|");
    view.set_live(true);
    assert_eq!(shown(&mut view, &[delta(1, 1, "lo")]), "");
}

#[test]
fn a_failure_names_reason_and_remedy() {
    let text = shown(
        &mut view(),
        &[delta(1, 1, "x"), turn(2, TurnStatus::Failed, Some("trap"))],
    );
    assert!(text.starts_with("x|— the turn failed: trap;"), "{text}");
    assert!(text.contains("`abide sessions show s`"), "{text}");
}

#[test]
fn a_restart_is_one_line() {
    assert_eq!(
        shown(
            &mut view(),
            &[ChatItem::Back(Absence::Restart(Some(Cause::Config)))]
        ),
        "— the daemon restarted (configuration change); resumed where we were —|"
    );
}

#[test]
fn guests_cannot_steer_the_terminal() {
    let items = [
        delta(1, 1, "a\x1b[2J"),
        says(2, Role::Assistant, "a\x1b[2Jb"),
    ];
    assert_eq!(shown(&mut view(), &items), "a[2Jb|");
}
