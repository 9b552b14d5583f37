"""Clients that nobody here wrote get tokens from a LocalAuthority over TLS, and PyJWT judges them.

Usage: local_authority.py BASE_URL FOLDER, as `cargo run --example local_authority -- PORT FOLDER`
serves it: FOLDER holds ca.pem and daemon.pem.
"""

import base64
import hashlib
import os
import pathlib
import ssl
import sys

import jwt
import msal
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

# The requests library lets these win over the CA that a program names.
for name in ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]:
    os.environ.pop(name, None)

base, folder = sys.argv[1], pathlib.Path(sys.argv[2])
tenant = "contoso.onmicrosoft.com"
client_id = "11111111-2222-3333-4444-555555555555"
scope = "https://graph.microsoft.com/.default"
ca = str(folder / "ca.pem")
pem = (folder / "daemon.pem").read_text()
split = pem.index("-----BEGIN PRIVATE KEY-----")
certificate, key = pem[:split], pem[split:]
token_endpoint = f"{base}/{tenant}/oauth2/v2.0/token"
passed = 0


def check(name, token):
    """The token's signature by the published keys, and its claims."""
    global passed
    context = ssl.create_default_context(cafile=ca)
    keys = jwt.PyJWKClient(f"{base}/{tenant}/discovery/v2.0/keys", ssl_context=context)
    claims = jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token),
        algorithms=["RS256"],
        audience="https://graph.microsoft.com",
        options={"require": ["aud", "iss", "sub", "iat", "nbf", "exp"]},
    )
    assert claims["roles"] == ["User.Read.All"], claims
    assert claims["azp"] == client_id, claims
    assert claims["iss"] == f"{base}/{claims['tid']}/v2.0", claims
    passed += 1
    print("ok  ", name)


def refused(name, code, answer):
    global passed
    assert code in answer.get("error_codes", []), answer
    passed += 1
    print("ok  ", name, code)


def by_msal(credential):
    application = msal.ConfidentialClientApplication(
        client_id,
        authority=f"{base}/{tenant}",
        client_credential=credential,
        instance_discovery=False,
        verify=ca,
    )
    return application.acquire_token_for_client([scope])


check("MSAL Python, secret", by_msal("s3cret")["access_token"])
with_certificate = {"private_key": key, "public_certificate": certificate}
check("MSAL Python, certificate", by_msal(with_certificate)["access_token"])
refused("MSAL Python, wrong secret", 7000215, by_msal("wrong"))


def by_authlib(method, secret, **form):
    session = OAuth2Session(client_id, secret, token_endpoint_auth_method=method, scope=scope)
    session.verify = ca
    return session.fetch_token(token_endpoint, grant_type="client_credentials", **form)


check("Authlib, client_secret_post", by_authlib("client_secret_post", "s3cret")["access_token"])
check("Authlib, client_secret_basic", by_authlib("client_secret_basic", "s3cret")["access_token"])
der = x509.load_pem_x509_certificate(certificate.encode()).public_bytes(Encoding.DER)
thumbprint = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
for algorithm in ["PS256", "RS256"]:
    method = PrivateKeyJWT(token_endpoint, headers={"x5t#S256": thumbprint}, alg=algorithm)
    # Entra wants the client id beside the assertion, where RFC 7521 section 4.2 does without.
    token = by_authlib(method, key, client_id=client_id)
    check(f"Authlib, private_key_jwt, {algorithm}", token["access_token"])

print(passed, "passed, 0 failed")
