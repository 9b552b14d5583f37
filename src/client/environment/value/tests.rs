use super::*;

const GUID: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

#[test]
fn a_guid_is_mended_and_nothing_else_is_guessed() {
    for text in [
        GUID.to_owned(),
        format!("\"{GUID}\""),
        format!("'{GUID}'"),
        format!("“{GUID}”"),
        format!("{{{GUID}}}"),
        format!("\"{{{GUID}}}\""),
        format!("({GUID})"),
        format!("<{GUID}>"),
        format!("\u{feff}{GUID}\r\n"),
        format!(" {GUID}\t"),
        format!("\u{a0}{GUID}\u{200b}"),
        format!("\\\"{GUID}\\\""),
        format!("{GUID}\\n"),
        format!("\"{GUID}\"\\r\\n"),
    ] {
        assert_eq!(tenant(&text).unwrap(), GUID, "{text}");
        assert_eq!(client_id(&text).unwrap(), GUID, "{text}");
    }
    let dashes = GUID.replace('-', "\u{2011}");
    assert_eq!(tenant(&dashes).unwrap(), GUID);
    assert_eq!(client_id(&dashes.replace('\u{2011}', "–")).unwrap(), GUID);
    let upper = GUID.to_ascii_uppercase();
    assert_eq!(tenant(&upper).unwrap(), upper);
    for (text, domain) in [
        ("contoso.com", "contoso.com"),
        ("\"contoso.onmicrosoft.com\"\n", "contoso.onmicrosoft.com"),
        ("contoso", "contoso"),
    ] {
        assert_eq!(tenant(text).unwrap(), domain);
    }
    for text in [
        "<your-tenant-id>",
        "${AZURE_TENANT_ID}",
        "\"${AZURE_TENANT_ID}\"",
        "%AZURE_TENANT_ID%",
        "$(tenantId)",
        "00000000-0000-0000-0000-000000000000",
        "{00000000-0000-0000-0000-000000000000}",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
        "changeme",
        "your-tenant-id",
    ] {
        for (read, name) in [
            (tenant as fn(&str) -> Result<String, String>, TENANT),
            (client_id, CLIENT_ID),
        ] {
            let problem = read(text).unwrap_err();
            assert!(
                problem.contains(name) && problem.contains("a placeholder"),
                "{text}: {problem}"
            );
        }
    }
    let slash = format!("{GUID}/v2.0");
    for (text, reason) in [
        ("https://login.microsoftonline.com/contoso.com", "is a URL"),
        (slash.as_str(), "has a slash"),
        ("{contoso.com}", "a placeholder"),
        ("\"contoso\"", "quotation marks or white space"),
        ("contoso.com,fabrikam.com", "neither a letter"),
        ("\"contoso.com", "neither a letter"),
    ] {
        let problem = tenant(text).unwrap_err();
        assert!(
            problem.contains(TENANT) && problem.contains(reason),
            "{text}: {problem}"
        );
    }
    for (text, reason) in [
        ("daemon ", "without the white space"),
        ("\"daemon\"", "without the quotation marks"),
        ("{daemon}", "a placeholder"),
        ("\u{feff}daemon", "cannot be seen"),
        ("“daemon", "without the quotation marks"),
        ("dae–mon", "not ASCII"),
        ("daemon\\n", "a backslash"),
        (
            "https://portal.azure.com/#view/appId/1",
            "the URL of a page",
        ),
        (
            "https://login.microsoftonline.com/contoso.com",
            "the URL of an authority",
        ),
    ] {
        let problem = client_id(text).unwrap_err();
        assert!(
            problem.contains(CLIENT_ID) && problem.contains(reason),
            "{text}: {problem}"
        );
    }
    assert_eq!(client_id("api://daemon").unwrap(), "api://daemon");
}

#[test]
fn a_host_is_https_and_has_no_path() {
    for (text, host) in [
        (
            "https://login.microsoftonline.us/",
            "https://login.microsoftonline.us/",
        ),
        (
            "\"https://login.microsoftonline.us\"\n",
            "https://login.microsoftonline.us",
        ),
        ("login.microsoftonline.us", "login.microsoftonline.us"),
    ] {
        assert_eq!(authority_host(text).unwrap(), host);
    }
    for (text, reason) in [
        ("http://login.microsoftonline.us", "must be https"),
        ("HTTP://127.0.0.1:1", "must be https"),
        ("ftp://login.microsoftonline.us", "must be https"),
        ("https://login.microsoftonline.us/contoso.com", "has a path"),
        ("https://login.microsoftonline.us?a", "has a path"),
        ("login.microsoftonline.us/contoso.com/v2.0", "has a path"),
        ("https:/login.microsoftonline.us", "not the URL"),
        ("https://u:p@login.microsoftonline.us", "not the URL"),
        ("${AZURE_AUTHORITY_HOST}", "a placeholder"),
        ("<host>", "a placeholder"),
        ("AzurePublicCloud", "the name of a cloud"),
        ("AzureUSGovernment", "the name of a cloud"),
        ("https://", "not the URL"),
    ] {
        let problem = authority_host(text).unwrap_err();
        assert!(
            problem.contains(AUTHORITY_HOST) && problem.contains(reason),
            "{text}: {problem}"
        );
    }
}

/// Quotation marks may belong to it, and so may everything else.
#[test]
fn a_secret_is_never_changed() {
    for text in [
        "s3cret-Value~1",
        "\"quoted\"",
        "{braced}",
        "$ecret",
        "a%b%c",
        "<a",
    ] {
        assert_eq!(secret(text).unwrap(), text);
    }
    for (text, reason) in [
        ("hunter2\n", "white space"),
        ("\u{feff}hunter2", "cannot be seen"),
        ("<your-client-secret>", "a placeholder"),
        ("${AZURE_CLIENT_SECRET}", "a placeholder"),
        ("\"%AZURE_CLIENT_SECRET%\"", "a placeholder"),
        (
            "@Microsoft.KeyVault(SecretUri=https://hunter2)",
            "a placeholder",
        ),
        ("changeme", "a placeholder"),
        (
            "-----BEGIN PRIVATE KEY-----\\nhunter2\\n-----END PRIVATE KEY-----",
            "the client secret is PEM",
        ),
    ] {
        let problem = secret(text).unwrap_err();
        assert!(
            problem.contains(SECRET) && problem.contains(reason),
            "{text}: {problem}"
        );
        assert!(!problem.contains("hunter2"), "{problem}");
    }
    assert!(odd_password("\"changeit\"").unwrap().contains("quotation"));
    assert!(odd_password("changeit ").unwrap().contains("white space"));
    assert!(odd_password("${PASSWORD}").unwrap().contains("placeholder"));
    assert_eq!(odd_password("correct horse"), None);
}

#[test]
fn a_path_is_no_content_and_no_template() {
    const NAME: &str = "AZURE_FEDERATED_TOKEN_FILE";
    let read = |text: &str| path(NAME, "the token", OsString::from(text));
    for (text, expected) in [
        ("/nowhere/token", "/nowhere/token"),
        ("\"/nowhere/to ken\"\n", "/nowhere/to ken"),
        ("'C:\\secrets\\token'", "C:\\secrets\\token"),
        ("token", "token"),
    ] {
        assert_eq!(read(text).unwrap(), Path::new(expected));
    }
    let token = format!("ey{}.hunter2.c", "J".repeat(300));
    let pfx = format!("MII{}", "hunter2".repeat(10));
    for (text, reason) in [
        (token.as_str(), "the token itself"),
        ("\"eyJhbGc.hunter2.c\"", "the token itself"),
        ("Bearer hunter2", "the token itself"),
        ("-----BEGIN CERTIFICATE-----\nhunter2", "the token itself"),
        (&pfx, "the token itself"),
        (
            "{\"value\":\"eyJhbGciOiJSUzI1NiJ9.hunter2hunter2\"}",
            "the token itself",
        ),
        ("<path-to-token>", "a placeholder"),
        ("${TOKEN_FILE}", "a placeholder"),
        ("~/token", "expands '~'"),
        ("$HOME/token", "expands '~'"),
        ("/a/${NAME}/token", "expands '~'"),
        ("%USERPROFILE%\\token", "expands '~'"),
        ("file:///token", "is a URL"),
        ("/a\n/b", "several lines"),
    ] {
        let problem = read(text).unwrap_err();
        assert!(
            problem.contains(NAME) && problem.contains(reason),
            "{text}: {problem}"
        );
        assert!(!problem.contains("hunter2"), "{problem}");
    }
    assert!(is_content(&"A".repeat(300)));
}

#[test]
fn a_chain_is_sent_for_1_and_true_alone() {
    for (text, expected) in [
        ("1", true),
        ("true", true),
        ("TRUE", true),
        ("\"true\"\n", true),
        ("0", false),
        ("False", false),
    ] {
        assert_eq!(send_chain(text), Ok(expected));
    }
    for text in ["yes", "on", "2", "${SEND}", "tru e"] {
        assert!(send_chain(text).unwrap_err().contains(SEND_CHAIN));
    }
}
