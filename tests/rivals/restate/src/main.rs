//! The chat turn as a virtual object of Restate, served with its Rust SDK at the address given.

use std::error::Error;
use std::net::SocketAddr;

use restate_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::net::TcpSocket;

/// Messages that a session keeps.
const KEPT: usize = 20;
/// The key of a session's state.
const STATE: &str = "state";
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

#[derive(Default, Serialize, Deserialize)]
struct State {
    turn: u64,
    messages: Vec<String>,
}

#[derive(Deserialize)]
struct Said {
    text: String,
}

#[derive(Serialize)]
struct Answer {
    turn: u64,
    kept: usize,
}

struct Chat;

#[object]
impl Chat {
    #[handler]
    async fn say(
        &self,
        ctx: ObjectContext<'_>,
        Json(said): Json<Said>,
    ) -> Result<Json<Answer>, TerminalError> {
        let stored = ctx.get::<Json<State>>(STATE).await?;
        let mut state = stored.map_or_else(State::default, Json::into_inner);
        state.turn += 1;
        state.messages.push(said.text);
        if state.messages.len() > KEPT {
            state.messages.remove(0);
        }
        let answer = Answer {
            turn: state.turn,
            kept: state.messages.len(),
        };
        ctx.set(STATE, Json(state));
        Ok(Json(answer))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = std::env::args()
        .nth(1)
        .ok_or("usage: restate-chat ADDRESS:PORT")?
        .parse()?;
    let socket = TcpSocket::new_v4()?;
    // The SDK leaves Nagle's algorithm on, which makes every answer wait for the acknowledgement of
    // a packet before it. What a listening socket has, its connections inherit.
    socket.set_nodelay(true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    HttpServer::new(Endpoint::builder().bind(Chat).build())
        .serve(listener)
        .await;
    Ok(())
}
