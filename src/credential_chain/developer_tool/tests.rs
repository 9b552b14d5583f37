use super::*;

#[test]
fn the_output_of_each_tool_is_read_in_every_spelling() {
    const NOW: u64 = 1_797_742_700; // 2026-12-20T04:58:20Z
    let clock = TimeSource::default().now();
    let received = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    use Tool::{AzureCli as Az, AzureDeveloperCli as Azd};
    for (tool, output, expected) in [
        (
            Az,
            // Unix seconds are preferred to local time.
            r#"{"accessToken":"t","expiresOn":"2026-12-20 23:58:20.000000","expires_on":1797746300,"subscription":"s","tenant":"t","tokenType":"Bearer"}"#,
            Ok(3600),
        ),
        (
            Az,
            r#"{"accessToken":"t","expires_on":"1797746300"}"#,
            Ok(3600),
        ),
        (
            Az,
            r#"{"accessToken":"t","expiresOn":"2026-12-20 05:58:20.123456"}"#,
            Ok(3600),
        ),
        (
            Azd,
            r#"{"token":"t","expiresOn":"2026-12-20T05:58:20Z"}"#,
            Ok(3600),
        ),
        (
            Azd,
            r#"{"token":"t","expiresOn":"2026-12-20T06:58:20+01:00"}"#,
            Ok(3600),
        ),
        (Az, r#"secret-token"#, Err("is not a JSON object")),
        (
            Az,
            r#"{"token":"secret-token"}"#,
            Err("has no 'accessToken'"),
        ),
        (
            Azd,
            r#"{"accessToken":"secret-token"}"#,
            Err("has no 'token'"),
        ),
        (
            Az,
            r#"{"accessToken":" ","expires_on":1797746300}"#,
            Err("has no 'accessToken'"),
        ),
        (
            Az,
            "{\"accessToken\":\"secret-token\\n\",\"expires_on\":1797746300}",
            Err("cannot be sent in a header"),
        ),
        (Az, r#"{"accessToken":"secret-token"}"#, Err("no expiry")),
        (
            Az,
            r#"{"accessToken":"secret-token","expiresOn":"soon"}"#,
            Err("no expiry"),
        ),
        (
            Az,
            r#"{"accessToken":"secret-token","expires_on":1797742700}"#,
            Err("a token that expired at 2026-12-20T04:58:20Z; run 'az login'"),
        ),
    ] {
        match (parse(tool, output.as_bytes(), clock, received), expected) {
            (Ok(token), Ok(seconds)) => {
                assert_eq!(token.expires_in, Duration::from_secs(seconds), "{output}");
                assert_eq!(token.secret.expose(), "t");
            }
            (Err(reason), Err(text)) => {
                assert!(reason.contains(text), "{reason}");
                assert!(!reason.contains("secret-token"), "{reason}");
            }
            other => panic!("{output}: {other:?}"),
        }
    }
}

#[test]
fn a_value_is_checked_before_it_gets_on_a_command_line() {
    for (value, expected) in [
        ("https://vault.azure.net/.default", None),
        ("api://11111111-2222-3333-4444-555555555555/.default", None),
        ("", Some("it is empty")),
        ("--debug", Some("it begins with '-'")),
        ("a;reboot", Some("the character ';'")),
        ("a b", Some("the character ' '")),
        ("a&calc", Some("the character '&'")),
        ("%PATH%", Some("the character '%'")),
        ("a\"b", Some("the character '\"'")),
        ("$(id)", Some("the character '$'")),
        ("a\n", Some("the character '\\n'")),
        ("é", Some("the character 'é'")),
    ] {
        match (check_argument("scope", value, SCOPE_CHARACTERS), expected) {
            (Ok(()), None) => {}
            (Err(error @ Error::Config(_)), Some(text)) => {
                let shown = error.to_string();
                assert!(shown.contains(text), "{shown}");
                assert!(shown.contains(&format!("the scope {value:?}")), "{shown}");
            }
            other => panic!("{value:?}: {other:?}"),
        }
    }
}

#[test]
fn settings_are_checked_before_the_first_request() {
    for (tool, expected) in [
        (AzureCli::new().tenant("contoso.com"), None),
        (AzureCli::new().tenant("a/b"), Some("the tenant \"a/b\"")),
        (AzureCli::new().tenant("-x"), Some("it begins with '-'")),
        (
            AzureCli::new().time_limit(Duration::ZERO),
            Some("time_limit of the Azure CLI must be"),
        ),
    ] {
        let environment = HostEnvironment::from_fn(|_| None);
        match (tool.into_link(environment, TimeSource::default()), expected) {
            (Ok(_), None) => {}
            (Err(error), Some(text)) => assert!(error.to_string().contains(text), "{error}"),
            (result, _) => panic!("{expected:?}: {:?}", result.err()),
        }
    }
}

/// Real programs in a temporary folder, on a search path that is a value.
#[cfg(unix)]
mod scripts {
    use std::fs;

    use tokio::time::Instant;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let name = format!("confidential-client-tool-{}", uuid::Uuid::new_v4());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        /// Writes a shell script, in which `$here` is the folder.
        fn script(&self, name: &str, text: &str) {
            let path = self.0.join(name);
            let here = self.0.display();
            // Another process writes the file, because no file that this process has open for
            // writing can be run, and a fork of another test may keep the file open.
            let status = std::process::Command::new("/bin/sh")
                .args(["-c", r#"printf '%s\n' "$1" > "$2" && chmod 755 "$2""#, "sh"])
                .arg(format!("#!/bin/sh\nhere='{here}'\n{text}"))
                .arg(path)
                .status();
            assert!(status.unwrap().success());
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.0.join(name)).unwrap_or_default()
        }

        fn environment(&self) -> HostEnvironment {
            let path = format!("relative:{}:/usr/bin:/bin", self.0.display());
            HostEnvironment::from_variables([("PATH", path)])
        }

        fn az(&self, tool: AzureCli) -> DeveloperToolLink {
            tool.into_link(self.environment(), TimeSource::default())
                .unwrap()
        }

        fn azd(&self, tool: AzureDeveloperCli) -> DeveloperToolLink {
            tool.into_link(self.environment(), TimeSource::default())
                .unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn request(scopes: &str) -> LinkRequest<'_> {
        LinkRequest {
            scopes,
            tenant: None,
            claims: None,
            rejected_token: None,
            correlation_id: "our-id",
            deadline: Instant::now() + Duration::from_secs(60),
            spare: Duration::ZERO,
            on_send: &|| (),
        }
    }

    async fn unavailable(link: &DeveloperToolLink) -> String {
        match link.fetch(&request(SCOPE)).await {
            Err(LinkFailure::Unavailable(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    const SCOPE: &str = "https://vault.azure.net/.default";
    /// Prints the arguments, the folder and the environment into files.
    const RECORD: &str = r#"printf '%s\n' "$@" > "$here/arguments"; pwd > "$here/folder"; cat > "$here/input"; echo "$TZ $NO_COLOR $AZURE_CORE_NO_COLOR" > "$here/variables""#;

    #[tokio::test]
    async fn az_gets_scope_and_tenant_and_its_token_is_read() {
        let folder = Folder::new();
        let print = r#"echo '{"accessToken":"from-az","expires_on":32503680000}'"#;
        folder.script("az", &format!("{RECORD}\n{print}"));
        let link = folder.az(AzureCli::new().tenant("contoso.com"));
        let token = link.fetch(&request(SCOPE)).await.unwrap();
        assert_eq!(token.secret(), "from-az");
        assert_eq!(
            folder.read("arguments"),
            format!(
                "account\nget-access-token\n--output\njson\n--scope\n{SCOPE}\n--tenant\ncontoso.com\n"
            )
        );
        assert_eq!(folder.read("folder"), "/\n");
        assert_eq!(folder.read("input"), "");
        assert_eq!(folder.read("variables"), "UTC0 true true\n");
        // The tenant of the request comes before the tenant of the settings.
        let other = LinkRequest {
            tenant: Some("fabrikam.com"),
            ..request(SCOPE)
        };
        link.fetch(&other).await.unwrap();
        assert!(
            folder
                .read("arguments")
                .ends_with("--tenant\nfabrikam.com\n")
        );
    }

    #[tokio::test]
    async fn azd_gets_scopes_and_tenant_and_its_token_is_read() {
        let folder = Folder::new();
        let print = r#"echo '{"token":"from-azd","expiresOn":"2999-12-20T05:58:20Z"}'"#;
        folder.script("azd", &format!("{RECORD}\n{print}"));
        let link = folder.azd(AzureDeveloperCli::new().tenant("t"));
        let token = link.fetch(&request("api://a/b api://a/c")).await.unwrap();
        assert_eq!(token.secret(), "from-azd");
        assert_eq!(
            folder.read("arguments"),
            "auth\ntoken\n--output\njson\n--scope\napi://a/b\n--scope\napi://a/c\n--no-prompt\n--tenant-id\nt\n"
        );
    }

    #[tokio::test]
    async fn a_tool_that_cannot_be_used_is_unavailable_with_its_reason() {
        let folder = Folder::new();
        let az = folder.az(AzureCli::new());
        let reason = unavailable(&az).await;
        assert!(
            reason.contains("the Azure CLI is not installed"),
            "{reason}"
        );
        assert!(reason.contains("https://aka.ms/azure-cli"), "{reason}");
        fs::write(folder.0.join("az"), "no program").unwrap();
        let reason = unavailable(&az).await;
        assert!(reason.contains("not installed"), "{reason}");

        folder.script(
            "az",
            r#"echo "ERROR: Please run 'az login' to setup account." >&2; exit 1"#,
        );
        let reason = unavailable(&az).await;
        assert!(reason.ends_with("(please run 'az login')"), "{reason}");

        let jwt = "eyJhbGciOiJub25lIn0.e30.c2ln";
        folder.script("az", &format!("echo {jwt}; echo 'bad {jwt}' >&2; exit 3"));
        let reason = unavailable(&az).await;
        assert!(
            reason.contains("'az' ended with the status 3: bad ***"),
            "{reason}"
        );
        assert!(!reason.contains("eyJ"), "{reason}");

        // The interpreter is gone.
        folder.script("az", "");
        fs::write(folder.0.join("az"), "#!/nonexistent/python\n").unwrap();
        let reason = unavailable(&az).await;
        assert!(reason.contains("'az' cannot be started"), "{reason}");

        folder.script(
            "azd",
            "echo 'ERROR: not logged in, run `azd auth login` to login' >&2; exit 1",
        );
        let reason = unavailable(&folder.azd(AzureDeveloperCli::new())).await;
        assert!(
            reason.ends_with("(please run 'azd auth login')"),
            "{reason}"
        );
    }

    #[tokio::test]
    async fn a_program_in_a_relative_folder_is_not_run() {
        let folder = Folder::new();
        folder.script("az", "echo '{}'");
        let relative = pathdiff(&folder.0);
        let search_path = OsString::from(format!(":.:{}", relative.display()));
        assert!(relative.join("az").is_file());
        assert_eq!(find_program(&search_path, &["az"]), None);
    }

    /// Returns a path from the working directory to an absolute path.
    fn pathdiff(path: &std::path::Path) -> PathBuf {
        let working = std::env::current_dir().unwrap();
        let up = working.components().skip(1).map(|_| "..");
        up.collect::<PathBuf>()
            .join(path.strip_prefix("/").unwrap())
    }

    #[tokio::test]
    async fn much_output_does_not_block_a_tool() {
        let folder = Folder::new();
        let flood = "head -c 2000000 /dev/zero | tr '\\0' x";
        folder.script("az", &format!("{flood} >&2; {flood}; exit 1"));
        let reason = unavailable(&folder.az(AzureCli::new())).await;
        assert!(reason.contains("ended with the status 1"), "{reason}");
        assert!(reason.len() < 600, "{}", reason.len());
    }

    #[tokio::test]
    async fn a_tool_that_hangs_is_killed_at_the_time_limit() {
        let folder = Folder::new();
        for script in ["exec sleep 600", "sleep 600", "exec >&- 2>&-; sleep 600"] {
            folder.script("az", script);
            let az = folder.az(AzureCli::new().time_limit(Duration::from_millis(300)));
            let reason = unavailable(&az).await;
            assert!(
                reason.contains("'az' did not end within 0.3 s"),
                "{script}: {reason}"
            );
        }
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_request_that_is_dropped_kills_the_tool_and_what_it_started() {
        let folder = Folder::new();
        folder.script(
            "az",
            r#"sleep 600 & echo "$$ $!" > "$here/new"; mv "$here/new" "$here/pids"; wait"#,
        );
        let az = folder.az(AzureCli::new().time_limit(Duration::from_secs(600)));
        let request = request(SCOPE);
        let fetching = az.fetch(&request);
        let started = async {
            while folder.read("pids").is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            result = fetching => panic!("{result:?}"),
            () = started => {}
        }
        let pids = folder.read("pids");
        let ended = async {
            for pid in pids.split_whitespace() {
                while is_running(pid) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, ended).await.expect("killed");
    }

    /// Returns whether a process runs. A process without a parent may stay as a zombie.
    #[cfg(target_os = "linux")]
    fn is_running(pid: &str) -> bool {
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = status.rsplit(')').next().unwrap_or_default();
        !state.is_empty() && !state.trim_start().starts_with('Z')
    }

    #[tokio::test]
    async fn wrong_values_and_claims_end_the_chain_before_the_tool_runs() {
        let folder = Folder::new();
        folder.script("az", "touch \"$here/ran\"");
        let az = folder.az(AzureCli::new().tenant("t"));
        let claims = LinkRequest {
            claims: Some("{}"),
            ..request(SCOPE)
        };
        let tenant = LinkRequest {
            tenant: Some("a b"),
            ..request(SCOPE)
        };
        for (request, expected) in [
            (request(""), "needs a scope"),
            (request("api://a;b"), "the scope \"api://a;b\""),
            (tenant, "the tenant \"a b\""),
            (
                claims,
                "run 'az login --tenant t --scope https://vault.azure.net/.default --claims-challenge e30='",
            ),
        ] {
            match az.fetch(&request).await {
                Err(LinkFailure::Failed(error)) => {
                    assert!(error.to_string().contains(expected), "{error}");
                    assert_eq!(error.needs_user_interaction(), request.claims.is_some());
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(!folder.0.join("ran").exists());
    }
}
