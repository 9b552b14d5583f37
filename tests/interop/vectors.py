"""Reads every private key and PKCS#12 file of cryptography_vectors with pyca's cryptography.

Writes for each file what cryptography made of it into the folder of the first argument, as
files.json, and a certificate for each key, for tests/it/certificate_vectors.rs.
"""

import datetime
import hashlib
import json
import pathlib
import sys
import warnings

import cryptography_vectors
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

warnings.simplefilter("ignore")
out = pathlib.Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
root = pathlib.Path(cryptography_vectors.__file__).parent

# The passwords of the files, from cryptography's own tests.
PASSWORDS = [
    "password", "cryptography", "foobar", "123456", "a123456", "baz", "hunter2", "hunter42", "PolarSSLTest",
    "Red Hat Enterprise Linux 7.4", "test", "changeit", "",
]
# Keys of SSH, and chains of certificates with text that looks like a key.
NOT_HERE = ("OpenSSH", "cryptography.io.chain_with_garbage.pem", "cryptography.io.with_garbage.pem",
            "cryptography.io.with_headers.pem")

ca_key = ec.generate_private_key(ec.SECP256R1())
now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)


def first(read, passwords):
    """The first password that reads, and what was read."""
    for password in passwords:
        try:
            encoded = None if password is None else password.encode()
            return password, read(encoded)
        except Exception:
            pass
    return None, None


def kind(key):
    if isinstance(key, rsa.RSAPrivateKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return f"EC {key.curve.name}"
    if isinstance(key, dsa.DSAPrivateKey):
        return "DSA"
    return type(key).__name__.strip("_")


def issue(key):
    """A certificate for any key that a certificate can hold."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vector")])
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    )
    return builder.sign(ca_key, hashes.SHA256())


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


fallback = issue(ca_key)
files = []
for path in sorted(root.rglob("*")):
    relative = path.relative_to(root)
    if not path.is_file() or any(part in NOT_HERE for part in relative.parts):
        continue
    content = path.read_bytes()
    if path.suffix in (".p12", ".pfx"):
        read = lambda password: pkcs12.load_key_and_certificates(content, password)
        password, contents = first(read, [None, *PASSWORDS])
        entry = {"format": "PKCS#12", "read": contents is not None}
        if contents is not None:
            key, certificate, _ = contents
            entry["key"] = kind(key) if key else None
            if certificate:
                der = certificate.public_bytes(serialization.Encoding.DER)
                entry["sha256"] = hashlib.sha256(der).hexdigest().upper()
            elif key:
                entry["sha256"] = None
    elif path.suffix == ".pem" and b"PRIVATE KEY-----" in content or (
        path.suffix == ".der" and relative.parts[0] == "asymmetric"
        and "pub" not in path.name and relative.parts[1] != "public"
    ):
        load = (
            serialization.load_pem_private_key if path.suffix == ".pem"
            else serialization.load_der_private_key
        )
        password, key = first(lambda password: load(content, password), [None, *PASSWORDS])
        entry = {"format": path.suffix[1:], "read": key is not None}
        certificate = fallback
        if key is not None:
            entry["key"] = kind(key)
            try:
                certificate = issue(key)
            except Exception:
                pass
        name = f"{len(files)}.crt"
        (out / name).write_bytes(pem(certificate))
        entry["certificate"] = name
    else:
        continue
    entry |= {"path": str(path), "name": str(relative), "password": password}
    files.append(entry)

(out / "files.json").write_text(json.dumps({"passwords": PASSWORDS, "files": files}, indent=1))
print(f"{len(files)} files, {sum(file['read'] for file in files)} read by cryptography")
