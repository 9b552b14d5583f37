#!/usr/bin/env bash
# Writes into the folder $1 a certificate of each kind of key in every format that an administrator
# may have in hand, by openssl. The tests run it, into a folder below target/.
set -euo pipefail
cd "$1"
exec 2>openssl.log

# The chain: a root, an intermediate, and below it every leaf.
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=root" -keyout root.key -out root.pem
openssl req -newkey rsa:2048 -nodes -subj "/CN=intermediate" -keyout intermediate.key -out intermediate.csr
printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n' >ca.ext
openssl x509 -req -in intermediate.csr -CA root.pem -CAkey root.key -CAcreateserial -days 30 \
    -extfile ca.ext -out intermediate.pem
cat intermediate.pem root.pem >cas.pem

formats() {
    key=$1
    case $key in
    rsa*) openssl genpkey -algorithm RSA -pkeyopt "rsa_keygen_bits:${key#rsa}" -out $key.key ;;
    p256) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $key.key ;;
    p384) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out $key.key ;;
    ed25519) openssl genpkey -algorithm ED25519 -out $key.key ;;
    esac
    openssl req -new -key $key.key -subj "/O=Contoso, Ltd./CN=$key" -out $key.csr
    openssl x509 -req -in $key.csr -CA intermediate.pem -CAkey intermediate.key \
        -set_serial "0x$(openssl rand -hex 8)" -days 30 -out $key.crt
    openssl x509 -in $key.crt -noout -pubkey >$key.pub
    openssl x509 -in $key.crt -noout -fingerprint -sha1 | sed 's/.*=//; s/://g' >$key.sha1
    openssl x509 -in $key.crt -noout -fingerprint -sha256 | sed 's/.*=//; s/://g' >$key.sha256
    # What x5c is to hold, a line each.
    for certificate in $key.crt intermediate.pem root.pem; do
        openssl x509 -in $certificate -outform DER | openssl base64 -A
        echo
    done >$key.x5c

    # PEM, not encrypted; the key as PKCS#8 and in its own old format, which Ed25519 does not have.
    case $key in
    ed25519) cp $key.key $key.old ;;
    *) openssl pkey -in $key.key -traditional -out $key.old ;;
    esac
    cat $key.crt $key.key >$key.pkcs8.pem
    cat $key.key $key.crt >$key.key-first.pem
    cat $key.crt $key.old >$key.traditional.pem
    cat root.pem $key.old intermediate.pem $key.crt >$key.scrambled.pem
    sed 's/$/\r/' $key.pkcs8.pem >$key.crlf.pem

    # DER.
    openssl x509 -in $key.crt -outform DER -out $key.crt.der
    openssl pkcs8 -topk8 -nocrypt -in $key.key -outform DER -out $key.pkcs8.der
    openssl pkey -in $key.key -traditional -outform DER -out $key.traditional.der

    # Encrypted PKCS#8: as OpenSSL 3 writes it, with scrypt, as OpenSSL 1.0 did, with 3DES.
    encrypted() {
        openssl pkcs8 -topk8 -in $key.key -passout pass:hunter2 "${@:2}" | cat $key.crt - >"$key.$1.pem"
    }
    encrypted encrypted
    encrypted scrypt -scrypt
    encrypted hmac-sha1 -v2 aes-256-cbc -v2prf hmacWithSHA1
    encrypted 3des -v2 des3
    encrypted pbes1 -v1 PBE-SHA1-3DES

    # PKCS#12: as OpenSSL 3 and Windows 10 write it, as older Windows and key vaults do, as
    # OpenSSL 1 did, and other things people have.
    pkcs12() {
        openssl pkcs12 -export -in $key.crt -inkey $key.key -certfile cas.pem \
            -passout "pass:$2" "${@:3}" -out "$key.$1.p12"
    }
    pkcs12 modern hunter2
    pkcs12 windows hunter2 -keypbe AES-256-CBC -certpbe AES-256-CBC -macalg SHA256 -iter 2000 \
        -CSP "Microsoft Enhanced RSA and AES Cryptographic Provider" -name "{31D5B2B6}"
    pkcs12 sha1-3des hunter2 -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg SHA1
    pkcs12 legacy hunter2 -legacy
    pkcs12 no-mac hunter2 -nomac
    pkcs12 no-password ""
    pkcs12 unicode 'pässwörd✓'
    pkcs12 sha512 hunter2 -macalg SHA512 -iter 100000
    pkcs12 plain-certificates hunter2 -certpbe NONE

    # PKCS#12 turned into PEM, with the text that openssl puts around it.
    openssl pkcs12 -in $key.modern.p12 -passin pass:hunter2 -nodes -out $key.bag-attributes.pem
    openssl pkcs12 -in $key.modern.p12 -passin pass:hunter2 -passout pass:hunter2 -out $key.bag-encrypted.pem
}
jobs=()
for key in rsa4096 rsa3072 rsa2048 p256 p384 ed25519; do
    (formats $key) &
    jobs+=($!)
done
for job in "${jobs[@]}"; do
    wait "$job"
done

# Encryption that OpenSSL reads with its legacy provider, listed in legacy.list.
legacy() {
    openssl "$1" "${@:3}" -passout pass:hunter2 -provider legacy -provider default >legacy.key
    cat rsa2048.crt legacy.key >"$2.legacy.pem"
    echo "$2.legacy.pem" >>legacy.list
}
for scheme in MD5-DES MD5-RC2-64 SHA1-DES SHA1-RC2-64 SHA1-RC4-128 SHA1-RC4-40 SHA1-3DES \
    SHA1-2DES SHA1-RC2-128 SHA1-RC2-40; do
    legacy pkcs8 "PBE-$scheme" -topk8 -in rsa2048.key -v1 "PBE-$scheme"
done
for cipher in des rc2 rc2-40-cbc rc2-64-cbc aes128 aes192; do
    legacy pkcs8 "pbes2-$cipher" -topk8 -in rsa2048.key -v2 "$cipher"
done
for prf in hmacWithMD5 hmacWithSHA224 hmacWithSHA384 hmacWithSHA512-224 hmacWithSHA512-256; do
    legacy pkcs8 "pbes2-$prf" -topk8 -in rsa2048.key -v2 aes256 -v2prf "$prf"
done
for scheme in SHA1-RC4-128 SHA1-RC4-40 SHA1-2DES SHA1-RC2-128 SHA1-RC2-40 MD5-DES; do
    openssl pkcs12 -export -in rsa2048.crt -inkey rsa2048.key -legacy -keypbe "PBE-$scheme" \
        -certpbe "PBE-$scheme" -passout pass:hunter2 -out "PBE-$scheme.p12"
    echo "PBE-$scheme.p12" >>legacy.list
done
for digest in md5 sha224 sha384 sha512 sha512-224 sha512-256; do
    openssl pkcs12 -export -in rsa2048.crt -inkey rsa2048.key -macalg "$digest" \
        -passout pass:hunter2 -out "mac-$digest.p12"
    echo "mac-$digest.p12" >>legacy.list
done

# Passwords outside of Latin, and one whose bytes OpenSSL 1.0 took for characters.
unicode() {
    openssl pkcs12 -export -in rsa2048.crt -inkey rsa2048.key -passout "pass:$2" "${@:3}" -out "$1.p12"
}
unicode astral '🔑 hunter2'
unicode astral-legacy '🔑 hunter2' -legacy
unicode old-unicode 'pÃ¤sswÃ¶rd' -legacy

# RSA-PSS keys: for every hash, for SHA-256, and for what PS256 is not.
pss() {
    openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 "${@:2}" -out "$1.key"
    openssl req -x509 -key "$1.key" -days 30 -subj "/CN=$1" -out "$1.crt"
    openssl pkey -in "$1.key" -pubout -out "$1.pub"
}
pss pss
restricted() { pss "$1" -pkeyopt "rsa_pss_keygen_md:$2" -pkeyopt "rsa_pss_keygen_mgf1_md:$2" -pkeyopt "rsa_pss_keygen_saltlen:$3"; }
restricted pss-sha256 sha256 32
restricted pss-sha512 sha512 64
restricted pss-salt sha256 48

# OpenSSL's old encryption, and formats with other labels or without PEM.
openssl rsa -in rsa2048.key -aes128 -traditional -passout pass:hunter2 -out old-encrypted.key
openssl rsa -in rsa2048.key -aes256 -traditional -passout pass:hunter2 -out old-aes256.key
openssl rsa -in rsa2048.key -des3 -traditional -passout pass:hunter2 -out old-des3.key
for cipher in aes192 des rc2 rc2-40-cbc rc2-64-cbc des-ede-cbc; do
    legacy rsa "old-$cipher" -in rsa2048.key "-$cipher" -traditional
done
openssl x509 -in rsa2048.crt -trustout -addtrust clientAuth -out trusted.pem
openssl pkcs8 -topk8 -in rsa2048.key -passout pass:hunter2 -outform DER -out encrypted.der

# What cannot be used.
openssl pkcs8 -topk8 -in rsa2048.key -passout pass:hunter2 -v2 camellia256 -out camellia.key
openssl pkcs12 -export -nokeys -in rsa2048.crt -passout pass:hunter2 -out no-key.p12
openssl pkcs12 -export -nocerts -inkey rsa2048.key -passout pass:hunter2 -out no-certificate.p12
openssl crl2pkcs7 -nocrl -certfile rsa2048.crt -out chain.p7b
openssl req -in rsa2048.csr -outform DER -out rsa2048.csr.der
openssl rsa -in rsa2048.key -pubout -outform DER -out public.der
printf 'database=index.txt\ndefault_md=sha256\ndefault_crl_days=30\n' | sed '1i[ca]\ndefault_ca=ca_default\n[ca_default]' >crl.cnf
: >index.txt
openssl ca -config crl.cnf -gencrl -keyfile root.key -cert root.pem -out crl.pem
openssl crl -in crl.pem -outform DER -out crl.der
openssl genpkey -algorithm ED448 -out ed448.key
openssl req -x509 -key ed448.key -days 30 -subj "/CN=ed448" -out ed448.crt
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521.key
openssl req -x509 -key p521.key -days 30 -subj "/CN=p521" -out p521.crt
openssl req -x509 -newkey rsa:1024 -nodes -days 30 -subj "/CN=rsa1024" -keyout rsa1024.key -out rsa1024.crt
