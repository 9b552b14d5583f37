"""What Authlib of PyPI makes of `testing::LocalAuthority` as an OpenID provider.

Usage: python foreign_clients.py DESCRIPTION, a file that tests/it/foreign_clients.rs writes.
"""

import base64
import hashlib
import json
import os
import pathlib
import sys
import urllib.parse

import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jwt
from joserfc.jwk import KeySet

# The requests library lets these win over the CA that a program names.
for name in ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]:
    os.environ.pop(name, None)

world = json.loads(pathlib.Path(sys.argv[1]).read_text())
folder = pathlib.Path(world["folder"])
ca = str(folder / "ca.pem")
orders, parcels, secret = world["orders"], world["parcels"], world["secret"]
passed = 0


def ok(name):
    global passed
    passed += 1
    print("ok  ", name)


def session(client_id, credential=secret, method="client_secret_basic", cert=None):
    session = OAuth2Session(client_id, credential, token_endpoint_auth_method=method)
    session.verify, session.cert = ca, cert
    return session


def refused(error, call):
    try:
        answer = call()
    except Exception as exception:
        assert getattr(exception, "error", None) == error, repr(exception)
    else:
        raise AssertionError(answer)


issuer = world["issuer"]
answer = requests.get(f"{issuer}/.well-known/openid-configuration", verify=ca)
server = AuthorizationServerMetadata(answer.json())
assert server.issuer == issuer
for check in [
    "response_types_supported",
    "grant_types_supported",
    "token_endpoint_auth_methods_supported",
    "token_endpoint_auth_signing_alg_values_supported",
    "introspection_endpoint",
    "code_challenge_methods_supported",
    "jwks_uri",
]:
    getattr(server, f"validate_{check}")()
ok("the metadata")
keys = KeySet.import_key_set(requests.get(server.jwks_uri, verify=ca).json())
token_endpoint = server.token_endpoint


def claims_of(token):
    claims = jwt.decode(token["access_token"], keys, algorithms=["RS256"]).claims
    assert claims["iss"] == issuer and claims["aud"] == orders, claims
    return claims


def grant(session, scope=f"{orders}/.default", **form):
    return session.fetch_token(token_endpoint, grant_type="client_credentials", scope=scope, **form)


for method in ["client_secret_basic", "client_secret_post"]:
    assert claims_of(grant(session("web", method=method)))["roles"] == ["Orders.Read"]
    refused("invalid_client", lambda: grant(session("web", "wrong", method)))
ok("a secret")

pem = (folder / "key.pem").read_text()
split = pem.index("-----BEGIN PRIVATE KEY-----")


def der(name):
    return x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes()).public_bytes(Encoding.DER)


def thumbprint(name):
    return base64.urlsafe_b64encode(hashlib.sha256(der(name)).digest()).rstrip(b"=").decode()


for algorithm in ["PS256", "RS256"]:
    for audience in [token_endpoint, issuer]:
        method = PrivateKeyJWT(audience, headers={"x5t#S256": thumbprint("key")}, alg=algorithm)
        # Without the client id, and with it.
        for form in [{}, {"client_id": "web"}]:
            claims_of(grant(session("web", pem[split:], method), **form))
ok("private_key_jwt")

alias = server["mtls_endpoint_aliases"]["token_endpoint"]


def by_certificate(name):
    with_certificate = session("tls", None, "none", str(folder / f"{name}.pem"))
    return with_certificate.fetch_token(alias, grant_type="client_credentials", scope=f"{orders}/.default")


bound = by_certificate("tls")
assert claims_of(bound)["cnf"] == {"x5t#S256": thumbprint("tls")}, bound
refused("invalid_client", lambda: by_certificate("stranger"))
ok("a client certificate, and the bound token")
certificate = urllib.parse.quote(x509.load_der_x509_certificate(der("tls")).public_bytes(Encoding.PEM).decode())
for headers, status in [({}, 401), ({"x-client-cert": certificate}, 200)]:
    headers |= {"authorization": f"Bearer {bound['access_token']}"}
    answer = requests.get(f"{world['api']}/orders", headers=headers)
    assert answer.status_code == status, (answer.status_code, answer.headers)
ok("the API, with the certificate of the token")

opaque = grant(session("web"), f"{parcels}/.default")["access_token"]


def introspect(client_id, token):
    api = session(client_id)
    return api.introspect_token(server["introspection_endpoint"], token=token, token_type_hint="access_token").json()


active = introspect("parcels", opaque)
assert active["active"] is True and active["client_id"] == "web" and active["aud"] == parcels, active
for client_id, token in [("parcels", "unknown"), ("gateway", opaque)]:
    assert introspect(client_id, token) == {"active": False}
ok("introspection")


def exchange(**changes):
    parameters = {
        "subject_token": world["users_token"],
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "audience": orders,
    }
    return session("gateway").fetch_token(
        token_endpoint,
        grant_type="urn:ietf:params:oauth:grant-type:token-exchange",
        **parameters | changes,
    )


token = exchange()
assert token["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token", token
assert claims_of(token)["scp"] == "read", token
refused("invalid_target", lambda: exchange(audience="api://unknown"))
ok("token exchange")

print(passed, "passed, 0 failed")
