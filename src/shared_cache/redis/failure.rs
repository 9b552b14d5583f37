use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use ::redis::{ErrorKind, RedisError};

use crate::error::Escaped;

/// An error of Redis or of the way to it, without a password or a value.
#[derive(Clone, Debug)]
pub(super) struct RedisFailure {
    message: String,
    remedy: Remedy,
    script: Option<ScriptProblem>,
}

/// The remedy for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The connection works.
    Wait,
    /// The connection is of no more use.
    Reconnect,
    /// The connection may be of no more use.
    ReconnectIfRepeated,
}

/// A rejection of a script before its first command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScriptProblem {
    Unknown,
    UnknownFlag,
}

impl RedisFailure {
    /// Describes an error of the crate `redis`. `server` is a noun, such as `Redis at redis:6379`.
    pub(super) fn new(server: &str, error: &RedisError) -> Self {
        let Some(reply) = ErrorReply::of(error) else {
            return Self::without_reply(server, error);
        };
        let remedy = match reply.code {
            "READONLY" | "MASTERDOWN" | "NOAUTH" | "WRONGPASS" => Remedy::Reconnect,
            _ => Remedy::Wait,
        };
        let script = match reply.code {
            "NOSCRIPT" => Some(ScriptProblem::Unknown),
            "ERR" if SCRIPT_ERRORS.iter().any(|text| reply.detail.contains(text)) => {
                Some(ScriptProblem::UnknownFlag)
            }
            _ => None,
        };
        Self {
            message: format!("{server} {reply}"),
            remedy,
            script,
        }
    }

    fn without_reply(server: &str, error: &RedisError) -> Self {
        if error.kind() == ErrorKind::AuthenticationFailed {
            return Self::reconnect(format!("{server} {WRONG_PASSWORD}"));
        }
        if error.is_timeout() {
            return Self::maybe_reconnect(format!("{server} did not respond in time"));
        }
        if error.is_connection_refusal() {
            return Self::reconnect(format!(
                "{server} does not accept connections ({error}); check the address, and that Redis runs"
            ));
        }
        // Texts of the system and of the crate `redis`, none of which has a value or a password.
        Self::reconnect(format!(
            "the connection to {server} failed: {}",
            Escaped(&error.to_string())
        ))
    }

    /// Returns `true` for an error that is no reply of the server.
    pub(super) fn is_lost(error: &RedisError) -> bool {
        error.code().is_none()
    }

    pub(super) fn not_connected(server: &str, limit: Duration) -> Self {
        Self::reconnect(format!(
            "{server} did not accept a connection within {limit:?}; check the address, the network and TLS"
        ))
    }

    pub(super) fn timed_out(server: &str, limit: Duration) -> Self {
        Self::maybe_reconnect(format!("{server} did not respond within {limit:?}"))
    }

    pub(super) fn ended(server: &str, has_panicked: bool) -> Self {
        Self::reconnect(match has_panicked {
            true => format!(
                "opening a connection to {server} panicked; a program with two providers of rustls must call rustls::crypto::CryptoProvider::install_default() first"
            ),
            false => format!("the runtime that opened a connection to {server} has shut down"),
        })
    }

    pub(super) fn no_runtime(server: &str) -> Self {
        Self::reconnect(format!(
            "a connection to {server} needs a Tokio runtime, and the call has none"
        ))
    }

    pub(super) fn unreadable(server: &str) -> Self {
        Self {
            message: format!("{server} responded with a value that no script of the cache returns"),
            remedy: Remedy::Wait,
            script: None,
        }
    }

    pub(super) fn too_few_replicas(server: &str, replicas: usize, wanted: usize) -> Self {
        Self {
            message: format!(
                "{replicas} replicas of {server} have the mark of the redemption, and wait_for_replicas asks for {wanted}; check the replication with INFO replication"
            ),
            remedy: Remedy::Wait,
            script: None,
        }
    }

    fn reconnect(message: String) -> Self {
        Self {
            message,
            remedy: Remedy::Reconnect,
            script: None,
        }
    }

    fn maybe_reconnect(message: String) -> Self {
        Self {
            message,
            remedy: Remedy::ReconnectIfRepeated,
            script: None,
        }
    }

    pub(super) fn remedy(&self) -> Remedy {
        self.remedy
    }

    pub(super) fn is_unknown_script(&self) -> bool {
        self.script == Some(ScriptProblem::Unknown)
    }

    pub(super) fn is_unknown_flag(&self) -> bool {
        self.script == Some(ScriptProblem::UnknownFlag)
    }
}

impl fmt::Display for RedisFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for RedisFailure {}

/// An error that the server replied.
struct ErrorReply<'a> {
    code: &'a str,
    detail: &'a str,
}

impl<'a> ErrorReply<'a> {
    fn of(error: &'a RedisError) -> Option<Self> {
        let code = error.code()?;
        let detail = error.detail().unwrap_or_default();
        // Before version 7, an error of a command in a script is in the text of the script's error.
        let inner = detail
            .split_whitespace()
            .filter_map(|word| word.strip_prefix('-'))
            .find_map(|word| CODES.iter().find(|(code, _)| *code == word));
        Some(match inner {
            Some((code, _)) if error.code() == Some("ERR") => Self { code, detail },
            _ => Self { code, detail },
        })
    }
}

impl fmt::Display for ErrorReply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((code, text)) = CODES.iter().find(|(code, _)| *code == self.code) {
            return write!(f, "{text} ({code})");
        }
        // Redis repeats the arguments of an unknown command, among which are values and passwords.
        let detail = self.detail.split(", with args").next().unwrap_or_default();
        let (code, detail) = (Escaped(self.code), Escaped(detail));
        write!(f, "responded with the error {code}: {detail}")
    }
}

/// The codes of Redis' errors, each with a sentence that begins with the server.
const CODES: [(&str, &str); 16] = [
    ("WRONGPASS", WRONG_PASSWORD),
    (
        "NOAUTH",
        "requires a password, and the connection has none; add the password to the URL of the redis::Client",
    ),
    (
        "NOPERM",
        "denies the user a command or a name of the shared cache; allow +eval +evalsha +ping +wait +get +set +pttl +del +hmget +hset +hdel +pexpire +time on ~{prefix*",
    ),
    (
        "READONLY",
        "is a read-only replica; use an address that leads to the primary",
    ),
    (
        "OOM",
        "has no memory left; raise maxmemory, or give the shared cache a separate Redis",
    ),
    (
        "NOREPLICAS",
        "has fewer replicas than min-replicas-to-write; check the replication with INFO replication",
    ),
    (
        "MISCONF",
        "rejects writes because it cannot save to disk; see the log of Redis",
    ),
    ("LOADING", "loads its data after a start; retry later"),
    (
        "BUSY",
        "runs a script of another program for too long; see SCRIPT KILL",
    ),
    (
        "MASTERDOWN",
        "is a replica without a primary; check the replication with INFO replication",
    ),
    (
        "CLUSTERDOWN",
        "belongs to a Redis Cluster that is down; see CLUSTER INFO",
    ),
    ("TRYAGAIN", "moves the names to another node; retry later"),
    ("MOVED", CLUSTER),
    ("ASK", CLUSTER),
    ("CROSSSLOT", CLUSTER),
    (
        "WRONGTYPE",
        "has a value of another program under a name of the shared cache; set SharedCacheOptions::prefix",
    ),
];

const WRONG_PASSWORD: &str = "rejected the user name or the password; give the redis::Client the current password, or read it in the closure of RedisCache::from_connector";

const CLUSTER: &str = "is a node of a Redis Cluster; open a cluster connection in the closure of RedisCache::from_connector";

/// Parts of the errors for a script with a first line that the server does not know.
const SCRIPT_ERRORS: [&str; 2] = ["compiling script", "shebang"];

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    fn failure(reply: &str) -> RedisFailure {
        let value = parse_redis_value(format!("-{reply}\r\n").as_bytes()).unwrap();
        RedisFailure::new("Redis at redis:6379", &value.extract_error().unwrap_err())
    }

    #[test]
    fn an_error_of_the_server_says_what_to_do() {
        use Remedy::{Reconnect, Wait};
        let rows = [
            (
                "WRONGPASS invalid username-password pair",
                Reconnect,
                "rejected the user name or the password",
            ),
            (
                "NOAUTH Authentication required.",
                Reconnect,
                "requires a password",
            ),
            (
                "READONLY You can't write against a read only replica.",
                Reconnect,
                "is a read-only replica",
            ),
            (
                "MASTERDOWN Link with MASTER is down",
                Reconnect,
                "is a replica without a primary",
            ),
            (
                "NOPERM ACL failure in script",
                Wait,
                "denies the user a command",
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Wait,
                "has no memory left",
            ),
            (
                "NOREPLICAS Not enough good replicas to write.",
                Wait,
                "min-replicas-to-write",
            ),
            (
                "MISCONF Redis is configured to save RDB snapshots",
                Wait,
                "cannot save to disk",
            ),
            (
                "LOADING Redis is loading the dataset in memory",
                Wait,
                "loads its data",
            ),
            (
                "BUSY Redis is busy running a script.",
                Wait,
                "runs a script of another program",
            ),
            (
                "CLUSTERDOWN The cluster is down",
                Wait,
                "Redis Cluster that is down",
            ),
            (
                "TRYAGAIN Multiple keys request during rehashing of slot",
                Wait,
                "moves the names",
            ),
            ("MOVED 866 10.0.0.1:6379", Wait, "open a cluster connection"),
            ("ASK 866 10.0.0.1:6379", Wait, "open a cluster connection"),
            (
                "CROSSSLOT Keys in request don't hash to the same slot",
                Wait,
                "open a cluster connection",
            ),
            (
                "WRONGTYPE Operation against a key",
                Wait,
                "has a value of another program",
            ),
        ];
        assert_eq!(rows.len(), CODES.len());
        for (reply, remedy, text) in rows {
            let failure = failure(reply);
            let code = reply.split(' ').next().unwrap();
            let message = failure.to_string();
            assert!(message.starts_with("Redis at redis:6379 "), "{message}");
            assert!(message.contains(text), "{message}");
            assert!(message.ends_with(&format!("({code})")), "{message}");
            assert_eq!(failure.remedy(), remedy, "{code}");
        }
    }

    #[test]
    fn another_error_shows_its_text_without_values() {
        let rows = [
            (
                "ERR max number of clients reached",
                "responded with the error ERR: max number of clients reached",
            ),
            (
                "ERR unknown command 'EVALSHA', with args beginning with: 'abc' 'the sealed value' ",
                "responded with the error ERR: unknown command 'EVALSHA'",
            ),
            (
                "STRANGE te\u{202e}xt",
                "responded with the error STRANGE: te\\u{202e}xt",
            ),
        ];
        for (reply, message) in rows {
            let expected = format!("Redis at redis:6379 {message}");
            assert_eq!(failure(reply).to_string(), expected);
        }
    }

    /// The texts of Redis 6.
    #[test]
    fn an_error_in_a_script_of_an_earlier_version_is_read() {
        let script = "ERR Error running script (call to f_6b1bf486c81ceb7edf3c093f4c48582e38c0e791): @user_script:1: @user_script: 1: ";
        let failure = failure(&format!(
            "{script}-READONLY You can't write against a read only replica."
        ));
        assert_eq!(failure.remedy(), Remedy::Reconnect);
        assert!(failure.to_string().contains("(READONLY)"), "{failure}");
    }

    #[test]
    fn a_script_is_rejected_before_its_first_command() {
        let unknown = failure("NOSCRIPT No matching script. Please use EVAL.");
        assert!(unknown.is_unknown_script() && !unknown.is_unknown_flag());
        for reply in [
            "ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'",
            "ERR Unexpected flag in script shebang: allow-oom",
        ] {
            let failure = failure(reply);
            assert!(failure.is_unknown_flag() && !failure.is_unknown_script());
        }
        let other = failure("ERR max number of clients reached");
        assert!(!other.is_unknown_flag() && !other.is_unknown_script());
    }
}
