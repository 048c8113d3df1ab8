//! Tools: MCP servers over stdio and HTTP, and the guests' own requests.

mod bench;
mod down;
mod faults;
mod http;
mod mcp;
mod odd;
mod odd_http;
mod out_of_reach;
mod outgoing;
mod real;
mod sandbox;
mod web;
