"""Judges a client assertion with PyJWT: read as JSON from standard input, exit code 0 if good.

Also checks that a tampered one is refused, so that this judge cannot be one who nods.
"""

import base64
import hashlib
import json
import sys
import uuid

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

given = json.load(sys.stdin)
assertion = given["assertion"]
certificate = x509.load_pem_x509_certificate(given["certificate"].encode())
thumbprint = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
expected_header = {
    "typ": "JWT",
    "alg": "PS256",
    "x5t#S256": base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode(),
}
assert jwt.get_unverified_header(assertion) == expected_header


def verify(token):
    return jwt.decode(
        token,
        certificate.public_key(),
        algorithms=["PS256"],
        audience=given["audience"],
        issuer=given["client_id"],
        options={"require": ["aud", "iss", "sub", "nbf", "exp", "jti"]},
    )


claims = verify(assertion)
assert claims["sub"] == given["client_id"]
assert claims["exp"] - claims["nbf"] == 600
uuid.UUID(claims["jti"])

head, body, signature = assertion.split(".")
claims["sub"] = "somebody else"
body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
try:
    verify(".".join([head, body, signature]))
except jwt.InvalidSignatureError:
    print("PyJWT", jwt.__version__, "accepts the assertion and refuses it tampered with")
else:
    sys.exit("a tampered assertion was accepted")
