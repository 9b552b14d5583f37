//! The failures of a developer's command-line programs, in words of the crate.

use serde_json::Value;

use super::Tool;
use crate::error::Escaped;
use crate::response::json_object;

/// Returns the reason of a program that is not in the search path.
pub(super) fn not_installed(tool: Tool) -> String {
    let program = tool.program();
    format!(
        "the {} is not installed: no absolute folder of PATH has the program '{program}'; install the program ({}), then run '{}'",
        tool.name(),
        tool.installation(),
        tool.login()
    )
}

/// Returns the reason of a program that ended with a failure. Bounds and masks the text.
pub(super) fn explain(tool: Tool, code: Option<i32>, stderr: &str, tenant: Option<&str>) -> String {
    let text = text_of(stderr);
    let folded = text.to_ascii_lowercase();
    let says = |phrase: &str| folded.contains(phrase);
    let program = tool.program();
    let login = tool.login();
    let with_tenant = match tenant {
        Some(tenant) => format!("{login} {} {tenant}", tool.tenant_option()),
        None => login.to_owned(),
    };
    let advice = match tool {
        // A script whose interpreter is gone, and the words of `cmd.exe`.
        _ if code == Some(127) || says("is not recognized as an internal") => {
            format!(
                "install the {} again ({})",
                tool.name(),
                tool.installation()
            )
        }
        _ if says("unrecognized arguments") || says("unknown flag") => {
            format!("update the {} ({})", tool.name(), tool.installation())
        }
        // The tenant is not among the accounts' tenants, or does not exist.
        _ if says("aadsts90002") || says("aadsts50020") || says("aadsts700016") => format!(
            "check the tenant '{}', and run '{with_tenant}' with an account of the tenant",
            tenant.unwrap_or("of the account")
        ),
        _ if says("aadsts500011") => {
            "check the scope, and whether the API has a service principal in the tenant".to_owned()
        }
        _ if says("aadsts65001") || says("aadsts65002") => format!(
            "the API does not know the {} as a client; consent to it, or use another credential",
            tool.name()
        ),
        Tool::AzureCli if says("az account set") || says("subscription") => {
            format!("please run '{with_tenant}', and select a subscription with 'az account set'")
        }
        _ if says(login) || says("aadsts") || says("not logged in") || says("interaction") => {
            format!("please run '{with_tenant}'")
        }
        _ => format!("run the command in a terminal to see why, or run '{with_tenant}'"),
    };
    let ended = match code {
        Some(code) => format!("'{program}' ended with the status {code}"),
        None => format!("'{program}' was ended by a signal"),
    };
    match excerpt(&text) {
        text if text.is_empty() => format!("{ended}; {advice}"),
        text => format!("{ended}: {text} ({advice})"),
    }
}

/// Returns the text of an error stream. The Azure Developer CLI writes messages as JSON lines.
fn text_of(stderr: &str) -> String {
    let message = |line: &str| {
        let object = json_object(line.as_bytes())?;
        let message = object.get("data")?.get("message").and_then(Value::as_str);
        message.map(str::to_owned)
    };
    let lines = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let lines: Vec<String> = lines
        .map(|line| message(line).unwrap_or_else(|| line.to_owned()))
        .collect();
    lines.join(" ")
}

/// Returns the first characters on one line, without anything that may be a token.
fn excerpt(text: &str) -> String {
    let mut shown = String::new();
    for word in text.split_whitespace() {
        if !shown.is_empty() {
            shown.push(' ');
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.+/=~".contains(c);
        for run in word.split_inclusive(|c: char| !is_part(c)) {
            let token = run.trim_end_matches(|c: char| !is_part(c));
            match token.contains("eyJ") || token.len() >= LONGEST_WORD {
                true => {
                    shown.push_str("***");
                    shown.extend(run.chars().skip(token.chars().count()));
                }
                false => shown.push_str(run),
            }
        }
        // Enough for the cut below.
        if shown.len() > LONGEST_TEXT * 4 {
            break;
        }
    }
    let shown: String = shown.chars().take(LONGEST_TEXT).collect();
    Escaped(&shown).to_string()
}

/// Opaque tokens are longer, ids and addresses are shorter.
const LONGEST_WORD: usize = 64;
const LONGEST_TEXT: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_to_do() {
        use Tool::{AzureCli as Az, AzureDeveloperCli as Azd};
        for (tool, code, stderr, tenant, expected) in [
            (
                Az,
                Some(1),
                "ERROR: Please run 'az login' to setup account.\n",
                None,
                "'az' ended with the status 1: ERROR: Please run 'az login' to setup account. (please run 'az login')",
            ),
            (
                Az,
                Some(1),
                "ERROR: Please run 'az login' to setup account.",
                Some("contoso.com"),
                "(please run 'az login --tenant contoso.com')",
            ),
            (
                Az,
                Some(1),
                "No subscription found. Run 'az account set' to select a subscription.",
                None,
                "and select a subscription with 'az account set'",
            ),
            (
                Az,
                Some(1),
                "AADSTS90002: Tenant 'nowhere' not found.",
                Some("nowhere"),
                "check the tenant 'nowhere', and run 'az login --tenant nowhere'",
            ),
            (
                Az,
                Some(1),
                "AADSTS50020: User account does not exist in tenant",
                None,
                "check the tenant",
            ),
            (
                Az,
                Some(1),
                "AADSTS700016: Application was not found in the directory",
                None,
                "check the tenant",
            ),
            (
                Az,
                Some(1),
                "AADSTS500011: The resource principal named x was not found",
                None,
                "(check the scope",
            ),
            (
                Az,
                Some(1),
                "AADSTS65002: Consent between first party application",
                None,
                "does not know the Azure CLI as a client",
            ),
            (
                Az,
                Some(1),
                "AADSTS700082: The refresh token has expired",
                None,
                "(please run 'az login')",
            ),
            (
                Az,
                Some(2),
                "az: error: unrecognized arguments: --scope x",
                None,
                "(update the Azure CLI (https://aka.ms/azure-cli))",
            ),
            (
                Az,
                Some(127),
                "",
                None,
                "'az' ended with the status 127; install the Azure CLI again",
            ),
            (
                Az,
                Some(1),
                "'python' is not recognized as an internal or external command",
                None,
                "install the Azure CLI again",
            ),
            (
                Az,
                None,
                "",
                None,
                "'az' was ended by a signal; run the command in a terminal",
            ),
            (
                Azd,
                Some(1),
                "{\"type\":\"consoleMessage\",\"timestamp\":\"t\",\"data\":{\"message\":\"\\nERROR: not logged in, run `azd auth login` to login\\n\"}}\n",
                Some("t"),
                "'azd' ended with the status 1: ERROR: not logged in, run `azd auth login` to login (please run 'azd auth login --tenant-id t')",
            ),
            (
                Azd,
                Some(1),
                "unknown flag: --scope",
                None,
                "update the Azure Developer CLI",
            ),
        ] {
            let reason = explain(tool, code, stderr, tenant);
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn the_text_of_a_failure_shows_no_token_and_is_bounded() {
        let opaque = "0.".to_owned() + &"Ab1_".repeat(20);
        for (text, expected) in [
            (
                "got eyJhbGciOiJub25lIn0.e30.c2ln, sorry".to_owned(),
                "got ***, sorry",
            ),
            (
                format!("{{\"accessToken\":\"{opaque}\"}}"),
                "{\"accessToken\":\"***\"}",
            ),
            (format!("Bearer={opaque}"), "***"),
            (
                "trace id 11111111-2222-3333-4444-555555555555".to_owned(),
                "trace id 11111111-2222-3333-4444-555555555555",
            ),
            ("\u{1b}[31mred".to_owned(), "\\u{1b}[31mred"),
        ] {
            assert_eq!(excerpt(&text), expected);
        }
        assert_eq!(excerpt(&"word ".repeat(1000)).len(), LONGEST_TEXT);
    }
}
