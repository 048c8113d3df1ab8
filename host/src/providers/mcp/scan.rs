//! Scans JSON byte by byte, without parsing, to find where a text ends and which request it
//! answers, wherever in it the id stands.

/// How much of a key or an id is kept.
const TOKEN_MAX_BYTES: usize = 128;

/// The state of the scan.
#[derive(Default)]
pub(super) struct JsonScan {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The part read so far of the current key or value of the outermost object.
    token: String,
    key: String,
    id: Option<String>,
    is_rpc: bool,
    is_answer: bool,
    is_request: bool,
}

impl JsonScan {
    pub(super) fn take(&mut self, byte: u8) {
        if self.in_string {
            self.push(byte);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'{' | b'[' => {
                if self.depth == 1 {
                    self.key_is_there();
                }
                self.depth += 1;
            }
            b'}' | b']' => {
                if self.depth == 1 {
                    self.value();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 => self.key = std::mem::take(&mut self.token),
            b',' if self.depth == 1 => self.value(),
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => {
                self.in_string = byte == b'"';
                self.push(byte);
            }
        }
    }

    /// Returns whether all opened brackets are closed.
    pub(super) fn is_closed(&self) -> bool {
        self.depth == 0 && !self.in_string
    }

    pub(super) fn in_string(&self) -> bool {
        self.in_string
    }

    /// Returns the id of our request that this answers, if it looks like an answer. Our ids are
    /// numbers, which some servers return as strings.
    pub(super) fn answers(&self) -> Option<i64> {
        let id = self.id.as_deref()?.trim_matches('"');
        let answers = !self.is_request && (self.is_rpc || self.is_answer);
        answers.then(|| id.parse().ok())?
    }

    fn push(&mut self, byte: u8) {
        // Bytes outside ASCII occur in no key or id of ours, so they need not be decoded correctly.
        if self.depth == 1 && self.token.len() < TOKEN_MAX_BYTES {
            self.token.push(char::from(byte));
        }
    }

    fn value(&mut self) {
        let value = std::mem::take(&mut self.token);
        if self.key == "\"id\"" {
            self.id = Some(value);
        }
        self.key_is_there();
        self.key.clear();
    }

    fn key_is_there(&mut self) {
        match self.key.as_str() {
            "\"jsonrpc\"" => self.is_rpc = true,
            "\"result\"" | "\"error\"" => self.is_answer = true,
            "\"method\"" => self.is_request = true,
            _ => {}
        }
    }
}
