"""Clients that nobody here wrote get tokens from a LocalAuthority over TLS, and PyJWT judges them.

Usage: local_authority.py BASE_URL FOLDER, as `cargo run --example local_authority -- PORT FOLDER`
serves it: FOLDER holds ca.pem and daemon.pem.
"""

import base64
import hashlib
import html
import os
import pathlib
import re
import ssl
import sys
import urllib.parse

import jwt
import msal
import requests
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
drive_id = "66666666-7777-8888-9999-000000000000"
adele = "adele@contoso.onmicrosoft.com"
redirect_uri = "http://localhost:5000/signed-in"
ca = str(folder / "ca.pem")
pem = (folder / "daemon.pem").read_text()
split = pem.index("-----BEGIN PRIVATE KEY-----")
certificate, key = pem[:split], pem[split:]
token_endpoint = f"{base}/{tenant}/oauth2/v2.0/token"
passed = 0


def claims_of(token, audience):
    """The claims, if the signature is good by the published keys and the token is for this audience, in its time."""
    context = ssl.create_default_context(cafile=ca)
    keys = jwt.PyJWKClient(f"{base}/{tenant}/discovery/v2.0/keys", ssl_context=context)
    claims = jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token),
        algorithms=["RS256"],
        audience=audience,
        options={"require": ["aud", "iss", "sub", "iat", "nbf", "exp"]},
    )
    assert claims["iss"] == f"{base}/{claims['tid']}/v2.0", claims
    return claims


def check(name, token):
    """An application's token."""
    claims = claims_of(token, "https://graph.microsoft.com")
    assert claims["roles"] == ["User.Read.All"], claims
    assert claims["azp"] == client_id, claims
    ok(name)


def check_user(name, token, audience, **expected):
    """A token in Adele's name, or her ID token."""
    claims = claims_of(token, audience)
    expected |= {"preferred_username": adele, "name": "Adele Vance", "ver": "2.0"}
    for claim, value in expected.items():
        assert claims[claim] == value, (claim, claims)
    assert "roles" not in claims, claims
    ok(name)
    return claims


def ok(name):
    global passed
    passed += 1
    print("ok  ", name)


def refused(name, code, answer):
    assert code in answer.get("error_codes", []), answer
    ok(f"{name} {code}")


def application(credential, client_id=client_id):
    return msal.ConfidentialClientApplication(
        client_id,
        authority=f"{base}/{tenant}",
        client_credential=credential,
        instance_discovery=False,
        verify=ca,
    )


def by_msal(credential):
    return application(credential).acquire_token_for_client([scope])


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


def sign_in(url, answer="accept"):
    """Follows the pages of an authorization request as a browser does; returns what the web app is sent, and how many pages there were."""
    browser = requests.Session()
    browser.verify, pages = ca, 0
    response = browser.get(url, allow_redirects=False)
    while response.status_code == 200:
        pages += 1
        action = html.unescape(re.search(r'action="([^"]*)"', response.text)[1])
        hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', response.text)
        form = {name: html.unescape(value) for name, value in hidden}
        user = re.search(rf'name="user" value="([^"]*)">[^/]*<br><small>{adele}', response.text)
        form |= {"user": user[1]} if user else {"answer": answer}
        target = urllib.parse.urljoin(base, action)
        response = browser.post(target, data=form, allow_redirects=False)
    assert response.status_code == 303, response.text
    location = response.headers["Location"]
    assert location.startswith(redirect_uri + "?"), location
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(location).query)), pages


files = ["api://drive/Files.Read"]
web = application("s3cret")
flow = web.initiate_auth_code_flow(files, redirect_uri=redirect_uri, prompt="select_account")
declined, _ = sign_in(flow["auth_uri"], answer="cancel")
assert declined["error"] == "access_denied", declined
ok("MSAL Python, consent declined")

assert "code_challenge=" in flow["auth_uri"], flow
back, pages = sign_in(flow["auth_uri"])
assert pages == 2, pages
signed_in = web.acquire_token_by_auth_code_flow(flow, back)
user = check_user(
    "MSAL Python, authorization code with PKCE",
    signed_in["access_token"],
    drive_id,
    scp="Files.Read",
    azp=client_id,
)
identity = check_user("MSAL Python, ID token", signed_in["id_token"], client_id, oid=user["oid"])
assert identity["sub"] != user["sub"], "it is another for each audience"
again = application("s3cret").acquire_token_by_auth_code_flow(flow, back)
refused("MSAL Python, the same code again", 54005, again)

[account] = web.get_accounts()
assert account["username"] == adele, account
assert account["home_account_id"] == f"{user['oid']}.{user['tid']}", account
renewed = web.acquire_token_silent(files, account, force_refresh=True)
check_user("MSAL Python, refresh token", renewed["access_token"], drive_id, oid=user["oid"])

url = web.get_authorization_request_url(files, redirect_uri=redirect_uri)
back, pages = sign_in(url)
assert pages == 1, "there is nothing to consent to the second time"
bare = web.acquire_token_by_authorization_code(back["code"], files, redirect_uri=redirect_uri)
check_user("MSAL Python, authorization code", bare["access_token"], drive_id, scp="Files.Read")

drive = application("s3cret", drive_id)
assertion = signed_in["access_token"]
graph = drive.acquire_token_on_behalf_of(assertion, ["https://graph.microsoft.com/User.Read"])
check_user(
    "MSAL Python, on behalf of",
    graph["access_token"],
    "https://graph.microsoft.com",
    oid=user["oid"],
    azp=drive_id,
)
other = drive.acquire_token_on_behalf_of(assertion, ["https://graph.microsoft.com/Mail.Read"])
refused("MSAL Python, on behalf of, without consent", 65001, other)
other = web.acquire_token_on_behalf_of(assertion, ["https://graph.microsoft.com/User.Read"])
refused("MSAL Python, on behalf of, another's token", 500131, other)

session = OAuth2Session(
    client_id,
    "s3cret",
    token_endpoint_auth_method="client_secret_basic",
    scope="openid profile api://drive/Files.Read",
    redirect_uri=redirect_uri,
    code_challenge_method="S256",
)
session.verify = ca
verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
authorize = f"{base}/{tenant}/oauth2/v2.0/authorize"
url, state = session.create_authorization_url(authorize, code_verifier=verifier, nonce="n-1")
back, _ = sign_in(url)
assert back["state"] == state, back
token = session.fetch_token(token_endpoint, code=back["code"], code_verifier=verifier)
check_user("Authlib, ID token", token["id_token"], client_id, nonce="n-1")

print(passed, "passed, 0 failed")
