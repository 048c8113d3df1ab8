//! Complete responses to clients whose requests reach no handler.

/// For a client for which there is no room.
pub(super) fn no_room(connections_max: usize) -> Vec<u8> {
    let detail = format!(
        "{connections_max} connections are open, which is the limit; close some, or try again in a moment"
    );
    response("no-room", "Too many connections", &detail)
}

/// For a client whose request has not arrived and cannot be passed on.
pub(super) fn restarting() -> Vec<u8> {
    let detail = "the daemon restarted before the request's body was there; send it again";
    response("restarting", "The daemon is restarting", detail)
}

/// The texts must need no escapes in JSON.
fn response(name: &str, title: &str, detail: &str) -> Vec<u8> {
    let body = format!(
        "{{\"type\":\"urn:abide:problem:{name}\",\"title\":\"{title}\",\"status\":503,\
         \"detail\":\"{detail}\"}}"
    );
    let len = body.len();
    let text = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
         content-length: {len}\r\nretry-after: 1\r\nconnection: close\r\n\r\n{body}"
    );
    text.into_bytes()
}
