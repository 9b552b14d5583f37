//! An issuer in memory, for the crates beside it that check tokens.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use confidential_client::Authority;
use confidential_client::resource::{
    Claims, Holder, TokenRejection, TokenValidator, TokenValidatorBuilder,
};
use confidential_client::time::Clock;
use http::{Request, Response};

/// The day before the token ends.
struct Then(Instant);

impl Clock for Then {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 - 24 * 60 * 60)
    }

    fn monotonic(&self) -> Instant {
        self.0
    }
}

pub fn builder() -> TokenValidatorBuilder {
    TokenValidator::builder(Authority::oidc("https://id.example"))
        .audience("api://drive")
        .single_tenant()
        // The token says no more than its subject.
        .holder(|token| match token.holder() {
            Holder::Unknown if token.subject().is_some() => Holder::User,
            holder => holder,
        })
        .clock(Then(Instant::now()))
        .transport(|request: Request<Bytes>| async move {
            let body = match request.uri().path() {
                "/.well-known/openid-configuration" => {
                    r#"{"issuer":"https://id.example","jwks_uri":"https://id.example/keys"}"#
                        .to_owned()
                }
                _ => format!(
                    r#"{{"keys":[{{"kty":"RSA","use":"sig","kid":"1","e":"AQAB","n":"{MODULUS}"}}]}}"#
                ),
            };
            Ok(Response::new(Bytes::from(body)))
        })
}

/// Takes a good token, and refuses one that was changed.
#[allow(dead_code, reason = "the crate without signatures does another thing")]
pub fn validate() {
    let validator = builder().build().expect("a validator");
    let claims = block_on(&validator, TOKEN).expect("a good token");
    assert_eq!(claims.subject(), Some("adele"));
    claims
        .require_scope("Files.Read")
        .expect("what was granted");

    let (message, signature) = TOKEN.rsplit_once('.').expect("a signature");
    let (header, _) = message.split_once('.').expect("a header");
    // Of the same claims, and for ben.
    let changed = format!("{header}.{BENS}.{signature}");
    let refusal = block_on(&validator, &changed).expect_err("a changed token");
    assert_eq!(refusal.to_string(), "the token's signature is wrong");
}

fn block_on(validator: &TokenValidator, token: &str) -> Result<Claims, TokenRejection> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
        .block_on(validator.validate(token))
}

// Made once by `openssl genrsa` and `openssl dgst -sha256 -sign`; the private key was not kept.
const TOKEN: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhd\
    WQiOiJhcGk6Ly9kcml2ZSIsInN1YiI6ImFkZWxlIiwiY2xpZW50X2lkIjoiY2xpZW50Iiwic2NwIjoiRmlsZXMuUmVhZ\
    CIsImV4cCI6MTgwMDAwMDAwMH0.dI1gmniqd52_LSZEV3HoGFXUWINgD7T7Ii9LTlAw_odqIY6FovoG6gdsYd79vOqnY\
    xrBOKxxC_Dlsqa9lt11UWS1ann1vZUwK33uINrlz3nNXyQSnkOES1jqFfNqoUp2J6FJ1wHeAV0Cfaqc6HEBuNnOS9Cio\
    l8w5xXRKQZlKnOIoPaPv3lPw8TczvSbHf21pCMArqU_Don8TkvqmH_b3zet80PcdWJiavjiBaXEtjLTn-HHUtU6pbIAD\
    bJEGDcPL8vklWUL3JFNCxi_8TPJG52v-knOqmy_xJPeOm4_-2vZCTYI3g-fAi8l13iOGWbuzLUdChBKqxrmwcH6ikSFF\
    g";
const BENS: &str = "eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJhcGk6Ly9kcml2ZSIsInN1YiI6ImJlbiIsImNsaWVudF9pZCI6ImNsaWVudCIsInNjcCI6IkZpbGVzLlJlYWQiLCJleHAiOjE4MDAwMDAwMDB9";
const MODULUS: &str = "2g_PTWIIHC9paT-ZD4TU9WDIbj-W8Izc5XeNF-1Kaa0TLI0CKYuRaAS7eP9b5RjzDlOatdACrxvEZnEAjdeLsHGmYWqi\
    dsDqAgQkgKDgwTsk-h6gR4gKOJCsSMD27D1f1sWKDAtNqaMUvG4YZYVmvM1UM58ODuRZusvVOhLeFZfp5oc3vAsXjY6H\
    -yAdJFQf3QBL_W0ZURL_GWbyr3OrKl67FuMF6gw4R5hlPWJ38ATx7Aj3zdJKY8i4iOcmCqOiovm8Yph0cuxKXwy14zXe\
    YOb7XH0pvMcB_TY6v1H20vDK2kSqdJRaBWj35o_Kbk3pvhcdLpPrcybIzcEzelAh0w";
