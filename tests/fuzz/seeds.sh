#!/usr/bin/env bash
# Writes the seeds of the targets that read private keys into the folder $1, one folder for each
# target. The seeds are created for each run, since the repository holds no private key.
set -euo pipefail
mkdir -p "$1"/{credentials,pem,der,pkcs12,key_vault}
seeds=$(realpath "$1")
cases=$(realpath "$(dirname "$0")/../data/cases")
bash "$(dirname "$0")/../data/credentials.sh" "$seeds/credentials"
cd "$seeds/credentials"

# Larger keys have the same format and take longer to read.
cp {rsa2048,p256}.{pkcs8,key-first,traditional,scrambled,crlf,bag-attributes}.pem "$seeds/pem"
cp chain.p7b rsa2048.csr "$seeds/pem"
for key in rsa1024 p384 pss ed25519; do
    cat $key.crt $key.key >"$seeds/pem/$key"
done
for key in camellia old-encrypted; do
    cat rsa2048.crt $key.key >"$seeds/pem/$key"
done

cp {rsa2048,p256}.*.p12 no-*.p12 PBE-*.p12 "$cases"/*.p12 "$seeds/pkcs12"
# These files need 100000 rounds, as would every mutation.
rm "$seeds"/pkcs12/*.sha512.p12
cp trusted.pem "$seeds/pem"
for key in old-aes256 old-des3; do
    cat rsa2048.crt $key.key >"$seeds/pem/$key"
done
for name in rsa2048.pkcs8 p256.traditional; do
    sed ':a;N;$!ba;s/\n/\\n/g' $name.pem >"$seeds/pem/$name.escaped"
    tr '\n' ' ' <$name.pem >"$seeds/pem/$name.spaces"
    base64 -w 0 $name.pem >"$seeds/pem/$name.base64"
    printf '{"data": {"tls.pem": "%s"}}' "$(base64 -w 0 $name.pem)" >"$seeds/pem/$name.json"
done
for key in rsa2048 p256; do
    # A mutation behind a MAC or encryption would be rejected before parsing.
    openssl pkcs12 -export -in $key.crt -inkey $key.key -nomac -keypbe NONE -certpbe NONE \
        -passout pass: -out "$seeds/pkcs12/$key.plain"
    openssl pkcs12 -export -in $key.crt -inkey $key.key -nomac -iter 1 -certpbe NONE \
        -passout pass:hunter2 -out "$seeds/pkcs12/$key.key-encrypted"
    openssl pkcs12 -export -in $key.crt -inkey $key.key -iter 1 \
        -passout pass:hunter2 -out "$seeds/pkcs12/$key.fast"
    openssl pkcs12 -export -in $key.crt -inkey $key.key -iter 1 -legacy \
        -passout pass: -out "$seeds/pkcs12/$key.fast-legacy"
    base64 -w 0 "$seeds/pkcs12/$key.fast" >"$seeds/pkcs12/$key.base64"
done

# Writes the length of the certificate in two bytes, the certificate and the key, as the target der
# reads them.
der() {
    openssl x509 -in "$2" -outform DER -out certificate.der
    python3 -c '
import sys
certificate, key = (open(path, "rb").read() for path in ("certificate.der", "key.der"))
sys.stdout.buffer.write(len(certificate).to_bytes(2, "big") + certificate + key)
' >"$seeds/der/$1"
}
for key in rsa2048 p256 rsa1024 p384 pss ed25519; do
    openssl pkcs8 -topk8 -nocrypt -in $key.key -outform DER -out key.der
    der $key.pkcs8 $key.crt
done
for key in rsa2048 p256; do
    cp $key.traditional.der key.der
    der $key.traditional $key.crt
    # The minimum of rounds, for many inputs a second.
    encrypted() {
        openssl pkcs8 -topk8 -in $key.key -passout pass:hunter2 "${@:2}" -out key.pem
        cat $key.crt key.pem >"$seeds/pem/$key.$1"
        sed '/-----/d' key.pem | base64 -d >key.der
        der "$key.$1" $key.crt
    }
    encrypted encrypted -iter 1
    encrypted scrypt -scrypt -scrypt_N 16 -scrypt_r 1 -scrypt_p 1
    encrypted hmac-sha1 -iter 1 -v2 aes-256-cbc -v2prf hmacWithSHA1
    encrypted 3des -iter 1 -v2 des3
    encrypted pbes1 -iter 1 -v1 PBE-SHA1-3DES
done

# Writes the status and the kind of the key in two bytes, and the responses of a vault in a line each.
vault() {
    openssl x509 -in $2.crt -outform DER -out certificate.der
    python3 -c '
import base64, json, sys
file, content_type, signs, exportable = sys.argv[1:]
text = lambda path: open(path).read()
cer = base64.b64encode(open("certificate.der", "rb").read()).decode()
attributes = {"enabled": True, "nbf": 1577836800, "exp": 4102444800, "created": 1577836800}
old = {"id": "https://contoso.vault.azure.net/certificates/app/0", "attributes": {"enabled": False}}
new = {"id": "https://contoso.vault.azure.net/certificates/app/1", "attributes": attributes}
version = {
    "id": new["id"], "kid": "https://contoso.vault.azure.net/keys/app/1", "cer": cer,
    "attributes": attributes, "policy": {"key_props": {"exportable": exportable == "true"}},
}
if signs == "1":
    private = {"kid": version["kid"], "value": "A" * 342 + "_-"}
else:
    private = {"value": text(file), "contentType": content_type, "id": new["id"]}
sys.stdout.buffer.write(bytes([0, int(signs)]))
print(json.dumps({"value": [old, new]}), json.dumps(version), json.dumps(private), sep="\n")
' "${@:3}" >"$seeds/key_vault/$1"
}
vault signs rsa2048 - - 1 false
vault not-exportable rsa2048 rsa2048.pkcs8.pem application/x-pem-file 0 false
for key in rsa2048 p256; do
    vault $key.pem $key $key.pkcs8.pem application/x-pem-file 0 true
    vault $key.pkcs12 $key "$seeds/pkcs12/$key.base64" application/x-pkcs12 0 true
done
rm -r "$seeds/credentials"
