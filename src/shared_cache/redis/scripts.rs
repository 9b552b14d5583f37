use std::sync::LazyLock;

use ::redis::{Cmd, cmd};
use sha1::{Digest, Sha1};

use super::connection::RedisLease;
use super::failure::RedisFailure;
use super::reply::Reply;

/// A script that Redis runs atomically over the record and the lock of one name.
///
/// A record is a hash with the fields `g` (generation), `v` (value), `i` (owner of the redemption)
/// and `t` (start of the redemption in milliseconds).
pub(super) struct Script {
    /// The script with the flags that Redis 7 knows.
    flagged: Program,
    plain: Program,
}

struct Program {
    code: String,
    /// The SHA-1 by which Redis names a script that it has.
    hash: String,
}

impl Script {
    fn new(flag: &str, body: &str) -> Self {
        let code = format!("{FUNCTIONS}{body}");
        Self {
            flagged: Program::new(format!("#!lua flags={flag}\n{code}")),
            plain: Program::new(code),
        }
    }

    /// Runs the script.
    ///
    /// A second command follows only a first that did nothing: Redis did not have the script, or
    /// does not know its flags.
    pub(super) async fn run(
        &self,
        lease: &mut RedisLease,
        name: &str,
        arguments: &[&[u8]],
    ) -> Result<Reply, RedisFailure> {
        if lease.knows_flags() {
            match self.flagged.run(lease, name, arguments).await {
                Err(failure) if failure.is_unknown_flag() => lease.forget_flags(),
                result => return result,
            }
        }
        self.plain.run(lease, name, arguments).await
    }
}

impl Program {
    fn new(code: String) -> Self {
        let hash = Sha1::digest(&code);
        Self {
            hash: hash.iter().map(|octet| format!("{octet:02x}")).collect(),
            code,
        }
    }

    async fn run(
        &self,
        lease: &mut RedisLease,
        name: &str,
        arguments: &[&[u8]],
    ) -> Result<Reply, RedisFailure> {
        let by_hash = command("EVALSHA", &self.hash, name, arguments);
        match lease.send(&by_hash).await {
            Err(failure) if failure.is_unknown_script() => {
                let by_code = command("EVAL", &self.code, name, arguments);
                lease.send(&by_code).await.map(Reply)
            }
            result => result.map(Reply),
        }
    }
}

fn command(verb: &str, script: &str, name: &str, arguments: &[&[u8]]) -> Cmd {
    let mut command = cmd(verb);
    command
        .arg(script)
        .arg(2)
        .arg(format!("{{{name}}}:r"))
        .arg(format!("{{{name}}}:l"));
    for argument in arguments {
        command.arg(argument);
    }
    command
}

/// Generations are compared as texts, because a number of Lua has 53 bits. A hash without a
/// generation or without a value is no record.
const FUNCTIONS: &str = r"
local record, lock = KEYS[1], KEYS[2]
local function milliseconds()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end
local function is_later(a, b)
  return #a > #b or (#a == #b and a > b)
end
local function read()
  local fields = redis.call('HMGET', record, 'g', 'v', 'i', 't')
  local generation, value, owner, since = unpack(fields)
  if not generation or not value or not string.match(generation, '^%d+$')
    or is_later(generation, '18446744073709551615') then
    return {}
  end
  local remaining = math.max(0, redis.call('PTTL', record))
  if not owner then
    return {generation, value, remaining}
  end
  local age = math.max(0, milliseconds() - (tonumber(since) or 0))
  return {generation, value, remaining, owner, age}
end
";

pub(super) static GET: LazyLock<Script> =
    LazyLock::new(|| Script::new("no-writes", "return read()"));

/// A full server rejects nothing after it has begun a redemption: the new refresh token would be
/// lost, and with it the session.
pub(super) static PUT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "allow-oom",
        r"
local old = read()[1]
local replaces = ARGV[4]
if replaces then
  if old ~= replaces then
    return 0
  end
elseif old and not is_later(ARGV[1], old) then
  return 0
end
redis.call('HSET', record, 'g', ARGV[1], 'v', ARGV[2])
redis.call('HDEL', record, 'i', 't')
redis.call('PEXPIRE', record, ARGV[3])
return 1
",
    )
});

/// A lock without an end is no lock of the cache, and is replaced.
pub(super) static LOCK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "allow-oom",
        r"
local found = read()
local owner = redis.call('GET', lock)
local remaining = redis.call('PTTL', lock)
if owner and owner ~= ARGV[1] and remaining >= 0 then
  return {remaining, found}
end
redis.call('SET', lock, ARGV[1], 'PX', ARGV[2])
return {-1, found}
",
    )
});

pub(super) static UNLOCK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "allow-oom",
        r"
if redis.call('GET', lock) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', lock)
",
    )
});

pub(super) static BEGIN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "allow-oom",
        r"
local found = read()
if redis.call('GET', lock) ~= ARGV[1] then
  return -1
end
if found[1] ~= ARGV[2] then
  return -2
end
if found[4] then
  return -3
end
redis.call('HSET', record, 'i', ARGV[1], 't', string.format('%.0f', milliseconds()))
return 1
",
    )
});

pub(super) static CANCEL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "allow-oom",
        r"
local found = read()
if found[1] ~= ARGV[2] or found[4] ~= ARGV[1] then
  return 0
end
return redis.call('HDEL', record, 'i', 't')
",
    )
});
