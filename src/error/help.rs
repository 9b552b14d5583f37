/// Returns one sentence of advice for an AADSTS code that daemon authors meet often.
pub(super) fn help(code: u64) -> Option<&'static str> {
    Some(match code {
        7000215 => {
            "the client secret is wrong; use the secret's value, which the portal shows once at creation, and not its secret ID"
        }
        7000216 | 7000218 => {
            "the request carried no credential; give the client a secret or a certificate"
        }
        7000222 => {
            "the client secret has expired; create a new secret in the app registration and deploy its value"
        }
        700016 => {
            "the application is not in this tenant; check the client id and the tenant, or have the tenant's administrator consent to the application"
        }
        90002 | 900023 => {
            "there is no such tenant in this cloud; check the tenant's id or domain and the authority's cloud"
        }
        700027 => {
            "the certificate is not registered with the application, or a different key signed the assertion; upload the certificate to the app registration and compare thumbprints"
        }
        700024 => {
            "the assertion is outside its time range; check this machine's clock (NTP) and time zone"
        }
        7000214 | 7000277 => {
            "the certificate is revoked; register a new one with the application and deploy it"
        }
        1000502 => {
            "the certificate is outside its validity; register a new one with the application and deploy it"
        }
        7000274 => {
            "the assertion's signature does not match the registered certificate; sign with the certificate's own private key"
        }
        70021 | 700211 | 700212 | 700213 | 7002137 | 7002138 => {
            "no federated credential of the application matches the assertion; compare its issuer, subject and audience with the assertion's iss, sub and aud, character by character"
        }
        500011 => {
            "the resource is not known in this tenant; check the scope's application ID URI, and that the resource's service principal exists in the tenant"
        }
        1002012 | 70011 => {
            "the scope is not valid for an application; request '{application ID URI}/.default'"
        }
        65001 => {
            "the requested permissions have no consent; have an administrator grant them in the app registration, or send the user to authorization_request_url(..) to consent"
        }
        50013 | 500131 => {
            "the user assertion was not issued for this application; the calling client must request a scope of this API"
        }
        500133 => {
            "the user assertion has expired; return 401 to the caller, so that the caller sends a new token"
        }
        50076 | 50079 => {
            "the user must sign in again with more than one factor; add claims_challenge() to the sign-in request"
        }
        54005 | 70008 | 50173 | 700082 => {
            "the authorization code or refresh token is used up, expired or revoked; let the user sign in again"
        }
        50011 | 500112 => {
            "the redirect URI differs from the registered ones; register this one, or send a registered one, character for character"
        }
        53003 => {
            "a Conditional Access policy blocks this application; ask the tenant's administrator to look up the correlation id in the sign-in logs"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use crate::error::{ErrorResponse, ServerError};

    fn error_with(code: u64) -> ServerError {
        let mut response = ErrorResponse::new(StatusCode::UNAUTHORIZED, "x".to_owned());
        response.error_codes = vec![code];
        response.into()
    }

    #[test]
    fn every_common_code_has_help() {
        for (codes, text) in [
            (&[7000215][..], "its secret ID"),
            (&[7000216, 7000218], "no credential"),
            (&[7000222], "expired"),
            (&[700016], "not in this tenant"),
            (&[90002, 900023], "no such tenant"),
            (&[700027], "not registered"),
            (&[700024], "clock"),
            (&[7000214, 7000277], "revoked"),
            (&[1000502], "outside its validity"),
            (&[7000274], "own private key"),
            (&[70021, 700211, 700212, 700213], "federated credential"),
            (&[7002137, 7002138], "federated credential"),
            (&[500011], "resource is not known"),
            (&[1002012, 70011], "/.default"),
            (&[65001], "consent"),
            (&[50013, 500131], "calling client"),
            (&[500133], "return 401 to the caller"),
            (&[50076, 50079], "more than one factor"),
            (&[54005, 70008, 50173, 700082], "sign in again"),
            (&[50011, 500112], "redirect URI"),
            (&[53003], "Conditional Access"),
        ] {
            for code in codes {
                let error = error_with(*code);
                assert!(error.help().unwrap().contains(text), "{code}");
            }
        }
    }
}
