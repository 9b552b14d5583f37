use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};

use super::*;

fn shown(text: &str, secret: &str) -> String {
    Mask::of([secret].into_iter()).text(text)
}

#[test]
fn a_credential_is_masked_or_its_text_withheld() {
    let secret = "Abc8Q~dE.f3kLmN0pQrStUvWx-yZ ä";
    for (name, text, expected) in [
        ("as it is", format!("got {secret}."), "got [redacted]."),
        (
            "as a form sends it",
            "got Abc8Q%7EdE.f3kLmN0pQrStUvWx-yZ+%C3%A4.".to_owned(),
            "got [redacted].",
        ),
        (
            "otherwise encoded",
            "got Abc8Q%7edE.f3kLmN0pQrStUvWx-yZ%20%c3%a4.".to_owned(),
            "got [redacted].",
        ),
        (
            "cut",
            format!("got {}", secret.get(..20).unwrap()),
            WITHHELD,
        ),
        (
            "cut and encoded",
            "got c8Q%7EdE.f3kLmN0pQr".to_owned(),
            WITHHELD,
        ),
        (
            "inside a longer word",
            format!("gotx{secret}y"),
            "gotx[redacted]y",
        ),
        (
            "not at all",
            "got something else".to_owned(),
            "got something else",
        ),
    ] {
        assert_eq!(shown(&text, secret), expected, "{name}");
    }
}

#[test]
fn the_aadsts_code_stays_in_front_of_a_withheld_text() {
    let secret = "Abc8Q~dE.f3kLmN0pQrStUvWx";
    let part = secret.get(..20).unwrap();
    let code = format!("AADSTS7000215: {WITHHELD}");
    for (text, expected) in [
        (format!("AADSTS7000215: not '{part}'"), code.as_str()),
        (format!(" AADSTS7000215: not '{part}'"), &code),
        (format!("not '{part}', AADSTS7000215: no"), WITHHELD),
        (format!("AADSTS{part}: no"), WITHHELD),
        (format!("AADSTS: {part}"), WITHHELD),
        (format!("AADSTS123456789: {part}"), WITHHELD),
    ] {
        assert_eq!(shown(&text, secret), expected, "{text}");
    }
    let mask = Mask::of([].into_iter());
    assert_eq!(
        mask.excerpt("AADSTS50013: eyJhbGci"),
        "AADSTS50013: [withheld: the text may hold a token]"
    );
}

#[test]
fn a_secret_without_a_long_piece_is_found_in_any_encoding() {
    for (secret, text) in [
        (
            "correct horse battery staple",
            "correct%20horse%20battery%20staple",
        ),
        (
            "correct horse battery staple",
            "correct&#32;horse&nbsp;battery\\u0020staple",
        ),
        ("aB1~cD2~eF3~gH4", "aB1%7ecD2%7eeF3%7egH4"),
        ("pass\"phrase\\quoted", "pass\\\"phrase\\\\quoted"),
        ("domain\\new~name", r"domain\\new~name"),
        ("domain\\new~name", r"domain\new~name"),
        ("a\\u0041~secret", r"a\\u0041~secret"),
        ("{s3cret}[value]", "&lcub;s3cret&rcub;&lsqb;value&rbrack;"),
        ("s3cret-Value~1", "s3cret&#45;Value~1"),
        ("s3cret-Value~1", "s3cret%252DValue%257E1"),
        ("100%&<'\"\\/", "100%25%26%3C%27%22%5C%2F"),
        ("100%&<'\"\\/", "100%&amp;&lt;&#39;&quot;\\/"),
        ("100%&<'\"\\/", "100%&<'\\\"\\\\/"),
        ("100%25+x y", "100%25+x y"),
        ("100%25+x y", "100%2525%2Bx+y"),
    ] {
        let masked = shown(&format!("you sent {text}, no"), secret);
        assert_eq!(masked, "you sent [redacted], no", "{text}");
        let member = format!("client_secret%3D{text}\\u0026x");
        assert!(
            shown(&member, secret).starts_with("client_secret%3D[red"),
            "{text}"
        );
    }
}

#[test]
fn a_secret_in_base64_is_masked_wherever_it_stands_in_the_text_that_was_encoded() {
    for secret in ["hunter2 &", "8letters", "s3cret-Value~1??>>", "ÄÖÜäöüßß"] {
        for before in ["", "a", "ab", "client:"] {
            for after in ["", "a", "ab"] {
                let plain = format!("{before}{secret}{after}");
                for encoded in [
                    BASE64_STANDARD.encode(&plain),
                    BASE64_STANDARD_NO_PAD.encode(&plain),
                    BASE64_URL_SAFE.encode(&plain),
                    BASE64_URL_SAFE_NO_PAD.encode(&plain),
                    BASE64_STANDARD
                        .encode(&plain)
                        .replace('+', "%2B")
                        .replace('/', "%2f"),
                ] {
                    let masked = shown(&format!("Basic {encoded}, no"), secret);
                    assert_eq!(masked, "Basic [redacted], no", "{plain} as {encoded}");
                }
            }
        }
    }
}

#[test]
fn a_secret_is_masked_although_it_is_split_or_in_hexadecimal() {
    let secret = "s3cret-Value~1";
    for text in [
        "s3cret-<wbr>Value~1",
        "s3cret-<b class=\"x\">Value</b>~1",
        "s3cret-</p>\r\n  <p>Value~1",
        "s3cret-\r\n Value~1",
        "s3cret-&shy;Value&#8203;~1",
        "s3\u{200b}cret-Value~1",
        "s\0\x33\0c\0r\0e\0t\0-\0V\0a\0l\0u\0e\0~\0\x31",
        "s3cret-: Value~1",
        "s3cret-\",\"Value~1",
        "s3cret-\", \"detail\" : \"Value~1",
        "7333637265742d56616c75657e31",
        "7333637265742D56616C75657E31",
    ] {
        assert_eq!(
            shown(&format!("got {text}."), secret),
            "got [redacted].",
            "{text}"
        );
    }
    let secret = "Abc8Q~dE.f3kLmN0pQrStUvWx";
    assert_eq!(shown("got c8Q~dE.f3k<wbr>LmN0pQrS", secret), WITHHELD);
    for text in ["the password: is wrong", "<p>a</p>", "\",\"", "a: b"] {
        assert_eq!(shown(text, "passwordis"), text);
    }
}

#[test]
fn an_assertion_is_masked_too() {
    let assertion = "eyJhbGci.eyJhdWQi.c2lnbmF0dXJl";
    assert_eq!(
        shown("x eyJhbGci.eyJhdWQi.c2lnbmF0dXJl", assertion),
        "x [redacted]"
    );
    assert_eq!(shown("x eyJhbGci.eyJhdWQ", assertion), WITHHELD);
}

/// docs/failures.md O3.
#[test]
fn a_part_of_a_credential_does_not_withhold_a_text() {
    for (text, secret) in [
        ("use the correct tenant", "correct horse battery staple"),
        ("secret Value", "s3cret-Value~1"),
        ("a b c", "abc"),
        ("s3cret-Value~", "s3cret-Value~1"),
        ("Abc8Q~dE.f3kLmN", "Abc8Q~dE.f3kLmN0pQrStUvWx"),
        ("eyJhbGci.eyJ", "eyJhbGci.eyJhdWQi.c2lnbmF0dXJl"),
        ("7000215", "AADSTS7000215"),
    ] {
        assert_eq!(shown(text, secret), text, "{secret}");
    }
}

/// docs/failures.md O3.
#[test]
fn an_ordinary_secret_is_masked_as_a_whole_word_of_eight_characters_alone() {
    for (secret, text, expected) in [
        ("client", "the client is invalid", "the client is invalid"),
        ("s", "s is no secret's", "s is no secret's"),
        ("sevenxx", "sevenxx", "sevenxx"),
        (
            "password",
            "the password is wrong",
            "the [redacted] is wrong",
        ),
        (
            "password",
            "a passwordless user_password",
            "a passwordless user_password",
        ),
        ("password", "\"password\"", "\"[redacted]\""),
        ("client-secret", "client-secret!", "[redacted]!"),
        (
            "password",
            "x%3Dpassword\\npassword",
            "x%3D[redacted]\\n[redacted]",
        ),
    ] {
        assert_eq!(shown(text, secret), expected, "{secret}");
    }
}

#[test]
fn a_code_is_never_masked() {
    for code in ["invalid_client", "error", "client-secret", "a.b"] {
        assert_eq!(Mask::of([code].into_iter()).code(code), code);
    }
    assert_eq!(
        Mask::of(["Zq9~Secret"].into_iter()).code("Zq9~Secret"),
        MASK
    );
    assert_eq!(
        Mask::of([].into_iter()).code(" invalid_client\n"),
        "invalid_client"
    );
}

#[test]
fn a_long_text_is_cut_after_masking() {
    let kept = shown(&"ä".repeat(MAX_LENGTH + 1), "s3cret-Value");
    assert_eq!(kept.chars().count(), MAX_LENGTH);
    let straddling = format!("{} my pass phrase", "x".repeat(MAX_LENGTH - 3));
    assert!(!shown(&straddling, "my pass phrase").contains("my"));
    let encoded = format!("{} my%20pass%20phrase", "x".repeat(MAX_LENGTH - 3));
    assert!(!shown(&encoded, "my pass phrase").contains("my"));
}
