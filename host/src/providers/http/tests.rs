//! Tests with requests to a server on this machine.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::domain::{HttpRule, Patterns};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);
const LIMIT_BYTES: u64 = 1000;

/// Starts a server that answers each connection with these bytes, or never if there are none.
/// Returns its port.
async fn server(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let _ = socket.read(&mut request).await;
                if answer.is_empty() {
                    std::future::pending::<()>().await;
                }
                let _ = socket.write_all(answer.as_bytes()).await;
            });
        }
    });
    port
}

fn grants(hosts: &[&str], private: &[&str]) -> HttpGrants {
    let rules = hosts
        .iter()
        .map(|entry| HttpRule::parse(entry).expect("an entry"));
    HttpGrants {
        hosts: rules.collect(),
        private: Patterns(private.iter().map(|name| (*name).to_owned()).collect()),
    }
}

async fn send(
    method: &str,
    url: &str,
    grants: &HttpGrants,
    limit: Duration,
) -> Result<HttpResponse, StepError> {
    let request = HttpRequest {
        method: method.into(),
        url: url.into(),
        headers: vec![("x-a".into(), "b".into())],
        body: Vec::new(),
    };
    let sender = HttpSender::new().expect("TLS");
    sender.classify(&request, grants, LIMIT_BYTES)?;
    sender.send(&request, grants, LIMIT_BYTES, limit).await
}

#[tokio::test]
async fn redirects_are_answers() {
    let port = server(
        "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 2\r\n\r\nhi",
    )
    .await;
    let url = format!("http://localhost:{port}/");
    let answer = send("GET", &url, &grants(&["http://localhost:*"], &[]), LONG).await;
    let answer = answer.expect("an answer");
    assert_eq!((answer.status, answer.body.as_slice()), (302, &b"hi"[..]));
    let location = ("location".to_owned(), "http://169.254.169.254/".to_owned());
    assert!(answer.headers.contains(&location), "{:?}", answer.headers);
}

#[tokio::test]
async fn what_a_name_resolves_to_is_looked_at() {
    let port = server("HTTP/1.1 204 No Content\r\n\r\n").await;
    let url = format!("http://localhost:{port}/");
    // The pattern grants the name, but not loopback addresses.
    let refused = send("GET", &url, &grants(&["http://*:*"], &[]), LONG).await;
    let refused = refused.expect_err("this machine");
    assert_eq!(
        refused.to_string(),
        "denied: `localhost` resolves to a loopback address; if it shall be reached, add localhost \
         to the plugin's `capabilities.http_private`"
    );
    let granted = grants(&["http://*:*"], &["local*"]);
    assert!(send("GET", &url, &granted, LONG).await.is_ok());
    let url = format!("http://127.0.0.1:{port}/");
    let by_address = send("GET", &url, &granted, LONG).await;
    assert!(
        matches!(by_address, Err(StepError::Denied(_))),
        "{by_address:?}"
    );
    let granted = grants(&["http://127.0.0.1:*", "http://0.0.0.0:*"], &[]);
    assert!(send("GET", &url, &granted, LONG).await.is_ok());
    let nobody = send("GET", &format!("http://0.0.0.0:{port}"), &granted, LONG).await;
    assert!(matches!(nobody, Err(StepError::Denied(_))), "{nobody:?}");
}

#[tokio::test]
async fn only_what_was_sent_may_have_happened() {
    let granted = grants(&["http://localhost:*"], &[]);
    let silent = format!("http://localhost:{}/?key=secret", server("").await);
    let closing = format!(
        "http://localhost:{}/?key=secret",
        server("nonsense\r\n\r\n").await
    );
    for (url, limit, repeatable) in [(&silent, SHORT, "timeout"), (&closing, LONG, "unavailable")] {
        let again = send("GET", url, &granted, limit)
            .await
            .expect_err("no answer");
        assert!(again.to_string().starts_with(repeatable), "{again}");
        let unknown = send("POST", url, &granted, limit)
            .await
            .expect_err("no answer");
        assert!(matches!(unknown, StepError::UnknownOutcome(_)), "{unknown}");
        for error in [again, unknown] {
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let url = format!(
        "http://localhost:{}/",
        nobody.local_addr().expect("bound").port()
    );
    drop(nobody);
    let unsent = send("POST", &url, &granted, LONG).await;
    assert!(
        matches!(unsent, Err(StepError::Unavailable(_))),
        "{unsent:?}"
    );
}

#[tokio::test]
async fn an_answer_that_is_too_large_or_breaks_off_is_told_with_its_status() {
    let granted = grants(&["http://localhost:*"], &[]);
    let large = concat!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "0123456789");
    let large: &'static str = Box::leak(format!("{large}{}", "x".repeat(2000)).into());
    for (answer, expected) in [
        (large, "too large: `POST http://localhost"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf",
            "failed: `POST http://localhost",
        ),
    ] {
        let url = format!("http://localhost:{}/", server(answer).await);
        let error = send("POST", &url, &granted, LONG)
            .await
            .expect_err(expected);
        let error = error.to_string();
        assert!(
            error.starts_with(expected) && error.contains("status 200"),
            "{error}"
        );
    }
}
