//! The differences between two configurations' model providers and tool servers. No value that may
//! hold a key is shown.

use super::diff::{Diff, number, size, time};
use super::plan::Class;
use super::resolved::{LlmProvider, ToolServer, Transport};
use crate::domain::Patterns;

impl Diff<'_> {
    pub(super) fn provider(&mut self, key: &str, old: &LlmProvider, new: &LlmProvider) {
        let LlmProvider {
            base_url,
            model,
            context_tokens,
            api_key,
            connect_timeout,
            idle_timeout,
            timeout,
            retries,
            fallback,
            headers,
            query,
            body,
            user_agent,
            tools_max,
            images,
        } = new;
        let full = |last: &str| format!("{key}.{last}");
        self.note(
            full("base_url"),
            Class::Hot,
            (&old.base_url, base_url),
            |text| url(text),
        );
        self.note(
            full("model"),
            Class::Hot,
            (&old.model, model),
            String::clone,
        );
        self.note(
            full("context_tokens"),
            Class::Hot,
            (&old.context_tokens, context_tokens),
            |count| count.map_or_else(|| "none".to_owned(), |count| number(&count)),
        );
        self.secret(full("api_key"), Class::Hot, (&old.api_key, api_key));
        self.note(
            full("connect_timeout"),
            Class::Hot,
            (&old.connect_timeout, connect_timeout),
            time,
        );
        self.note(
            full("idle_timeout"),
            Class::Hot,
            (&old.idle_timeout, idle_timeout),
            time,
        );
        self.note(full("timeout"), Class::Hot, (&old.timeout, timeout), time);
        self.note(full("retries"), Class::Hot, (&old.retries, retries), number);
        self.note(
            full("fallback"),
            Class::Hot,
            (&old.fallback, fallback),
            |name| name.clone().unwrap_or_else(|| "none".to_owned()),
        );
        self.givens(&full("headers"), Class::Hot, &old.headers, headers);
        self.givens(&full("query"), Class::Hot, &old.query, query);
        self.entries(
            &full("body"),
            Class::Hot,
            &old.body,
            body,
            |diff, key, old, new| diff.note(key, Class::Hot, (old, new), |_| "a value".to_owned()),
            |_| "a value".to_owned(),
        );
        self.note(
            full("user_agent"),
            Class::Hot,
            (&old.user_agent, user_agent),
            |agent| agent.clone().unwrap_or_else(|| "Abide's own".to_owned()),
        );
        self.note(
            full("tools_max"),
            Class::Hot,
            (&old.tools_max, tools_max),
            number,
        );
        self.note(full("images"), Class::Hot, (&old.images, images), number);
    }

    pub(super) fn tool_server(&mut self, key: &str, old: &ToolServer, new: &ToolServer) {
        let ToolServer {
            transport: how,
            start_timeout,
            call_timeout,
            image_bytes,
            repeatable,
            once,
            ask,
            ask_timeout,
        } = new;
        match (&old.transport, how) {
            (
                Transport::Http {
                    url: old_url,
                    token: old_token,
                    headers: old_headers,
                },
                Transport::Http {
                    url: new_url,
                    token,
                    headers,
                },
            ) => {
                self.note(
                    format!("{key}.url"),
                    Class::Hot,
                    (old_url, new_url),
                    |text| url(text),
                );
                self.secret(format!("{key}.token"), Class::Hot, (old_token, token));
                let table = format!("{key}.headers");
                self.givens(&table, Class::Hot, old_headers, headers);
            }
            (
                Transport::Command {
                    program: old_program,
                    args: old_args,
                    env: old_env,
                },
                Transport::Command { program, args, env },
            ) => {
                let old = (old_program, old_args);
                self.note(
                    key,
                    Class::Hot,
                    (&old, &(program, args)),
                    |(program, args)| format!("{program} with {} arguments", args.len()),
                );
                self.givens(&format!("{key}.env"), Class::Hot, old_env, env);
            }
            (old, new) => self.note(key, Class::Hot, (old, new), transport),
        }
        let times = (&old.start_timeout, start_timeout);
        self.note(format!("{key}.start_timeout"), Class::Hot, times, time);
        let times = (&old.call_timeout, call_timeout);
        self.note(format!("{key}.call_timeout"), Class::Hot, times, time);
        let sizes = (&old.image_bytes, image_bytes);
        self.note(format!("{key}.images"), Class::Hot, sizes, size);
        let times = (&old.ask_timeout, ask_timeout);
        self.note(format!("{key}.ask_timeout"), Class::Hot, times, time);
        for (last, Patterns(old), Patterns(new)) in [
            ("repeatable", &old.repeatable, repeatable),
            ("once", &old.once, once),
            ("ask", &old.ask, ask),
        ] {
            self.names(&format!("{key}.{last}"), Class::Hot, old, new);
        }
    }
}

/// A URL without its query, which may hold a key.
pub(super) fn url(url: &str) -> String {
    match url.split_once('?') {
        Some((before, _)) => format!("{before}?…"),
        None => url.to_owned(),
    }
}

/// How a server is reached, without its arguments, which may hold a key.
pub(super) fn transport(how: &Transport) -> String {
    match how {
        Transport::Command { program, args, env } => format!(
            "{program} with {} arguments and {} variables",
            args.len(),
            env.len()
        ),
        Transport::Http { url: at, .. } => url(at),
    }
}
