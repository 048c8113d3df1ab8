//! Sessions whose history was cut: what the store returns of them equals the fold.

use super::*;

#[test]
fn a_cut_session_is_parked_on_the_disk_too() {
    let home = folder();
    let mut store = open(home.path());
    let mut owner = Owner::create(&store, id("s"));
    owner.turn("a");
    owner.receive("b", Some("key"));
    owner.begin();
    owner.step(false, false);
    owner.receive("c", None);
    owner.settle();
    let before = owner.session.cursor();
    let state = |store: &Store| {
        let counts = store.counts().unwrap();
        let runs = store.should_run().unwrap();
        (counts.parked, runs.contains(&id("s")))
    };
    assert_eq!(state(&store), (0, true));
    owner.cut(1);
    owner.check();
    assert_eq!(state(&store), (1, false));
    assert_eq!(
        store.approvals(None, 10, &Patterns::all()).unwrap(),
        (Vec::new(), None)
    );
    store.close();

    store = open(home.path());
    owner.store = store.clone();
    owner.check();
    assert_eq!(state(&store), (1, false));
    let name = TimelineName::draw(1);
    // Each event is on the timeline that it was recorded on, ids included.
    let events = store.events(&owner.id, 0, 100).unwrap().items;
    for event in &events {
        let expected = (event.cursor > before).then(|| name.clone());
        assert_eq!(event.timeline, expected, "{event:?}");
    }
    // The open turn's message is a dead letter; one of the lost history with its number is not.
    let letter = store.dead(&owner.id, None, 10).unwrap().remove(0);
    assert_eq!(letter.reason.code, FailureCode::HistoryCut);
    assert_eq!(letter.effects, 1, "the step that was in flight");
    let number = letter.message.id.cursor().unwrap();
    let find = |message: &MessageId| store.dead_letter(&owner.id, message).unwrap();
    assert!(find(&letter.message.id).is_some());
    assert_eq!(find(&MessageId::on(Some(&name), number)), None);
    // What it was accepted under is known.
    let known = store.key(&owner.id, "key").unwrap().unwrap();
    assert_eq!(known.message, letter.message.id);

    let at = owner.now();
    let resumed = owner.session.resume(at).unwrap();
    owner.append(vec![resumed], Durability::Synced);
    owner.check();
    assert_eq!(state(&store), (0, true));
    owner.begin();
    owner.complete(vec![Output::Text("re: c".to_owned())], Vec::new(), 0);
    owner.check();
    let last = store.events(&owner.id, before, 100).unwrap().items;
    let said = last.iter().find_map(|event| match &event.body {
        EventBody::Message { message, .. } => Some((message.clone(), event.cursor)),
        _ => None,
    });
    let (message, cursor) = said.unwrap();
    assert_eq!(message, MessageId::on(Some(&name), cursor));
}

#[test]
fn a_session_that_is_faulted_as_well_counts_once() {
    let home = folder();
    let store = open(home.path());
    let mut owner = Owner::create(&store, id("s"));
    let fault = Fault {
        code: FaultCode::Restore,
        text: "no".to_owned(),
        component: None,
    };
    let at = owner.now();
    let faulted = owner.session.fault(fault, at).unwrap();
    owner.append(vec![faulted], Durability::Synced);
    owner.cut(1);
    owner.check();
    let counts = store.counts().unwrap();
    assert_eq!((counts.faulted, counts.parked), (1, 0));
    let resumed = owner.session.resume(at).unwrap();
    owner.append(vec![resumed], Durability::Synced);
    owner.check();
    let counts = store.counts().unwrap();
    assert_eq!((counts.faulted, counts.parked), (0, 1));
}

#[test]
fn approvals_are_found_behind_sessions_that_wait_for_something_else() {
    let home = folder();
    let store = open(home.path());
    let mut owners: Vec<Owner> = ["a", "b", "c", "d"]
        .map(|name| Owner::create(&store, id(name)))
        .into();
    for name in [1, 3] {
        let owner = &mut owners[name];
        owner.receive("x", None);
        let begun = owner.begin().unwrap();
        let request = StepRequest::ToolsList;
        let asked = Asked {
            id: ApprovalId::new(&owner.id, None, begun.turn, 1, 0),
            turn: begun.turn,
            step: 1,
            part: 0,
            call: StepCallName::of(&request),
            tool: "t".to_owned(),
            arguments: "{}".to_owned(),
            at: UnixMillis(1),
            expires_at: UnixMillis(u64::MAX),
        };
        owner.append(vec![Record::Asked(asked)], Durability::Synced);
    }
    for name in [0, 2] {
        owners[name].cut(name as u64);
    }
    owners.iter_mut().for_each(Owner::settle);
    let (first, next) = store.approvals(None, 1, &Patterns::all()).unwrap();
    assert_eq!((first.len(), &next), (1, &Some(id("b"))));
    let (second, next) = store.approvals(next.as_ref(), 1, &Patterns::all()).unwrap();
    assert_eq!((second.len(), next), (1, None));
    assert_ne!(first, second);
}
