//! The chat turn as a virtual object of Restate, served by its Rust SDK on the address given as
//! argument.

use std::error::Error;
use std::net::SocketAddr;

use restate_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::net::TcpSocket;

/// Number of recent messages that a session keeps.
const KEPT: usize = 20;
/// The key of a session's state.
const STATE: &str = "state";
/// Connections that may be pending until they are accepted.
const BACKLOG: u32 = 1024;

#[derive(Default, Serialize, Deserialize)]
struct State {
    turn: u64,
    messages: Vec<String>,
}

#[derive(Deserialize)]
struct SayRequest {
    text: String,
}

#[derive(Serialize)]
struct SayReply {
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
        Json(message): Json<SayRequest>,
    ) -> Result<Json<SayReply>, TerminalError> {
        let stored = ctx.get::<Json<State>>(STATE).await?;
        let mut state = stored.map_or_else(State::default, Json::into_inner);
        state.turn += 1;
        state.messages.push(message.text);
        if state.messages.len() > KEPT {
            state.messages.remove(0);
        }
        let answer = SayReply {
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
    // The SDK leaves Nagle's algorithm enabled, which makes every response wait for the
    // acknowledgement of a preceding packet. Accepted connections inherit a listening socket's
    // options.
    socket.set_nodelay(true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    HttpServer::new(Endpoint::builder().bind(Chat).build())
        .serve(listener)
        .await;
    Ok(())
}
