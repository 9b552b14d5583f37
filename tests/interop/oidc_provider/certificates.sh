#!/usr/bin/env bash
# Writes into the folder $1, by openssl: the certificate of a CA (ca.pem), a server's by that CA
# (server.pem, server.key), and for each issuer's applications certificates with their keys, each
# pair in one file. A self-signed certificate that signs assertions is named by the algorithm.
set -euo pipefail
mkdir -p "$1"
cd "$1"
exec 2>openssl.log

# Sets `key` to what openssl is to generate for the algorithm $1.
key_for() {
    case $1 in
    ES256) key=(ec -pkeyopt ec_paramgen_curve:P-256) ;;
    ES384) key=(ec -pkeyopt ec_paramgen_curve:P-384) ;;
    EdDSA) key=(ed25519) ;;
    *) key=(rsa:2048) ;;
    esac
}

# Writes a self-signed certificate and its key, for the algorithm $1, into $2.pem.
self_signed() {
    key_for "$1"
    openssl req -x509 -newkey "${key[@]}" -nodes -days 30 -subj "/CN=${2//\// }" \
        -keyout key -out certificate
    cat certificate key >"$2.pem"
    rm certificate key
}

# Writes a certificate of the CA and its key into $2.pem and $2.key, with the subject $1 and the
# extensions $3 ..
issued() {
    key_for ES256
    printf '%s\n' "${@:3}" >extensions
    openssl req -newkey "${key[@]}" -nodes -subj "$1" -keyout "$2.key" -out request
    openssl x509 -req -in request -CA ca.pem -CAkey ca.key -days 30 \
        -extfile extensions -out "$2.pem"
    rm extensions request
}

key_for ES256
openssl req -x509 -newkey "${key[@]}" -nodes -days 30 -subj "/CN=interop CA" \
    -keyout ca.key -out ca.pem \
    -addext keyUsage=critical,keyCertSign
issued /CN=localhost server subjectAltName=IP:127.0.0.1,DNS:localhost extendedKeyUsage=serverAuth

for tenant in one two; do
    mkdir -p $tenant
    for algorithm in PS256 RS256 ES256; do
        self_signed $algorithm $tenant/$algorithm
    done
done

# The certificates of TLS clients: two for one application, as before and after a rotation, and one
# of another application.
mkdir -p bound
for name in tls tls_next stranger; do
    issued "/O=Contoso/CN=${name%_next}.example" bound/$name extendedKeyUsage=clientAuth
    cat bound/$name.key >>bound/$name.pem
    rm bound/$name.key
done
for name in self_signed self_signed_next unregistered; do
    self_signed ES256 bound/$name
done
for algorithm in PS256 RS256 ES256 ES384 EdDSA; do
    self_signed $algorithm bound/$algorithm
done
rm ca.key
