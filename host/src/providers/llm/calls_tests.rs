use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const KNOWN: [&str; 4] = ["t__x", "t__y", "now", "functions"];

/// A fragment: index, id, name, arguments.
type Part<'a> = (Option<u64>, &'a str, &'a str, &'a str);

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn join(parts: &[Part<'_>]) -> Result<Vec<(String, String)>, BadName> {
    let known = BTreeSet::from(KNOWN);
    let mut calls = Calls::default();
    for (index, id, name, arguments) in parts {
        let part = Fragment {
            index: *index,
            id: some(id),
            name: some(name),
            arguments: (*arguments).to_owned(),
            is_object: false,
        };
        calls.add(part, false, &known);
    }
    let calls = calls.complete(&known, "seed", &mut HashSet::new(), false)?;
    let ids: HashSet<&String> = calls.iter().map(|call| &call.id).collect();
    assert_eq!(ids.len(), calls.len(), "{calls:?}");
    let calls = calls.into_iter();
    Ok(calls.map(|call| (call.name, call.arguments)).collect())
}

fn expect(parts: &[Part<'_>], expected: &[(&str, &str)]) {
    let calls = join(parts).expect("good names");
    let calls: Vec<(&str, &str)> = calls
        .iter()
        .map(|(name, arguments)| (name.as_str(), arguments.as_str()))
        .collect();
    assert_eq!(calls, expected, "{parts:?}");
}

#[test]
fn arguments_of_several_calls_in_one_place_are_told_apart() {
    let (one, two) = ("{\"a\":1}", "{\"a\":2}");
    let both = [("t__x", one), ("t__x", two)];
    expect(
        &[
            (None, "", "t__x", ""),
            (None, "", "", one),
            (None, "", "t__x", ""),
            (None, "", "", two),
        ],
        &both,
    );
    // A placeholder, and arguments that grow from fragment to fragment.
    expect(
        &[(Some(0), "a", "t__x", "{}"), (Some(0), "", "", one)],
        &[("t__x", one)],
    );
    expect(
        &[
            (Some(0), "a", "t__x", "{\"a\""),
            (Some(0), "a", "t__x", "{\"a\":1"),
            (Some(0), "a", "t__x", one),
        ],
        &[("t__x", one)],
    );
}

#[test]
fn small_oddities_cost_no_call() {
    let one = "{\"a\":1}";
    expect(
        &[
            (Some(0), "a", "t_", ""),
            (Some(0), "", "_x", ""),
            (Some(0), "", "", one),
        ],
        &[("t__x", one)],
    );
    expect(
        &[(Some(0), "a", "t__x", one), (Some(1), "b", "", "")],
        &[("t__x", one)],
    );
    expect(
        &[
            (Some(0), "a", "t__x", "{\"a\""),
            (Some(1), "a", "", ":"),
            (Some(2), "a", "", "1}"),
        ],
        &[("t__x", one)],
    );
}

#[test]
fn one_call_runs_once() {
    let one = [("t__x", "{\"a\":1}")];
    let whole = "{\"a\":1}";
    for parts in [
        // As OpenAI sends it, and as other servers do.
        &[
            (Some(0), "a", "t__x", ""),
            (Some(0), "", "", "{\"a\""),
            (Some(0), "", "", ":1}"),
        ][..],
        &[
            (Some(0), "a", "t__x", "{\"a\""),
            (Some(0), "a", "t__x", ":1}"),
        ],
        &[(None, "a", "t__x", "{\"a\""), (None, "a", "", ":1}")],
        &[(None, "a", "t__x", "{\"a\""), (None, "", "", ":1}")],
        &[(None, "", "t__x", "{\"a\""), (None, "", "", ":1}")],
        &[
            (None, "", "t__x", ""),
            (Some(0), "", "", "{\"a\":"),
            (None, "", "", "1}"),
        ],
        // The id changes midway.
        &[(Some(0), "a", "t__x", "{\"a\""), (Some(0), "b", "", ":1}")],
        &[
            (Some(0), "a", "t__x", "{\"a\""),
            (Some(0), "b", "t__x", ":1}"),
        ],
        &[(None, "a", "t__x", "{\"a\""), (None, "b", "", ":1}")],
        // Each fragment has an index of its own.
        &[(Some(0), "a", "t__x", "{\"a\""), (Some(1), "", "", ":1}")],
        &[(Some(0), "a", "t__x", "{\"a\""), (Some(1), "a", "", ":1}")],
        // The call is repeated.
        &[(Some(0), "a", "t__x", whole), (Some(1), "a", "t__x", whole)],
        &[
            (Some(0), "a", "t__x", whole),
            (Some(1), "a", "t__x", "{ \"a\": 1 }"),
        ],
        &[
            (Some(0), "a", "t__x", "{\"a\""),
            (Some(1), "a", "t__x", whole),
        ],
        &[
            (Some(0), "a", "t__x", whole),
            (Some(1), "a", "t__x", "{\"a\""),
        ],
        &[(Some(0), "a", "t__x", ""), (Some(1), "a", "t__x", whole)],
        &[
            (Some(0), "a", "t__x", "{\"a\""),
            (Some(0), "", "", ":1}"),
            (Some(0), "a", "t__x", whole),
        ],
        &[
            (Some(0), "a", "t__x", "{\"a\""),
            (Some(0), "a", "t__x", whole),
        ],
        &[(Some(0), "a", "t__x", whole), (Some(0), "a", "t__x", whole)],
        &[(None, "a", "t__x", whole), (None, "a", "t__x", whole)],
        &[(None, "", "t__x", whole), (None, "", "t__x", whole)],
        &[(None, "", "t__x", whole), (None, "", "t__x", "")],
        // An entry that is never filled.
        &[(Some(0), "a", "t__x", whole), (Some(1), "", "", "")],
    ] {
        expect(parts, &one);
    }
}

#[test]
fn two_calls_both_run() {
    let two = [("t__x", "{\"a\":1}"), ("t__y", "{\"b\":2}")];
    let (x, y) = ("{\"a\":1}", "{\"b\":2}");
    for parts in [
        &[(Some(0), "a", "t__x", x), (Some(1), "b", "t__y", y)][..],
        &[(Some(0), "a", "t__x", x), (Some(0), "b", "t__y", y)],
        &[(Some(0), "", "t__x", x), (Some(0), "", "t__y", y)],
        &[(None, "a", "t__x", x), (None, "b", "t__y", y)],
        &[(None, "", "t__x", x), (None, "", "t__y", y)],
        &[(Some(0), "a", "t__x", x), (Some(0), "a", "t__y", y)],
        &[
            (Some(0), "a", "t__x", "{\"a\""),
            (Some(1), "b", "t__y", "{\"b\""),
            (Some(0), "", "", ":1}"),
            (Some(1), "", "", ":2}"),
        ],
        &[
            // Two tool names mean two calls.
            (None, "a", "t__x", "{\"a\""),
            (None, "b", "t__y", "{\"b\""),
            (None, "a", "", ":1}"),
            (None, "b", "", ":2}"),
        ],
        &[
            (Some(0), "a", "t__x", "{\"a\""),
            (Some(0), "", "", ":1}"),
            (Some(0), "b", "t__y", "{\"b\""),
            (Some(0), "", "", ":2}"),
        ],
    ] {
        expect(parts, &two);
    }
    // Two calls of the same tool.
    let (one, other) = ("{\"a\":1}", "{\"a\":2}");
    for id in ["", "a"] {
        for index in [None, Some(0)] {
            expect(
                &[(index, id, "t__x", one), (index, id, "t__x", other)],
                &[("t__x", one), ("t__x", other)],
            );
        }
        expect(
            &[(Some(0), id, "t__x", one), (Some(1), id, "t__x", other)],
            &[("t__x", one), ("t__x", other)],
        );
    }
    // Equal calls, distinguished by an id or an index.
    for parts in [
        [(Some(0), "a", "t__x", one), (Some(1), "b", "t__x", one)],
        [(Some(0), "", "t__x", one), (Some(1), "", "t__x", one)],
        [(None, "a", "t__x", one), (None, "b", "t__x", one)],
        [(Some(0), "a", "t__x", one), (Some(0), "b", "t__x", one)],
    ] {
        expect(&parts, &[("t__x", one), ("t__x", one)]);
    }
    // Calls without arguments.
    for index in [None, Some(0)] {
        expect(
            &[(index, "", "t__x", ""), (index, "", "now", "")],
            &[("t__x", "{}"), ("now", "{}")],
        );
        expect(
            &[(index, "a", "t__x", ""), (index, "b", "now", "")],
            &[("t__x", "{}"), ("now", "{}")],
        );
    }
}

#[test]
fn names_lose_what_stands_around_them() {
    for (sent, expected) in [
        ("t__x", "t__x"),
        ("functions.t__x", "t__x"),
        ("functions.t__x:0", "t__x"),
        ("default_api:t__x", "t__x"),
        ("t__x<|channel|>commentary", "t__x"),
        ("t__x <|constrain|>json", "t__x"),
        (" \"t__x\"\n", "t__x"),
        ("`t__x`", "t__x"),
        ("t__x()", "t__x"),
        ("server.t__x", "t__x"),
        ("functions", "functions"),
        // No tool of that name was offered: the name stays, so that the model learns of its
        // mistake.
        ("functions.other", "other"),
        ("other-1", "other-1"),
    ] {
        expect(&[(Some(0), "a", sent, "{}")], &[(expected, "{}")]);
    }
    let long = "x".repeat(65);
    for bad in [
        "<|channel|>t",
        "a b",
        "functions.",
        "tür",
        long.as_str(),
        "a.b",
    ] {
        let name = join(&[(Some(0), "a", bad, "{}")]);
        assert_eq!(name, Err(BadName(bad.to_owned())));
    }
    assert_eq!(
        join(&[(Some(0), "a", "", "{}")]),
        Err(BadName(String::new()))
    );
}

#[test]
fn arguments_are_an_object_where_they_can_be() {
    for (sent, expected) in [
        ("", "{}"),
        (" ", "{}"),
        ("null", "{}"),
        ("\"null\"", "{}"),
        ("\"{\\\"a\\\":1}\"", "{\"a\":1}"),
        ("{\"a\":\"\\ud83d\"}", "{\"a\":\"\u{fffd}\"}"),
        // These stay as they are, so that the guest can report to its model what is wrong with
        // them.
        ("{\"a\":", "{\"a\":"),
        ("[1]", "[1]"),
    ] {
        expect(&[(Some(0), "a", "t__x", sent)], &[("t__x", expected)]);
    }
}

#[test]
fn the_old_place_counts_where_nothing_is_in_the_new_one() {
    let known = BTreeSet::from(KNOWN);
    let part = |name: &str, arguments: &str| Fragment {
        name: some(name),
        arguments: arguments.to_owned(),
        ..Fragment::default()
    };
    for both in [false, true] {
        let mut calls = Calls::default();
        calls.add_old(part("t__x", "{\"a\""), false);
        calls.add_old(part("", ":1}"), false);
        if both {
            calls.add(part("t__x", "{\"a\":1}"), false, &known);
        }
        let calls = calls.complete(&known, "", &mut HashSet::new(), false);
        let calls = calls.expect("a good name");
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].arguments, "{\"a\":1}");
    }
}

#[test]
fn ids_are_new_in_the_conversation_and_the_same_again() {
    let known = BTreeSet::from(KNOWN);
    let ids = |taken: &HashSet<String>| {
        let mut calls = Calls::default();
        for index in [0, 1] {
            let part = Fragment {
                index: Some(index),
                id: some("call_0"),
                name: some("t__x"),
                arguments: format!("{{\"a\":{index}}}"),
                is_object: false,
            };
            calls.add(part, false, &known);
        }
        let calls = calls.complete(&known, "seed", &mut taken.clone(), false);
        let calls = calls.expect("good names").into_iter();
        calls.map(|call| call.id).collect::<Vec<_>>()
    };
    let first = ids(&HashSet::new());
    assert_eq!(first, ids(&HashSet::new()));
    let next = ids(&first.iter().cloned().collect());
    assert!(
        next.iter().all(|id| !first.contains(id)),
        "{first:?} {next:?}"
    );
}

#[test]
fn parts_that_name_their_tool_each_time_are_read_in_linear_time() {
    let known = BTreeSet::from(KNOWN);
    let mut calls = Calls::default();
    let part = |arguments: &str| Fragment {
        index: Some(0),
        id: some("a"),
        name: some("t__x"),
        arguments: arguments.to_owned(),
        is_object: false,
    };
    calls.add(part("{\"a\":["), false, &known);
    for _ in 0..200_000 {
        calls.add(part("{},"), false, &known);
        calls.add(part("{}"), false, &known);
        calls.add(part(","), false, &known);
    }
    calls.add(part("{}]}"), false, &known);
    let calls = calls.complete(&known, "", &mut HashSet::new(), false);
    assert!(is_object(&calls.expect("a good name")[0].arguments));
}

/// How a server marks the fragments of its calls.
#[derive(Clone, Copy, Debug)]
struct Style {
    has_index: bool,
    has_id: bool,
    /// Each fragment has the id (and the name, below), rather than only the first.
    repeats_id: bool,
    repeats_name: bool,
    /// The fragments of several calls are interleaved.
    is_mixed: bool,
}

fn style() -> impl Strategy<Value = Style> {
    any::<[bool; 5]>().prop_map(
        |[has_index, has_id, repeats_id, repeats_name, is_mixed]| Style {
            has_index,
            has_id,
            repeats_id,
            repeats_name,
            // An id that changes midway looks like another call, so only indexes can distinguish
            // interleaved calls.
            is_mixed: is_mixed && has_index,
        },
    )
}

proptest! {
    #[test]
    fn calls_come_out_however_they_are_cut(
        calls in prop::collection::vec(
            (0..3_usize, prop::collection::btree_map("[a-z]{1,3}", "[a-z{}\"\\\\\u{e9}]{0,6}", 0..3)),
            1..5,
        ),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        mix in prop::collection::vec(any::<Index>(), 40),
        style in style(),
    ) {
        // Equal calls that nothing distinguishes are one; see above.
        let expected: Vec<(String, String)> = calls.iter().enumerate().map(|(n, (tool, arguments))| {
            let mut arguments = serde_json::json!(arguments);
            arguments["n"] = n.into();
            (KNOWN[*tool].to_owned(), arguments.to_string())
        }).collect();
        let mut queues: Vec<Vec<Fragment>> = expected.iter().enumerate().map(|(n, (name, arguments))| {
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(arguments.len())).collect();
            places.retain(|place| arguments.is_char_boundary(*place) && *place > 0);
            places.extend([0, arguments.len()]);
            places.sort_unstable();
            let parts = places.windows(2).enumerate().map(|(part, range)| Fragment {
                index: style.has_index.then_some(n as u64),
                id: (style.has_id && (style.repeats_id || part == 0)).then(|| format!("call_{n}")),
                name: (style.repeats_name || part == 0).then(|| name.clone()),
                arguments: arguments[range[0]..range[1]].to_owned(),
                is_object: false,
            });
            let mut parts: Vec<Fragment> = parts.collect();
            parts.reverse();
            parts
        }).collect();
        let known = BTreeSet::from(KNOWN);
        let mut joined = Calls::default();
        let mut mix = mix.iter().cycle();
        while queues.iter().any(|queue| !queue.is_empty()) {
            let filled = queues.iter().enumerate().filter(|(_, queue)| !queue.is_empty());
            let filled: Vec<usize> = filled.map(|(n, _)| n).collect();
            let next = match style.is_mixed {
                true => filled[mix.next().expect("a cycle").index(filled.len())],
                false => filled[0],
            };
            let part = queues[next].pop().expect("it is not empty");
            joined.add(part, false, &known);
        }
        let read = joined.complete(&known, "seed", &mut HashSet::new(), false).expect("good names");
        let mut read: Vec<(String, String)> = read.into_iter().map(|call| (call.name, call.arguments)).collect();
        let mut expected = expected;
        if style.is_mixed {
            read.sort_unstable();
            expected.sort_unstable();
        }
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn no_parts_give_one_call_of_one_id_twice(
        parts in prop::collection::vec(
            (prop::option::of(0..3_u64), prop::option::of("[ab]"), prop::option::of("t__x|now"), "(\\{\"a\":1\\}|\\{\"a\"|:1\\}|\\{\\}|)"),
            0..8,
        ),
    ) {
        let known = BTreeSet::from(KNOWN);
        let mut calls = Calls::default();
        for (index, id, name, arguments) in parts {
            calls.add(Fragment { index, id, name, arguments, is_object: false }, false, &known);
        }
        let ended: Vec<PartialCall> = calls.calls.iter().cloned().map(|mut call| { call.end(); call }).collect();
        let Ok(read) = calls.complete(&known, "", &mut HashSet::new(), false) else { return Ok(()) };
        for (name, arguments) in read.iter().map(|call| (&call.name, &call.arguments)) {
            let same = read.iter().filter(|call| (&call.name, &call.arguments) == (name, arguments)).count();
            // There are no more equal calls than distinct ids plus calls without an id.
            let with = ended.iter().filter(|call| call.name.as_ref().is_none_or(|own| own == name));
            let ids: Vec<&Option<String>> = with.map(|call| &call.id).collect();
            let unnamed = ids.iter().filter(|id| id.is_none()).count();
            let named: HashSet<&&Option<String>> = ids.iter().filter(|id| id.is_some()).collect();
            prop_assert!(same <= unnamed + named.len(), "{:?}", read);
        }
    }
}
