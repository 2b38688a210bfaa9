//! Revoked tokens.

/// Adds a member to the set of what is revoked, and drops what has ended and what is too much.
pub(in super::super) const REVOKE: &str = "\
local key, member, at, ended, ttl, most = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
redis.call('ZADD', key, 'GT', at, member)
redis.call('ZREMRANGEBYSCORE', key, '-inf', ended)
redis.call('ZREMRANGEBYRANK', key, 0, -most - 1)
return redis.call('PEXPIRE', key, ttl)
";
