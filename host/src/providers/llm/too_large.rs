//! Recognises refusals of requests that are too large for a server, in whatever words. Pure.
//!
//! The many phrasings have in common that something long (the prompt, its tokens, the context)
//! exceeds a bound, or that they ask to shorten it. Not meant are parameters of the request that
//! are out of range, like `max_tokens`, and rate limits on tokens.

use super::refusal::ProviderRefusal;

/// Codes and types that mean that the request is too large.
const CODES: [&str; 9] = [
    "context_length_exceeded",
    "exceed_context_size_error",
    "context_window_exceeded",
    "contextwindowexceedederror",
    "request_too_large",
    "prompt_too_long",
    "input_too_long",
    "model_max_prompt_tokens_exceeded",
    "max_context_length_exceeded",
];
/// Codes that mean that one field is too large. The field may be the conversation.
const FIELD_CODES: [&str; 2] = ["string_above_max_length", "array_above_max_length"];
/// Phrases about a connection of the server's own, and not about a bound on the conversation.
const NETWORK: [&str; 8] = [
    "deadline exceeded",
    "retries exceeded",
    "timed out",
    "timeout",
    "connection",
    "cannot fetch",
    "redirects",
    "socket",
];
/// Phrases that suffice by themselves.
const SAY_IT: [&str; 19] = [
    "maximum context length",
    "maximum prompt length",
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "input too long",
    "conversation is too long",
    "messages are too long",
    "request too large",
    "request body too large",
    "request entity too large",
    "too many input tokens",
    "payload size exceeds",
    "payload too large",
    "body size exceeds",
    "body is too large",
    "body too large",
    "超长",
    "长度超过",
];
/// Phrases that ask to shorten something. They count together with one of [`LONG_THINGS`].
const SHORTEN: [&str; 10] = [
    "reduce", "shorten", "shorter", "smaller", "fewer", "truncate", "trim ", "decrease", "compact",
    "cut down",
];
/// Names of the thing that is too long.
const LONG_THINGS: [&str; 15] = [
    "message is",
    "request is",
    "token limit",
    "prompt",
    "input",
    "context",
    "conversation",
    "messages",
    "message length",
    "length of the",
    "token count",
    "number of tokens",
    "tokens",
    "sequence",
    "request size",
];
/// Phrases that say that a bound is exceeded.
const BEYOND: [&str; 36] = [
    "maximum of",
    "maximum is",
    "max is",
    " > ",
    "go over",
    "goes over",
    "going over",
    "beyond",
    "too big",
    "bigger than",
    "out of range",
    "reached",
    "is full",
    "limited to",
    "must have less",
    "exceed",
    "longer than",
    "greater than",
    "larger than",
    "more than",
    "too long",
    "too large",
    "too many",
    "must be <=",
    "must be less",
    "must be at most",
    "must not be more",
    "at most",
    "over the limit",
    "overflow",
    "out of context",
    "does not fit",
    "doesn't fit",
    "limit of",
    "limit is",
    "should be [",
];
/// Names of the thing that is bounded or counted.
const BOUND_THINGS: [&str; 21] = [
    "model's context",
    "the context",
    "message is too",
    "context length",
    "context size",
    "context window",
    "context limit",
    "model length",
    "sequence length",
    "sequence_length",
    "seq_len",
    "seqlen",
    "max_seq",
    "n_ctx",
    "max_model_len",
    "max_input",
    "input length",
    "input_length",
    "prompt length",
    "token",
    "max length",
];
/// Parameters of a request. If one of them is out of range, a shorter conversation does not help.
const WISHES: [&str; 12] = [
    "max_tokens",
    "max_completion_tokens",
    "max_new_tokens",
    "max_output_tokens",
    "maxoutputtokens",
    "max output tokens",
    "temperature",
    "top_p",
    "top_k",
    "top_logprobs",
    "stop sequences",
    "number of tools",
];
/// Phrases about rate limits.
const RATES: [&str; 9] = [
    "per minute",
    "per day",
    "per hour",
    "per second",
    "rate limit",
    "rate_limit",
    "quota",
    "(tpm)",
    "(tpd)",
];
/// Phrases that make a complaint about a parameter one about the conversation too, since both share
/// a bound.
const SHARED: [&str; 11] = [
    "context",
    "`inputs`",
    "inputs tokens",
    "input tokens",
    "prompt",
    "messages",
    "model length",
    "input length",
    "sequence length",
    "max_seq",
    "max_model_len",
];

/// Returns whether the server refused the request because it is too large.
pub(super) fn is_too_large(refusal: &ProviderRefusal) -> bool {
    match refusal.status.as_u16() {
        // "Content too large", whatever the body says.
        413 => true,
        // A single request that exceeds the rate limit by itself never passes.
        429 => refusal.words().contains("request too large"),
        status @ (400 | 422 | 500) => {
            let codes = refusal.codes();
            let codes: Vec<String> = codes.iter().map(|code| code.to_ascii_lowercase()).collect();
            let has = |known: &[&str]| codes.iter().any(|code| known.contains(&code.as_str()));
            let words = refusal.words();
            if has(&FIELD_CODES) {
                return words.contains("messages") && !is_about_one_field(&words);
            }
            // With status 500 a server may lack something else, and then it names no numbers.
            let is_clear = status != 500
                || SAY_IT.iter().any(|text| words.contains(text))
                || words.contains(|char: char| char.is_ascii_digit());
            has(&CODES) || (is_clear && says_too_large(&words))
        }
        _ => false,
    }
}

/// Returns whether these texts, in lower case, say that a request is too large.
pub(super) fn says_too_large(words: &str) -> bool {
    let has = |texts: &[&str]| texts.iter().any(|text| words.contains(text));
    if has(&RATES) || has(&NETWORK) {
        return false;
    }
    if has(&WISHES) && !has(&SHARED) {
        return false;
    }
    let is_about_one_field = is_about_one_field(words);
    if has(&SAY_IT) {
        return !is_about_one_field || words.contains("context");
    }
    if is_about_one_field {
        return false;
    }
    let asks_for_less = has(&SHORTEN) && has(&LONG_THINGS);
    let is_beyond = has(&BEYOND) && has(&LONG_THINGS) && has(&BOUND_THINGS);
    // Some refusals only name both counts, without a phrase for which is greater.
    let is_counted = words.contains("n_ctx") && words.contains("prompt has");
    asks_for_less || is_beyond || is_counted
}

/// Returns whether one field is too long, rather than the conversation.
fn is_about_one_field(words: &str) -> bool {
    let names = [
        "description",
        "tool_call",
        "function name",
        "'name'",
        ".name",
    ];
    names.iter().any(|name| words.contains(name))
        || (words.contains("image") && !words.contains("token"))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;

    fn refusal(status: u16, document: Value) -> ProviderRefusal {
        ProviderRefusal {
            status: StatusCode::from_u16(status).expect("a status"),
            document,
            after: None,
        }
    }

    #[test]
    fn every_phrasing_is_understood() {
        for text in [
            "Please use a shorter prompt.",
            "This model supports a maximum of 4096 tokens, but 5000 were given.",
            "9000 tokens > 8192",
            "Token limit reached: 9000/8192",
            "The prompt exceeds the model's context.",
            "The prompt does not fit into the context.",
            "Context window is full.",
            "Your message is too long.",
            "Prompt (9000) and max_tokens (100) go over 8192 tokens",
            // OpenAI, Azure, and servers with the same phrasing.
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. Please reduce the length of the messages.",
            "This model's maximum context length is 8192 tokens. However, you requested 10000 tokens (2000 in the messages, 8000 in the completion). Please reduce the length of the messages or completion.",
            "This endpoint's maximum context length is 131072 tokens. However, you requested about 140000 tokens (139000 of text input, 1000 in the output). Please reduce the length of either one, or use the \"middle-out\" transform to compress your prompt automatically.",
            "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens. Please reduce the length of the messages.",
            "Your input exceeds the context window of this model. Please adjust your input and try again.",
            "Invalid 'messages[1].content': string too long. Expected a string with maximum length 1048576, but got a string with length 2000000 instead. Reduce the length of the messages.",
            "Please reduce the length of the messages or completion.",
            // Anthropic, Bedrock, Vertex.
            "prompt is too long: 201000 tokens > 200000 maximum",
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length or `max_tokens` and try again",
            "Input is too long for requested model.",
            "The model returned the following errors: Input is too long for requested model.",
            "Too many input tokens. Max input tokens: 128000, request input token count: 140000",
            "ValidationException: The maximum tokens you requested exceeds the model limit of 4096. Try again with a shorter prompt, the input is too long.",
            // Google.
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            "Unable to submit request because the input token count is 40000 but model only supports up to 32768. Reduce the input token count and try again.",
            // Mistral, Cohere, Groq, xAI, DeepSeek.
            "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
            "Prompt contains 65673 tokens, too large for model with 32768 maximum context length",
            "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000. Try using a shorter prompt, or enabling prompt truncating.",
            "Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192",
            "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
            "This model's maximum context length is 65536 tokens. However, you requested 70000 tokens (66000 in the messages, 4000 in the completion).",
            // Together, Fireworks, SambaNova, Cerebras, Copilot, Perplexity, Baseten.
            "`inputs` tokens + `max_new_tokens` must be <= 8192. Given: 9000 `inputs` tokens and 1 `max_new_tokens`",
            "Input validation error: `inputs` must have less than 4095 tokens. Given: 5000",
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 100 `max_new_tokens`",
            "The prompt is too long: 40000, model maximum context length: 32767",
            "The number of input tokens (9000) exceeds the maximum context length",
            "Current length is 8193 while limit is 8192. Please reduce the length of the messages or completion.",
            "prompt token count of 130000 exceeds the limit of 128000",
            "Please reduce the length of the prompt or max_tokens.",
            "The request exceeds the maximum sequence length",
            // Qwen, MiniMax, Moonshot, Zhipu, Baidu, ByteDance.
            "Range of input length should be [1, 30720]",
            "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 129024]",
            "invalid params, context window exceeds limit",
            "Your request exceeded model token limit: 8192",
            "Invalid request: Your request exceeded model token limit: 131072 (requested: 140000)",
            "the length of messages exceeds the maximum tokens limit",
            "Total tokens of image and text exceed max message tokens. Please reduce the length of the input messages, context",
            // llama.cpp, vLLM, SGLang, TGI, TensorRT-LLM, Ollama, LM Studio, LocalAI, MLX,
            // KoboldCpp, LiteLLM.
            "the request exceeds the available context size. try increasing the context size or enable context shift",
            "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
            "input is too large to process. increase the physical batch size: too many tokens",
            "context shift is disabled: the context size has been exceeded",
            "The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make sure that `max_model_len` is no smaller than the number of text tokens.",
            "The prompt (total length 5000) is too long to fit into the model (context length 4096).",
            "'max_tokens' or 'max_completion_tokens' is too large: 1000. This model's maximum context length is 8192 tokens and your request has 8000 input tokens (1000 > 8192 - 8000).",
            "You passed 9000 input tokens and requested 100 output tokens. However, the model's context length is only 8192 tokens. Please reduce the length of the input prompt.",
            "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
            "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of 9000 tokens: 8000 tokens from the input messages and 1000 tokens for the completion.",
            "Prompt length (5000) exceeds maximum input length (4096).",
            "Encountered an error in forwardAsync function: Input length (9000) + max new tokens (100) exceeds max_seq_len (8192)",
            "input length exceeds maximum context length",
            "input length exceeds the context length",
            "The number of tokens to keep from the initial prompt is greater than the context length",
            "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough.",
            "The requested tokens (5000) exceed context window of 4096",
            "Requested tokens (5000) exceed context window of 4096",
            "litellm.ContextWindowExceededError: This model's maximum context length is 4096 tokens.",
            "Prompt too long; exceeded max context length by 100 tokens",
            "token limit exceeded: the prompt has 9000 tokens",
            "This request would exceed the model's maximum input length",
            "The total number of tokens (9000) is more than the model's context window",
            "Request body too large for gpt-4o model. Max size: 8000 tokens.",
        ] {
            for document in [
                json!({"error": {"message": text, "type": "invalid_request_error", "code": null}}),
                json!({"detail": text}),
                json!(text),
                json!({"error": {"code": 400, "message": "Provider returned error", "metadata": {"raw": json!({"message": text}).to_string()}}}),
            ] {
                assert!(is_too_large(&refusal(400, document.clone())), "{document}");
                assert!(is_too_large(&refusal(422, document)), "{text}");
            }
        }
        for code in CODES {
            assert!(
                is_too_large(&refusal(
                    400,
                    json!({"error": {"code": code, "message": "no"}})
                )),
                "{code}"
            );
        }
    }

    #[test]
    fn a_status_of_413_needs_no_words() {
        for document in [
            json!(""),
            json!("<html><h1>413 Request Entity Too Large</h1></html>"),
            json!({"error": {"code": "rate_limit_exceeded", "message": "Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 9000"}}),
        ] {
            assert!(is_too_large(&refusal(413, document)));
        }
    }

    #[test]
    fn other_complaints_are_not_taken_for_it() {
        for text in [
            "max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you provided 100000.",
            "max_tokens must be less than or equal to 8192",
            "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens for claude",
            "`max_completion_tokens` must be at most 4096",
            "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            "temperature is too high",
            "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead.",
            "Invalid 'tools': array too long. Expected an array with maximum length 128, but got an array with length 200 instead.",
            "Invalid 'tools[0].function.description': string too long. Expected a string with maximum length 1024, but got a string with length 2000 instead.",
            "Invalid 'tools[0].function.name': string too long. Expected a string with maximum length 64, but got a string with length 70 instead.",
            "Invalid 'messages[2].tool_calls[0].id': string too long. Expected a string with maximum length 40",
            "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000, Requested 5000.",
            "You exceeded your current quota, please check your plan and billing details.",
            "This request would exceed your organization's rate limit of 40000 input tokens per minute",
            "System message must be at the beginning.",
            "Conversation roles must alternate user/assistant/user/assistant/...",
            "Unexpected role 'user' after role 'tool'",
            "Invalid schema for function 'f': None is not of type 'object'",
            "model not found",
            "The model `x` does not exist or you do not have access to it.",
            "Failed to call a function. Please adjust your prompt.",
            "messages: text content blocks must be non-empty",
            "Invalid type for 'messages[0].content': expected a string",
            "stream_options is not permitted",
            "image exceeds 5 MB maximum",
            "The image is too large",
            "duplicate tool call id",
            "Invalid authentication token",
            "top_logprobs must be at most 20",
        ] {
            let document = json!({"error": {"message": text, "code": 400}});
            assert!(!is_too_large(&refusal(400, document)), "{text}");
        }
        // Rate limits, in various phrasings.
        let rate = json!({"error": {"message": "input token count exceeds the limit of 1000"}});
        assert!(!is_too_large(&refusal(429, rate)));
    }

    #[test]
    fn what_fails_on_the_servers_side_is_not_too_large() {
        for text in [
            "oauth2: cannot fetch token: Post \"https://oauth2.example/token\": context deadline exceeded",
            "HTTPSConnectionPool(host='x'): Max retries exceeded with url: /v1/messages/count_tokens",
            "The context exceeded its tokens",
        ] {
            let refusal = refusal(500, json!({"error": {"message": text}}));
            assert!(!is_too_large(&refusal), "{text}");
        }
    }

    #[test]
    fn one_field_that_is_too_long_is_told_from_the_conversation() {
        let of = |status: u16, text: &str, code: &str| {
            is_too_large(&refusal(
                status,
                json!({"error": {"message": text, "code": code}}),
            ))
        };
        let string = "string_above_max_length";
        assert!(!of(
            400,
            "Invalid 'tools[0].function.description': string too long. Expected a string with maximum length 1024.",
            string
        ));
        assert!(of(
            400,
            "Invalid 'messages[0].content': string too long. Expected a string with maximum length 10485760.",
            string
        ));
        assert!(of(
            400,
            "Invalid 'messages': array too long. Expected an array with maximum length 2048.",
            "array_above_max_length"
        ));
        let rate = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 45000. The input or output tokens must be reduced in order to run successfully.";
        assert!(of(429, rate, "rate_limit_exceeded"));
        assert!(!of(
            429,
            "Rate limit reached on tokens per min (TPM)",
            "rate_limit_exceeded"
        ));
        assert!(of(
            400,
            "Request payload size exceeds the limit: 20971520 bytes.",
            ""
        ));
        for text in [
            "Request body size exceeds limit of 1048576 bytes",
            "payload too large",
            "the prompt has 9000 tokens, n_ctx = 8192",
        ] {
            assert!(of(400, text, ""), "{text}");
        }
        assert!(of(400, "Prompt 超长", "1261"));
    }
}
