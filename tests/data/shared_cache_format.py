#!/usr/bin/env python3
"""Writes the fixed octets of src/shared_cache/format_version_1.rs, without the code of the crate.

Needs the package `cryptography`. docs/shared-cache.md describes the format. Prints the name of the
token's record, the name of the session's record, the content, and the value in base64.
"""
import base64
import hashlib
import hmac
import json
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NAME_KEY = b"the name key of format 1"
ENCRYPTION_KEY = bytes([7] * 32)
SALT = bytes(range(24))
GENERATION = 7


def base64url(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def part(octets):
    return struct.pack(">Q", len(octets)) + octets


def hashed(octets):
    return base64url(hashlib.sha256(octets).digest())


def name(kind, text):
    client = part(b"https://login.microsoftonline.com/")
    client += part(b"11111111-2222-3333-4444-555555555555")
    mac = hmac.new(NAME_KEY, bytes([kind]) + client + text, hashlib.sha256)
    return "confidential-client:" + base64url(mac.digest())


token = b"\x01" + part(b"contoso.onmicrosoft.com") + part(b"https://graph.microsoft.com/.default")
token += b"\x00"  # no user
token += struct.pack(">Q", 1) + part(b"fmi_path") + part(b"a/b")  # in the form
token += struct.pack(">Q", 0)  # in the query
token_name = name(1, token)
session_name = name(2, b"\x02" + part(b"oid.tid"))

content = json.dumps(
    {
        "lifetime_ms": 3599000,
        "token": {
            "access_token": "token-1",
            "issued_for_ms": 3599000,
            "expires_in_ms": 3599000,
            "refresh_in_ms": 3299000,
            "scopes": "https://graph.microsoft.com/.default",
            "correlation_id": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
            "claims": hashed(b'{"a":1}'),
        },
        "failure": {
            "failure": {
                "kind": "throttled",
                "message": "asked to wait",
                "status": 429,
                "correlation_id": "a1",
                "response": {
                    "error": "temporarily_unavailable",
                    "description": "busy",
                    "codes": [90055],
                    "suberror": "s",
                    "claims": "{}",
                    "trace_id": "t",
                    "timestamp": "u",
                    "error_uri": "v",
                },
            },
            "wait_ms": 7000,
            "failures": 2,
        },
        "rejected": [{"hash": hashed(b"token-0"), "age_ms": 1000}],
    },
    separators=(",", ":"),
)

key_id = hashlib.sha256(b"confidential-client key id" + ENCRYPTION_KEY).digest()[:8]
info = b"confidential-client record" + token_name.encode() + SALT + b"\x01"
record_key = hmac.new(ENCRYPTION_KEY, info, hashlib.sha256).digest()
header = bytes([1, 1]) + key_id
context = header + struct.pack(">Q", GENERATION) + token_name.encode()
sealed = AESGCM(record_key).encrypt(bytes(12), content.encode(), context)

print(token_name)
print(session_name)
print(content)
print(base64.b64encode(header + SALT + sealed).decode())
