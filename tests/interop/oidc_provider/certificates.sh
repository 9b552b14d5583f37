#!/usr/bin/env bash
# Writes into the folder $1, by openssl: the certificate of a CA (ca.pem), a server's by that CA
# (server.pem, server.key), and for each tenant's applications a self-signed certificate with its
# key in one file, named by the algorithm that the application is to sign with.
set -euo pipefail
mkdir -p "$1"
cd "$1"
exec 2>openssl.log

p256=(ec -pkeyopt ec_paramgen_curve:P-256)
openssl req -x509 -newkey "${p256[@]}" -nodes -days 30 -subj "/CN=interop CA" \
    -keyout ca.key -out ca.pem \
    -addext keyUsage=critical,keyCertSign
printf '%s\n' subjectAltName=IP:127.0.0.1,DNS:localhost extendedKeyUsage=serverAuth >server.ext
openssl req -newkey "${p256[@]}" -nodes -subj "/CN=localhost" -keyout server.key -out server.csr
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -set_serial 1 -days 30 \
    -extfile server.ext -out server.pem
rm ca.key

for tenant in one two; do
    mkdir -p $tenant
    for algorithm in PS256 RS256 ES256; do
        case $algorithm in
        ES256) key=("${p256[@]}") ;;
        *) key=(rsa:2048) ;;
        esac
        openssl req -x509 -newkey "${key[@]}" -nodes -days 30 -subj "/CN=$tenant $algorithm" \
            -keyout key -out certificate
        cat certificate key >$tenant/$algorithm.pem
        rm certificate key
    done
done
