"""azure-identity for Python gets tokens from a LocalManagedIdentity, and PyJWT judges them.

Usage: managed_identity.py OUTPUT, the file with the output of `cargo run --example
local_managed_identity -- KIND`.
"""

import os
import pathlib
import re
import sys

import jwt
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError, ManagedIdentityCredential

output = pathlib.Path(sys.argv[1]).read_text()
for name in list(os.environ):
    # Variables of this machine must not select another source or a proxy.
    if re.match("IDENTITY_|MSI_|IMDS_|AZURE_|.*_proxy$", name, re.IGNORECASE):
        del os.environ[name]
os.environ.update(re.findall(r"^export (\w+)=(.*)$", output, re.MULTILINE))


def printed(label):
    return re.search(f"^# {label} (.*)$", output, re.MULTILINE)[1]


resource = "https://vault.azure.net"
keys = jwt.PyJWKClient(printed("keys"))
passed = 0


def check(name, credential, client_id):
    token = credential.get_token(f"{resource}/.default").token
    claims = jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token),
        algorithms=["RS256"],
        audience=resource,
        issuer=printed("issuer"),
        options={"require": ["aud", "iss", "sub", "iat", "nbf", "exp"]},
    )
    assert claims["azp"] == client_id, (name, claims)
    assert claims["sub"] == claims["oid"], (name, claims)
    global passed
    passed += 1
    return claims


check("system-assigned", ManagedIdentityCredential(), printed("system-assigned"))
if "MSI_ENDPOINT" in os.environ or "IDENTITY_SERVER_THUMBPRINT" in os.environ:
    # Cloud Shell, Azure Machine Learning and Service Fabric do not select by every id.
    print(f"{passed} check of azure-identity passed")
    sys.exit()
client_id = printed("user-assigned client_id")
claims = check("client id", ManagedIdentityCredential(client_id=client_id), client_id)
assert claims["sub"] == printed("user-assigned object_id"), claims
assert claims["roles"] == ["Secrets.Read"], claims
config = {"object_id": printed("user-assigned object_id")}
check("object id", ManagedIdentityCredential(identity_config=config), client_id)
resource_id = printed("user-assigned resource_id")
config = {"resource_id": resource_id}
check("resource id", ManagedIdentityCredential(identity_config=config), client_id)

unassigned = "00000000-0000-0000-0000-000000000001"
try:
    token = ManagedIdentityCredential(client_id=unassigned).get_token(f"{resource}/.default")
    raise AssertionError("an identity that is not assigned got a token")
except (ClientAuthenticationError, CredentialUnavailableError) as error:
    assert re.search("not found|No Managed Identity", str(error)), error
    passed += 1
print(f"{passed} checks of azure-identity passed")
