use super::*;

#[tokio::test]
async fn thoughts_are_neither_shown_nor_stored() {
    let answers = vec![
        stream(&[
            text("<thi"),
            text("nk>hm</think>"),
            text("\n\nhel"),
            text("lo"),
            end("stop"),
        ]),
        stream(&[
            text("let me "),
            text("see</think>"),
            text("hel"),
            text("lo"),
            end("stop"),
        ]),
    ];
    let (url, _) = serve(answers).await;
    let providers = providers(&url);
    let mut deltas = Vec::new();
    for _ in 0..2 {
        let show = |voice, delta: &str| deltas.push((voice, delta.to_owned()));
        let answer = providers.chat(&request(), 1000, LONG, show).await;
        assert_eq!(answer.expect("an answer").content, "hello");
    }
    let delta = |voice, text: &str| (voice, text.to_owned());
    let expected = [
        delta(1, "hel"),
        delta(1, "lo"),
        // Shown before the closing tag revealed that it belongs to a thought.
        delta(1, "let me "),
        delta(2, "hel"),
        delta(2, "lo"),
    ];
    assert_eq!(deltas, expected);
}

#[tokio::test]
async fn an_answer_without_a_word_is_asked_for_once_more() {
    let nothing = || stream(&[end("stop")]);
    let answer = ask(vec![nothing(), stream(&[text("ok"), end("stop")])]).await;
    assert_eq!(answer.expect("an answer").content, "ok");
    // The last two answers are not requested, although there are retries left.
    let (url, seen) = serve(vec![nothing(), nothing(), nothing(), nothing()]).await;
    let mut providers = providers(&url);
    providers.change(|provider| provider.retries = 3);
    let answer = providers.chat(&request(), 1000, LONG, |_, _| {}).await;
    assert_eq!(answer.expect("as it came").content, "");
    assert_eq!(seen.lock().expect("no panic").len(), 2);
}
