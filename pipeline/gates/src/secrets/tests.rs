//! What is a secret, and what is none.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

/// Letters and digits as keys have them, from a seed: no test holds a secret of anybody's form in
/// one piece.
fn random(seed: u32, alphabet: &[u8], count: usize) -> String {
    let mut state = u64::from(seed) * 2_654_435_761 + 88_172_645_463_325_252;
    let letters = (0..count).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(alphabet[usize::try_from(state % alphabet.len() as u64).unwrap()])
    });
    letters.collect()
}

const ALL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn pem(label: &str, body: &str) -> String {
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

fn base64url_of(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let mut word = 0_u32;
        (0..3).for_each(|at| word = word << 8 | u32::from(*chunk.get(at).unwrap_or(&0)));
        (0..=chunk.len()).for_each(|at| {
            out.push(char::from(DIGITS[usize::try_from(word >> (18 - 6 * at) & 63).unwrap()]));
        });
    }
    out
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn what_is_a_secret_and_what_is_none() {
    let key = random(1, ALL, 64);
    let (t36, t59, t22) = (random(2, ALL, 36), random(3, ALL, 59), random(4, ALL, 22));
    let (t40, t24) = (random(5, ALL, 40), random(6, ALL, 24));
    let jwt = format!(
        "{}.{}.{}",
        base64url_of(r#"{"alg":"HS256","typ":"JWT"}"#),
        base64url_of(r#"{"sub":"car-7","admin":true}"#),
        random(7, ALL, 43)
    );
    let cases: Vec<(&str, String, &str)> = vec![
        // Keys.
        ("k.pem", pem("PRIVATE KEY", &key), "private-key"),
        ("k.pem", pem("RSA PRIVATE KEY", &key), "private-key"),
        ("k.pem", pem("EC PRIVATE KEY", &key), "private-key"),
        ("id", pem("OPENSSH PRIVATE KEY", &key), "private-key"),
        ("k.pem", pem("ENCRYPTED PRIVATE KEY", &key), "private-key"),
        ("k.asc", pem("PGP PRIVATE KEY BLOCK", &format!("\n{key}")), "private-key"),
        (
            "k.pem",
            pem(
                "RSA PRIVATE KEY",
                &format!("Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0A\n\n{key}"),
            ),
            "private-key",
        ),
        ("gcp.json", pem("PRIVATE KEY", &key).replace('\n', "\\n"), "private-key"),
        ("cosign.key", pem("ENCRYPTED SIGSTORE PRIVATE KEY", &key), "cosign-private-key"),
        ("cosign.key", pem("ENCRYPTED COSIGN PRIVATE KEY", &key), "cosign-private-key"),
        ("k.pub", pem("PUBLIC KEY", &key), ""),
        ("c.pem", pem("CERTIFICATE", &key), ""),
        ("parser.rs", r#"const HEAD: &str = "-----BEGIN PRIVATE KEY-----";"#.into(), ""),
        ("doc.md", pem("PRIVATE KEY", "..."), ""),
        ("doc.md", format!("-----BEGIN PRIVATE KEY-----\n{}", pem("CERTIFICATE", &key)), ""),
        // Tokens.
        ("a.py", format!("x = 'ghp_{t36}'"), "github-token"),
        ("a.py", format!("x = 'ghs_{t36}'"), "github-token"),
        ("a.py", format!("github_pat_{t22}_{t59}"), "github-fine-grained-token"),
        ("a.py", format!("ghp_{}", &t36[..30]), ""),
        ("a.py", format!("xghp_{t36}"), ""),
        ("a.py", format!("ghp_{}", "x".repeat(36)), ""),
        (".gitlab-ci.yml", format!("glpat-{}1", &t24[..20]), "gitlab-token"),
        ("a.css", "glpat-is-a-long-name-of-a-class".into(), ""),
        ("a.sh", format!("xoxb-{}-{t24}", "1".repeat(6)), "slack-token"),
        ("a.sh", "xoxb-is-the-beginning-of-tokens".into(), ""),
        (
            "a.sh",
            format!(
                "https://hooks.slack.com/services/T{}/B{}/{t24}",
                &random(8, UPPER, 8),
                &random(9, UPPER, 8)
            ),
            "slack-webhook",
        ),
        ("a.md", "https://hooks.slack.com/services/T…/B…/…".into(), ""),
        ("a.py", format!("AKIA{}", random(10, UPPER, 16)), "aws-access-key"),
        ("a.md", concat!("AKIA", "IOSFODNN7EXAMPLE").into(), ""),
        ("a.py", format!("AKIA{}", random(10, UPPER, 20)), ""),
        ("credentials", format!("aws_secret_access_key = {t40}"), "aws-secret-key"),
        ("credentials", format!("aws_secret_access_key = {}", "ab".repeat(20)), ""),
        ("a.js", format!("AIza{}", random(11, ALL, 35)), "google-api-key"),
        ("a.js", format!("GOCSPX-{}", random(12, ALL, 28)), "google-oauth-secret"),
        ("a.js", format!("ya29.{}", random(13, ALL, 60)), "google-oauth-token"),
        ("a.rb", format!("sk_live_{t24}"), "stripe-key"),
        ("a.rb", format!("sk_test_{t24}"), ""),
        (".npmrc", format!("npm_{t36}"), "npm-token"),
        ("a.js", "npm_config_registry_is_a_long_variable_name_1".into(), ""),
        (".npmrc", format!("//r.example/:_authToken={t24}"), "npm-login"),
        (".npmrc", "//r.example/:_authToken=${NPM_TOKEN}".into(), ""),
        (".pypirc", format!("pypi-AgE{}", random(14, ALL, 80)), "python-index-token"),
        ("a.sh", format!("dckr_pat_{}", random(15, ALL, 27)), "docker-hub-token"),
        ("a.py", format!("hf_{}", random(16, LETTERS, 34)), "hugging-face-token"),
        ("a.py", format!("hf_{}", "transformer".repeat(4).get(..34).unwrap()), ""),
        ("a.py", format!("sk-proj-{t59}"), "model-service-key"),
        ("a.cs", format!("AccountKey={}==", random(17, ALL, 86)), "azure-storage-key"),
        ("k.txt", format!("AGE-SECRET-KEY-1{}", random(18, UPPER, 58)), "age-key"),
        ("a.http", format!("Authorization: Bearer {jwt}"), "jwt"),
        ("a.http", format!("eyJub3QiOiJvbmUifQ.eyJub3QiOiJvbmUifQ.{t24}"), ""),
        ("a.sh", "git clone https://bot:hunter2hunter2@git.internal/x".into(), "url-password"),
        ("a.sh", "git clone https://git.example:8443/x".into(), ""),
        ("a.sh", "https://${USER}:${PASSWORD}@git.internal/x".into(), ""),
        ("a.md", "https://user:your_password@git.internal/x".into(), ""),
        ("a.md", "https://user:Password@git.internal/x".into(), ""),
        ("a.md", "https://bot:hunter2hunter2@git.example/x".into(), ""),
        ("a.py", "url = 'postgres://car:s3cr3tpw@db.internal:5432/x'".into(), "url-password"),
        // Assignments.
        ("a.py", format!("api_key = \"{t24}\""), "assignment"),
        ("a.js", format!("const clientSecret = '{t24}';"), "assignment"),
        ("a.json", format!("{{\"token\": \"{t24}\"}}"), "assignment"),
        ("a.yaml", format!("token: {t24}"), "assignment"),
        ("a.py", "password = 'tr0ub4dor&3x'".into(), "assignment"),
        ("a.py", format!("token = {t24}"), ""),
        ("a.py", "token = get_token_of_request(request1)".into(), ""),
        ("a.py", "password = 'changeme1234'".into(), ""),
        ("a.py", "password = os.environ['PASSWORD']".into(), ""),
        ("a.py", "if token == \"4f9a8b7c6d5e4f3a2b1c\": pass".into(), ""),
        ("a.yaml", "token: ${{ secrets.GITHUB_TOKEN_2 }}".into(), ""),
        ("a.yaml", "secretName: my-application-secret".into(), ""),
        ("a.yaml", "passwordFile: /run/secrets/password-1".into(), ""),
        ("a.py", "token_url = 'https://login.example/oauth2/v2/token1'".into(), ""),
        // Files of environment variables.
        (".env", "DB_PASSWORD=correcthorse".into(), "env-file"),
        ("deploy/.env.production", "export API_KEY='abcdefgh-ijkl'".into(), "env-file"),
        (".env.example", "DB_PASSWORD=correcthorse".into(), ""),
        (".env", "DB_PASSWORD=\nDB_HOST=db.example.internal\nKEY_FILE=/etc/key.pem".into(), ""),
        (".env", format!("GITHUB_TOKEN=ghp_{t36}"), "github-token"),
    ];
    assert!(cases.iter().filter(|(_, _, rule)| !rule.is_empty()).count() >= 30);
    assert!(cases.iter().filter(|(_, _, rule)| rule.is_empty()).count() >= 25);
    let scanner = Scanner::new();
    let mut seen = std::collections::BTreeSet::new();
    for (path, text, rule) in &cases {
        let text = format!("first line\n{text}\nlast line\n");
        let found = scanner.scan(path, text.as_bytes());
        let rules: Vec<&str> = found.iter().map(|secret| secret.rule).collect();
        let want: &[&str] = if rule.is_empty() { &[] } else { &[rule] };
        assert_eq!(rules, want, "{path}: {text}");
        for secret in &found {
            seen.insert(secret.rule);
            assert!(secret.line >= 2 && secret.shown.chars().count() <= 5);
            assert_eq!(secret.fingerprint.len(), 16);
            // It stays when lines move, and is another in another file.
            let moved = scanner.scan(path, format!("\n\n{text}").as_bytes());
            assert_eq!(moved[0].fingerprint, secret.fingerprint);
            let path = format!("other/{path}");
            let other = scanner.scan(&path, text.as_bytes());
            assert_ne!(other[0].fingerprint, secret.fingerprint);
        }
    }
    let rules = RULES.iter().map(|rule| rule.id).chain([COSIGN.id, ENV.id]);
    let missing: Vec<&str> = rules.filter(|id| !seen.contains(id)).collect();
    assert_eq!(missing, [""; 0], "each rule has a case");
}

#[test]
fn a_file_of_secrets_has_an_end() {
    let token = format!("ghp_{}\n", random(1, ALL, 36));
    let found = Scanner::new().scan("a", token.repeat(10_000).as_bytes());
    assert_eq!(found.len(), MAX_PER_FILE);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn no_bytes_make_it_panic(
        bytes: Vec<u8>,
        anchor in prop::sample::select(RULES.iter().flat_map(|rule| rule.anchors).collect::<Vec<_>>()),
        after in "[A-Za-z0-9_./:=\"' \\\\\n\u{fc}-]{0,90}",
        path in prop::sample::select(vec![".env", "a.py", "a.yaml", "x"])
    ) {
        static SCANNER: LazyLock<Scanner> = LazyLock::new(Scanner::new);
        let text = [&bytes[..], anchor.as_bytes(), after.as_bytes(), &bytes[..]].concat();
        for secret in SCANNER.scan(path, &text) {
            prop_assert!(secret.line >= 1);
        }
    }
}
