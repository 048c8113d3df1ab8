//! Compares the model providers and tool servers of two configurations. Values that may hold a key
//! are not shown.

use super::change::ChangeClass;
use super::diff::{Diff, number, size, time};
use super::model::{LlmProviderConfig, ToolServerConfig, Transport};
use crate::domain::Patterns;

impl Diff<'_> {
    pub(super) fn provider(&mut self, key: &str, old: &LlmProviderConfig, new: &LlmProviderConfig) {
        let LlmProviderConfig {
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
            ChangeClass::Hot,
            (&old.base_url, base_url),
            |text| url(text),
        );
        self.note(
            full("model"),
            ChangeClass::Hot,
            (&old.model, model),
            String::clone,
        );
        self.note(
            full("context_tokens"),
            ChangeClass::Hot,
            (&old.context_tokens, context_tokens),
            |count| count.map_or_else(|| "none".to_owned(), |count| number(&count)),
        );
        self.secret(full("api_key"), ChangeClass::Hot, (&old.api_key, api_key));
        self.note(
            full("connect_timeout"),
            ChangeClass::Hot,
            (&old.connect_timeout, connect_timeout),
            time,
        );
        self.note(
            full("idle_timeout"),
            ChangeClass::Hot,
            (&old.idle_timeout, idle_timeout),
            time,
        );
        self.note(
            full("timeout"),
            ChangeClass::Hot,
            (&old.timeout, timeout),
            time,
        );
        self.note(
            full("retries"),
            ChangeClass::Hot,
            (&old.retries, retries),
            number,
        );
        self.note(
            full("fallback"),
            ChangeClass::Hot,
            (&old.fallback, fallback),
            |name| name.clone().unwrap_or_else(|| "none".to_owned()),
        );
        self.givens(&full("headers"), ChangeClass::Hot, &old.headers, headers);
        self.givens(&full("query"), ChangeClass::Hot, &old.query, query);
        self.entries(
            &full("body"),
            ChangeClass::Hot,
            &old.body,
            body,
            |diff, key, old, new| {
                diff.note(key, ChangeClass::Hot, (old, new), |_| "a value".to_owned())
            },
            |_| "a value".to_owned(),
        );
        self.note(
            full("user_agent"),
            ChangeClass::Hot,
            (&old.user_agent, user_agent),
            |agent| agent.clone().unwrap_or_else(|| "Abide's own".to_owned()),
        );
        self.note(
            full("tools_max"),
            ChangeClass::Hot,
            (&old.tools_max, tools_max),
            number,
        );
        self.note(
            full("images"),
            ChangeClass::Hot,
            (&old.images, images),
            number,
        );
    }

    pub(super) fn tool_server(
        &mut self,
        key: &str,
        old: &ToolServerConfig,
        new: &ToolServerConfig,
    ) {
        let ToolServerConfig {
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
                    ChangeClass::Hot,
                    (old_url, new_url),
                    |text| url(text),
                );
                self.secret(format!("{key}.token"), ChangeClass::Hot, (old_token, token));
                let table = format!("{key}.headers");
                self.givens(&table, ChangeClass::Hot, old_headers, headers);
            }
            (
                Transport::Command {
                    program: old_program,
                    args: old_args,
                    env: old_env,
                    user: old_user,
                    sandbox: old_sandbox,
                },
                Transport::Command {
                    program,
                    args,
                    env,
                    user,
                    sandbox,
                },
            ) => {
                let old = (old_program, old_args);
                self.note(
                    key,
                    ChangeClass::Hot,
                    (&old, &(program, args)),
                    |(program, args)| format!("{program} with {} arguments", args.len()),
                );
                self.givens(&format!("{key}.env"), ChangeClass::Hot, old_env, env);
                let users = (old_user, user);
                self.note(format!("{key}.user"), ChangeClass::Hot, users, |user| {
                    user.clone().unwrap_or_else(|| "the daemon's".to_owned())
                });
                self.note(
                    format!("{key}.sandbox"),
                    ChangeClass::Hot,
                    (old_sandbox, sandbox),
                    bool::to_string,
                );
            }
            (old, new) => self.note(key, ChangeClass::Hot, (old, new), transport),
        }
        let times = (&old.start_timeout, start_timeout);
        self.note(
            format!("{key}.start_timeout"),
            ChangeClass::Hot,
            times,
            time,
        );
        let times = (&old.call_timeout, call_timeout);
        self.note(format!("{key}.call_timeout"), ChangeClass::Hot, times, time);
        let sizes = (&old.image_bytes, image_bytes);
        self.note(format!("{key}.images"), ChangeClass::Hot, sizes, size);
        let times = (&old.ask_timeout, ask_timeout);
        self.note(format!("{key}.ask_timeout"), ChangeClass::Hot, times, time);
        for (last, Patterns(old), Patterns(new)) in [
            ("repeatable", &old.repeatable, repeatable),
            ("once", &old.once, once),
            ("ask", &old.ask, ask),
        ] {
            self.names(&format!("{key}.{last}"), ChangeClass::Hot, old, new);
        }
    }
}

/// Returns a URL without its query, which may hold a key.
pub(super) fn url(url: &str) -> String {
    match url.split_once('?') {
        Some((before, _)) => format!("{before}?…"),
        None => url.to_owned(),
    }
}

/// Describes how a server is reached, without its arguments, which may hold a key.
pub(super) fn transport(how: &Transport) -> String {
    match how {
        Transport::Command {
            program, args, env, ..
        } => format!(
            "{program} with {} arguments and {} variables",
            args.len(),
            env.len()
        ),
        Transport::Http { url: at, .. } => url(at),
    }
}
