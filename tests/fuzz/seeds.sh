#!/usr/bin/env bash
# Writes the seeds of the targets that read private keys into the folder $1, one folder for each
# target. The seeds are created for each run, since the repository holds no private key.
set -euo pipefail
mkdir -p "$1"/{credentials,pem,der,pkcs12}
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
rm -r "$seeds/credentials"
